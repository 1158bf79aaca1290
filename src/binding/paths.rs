//! Paths, resolved from the surroundings that JavaScript passes in.

use super::{Reply, task};
use crate::error::{Code, Error};
use crate::key;
use crate::lock::file_system;
use crate::state_dir::{Environment, canonical};
use napi::bindgen_prelude::{Env, Object};
use napi_derive::napi;
use serde_json::json;
use std::path::{Path, PathBuf};

/// What paths are resolved in: the calling thread's own `process.env`, home and working directory.
#[napi(object, object_to_js = false)]
pub struct Surroundings {
    /// `OPENCLAW_STATE_DIR`
    pub openclaw_state_dir: Option<String>,
    /// `OPENCLAW_HOME`
    pub openclaw_home: Option<String>,
    /// `HOME`
    pub home: Option<String>,
    /// `USERPROFILE`
    pub user_profile: Option<String>,
    /// `OPENCLAW_AGENT_DIR`
    pub openclaw_agent_dir: Option<String>,
    /// `PI_CODING_AGENT_DIR`
    pub pi_coding_agent_dir: Option<String>,
    /// `os.homedir()`
    pub os_home: String,
    /// `process.cwd()`
    pub working_dir: String,
}

impl From<Surroundings> for Environment {
    fn from(from: Surroundings) -> Self {
        Self {
            state_dir: from.openclaw_state_dir,
            openclaw_home: from.openclaw_home,
            home: from.home,
            user_profile: from.user_profile,
            agent_dir: from.openclaw_agent_dir,
            pi_agent_dir: from.pi_coding_agent_dir,
            os_home: from.os_home.into(),
            working_dir: from.working_dir.into(),
        }
    }
}

/// The state directory: as given, else from the surroundings.
pub(super) fn state_dir(given: Option<String>, environment: &Environment) -> PathBuf {
    given.map_or_else(|| environment.state_dir(), |given| crate::state_dir::normalise(Path::new(&given)))
}

/// See `resolveOAuthRefreshLockPath` in `index.d.ts`.
#[napi]
#[must_use]
#[allow(clippy::needless_pass_by_value, reason = "napi hands over owned strings")]
pub fn lock_path(
    provider: String,
    profile_id: String,
    given: Option<String>,
    surroundings: Option<Surroundings>,
) -> String {
    let state_dir = state_dir(given, &surroundings.map_or_else(Default::default, Into::into));
    key::lock_base(&state_dir, &provider, &profile_id).to_string_lossy().into_owned()
}

/// The lock base path of a key, for a holder without a refresh, if nothing has to be looked up for it.
#[napi]
#[must_use]
#[allow(clippy::needless_pass_by_value, reason = "napi hands over owned strings")]
pub fn told_lock_path(
    provider: String,
    profile_id: String,
    given: Option<String>,
    surroundings: Option<Surroundings>,
) -> Option<String> {
    let environment = surroundings.map_or_else(Default::default, Environment::from);
    let is_told = given.is_some() || environment.searched().is_none();
    is_told
        .then(|| key::lock_base(&state_dir(given, &environment), &provider, &profile_id).to_string_lossy().into_owned())
}

/// A lock base path, told by [`told_lock_path`] or else looked up, and its real path. Nothing where the look-up may be slow:
/// then call [`open_lock_path`].
#[napi]
#[must_use]
#[allow(clippy::needless_pass_by_value, reason = "napi hands over owned strings")]
pub fn open_lock_path_now(
    provider: String,
    profile_id: String,
    told: Option<String>,
    surroundings: Option<Surroundings>,
) -> Option<Reply> {
    let environment = surroundings.map_or_else(Default::default, Environment::from);
    opened(&provider, &profile_id, told, &environment, file_system::is_known_local)
}

/// The same wherever it is, in the order of the calls.
#[napi]
pub fn open_lock_path(
    env: &Env,
    provider: String,
    profile_id: String,
    told: Option<String>,
    surroundings: Option<Surroundings>,
) -> napi::Result<Object<'_>> {
    let environment = surroundings.map_or_else(Default::default, Environment::from);
    let lane = told.clone().map(PathBuf::from).unwrap_or_default();
    task::in_order(env, &lane, move || {
        let opened = opened(&provider, &profile_id, told, &environment, |path| {
            file_system::learn(path);
            true
        });
        opened.ok_or_else(|| Error::new(Code::Internal, "not opened"))
    })
}

fn opened(
    provider: &str,
    profile_id: &str,
    told: Option<String>,
    environment: &Environment,
    may_look_at: impl Fn(&Path) -> bool,
) -> Option<Reply> {
    let searched = environment.searched().filter(|_| told.is_none());
    if !searched.iter().flatten().all(|path| may_look_at(path)) {
        return None;
    }
    let look_up = || key::lock_base(&environment.state_dir(), provider, profile_id);
    let path = told.map_or_else(look_up, PathBuf::from);
    if !may_look_at(&path) {
        return None;
    }
    let key = real_lock(&path);
    Some(Reply::from(json!({ "lockPath": path.to_string_lossy(), "key": key.to_string_lossy() })))
}

/// The path of a lock without symbolic links: by which a process's own callers know that they wait for one lock. Told again if
/// another directory is there by now.
pub(super) fn real_lock(path: &Path) -> PathBuf {
    #[cfg(unix)]
    {
        use std::collections::HashMap;
        use std::os::unix::fs::MetadataExt;
        use std::sync::{LazyLock, Mutex, PoisonError};
        type Known = HashMap<PathBuf, ((u64, u64), PathBuf)>;
        /// More than any process has directories of locks.
        const MAX_KNOWN: usize = 64;
        static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);
        if let (Some(directory), Some(name)) = (path.parent(), path.file_name())
            && let Ok(found) = std::fs::metadata(directory)
        {
            let found = (found.dev(), found.ino());
            let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((_, real)) = known().get(directory).filter(|(known, _)| *known == found) {
                return real.join(name);
            }
            let real = canonical(path);
            let mut known = known();
            if known.len() >= MAX_KNOWN {
                known.clear();
            }
            known.insert(directory.to_owned(), (found, real.parent().unwrap_or(&real).to_owned()));
            return real;
        }
    }
    canonical(path)
}
