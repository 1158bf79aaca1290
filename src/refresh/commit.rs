//! Bringing a received credential into the stores, by compare-and-swap on the generation that it replaces.

use super::Refresh;
use super::relation::{Relation, is_for_one_client, may_succeed};
use super::stored::StoreRole;
use crate::credential::Credential;
use crate::error::{Code, Error, Result};
use crate::journal::Journal;
use crate::journal::ledger::Ledger;
use crate::journal::record::{FailureRecord, Progress, Receipt, Record};
use crate::refresh::mirror::{self, Reason};
use crate::store::{Profile, Store, Unsynced};

/// What became of a received credential in the stores.
pub(super) struct Placed {
    /// In the store that held the spent one.
    pub(super) own: Result<Swap>,
    /// In the main store; `None` if that is the same.
    pub(super) main: Option<Result<Reason>>,
    /// What is to be done next.
    pub(super) commit: Commit,
}

/// Makes durable what the stores were given, and says so in the journal, which held it until then.
#[derive(Debug)]
#[must_use]
pub(super) struct Commit {
    unsynced: Vec<Unsynced>,
    /// What the journal is to say, if that changes.
    record: Option<Record>,
    /// Whether the stores hold it, so that the journal needs it no more.
    is_settled: bool,
}

impl Commit {
    /// What the journal is to say next, or else `now`.
    pub(super) fn record(&mut self, now: &Record) -> &mut Record {
        self.record.get_or_insert_with(|| now.clone())
    }

    /// Does it. Says whether the journal has it on record that the stores hold the credential.
    ///
    /// # Errors
    /// Why a store can't be made durable. The journal goes on holding the credential.
    pub(super) fn run(self, journal: &mut Journal) -> Result<bool> {
        let Some(record) = self.record else { return Ok(false) };
        if self.is_settled {
            // Durable before the wipe, or a power cut could leave neither.
            self.unsynced.iter().try_for_each(Unsynced::sync)?;
        }
        // Of what is only superseded this is a hint what may go first. Durable all the same: the next record takes the place of the
        // one before, and a power cut could tear both.
        let is_recorded = journal.write(record).is_ok() && self.is_settled;
        if is_recorded {
            let _ = journal.wipe_previous();
        }
        Ok(is_recorded)
    }
}

/// Why a store lacks it. A host's store that this caller was not given does not concern it; the receipt waits for a caller that
/// was.
fn not_saved(own: Result<Swap>, main: Option<Result<Reason>>, store: &Store) -> Option<Error> {
    let own = own.err().filter(|_| !matches!(store, Store::Elsewhere(_)));
    own.or(main.and_then(Result::err))
}

/// What a compare-and-swap found.
pub(super) enum Swap {
    /// The store holds the received credential, with what else it knew of the profile.
    Done(Credential),
    /// A login landed meanwhile, and wins.
    Superseded(Credential),
    /// The profile was logged out meanwhile, and stays so.
    LoggedOut,
}

/// A received credential that was found in the journal, and why a store could not take it yet.
pub(super) struct Recovered {
    pub(super) credential: Credential,
    pub(super) not_saved: Option<Error>,
}

