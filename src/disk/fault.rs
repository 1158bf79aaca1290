//! Faults on order: the n-th file operation fails, or the process dies there.
//!
//! A process takes its order from `OAUTH_REFRESH_LOCK_FAULT`, a thread from [`on_this_thread`]. An order is
//! `<n>:<fault>`, counting file operations from 1, or `<operation>#<n>:<fault>`, counting those of that name, or
//! `<operation>#<n>-<m>:<fault>` for several in a row, where the fault is `kill`, `stop`, `short` (a write that stops halfway),
//! `crash` (this and every later operation fails, as if the process were gone), `gone` (the same with `EIO`), `stall` (it takes
//! until a file exists at `OAUTH_REFRESH_LOCK_GO_ON`, as on a disk that hangs) or an errno.

use std::cell::RefCell;
use std::io;
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// Operations that count only where a test names them: other rules govern the wait for a process that stops at a record of the
/// holder; and a directory that is held open is one more look at it.
const BY_NAME_ONLY: [&str; 2] = ["sign", "hold"];

const STALL_PAUSE: Duration = Duration::from_millis(1);

/// What happens at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The process dies, as by `SIGKILL`.
    Kill,
    /// The process stops there, as by `SIGSTOP`, until a test has it go on.
    Stop,
    /// Half of the bytes are written, then the disk is full. At a point that writes nothing: `ENOSPC`.
    Short,
    /// This and every later operation fails, as if the process were gone.
    Crash,
    /// This and every later operation fails with `EIO`: the disk is gone, the process is not.
    Gone,
    /// The operation takes until the file that lets it go on is there.
    Stall,
    /// The operation fails with this errno.
    Errno(i32),
}

/// Counts operations and strikes at one of them.
#[derive(Debug, Default)]
struct Plan {
    /// Counts only operations of this name.
    operation: Option<String>,
    seen: usize,
    strike: Option<(usize, Fault)>,
    /// How often it strikes beyond the first time.
    again: usize,
}

thread_local! {
    static OF_THREAD: RefCell<Option<Plan>> = const { RefCell::new(None) };
}
static OF_PROCESS: Mutex<Option<Plan>> = Mutex::new(None);

/// This is the order for this thread's operations from now on.
pub fn order(strike: Option<(usize, Fault)>) {
    OF_THREAD.with(|plan| *plan.borrow_mut() = Some(Plan { strike, ..Plan::default() }));
}

/// Runs `work` with this order for this thread's operations; returns how many there were.
pub fn on_this_thread<T>(strike: Option<(usize, Fault)>, work: impl FnOnce() -> T) -> (T, usize) {
    order(strike);
    let result = work();
    let plan = OF_THREAD.with(|plan| plan.borrow_mut().take());
    (result, plan.map_or(0, |plan| plan.seen))
}

/// How many operations this process has made, not counting threads with an order of their own.
pub fn seen_by_process() -> usize {
    OF_PROCESS.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map_or(0, |plan| plan.seen)
}

/// Whether the kernel's locks exclude no process, as on a file system that only pretends.
pub(super) fn lock_lies() -> bool {
    static LIES: OnceLock<bool> = OnceLock::new();
    *LIES.get_or_init(|| std::env::var_os("OAUTH_REFRESH_LOCK_LIES").is_some())
}

/// Called before each file operation.
pub(super) fn point(operation: &str, path: &Path) -> io::Result<()> {
    write(operation, path, 0).map(|_| ())
}

/// Called before each write: how many of the bytes are to be written.
pub(super) fn write(operation: &str, path: &Path, bytes: usize) -> io::Result<usize> {
    let of_thread = OF_THREAD.with(|plan| plan.borrow_mut().as_mut().map(|plan| plan.pass(operation)));
    let fault = of_thread.unwrap_or_else(|| {
        OF_PROCESS
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert_with(Plan::of_environment)
            .pass(operation)
    });
    match fault {
        None => Ok(bytes),
        Some(Fault::Short) if bytes > 0 => Ok(bytes / 2),
        Some(Fault::Short) => Err(io::ErrorKind::StorageFull.into()),
        Some(Fault::Errno(errno)) => Err(io::Error::from_raw_os_error(errno)),
        Some(Fault::Gone) => Err(io::Error::from_raw_os_error(5)),
        Some(Fault::Crash) => Err(io::Error::other(format!("died at {operation} {}", path.display()))),
        Some(Fault::Stop) => {
            // To the thread, which stops all: the process might have another one take the signal, and this one run on.
            #[cfg(target_os = "linux")]
            let whom = rustix::thread::gettid();
            #[cfg(not(target_os = "linux"))]
            let whom = rustix::process::getpid();
            let _ = rustix::process::kill_process(whom, rustix::process::Signal::STOP);
            Ok(bytes)
        }
        Some(Fault::Stall) => {
            while std::env::var_os("OAUTH_REFRESH_LOCK_GO_ON").is_some_and(|file| !Path::new(&file).exists()) {
                std::thread::sleep(STALL_PAUSE);
            }
            Ok(bytes)
        }
        Some(Fault::Kill) => {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            loop {
                std::thread::park();
            }
        }
    }
}

impl Plan {
    fn of_environment() -> Self {
        std::env::var("OAUTH_REFRESH_LOCK_FAULT").ok().and_then(|order| parse(&order)).unwrap_or_default()
    }

    fn pass(&mut self, operation: &str) -> Option<Fault> {
        match &self.operation {
            Some(counted) if counted != operation => return None,
            None if BY_NAME_ONLY.contains(&operation) => return None,
            _ => {}
        }
        self.seen += 1;
        match self.strike {
            Some((at, fault)) if (at..=at + self.again).contains(&self.seen) => Some(fault),
            Some((at, fault @ (Fault::Crash | Fault::Gone))) if at < self.seen => Some(fault),
            _ => None,
        }
    }
}

fn parse(order: &str) -> Option<Plan> {
    let (at, fault) = order.split_once(':')?;
    let (operation, at) = match at.split_once('#') {
        Some((operation, at)) => (Some(operation.to_owned()), at),
        None => (None, at),
    };
    let fault = match fault {
        "kill" => Fault::Kill,
        "stop" => Fault::Stop,
        "short" => Fault::Short,
        "crash" => Fault::Crash,
        "gone" => Fault::Gone,
        "stall" => Fault::Stall,
        errno => Fault::Errno(errno.parse().ok()?),
    };
    let (first, last) = at.split_once('-').unwrap_or((at, at));
    let first: usize = first.parse().ok()?;
    let again = last.parse::<usize>().ok()?.checked_sub(first)?;
    Some(Plan { operation, seen: 0, strike: Some((first, fault)), again })
}
