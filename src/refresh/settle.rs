//! The end of a provider call: what it answered, or how it failed.

use super::commit::{Placed, Swap};
use super::decision::Decision;
use super::hosts::ClaimedRow;
use super::known::Known;
use super::stored::StoreRole;
use super::{Answered, Refresh, Sent, Served, access_digest};
use crate::coordinator::{Earlier, RowState};
use crate::credential::identity::{self, Refusal};
use crate::credential::{Credential, RefreshedFields};
use crate::error::{Code, Error, Result};
use crate::failure::{self, CallFailure, FailureClass};
use crate::journal::MAX_CREDENTIAL_BYTES;
use crate::journal::record::{FailureRecord, LostCall, Outcome, PauseUntil, Progress, Receipt, Record, Sealed};
use crate::process::Myself;
use crate::refresh::mirror::Reason;
use crate::store::Profile;

/// What became of a refreshed credential.
#[derive(Debug)]
pub enum Settled {
    /// It is durable.
    Refreshed {
        /// The refreshed credential.
        credential: Credential,
        /// What the main store made of it; `None` if that is the store it went to.
        mirrored: Option<Result<Reason>>,
        /// Why the store that held the old one could not take it yet. It is durable in the journal.
        not_saved: Option<Error>,
        /// Why the coordinator has not heard of it yet, so that other hosts can't use it.
        not_shared: Option<Error>,
    },
    /// A login landed meanwhile and is served instead.
    Superseded(Credential),
    /// The profile was logged out meanwhile, and stays so.
    LoggedOut,
}

/// Why a call could not be settled.
#[derive(Debug)]
pub struct Unsettled {
    /// What happened.
    pub error: Error,
    /// With [`Code::ReceiptUnsaved`]: the call, to be settled again. No other owner can send its generation meanwhile.
    pub retry: Option<Box<Sent>>,
}

impl From<Error> for Unsettled {
    fn from(error: Error) -> Self {
        Self { error, retry: None }
    }
}

/// What is left after a failed call.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "it is moved once")]
pub enum Failed {
    /// The stores hold something newer.
    Instead(Decision),
    /// Nothing; and if the grant is dead, what every later caller will be told.
    ForGood(Option<Error>),
}

impl Refresh {
    /// Stores what the provider answered: first in the journal, then in the store that held the old one, then in the main store.
    /// No caller sees it before it is durable.
    pub fn settle(&self, mut sent: Box<Sent>, fields: &str) -> Result<Settled, Unsettled> {
        let answer = match sent.answer.take() {
            Some(answer) => answer,
            None => match self.read(&mut sent, fields)? {
                Reading::Credential(answer) => answer,
                Reading::Salvaged(answer, error) => return self.keep(sent, answer, error),
            },
        };
        let refreshed = answer.credential.clone();
        let mut record = sent.journal.record().clone();
        let receipt = self.receive(&mut record, &sent, &answer)?;
        if let (Some(access), Some(expires)) = (access_digest(&refreshed), refreshed.expires()) {
            record.note_lifetime(access, expires - self.clock.now_ms());
        }
        let journaled = sent.journal.write(record.clone());
        let Placed { own, main, mut commit } = self.place(&record, &receipt, &refreshed, Some(&sent.credential));
        // Durable here first. Other hosts wait for it, and the journal's next record says whether they have been told.
        let not_shared = self.hosts.as_ref().and_then(|_| self.tell_answer(commit.record(&record), sent.row.as_ref()));
        let committed = commit.run(&mut sent.journal);
        if journaled.is_err() && !matches!(committed, Ok(true)) && sent.journal.write(record).is_err() {
            // Even if a store has it: no owner would know that the old one is spent.
            let why = own.err().map_or_else(String::new, |error| format!(": {}", error.message));
            return Err(unsaved(sent, answer, &why));
        }
        match own {
            Ok(Swap::Done(credential)) => {
                if sent.instead_of_own {
                    drop(sent);
                    // As it will at its next call, if it can't now.
                    let _ = self.adopt(&credential, None);
                }
                Ok(Settled::Refreshed { credential, mirrored: main, not_saved: committed.err(), not_shared })
            }
            // What became of the main store's profile does not concern an agent that has its own.
            Ok(_) if sent.instead_of_own => Err(super::superseded(self.main_store()).into()),
            Ok(Swap::Superseded(login)) if self.is_usable(&login) && self.is_of_provider(&login) => {
                Ok(Settled::Superseded(login))
            }
            Ok(Swap::Superseded(_)) => Err(super::superseded(self.store_at(StoreRole::Own)).into()),
            Ok(Swap::LoggedOut) => Ok(Settled::LoggedOut),
            Err(error) => {
                Ok(Settled::Refreshed { credential: refreshed, mirrored: main, not_saved: Some(error), not_shared })
            }
        }
    }

