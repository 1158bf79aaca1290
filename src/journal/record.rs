//! What a journal says of a key: how far a refresh has come, what was received, what must not be sent.

use crate::clock::Clock;
use crate::credential::fields::Fields;
use crate::credential::{Credential, Generation};
use crate::digest::Digest;
use crate::failure;
use crate::journal::ledger::Ledger;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// How many received credentials are kept that a login has superseded.
const MAX_SUPERSEDED: usize = 2;
/// How many stores are remembered as holding what was received.
const MAX_STORES: usize = 32;

/// How many generations' failures are remembered in full: as many as stores.
const MAX_FAILURES: usize = 32;
/// How many access tokens' lifetimes are remembered: agents that share a profile id may each have a login of their own.
const MAX_LIFETIMES: usize = 64;
/// How long every caller waits after the first failure without a `Retry-After`; each further one doubles it.
const FIRST_BACK_OFF_MS: f64 = 1_000.0;
/// The longest such wait.
const LAST_BACK_OFF_MS: f64 = 60_000.0;

/// How far a refresh has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Progress {
    /// Nothing under way.
    #[default]
    Idle,
    /// An owner is about to ask the provider. Nothing was sent.
    Claimed,
    /// The provider is being asked, or was when the owner died: whether it has rotated is unknown.
    Dispatched,
    /// The provider's answer is in `received`, and not yet in every store.
    Received,
    /// The stores hold it.
    Committed,
}

impl Progress {
    /// The state as people see it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Claimed => "claimed",
            Self::Dispatched => "dispatched",
            Self::Received => "received",
            Self::Committed => "committed",
        }
    }
}

/// Everything that is known about a key.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// How far the refresh has come.
    pub state: Progress,
    /// Counts claims, so that one commit can be told from the next.
    pub epoch: u64,
    /// The claim: which owner sends which generation. Set from `Claimed` on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<ClaimRecord>,
    /// What the provider answered, until the stores hold it. The latest comes last.
    pub(crate) receipts: Vec<Receipt>,
    /// Why the provider can't be asked again, or not yet, by generation: an agent may be logged in by itself under a
    /// profile id that others share, so there can be several. The latest come last.
    pub(crate) failures: Vec<FailureRecord>,
    /// The stores that have taken what was received, where a successor may be found. The latest comes last.
    pub(crate) stores: Vec<PathBuf>,
    /// The spent generations.
    pub ledger: Ledger,
    /// How long access tokens live that were received here. The latest comes last.
    pub(crate) lifetimes: Vec<Lifetime>,
}

/// How long an access token lives, from its receipt to its expiry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lifetime {
    /// The access token's digest.
    pub access: Digest,
    /// Milliseconds.
    pub ms: f64,
}

/// Which owner sends which generation.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimRecord {
    /// Digest of provider and profile id: several keys may not share a lock path.
    pub key: Digest,
    /// The profile id, by which a host's store can be asked for what it holds of it.
    pub profile: String,
    /// The owner's process id, for people.
    pub pid: u32,
    /// When it claimed, in milliseconds since the epoch, for people.
    pub at: f64,
    /// What is sent, and where the answer belongs.
    pub origin: Origin,
    /// How often in a row this generation was sent before and no token came.
    pub attempts: u32,
    /// Should the owner die: when the next one may ask. `None`: at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
}

/// What is sent, where it is stored, and what the main store holds beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// The generation that is sent.
    pub generation: Generation,
    /// The store that holds its credential.
    pub store: PathBuf,
    /// The owner's main store. A profile of the same name in another one may be another person's.
    pub main: PathBuf,
    /// Whether that holds the profile too. If it no longer does, the profile was logged out there, and stays so.
    pub main_has_profile: bool,
    /// The generation that it holds, if that is another store. If it holds another one since, a login has landed there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub main_generation: Option<Generation>,
}

