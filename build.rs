//! Links the addon for Node when the `binding` feature asks for it.

fn main() {
    // Without a word cargo would run this, and build everything again, whenever any file here changes, JavaScript's too.
    println!("cargo:rerun-if-changed=build.rs");
    #[cfg(feature = "binding")]
    {
        napi_build::setup();
        // A worker that alone had loaded the addon unloads it when it ends, with our threads still in its code.
        if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
            println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
        }
    }
}
