//! What holds in every state, and what happens in some.

use super::{Action, Host, Hosts, Journal, LostHost, Pauses, Repeats, Row, Step, World};
use crate::settling::Settles;
use stateright::Property;

pub const NEVER_BESIDE_AN_ANSWER: &str = "no token is sent while an answer to it lives or another host awaits one";
pub const REPEATS_ARE_MARKED: &str = "a token is sent again only as a repeat";
pub const ONE_REPEAT: &str = "a token is repeated once at most";
pub const NOTHING_LOST: &str = "a received successor reaches the row, or waits in a journal for it";
pub const NOT_GIVEN_UP: &str = "a login is in doubt for good only if a disk was lost";
pub const NOT_GIVEN_UP_UNSENT: &str = "a login is in doubt for good only if its token was sent or a disk was lost";
pub const ONLY_THE_PROVIDER_ENDS: &str = "a row is dead only if the successor was lost on its way";

pub(super) fn of<const N: usize>(model: Hosts<N>) -> Vec<Property<Hosts<N>>> {
    let mut all = vec![
        Property::always(NEVER_BESIDE_AN_ANSWER, |_, world: &World<N>| !world.beside_an_answer),
        Property::always(REPEATS_ARE_MARKED, |_, world: &World<N>| !world.unmarked),
        Property::always(NOTHING_LOST, |model: &Hosts<N>, world: &World<N>| {
            let is_kept = |host: &Host| matches!(host.journal, Journal::Received | Journal::Owed);
            !world.received
                || world.lost_a_disk(model.mishaps)
                || world.row == Row::Spent
                || world.hosts.iter().any(is_kept)
        }),
        Property::always(ONLY_THE_PROVIDER_ENDS, |_, world: &World<N>| {
            world.row != Row::Dead || (world.rotated && !world.hosts.iter().any(|host| host.has_an_answer()))
        }),
        Property::always(NOT_GIVEN_UP_UNSENT, |model: &Hosts<N>, world: &World<N>| {
            world.sent > 0 || !model.has_given_up(world)
        }),
        Property::sometimes("a process is too late to send, and takes its call back", |_, world: &World<N>| {
            let has_taken_back = |host: &Host| host.step == Step::Decide && host.journal == Journal::Claimed;
            world.hosts.iter().any(|host| has_taken_back(host) && host.age > 0)
        }),
        Property::sometimes("a claim that was given up goes on", |_, world: &World<N>| {
            let is_own = |at: usize| world.hosts[at].step == Step::Claim && world.own_claim(at).is_some();
            matches!(world.row, Row::Unsure { ended: false, .. }) && (0..N).any(is_own)
        }),
        Property::sometimes("everybody is served", |_, world: &World<N>| world.hosts.iter().all(|host| host.stored)),
    ];
    if model.pauses == Pauses::Anywhere {
        all.push(Property::sometimes("a late answer is committed", |_, world: &World<N>| {
            matches!(world.row, Row::Unsure { .. }) && world.hosts.iter().any(|host| host.step == Step::Commit)
        }));
    }
    match model.repeats {
        Repeats::Once => all.push(Property::always(ONE_REPEAT, |_, world: &World<N>| world.repeated <= 1)),
        Repeats::UntilAnswered => all.push(Property::always(NOT_GIVEN_UP, |model: &Hosts<N>, world: &World<N>| {
            model.lost_host == LostHost::Probe || !model.has_given_up(world)
        })),
    }
    all
}

impl<const N: usize> Hosts<N> {
    /// Whether nobody may claim the generation, and nobody is left who knows what became of the last claim.
    fn has_given_up(self, world: &World<N>) -> bool {
        let knows_more = |at: usize| {
            let host = &world.hosts[at];
            let is_done = host.step == Step::Decide && matches!(host.journal, Journal::Idle | Journal::Claimed);
            host.lives && (!is_done || self.may_claim(world, at).is_some())
        };
        matches!(world.row, Row::Unsure { .. })
            && !world.lost_a_disk(self.mishaps)
            && world.late.is_empty()
            && !(0..N).any(knows_more)
    }
}

impl<const N: usize> Settles for Hosts<N> {
    fn is_step(action: &Action) -> bool {
        matches!(action, Action::Go(_) | Action::GiveUp(_) | Action::Age(_))
    }

    /// Everybody who lives is served, or told by the provider's word that the login is over.
    fn is_settled(&self, world: &World<N>) -> bool {
        world.row == Row::Dead || world.hosts.iter().all(|host| host.stored || !host.lives)
    }

    fn has_an_excuse(&self, world: &World<N>) -> bool {
        world.lost_a_disk(self.mishaps)
    }
}
