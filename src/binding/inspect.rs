//! A look inside, for JavaScript.

use super::lock::clock;
use super::paths::{Surroundings, state_dir};
use super::{Reply, task, text};
use crate::clock::SystemClock;
use crate::coordinator::{Grant, Row};
use crate::digest::Digest;
use crate::disk::permissions;
use crate::error::{Code, Error};
use crate::inspect::key::state;
use crate::inspect::{KeyReport, Login, StoreReport, SuccessorState, Survey};
use crate::journal::record::{FailureRecord, Outcome, Record};
use crate::key;
use crate::lock::private_dir::Passage;
use crate::state_dir::{Environment, normalise};
use napi::bindgen_prelude::{Env, Object};
use napi_derive::napi;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// See `inspectOAuthRefreshLocks` in `index.d.ts`.
#[napi]
pub fn inspect_locks(env: &Env, given: Option<String>, surroundings: Surroundings) -> napi::Result<Object<'_>> {
    let environment = Environment::from(surroundings);
    let lane = PathBuf::from(given.as_deref().unwrap_or_default());
    task::promise(env, &lane, move || {
        let state_dir = state_dir(given, &environment);
        let survey = Survey::of(&state_dir, &environment.main_agent_dir(&state_dir), &clock());
        if let Some(error) = survey.unlisted.iter().find(|error| error.code == Code::LockUnavailable).cloned() {
            return Err(error);
        }
        let keys: Vec<_> = survey.keys.iter().map(|key| shown(&survey, key)).collect();
        Ok(Reply::from(Value::from(keys)))
    })
}

/// All that `status` and `doctor` show of a state directory, without a secret.
#[napi]
pub fn survey(env: &Env, given: Option<String>, surroundings: Surroundings) -> napi::Result<Object<'_>> {
    let environment = Environment::from(surroundings);
    let lane = PathBuf::from(given.as_deref().unwrap_or_default());
    task::promise(env, &lane, move || {
        let state_dir = state_dir(given, &environment);
        let survey = Survey::of(&state_dir, &environment.main_agent_dir(&state_dir), &clock());
        let refused: Vec<_> = survey.refused.iter().map(told).collect();
        let passed = survey.passed.iter().map(|(path, why)| {
            json!({ "path": text(path), "rule": if *why == Passage::Trusted { "trusted" } else { "alone" } })
        });
        let passed: Vec<_> = passed.collect();
        let unlisted: Vec<_> = survey.unlisted.iter().map(told).collect();
        let stores: Vec<_> = survey.stores.iter().map(|store| shown_store(&state_dir, store)).collect();
        let exposed = survey.exposed.iter().map(|(path, found, can_close)| {
            json!({ "path": text(path), "mode": found.mode, "wanted": found.wanted, "canFix": can_close })
        });
        let exposed: Vec<_> = exposed.collect();
        let written = survey.written.iter().map(|(path, at)| json!({ "path": text(path), "at": at }));
        let written: Vec<_> = written.collect();
        let keys = survey.keys.iter().map(|key| {
            let stores: Vec<_> = key.named_stores().into_iter().map(text).collect();
            // A host's store is not looked into, so its journal alone tells whose key it is.
            let profile = key.record.as_ref().and_then(Record::profile);
            json!({
                "key": key.key.map(Digest::to_hex),
                "profileId": profile,
                "stores": stores,
                "lastRefresh": key.last_refresh().as_str(),
                "lock": shown(&survey, key),
            })
        });
        let keys: Vec<_> = keys.collect();
        Ok(Reply::from(json!({
            "stateDir": text(&state_dir),
            "exists": survey.exists,
            "fileSystem": survey.file_system.map(|found| json!({ "name": found.name, "isLocal": found.is_local })),
            "refused": refused,
            "passed": passed,
            "unlisted": unlisted,
            "stores": stores,
            "keys": keys,
            "exposed": exposed,
            "written": written,
        })))
    })
}

/// A row of a coordinator.
#[napi(object, object_to_js = false)]
pub struct GivenRow {
    pub name: String,
    pub value: String,
}

/// The names of the rows whose answer no call with these keys could open: each is tried with the refresh token that it belongs to.
#[napi]
pub fn rows_not_to_be_opened(
    env: &Env,
    given: Option<String>,
    surroundings: Surroundings,
    rows: Vec<GivenRow>,
    keys: Vec<String>,
) -> napi::Result<Object<'_>> {
    let environment = Environment::from(surroundings);
    let lane = PathBuf::from(given.as_deref().unwrap_or_default());
    let keys: Vec<_> = keys.into_iter().map(Zeroizing::new).collect();
    task::promise(env, &lane, move || {
        let state_dir = state_dir(given, &environment);
        let survey = Survey::of(&state_dir, &environment.main_agent_dir(&state_dir), &clock());
        let logins = survey.stores.iter().flat_map(|store| &store.logins);
        let grants: Vec<_> = logins.filter_map(|login| Grant::of(login.credential.refresh()?)).collect();
        let is_sealed_for_others = |row: &GivenRow| {
            let answer = Row::parse(&row.value).ok().and_then(|row| row.answer);
            let grant = grants.iter().find(|grant| grant.row() == row.name);
            answer.zip(grant).is_some_and(|(sealed, grant)| grant.open(&sealed, &keys).is_none())
        };
        let names: Vec<_> = rows.iter().filter(|row| is_sealed_for_others(row)).map(|row| row.name.clone()).collect();
        Ok(Reply::from(Value::from(names)))
    })
}

