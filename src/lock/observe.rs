//! A lock's holder, seen from outside: without trying an exclusive lock, making or writing anything.
//!
//! | | |
//! |---|---|
//! | Linux | the kernel's list, `/proc/locks`: its entries for the lock file's inode |
//! | where that does not tell: other systems, another PID namespace's holder, a remote file system | the shared lock, for an instant |
//! | on remote file systems, or without locks, also | the sidecar of the process that signed the lock file last, while it lives |

use super::{kernel, term};
use crate::disk::{self, Sharing};
use crate::error::{Code, Error, Result};
use crate::lock::file_system::FileSystemType;
use crate::lock::holder::Holder;
use crate::lock::sidecar::Foreign;
use crate::process;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// A list that is shorter than this comes in one piece, as it is at one moment. A longer one is read by pages, and while it changes it
/// may lack a lock that is held all the time.
const AT_ONCE_BYTES: usize = 4096 - 256;

/// The kernel's list of locks.
#[derive(Debug)]
pub struct Locks {
    /// `None` where the kernel has no such list.
    list: Option<String>,
    /// Whether it shows the locks of every process.
    #[cfg_attr(not(unix), allow(dead_code, reason = "only Linux has such a list"))]
    is_whole: bool,
}

/// How a lock looks.
#[derive(Debug, Default)]
pub struct Sight {
    /// Whether a process holds it.
    pub is_held: bool,
    /// The last process that signed its file: the holder, if it is held.
    pub signed: Option<Holder>,
    /// How many wait for it; `None` where that can't be told.
    pub waiters: Option<usize>,
}

/// What the list says of one file.
#[derive(Debug, PartialEq, Eq)]
#[cfg_attr(not(unix), allow(dead_code, reason = "only Linux has such a list"))]
enum Told {
    Held { waiters: usize },
    Free,
    Nothing,
}

impl Locks {
    /// Reads the list.
    #[must_use]
    pub fn now() -> Self {
        let list = if cfg!(target_os = "linux") { read("/proc/locks").ok() } else { None };
        Self { list, is_whole: process::sees_all() }
    }

