//! Bringing a received credential into the stores, by compare-and-swap on the generation that it replaces.

use super::{Call, may_replace};
use crate::credential::Credential;
use crate::error::{Error, Result};
use crate::journal::{ClaimRecord, Journal, Record, Sealed, State};
use crate::ledger::Ledger;
use crate::mirror::{self, Reason};
use crate::store::{Profile, Store};

/// What became of a received credential in the stores.
pub(super) struct Committed {
    /// In the store that held the spent one.
    pub(super) own: Result<Swap>,
    /// In the main store; `None` if that is the same.
    pub(super) main: Option<Result<Reason>>,
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

impl Committed {
    /// Whether nothing is left to be done.
    fn is_complete(&self) -> bool {
        self.own.is_ok() && self.main.as_ref().is_none_or(Result::is_ok)
    }
}

impl Call {
    /// Brings what the journal holds into the stores, and clears it from the journal when they have it.
    ///
    /// `record` is what the journal holds or, if its disk failed, should hold.
    pub(super) fn commit(
        &self,
        journal: &mut Journal,
        record: &Record,
        claim: &ClaimRecord,
        received: &Credential,
    ) -> Committed {
        let ledger = &record.ledger;
        let store = Store::at(&claim.store, &self.state_dir);
        let own = self.swap(&store, received, ledger);
        let main = self.main_store();
        let main = (main.path() != store.path())
            .then(|| self.mirror(main, received, ledger, claim.in_main, matches!(own, Ok(Swap::Done(_)))));
        let committed = Committed { own, main };
        if committed.is_complete() {
            // Should this fail, the next owner finds the stores in order and clears the journal.
            let _ = clear(journal, record);
        }
        committed
    }

    /// Finishes what a previous owner had received: the credential, and why a store could not take it.
    pub(super) fn finish(&self, journal: &mut Journal) -> Option<(Credential, Option<Error>)> {
        let record = journal.record();
        let Some(received) = record.received.as_ref().and_then(Sealed::open) else {
            if record.state == State::Committed {
                // The owner may have died before it could.
                let _ = journal.wipe_previous();
            }
            return None;
        };
        let (record, claim) = (record.clone(), record.claim.clone()?);
        let committed = self.commit(journal, &record, &claim, &received);
        let not_saved = match (committed.own, committed.main) {
            (Err(error), _) | (_, Some(Err(error))) => Some(error),
            _ => None,
        };
        Some((received, not_saved))
    }

    fn swap(&self, store: &Store, received: &Credential, ledger: &Ledger) -> Result<Swap> {
        store.lock()?.update(self.key.profile_id(), |now| match now {
            Profile::Oauth(now) if now.generation() == received.generation() && now.access() == received.access() => {
                (None, Swap::Done(now))
            }
            Profile::Oauth(now) if is_successor(received, &now, ledger) => {
                let new = now.replaced_by(received);
                (Some(new.clone()), Swap::Done(new))
            }
            Profile::Oauth(now) => (None, Swap::Superseded(now)),
            Profile::Missing | Profile::NotOauth => (None, Swap::LoggedOut),
        })
    }

    /// `own_has_it`: only then may main take what it can't be shown to descend from; a login or logout in the agent's own
    /// store has decided otherwise.
    fn mirror(
        &self,
        main: &Store,
        received: &Credential,
        ledger: &Ledger,
        was_in_main: bool,
        own_has_it: bool,
    ) -> Result<Reason> {
        main.lock()?.update(self.key.profile_id(), |existing| {
            let by_table = match &existing {
                Profile::Missing if was_in_main => Reason::LoggedOut,
                Profile::Missing => mirror::decide(None, received),
                Profile::NotOauth => Reason::NonOauthExistingCredential,
                Profile::Oauth(existing) => mirror::decide(Some(existing.fields()), received),
            };
            let reason = match &existing {
                _ if own_has_it && by_table.writes() => by_table,
                Profile::Oauth(existing) if is_successor(received, existing, ledger) => Reason::SameGrantSuccessor,
                _ if own_has_it => by_table,
                _ => Reason::Superseded,
            };
            let new = reason.writes().then(|| match &existing {
                Profile::Oauth(existing) => existing.replaced_by(received),
                _ => received.clone(),
            });
            (new, reason)
        })
    }
}

/// Whether `received` is what the provider gave in exchange for `existing`, and says nothing against it.
fn is_successor(received: &Credential, existing: &Credential, ledger: &Ledger) -> bool {
    let (new, old) = (received.generation(), existing.generation());
    // A provider that keeps its refresh token hands out a new access token for the same generation.
    let descends = ledger.descends(new, old) || (new == old && existing.access() != received.access());
    descends && may_replace(existing, received, true)
}

fn clear(journal: &mut Journal, record: &Record) -> Result<()> {
    let mut record = record.clone();
    record.state = State::Committed;
    record.received = None;
    journal.write(record, false)?;
    journal.wipe_previous()
}
