//! Where OpenClaw keeps things: the state directory and the main agent's directory.
//!
//! Resolved at each call from an [`Environment`] that is passed in, since a worker thread has its own `process.env`.

use crate::ecma;
use crate::error::{Code, Error, Result};
use std::path::{Component, Path, PathBuf};

/// The surroundings that paths are resolved in.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `OPENCLAW_STATE_DIR`
    pub state_dir: Option<String>,
    /// `OPENCLAW_HOME`
    pub openclaw_home: Option<String>,
    /// `HOME`
    pub home: Option<String>,
    /// `USERPROFILE`
    pub user_profile: Option<String>,
    /// `OPENCLAW_AGENT_DIR`
    pub agent_dir: Option<String>,
    /// `PI_CODING_AGENT_DIR`
    pub pi_agent_dir: Option<String>,
    /// The operating system's idea of the home directory; empty if it has none, as for a user without an entry in `passwd`.
    pub os_home: PathBuf,
    /// The working directory, for relative paths in variables; empty if it has been removed.
    pub working_dir: PathBuf,
}

impl Environment {
    /// `OPENCLAW_STATE_DIR`, else `<home>/.openclaw`, else an existing `<home>/.clawdbot`, else `<home>/.openclaw`.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        if let Some(configured) = set(self.state_dir.as_deref()) {
            return self.expand(configured, &self.home_dir());
        }
        let [current, legacy] = self.default_state_dirs();
        if !current.exists() && legacy.exists() { legacy } else { current }
    }

    /// Where [`Self::state_dir`] looks, if it has to.
    #[must_use]
    pub fn searched(&self) -> Option<[PathBuf; 2]> {
        set(self.state_dir.as_deref()).is_none().then(|| self.default_state_dirs())
    }

    fn default_state_dirs(&self) -> [PathBuf; 2] {
        let home = self.home_dir();
        [home.join(".openclaw"), home.join(".clawdbot")]
    }

    /// `OPENCLAW_AGENT_DIR`, else `PI_CODING_AGENT_DIR`, else `<state>/agents/main/agent`.
    #[must_use]
    pub fn main_agent_dir(&self, state_dir: &Path) -> PathBuf {
        set(self.agent_dir.as_deref()).or_else(|| set(self.pi_agent_dir.as_deref())).map_or_else(
            || state_dir.join("agents").join("main").join("agent"),
            |configured| self.expand(configured, &self.home_dir()),
        )
    }

    /// Refuses default paths that need a missing home directory or working directory (`invalid_argument`). Looks nothing up.
    pub fn refuse_missing(&self, given: Option<&Path>) -> Result<()> {
        let configured = set(self.state_dir.as_deref());
        let state_dir = given.map_or_else(
            || configured.map_or_else(|| self.home_dir(), |configured| self.expand(configured, &self.home_dir())),
            Path::to_owned,
        );
        if state_dir.is_absolute() && self.main_agent_dir(&state_dir).is_absolute() {
            return Ok(());
        }
        let what = match (self.os_home.as_os_str().is_empty(), self.working_dir.as_os_str().is_empty()) {
            (true, _) => "this user has no home directory to keep the state directory in",
            (_, true) => "the working directory is gone, and a variable names a directory relative to it",
            _ => "a directory that a variable names is not absolute",
        };
        let message = format!("{what}; give stateDir, or set OPENCLAW_STATE_DIR to an absolute path");
        Err(Error::new(Code::InvalidArgument, message))
    }

    /// Refuses a default state directory that does not exist, for a call that names only an agent's directory outside it: a
    /// program without OpenClaw would have its locks where its user never looks.
    pub fn refuse_made_up(&self, agent_dir: &Path) -> Result<()> {
        let state_dir = self.state_dir();
        let is_configured = set(self.state_dir.as_deref()).is_some();
        if is_configured || state_dir.exists() || agent_dir.starts_with(&state_dir) {
            return Ok(());
        }
        let message = "an agent's directory was given without stateDir, and OpenClaw's state directory does not exist here; give \
                       stateDir as well, the same in every process";
        Err(Error::at(Code::InvalidArgument, &state_dir, message))
    }

    fn home_dir(&self) -> PathBuf {
        let plain = || {
            set(self.home.as_deref())
                .or_else(|| set(self.user_profile.as_deref()))
                .map_or_else(|| self.os_home.clone(), |home| normalise(&self.working_dir.join(home)))
        };
        match set(self.openclaw_home.as_deref()) {
            Some(configured) => self.expand(configured, &plain()),
            None => plain(),
        }
    }

    /// Resolves a path from a variable: a leading `~` is `home`, a relative path starts at the working directory.
    fn expand(&self, path: &str, home: &Path) -> PathBuf {
        let path = match path.strip_prefix('~') {
            Some("") => home.to_owned(),
            Some(rest) if rest.starts_with(['/', '\\']) => home.join(rest.trim_start_matches(['/', '\\'])),
            _ => self.working_dir.join(path),
        };
        normalise(&path)
    }
}

