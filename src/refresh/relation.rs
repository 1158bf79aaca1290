//! What one credential is to another: the one place that says which may take the other's place. Calls go by it, and so does what
//! `inspect` tells of the next call.

use crate::credential::identity;
use crate::credential::{self, Credential, Generation};
use crate::journal::ledger::Ledger;

/// What a credential that is offered is to the one that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// The provider gave it in exchange for the held one, or for a successor of that, or as a newer access token beside the same refresh
    /// token. That proves its account: it may carry less evidence of that, and contradicts none.
    Successor,
    /// A login of the same account that lives longer, with a refresh token that is not known to be spent.
    Newer,
    /// A login of the same account, and none of these.
    Older,
    /// The provider gave it in exchange for the held one, and it names another account, tenant or client.
    Contradiction,
    /// It is another account's, tenant's, provider's or client's, or carries less evidence than the held one.
    Stranger,
}

impl Relation {
    /// What `offered` is to `held`, for all that `ledger` knows.
    #[must_use]
    pub fn of(held: &Credential, offered: &Credential, ledger: &Ledger) -> Self {
        let (old, new) = (held.generation(), offered.generation());
        let is_newer = offered.outlives(held) && !ledger.is_spent(new);
        if ledger.descends(new, old) {
            if may_succeed(held, offered) { Self::Successor } else { Self::Contradiction }
        } else if new == old && !new.is_none() && is_newer && may_succeed(held, offered) {
            Self::Successor
        } else if !passes_gate(held, offered) {
            Self::Stranger
        } else if is_newer {
            Self::Newer
        } else {
            Self::Older
        }
    }

    /// Whether it may take the place of the held one.
    #[must_use]
    pub fn replaces(self) -> bool {
        matches!(self, Self::Successor | Self::Newer)
    }
}

/// Whether the credential received in exchange for `held` may take its place: it does not contradict `held`'s identity.
#[must_use]
pub fn may_succeed(held: &Credential, received: &Credential) -> bool {
    is_for_one_client(held, received)
        && (passes_gate(held, received) || !identity::contradicts(held.fields(), received.fields()))
}

/// Whether two credentials say the same of whose they are.
#[must_use]
pub fn is_same_login(one: &Credential, other: &Credential) -> bool {
    passes_gate(one, other) && passes_gate(other, one)
}

/// Whether they don't name two clients: a refresh token works only for the client that it was issued to (RFC 6749 §6).
#[must_use]
pub fn is_for_one_client(one: &Credential, other: &Credential) -> bool {
    let client = |credential: &Credential| credential::text(credential.fields(), "clientId").map(str::to_owned);
    client(one).zip(client(other)).is_none_or(|(one, other)| one == other)
}

fn passes_gate(held: &Credential, offered: &Credential) -> bool {
    is_for_one_client(held, offered) && identity::check(held.fields(), offered.fields()).is_ok()
}

/// The credential that we send or serve in place of `held`, whose refresh token is spent, or may be: the first of its successors
/// among `known`, else the main store's if that is newer. It may have expired, or be in doubt, as it can be refreshed itself;
/// but it is not spent, or refused by the provider for good (`is_dead`).
pub fn replacement(
    held: &Credential,
    lineage: &Ledger,
    is_dead: impl Fn(Generation) -> bool,
    known: impl IntoIterator<Item = Credential>,
    main_credential: Option<&Credential>,
) -> Option<Credential> {
    let is = |one: &Credential, relation| {
        let generation = one.generation();
        Relation::of(held, one, lineage) == relation
            && generation != held.generation()
            // Without a refresh token it would leave the held one's in its place.
            && one.refresh().is_some()
            && !lineage.is_spent(generation)
            && !is_dead(generation)
    };
    let successor = known.into_iter().find(|one| is(one, Relation::Successor));
    successor.or_else(|| main_credential.filter(|main_credential| is(main_credential, Relation::Newer)).cloned())
}
