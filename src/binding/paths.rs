//! Paths, resolved from the surroundings that JavaScript passes in.

use crate::key;
use crate::state_dir::Environment;
use napi_derive::napi;
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

/// One name for a lock file, by whatever links it is reached.
#[napi]
#[must_use]
#[allow(clippy::needless_pass_by_value, reason = "napi hands over owned strings")]
pub fn canonical_path(path: String) -> String {
    crate::state_dir::canonical(Path::new(&path)).to_string_lossy().into_owned()
}