/// A received credential, and where it belongs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// The credential.
    pub credential: Sealed,
    /// Which of its fields the provider answered.
    pub answered: Vec<String>,
    /// What was spent for it, and where that was stored.
    pub origin: Origin,
    /// Whether a login or logout took its place in the store that held the spent one, and the main store lacks it; or
    /// whether a main store has it. It waits for another agent that may still hold the spent one, and makes room for others.
    pub superseded: bool,
    /// Whether its stores hold it, and one of them may lose it in a power cut. Then it waits for no store, but is there if one
    /// comes back with the credential that was spent for it.
    pub kept: bool,
}

impl Receipt {
    /// Whether its credential is of this generation.
    #[must_use]
    pub fn is_of(&self, generation: Generation) -> bool {
        self.credential.open().is_some_and(|held| held.generation() == generation)
    }
}

/// How the last provider call for a generation failed, where that binds the next caller.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailureRecord {
    /// The generation.
    pub generation: Generation,
    /// What is known of it.
    pub outcome: Outcome,
    /// The process that asked.
    pub pid: u32,
    /// When it asked or was answered, in milliseconds since the epoch.
    pub at: f64,
    /// How often in a row the provider was asked, and no token came.
    pub attempts: u32,
    /// Until when everyone waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
}

/// What is known of a generation after a failed call. The later, the worse.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Outcome {
    /// The provider has not rotated.
    Unspent,
    /// The provider has refused it from an agent that has a login of its own, perhaps of another client. An agent that holds it
    /// finds out for itself.
    NotOurs,
    /// Whether the provider has rotated is unknown. It is asked again, until it says.
    Uncertain,
    /// The provider refused it for good.
    Dead {
        /// The owner that died, or whose call was cut off, before the answer arrived; `None` if none did.
        lost_with: Option<LostCall>,
    },
}

/// A pause that every process keeps before a generation is sent again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pause {
    /// When it ends, in milliseconds of [`crate::clock::Clock::boot_ms`].
    pub until: f64,
    /// The boot that `until` counts from; in another, the pause is over.
    pub boot: String,
    /// When it began, by the same clock: tells boots apart where `boot` can't.
    pub since: f64,
}

impl Pause {
    /// The pause that begins now, after so many failed `attempts` with `generation`.
    #[must_use]
    pub fn begin(clock: &dyn Clock, generation: Generation, attempts: u32, kind: failure::Pause) -> Option<Self> {
        let ms = match kind {
            failure::Pause::None => return None,
            failure::Pause::BackOff => back_off_ms(generation, attempts),
            // A provider that asks for no pause is not to be asked all the time.
            failure::Pause::Asked(ms) => ms.max(doubled_ms(attempts)),
        };
        let since = clock.boot_ms();
        Some(Self { until: since + ms, boot: clock.boot_id(), since })
    }

    /// How much of it is left, in milliseconds.
    #[must_use]
    pub fn left_ms(&self, clock: &dyn Clock) -> Option<f64> {
        let left = self.until - clock.boot_ms();
        let is_on = clock.is_of_this_boot(&self.boot, self.since) && left > 0.0 && left <= failure::Pause::LONGEST_MS;
        is_on.then_some(left)
    }
}

/// 1 s, 2 s, 4 s, … 60 s, and up to a quarter more: how much differs from login to login, so that an outage does not end with
/// all of them at once. Taken from the digest, as all that wait for one login have to come to the same.
fn back_off_ms(generation: Generation, attempts: u32) -> f64 {
    let jitter = f64::from(generation.digest().as_bytes()[0]) / 256.0 / 4.0;
    doubled_ms(attempts) * (1.0 + jitter)
}

fn doubled_ms(attempts: u32) -> f64 {
    let doublings = i32::try_from(attempts.saturating_sub(1)).unwrap_or(i32::MAX);
    (FIRST_BACK_OFF_MS * 2f64.powi(doublings)).min(LAST_BACK_OFF_MS)
}

/// The owner whose call's outcome was lost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LostCall {
    /// Its process id.
    pub pid: u32,
    /// When it claimed, in milliseconds since the epoch.
    pub at: f64,
}

impl From<&FailureRecord> for LostCall {
    fn from(first: &FailureRecord) -> Self {
        Self { pid: first.pid, at: first.at }
    }
}

