//! One caller's way to a usable credential: look, then lock and decide, then claim, refresh and settle.
//!
//! What is read before the lock is held is a hint; what [`Call::decide`] reads under it is authoritative. The types carry
//! the order: only a [`Claim`] can be settled, settling consumes it, and the lock is released with it.

use crate::clock::Clock;
use crate::credential::{Credential, Generation, RefreshedFields};
use crate::error::{Code, Error, Result};
use crate::identity::{self, Refusal};
use crate::key::Key;
use crate::lock::Guard;
use crate::mirror::{self, Reason};
use crate::store::{Profile, Store};
use std::sync::{Arc, OnceLock};
use zeroize::Zeroizing;

/// A token that expires within this many milliseconds counts as expired (OpenClaw's rule).
pub const DEFAULT_REFRESH_MARGIN_MS: f64 = 300_000.0;

/// What a caller asks for.
pub struct Call {
    /// Provider and profile.
    pub key: Key,
    /// The calling agent's store.
    pub own: Store,
    /// The main agent's store; `None` if the calling agent is the main agent.
    pub main: Option<Store>,
    /// See [`DEFAULT_REFRESH_MARGIN_MS`].
    pub margin_ms: f64,
    /// Replace the credential although it has not expired: the access token that the first [`Call::look`] finds is
    /// rejected.
    pub force: bool,
    /// An access token that is not to be served although it has not expired: the resource server refused it.
    pub rejected: OnceLock<Zeroizing<String>>,
    /// Now.
    pub clock: Arc<dyn Clock>,
}

/// A credential for the caller, without asking the provider.
#[derive(Debug)]
pub enum Served {
    /// No such profile, or not an OAuth profile.
    Absent,
    /// The stored credential is usable.
    Fresh(Credential),
    /// Main's or a peer's credential was taken over.
    Adopted {
        /// It.
        credential: Credential,
        /// Why it could not be saved in the agent's own store too. It is durable where it came from.
        not_saved: Option<Error>,
    },
}

/// What the owner of the lock is to do.
#[derive(Debug)]
pub enum Decision {
    /// Nothing: somebody else has refreshed. The lock is released.
    Served(Served),
    /// Ask the provider.
    Claimed(Claim),
}

/// What became of a refreshed credential.
#[derive(Debug)]
pub enum Settled {
    /// It is durable in the store that held the old one.
    Refreshed {
        /// It.
        credential: Credential,
        /// What the main store made of it; `None` if that is the store it went to.
        mirrored: Option<Result<Reason>>,
    },
    /// A login landed meanwhile and is served instead.
    Superseded(Credential),
    /// The profile was logged out meanwhile, and stays so.
    LoggedOut,
}

/// The right to make one provider call for one generation. Holds the key's lock.
#[derive(Debug)]
pub struct Claim {
    lock: Guard,
    place: Place,
    credential: Credential,
    spent: Generation,
}

/// Which store holds the credential that a call is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Own,
    /// The agent's own store lacks the profile and inherits main's.
    Main,
}

impl Claim {
    /// The credential to refresh, as re-read under the lock.
    #[must_use]
    pub fn credential(&self) -> &Credential {
        &self.credential
    }
}

impl Call {
    /// Refuses where the stores are of OpenClaw's SQLite era.
    pub fn refuse_sqlite_era(&self) -> Result<()> {
        self.own.refuse_sqlite_era()?;
        self.main.as_ref().map_or(Ok(()), Store::refuse_sqlite_era)
    }

    /// Tries without the lock: the stored credential, then what a peer in this process just got, then main's.
    ///
    /// `None` means that the lock is needed.
    pub fn look(&self, peers: Option<&Credential>) -> Result<Option<Served>> {
        let Some((place, held)) = self.held()? else { return Ok(Some(Served::Absent)) };
        if self.force {
            self.rejected.get_or_init(|| Zeroizing::new(held.access().unwrap_or_default().to_owned()));
        }
        if self.is_usable(&held) {
            return Ok(Some(Served::Fresh(held)));
        }
        let Some(main) = self.main.as_ref().filter(|_| place == Place::Own) else { return Ok(None) };
        if let Some(peers) = peers.filter(|peers| self.is_adoptable(&held, peers)) {
            return self.adopt(peers).map(Some);
        }
        // Only a hint here: if main can't be read, the decision under the lock says so.
        match main.read(self.key.profile_id()) {
            Ok(Profile::Oauth(mains)) if self.is_adoptable(&held, &mains) => self.adopt(&mains).map(Some),
            _ => Ok(None),
        }
    }

    /// Decides under the key's lock. An adopter releases it before it writes its own store, so that adoptions run side
    /// by side.
    pub fn decide(&self, lock: Guard) -> Result<Decision> {
        let Some((place, held)) = self.held()? else { return Ok(Decision::Served(Served::Absent)) };
        if self.is_usable(&held) {
            return Ok(Decision::Served(Served::Fresh(held)));
        }
        if let Some(main) = self.main.as_ref().filter(|_| place == Place::Own) {
            // A main store that can't be read can't be mirrored to either; its other readers would then replay the
            // token that we spend. So this error stops us before the provider is asked.
            match main.read(self.key.profile_id())? {
                Profile::Oauth(mains) if self.is_adoptable(&held, &mains) => {
                    drop(lock);
                    return self.adopt(&mains).map(Decision::Served);
                }
                _ => {}
            }
        }
        let spent = held.generation();
        Ok(Decision::Claimed(Claim { lock, place, credential: held, spent }))
    }

