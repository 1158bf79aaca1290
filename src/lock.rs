//! The lock of a key, of a store, or of the claims: one owner at a time, across processes, threads and containers.
//!
//! An owner holds the kernel's lock on the current term's lock file ([`term`]), and where other programs know the lock
//! ([`Target`]) also the [`Sidecar`] that OpenClaw's own lock respects. Among our own processes the kernel's lock counts: they wait for
//! it without polling, and it is free the moment its holder dies. They poll only for a foreign sidecar.
//!
//! A free lock is taken on the caller's thread. For a taken one, one thread per lock ([`queue`]) waits and serves
//! this process's waiters in the order they came. One more thread, for all locks of the process, sleeps until an owner is
//! stuck: until it has held its lock for longer than its record in the lock file allows.

pub mod file_system;
mod foreign;
pub mod holder;
mod kernel;
pub mod observe;
pub mod private_dir;
mod queue;
pub mod sidecar;
mod target;
pub mod term;

pub use queue::{Ticket, Woken};
pub use target::{REFRESH_STALE, Target};

use crate::disk::{self, Sharing};
use crate::error::{Code, Error, Result};
use file_system::Warning;
use holder::Holder;
use kernel::KernelLock;
use sidecar::{Foreign, Observer, Place, Sidecar};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

/// Where the sidecar of a key lies.
#[must_use]
pub fn sidecar_path(base: &Path) -> PathBuf {
    disk::with_suffix(base, ".lock")
}

/// The lock, held. Dropping it releases the sidecar, then the kernel's lock.
#[derive(Debug)]
pub struct Guard {
    /// `None` if it needs none ([`Target`]); if its directory is not there yet, so that no other process can have one in it; or
    /// if the disk is full.
    sidecar: Option<Sidecar>,
    kernel: KernelLock,
    target: Target,
    term: u32,
    /// When it was taken, as the record in the lock file says.
    since: f64,
}

/// Something that people should know of how a lock was got.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// The file system's locks are not to be relied on. Told once.
    Warned(Warning),
    /// The lock was reclaimed from an owner that is dead, past the limit, or stuck.
    Reclaimed(Foreign),
}

impl Guard {
    /// The caller has signed the lock file, and then seen that the term is still the current one.
    fn new(target: &Target, term: u32, kernel: KernelLock, sidecar: Option<Sidecar>, since: f64) -> Self {
        Self { sidecar, kernel, target: target.clone(), term, since }
    }

    /// The lock base.
    #[must_use]
    pub fn base(&self) -> &Path {
        &self.target.base
    }

    /// Its term.
    #[must_use]
    pub fn term(&self) -> u32 {
        self.term
    }

    /// Whether no peer has taken over from us. If the disk does not tell, a peer may have: then `false`.
    #[must_use]
    pub fn is_current(&self) -> bool {
        matches!(term::has_begun(&self.target.base, self.term + 1), Ok(false))
    }

    /// Whether OpenClaw's own lock is kept out. On a full disk no sidecar can be published: what a previous owner has
    /// received can be served and saved even so, but the provider must not be asked.
    #[must_use]
    pub fn has_sidecar(&self) -> bool {
        self.sidecar.is_some()
    }

    /// Restarts the age by which others may take us for stuck, if that can be written. The time when we took the lock stays: it
    /// identifies our sidecar.
    pub fn heartbeat(&self) {
        let _ =
            self.kernel.sign(&Holder { since: self.since, ..Holder::me(&*self.target.clock, self.target.own_stale) });
    }

    /// What people should know of how we got it. The first caller in this process that asks gets a warning.
    #[must_use]
    pub fn notices(&self) -> Vec<Notice> {
        let warning = self.target.base.parent().and_then(kernel::take_warning).map(Notice::Warned);
        let reclaimed = self.sidecar.as_ref().and_then(Sidecar::reclaimed).cloned().map(Notice::Reclaimed);
        warning.into_iter().chain(reclaimed).collect()
    }

