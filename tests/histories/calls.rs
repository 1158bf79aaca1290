//! The calls of a history: begun, answered, given up, and the deaths of those that make them.

use crate::Reached;
use crate::checks::check_kept;
use crate::history::{Holder, Nth, Strike, Weather};
use crate::process::{Order, Process, Said};
use crate::world::World;
use oauth_refresh_lock::clock::Clock;
use oauth_refresh_lock::disk::fault::Fault;
use oauth_refresh_lock::error::Code;
use oauth_refresh_lock::refresh::{AskResult, Backoff, CallFailure, FailureClass, Served, Settled, Turn};

/// The provider's word that it is over.
pub(crate) const REFUSED: CallFailure =
    CallFailure { class: FailureClass::AnsweredDead, pause: Backoff::None, is_temporary: false };

/// A provider call of some process that has not ended.
pub(crate) struct Pending {
    pub process: Process,
    pub token: String,
    /// The provider has answered, and that could not be saved yet.
    pub is_unsaved: bool,
    /// A login, a logout, a restored backup or an adoption came since.
    pub disturbed: bool,
}

impl World<'_> {
    /// Takes one of the calls that are under way, if there are any.
    pub(crate) fn take(&mut self, call: Nth) -> Option<Pending> {
        Some(self.pending.swap_remove(call.checked_rem(self.pending.len())?))
    }

    fn count_fault(&mut self, strike: Strike) {
        if strike.is_some() {
            self.count(Reached::Fault);
        }
    }

    pub(crate) fn caller(&mut self, holder: Holder, rejects: bool, strike: Strike) {
        self.count_fault(strike);
        let call = self.call(holder);
        if rejects && let Ok(Some(stored)) = call.unexpired() {
            let _ = call.rejected.set(stored.access().unwrap_or_default().to_owned().into());
        }
        let process = Process::start(call, false, strike);
        match process.hear() {
            Said::Looked(Ok(served)) => self.served(&process.call, served),
            Said::Looked(Err(error)) => self.refused(&process.call, &error, strike),
            Said::Done(Turn::Refused(error)) => {
                // It may have been on record already that the provider is being asked.
                self.died_deciding |= strike.is_some() && error.code != Code::LockUnavailable;
                self.refused(&process.call, &error, strike);
            }
            said => self.heard(process, said, strike),
        }
    }

    /// A refresh asks the provider, or ends without an answer of the provider's.
    pub(crate) fn heard(&mut self, process: Process, said: Said, strike: Strike) {
        let turn = match said {
            Said::Asks(token) => return self.asks(process, token, strike),
            Said::Done(turn) => turn,
            Said::Looked(_) | Said::Unsaved(_) => panic!("nothing was answered"),
        };
        match turn {
            Turn::Served(served) => self.served(&process.call, served),
            Turn::BackOff(ms, error) => {
                assert!(ms > 0.0 && ms <= 3_600_000.0, "{ms}");
                assert!(matches!(error.code, Code::RefreshBackoff | Code::RefreshUncertain), "{error}");
                assert!(!error.message.contains("log in"), "{error}");
                self.say(format_args!("back-off {ms}"));
            }
            // By a peer; or the disk was full when it was taken, and what was half cleared away then is in the way.
            Turn::Taken(lock) => self.say(format_args!("waits for {}", lock.display())),
            Turn::Failed((), _) => {}
            Turn::Refused(error) => self.refused(&process.call, &error, strike),
            other => panic!("{other:?}"),
        }
    }

    fn asks(&mut self, process: Process, token: String, strike: Strike) {
        self.say(format_args!("asks with {token}"));
        self.check_turn(&token);
        if matches!(strike, Some((_, Fault::Crash))) {
            // Died between the record and the call: nobody can know that it was not sent.
            self.provider.lost(&token);
            return process.lose();
        }
        self.pending.push(Pending { process, token, is_unsaved: false, disturbed: false });
    }

    pub(crate) fn answer(&mut self, pending: Pending, weather: Weather, with_pause: bool, strike: Strike) {
        if pending.is_unsaved {
            pending.process.go_on(Order::SaveAgain);
            return self.settled(pending, None);
        }
        self.count_fault(strike);
        let token = pending.token.clone();
        let dies = matches!(strike, Some((_, Fault::Crash)));
        // What the provider says is known once it is on record, even if that took a second try.
        if dies || (strike.is_some() && weather != Weather::Fine) {
            self.provider.unknown(&token);
        }
        let class = match weather {
            Weather::NotSent => FailureClass::NotSent,
            Weather::Busy => FailureClass::AnsweredUnspent,
            Weather::LostBefore => {
                self.provider.unknown(&token);
                FailureClass::Uncertain
            }
            Weather::Fine | Weather::LostAfter | Weather::WrongAccount | Weather::Garbage => {
                let good = self.provider.receive(&token, &mut self.tally);
                // Of a result that is no credential the new refresh token is kept; of another account's, nothing.
                if matches!(weather, Weather::LostAfter | Weather::WrongAccount) || (strike.is_some() && !good) {
                    self.provider.unknown(&token);
                }
                match weather {
                    _ if !good => FailureClass::AnsweredDead,
                    Weather::LostAfter => FailureClass::Uncertain,
                    _ => return self.settle(pending, weather, strike),
                }
            }
        };
        let pause = Backoff::after(class, weather != Weather::NotSent, with_pause.then_some(5_000.0));
        self.fail(pending, CallFailure { class, pause, is_temporary: true }, strike);
    }

    pub(crate) fn fail(&mut self, pending: Pending, failure: CallFailure, strike: Strike) {
        let Pending { process, token, .. } = pending;
        self.say(format_args!("{token} fails: {failure:?}"));
        process.go_on(Order::AskResult(AskResult::Failed(failure, ()), strike));
        let said = process.hear();
        if strike.is_none() && failure.pause != Backoff::None {
            self.provider.failed(&token, self.clock.boot_ms(), failure.pause.asked_ms());
        }
        self.heard(process, said, strike);
    }

    pub(crate) fn settle(&mut self, pending: Pending, weather: Weather, strike: Strike) {
        let fields = self.fields(&pending.token, weather);
        self.say(format_args!("{} is answered", pending.token));
        pending.process.go_on(Order::AskResult(AskResult::Fields(fields.into()), strike));
        self.settled(pending, strike);
    }

    fn settled(&mut self, pending: Pending, strike: Strike) {
        let dead = matches!(strike, Some((_, Fault::Crash)));
        let Pending { process, token, is_unsaved, disturbed } = pending;
        match process.hear() {
            Said::Done(Turn::Settled(Settled::Refreshed { credential, .. })) => {
                if !dead {
                    self.count(Reached::Refresh);
                    check_kept(&process.call, &credential);
                    // If it was unsaved its caller has been told, and the answer may have expired since.
                    if !is_unsaved {
                        self.check_served(&process.call, &credential);
                    }
                }
            }
            Said::Done(Turn::Settled(Settled::Superseded(login))) => {
                assert!(disturbed || dead, "nobody has logged in");
                self.count(Reached::Supersession);
                self.check_served(&process.call, &login);
            }
            Said::Done(Turn::Settled(Settled::LoggedOut)) => {
                assert!(disturbed || dead, "nobody has logged out");
                self.count(Reached::Supersession);
            }
            Said::Unsaved(_) if dead => process.die(),
            Said::Unsaved(error) => {
                assert_eq!(error.code, Code::ReceiptUnsaved);
                self.count(Reached::UnsavedReceipt);
                self.pending.push(Pending { process, token, is_unsaved: true, disturbed });
            }
            Said::Done(Turn::Refused(error)) => {
                let code = error.code;
                let known = matches!(code, Code::InvalidRefreshResult | Code::IdentityMismatch | Code::Superseded);
                assert!(known || strike.is_some(), "{error:?}");
            }
            Said::Done(other) => panic!("{other:?}"),
            Said::Asks(_) | Said::Looked(_) => panic!("it has been answered"),
        }
    }

    /// The owner of a call has nothing to ask with.
    pub(crate) fn give_up(&mut self, pending: Pending) {
        // What the provider has answered is not given up.
        if pending.is_unsaved {
            return self.pending.push(pending);
        }
        pending.process.go_on(Order::AskResult(AskResult::Nothing, None));
        assert!(matches!(pending.process.hear(), Said::Done(Turn::Served(Served::Absent))));
    }

    /// A process dies during its call.
    pub(crate) fn die(&mut self, pending: Pending, has_sent: bool) {
        self.count(Reached::Death);
        let Pending { process, token, is_unsaved, .. } = pending;
        if is_unsaved {
            self.provider.unknown(&token);
            return process.die();
        }
        if has_sent {
            self.provider.receive(&token, &mut self.tally);
        }
        self.provider.lost(&token);
        process.lose();
    }

    /// All calls that are under way are answered, in fine weather.
    pub(crate) fn answer_all(&mut self) {
        while let Some(pending) = self.pending.pop() {
            if pending.is_unsaved {
                pending.process.go_on(Order::SaveAgain);
                self.settled(pending, None);
                assert!(self.pending.iter().all(|other| !other.is_unsaved), "a healthy disk did not take a receipt");
            } else if self.provider.receive(&pending.token, &mut self.tally) {
                self.settle(pending, Weather::Fine, None);
            } else {
                self.fail(pending, REFUSED, None);
            }
        }
    }
}