    /// Makes a credential of the refresh function's result. A refused result still tells that the provider may have
    /// rotated, and may hold the new refresh token: that is kept in the journal for the next owner.
    fn read(&self, sent: &mut Sent, fields: &str) -> Result<Reading> {
        if RefreshedFields::is_unchanged(fields, &sent.credential, self.clock.now_ms()) {
            self.record_failure(sent, no_token(FailureClass::AnsweredUnspent))?;
            let message = "the refresh function returned the credential that it was given, so nothing was refreshed; the login is kept, and the provider is asked again after a pause";
            return Err(Error::new(Code::InvalidRefreshResult, message));
        }
        let (fields, error) = match RefreshedFields::parse(fields, &sent.credential, self.clock.now_ms()) {
            Ok(fields) => match self.accept(sent, &fields) {
                Ok(refreshed) => return Ok(Reading::Credential(refreshed)),
                Err(error) => (Some(fields), error),
            },
            Err(refused) => (refused.salvaged, refused.error),
        };
        let kept = fields.and_then(|fields| self.salvage(sent, &fields));
        if let Some(kept) = kept.filter(|kept| kept.credential.generation() != sent.spent) {
            return Ok(Reading::Salvaged(kept, error));
        }
        self.record_failure(sent, no_token(FailureClass::Uncertain))?;
        Err(error)
    }

    /// What can be kept of an answer that is refused: all of it, or its refresh token alone if it is too large. Nothing of another
    /// account's answer, not even a field that names no account.
    fn salvage(&self, sent: &Sent, fields: &RefreshedFields) -> Option<Answered> {
        self.refuse_others(sent, &sent.credential.merged_with(fields)).ok()?;
        self.accept(sent, fields).or_else(|error| self.accept(sent, &fields.refresh_token().ok_or(error)?)).ok()
    }

    /// Puts a salvaged refresh token on record, for the next owner to bring into the stores and to use.
    fn keep(&self, mut sent: Box<Sent>, answer: Answered, error: Error) -> Result<Settled, Unsettled> {
        let mut record = sent.journal.record().clone();
        self.receive(&mut record, &sent, &answer)?;
        if sent.journal.write(record.clone()).is_err() {
            return Err(unsaved(sent, answer, ""));
        }
        // If it can't be told now, the next owner tells it.
        if self.hosts.is_some() && self.tell_answer(&mut record, sent.row.as_ref()).is_none() {
            let _ = sent.journal.write(record);
        }
        Err(error.into())
    }

    /// Ends a call that failed: puts on record what the next caller may do, and looks whether the stores hold something
    /// newer.
    pub fn fail(&self, mut sent: Box<Sent>, failed: CallFailure) -> Result<Failed> {
        let recorded = self.record_failure(&mut sent, failed);
        let Sent { journal, lock, .. } = *sent;
        let known = Known::of(vec![journal.record().clone()]);
        drop(journal);
        recorded?;
        if failed.class == FailureClass::AnsweredDead {
            return match self.decide(lock) {
                // The caller's own error says more, and what is stored may be served with that.
                Ok(Decision::Served(Served::Unexpired { refresh_error: error, .. })) | Err(error)
                    if error.code == Code::GrantDead =>
                {
                    Ok(Failed::ForGood(Some(error)))
                }
                Ok(decision) => Ok(Failed::Instead(decision)),
                Err(error) => Err(error),
            };
        }
        let Some((role, held)) = self.held()? else { return Ok(Failed::ForGood(None)) };
        if self.is_usable(&held) {
            return Ok(Failed::Instead(Decision::Served(Served::Fresh(held))));
        }
        if let Some(main) = self.main.as_ref().filter(|_| role == StoreRole::Own)
            && let Profile::Oauth(main_credential) = main.read(self.key.profile_id())?
            && self.is_adoptable(&held, &main_credential, &known)
        {
            drop(lock);
            return self.adopt(&main_credential, Some(&held)).map(|served| Failed::Instead(Decision::Served(served)));
        }
        Ok(Failed::ForGood(None))
    }

    /// Ends a call whose function had nothing to ask: nothing was sent.
    pub fn abandon(&self, mut sent: Box<Sent>) -> Result<()> {
        self.record_failure(
            &mut sent,
            CallFailure { class: FailureClass::NotSent, pause: failure::Backoff::None, is_temporary: true },
        )
    }