impl Refresh {
    /// Brings a receipt into the stores. `record` is what the journal holds or, if its disk failed, should hold. `sent`: what this call
    /// itself has sent.
    pub(super) fn place(
        &self,
        record: &Record,
        receipt: &Receipt,
        received: &Credential,
        sent: Option<&Credential>,
    ) -> Placed {
        let (store, main_store) = (self.store_of(&receipt.origin.store), self.main_store());
        // Also one that held it already: an owner before us may have died before it synced.
        let mut unsynced = Vec::new();
        let own = self.swap(&store, received, receipt, (sent, &record.ledger), &mut unsynced);
        let is_in_own = matches!(own, Ok(Swap::Done(_)));
        let main = (main_store.path() != store.path())
            .then(|| self.mirror(received, receipt, record, is_in_own, &mut unsynced));
        let is_in_main = matches!(&main, Some(Ok(reason)) if reason.writes());
        let mut record = record.clone();
        let (record, is_settled) = match fate(&own, main.as_ref(), &store) {
            Fate::Settled(role) => {
                let holder = if role == StoreRole::Own { store.path() } else { main_store.path() };
                let may_be_lost = (is_in_own && !store.is_durable()) || (is_in_main && !main_store.is_durable());
                // A refresh token that the provider has not exchanged is as good when it comes back.
                let is_kept = may_be_lost && receipt.origin.generation != received.generation();
                record.settle_receipt(received.generation(), holder, is_kept);
                (Some(record), true)
            }
            Fate::Superseded if !receipt.superseded => {
                record.supersede_receipt(received.generation());
                (Some(record), false)
            }
            Fate::Superseded | Fate::Waits => (None, false),
        };
        Placed { own, main, commit: Commit { unsynced, record, is_settled } }
    }

    /// Finishes what previous owners had received, the latest last.
    pub(super) fn finish(&self, journal: &mut Journal) -> Vec<Recovered> {
        if journal.record().waiting().next().is_none() && journal.record().state == Progress::Committed {
            // The owner may have died before it could.
            let _ = journal.wipe_previous();
        }
        let receipts: Vec<_> = journal.record().waiting().cloned().collect();
        let finish = |receipt: &Receipt| {
            let credential = receipt.credential.open()?;
            let record = journal.record().clone();
            if receipt.superseded && !self.is_awaited(receipt, &credential, &record.ledger) {
                return Some(Recovered { credential, not_saved: None });
            }
            let Placed { own, main, commit } = self.place(&record, receipt, &credential, None);
            let unsynced = commit.run(journal).err();
            let not_saved = not_saved(own, main, &self.store_of(&receipt.origin.store)).or(unsynced);
            Some(Recovered { credential, not_saved })
        };
        receipts.iter().filter_map(finish).collect()
    }

    /// Restores a credential that a store has lost, as in a power cut: it holds the spent one again.
    pub(super) fn restore(&self, journal: &mut Journal, held: &Credential) -> Option<Recovered> {
        let record = journal.record().clone();
        if !record.ledger.is_spent(held.generation()) {
            return None;
        }
        let succeeds = |credential: &Credential| is_successor(credential, held, &record.ledger);
        let kept = record.kept().filter_map(|receipt| Some((receipt, receipt.credential.open()?)));
        let (receipt, credential) = kept.filter(|(_, credential)| succeeds(credential)).last()?;
        let generation = credential.generation();
        let Placed { own, main, commit } = self.place(&record, receipt, &credential, None);
        let unsynced = commit.run(journal).err();
        let is_logged_out = match (&own, &main) {
            (Ok(Swap::Done(_)), _) => false,
            (_, Some(main)) => matches!(main, Ok(Reason::LoggedOut)),
            (own, None) => matches!(own, Ok(Swap::LoggedOut)),
        };
        if is_logged_out {
            // A power cut takes no profile away. A copy that has not heard of the logout does not bring the login back.
            let mut record = journal.record().clone();
            record.receipts.retain(|receipt| !receipt.is_of(generation));
            let _ = journal.write(record).and_then(|()| journal.wipe_previous());
            return None;
        }
        let not_saved = not_saved(own, main, &self.store_of(&receipt.origin.store)).or(unsynced);
        Some(Recovered { credential, not_saved })
    }

    /// Forgets, also in the journal, what was kept for the agent's store, which a login or logout has changed since: it wins.
    pub(super) fn forget_kept(&self, journal: &mut Journal) -> Result<()> {
        let mut record = journal.record().clone();
        record.forget_kept(self.own.path());
        if record.receipts().len() == journal.record().receipts().len() {
            return Ok(());
        }
        journal.write(record)?;
        journal.wipe_previous()
    }

