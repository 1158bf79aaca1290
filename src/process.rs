//! What can be told of a process by its id.

use std::cell::Cell;
use std::sync::OnceLock;

/// What a process id stands for, in our PID namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process {
    /// No process, or one that is dead and only not buried yet.
    Dead,
    /// A process.
    Alive {
        /// When it was started, in clock ticks since the boot; `None` where that can't be told.
        start_time: Option<u64>,
    },
}

impl Process {
    /// Looks a process up.
    #[must_use]
    pub fn of(pid: u32) -> Self {
        match Stat::of_pid(pid) {
            Some(Stat { state: 'Z' | 'X', .. }) => Self::Dead,
            Some(Stat { start_time, .. }) => Self::Alive { start_time },
            // There may be no /proc, or one that hides other users' processes.
            None if exists(pid) => Self::Alive { start_time: None },
            None => Self::Dead,
        }
    }
}

/// The age, in milliseconds, of a process with this start time.
#[must_use]
#[cfg(target_os = "linux")]
#[allow(clippy::cast_precision_loss, reason = "a boot lasts less than 2^52 ticks")]
pub fn age_ms(start_time: u64) -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    // `/proc` counts in hundredths of a second on every architecture.
    now.tv_sec as f64 * 1000.0 + now.tv_nsec as f64 / 1_000_000.0 - start_time as f64 * 10.0
}

/// How long a process has been there that was started then: long enough.
#[must_use]
#[cfg(not(target_os = "linux"))]
pub fn age_ms(_start_time: u64) -> f64 {
    f64::INFINITY
}

/// This process's PID namespace.
#[must_use]
pub fn own_pid_namespace() -> Option<u64> {
    Myself::now().pid_namespace
}

/// Whether `/proc` shows every process of this host: it is that of the first PID namespace, and so are we.
#[must_use]
pub fn sees_all() -> bool {
    /// `PROC_PID_INIT_INO` of `linux/proc_ns.h`.
    const FIRST: u64 = 0xEFFF_FFFC;
    own_pid_namespace() == Some(FIRST) && is_own_proc()
}

/// Whether `/proc` is that of our PID namespace.
fn is_own_proc() -> bool {
    let own = std::fs::read_link("/proc/self").ok();
    own.is_some_and(|own| own.to_str() == Some(std::process::id().to_string().as_str()))
}

/// What does not change while this process lives.
#[derive(Debug, Clone, Copy)]
pub struct Myself {
    /// Its process id, in its own PID namespace.
    pub pid: u32,
    /// When it was started, in clock ticks since the boot.
    pub start_time: Option<u64>,
    /// That PID namespace.
    pub pid_namespace: Option<u64>,
}

impl Myself {
    /// This process. Asked once: Node forks no process that goes on without `exec`.
    #[must_use]
    pub fn now() -> Self {
        static KNOWN: OnceLock<Myself> = OnceLock::new();
        *KNOWN.get_or_init(|| Self {
            pid: std::process::id(),
            start_time: Stat::of("self").and_then(|stat| stat.start_time),
            pid_namespace: pid_namespace(),
        })
    }
}

thread_local! {
    /// The user that [`as_one_user`] has asked for.
    static USER: Cell<Option<u32>> = const { Cell::new(None) };
}

/// The user whose files are ours: the process's effective one.
#[must_use]
#[cfg(unix)]
pub fn user() -> u32 {
    USER.get().unwrap_or_else(ask_for_user)
}

/// Does some work, for which the system is asked once which user's it is. A program may become another user between two calls.
pub fn as_one_user<T>(work: impl FnOnce() -> T) -> T {
    /// Also after a panic.
    struct Before(Option<u32>);
    impl Drop for Before {
        fn drop(&mut self) {
            USER.set(self.0);
        }
    }
    let before = USER.get();
    let _before = Before(before);
    #[cfg(unix)]
    USER.set(Some(before.unwrap_or_else(ask_for_user)));
    work()
}

#[cfg(unix)]
fn ask_for_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn pid_namespace() -> Option<u64> {
    let link = std::fs::read_link("/proc/self/ns/pid").ok()?;
    link.to_str()?.strip_prefix("pid:[")?.strip_suffix(']')?.parse().ok()
}

/// The command of a process, as the kernel names it.
#[must_use]
pub fn command(pid: u32) -> Option<String> {
    let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(comm.trim_end().to_owned())
}

/// What of `/proc/<pid>/stat` concerns us.
struct Stat {
    state: char,
    start_time: Option<u64>,
}

impl Stat {
    fn of(pid: &str) -> Option<Self> {
        // The command may not be text, and its 15 bytes may end within a character.
        Self::parse(&String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/stat")).ok()?))
    }

    /// `None` also if /proc is another PID namespace's, where the same id is another process.
    fn of_pid(pid: u32) -> Option<Self> {
        is_own_proc().then(|| Self::of(&pid.to_string()))?
    }

    fn parse(stat: &str) -> Option<Self> {
        // The second field is the command in parentheses, which may hold anything, also parentheses.
        let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        // Field 22; the state is field 3.
        Some(Self { state, start_time: fields.nth(18)?.parse().ok() })
    }
}

#[cfg(unix)]
fn exists(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    // One that we may not send signals to is there too.
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

#[cfg(windows)]
fn exists(pid: u32) -> bool {
    use winsafe::{HPROCESS, co};
    /// The exit code of a process that goes on; a dead one is there for as long as any process has it open.
    const STILL_ACTIVE: u32 = 259;
    match HPROCESS::OpenProcess(co::PROCESS::QUERY_LIMITED_INFORMATION, false, pid) {
        Ok(process) => !matches!(process.GetExitCodeProcess(), Ok(code) if code != STILL_ACTIVE),
        // What we may not look at is there too.
        Err(error) => error != co::ERROR::INVALID_PARAMETER,
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_process_is_alive_until_it_ends_and_dead_also_as_a_zombie() {
        let mut child = Command::new("sleep").arg("1000").spawn().expect("a child");
        let pid = child.id();
        let Process::Alive { start_time: Some(started) } = Process::of(pid) else { panic!("it is alive") };
        assert!(Myself::now().start_time.is_some_and(|own| own <= started));
        child.kill().expect("killed");
        let is_zombie = || Stat::of(&pid.to_string()).is_some_and(|stat| stat.state == 'Z');
        while !is_zombie() {
            std::thread::yield_now();
        }
        assert_eq!(Process::of(pid), Process::Dead);
        child.wait().expect("buried");
        assert_eq!(Process::of(pid), Process::Dead);
        assert_eq!(Process::of(0), Process::Dead);
        assert_eq!(Process::of(u32::MAX), Process::Dead);
    }

    #[test]
    fn a_command_may_end_within_a_character() {
        let directory = tempfile::tempdir().expect("a directory");
        let program = directory.path().join("fourteen-bytesé");
        std::os::unix::fs::symlink("/bin/sleep", &program).expect("a link");
        let mut child = Command::new(&program).arg("1000").spawn().expect("a child");
        let found = Process::of(child.id());
        child.kill().expect("killed");
        child.wait().expect("buried");
        assert!(matches!(found, Process::Alive { start_time: Some(_) }), "{found:?}");
    }

    #[test]
    fn a_command_may_look_like_other_fields() {
        let stat = Stat::parse("7 (a) Z 1 (b) R 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20").expect("parsed");
        assert_eq!((stat.state, stat.start_time), ('R', Some(4242)));
    }
}