/// Takes other users' rights from a file or directory of this user below a state directory, by no symbolic link.
#[napi]
#[must_use]
#[allow(clippy::needless_pass_by_value, reason = "napi hands over owned strings")]
pub fn make_private(state_dir: String, path: String) -> Reply {
    let (root, path) = (normalise(Path::new(&state_dir)), normalise(Path::new(&path)));
    match permissions::close(&root, &path) {
        Ok(()) => Reply::default(),
        Err(error) => Error::io(Code::StoreUnwritable, "change the mode", &path, &error).into(),
    }
}

fn told(error: &Error) -> Value {
    json!({
        "code": error.code.as_str(),
        "message": error.message,
        "path": error.path.as_deref().map(text),
    })
}

fn shown_store(state_dir: &Path, store: &StoreReport) -> Value {
    let login = |login: &Login| {
        let spent = login.spent.map(|spent| match spent {
            SuccessorState::Lost => "lost",
            SuccessorState::Replaced => "replaced",
        });
        json!({
            "provider": login.provider,
            "profileId": login.profile_id,
            "key": login.key().to_hex(),
            "lockPath": text(&key::lock_base(state_dir, &login.provider, &login.profile_id)),
            // A value that is not an instant is `null`.
            "expires": login.credential.fields().get("expires").and_then(Value::as_f64).filter(|at| at.is_finite()),
            "refreshAt": login.refresh_at,
            "hasRefreshToken": login.credential.refresh().is_some(),
            "spent": spent,
            "row": row_of(login),
        })
    };
    json!({
        "path": text(&store.path),
        "isMain": store.is_main,
        "logins": store.logins.iter().map(login).collect::<Vec<_>>(),
        "malformed": store.malformed.iter().map(|(id, why)| json!({ "profileId": id, "why": why })).collect::<Vec<_>>(),
        "unreadable": store.unreadable.as_ref().map(told),
        "unwritable": store.unwritable.as_ref().map(told),
        "databases": store.databases.iter().map(|path| text(path)).collect::<Vec<_>>(),
        "debris": store.debris.iter().map(|path| text(path)).collect::<Vec<_>>(),
        "isDangling": store.is_dangling,
        "names": store.names,
        "changed": store.changed,
    })
}

fn shown_failure(failure: &FailureRecord) -> Value {
    let outcome = match &failure.outcome {
        Outcome::Unspent | Outcome::NotOurs => "answered_unspent",
        Outcome::Uncertain => "uncertain",
        Outcome::Dead { .. } => "answered_dead",
    };
    json!({
        "outcome": outcome,
        "attempts": failure.attempts,
        "pid": failure.pid,
        "host": failure.host,
        "at": failure.at,
        "retryAfterMs": failure.left_ms(&SystemClock),
    })
}

/// The row that the login's refresh token has in a coordinator. It tells nothing of the token.
fn row_of(login: &Login) -> Option<String> {
    Some(login.credential.refresh().and_then(Grant::of)?.row().to_owned())
}

/// What the journal knows of a coordinator, if it knows anything.
fn shared(survey: &Survey, key: &KeyReport) -> Option<Value> {
    let records = || key.records().filter(|record| record.knows_hosts());
    records().next()?;
    let logins = survey.stores.iter().flat_map(|store| &store.logins).filter(|login| Some(login.key()) == key.key);
    let rows: BTreeSet<_> = logins.filter_map(row_of).collect();
    let owed: usize = records().map(|record| record.owed().count()).sum();
    Some(json!({ "owed": owed, "rows": rows }))
}

fn shown(survey: &Survey, key: &KeyReport) -> Value {
    let record = key.record.as_ref();
    let waiting: Vec<_> = key.waiting_stores().into_iter().map(text).collect();
    json!({
        "lockPath": text(&key.lock_base),
        "term": key.term,
        "holder": key.holder.as_ref().map(|holder| json!({
            "pid": holder.pid,
            "command": key.command,
            "heldMs": holder.held_ms(&SystemClock),
            "since": holder.since,
            "staleAfterMs": holder.stale_after,
            "startTime": holder.start_time,
            "boot": holder.boot,
            "pidNamespace": holder.pid_namespace,
            "isElsewhere": holder.is_elsewhere(),
        })),
        "waiters": key.waiters,
        "state": state(record).as_str(),
        "lastClaim": record.and_then(|record| record.claim.as_ref()).map(|claim| json!({ "pid": claim.pid, "at": claim.at })),
        "failures": key.failures.iter().map(shown_failure).collect::<Vec<_>>(),
        "waitingCredentials": record.map_or(0, |record| record.waiting().count()),
        "waitingFor": waiting,
        "shared": shared(survey, key),
        "foreign": key.foreign.as_ref().map(|(found, is_alive)| json!({
            "pid": found.pid, "createdAt": found.created_at, "alive": is_alive,
        })),
        "problem": key.problem.as_ref().map(|error| json!({ "code": error.code.as_str(), "message": error.message })),
        "debris": key.debris.iter().map(|path| text(path)).collect::<Vec<_>>(),
    })
}
