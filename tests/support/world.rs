//! A main agent and a sub-agent in a state directory of their own, and the way of a call through the core.
//!
//! What [`Refresh`] is made of, and which functions a call passes, is known here only.

use super::{clocks, files, locks};
use oauth_refresh_lock::clock::{BootMs, Clock};
use oauth_refresh_lock::credential::Credential;
use oauth_refresh_lock::credential::fields::Fields;
use oauth_refresh_lock::error::Result;
use oauth_refresh_lock::journal::Journal;
use oauth_refresh_lock::journal::record::Record;
use oauth_refresh_lock::key::{self, Key};
use oauth_refresh_lock::lock::{self, Guard, Target, term};
use oauth_refresh_lock::refresh::{
    Backoff, CallFailure, Claimed, Decision, Failed, FailureClass, Paths, Refresh, Served, Settled,
};
use oauth_refresh_lock::store::{FileStore, STORE_FILE};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tempfile::TempDir;

pub const PROVIDER: &str = "openai-codex";
pub const PROFILE: &str = "openai-codex:me";
/// When the clock starts, in milliseconds since the epoch.
pub const NOW: i64 = 1_700_000_000_000;
pub const MINUTE: i64 = 60_000;
pub const HOUR: i64 = 60 * MINUTE;
/// Longer than a process takes to be started.
const MOMENT: Duration = Duration::from_millis(500);

/// Stands still until it is set.
#[derive(Debug)]
pub struct FakeClock(AtomicI64);

impl FakeClock {
    pub fn set(&self, now: i64) {
        self.0.store(now, Ordering::SeqCst);
    }
}

impl Clock for FakeClock {
    fn now_ms(&self) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "instants are far below 2^53")]
        let now = self.0.load(Ordering::SeqCst) as f64;
        now
    }

    fn boot_ms(&self) -> BootMs {
        BootMs(self.now_ms())
    }

    fn boot_id(&self) -> String {
        "boot".to_owned()
    }
}

/// A state directory with two agents.
pub struct World {
    root: PathBuf,
    pub clock: Arc<FakeClock>,
    _directory: Option<TempDir>,
}

impl World {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory_path(&directory);
        Self { _directory: Some(directory), ..Self::at(root) }
    }

    /// The world that a child is given, as its first argument.
    pub fn of(arguments: &[String]) -> Self {
        Self::at(PathBuf::from(&arguments[0]))
    }

    /// The world of another process.
    pub fn at(root: PathBuf) -> Self {
        Self { root, clock: Arc::new(FakeClock(AtomicI64::new(NOW))), _directory: None }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    pub fn main(&self) -> Agent {
        self.agent("main")
    }

    pub fn sub(&self) -> Agent {
        self.agent("sub")
    }

    pub fn agent(&self, name: &str) -> Agent {
        Agent { directory: self.state().join("agents").join(name).join("agent"), state: self.state() }
    }

    /// A call of the main agent.
    pub fn call_of_main(&self) -> Refresh {
        self.call(PROVIDER, PROFILE, &self.main(), None)
    }

    /// A call of the sub-agent.
    pub fn call_of_sub(&self) -> Refresh {
        self.call(PROVIDER, PROFILE, &self.sub(), Some(&self.main()))
    }

    /// A call of any agent, for any profile.
    pub fn call(&self, provider: &str, profile: &str, own: &Agent, main: Option<&Agent>) -> Refresh {
        let key = Key::new(provider, profile).unwrap();
        let paths = Paths::of(&key, self.state());
        Refresh::new(key, paths, own.store().into(), main.map(|main| main.store().into()), self.clock.clone())
    }

    /// The key's lock file.
    pub fn lock_base(&self) -> PathBuf {
        key::lock_base(&self.state(), PROVIDER, PROFILE)
    }

    /// The key's lock.
    pub fn lock(&self) -> Guard {
        locks::take(&self.lock_base())
    }

    /// What the key's journal holds.
    pub fn record(&self) -> Record {
        Journal::peek(&term::journal(&self.lock_base(), 0)).unwrap().unwrap()
    }

    /// Decides under the lock of the call's key. Another key's lock that is only open in a child which is being started is waited for.
    pub fn decide(&self, call: &Refresh) -> Result<Decision> {
        loop {
            match call.decide(locks::take(&call.lock_base))? {
                Decision::Busy { other, .. }
                    if lock::acquire_blocking(&Target::refresh(&other, &crate::support::clocks::system()), MOMENT)
                        .is_ok() => {}
                decision => return Ok(decision),
            }
        }
    }

    /// Decides under the lock of the call's key, and the decision must be to ask the provider.
    pub fn claim(&self, call: &Refresh) -> Box<Claimed> {
        claimed(self.decide(call).unwrap())
    }

    /// Settles with what the provider answered.
    pub fn settle(&self, call: &Refresh, claim: Box<Claimed>, fields: &Value) -> Result<Settled> {
        call.settle(claim.send().unwrap(), &fields.to_string()).map_err(|unsettled| unsettled.error)
    }

    /// Ends a call that failed: what there is instead.
    pub fn fail(&self, call: &Refresh, claim: Box<Claimed>, class: FailureClass) -> Option<Decision> {
        self.fail_and_pause(call, claim, class, Backoff::after(class, false, None))
    }

    /// The same, with this pause.
    pub fn fail_and_pause(
        &self,
        call: &Refresh,
        claim: Box<Claimed>,
        class: FailureClass,
        pause: Backoff,
    ) -> Option<Decision> {
        match call.fail(claim.send().unwrap(), CallFailure { class, pause, is_temporary: true }).unwrap() {
            Failed::Instead(decision) => Some(decision),
            Failed::ForGood(_) => None,
        }
    }
}

