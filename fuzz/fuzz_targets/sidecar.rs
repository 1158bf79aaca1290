#![no_main]

#[path = "../targets.rs"]
#[allow(dead_code, reason = "one of them is fuzzed")]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::sidecar(data));
