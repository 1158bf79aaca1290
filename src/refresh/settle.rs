//! The end of a provider call: what it answered, or how it failed.

use super::commit::{Committed, Swap};
use super::decide::{Decision, MAX_BACK_OFF_MS};
use super::{Call, InFlight, Place, Served};
use crate::credential::{Credential, RefreshedFields};
use crate::error::{Code, Error, Result};
use crate::identity::{self, Refusal};
use crate::journal::{FailureRecord, LostWith, MAX_CREDENTIAL_BYTES, Sealed, State};
use crate::mirror::Reason;
use crate::store::Profile;

/// The first pause after a provider that asked for one without saying how long; doubled each time.
const FIRST_BACK_OFF_MS: f64 = 1_000.0;
/// The longest such pause.
const LAST_BACK_OFF_MS: f64 = 60_000.0;

/// What became of a refreshed credential.
#[derive(Debug)]
pub enum Settled {
    /// It is durable.
    Refreshed {
        /// It.
        credential: Credential,
        /// What the main store made of it; `None` if that is the store it went to.
        mirrored: Option<Result<Reason>>,
        /// Why the store that held the old one could not take it yet. It is durable in the journal.
        not_saved: Option<Error>,
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
    /// With [`Code::ReceiptUnsaved`]: the call, to be settled again. Nobody else can send its generation meanwhile.
    pub retry: Option<Box<InFlight>>,
}

impl From<Error> for Unsettled {
    fn from(error: Error) -> Self {
        Self { error, retry: None }
    }
}

/// What is left after a failed call.
#[derive(Debug)]
pub enum Failed {
    /// The stores hold something newer.
    Instead(Decision),
    /// Nothing; and if the grant is dead, what every later caller will be told.
    ForGood(Option<Error>),
}

/// How a provider call failed. The class decides what the next caller may do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FailureClass {
    /// The provider was not reached: the next caller may try.
    NotSent,
    /// The provider answered and has not rotated: everyone waits, for as long as it asked in milliseconds, if it did.
    AnsweredUnspent(Option<f64>),
    /// The provider refused the refresh token for good.
    AnsweredDead,
    /// Whether the provider has rotated is unknown.
    Uncertain,
}

impl Call {
    /// Stores what the provider answered: first in the journal, then in the store that held the old one, then in main's.
    /// Nobody sees it before it is durable.
    pub fn settle(&self, mut flight: Box<InFlight>, fields: &str) -> Result<Settled, Unsettled> {
        let now_ms = self.clock.now_ms();
        let refreshed = RefreshedFields::parse(fields, now_ms).and_then(|fields| self.accept(&flight, &fields));
        let refreshed = match refreshed {
            Ok(refreshed) => refreshed,
            Err(error) => {
                // The provider answered something that is of no use; it may have rotated all the same.
                self.record_failure(&mut flight, FailureClass::Uncertain)?;
                return Err(error.into());
            }
        };
        let mut record = flight.journal.record().clone();
        record.state = State::Received;
        record.received = Some(Sealed::new(&refreshed));
        record.set_failure(flight.spent, None);
        record.ledger.record(flight.spent, refreshed.generation());
        let journaled = flight.journal.write(record.clone(), true);
        let Some(claim) = &record.claim else {
            return Err(Error::new(Code::Internal, "settled without a claim").into());
        };
        let Committed { own, main } = self.commit(&mut flight.journal, &record, claim, &refreshed);
        let in_main = matches!(&main, Some(Ok(reason)) if reason.writes());
        match (own, journaled) {
            (Ok(Swap::Done(credential)), _) => Ok(Settled::Refreshed { credential, mirrored: main, not_saved: None }),
            (Ok(Swap::Superseded(login)), _) if self.is_usable(&login) => Ok(Settled::Superseded(login)),
            (Ok(Swap::Superseded(_)), _) => Err(super::superseded(self.store_at(Place::Own)).into()),
            (Ok(Swap::LoggedOut), _) => Ok(Settled::LoggedOut),
            (Err(error), journaled) if journaled.is_ok() || in_main => {
                Ok(Settled::Refreshed { credential: refreshed, mirrored: main, not_saved: Some(error) })
            }
            (Err(error), _) => {
                let message =
                    format!("the provider answered, but neither journal nor store could save it: {}", error.message);
                let error = Error { code: Code::ReceiptUnsaved, message, ..error };
                Err(Unsettled { error, retry: Some(flight) })
            }
        }
    }

