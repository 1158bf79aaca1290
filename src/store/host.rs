//! A store that a host keeps itself, in a database or a keychain. We reach it through two functions of the host's; the second
//! compares and writes in one step, which replaces a lock of ours.

use super::{Profile, recent};
use crate::credential::Credential;
use crate::credential::fields::Fields;
use crate::error::{Code, Error, Result};
use serde_json::Value;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Host stores go by this and their name, where a file goes by its path: in journals, in errors. Files' paths are absolute.
const PREFIX: &str = "host:";
/// A member that is `true` in what a store answers while another program refreshes the profile. Beside it, as `credential`,
/// stands what is stored meanwhile, if there is anything.
const CLAIMED: &str = "claimed";
/// How often to try a swap before which other writers come. Profiles are written some times an hour.
const MAX_SWAPS: u32 = 16;

/// The host's side. Both functions may be called from any thread, and block it.
pub trait HostStore: Send + Sync {
    /// The same in every process, and no other store's.
    fn name(&self) -> &str;

    /// Whether it is written only while the caller holds its owner's own lock: from the decision to the save.
    fn is_held(&self) -> bool {
        false
    }

    /// Whether what it has swapped survives a power cut.
    fn is_durable(&self) -> bool {
        true
    }

    /// What it holds for a profile now; or that another program is refreshing that: see [`CLAIMED`].
    fn load(&self, profile_id: &str) -> Result<Option<Fields>, NoAnswer>;

    /// Puts `next` in the place of `expected` if that is what it holds; `false` if it holds something else.
    fn compare_and_swap(&self, profile_id: &str, expected: Option<&Fields>, next: &Fields) -> Result<bool, NoAnswer>;
}

/// Why a host's function gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoAnswer {
    /// It failed, in its own words, which may hold anything.
    Failed,
    /// It answered with something else.
    Nonsense,
    /// It has not answered for too long. Whether it still does something is unknown.
    Late,
    /// It can't be asked any more: the thread that the host's functions live on has ended.
    Gone,
}

/// A host's store.
#[derive(Clone)]
pub struct Hosted {
    host: Arc<dyn HostStore>,
    path: PathBuf,
}

impl fmt::Debug for Hosted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hosted").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Hosted {
    /// The store behind these functions.
    #[must_use]
    pub fn new(host: Arc<dyn HostStore>) -> Self {
        let path = PathBuf::from(format!("{PREFIX}{}", host.name()));
        Self { host, path }
    }

    /// What it goes by where a file's path would stand: `host:` and its name.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// See [`HostStore::is_held`].
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.host.is_held()
    }

    /// See [`HostStore::is_durable`].
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.host.is_durable()
    }

    pub(super) fn read(&self, profile_id: &str) -> Result<Profile> {
        let profile = self.load(profile_id).map(profile_of)?;
        recent::remember_hosted(&self.path, profile_id, &profile);
        Ok(profile)
    }

    pub(super) fn last_seen(&self, profile_id: &str) -> Option<Profile> {
        recent::recall_hosted(&self.path, profile_id)
    }

    /// As `Store::update`.
    pub(super) fn update<T>(&self, profile_id: &str, change: impl Fn(Profile) -> (Option<Credential>, T)) -> Result<T> {
        for _ in 0..MAX_SWAPS {
            let held = self.load(profile_id)?;
            let (new, answer) = change(profile_of(held.clone()));
            let Some(new) = new else { return Ok(answer) };
            let swapped = self.host.compare_and_swap(profile_id, held.as_ref(), new.members());
            if !swapped.map_err(|why| self.unwritable(why))? {
                continue;
            }
            let kept = self.load(profile_id)?;
            let lost = kept.as_ref().map_or(Some("it"), |kept| lost(kept, new.members()));
            let Some(lost) = lost else { return Ok(answer) };
            if is_same(kept.as_ref(), held.as_ref())
                || kept.is_some_and(|kept| is_ours(&kept, new.members(), held.as_ref()))
            {
                let message = format!(
                    "the credential store did not keep what was written ({lost} differs); is another program writing it?"
                );
                return Err(Error::at(Code::StoreUnwritable, &self.path, message));
            }
            // Without a lock another writer has come between, and what to do now depends on what it wrote.
        }
        let message = "the credential store keeps changing while it is written; does its `compareAndSwap` compare with what its `load` returns?";
        Err(Error::at(Code::StoreUnwritable, &self.path, message))
    }

    fn load(&self, profile_id: &str) -> Result<Option<Fields>> {
        let loaded = self.host.load(profile_id).map_err(|why| self.unreadable(why))?;
        match &loaded {
            Some(fields) if !is_claimed(fields) && !fields.values().get("type").is_some_and(Value::is_string) => {
                Err(self.unreadable(NoAnswer::Nonsense))
            }
            _ => Ok(loaded),
        }
    }

    fn unreadable(&self, why: NoAnswer) -> Error {
        let (code, what) = match why {
            NoAnswer::Failed => (Code::StoreUnreadable, "the credential store's `load` failed"),
            NoAnswer::Nonsense => {
                (Code::StoreInvalid, "the credential store's `load` returned neither a credential nor null nor a claim")
            }
            NoAnswer::Late => (Code::StoreUnreadable, "the credential store's `load` does not return"),
            NoAnswer::Gone => (Code::StoreUnreadable, GONE),
        };
        Error::at(code, &self.path, what)
    }

    fn unwritable(&self, why: NoAnswer) -> Error {
        let what = match why {
            NoAnswer::Failed => "the credential store's `compareAndSwap` failed",
            NoAnswer::Nonsense => "the credential store's `compareAndSwap` did not return a boolean",
            NoAnswer::Late => "the credential store's `compareAndSwap` does not return",
            NoAnswer::Gone => GONE,
        };
        Error::at(Code::StoreUnwritable, &self.path, what)
    }
}