    /// Stores what the provider answered, then mirrors it to main. Nobody sees it before it is durable.
    pub fn settle(&self, claim: Claim, fields: &RefreshedFields) -> Result<Settled> {
        let refreshed = claim.credential.merged_with(fields);
        self.refuse_other_identity(&claim.credential, &refreshed)?;
        let store = match (claim.place, &self.main) {
            (Place::Main, Some(main)) => main,
            _ => &self.own,
        };
        let Claim { lock, place, spent, .. } = claim;
        let settled = store.lock()?.update(self.key.profile_id(), |now| match now {
            Profile::Oauth(now) if now.generation() == spent => {
                // Merged anew, since other fields may have changed meanwhile.
                let refreshed = now.merged_with(fields);
                (Some(refreshed.clone()), Ok(Settled::Refreshed { credential: refreshed, mirrored: None }))
            }
            Profile::Oauth(now) if self.is_usable(&now) => (None, Ok(Settled::Superseded(now))),
            Profile::Oauth(_) => (None, Err(superseded(store))),
            Profile::Missing | Profile::NotOauth => (None, Ok(Settled::LoggedOut)),
        })??;
        let settled = match (settled, place, &self.main) {
            (Settled::Refreshed { credential, .. }, Place::Own, Some(main)) => {
                let mirrored = Some(self.mirror(main, &credential));
                Settled::Refreshed { credential, mirrored }
            }
            (settled, ..) => settled,
        };
        drop(lock);
        Ok(settled)
    }

    /// After a refresh that failed: what the stores hold now may serve all the same. With `retry`, a credential that
    /// replaced the spent one may be claimed once more. `None` means that nothing can be done.
    pub fn recover(&self, claim: Claim, retry: bool) -> Result<Option<Decision>> {
        let spent = claim.spent;
        Ok(match self.decide(claim.lock)? {
            Decision::Claimed(again) if !retry || again.spent == spent => None,
            decision => Some(decision),
        })
    }

    /// The credential that this call is about, and which store holds it.
    fn held(&self) -> Result<Option<(Place, Credential)>> {
        let profile_id = self.key.profile_id();
        let (place, profile) = match (self.own.read(profile_id)?, &self.main) {
            (Profile::Missing, Some(main)) => (Place::Main, main.read(profile_id)?),
            (profile, _) => (Place::Own, profile),
        };
        let Profile::Oauth(credential) = profile else { return Ok(None) };
        if credential.provider() == Some(self.key.provider()) {
            return Ok(Some((place, credential)));
        }
        let store = match (place, &self.main) {
            (Place::Main, Some(main)) => main,
            _ => &self.own,
        };
        let message = "the stored profile belongs to another provider than the call names";
        Err(Error::at(Code::ProviderMismatch, store.path(), message))
    }

    fn is_usable(&self, credential: &Credential) -> bool {
        credential.is_usable(self.clock.now_ms(), self.margin_ms)
            && credential.access() != self.rejected.get().map(|rejected| rejected.as_str())
    }

    /// Whether `offered` is usable, lives longer than `held`, and may take its place.
    fn is_adoptable(&self, held: &Credential, offered: &Credential) -> bool {
        self.is_usable(offered)
            && held.expires().is_none_or(|held| offered.expires().is_some_and(|offered| offered > held))
            && identity::check(held.fields(), offered.fields()).is_ok()
    }

    /// Takes a credential over into the agent's own store, which is looked at again under its lock.
    fn adopt(&self, offered: &Credential) -> Result<Served> {
        let adopted = |not_saved| Served::Adopted { credential: offered.clone(), not_saved };
        let saved = self.own.lock().and_then(|store| {
            store.update(self.key.profile_id(), |now| match now {
                Profile::Oauth(now) if self.is_usable(&now) => (None, Some(Served::Fresh(now))),
                Profile::Oauth(now) if self.is_adoptable(&now, offered) => {
                    (Some(now.replaced_by(offered)), Some(adopted(None)))
                }
                Profile::Oauth(_) | Profile::NotOauth => (None, None),
                Profile::Missing => (None, Some(Served::Absent)),
            })
        });
        match saved {
            Ok(Some(served)) => Ok(served),
            Ok(None) => Err(superseded(&self.own)),
            Err(error) => Ok(adopted(Some(error))),
        }
    }

    fn mirror(&self, main: &Store, refreshed: &Credential) -> Result<Reason> {
        main.lock()?.update(self.key.profile_id(), |existing| {
            let reason = match &existing {
                Profile::Missing => mirror::decide(None, refreshed),
                Profile::NotOauth => Reason::NonOauthExistingCredential,
                Profile::Oauth(existing) => mirror::decide(Some(existing.fields()), refreshed),
            };
            let new = reason.writes().then(|| match &existing {
                Profile::Oauth(existing) => existing.replaced_by(refreshed),
                _ => refreshed.clone(),
            });
            (new, reason)
        })
    }

    fn refuse_other_identity(&self, spent: &Credential, refreshed: &Credential) -> Result<()> {
        identity::check(spent.fields(), refreshed.fields()).map_err(|refusal| {
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
        })
    }
}

fn superseded(store: &Store) -> Error {
    let message = "the profile was replaced while the call was under way; call again";
    Error::at(Code::Superseded, store.path(), message)
}