    /// Whether a store looks as if it would take a credential that is superseded elsewhere. If not, we don't wait for its lock.
    fn is_awaited(&self, receipt: &Receipt, received: &Credential, ledger: &Ledger) -> bool {
        [&self.store_of(&receipt.origin.store), self.main_store()].into_iter().any(|store| {
            let now = store.read(self.key.profile_id());
            matches!(now, Ok(Profile::Oauth(now)) if is_same(received, &now) || is_successor(received, &now, ledger))
        })
    }

    fn swap(
        &self,
        store: &Store,
        received: &Credential,
        receipt: &Receipt,
        (sent, ledger): (Option<&Credential>, &Ledger),
        unsynced: &mut Vec<Unsynced>,
    ) -> Result<Swap> {
        // The ledger knows nothing of a profile that had no token to spend, and of a refresh token that stays the same not which access
        // token beside it is the newer.
        let was_blank = |now: &Credential| now.generation().is_none() && receipt.origin.generation == now.generation();
        let is_as_sent = |now: &Credential| was_blank(now) || sent.is_some_and(|sent| is_same(sent, now));
        let swap_login = |now: Credential| match Relation::of(&now, received, ledger) {
            _ if is_same(received, &now) => (None, Ok(Swap::Done(now))),
            relation if relation == Relation::Successor || (is_as_sent(&now) && may_succeed(&now, received)) => {
                let new = renewed(&now, received, receipt);
                (Some(new.clone()), Ok(Swap::Done(new)))
            }
            Relation::Contradiction => {
                let message = "another account logged in to this profile while its token was being refreshed; the result was not written; call again";
                (None, Err(Error::at(Code::IdentityMismatch, store.path(), message)))
            }
            _ => (None, Ok(Swap::Superseded(now))),
        };
        let (swapped, written) = store.update(self.key.profile_id(), |now| match now {
            Profile::Oauth(now) => swap_login(now),
            Profile::Claimed(_) => (None, Err(store.is_claimed())),
            Profile::Missing | Profile::NotOauth | Profile::Mistaken(_) => (None, Ok(Swap::LoggedOut)),
            Profile::NoStore => (None, Err(vanished(store))),
        })?;
        unsynced.extend(written);
        swapped
    }

    /// `own_has_it`: only then may the main store take a credential of which it may hold no ancestor; else a login or logout in
    /// the agent's own store has won. And only if it is that agent's main store, and holds what it held at the claim: in another
    /// one the profile may be another person's, and a credential that came since is a login.
    fn mirror(
        &self,
        received: &Credential,
        receipt: &Receipt,
        record: &Record,
        own_has_it: bool,
        unsynced: &mut Vec<Unsynced>,
    ) -> Result<Reason> {
        let main = self.main_store();
        let (reason, written) = main.update(self.key.profile_id(), |existing| {
            let reason = mirror_reason(main, &existing, received, receipt, record, own_has_it);
            let is_written = reason.as_ref().is_ok_and(|reason| reason.writes());
            (is_written.then(|| mirrored(&existing, received, receipt, &record.ledger)), reason)
        })?;
        unsynced.extend(written);
        reason
    }
}

/// What becomes of a receipt.
enum Fate {
    /// The stores have it: this one, for those who look for a successor.
    Settled(StoreRole),
    /// A login or logout took its place and the main store lacks it, or only a main store has it: another agent or profile may still
    /// hold the spent token, and this is all there is for it.
    Superseded,
    /// It waits for a store.
    Waits,
}