const GONE: &str = "the credential store can't be reached any more; the thread that gave it has ended";

fn is_claimed(fields: &Fields) -> bool {
    fields.values().get(CLAIMED) == Some(&Value::Bool(true)) && !fields.values().contains_key("type")
}

fn profile_of(loaded: Option<Fields>) -> Profile {
    match loaded {
        Some(fields) if is_claimed(&fields) => {
            let credential = fields.spelled("credential").and_then(Fields::parse).and_then(Credential::from_profile);
            Profile::Claimed(credential)
        }
        loaded => Profile::of(loaded),
    }
}

/// Whether a path in a journal is a host store's.
#[must_use]
pub fn is_path(path: &Path) -> bool {
    path.to_str().is_some_and(|path| path.starts_with(PREFIX))
}

/// Refuses a write to a store that this call was not given.
pub(super) fn elsewhere(path: &Path) -> Error {
    Error::at(Code::StoreVanished, path, "this call was not given the credential store")
}

/// Whether these are the same to a host, which need not keep how a number is spelled.
fn is_same(one: Option<&Fields>, other: Option<&Fields>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => are_same(one.values(), other.values()),
        (None, None) => true,
        _ => false,
    }
}

fn are_same(one: &serde_json::Map<String, Value>, other: &serde_json::Map<String, Value>) -> bool {
    one.len() == other.len()
        && one.iter().all(|(name, value)| other.get(name).is_some_and(|other| is_same_value(value, other)))
}

fn is_same_value(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(a), Value::Number(b)) => a == b || (a.as_f64().is_some() && a.as_f64() == b.as_f64()),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same_value(a, b)),
        (Value::Object(a), Value::Object(b)) => are_same(a, b),
        _ => one == other,
    }
}

/// What a store must keep. It may keep, drop and add other fields as it likes.
const NEEDED: [&str; 5] = ["type", "provider", "access", "refresh", "expires"];
/// What tells whose a login is: a store may drop it, not change it.
const EVIDENCE: [&str; 4] = ["accountId", "email", "enterpriseUrl", "projectId"];
/// A store may count in seconds.
const EXPIRES_STEP_MS: f64 = 1000.0;

/// What of a written credential a store did not keep, if it matters.
fn lost<'a>(kept: &'a Fields, written: &'a Fields) -> Option<&'static str> {
    // In a table what is missing is null.
    let there = |fields: &'a Fields, name: &str| fields.values().get(name).filter(|value| !value.is_null());
    let both = |name: &str| (there(kept, name), there(written, name));
    let is_kept = |name: &str| match both(name) {
        (Some(kept), Some(written)) if name == "expires" => is_same_instant(kept, written),
        (Some(kept), Some(written)) => is_same_value(kept, written),
        (kept, written) => kept.is_none() && written.is_none(),
    };
    let is_contradicted = |name: &str| match both(name) {
        (Some(kept), Some(written)) => !is_same_value(kept, written),
        _ => false,
    };
    let lost = NEEDED.into_iter().find(|name| !is_kept(name));
    lost.or_else(|| EVIDENCE.into_iter().find(|name| is_contradicted(name)))
}

fn is_same_instant(kept: &Value, written: &Value) -> bool {
    match (kept.as_f64(), written.as_f64()) {
        (Some(kept), Some(written)) => (kept - written).abs() < EXPIRES_STEP_MS,
        _ => is_same_value(kept, written),
    }
}