/// A variable's value, trimmed; blank, `undefined` and `null` as text count as unset.
fn set(value: Option<&str>) -> Option<&str> {
    value.map(ecma::trim).filter(|value| !matches!(*value, "" | "undefined" | "null"))
}

/// Takes `.` and `..` out of an absolute path, as text: nothing is looked up.
#[must_use]
pub fn normalise(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                normal.pop();
            }
            other => normal.push(other),
        }
    }
    normal
}

/// The path with the symbolic links of its directories resolved, as far as they exist: one lock, one name.
#[must_use]
pub fn canonical(path: &Path) -> PathBuf {
    let (mut missing, mut existing) = (Vec::new(), path);
    while let (Some(parent), Some(name)) = (existing.parent(), existing.file_name()) {
        missing.push(name);
        if let Ok(parent) = crate::disk::real_directory(parent) {
            return missing.iter().rev().fold(parent, |path, name| path.join(name));
        }
        existing = parent;
    }
    path.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(home: &Path) -> Environment {
        Environment { os_home: home.to_owned(), working_dir: PathBuf::from("/cwd"), ..Environment::default() }
    }

    fn string(text: &str) -> String {
        text.to_owned()
    }

    #[test]
    fn the_state_directory_follows_openclaws_order() {
        let home = tempfile::tempdir().expect("temporary directory");
        let home = home.path();
        let mut env = environment(home);
        assert_eq!(env.state_dir(), home.join(".openclaw"));
        std::fs::create_dir(home.join(".clawdbot")).expect("mkdir");
        assert_eq!(env.state_dir(), home.join(".clawdbot"));
        std::fs::create_dir(home.join(".openclaw")).expect("mkdir");
        assert_eq!(env.state_dir(), home.join(".openclaw"));
        env.home = Some(string("/h"));
        assert_eq!(env.state_dir(), Path::new("/h/.openclaw"));
        env.openclaw_home = Some(string("~/oc"));
        assert_eq!(env.state_dir(), Path::new("/h/oc/.openclaw"));
        env.state_dir = Some(string("  ~/state/../s "));
        assert_eq!(env.state_dir(), Path::new("/h/oc/s"));
        env.state_dir = Some(string("relative"));
        assert_eq!(env.state_dir(), Path::new("/cwd/relative"));
        for unset in ["", "  ", "undefined", "null"] {
            env.state_dir = Some(string(unset));
            assert_eq!(env.state_dir(), Path::new("/h/oc/.openclaw"));
        }
    }

    #[test]
    fn the_main_agents_directory_follows_openclaws_order() {
        let mut env = environment(Path::new("/h"));
        assert_eq!(env.main_agent_dir(Path::new("/s")), Path::new("/s/agents/main/agent"));
        env.pi_agent_dir = Some(string("/pi"));
        assert_eq!(env.main_agent_dir(Path::new("/s")), Path::new("/pi"));
        env.agent_dir = Some(string("~/agent"));
        assert_eq!(env.main_agent_dir(Path::new("/s")), Path::new("/h/agent"));
    }

    #[test]
    fn what_is_not_needed_may_be_missing() {
        let mut env = Environment::default();
        let refused = |env: &Environment| env.refuse_missing(None).expect_err("refused");
        assert_eq!(refused(&env).code, Code::InvalidArgument);
        assert!(refused(&env).message.contains("no home directory"));
        assert!(env.refuse_missing(Some(Path::new("/s"))).is_ok());
        env.os_home = PathBuf::from("/h");
        assert!(env.refuse_missing(None).is_ok());
        env.home = Some(string("relative"));
        assert!(refused(&env).message.contains("the working directory is gone"));
        (env.home, env.os_home) = (Some(string("/h")), PathBuf::new());
        assert!(env.refuse_missing(None).is_ok());
        env.home = None;
        env.state_dir = Some(string("/s"));
        env.agent_dir = Some(string("/a"));
        assert!(env.refuse_missing(None).is_ok());
        env.agent_dir = Some(string("~/a"));
        assert!(env.refuse_missing(None).is_err());
        env.state_dir = Some(string("s"));
        env.agent_dir = None;
        assert!(env.refuse_missing(None).is_err());
    }

    #[test]
    fn a_state_directory_is_not_made_up_beside_an_agents_directory() {
        let home = tempfile::tempdir().expect("temporary directory");
        let mut env = environment(home.path());
        let error = env.refuse_made_up(Path::new("/agent")).expect_err("refused");
        assert_eq!((error.code, error.path), (Code::InvalidArgument, Some(home.path().join(".openclaw"))));
        assert!(error.message.contains("give stateDir"), "{}", error.message);
        assert!(env.refuse_made_up(&home.path().join(".openclaw/agents/a/agent")).is_ok());
        env.state_dir = Some(string("/s"));
        assert!(env.refuse_made_up(Path::new("/agent")).is_ok());
        env.state_dir = None;
        std::fs::create_dir(home.path().join(".openclaw")).expect("mkdir");
        assert!(env.refuse_made_up(Path::new("/agent")).is_ok());
    }
}