    fn record_failure(&self, sent: &mut Sent, failed: CallFailure) -> Result<()> {
        let CallFailure { class, pause, is_temporary } = failed;
        let generation = sent.spent;
        let mut record = sent.journal.record().clone();
        record.state = Progress::Idle;
        let earlier = record.failure_before(generation).cloned();
        let attempts = record.claim.as_ref().map_or(0, |claim| claim.attempts).saturating_add(1);
        let mut pause = PauseUntil::begin(&*self.clock, generation, attempts, pause);
        let is_refused =
            class == FailureClass::AnsweredDead || (class == FailureClass::AnsweredUnspent && !is_temporary);
        let outcome = match class {
            _ if sent.instead_of_own && is_refused => {
                pause = None;
                Outcome::NotOurs
            }
            FailureClass::NotSent | FailureClass::AnsweredUnspent => Outcome::Unspent,
            FailureClass::Uncertain => Outcome::Uncertain,
            FailureClass::AnsweredDead => Outcome::Dead {
                lost_with: earlier.as_ref().filter(|earlier| earlier.outcome == Outcome::Uncertain).map(LostCall::from),
            },
        };
        let says_nothing = matches!(outcome, Outcome::Unspent | Outcome::Uncertain);
        let failure = match earlier {
            earlier if class == FailureClass::NotSent && pause.is_none() => earlier,
            // An earlier doubt stays, and so does the owner that lost the first answer.
            Some(first) if says_nothing && first.outcome == Outcome::Uncertain => {
                Some(FailureRecord { attempts, pause, ..first })
            }
            _ => {
                let (pid, at) = (Myself::now().pid, self.clock.now_ms());
                Some(FailureRecord { generation, outcome, pid, host: None, at, attempts, pause })
            }
        };
        record.set_failure(generation, failure);
        record.note_sent(generation, sent.row.as_ref().map(ClaimedRow::id), class == FailureClass::Uncertain);
        let written = sent.journal.write(record);
        if let Some(row) = &sent.row {
            let pause_ms = sent.journal.record().failure_before(generation).and_then(|one| one.left_ms(&*self.clock));
            let state = match class {
                _ if sent.instead_of_own && is_refused => RowState::Free,
                FailureClass::NotSent | FailureClass::AnsweredUnspent => RowState::Free,
                FailureClass::Uncertain => RowState::Unsure,
                FailureClass::AnsweredDead => RowState::Dead,
            };
            let in_doubt = sent.journal.record().failure_before(generation).is_some_and(FailureRecord::is_in_doubt);
            row.end(state, Earlier { attempts, in_doubt }, pause_ms.unwrap_or(0.0));
        }
        written
    }

    /// The credential that the answer makes of the one that was sent.
    fn accept(&self, sent: &Sent, fields: &RefreshedFields) -> Result<Answered> {
        let refreshed = sent.credential.merged_with(fields);
        self.refuse_others(sent, &refreshed)?;
        let names: usize = fields.names().iter().map(|name| Sealed::text_bytes(name)).sum();
        if Sealed::new(&refreshed).journaled_bytes() + names > MAX_CREDENTIAL_BYTES {
            let message = format!(
                "the refresh brought a credential larger than {} KiB; no store was changed, and a new refresh token in it is kept for the next call",
                MAX_CREDENTIAL_BYTES >> 10
            );
            return Err(Error::new(Code::InvalidRefreshResult, message));
        }
        Ok(Answered { credential: refreshed, answered: fields.names() })
    }

    /// Refuses what belongs to another account, tenant or provider.
    fn refuse_others(&self, sent: &Sent, refreshed: &Credential) -> Result<()> {
        identity::check(sent.credential.fields(), refreshed.fields()).map_err(|refusal| {
            let what = match refusal {
                Refusal::Provider => "provider",
                Refusal::Tenant => "tenant",
                Refusal::Identity => "account",
            };
            let message = format!(
                "the new token belongs to another {what} than profile \"{}\"; no store was changed; check whose token the refresh asks for, or log in again",
                self.key.profile_id().escape_debug()
            );
            Error::new(Code::IdentityMismatch, message)
        })
    }

    /// Notes on record what the provider gave in exchange for what was sent.
    fn receive(&self, record: &mut Record, sent: &Sent, answer: &Answered) -> Result<Receipt> {
        let Some(claim) = &record.claim else { return Err(Error::new(Code::Internal, "settled without a claim")) };
        let Answered { credential, answered } = answer;
        let receipt = Receipt {
            credential: Sealed::new(credential),
            answered: answered.clone(),
            origin: claim.origin.clone(),
            superseded: false,
            kept: false,
        };
        record.state = Progress::Received;
        record.set_failure(sent.spent, None);
        record.ledger.record(sent.spent, credential.generation());
        record.receive(sent.spent, receipt.clone());
        if credential.generation() != sent.spent {
            record.end_claims(sent.spent);
        }
        self.seal(record, sent, credential, answered);
        Ok(receipt)
    }
}

/// A call that was answered, and brought no token that can be used.
fn no_token(class: FailureClass) -> CallFailure {
    CallFailure { class, pause: failure::Backoff::Growing, is_temporary: true }
}

/// What a refresh function's result holds.
enum Reading {
    Credential(Answered),
    /// It is not a credential, but the provider's new refresh token is in it.
    Salvaged(Answered, Error),
}

fn unsaved(mut sent: Box<Sent>, answer: Answered, why: &str) -> Unsettled {
    let message = format!("the provider answered, but the answer could not be saved{why}");
    let error = Error::at(Code::ReceiptUnsaved, sent.journal.path(), message);
    sent.answer = Some(answer);
    Unsettled { error, retry: Some(sent) }
}