    /// Ends a call that failed: puts on record what the next caller may do, and looks whether the stores hold something
    /// newer.
    pub fn fail(&self, mut flight: Box<InFlight>, class: FailureClass) -> Result<Failed> {
        let spent = flight.spent;
        let recorded = self.record_failure(&mut flight, class);
        let InFlight { journal, lock, generation_lock, .. } = *flight;
        let record = journal.record().clone();
        drop(journal);
        recorded?;
        let Some((place, held)) = self.held()? else { return Ok(Failed::ForGood(None)) };
        if self.is_usable(&held) {
            return Ok(Failed::Instead(Decision::Served(Served::Fresh(held))));
        }
        if let Some(main) = self.main.as_ref().filter(|_| place == Place::Own)
            && let Profile::Oauth(mains) = main.read(self.key.profile_id())?
            && self.is_adoptable(&held, &mains, &record.ledger)
        {
            drop((generation_lock, lock));
            return self.adopt(&mains, &record.ledger).map(|served| Failed::Instead(Decision::Served(served)));
        }
        if class == FailureClass::AnsweredDead && held.generation() != spent {
            drop(generation_lock);
            return self.decide(lock, None).map(Failed::Instead);
        }
        Ok(Failed::ForGood(match record.failure_of(spent) {
            Some(FailureRecord::Dead { pid, at, lost_with, .. }) => Some(self.grant_is_dead(pid, at, lost_with)),
            _ => None,
        }))
    }

    /// Ends a call whose function had nothing to ask: nothing was sent.
    pub fn abandon(&self, mut flight: Box<InFlight>) -> Result<()> {
        self.record_failure(&mut flight, FailureClass::NotSent)
    }

    fn record_failure(&self, flight: &mut InFlight, class: FailureClass) -> Result<()> {
        let generation = flight.spent;
        let (pid, at) = (std::process::id(), self.clock.now_ms());
        let mut record = flight.journal.record().clone();
        record.state = State::Idle;
        let earlier = record.failure_of(generation);
        let probe = record.claim.as_ref().is_some_and(|claim| claim.probe);
        let failure = match class {
            FailureClass::AnsweredUnspent(retry_after_ms) if !probe => {
                let attempts = match earlier {
                    Some(FailureRecord::BackOff { attempts, .. }) => attempts.saturating_add(1),
                    _ => 1,
                };
                let pause = retry_after_ms.unwrap_or_else(|| back_off_ms(attempts)).clamp(0.0, MAX_BACK_OFF_MS);
                let until = self.clock.boot_ms() + pause;
                Some(FailureRecord::BackOff { generation, attempts, until, boot: self.clock.boot_id() })
            }
            // What was known before still holds; a probe that was not sent, or put off, can still be made.
            FailureClass::NotSent | FailureClass::AnsweredUnspent(_) => earlier.map(unprobed),
            FailureClass::AnsweredDead => {
                let lost_with = match earlier {
                    Some(FailureRecord::Uncertain { pid, at, .. }) => Some(LostWith { pid, at }),
                    _ => None,
                };
                Some(FailureRecord::Dead { generation, pid, at, lost_with })
            }
            FailureClass::Uncertain => Some(match earlier {
                Some(FailureRecord::Uncertain { pid, at, .. }) if probe => {
                    FailureRecord::Uncertain { generation, pid, at, probed: true }
                }
                _ => FailureRecord::Uncertain { generation, pid, at, probed: false },
            }),
        };
        record.set_failure(generation, failure);
        flight.journal.write(record, true)
    }

    /// The credential that the answer makes of the one that was sent.
    fn accept(&self, flight: &InFlight, fields: &RefreshedFields) -> Result<Credential> {
        let refreshed = flight.credential.merged_with(fields);
        if refreshed.to_json().len() > MAX_CREDENTIAL_BYTES {
            let message = format!(
                "the refresh function's result is larger than {} KiB; nothing was stored",
                MAX_CREDENTIAL_BYTES >> 10
            );
            return Err(Error::new(Code::InvalidRefreshResult, message));
        }
        identity::check(flight.credential.fields(), refreshed.fields()).map_err(|refusal| {
            let what = match refusal {
                Refusal::Provider => "provider",
                Refusal::Tenant => "tenant",
                Refusal::Identity => "account",
            };
            let message = format!(
                "the refresh function's result belongs to another {what} than profile \"{}\"; nothing was stored",
                self.key.profile_id().escape_debug()
            );
            Error::new(Code::IdentityMismatch, message)
        })?;
        Ok(refreshed)
    }
}

fn unprobed(failure: FailureRecord) -> FailureRecord {
    match failure {
        FailureRecord::Uncertain { generation, pid, at, .. } => {
            FailureRecord::Uncertain { generation, pid, at, probed: false }
        }
        other => other,
    }
}

fn back_off_ms(attempts: u32) -> f64 {
    (FIRST_BACK_OFF_MS * 2f64.powi(i32::try_from(attempts).unwrap_or(i32::MAX).saturating_sub(1))).min(LAST_BACK_OFF_MS)
}
