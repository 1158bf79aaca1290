//! How a refresh ends, for JavaScript.

use super::lock::timed_out;
use super::{Failure, Reply};
use crate::clock::{Clock, SystemClock};
use crate::credential::Credential;
use crate::error::Error;
use crate::refresh::{Served, Settled, Turn};
use napi_derive::napi;
use serde_json::{Value, json};
use std::path::Path;

/// How a refresh ended, or what a look found.
#[napi(string_enum = "lowercase")]
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// No such profile, or not an OAuth profile.
    Absent,
    /// What was stored is usable.
    Fresh,
    /// What is stored has not expired.
    Unexpired,
    /// A peer's, or the main store's, was taken over.
    Adopted,
    /// The journal held what a previous owner had received.
    Recovered,
    /// The provider gave it.
    Refreshed,
    /// The call failed. `failure` tells how, unless JavaScript knows; `dead`, if the login has ended, what later callers are told.
    Failed,
    /// A store's owner did not give us its lock; JavaScript knows why.
    NotHeld,
    /// The caller left first.
    Left,
}

pub(super) fn served(by: Served) -> Reply {
    match by {
        Served::Absent => Reply::of(Kind::Absent, json!({})),
        Served::Fresh(credential) => Reply::of(Kind::Fresh, json!({})).with(&credential),
        Served::Unexpired { credential, refresh_error } => {
            let path = refresh_error.path.as_deref().map(Path::to_string_lossy);
            let refresh_error =
                json!({ "path": path, "code": refresh_error.code.as_str(), "message": refresh_error.message });
            Reply::of(Kind::Fresh, json!({ "refreshError": refresh_error })).with(&credential)
        }
        Served::Recovered { credential, not_saved } => {
            taken_over(Kind::Recovered, &credential, not_saved.as_ref(), None)
        }
        Served::Adopted { credential, not_saved, from_host } => {
            taken_over(Kind::Adopted, &credential, not_saved.as_ref(), from_host.as_deref())
        }
    }
}

fn taken_over(kind: Kind, credential: &Credential, not_saved: Option<&Error>, host: Option<&str>) -> Reply {
    let from = host.map(|host| json!({ "host": host }));
    Reply::of(kind, json!({ "notSaved": not_saved.map(words), "adoptedFrom": from })).with(credential)
}

pub(super) fn unexpired(credential: &Credential) -> Reply {
    Reply::of(Kind::Unexpired, json!({})).with(credential)
}

pub(super) fn ended(turn: Turn<Option<Value>>) -> Reply {
    match turn {
        Turn::Served(by) => served(by),
        Turn::Settled(Settled::Refreshed { credential, mirrored, not_saved, not_shared }) => {
            let mirror = mirrored.map(|mirrored| match mirrored {
                Ok(reason) => json!({ "written": reason.writes(), "reason": reason.as_str() }),
                Err(error) => json!({ "written": false, "reason": "store-error", "error": words(&error) }),
            });
            let [not_saved, not_shared] = [not_saved, not_shared].map(|error| error.as_ref().map(words));
            let details = json!({ "notSaved": not_saved, "notShared": not_shared, "mirror": mirror });
            Reply::of(Kind::Refreshed, details).with(&credential)
        }
        Turn::Settled(Settled::Superseded(credential)) => served(Served::Fresh(credential)),
        Turn::Settled(Settled::LoggedOut) => served(Served::Absent),
        Turn::Failed(failure, dead) => {
            Reply::of(Kind::Failed, json!({ "failure": failure, "dead": dead.map(|dead| dead.message) }))
        }
        Turn::BackOff(wait_ms, error) => back_off(error, Some(wait_ms)),
        Turn::Claimed(_, error) | Turn::Refused(error) => error.into(),
        Turn::Taken(lock) => timed_out(&lock),
        Turn::NotHeld(_) => Reply::of(Kind::NotHeld, json!({})),
        Turn::Left => Reply::of(Kind::Left, json!({})),
        // Only before the end.
        Turn::Retry { .. } | Turn::Later(_) => Error::defect().into(),
    }
}

/// Why everyone waits, and for how long, by the clock on the wall.
pub(super) fn back_off(error: Error, wait_ms: Option<f64>) -> Reply {
    let retry_after_ms = wait_ms.map(|ms| (SystemClock.pause(ms).as_secs_f64() * 1000.0).ceil());
    Reply { error: Some(Failure { retry_after_ms, ..error.into() }), ..Reply::default() }
}

fn words(error: &Error) -> Value {
    json!({ "code": error.code.as_str(), "message": error.message })
}
