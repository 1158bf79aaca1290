//! A look inside, for JavaScript.

use super::paths::{Surroundings, state_dir};
use super::{Reply, task};
use crate::clock::SystemClock;
use crate::inspect::{self, KeyReport};
use crate::record::Verdict;
use napi::bindgen_prelude::{Env, Object};
use napi_derive::napi;
use serde_json::{Value, json};

/// See `inspectOAuthRefreshLocks` in `index.d.ts`.
#[napi]
pub fn inspect_locks(env: &Env, given: Option<String>, surroundings: Surroundings) -> napi::Result<Object<'_>> {
    let directory = state_dir(given, &surroundings.into()).join("locks").join("oauth-refresh");
    task::promise(env, move || {
        let keys: Vec<_> = inspect::keys(&directory)?.iter().map(shown).collect();
        Ok(Reply::from(Value::from(keys)))
    })
}

fn shown(key: &KeyReport) -> Value {
    let clock = SystemClock;
    let record = key.record.as_ref();
    let failures = key.failures(&clock).map(|(failure, left)| {
        let outcome = match &failure.verdict {
            Verdict::Unspent => "answered_unspent",
            Verdict::Uncertain { .. } => "uncertain",
            Verdict::Dead { .. } => "answered_dead",
        };
        json!({ "outcome": outcome, "pid": failure.pid, "at": failure.at, "retryAfterMs": left })
    });
    json!({
        "lockPath": key.lock_base.to_string_lossy(),
        "term": key.term,
        "holder": key.holder.as_ref().map(|holder| json!({
            "pid": holder.pid,
            "command": key.command,
            "heldMs": holder.held_ms(&clock),
            "since": holder.since,
            "startTime": holder.start_time,
            "boot": holder.boot,
            "pidNamespace": holder.pid_namespace,
        })),
        "waiters": key.waiters,
        "state": record.map_or("idle", |record| record.state.as_str()),
        "lastClaim": record.and_then(|record| record.claim.as_ref()).map(|claim| json!({ "pid": claim.pid, "at": claim.at })),
        "failures": failures.collect::<Vec<_>>(),
        "waitingCredentials": record.map_or(0, |record| record.receipts().len()),
        "foreign": key.foreign.as_ref().map(|(found, is_alive)| json!({
            "pid": found.pid, "createdAt": found.created_at, "alive": is_alive,
        })),
        "problem": key.problem.as_ref().map(|error| json!({ "code": error.code.as_str(), "message": error.message })),
        "debris": key.debris.iter().map(|path| path.to_string_lossy()).collect::<Vec<_>>(),
    })
}