impl Record {
    /// Notes how the last call for a generation failed; `None` if nothing is in its way any more.
    pub fn set_failure(&mut self, generation: Generation, failure: Option<FailureRecord>) {
        self.failures.retain(|earlier| earlier.generation != generation);
        self.failures.extend(failure);
        while self.failures.len() > MAX_FAILURES {
            // First what the provider will say again, then what the ledger can say as well.
            let worth = |failure: &FailureRecord| match failure.outcome {
                Outcome::Unspent | Outcome::NotOurs => 0,
                Outcome::Dead { .. } => 1,
                Outcome::Uncertain => 2,
            };
            let Some(at) = (0..self.failures.len()).min_by_key(|at| worth(&self.failures[*at])) else { return };
            let gone = self.failures.remove(at);
            if gone.is_dead() {
                self.ledger.bury(gone.generation);
            }
        }
    }

    /// The same, with nothing under way.
    #[must_use]
    pub fn idle(self) -> Self {
        Self { state: Progress::Idle, ..self }
    }

    /// Takes over what the owner of an earlier term received and spent. It may be stuck in the middle of a call, and this
    /// may be done again.
    pub fn take_over(&mut self, earlier: &Self) {
        let known = self.ledger.clone();
        self.ledger.take_in(&earlier.ledger);
        for receipt in &earlier.receipts {
            let Some(received) = receipt.credential.open() else { continue };
            let is_same = |own: &Receipt| own.credential.open().is_some_and(|own| own == received);
            // One whose exchange is known already was taken over before, and may have gone to its stores since.
            let is_known = known.is_successor(received.generation()) || self.ledger.is_spent(received.generation());
            if !is_known && !self.receipts.iter().any(is_same) {
                self.receipts.push(receipt.clone());
            }
        }
        for store in &earlier.stores {
            if !self.stores.contains(store) {
                self.stores.insert(0, store.clone());
            }
        }
        for lifetime in &earlier.lifetimes {
            if self.lifetime_ms(lifetime.access).is_none() {
                self.lifetimes.insert(0, lifetime.clone());
            }
        }
        self.epoch = self.epoch.max(earlier.epoch);
        if self.claim.is_none() {
            self.claim.clone_from(&earlier.claim);
        }
    }

    /// Takes over how the calls of an earlier term's dead owner ended, including one that its death cut off. A living owner's
    /// call may still turn out not to have been sent.
    pub fn take_over_failures(&mut self, earlier: &Self) {
        let cut_off = earlier.claim.as_ref().and_then(|claim| earlier.failure_of(claim.origin.generation));
        for failure in earlier.failures.iter().cloned().chain(cut_off) {
            let weight = |failure: &FailureRecord| (failure.severity(), failure.attempts);
            let own = self.failure_of(failure.generation).as_ref().map(weight);
            if !self.ledger.is_spent(failure.generation) && own.is_none_or(|own| own < weight(&failure)) {
                self.set_failure(failure.generation, Some(failure));
            }
        }
    }

    /// Ends what a dead owner had under way, before another claim takes its place.
    pub fn end_claim(&mut self) {
        if let Some(generation) = self.claim.as_ref().map(|claim| claim.origin.generation) {
            let failure = self.failure_of(generation);
            self.state = Progress::Idle;
            self.set_failure(generation, failure);
        }
    }

    /// How calls failed that bind the next caller. The latest come last.
    #[must_use]
    pub fn failures(&self) -> &[FailureRecord] {
        &self.failures
    }

    /// What stands in the way of sending this generation: a failure, or an owner that died while it was asking.
    #[must_use]
    pub fn failure_of(&self, generation: Generation) -> Option<FailureRecord> {
        if let Some(claim) = self.claim.as_ref().filter(|_| self.is_sending(generation)) {
            // The owner that lost the first answer says more than the one that lost the latest.
            let first = self.failure_before(generation).filter(|failure| failure.outcome == Outcome::Uncertain);
            let (pid, at) = first.map_or((claim.pid, claim.at), |first| (first.pid, first.at));
            let (attempts, pause) = (claim.attempts.saturating_add(1), claim.pause.clone());
            return Some(FailureRecord { generation, outcome: Outcome::Uncertain, pid, at, attempts, pause });
        }
        self.failure_before(generation).cloned()
    }