    /// Makes sure that our sidecar is where it belongs: OpenClaw's first releases may delete it while we hold it.
    pub fn recheck_sidecar(&mut self) -> Result<Recheck> {
        if let Some(sidecar) = &self.sidecar {
            match sidecar.check()? {
                sidecar::Possession::Ours => return Ok(Recheck::Kept),
                sidecar::Possession::Foreign => return Ok(Recheck::Lost),
                sidecar::Possession::Gone => {}
            }
        }
        match try_publish(&self.target, self.term, &self.kernel, &mut self.target.observer())? {
            Attempt::Held(sidecar) => {
                self.sidecar = sidecar;
                Ok(Recheck::Renewed)
            }
            Attempt::InTheWay => Ok(Recheck::Lost),
            Attempt::NoRoom(error) => Err(error),
        }
    }
}

/// What has become of a sidecar that was held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recheck {
    /// It has been there all the time.
    Kept,
    /// It was gone, and is there again. Another process may have held the lock meanwhile.
    Renewed,
    /// Another process's is there.
    Lost,
}

/// What [`acquire`] found.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "it is moved once")]
pub enum Acquire {
    /// The lock was free.
    Held(Guard),
    /// Another holder has it. The callback will be called once, unless the caller leaves the line ([`Ticket::leave`]).
    Waiting(Ticket),
}

/// Takes the lock if it is free and no other caller in this process was first, else stands in line: `wake` is then called with the
/// lock on another thread. A caller that no longer wants it drops the guard.
pub fn acquire(target: &Target, wake: impl FnOnce(Result<Guard>) + Send + 'static) -> Result<Acquire> {
    acquire_or_look(target, false, |woken| {
        if let Woken::Lock(lock) = woken {
            wake(lock);
        }
    })
}

/// The same for a caller that `looks`: when the owner lets go of the lock, all of these are woken at once, in all processes, without
/// it. One that then finds nothing comes back.
pub fn acquire_or_look(target: &Target, looks: bool, wake: impl FnOnce(Woken) + Send + 'static) -> Result<Acquire> {
    if let Some(guard) = try_acquire(target)? {
        return Ok(Acquire::Held(guard));
    }
    queue::join(target, looks, Box::new(wake)).map(Acquire::Waiting)
}

/// Takes the lock if it is free and no other caller in this process was first.
pub fn try_acquire(target: &Target) -> Result<Option<Guard>> {
    if queue::is_waited_for(&target.base) {
        return Ok(None);
    }
    let mut term = term::supposed(&target.base)?;
    loop {
        let guard = try_term(target, term)?;
        if guard.is_some() {
            return Ok(guard);
        }
        match term::later(&target.base, term)? {
            Some(later) => term = later,
            None => return Ok(None),
        }
    }
}

/// The same for this term, if that is the current one.
fn try_term(target: &Target, term: u32) -> Result<Option<Guard>> {
    let Some(kernel) = KernelLock::try_take(&term::lock_file(&target.base, term))? else { return Ok(None) };
    // Before we look: a peer that begins the next term reads afterwards that we are not stuck, and waits for us.
    let since = target.clock.now_ms();
    sign(target, &kernel, since)?;
    let sidecar = match try_publish(target, term, &kernel, &mut target.observer())? {
        Attempt::Held(sidecar) => sidecar,
        Attempt::NoRoom(error) => {
            go_without(target, &kernel, error)?;
            None
        }
        Attempt::InTheWay => return Ok(None),
    };
    Ok(Some(Guard::new(target, term, kernel, sidecar, since)).filter(Guard::is_current))
}

/// Goes on without a sidecar if that can be done.
fn go_without(target: &Target, kernel: &KernelLock, no_room: Error) -> Result<()> {
    if target.goes_without && kernel.excludes() { Ok(()) } else { Err(no_room) }
}

/// Signs the lock file for as long as we publish the sidecar. If we get stuck over that, a peer may take over from us, whatever we
/// want the lock for; so we look afterwards whether one has. Returns when we got the lock, as others are told.
fn sign_while_publishing(target: &Target, kernel: &KernelLock) -> f64 {
    let holder = Holder::me(&*target.clock, Some(target.foreign_stale));
    // A lock without a record is a lock all the same.
    let _ = kernel.sign(&holder);
    holder.since
}

/// Signs the lock file now that we hold everything: from when on a peer may take over from us. `since` is not later than our
/// sidecar, and identifies it.
fn sign(target: &Target, kernel: &KernelLock, since: f64) -> Result<()> {
    match kernel.sign(&Holder { since, ..Holder::me(&*target.clock, target.own_stale) }) {
        // The record of our wait for the sidecar, or none, would have us taken over from.
        Err(error) if target.own_stale.is_none() => {
            Err(Error::io(Code::LockUnavailable, "sign the lock file", &target.base, &error))
        }
        _ => Ok(()),
    }
}