fn directory_path(directory: &TempDir) -> PathBuf {
    // macOS's temporary directory is a symbolic link.
    directory.path().canonicalize().unwrap()
}

/// One agent.
pub struct Agent {
    pub directory: PathBuf,
    state: PathBuf,
}

impl Agent {
    pub fn path(&self) -> PathBuf {
        self.directory.join(STORE_FILE)
    }

    pub fn store(&self) -> FileStore {
        FileStore::new(&self.directory, &self.state, &clocks::system())
    }

    /// Puts a store with this profile and what others keep there.
    pub fn put(&self, profile: &Value) {
        files::put(&self.path(), store_with(profile));
    }

    /// Puts a store without our profile.
    pub fn put_without_profile(&self) {
        files::put(&self.path(), store_without());
    }

    /// Asserts that the store is, byte for byte, the one that `put` makes of this profile.
    #[track_caller]
    pub fn assert_holds(&self, profile: &Value) {
        assert_eq!(files::text(&self.path()), store_with(profile));
    }
}

/// What stands before our profile and behind it: whatever a rewrite by a parser would not keep.
const BEFORE: &str = "\t{ \"version\":1.0 ,\r\n\"profiles\" : {\"keep:first\":{\"type\":\"api_key\",\"key\":\"SECRET-key\",\
                      \"n\":1.50e+03,\"\\u0061\":\"\\ud800\"}";
const BETWEEN: &str = ",\n  \"openai-codex:me\" :";
const BEHIND: &str = ",\n\"keep:last\":{\"mode\":\"token\",\"token\":\"SECRET-token\",\"expires\":1E400,\"x\":-0,\"x\":-0.0}} ,\
                      \"\\ud83d\":0.10,\"lastGood\":{\"b\":1,\"a\":2},\"usageStats\":[ 12345678901234567890123 ] }\n\n";

/// The text of a store that holds this profile, laid out as we write it, among things that others keep.
pub fn store_with(profile: &Value) -> String {
    format!("{BEFORE}{BETWEEN}{}{BEHIND}", laid_out(profile))
}

/// The text of a store without our profile.
pub fn store_without() -> String {
    format!("{BEFORE}{BEHIND}")
}

/// As we lay a profile out: one member a line, and values as they are spelled.
pub fn laid_out(profile: &Value) -> String {
    let line = |(name, value): (&String, &Value)| format!("\n      {}: {value}", json!(name));
    let members: Vec<_> = profile.as_object().unwrap().iter().map(line).collect();
    if members.is_empty() { "{}".to_owned() } else { format!("{{{}\n    }}", members.join(",")) }
}

/// A credential of this generation that expires so many milliseconds from [`NOW`].
pub fn credential(generation: &str, expires_in: i64) -> Value {
    json!({
        "type": "oauth",
        "provider": PROVIDER,
        "access": format!("SECRET-access-{generation}"),
        "refresh": format!("SECRET-refresh-{generation}"),
        "expires": NOW + expires_in,
        "unknown": { "number": 1, "list": [null, true] },
    })
}

/// `{...value, ...fields}`, where `null` takes a field away.
pub fn with(mut value: Value, fields: &Value) -> Value {
    let map = value.as_object_mut().unwrap();
    for (name, field) in fields.as_object().unwrap() {
        if field.is_null() {
            map.shift_remove(name);
        } else {
            map.insert(name.clone(), field.clone());
        }
    }
    value
}

/// What a provider answers: a new generation that lives for another hour.
pub fn answer(generation: &str) -> Value {
    json!({
        "access": format!("SECRET-access-{generation}"),
        "refresh": format!("SECRET-refresh-{generation}"),
        "expires": NOW + HOUR,
    })
}

pub fn map(value: &Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

pub fn fields(value: &Value) -> Fields {
    map(value).into()
}

pub fn oauth(value: &Value) -> Credential {
    Credential::from_profile(map(value)).unwrap()
}

/// A credential as JSON.
pub fn shown(credential: &Credential) -> Value {
    Value::Object(credential.fields().clone())
}

#[track_caller]
pub fn claimed(decision: Decision) -> Box<Claimed> {
    match decision {
        Decision::Send(claim) => claim,
        other => panic!("not to be asked: {other:?}"),
    }
}

/// The owner of a call dies when the provider may have been asked.
#[track_caller]
pub fn die_asking(claim: Box<Claimed>) {
    drop(claim.send().unwrap());
}

#[track_caller]
pub fn served(decision: Decision) -> Served {
    match decision {
        Decision::Served(served) => served,
        other => panic!("not served: {other:?}"),
    }
}