    /// Looks at a lock file.
    ///
    /// # Errors
    /// [`Code::LockUnavailable`] if it is one that no owner would take, or can't be read.
    pub fn look(&self, lock_file: &Path, sharing: Sharing) -> Result<Sight> {
        let file = match disk::open_to_look(lock_file, sharing) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Sight { waiters: self.list.as_ref().map(|_| 0), ..Sight::default() });
            }
            Err(error) => return Err(Error::io(Code::LockUnavailable, "look at the lock file", lock_file, &error)),
        };
        let signed = Holder::read_from(&file);
        let (is_held, waiters) = match self.tell(&file, signed.as_ref()) {
            Told::Held { waiters } => (true, Some(waiters)),
            Told::Free => (false, Some(0)),
            Told::Nothing => {
                let is_free = kernel::is_free(&file);
                let is_final = is_free.is_ok() && FileSystemType::of(&file).is_none_or(|kind| kind.is_local);
                let has_sidecar = || signed.as_ref().is_some_and(|signed| has_sidecar(lock_file, signed));
                (!is_free.unwrap_or(true) || (!is_final && has_sidecar()), None)
            }
        };
        Ok(Sight { is_held, signed, waiters })
    }

    #[cfg(target_os = "linux")]
    fn tell(&self, file: &File, signed: Option<&Holder>) -> Told {
        use std::os::unix::fs::MetadataExt;
        let (Some(list), Ok(found)) = (&self.list, file.metadata()) else { return Told::Nothing };
        let device = (rustix::fs::major(found.dev()), rustix::fs::minor(found.dev()));
        let pid = signed.filter(|signed| !signed.is_elsewhere()).map(|signed| signed.pid);
        match tell(list, device, found.ino(), pid) {
            // Remote holders are on no list; and of some overlays the list has other inode numbers.
            Told::Free => {
                let is_known = FileSystemType::of(file).is_some_and(|kind| kind.is_local && kind.name != "overlay");
                let is_so = || list.len() < AT_ONCE_BYTES || kernel::is_free(file).unwrap_or(false);
                if self.is_whole && is_known && is_so() { Told::Free } else { Told::Nothing }
            }
            told => told,
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn tell(&self, _file: &File, _signed: Option<&Holder>) -> Told {
        Told::Nothing
    }
}

/// Reads a list page by page: a first read of some bytes would take even a short one apart.
fn read(path: &str) -> io::Result<String> {
    let mut list = String::with_capacity(64 << 10);
    File::open(path)?.read_to_string(&mut list).map(|_| list)
}

/// Reads in a list such as
///
/// ```text
/// 1: FLOCK  ADVISORY  WRITE 4711 fe:00:123456 0 EOF
/// 1: -> FLOCK  ADVISORY  WRITE 4712 fe:00:123456 0 EOF
/// ```
///
/// A file system may show another device than `stat` does (btrfs): then the holder's process tells that the file is meant.
#[cfg(target_os = "linux")]
fn tell(list: &str, device: (u32, u32), inode: u64, holder: Option<u32>) -> Told {
    let (mut is_held, mut is_doubtful, mut waiters) = (false, false, 0);
    for line in list.lines() {
        let mut fields = line.split_ascii_whitespace().skip(1).peekable();
        let waits = fields.next_if_eq(&"->").is_some();
        let (Some("FLOCK"), Some(_), Some(mode), Some(pid), Some(place)) =
            (fields.next(), fields.next(), fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let mut place = place.split(':');
        let mut number = |radix| place.next().and_then(|part| u64::from_str_radix(part, radix).ok());
        let (Some(major), Some(minor), Some(found)) = (number(16), number(16), number(10)) else { continue };
        if found != inode {
            continue;
        }
        let is_same_device = (major, minor) == (device.0.into(), device.1.into());
        match waits {
            true => waiters += 1,
            // A process that has waited for the lock to be free lets go of it at once.
            false if mode != "WRITE" => {}
            false if is_same_device || pid.parse().ok() == holder => is_held = true,
            false => is_doubtful = true,
        }
    }
    match (is_held, is_doubtful) {
        (true, _) => Told::Held { waiters },
        (false, true) => Told::Nothing,
        (false, false) => Told::Free,
    }
}

/// Whether the process that signed a lock file lives, and has its sidecar there: an owner removes it before it lets the kernel's
/// lock go.
fn has_sidecar(lock_file: &Path, signed: &Holder) -> bool {
    let sidecar = Foreign::at(&super::sidecar_path(&term::of_lock_file(lock_file).0));
    !signed.is_elsewhere() && sidecar.is_some_and(|sidecar| sidecar.is_of(signed) && sidecar.is_alive())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock};
    use std::sync::Arc;

    #[test]
    fn the_list_tells_who_holds_and_waits_and_only_for_this_file() {
        let list = "1: FLOCK  ADVISORY  WRITE 4711 fe:00:17 0 EOF\n1: -> FLOCK  ADVISORY  WRITE 4712 fe:00:17 0 EOF\n\
                    2: FLOCK  ADVISORY  READ 4713 fe:00:18 0 EOF\n3: POSIX  ADVISORY  WRITE 4714 fe:00:19 0 EOF\n\
                    4: FLOCK  ADVISORY  WRITE 4715 00:2a:20 0 EOF\nnonsense\n5: FLOCK\n";
        let device = (0xfe, 0);
        assert_eq!(tell(list, device, 17, None), Told::Held { waiters: 1 });
        // Other processes that look hold the shared lock.
        assert_eq!(tell(list, device, 18, Some(4713)), Told::Free);
        assert_eq!(tell(list, device, 19, Some(4714)), Told::Free);
        assert_eq!(tell(list, device, 20, None), Told::Nothing);
        assert_eq!(tell(list, device, 20, Some(4715)), Told::Held { waiters: 0 });
        assert_eq!(tell("", device, 17, None), Told::Free);
    }

    #[test]
    fn a_look_sees_an_owner_and_no_other_look() {
        let directory = tempfile::tempdir().expect("a directory");
        let base = directory.path().canonicalize().expect("a path").join("locks").join("lock");
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let unlisted = Locks { list: None, is_whole: false };
        for locks in [|| Locks { list: None, is_whole: false }, Locks::now] {
            let guard = super::super::try_acquire(&super::super::Target::never_taken_over(&base, &clock))
                .expect("tried")
                .expect("free");
            let sight = locks().look(&base, Sharing::Private).expect("seen");
            assert!(sight.is_held);
            assert_eq!(sight.signed.map(|signed| signed.pid), Some(std::process::id()));
            drop(guard);
            let file = disk::open_to_look(&base, Sharing::Private).expect("opened");
            assert!(kernel::is_free(&file).expect("told"));
            assert!(!locks().look(&base, Sharing::Private).expect("seen").is_held);
        }
        let missing = unlisted.look(&base.with_file_name("missing"), Sharing::Private).expect("seen");
        assert!(!missing.is_held && missing.signed.is_none());
    }
}
