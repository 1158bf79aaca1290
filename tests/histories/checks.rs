//! What must hold after each step, and in the end.

use crate::Reached;
use crate::calls::REFUSED;
use crate::history::{AGENTS, Holder, PROFILES, Strike, Weather};
use crate::process::{Order, Process, Said};
use crate::provider::Provider;
use crate::world::World;
use oauth_refresh_lock::clock::Clock;
use oauth_refresh_lock::credential::Credential;
use oauth_refresh_lock::error::{Code, Error};
use oauth_refresh_lock::journal::Journal;
use oauth_refresh_lock::journal::record::Record;
use oauth_refresh_lock::lock::term;
use oauth_refresh_lock::refresh::{AskResult, Refresh, Served, Settled, Turn};
use oauth_refresh_lock::store::{Profile, Store};
use serde_json::Value;

impl World<'_> {
    /// No process asks while another does, or before the time on record.
    pub(crate) fn check_turn(&self, token: &str) {
        assert!(self.pending.iter().all(|other| other.token != token), "{token} is being sent already");
        let sent = self.provider.sent.get(token);
        let may_ask = self.may_repeat() || !sent.is_some_and(|sent| sent.lost);
        assert!(may_ask, "{token} is sent again after a death, although that is forbidden");
        if let Some(not_before) = sent.and_then(|sent| sent.not_before) {
            assert!(
                self.clock.boot_ms() >= not_before,
                "{token} is sent {} ms early",
                not_before - self.clock.boot_ms()
            );
        }
    }

    pub(crate) fn served(&mut self, call: &Refresh, served: Served) {
        let credential = match served {
            Served::Absent => return,
            Served::Fresh(credential) => credential,
            Served::Unexpired { credential, refresh_error } => {
                self.say(format_args!("kept from refreshing: {refresh_error}"));
                credential
            }
            Served::Adopted { credential, .. } => {
                self.count(Reached::Adoption);
                // When the clock is set back, the main store's token may be good again, and take the place of one that is being sent.
                for pending in &mut self.pending {
                    let other = &pending.process.call;
                    pending.disturbed |= other.key == call.key && other.own.path() == call.own.path();
                }
                credential
            }
            Served::Recovered { credential, .. } => {
                self.count(Reached::Recovery);
                credential
            }
        };
        self.say(format_args!("served {}", credential.access().unwrap_or_default()));
        self.check_served(call, &credential);
    }

    pub(crate) fn refused(&mut self, call: &Refresh, error: &Error, strike: Strike) {
        let (code, message) = (error.code, &error.message);
        self.say(format_args!("refused: {}", code.as_str()));
        let is_token = |word: &str| word.starts_with(|first: char| first.is_ascii_digit());
        let secret = ["refresh-", "access-"].iter().any(|kind| message.split(kind).skip(1).any(is_token));
        assert!(!secret, "a secret: {message}");
        if code == Code::RefreshTokenSpent {
            self.count(Reached::RefusedResurrection);
            assert!(strike.is_some() || !self.sees_current_token(call), "told to log in beside a living successor");
        }
        let may_repeat = self.may_repeat();
        assert!(code != Code::RefreshUncertain || !may_repeat, "an outcome that is not known ended the login");
        let known =
            matches!(code, Code::RefreshTokenSpent | Code::GrantDead | Code::RefreshUncertain | Code::Superseded);
        assert!(known || strike.is_some(), "refused without a fault: {} {message}", code.as_str());
    }

    /// Whether one of the caller's stores holds, under any name, the current token of the grant that the caller has.
    fn sees_current_token(&self, call: &Refresh) -> bool {
        let stores = [Some(&call.own), call.main.as_ref()].into_iter().flatten();
        let held = |store: &Store, profile: &str| match store.read(profile) {
            Ok(Profile::Oauth(held)) => held.refresh().map(Provider::origin),
            _ => None,
        };
        let own = stores.clone().find_map(|store| held(store, call.key.profile_id()));
        let Some((grant, _)) = own else { return false };
        let current = (grant, self.provider.grants[grant].current);
        let sees = |store| PROFILES.iter().any(|profile| held(store, profile) == Some(current));
        !self.provider.grants[grant].revoked && stores.into_iter().any(sees)
    }

    /// A credential that was served is of one piece, unexpired and of the account it says.
    pub(crate) fn check_served(&self, call: &Refresh, credential: &Credential) {
        self.check_credential(credential);
        assert!(credential.is_unexpired(self.clock.now_ms()), "expired");
        let rejected = call.rejected.get().map(|rejected| rejected.as_str());
        assert_ne!(credential.access(), rejected, "the rejected token");
    }

    pub(crate) fn check_stores(&mut self) {
        for (at, agent) in AGENTS.into_iter().enumerate() {
            let bytes = self.bytes(agent);
            if bytes == self.checked[at] {
                continue;
            }
            self.checked[at] = bytes;
            for profile in PROFILES {
                let Profile::Oauth(held) = self.store(agent).read(profile).expect("a readable store") else { continue };
                self.check_credential(&held);
                if let Some(account) = held.fields().get("accountId").and_then(Value::as_str) {
                    let known = self.accounts.entry((agent, profile)).or_insert_with(|| account.to_owned());
                    assert_eq!(known, account, "a profile became another account's, and nobody has logged in");
                }
            }
        }
    }

    fn check_credential(&self, held: &Credential) {
        let access = held.access().expect("an access token");
        let refresh = held.refresh().expect("a refresh token");
        let (of_access, of_refresh) = (Provider::origin(access), Provider::origin(refresh));
        assert_eq!(of_access, of_refresh, "tokens of two answers in one credential");
        if let Some(account) = held.fields().get("accountId") {
            let owner = &self.provider.grants[of_access.0].account;
            assert_eq!(account, owner, "tokens under another account");
        }
    }

    /// When all is calm, whoever holds the current token of a living grant is served.
    pub(crate) fn finally_served(&mut self, holder: Holder) {
        let alive = self.is_alive(holder);
        self.say(format_args!("at last {holder:?}"));
        // It waits for the lock: what a death left in its way takes a moment.
        let process = Process::start(self.call(holder), true, None);
        let told = match process.hear() {
            Said::Asks(token) => {
                self.check_turn(&token);
                let is_good = self.provider.receive(&token, &mut self.tally);
                assert!(is_good || !alive, "a living grant was refused");
                let good = || AskResult::Fields(self.fields(&token, Weather::Fine).into());
                let answer = if is_good { good() } else { AskResult::Failed(REFUSED, ()) };
                process.go_on(Order::AskResult(answer, None));
                process.hear()
            }
            told => told,
        };
        match told {
            Said::Done(Turn::Settled(Settled::Refreshed { .. }) | Turn::Failed((), Some(_))) => {}
            Said::Looked(Ok(served)) | Said::Done(Turn::Served(served)) => self.served(&process.call, served),
            Said::Looked(Err(error)) | Said::Done(Turn::Refused(error)) => {
                assert!(!alive, "{holder:?} has a living grant and gets {error}");
                self.refused(&process.call, &error, None);
            }
            other => panic!("{other:?}"),
        }
    }

    /// Whether a holder has the current token of a grant, and may ask with it.
    fn is_alive(&self, (agent, profile): Holder) -> bool {
        let Ok(Profile::Oauth(held)) = self.store(agent).read(profile) else { return false };
        let token = held.refresh().unwrap_or_default();
        let (grant, generation) = Provider::origin(token);
        let grant = &self.provider.grants[grant];
        let never_sent = self.provider.sent.get(token).is_none_or(|sent| sent.times == 0 && !sent.unknown);
        // However often it was sent: a caller that may ask again is told what became of it.
        let may_ask = self.may_repeat() || (never_sent && !self.died_deciding);
        !grant.revoked && grant.current == generation && may_ask
    }
}

/// A received credential is in a store or in the journal.
pub(crate) fn check_kept(call: &Refresh, credential: &Credential) {
    let stored = [Some(&call.own), call.main.as_ref()].into_iter().flatten().any(|store| {
        matches!(store.read(call.key.profile_id()), Ok(Profile::Oauth(held)) if held.access() == credential.access())
    });
    let journaled = || {
        let record = Journal::peek(&term::journal(&call.lock_base, 0)).ok().flatten();
        let receipts = record.iter().flat_map(Record::receipts);
        receipts.filter_map(|receipt| receipt.credential.open()).any(|kept| kept.access() == credential.access())
    };
    assert!(stored || journaled(), "a received credential is lost");
}