/// Whether what a store has kept is what we wrote: it has a token of ours that was not there before. Another writer's tokens are
/// others.
fn is_ours(kept: &Fields, written: &Fields, before: Option<&Fields>) -> bool {
    ["access", "refresh"].into_iter().any(|name| {
        let (kept, written) = (kept.values().get(name), written.values().get(name));
        kept.is_some() && kept == written && before.and_then(|before| before.values().get(name)) != written
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::Mutex;

    /// Keeps values, not their spelling, as JavaScript does.
    struct Memory(Mutex<Option<Value>>);

    impl HostStore for Memory {
        fn name(&self) -> &'static str {
            "memory"
        }

        fn load(&self, _: &str) -> Result<Option<Fields>, NoAnswer> {
            Ok(self.0.lock().unwrap().as_ref().and_then(|held| Fields::parse(&held.to_string())))
        }

        fn compare_and_swap(&self, _: &str, expected: Option<&Fields>, next: &Fields) -> Result<bool, NoAnswer> {
            if !is_same(self.load("")?.as_ref(), expected) {
                return Ok(false);
            }
            let text = next.to_json().replace("1.50", "1.5").replace("1E3", "1000");
            *self.0.lock().unwrap() = serde_json::from_str(&text).ok();
            Ok(true)
        }
    }

    fn credential(json: &str) -> Credential {
        Credential::from_profile(Fields::parse(json).unwrap()).unwrap()
    }

    #[test]
    fn a_host_need_not_keep_how_numbers_are_spelled() {
        let store = Hosted::new(Arc::new(Memory(Mutex::new(None))));
        let new = credential(r#"{"type":"oauth","access":"a","expires":1E3,"x":[{"y":1.50}]}"#);
        store.update("p", |_| (Some(new.clone()), ())).unwrap();
        let kept = credential(r#"{"type":"oauth","access":"a","expires":1000,"x":[{"y":1.5}]}"#);
        assert_eq!(store.read("p").unwrap(), Profile::Oauth(kept));
    }

    #[test]
    fn what_matters_is_kept_or_named() {
        let written = r#"{"type":"oauth","provider":"p","access":"a","refresh":"r","expires":1700000000123,"accountId":"1","email":"e","x":1}"#;
        let lost_of = |kept: &str| lost(&Fields::parse(kept).unwrap(), &Fields::parse(written).unwrap());
        let kept = r#"{"type":"oauth","provider":"p","access":"a","refresh":"r","expires":17000000001.23E2}"#;
        assert_eq!(lost_of(kept), None);
        assert_eq!(lost_of(&kept.replace("17000000001.23E2", "1700000000000")), None);
        assert_eq!(lost_of(&kept.replace('}', r#","accountId":null,"added":[1]}"#)), None);
        assert_eq!(lost_of(&kept.replace("17000000001.23E2", "1700000001123")), Some("expires"));
        assert_eq!(lost_of(&kept.replace("17000000001.23E2", "null")), Some("expires"));
        assert_eq!(lost_of(&kept.replace('}', r#","accountId":"2"}"#)), Some("accountId"));
        let blank = Fields::parse(r#"{"type":"oauth","access":"a"}"#).unwrap();
        let row =
            Fields::parse(r#"{"type":"oauth","provider":null,"access":"a","refresh":null,"expires":null}"#).unwrap();
        assert_eq!(lost(&row, &blank), None);
        for name in ["type", "provider", "access", "refresh"] {
            let other = kept.replace(&format!(r#""{name}":""#), &format!(r#""{name}":"other "#));
            assert_eq!(lost_of(&other), Some(name));
            assert_eq!(lost_of(&kept.replace(&format!(r#""{name}""#), r#""gone""#)), Some(name));
        }
    }

    #[test]
    fn a_change_is_decided_on_again_when_another_has_come_before() {
        let memory = Arc::new(Memory(Mutex::new(Some(json!({"type":"oauth","access":"old"})))));
        let store = Hosted::new(memory.clone());
        let seen = Mutex::new(Vec::new());
        let change = |now: Profile| {
            let mut seen = seen.lock().unwrap();
            if seen.is_empty() {
                *memory.0.lock().unwrap() = Some(json!({"type":"oauth","access":"login"}));
            }
            seen.push(now);
            (Some(credential(r#"{"type":"oauth","access":"new"}"#)), seen.len())
        };
        assert_eq!(store.update("p", change).unwrap(), 2);
        let held = ["old", "login"]
            .map(|access| Profile::Oauth(credential(&json!({"type":"oauth","access":access}).to_string())));
        assert_eq!(*seen.lock().unwrap(), held);
    }

    #[test]
    fn debug_and_errors_show_a_name_and_no_more() {
        let store = Hosted::new(Arc::new(Memory(Mutex::new(Some(json!({"access":"SECRET"}))))));
        let error = store.read("p").unwrap_err();
        assert_eq!((error.code, error.path.as_deref()), (Code::StoreInvalid, Some(Path::new("host:memory"))));
        assert!(!format!("{store:?} {error:?} {error}").contains("SECRET"));
    }
}
