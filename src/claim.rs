//! Claims: a host that asks the provider by itself takes the credential out of its stores meanwhile, and puts it on record here.
//!
//! A claim has two files beside its key's lock file, for as long as it lasts: `<base>.claim-<id>`, a lock file that its owner
//! holds, and `<base>.claim-<id>.record`, private, with the credential. Other processes wait for that lock. If there is no
//! record once the lock is free, the owner has settled the claim. If there is one, the owner is dead, by the kernel's word, and
//! the process that holds the lock now owns the claim: it puts the credential back, and if it dies too, the next one does.
//!
//! A claim's id is used once. So its lock file, unlike others, is removed with the claim.

use crate::clock::Clock;
use crate::credential::Credential;
use crate::digest::Digest;
use crate::disk::{self, Readers, exclusive, temporary_beside};
use crate::error::{Code, Error, Result};
use crate::journal::MAX_CREDENTIAL_BYTES;
use crate::journal::record::Sealed;
use crate::lock::{self, Guard, Target};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// More than a record can have.
const MAX_RECORD_BYTES: u64 = 4 * MAX_CREDENTIAL_BYTES as u64;

/// A claim, held: its record is on disk. Dropping it without [`Claim::settle`] leaves the record to the processes that wait.
#[derive(Debug)]
pub struct Claim {
    guard: Guard,
    credential: Credential,
    may_probe: bool,
}

/// What an owner puts on record.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClaimFile {
    /// What the host calls the refresh token of the credential; no secret.
    generation: String,
    credential: Sealed,
    may_probe: bool,
}

/// Where the files of a claim lie.
#[derive(Debug, Clone)]
pub struct ClaimFiles {
    /// The lock base of its key.
    base: PathBuf,
    lock_file: PathBuf,
}

impl ClaimFiles {
    /// Those of the claim with this id.
    #[must_use]
    pub fn new(base: &Path, id: &str) -> Self {
        let suffix = format!(".claim-{}", &Digest::of(&[id.as_bytes()]).to_hex()[..32]);
        Self { base: base.to_owned(), lock_file: disk::with_suffix(base, &suffix) }
    }

    /// The lock that the claim's owner holds.
    #[must_use]
    pub fn lock_file(&self) -> &Path {
        &self.lock_file
    }

    /// Whether there is a record of the claim.
    pub fn is_on_record(&self) -> Result<bool> {
        let record = record_of(&self.lock_file);
        disk::exists(&record).map_err(|error| unusable("look for", &record, &error))
    }
}

impl Claim {
    /// Puts a credential on record, durably. What dead owners have left of the same generation is removed: this record has it.
    pub fn hold(
        files: &ClaimFiles,
        generation: &str,
        credential: Credential,
        may_probe: bool,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self> {
        let lock_file = files.lock_file();
        let sealed = Sealed::new(&credential);
        if sealed.journaled_bytes() > MAX_CREDENTIAL_BYTES {
            let message =
                format!("the credential of a claim must not be larger than {} KiB", MAX_CREDENTIAL_BYTES >> 10);
            return Err(Error::new(Code::InvalidArgument, message));
        }
        let used = || Error::at(Code::InvalidArgument, lock_file, "claimId was used before; give each claim its own");
        let guard = lock::try_acquire(&Target::claim(lock_file, clock))?.ok_or_else(used)?;
        if files.is_on_record()? {
            return Err(used());
        }
        let record = ClaimFile { generation: generation.to_owned(), credential: sealed, may_probe };
        if let Err(error) = record.write(&record_of(lock_file)) {
            let _ = clear(guard);
            return Err(error);
        }
        forget_dead(files, generation, clock);
        Ok(Self { guard, credential, may_probe })
    }

    /// The claim that its owner has left, by its lock; `None` if it was settled.
    pub fn left(guard: Guard) -> Result<Option<Self>> {
        let Some(record) = ClaimFile::read(&record_of(guard.base()))? else { return clear(guard).map(|()| None) };
        let path = record_of(guard.base());
        let credential = record.credential.open().ok_or_else(|| damaged(&path))?;
        Ok(Some(Self { guard, credential, may_probe: record.may_probe }))
    }

    /// The credential on record.
    #[must_use]
    pub fn credential(&self) -> &Credential {
        &self.credential
    }

    /// Whether its owner lets others ask the provider with it once more.
    #[must_use]
    pub fn may_probe(&self) -> bool {
        self.may_probe
    }

    /// Removes the record; all processes that wait hear of it.
    pub fn settle(self) -> Result<()> {
        clear(self.guard)
    }
}

impl ClaimFile {
    fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_vec(self).map(Zeroizing::new);
        let written = text.map_err(io::Error::other);
        let written = written.and_then(|text| {
            let _ = disk::replace(path, None, 0, &text, Readers::OwnerAlone, || true)?;
            disk::sync_parent(path)
        });
        written.map_err(|error| unusable("write", path, &error))
    }

    fn read(path: &Path) -> Result<Option<Self>> {
        let read = exclusive::read(path, MAX_RECORD_BYTES).map_err(|error| unusable("read", path, &error))?;
        let Some(text) = read.map(Zeroizing::new) else { return Ok(None) };
        serde_json::from_slice(&text).map(Some).map_err(|_| damaged(path))
    }
}

/// Removes all files of a claim, the lock file last: while it is there, the others are found.
fn clear(guard: Guard) -> Result<()> {
    let record = record_of(guard.base());
    for path in [&temporary_beside(&record, 0), &record, guard.base()] {
        disk::remove(path).map_err(|error| unusable("remove", path, &error))?;
    }
    drop(guard);
    Ok(())
}

/// Removes what owners that are gone have left of this generation, and what they had not finished. It can wait for the next time.
fn forget_dead(own: &ClaimFiles, generation: &str, clock: &Arc<dyn Clock>) {
    let prefix = disk::with_suffix(&own.base, ".claim-");
    let is_other = |path: &Path| {
        let id = path.as_os_str().as_encoded_bytes().strip_prefix(prefix.as_os_str().as_encoded_bytes());
        path != own.lock_file && id.is_some_and(|id| id.iter().all(u8::is_ascii_hexdigit))
    };
    // A claim with neither is just being made, by a process that is about to hold its lock.
    let is_left = |record: &Path| match ClaimFile::read(record) {
        Ok(Some(left)) => left.generation == generation,
        Ok(None) => disk::exists(&temporary_beside(record, 0)).unwrap_or(false),
        Err(_) => false,
    };
    let files = own.base.parent().and_then(|directory| disk::own_files(directory, is_other).ok());
    for lock_file in files.unwrap_or_default() {
        let record = record_of(&lock_file);
        if is_left(&record)
            && let Ok(Some(guard)) = lock::try_acquire(&Target::claim(&lock_file, clock))
            && is_left(&record)
        {
            let _ = clear(guard);
        }
    }
}

fn record_of(lock_file: &Path) -> PathBuf {
    disk::with_suffix(lock_file, ".record")
}

fn unusable(action: &str, path: &Path, error: &io::Error) -> Error {
    Error::io(Code::JournalUnusable, &format!("{action} the record of a claim"), path, error)
}

fn damaged(path: &Path) -> Error {
    Error::at(
        Code::JournalUnusable,
        path,
        "the record of a claim can't be understood; a newer release may have written it",
    )
}
