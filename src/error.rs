//! What can go wrong, by stable code.
//!
//! A message says what happened, where, and what to do. No message and no field ever holds a secret: errors are built
//! from codes, paths and the operating system's words, never from the contents of a store.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The stable name of a failure. `index.d.ts` documents each for users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// An argument is of the wrong shape. Nothing was done.
    InvalidArgument,
    /// The wait for a lock ran out.
    FileLockTimeout,
    /// The lock file or its directory cannot be used; the path is that of the file or directory at fault.
    LockUnavailable,
    /// The refresh function's result is not a credential.
    InvalidRefreshResult,
    /// The refreshed credential belongs to another account, tenant or provider.
    IdentityMismatch,
    /// The stored profile belongs to another provider than the call.
    ProviderMismatch,
    /// A store could not be read.
    StoreUnreadable,
    /// A host's store is in use.
    StoreBusy,
    /// A store is torn, no JSON, or not of the known shape.
    StoreInvalid,
    /// A store is larger than 64 MiB.
    StoreTooLarge,
    /// A store could not be written.
    StoreUnwritable,
    /// A store was there when its refresh began, and is gone.
    StoreVanished,
    /// The agent keeps its credentials in SQLite.
    SqliteStore,
    /// A login or logout replaced the profile meanwhile.
    Superseded,
    /// The journal can't be read and written. The provider was not asked.
    JournalUnusable,
    /// A newer release wrote the journal.
    JournalVersion,
    /// The last call brought no token, and everyone keeps a pause.
    RefreshBackoff,
    /// The provider refused this generation for good.
    GrantDead,
    /// This generation was spent, and its successor is nowhere to be found.
    RefreshTokenSpent,
    /// Whether the provider has rotated is not known yet.
    RefreshUncertain,
    /// The provider answered, and the answer could be saved nowhere yet.
    ReceiptUnsaved,
    /// The token endpoint was not reached; nothing was sent.
    ProviderUnreachable,
    /// The token endpoint answered with an error.
    ProviderRefused,
    /// The token endpoint answered with something that is neither a token nor an error.
    ProviderAnswerInvalid,
    /// The request was sent, and no whole answer came back.
    ProviderAnswerLost,
    /// The call took too long.
    RefreshCallTimeout,
    /// The coordinator can't be asked, or what it holds can't be used. The provider was not asked.
    CoordinatorUnavailable,
    /// A defect of this package.
    Internal,
}

impl Code {
    /// The code as users see it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidArgument => "invalid_argument",
            Self::FileLockTimeout => "file_lock_timeout",
            Self::LockUnavailable => "lock_unavailable",
            Self::InvalidRefreshResult => "invalid_refresh_result",
            Self::IdentityMismatch => "identity_mismatch",
            Self::ProviderMismatch => "provider_mismatch",
            Self::StoreUnreadable => "store_unreadable",
            Self::StoreBusy => "store_busy",
            Self::StoreInvalid => "store_invalid",
            Self::StoreTooLarge => "store_too_large",
            Self::StoreUnwritable => "store_unwritable",
            Self::StoreVanished => "store_vanished",
            Self::SqliteStore => "sqlite_store",
            Self::Superseded => "superseded",
            Self::JournalUnusable => "journal_unusable",
            Self::JournalVersion => "journal_version",
            Self::RefreshBackoff => "refresh_backoff",
            Self::GrantDead => "grant_dead",
            Self::RefreshTokenSpent => "refresh_token_spent",
            Self::RefreshUncertain => "refresh_uncertain",
            Self::ReceiptUnsaved => "receipt_unsaved",
            Self::ProviderUnreachable => "provider_unreachable",
            Self::ProviderRefused => "provider_refused",
            Self::ProviderAnswerInvalid => "provider_answer_invalid",
            Self::ProviderAnswerLost => "provider_answer_lost",
            Self::RefreshCallTimeout => "refresh_call_timeout",
            Self::CoordinatorUnavailable => "coordinator_unavailable",
            Self::Internal => "internal",
        }
    }
}

/// The process that holds a lock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HolderProcess {
    /// Its process id.
    pub pid: u32,
    /// For how many milliseconds it has held the lock; `None` if that is not known.
    pub held_ms: Option<f64>,
}

/// A failure of ours.
#[derive(Debug, Clone)]
pub struct Error {
    /// Its stable name.
    pub code: Code,
    /// What happened, where, and what to do.
    pub message: String,
    /// The file or directory concerned.
    pub path: Option<PathBuf>,
    /// With [`Code::FileLockTimeout`]: the process that holds the lock.
    pub holder: Option<Box<HolderProcess>>,
    /// What kind of failure the operating system told, if it was one.
    pub kind: Option<io::ErrorKind>,
}

