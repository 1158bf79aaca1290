//! The Node-API surface: plain values in, promises of [`Reply`] out. JavaScript validates and queues; this converts.
//!
//! Nothing here blocks Node: a lock is tried without waiting, and files are read and written on threads of ours.

#![allow(unreachable_pub, reason = "napi exports to JavaScript, not to Rust")]
#![cfg_attr(test, allow(dead_code, reason = "napi exports nothing from a test's executable"))]

mod claim;
mod coordinator;
mod dialogue;
mod ending;
mod host_store;
mod inspect;
mod lock;
mod login;
mod path_checks;
mod paths;
mod policy;
mod questions;
mod refresh;
mod request;
mod run;
mod task;
mod threads;
#[cfg(feature = "token-endpoint")]
mod token_endpoint;

use crate::error::Error;
use napi_derive::napi;

/// Keeps this addon, the file at `path`, in its process: if only a worker thread had loaded it, the thread's end would unload it
/// while our threads run its code. `build.rs` does that on Linux; on macOS a library with thread-local values stays anyway.
#[cfg(windows)]
#[napi]
pub fn stay_loaded(path: String) {
    // It is loaded once more, and never unloaded. In vain only where it can't be: then it is as it was.
    let _ = winsafe::HINSTANCE::LoadLibrary(&path).map(std::mem::forget);
}

/// Warnings about file systems since the last call, for people: a JSON array.
#[napi]
#[must_use]
pub fn take_warnings() -> Option<String> {
    let warnings: Vec<_> = crate::lock::file_system::take_warnings()
        .into_iter()
        .map(|warning| lock::shown(&crate::lock::Notice::Warned(warning)))
        .collect();
    (!warnings.is_empty()).then(|| serde_json::Value::from(warnings).to_string())
}

/// The outcome of a native call: an error, or something, or nothing.
#[napi(object, object_from_js = false)]
#[derive(Default)]
pub struct Reply {
    /// What it came to, of a refresh.
    pub kind: Option<ending::Kind>,
    /// JSON text.
    pub value: Option<String>,
    /// A credential's JSON text, with every number as it is spelled.
    pub credential: Option<String>,
    /// What failed.
    pub error: Option<Failure>,
}

/// An error of ours, for JavaScript to raise.
#[napi(object, object_from_js = false)]
pub struct Failure {
    /// See `ErrorCode` in `index.d.ts`.
    pub code: String,
    /// Holds no secret.
    pub message: String,
    /// The file or directory concerned.
    pub path: Option<String>,
    /// The lock's holder: process id.
    pub holder_pid: Option<u32>,
    /// The lock's holder: for how long, in milliseconds.
    pub holder_held_ms: Option<f64>,
    /// The lock's holder: how far its refresh has come, as the journal says.
    pub holder_state: Option<String>,
    /// How long everyone waits before the provider is asked again, in milliseconds.
    pub retry_after_ms: Option<f64>,
}

/// A path, for people and for JavaScript.
fn text(path: &std::path::Path) -> String {
    path.to_string_lossy().into_owned()
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            code: error.code.as_str().to_owned(),
            path: error.path.as_deref().map(text),
            holder_pid: error.holder.as_ref().map(|holder| holder.pid),
            holder_held_ms: error.holder.and_then(|holder| holder.held_ms),
            holder_state: None,
            retry_after_ms: None,
            message: error.message,
        }
    }
}

impl From<Error> for Reply {
    fn from(error: Error) -> Self {
        Self { error: Some(error.into()), ..Self::default() }
    }
}

impl Reply {
    fn of(kind: ending::Kind, details: serde_json::Value) -> Self {
        Self { kind: Some(kind), ..Self::from(details) }
    }

    fn with(self, credential: &crate::credential::Credential) -> Self {
        Self { credential: Some(credential.to_json()), ..self }
    }
}

impl From<serde_json::Value> for Reply {
    fn from(value: serde_json::Value) -> Self {
        Self { value: Some(value.to_string()), ..Self::default() }
    }
}
