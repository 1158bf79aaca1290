//! A login or logout, through the locks of its store: a refresh under way finds it there, and it stays.

use super::Refresh;
use super::stored::StoredState;
use crate::credential::{Credential, REFRESHED_BY, mistake};
use crate::error::{Code, Error, Result};
use crate::journal::MAX_CREDENTIAL_BYTES;
use crate::journal::record::Sealed;
use crate::store::{Profile, Store, Unsynced};
use serde_json::{Map, Value};

/// What a login has found in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoggedIn {
    /// No such profile.
    Added,
    /// An earlier login of the same account, or, if that was allowed, whatever else there was.
    Replaced,
}

impl Refresh {
    /// Stores a login in the agent's own store, durably. One of another account, or another kind of profile, gives way only if
    /// `replaces_others`.
    pub fn log_in(&self, login: &Credential, replaces_others: bool) -> Result<LoggedIn> {
        self.refuse_sqlite_era()?;
        self.refuse_login(login)?;
        // Its other fields stay. Where another account's may be replaced, only those of what is certainly the same account.
        let is_continued = |now: &Credential| {
            let is_known = !replaces_others || now.is_same_account(login);
            is_known && self.is_of_provider(now) && !now.contradicts_login(login)
        };
        let (logged_in, unsynced) = self.own.update(self.key.profile_id(), |now| match now {
            Profile::Claimed(_) => (None, Err(self.own.is_claimed())),
            Profile::NoStore | Profile::Missing => (Some(login.clone()), Ok(LoggedIn::Added)),
            Profile::Oauth(now) if is_continued(&now) => (Some(now.replaced_by_login(login)), Ok(LoggedIn::Replaced)),
            _ if replaces_others => (Some(login.clone()), Ok(LoggedIn::Replaced)),
            _ => (None, Err(self.is_taken())),
        })?;
        let logged_in = logged_in?;
        unsynced.as_ref().map_or(Ok(()), Unsynced::sync)?;
        Ok(logged_in)
    }

    /// Takes the login out of the agent's own store, durably. `false` if there is none. What else may stand under that name stays.
    pub fn log_out(&self) -> Result<bool> {
        self.refuse_sqlite_era()?;
        let Store::File(file) = &self.own else {
            let message = "a store of the host's own is logged out by the host";
            return Err(Error::at(Code::InvalidArgument, self.own.path(), message));
        };
        if self.own.read(self.key.profile_id())?.is_absent() {
            return Ok(false);
        }
        let is_it = |now: &Profile| matches!(now, Profile::Oauth(now) if self.is_of_provider(now));
        let (is_gone, unsynced) = file.remove(self.key.profile_id(), is_it)?;
        unsynced.sync()?;
        Ok(is_gone)
    }

    fn refuse_login(&self, login: &Credential) -> Result<()> {
        let refuse = |why: &str| {
            let message = format!("the login for profile \"{}\" {why}", self.key.profile_id().escape_debug());
            Err(Error::new(Code::InvalidArgument, message))
        };
        if let Some(why) = mistake(login.fields()) {
            return refuse(why);
        }
        if !self.is_of_provider(login) {
            return refuse("names another provider");
        }
        if login.access().is_none() && login.refresh().is_none() {
            return refuse("has neither an access token nor a refresh token");
        }
        if Sealed::new(login).journaled_bytes() > MAX_CREDENTIAL_BYTES {
            return refuse("is larger than 40 KiB");
        }
        if [login.access(), login.refresh()].into_iter().flatten().any(|token| token.contains(char::is_control)) {
            return refuse("has a token with control characters, which no request can carry");
        }
        let known = self.known();
        if login.refresh().is_some() && known.ledger.is_spent(login.generation()) {
            let message =
                "this refresh token was used before, so the provider would refuse it; log in again at the provider";
            return Err(Error::new(Code::RefreshTokenSpent, message));
        }
        if known.is_dead(login.generation()) {
            let message = "the provider has refused this refresh token for good; log in again at the provider";
            return Err(Error::new(Code::GrantDead, message));
        }
        Ok(())
    }

    /// How the login is refreshed, as it was told when it was stored. `None` if there is no login.
    pub fn refreshed_by(&self) -> Result<Option<Map<String, Value>>> {
        let (StoredState::Held(_, held) | StoredState::Claimed(_, Some(held))) = self.found()? else { return Ok(None) };
        let told = |name: &str| held.fields().get(name).map(|value| (name.to_owned(), value.clone()));
        Ok(Some(REFRESHED_BY.iter().filter_map(|name| told(name)).collect()))
    }

    fn is_taken(&self) -> Error {
        let message = format!(
            "the profile \"{}\" is another account's, another provider's, or no OAuth login; choose another profile id, or replace it (`replace`, on the command line `--replace`)",
            self.key.profile_id().escape_debug()
        );
        Error::at(Code::IdentityMismatch, self.own.path(), message)
    }
}