/// Shorthand.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A failure that concerns no file.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), path: None, holder: None, kind: None }
    }

    /// What a panic of ours becomes.
    #[must_use]
    pub fn defect() -> Self {
        Self::new(Code::Internal, "a defect in oauth-refresh-lock; please report it")
    }

    /// A failure at `path`; the message names it.
    pub fn at(code: Code, path: &Path, message: impl fmt::Display) -> Self {
        let message = format!("{message}: {}", path.display());
        Self { path: Some(path.to_owned()), ..Self::new(code, message) }
    }

    /// What the operating system said about `path` while we tried to `action` it.
    #[must_use]
    pub fn io(code: Code, action: &str, path: &Path, error: &io::Error) -> Self {
        Self { kind: Some(error.kind()), ..Self::at(code, path, format_args!("cannot {action} ({})", Cause(error))) }
    }

    /// Whether there was no room on the disk: what is there can be read and overwritten, and nothing can be added.
    #[must_use]
    pub fn is_for_want_of_room(&self) -> bool {
        matches!(self.kind, Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }
}

/// What the operating system said, and what to do about it.
struct Cause<'a>(&'a io::Error);

impl fmt::Display for Cause<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(error) = self;
        let text = error.to_string();
        // The number says the same as the words.
        let words = text.split_once(" (os error ").map_or(text.as_str(), |(words, _)| words);
        match remedy(error) {
            Some(remedy) => write!(f, "{words}; {remedy}"),
            None => f.write_str(words),
        }
    }
}

/// `None` for an error of our own, whose message has the remedy, and where mostly nothing can be done.
#[cfg(unix)]
fn remedy(error: &io::Error) -> Option<String> {
    use rustix::io::Errno;
    let told = match Errno::from_raw_os_error(error.raw_os_error()?) {
        Errno::ACCESS => {
            let user = rustix::process::geteuid().as_raw();
            return Some(format!(
                "this process has uid {user}; check its owner and mode, and those of the directories above it"
            ));
        }
        Errno::PERM => {
            "check with lsattr whether it or its directory is immutable or append-only; if not, a sandbox forbids it, or its file \
             system has no modes"
        }
        Errno::ROFS => "mount it writable, or keep it elsewhere",
        Errno::NOSPC => "make room: df and df -i show what is full",
        Errno::DQUOT => "make room, or raise this user's quota",
        Errno::NOTDIR => "a file stands where a directory is needed",
        Errno::LOOP => "its symbolic links lead in a circle",
        Errno::MFILE => "raise the number of open files (ulimit -n)",
        Errno::FBIG => "raise the size that a file may have (ulimit -f)",
        Errno::IO => "the disk fails: see the kernel's log",
        _ => return None,
    };
    Some(told.to_owned())
}

#[cfg(not(unix))]
fn remedy(_error: &io::Error) -> Option<String> {
    None
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.message, self.code.as_str())
    }
}

impl std::error::Error for Error {}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use rustix::io::Errno;

    fn told(error: &io::Error) -> String {
        Error::io(Code::StoreUnwritable, "write it", Path::new("/here"), error).message
    }

    #[test]
    fn what_the_operating_system_says_comes_with_what_to_do_and_without_its_number() {
        let remedies = [
            (Errno::ACCESS, "owner and mode"),
            (Errno::PERM, "append-only"),
            (Errno::ROFS, "writable"),
            (Errno::NOSPC, "df -i"),
            (Errno::DQUOT, "quota"),
            (Errno::NOTDIR, "a directory is needed"),
            (Errno::LOOP, "circle"),
            (Errno::MFILE, "ulimit -n"),
            (Errno::FBIG, "ulimit -f"),
            (Errno::IO, "kernel's log"),
        ];
        for (errno, remedy) in remedies {
            let error = io::Error::from(errno);
            let message = told(&error);
            let words = error.to_string();
            let words = words.split(" (os error").next().expect("words");
            assert!(message.starts_with(&format!("cannot write it ({words}; ")), "{message}");
            assert!(message.contains(remedy) && message.ends_with("): /here"), "{message}");
            assert!(!message.contains("os error"), "{message}");
        }
    }

    #[test]
    fn what_we_say_ourselves_stays_as_it_is() {
        let own = io::Error::new(io::ErrorKind::PermissionDenied, "it belongs to another user");
        assert_eq!(told(&own), "cannot write it (it belongs to another user): /here");
        assert_eq!(told(&Errno::NOENT.into()), "cannot write it (No such file or directory): /here");
    }
}