/// What became of the attempt to publish our sidecar.
enum Attempt {
    /// It is there; `None` if it needs none, or its directory is not there.
    Held(Option<Sidecar>),
    InTheWay,
    /// The disk is full, and no other sidecar is in the way.
    NoRoom(Error),
}

/// Publishes our sidecar, if it needs one, unless another is in the way. The caller holds the kernel's lock of this term.
fn try_publish(target: &Target, term: u32, kernel: &KernelLock, observer: &mut Observer) -> Result<Attempt> {
    let is_beside = target.sidecar.parent() == target.base.parent();
    let is_nowhere = || !is_beside && target.sidecar.parent().is_some_and(|directory| !directory.exists());
    if !target.has_public_sidecar && kernel.excludes() {
        return Ok(Attempt::Held(None));
    }
    // The sidecar of an owner that was taken over from is still there; its process may well be alive. One that got the
    // lock just before, and is not stuck, is waited for.
    let is_outdated = |foreign: &Foreign| {
        // Containers are started together, and virtual machines always in the same way: its process may have the id and the
        // start time of one of ours, even our own.
        let is_gone = |gone: &&Holder| gone.is_elsewhere() || gone.is_of_another_boot(&*target.clock);
        let left = kernel.predecessor().filter(is_gone).is_some_and(|gone| foreign.is_of(gone));
        left || (0..term).any(|term| {
            let holder = Holder::of(&target.base, term).filter(|holder| foreign.is_of(holder));
            holder.is_some_and(|holder| holder.is_stale(&*target.clock) || target.is_free(term).unwrap_or(false))
        })
    };
    let place = Place {
        path: &target.sidecar,
        kept: kernel.is_sole().then(|| sidecar::kept_path(&term::lock_file(&target.base, term))),
        sharing: if is_beside { kernel.sharing() } else { Sharing::Private },
    };
    match Sidecar::try_publish(&place, target.foreign_stale, observer, &is_outdated) {
        Ok(sidecar::Attempt::Held(sidecar)) => Ok(Attempt::Held(Some(sidecar))),
        Ok(_) | Err(_) if is_nowhere() => Ok(Attempt::Held(None)),
        Ok(sidecar::Attempt::InTheWay(_)) => Ok(Attempt::InTheWay),
        Err(error) if error.is_for_want_of_room() => Ok(Attempt::NoRoom(error)),
        Err(error) => Err(error),
    }
}

/// Takes the lock, blocking this thread for `patience` at most. For threads of ours only, never for Node's.
pub fn acquire_blocking(target: &Target, patience: Duration) -> Result<Guard> {
    let (sender, receiver) = mpsc::channel();
    let ticket = match acquire(target, move |lock| drop(sender.send(lock)))? {
        Acquire::Held(guard) => return Ok(guard),
        Acquire::Waiting(ticket) => ticket,
    };
    receiver.recv_timeout(patience).unwrap_or_else(|_| {
        // If the lock is on its way, the callback's receiver is gone and the guard is dropped there.
        let _ = ticket.leave();
        Err(target.timed_out())
    })
}

/// An earlier term whose owner is gone; while it is held, none can come back to it.
#[derive(Debug)]
pub struct Ended(#[allow(dead_code, reason = "held, not used")] KernelLock);

impl Ended {
    /// Of a key. `None` if its owner is still there.
    pub fn term(base: &Path, term: u32) -> Result<Option<Self>> {
        Ok(try_take(base, &sidecar_path(base), term)?.map(Self))
    }
}

/// Whether no process holds a key's lock of this term, by taking it for an instant. That may have changed by the time it is told.
pub fn is_free(base: &Path, term: u32) -> Result<bool> {
    Ok(Ended::term(base, term)?.is_some())
}

/// Takes the kernel's lock of a term if it is free. Where that excludes no process, the sidecar tells whether one holds it.
fn try_take(base: &Path, sidecar: &Path, term: u32) -> Result<Option<KernelLock>> {
    let lock = KernelLock::try_take(&term::lock_file(base, term))?;
    Ok(lock.filter(|lock| lock.excludes() || Foreign::at(sidecar).is_none()))
}