    /// What stood in the way of sending this generation before the call that is under way.
    #[must_use]
    pub fn failure_before(&self, generation: Generation) -> Option<&FailureRecord> {
        self.failures.iter().find(|failure| failure.generation == generation)
    }

    /// When this generation was last sent with success and kept by the provider; `None` if the last claim is another's.
    #[must_use]
    pub fn kept_at(&self, generation: Generation) -> Option<f64> {
        let is_done = matches!(self.state, Progress::Received | Progress::Committed);
        let claim = self.claim.as_ref().filter(|claim| is_done && claim.origin.generation == generation)?;
        (!self.ledger.is_spent(generation)).then_some(claim.at)
    }

    /// Notes how long an access token lives.
    pub fn note_lifetime(&mut self, access: Digest, ms: f64) {
        self.lifetimes.retain(|known| known.access != access);
        self.lifetimes.push(Lifetime { access, ms });
        let excess = self.lifetimes.len().saturating_sub(MAX_LIFETIMES);
        self.lifetimes.drain(..excess);
    }

    /// How long this access token lives, if it was received here.
    #[must_use]
    pub fn lifetime_ms(&self, access: Digest) -> Option<f64> {
        self.lifetimes.iter().find(|known| known.access == access).map(|known| known.ms)
    }

    /// Whether an owner is sending this generation, or was when it died.
    #[must_use]
    pub fn is_sending(&self, generation: Generation) -> bool {
        self.state == Progress::Dispatched
            && self.claim.as_ref().is_some_and(|claim| claim.origin.generation == generation)
    }

    /// What the provider answered and the stores don't all hold yet, or may lose.
    #[must_use]
    pub fn receipts(&self) -> &[Receipt] {
        &self.receipts
    }

    /// What the provider answered and the stores don't all hold yet.
    pub fn waiting(&self) -> impl Iterator<Item = &Receipt> {
        self.receipts.iter().filter(|receipt| !receipt.kept)
    }

    /// What the stores hold and may lose.
    pub fn kept(&self) -> impl Iterator<Item = &Receipt> {
        self.receipts.iter().filter(|receipt| receipt.kept)
    }

    /// Forgets what was kept for a store that has been logged in or out since, but not what its agent's main store holds as well.
    pub fn forget_kept(&mut self, store: &Path) {
        self.receipts.retain(|receipt| !receipt.kept || receipt.origin.store != store || receipt.origin.main != store);
    }

    /// Adds what the provider answered in exchange for `spent`, which is now useless.
    pub fn receive(&mut self, spent: Generation, receipt: Receipt) {
        let is_of_use = |receipt: &Receipt| receipt.credential.open().is_some_and(|held| held.generation() != spent);
        self.receipts.retain(is_of_use);
        self.receipts.push(receipt);
    }

    /// Notes that a login or logout took a receipt's place. Of those, the latest are kept.
    pub fn supersede_receipt(&mut self, generation: Generation) {
        for receipt in &mut self.receipts {
            receipt.superseded |= receipt.credential.open().is_some_and(|held| held.generation() == generation);
        }
        while self.receipts.iter().filter(|receipt| receipt.superseded).count() > MAX_SUPERSEDED {
            self.give_up_superseded();
        }
    }

    /// Gives up the oldest receipt that a login has superseded. `false` if there is none.
    pub fn give_up_superseded(&mut self) -> bool {
        let oldest = self.receipts.iter().position(|receipt| receipt.superseded);
        oldest.map(|at| self.receipts.remove(at)).is_some()
    }

    /// Gives up the oldest receipt that is only kept. `false` if there is none.
    pub fn give_up_kept(&mut self) -> bool {
        let oldest = self.receipts.iter().position(|receipt| receipt.kept);
        oldest.map(|at| self.receipts.remove(at)).is_some()
    }