fn fate(own: &Result<Swap>, main: Option<&Result<Reason>>, store: &Store) -> Fate {
    let is_in_main = matches!(main, Some(Ok(reason)) if reason.writes());
    match own {
        Ok(Swap::Done(_)) if matches!(main, Some(Err(_))) => Fate::Waits,
        Ok(Swap::Done(_)) => Fate::Settled(StoreRole::Own),
        Ok(Swap::Superseded(_) | Swap::LoggedOut) if is_in_main => Fate::Settled(StoreRole::Main),
        Ok(Swap::Superseded(_) | Swap::LoggedOut) => Fate::Superseded,
        // A host's store that we were not given is not gone, and its agent may have another main than we do.
        Err(_) if is_in_main && matches!(store, Store::Elsewhere(_)) => Fate::Superseded,
        // A store that is gone may come back; but what the main store holds is not lost.
        Err(error) if is_in_main && error.code == Code::StoreVanished => Fate::Settled(StoreRole::Main),
        Err(_) => Fate::Waits,
    }
}

/// Whether the main store takes what it is offered, and why.
fn mirror_reason(
    main: &Store,
    existing: &Profile,
    received: &Credential,
    receipt: &Receipt,
    record: &Record,
    own_has_it: bool,
) -> Result<Reason> {
    let is_its_main = receipt.origin.main == main.path();
    let unless_superseded = |is_sure: bool, reason: Reason| if is_sure { reason } else { Reason::Superseded };
    let existing = match existing {
        Profile::Oauth(existing) => existing,
        Profile::Claimed(_) => return Err(main.is_claimed()),
        Profile::NoStore if is_its_main && receipt.origin.main_has_profile => return Err(vanished(main)),
        Profile::Missing if receipt.origin.main_has_profile => return Ok(Reason::LoggedOut),
        Profile::NoStore | Profile::Missing => {
            return Ok(unless_superseded(own_has_it && is_its_main, mirror::decide(None, received)));
        }
        Profile::NotOauth | Profile::Mistaken(_) => {
            return Ok(unless_superseded(own_has_it, Reason::NonOauthExistingCredential));
        }
    };
    let is_dead = || record.failure_before(existing.generation()).is_some_and(FailureRecord::is_dead);
    let by_table = match mirror::decide(Some(existing.fields()), received) {
        _ if !is_for_one_client(existing, received) => Reason::IdentityMismatchOrRegression,
        // However long its access token lives, nothing comes after it.
        Reason::IncomingNotFresher if is_dead() => Reason::IncomingFresher,
        reason => reason,
    };
    let is_unchanged = receipt.origin.main_generation == Some(existing.generation());
    if own_has_it && is_its_main && is_unchanged && by_table.writes() {
        return Ok(by_table);
    }
    if is_successor(received, existing, &record.ledger) {
        return Ok(Reason::SameGrantSuccessor);
    }
    Ok(unless_superseded(own_has_it && !by_table.writes(), by_table))
}

/// What the main store gets.
fn mirrored(existing: &Profile, received: &Credential, receipt: &Receipt, ledger: &Ledger) -> Credential {
    match existing {
        Profile::Oauth(existing) if is_successor(received, existing, ledger) => {
            renewed(&existing.completed_by(received), received, receipt)
        }
        Profile::Oauth(existing) => existing.replaced_by(received),
        _ => received.clone(),
    }
}

fn is_same(received: &Credential, existing: &Credential) -> bool {
    received.generation() == existing.generation() && received.access() == existing.access()
}

/// What a store's credential becomes: with what the provider answered, and with the refresh token even if it said nothing
/// of it, as the store may hold an earlier one.
fn renewed(existing: &Credential, received: &Credential, receipt: &Receipt) -> Credential {
    let is_other = existing.generation() != received.generation();
    let names: Vec<_> = receipt.answered.iter().cloned().chain(is_other.then(|| "refresh".to_owned())).collect();
    existing.updated_by(received, &names)
}

fn is_successor(received: &Credential, existing: &Credential, ledger: &Ledger) -> bool {
    Relation::of(existing, received, ledger) == Relation::Successor
}

fn vanished(store: &Store) -> Error {
    Error::at(
        Code::StoreVanished,
        store.path(),
        "the credential store was there and is gone; bring it back, or log in again",
    )
}