    /// Removes a receipt that the stores hold, or keeps it if they may lose it, in the place of an earlier one; and remembers where.
    pub fn settle_receipt(&mut self, generation: Generation, store: Option<&Path>, is_kept: bool) {
        let settled = self.receipts.iter().rfind(|receipt| receipt.is_of(generation)).cloned();
        self.receipts.retain(|receipt| receipt.credential.open().is_some_and(|held| held.generation() != generation));
        if let Some(receipt) = settled.filter(|_| is_kept) {
            self.receipts.retain(|earlier| !earlier.kept || earlier.origin.store != receipt.origin.store);
            self.receipts.push(Receipt { kept: true, superseded: false, ..receipt });
        }
        if let Some(store) = store {
            self.stores.retain(|known| known != store);
            self.stores.push(store.to_owned());
            let excess = self.stores.len().saturating_sub(MAX_STORES);
            self.stores.drain(..excess);
        }
        if self.waiting().next().is_none() && self.state == Progress::Received {
            self.state = Progress::Committed;
        }
    }

    /// The profile id.
    #[must_use]
    pub fn profile(&self) -> Option<&str> {
        self.claim.as_ref().map(|claim| claim.profile.as_str())
    }

    /// The stores that may hold a successor.
    pub fn stores(&self) -> impl Iterator<Item = &Path> {
        let receipts = self.receipts.iter().map(|receipt| receipt.origin.store.as_path());
        self.stores.iter().rev().map(PathBuf::as_path).chain(receipts)
    }
}

impl FailureRecord {
    /// Whether the provider refused it for good.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        matches!(self.outcome, Outcome::Dead { .. })
    }

    /// How much stands in the way.
    #[must_use]
    pub fn severity(&self) -> u8 {
        match self.outcome {
            Outcome::Unspent => 0,
            Outcome::NotOurs => 1,
            Outcome::Uncertain => 2,
            Outcome::Dead { .. } => 3,
        }
    }

    /// What all these records know of a generation, taken together: one may know that a call was cut off, and another that its
    /// repetition was refused. The worst outcome counts, the most attempts, and the longest pause. A failure no longer counts if a
    /// later call under another name was answered and the provider kept the refresh token.
    #[must_use]
    pub fn among<'a>(
        records: impl Iterator<Item = &'a Record> + Clone,
        generation: Generation,
        clock: &dyn Clock,
    ) -> Option<Self> {
        let kept_at = records.clone().filter_map(|record| record.kept_at(generation)).reduce(f64::max);
        let failures = records.filter_map(|record| record.failure_of(generation));
        failures.filter(|failure| kept_at.is_none_or(|kept_at| failure.at > kept_at)).reduce(|one, other| {
            let attempts = one.attempts.max(other.attempts);
            let left = |failure: &Self| failure.pause.as_ref().and_then(|pause| pause.left_ms(clock)).unwrap_or(0.0);
            let pause = if left(&one) >= left(&other) { one.pause.clone() } else { other.pause.clone() };
            let worst = if other.severity() > one.severity() { other } else { one };
            Self { attempts, pause, ..worst }
        })
    }
}

/// A credential as JSON text. Its `Debug` shows nothing, and its memory is wiped on drop.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sealed(Zeroizing<String>);

impl Sealed {
    /// Seals a credential.
    #[must_use]
    pub fn new(credential: &Credential) -> Self {
        Self(credential.members().to_compact())
    }

    /// How many bytes the journal needs for it.
    #[must_use]
    pub fn journaled_bytes(&self) -> usize {
        Self::text_bytes(&self.0)
    }

    /// How many bytes the journal needs for a text.
    #[must_use]
    pub fn text_bytes(text: &str) -> usize {
        serde_json::to_string(text).map_or(usize::MAX / 2, |text| Zeroizing::new(text).len() + 1)
    }

    /// The credential; `None` if the text is not one.
    #[must_use]
    pub fn open(&self) -> Option<Credential> {
        Fields::parse(&self.0).and_then(Credential::from_profile)
    }
}

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealed(…)")
    }
}
