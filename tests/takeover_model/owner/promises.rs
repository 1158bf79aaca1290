//! What holds in every state of the owners' model, and what happens in some.

use super::{End, Owners, Process, Step, World};
use crate::journal::{Doubt, State};
use crate::tenure::{LAST, TERMS};
use stateright::Property;

pub const BEGUN_ONCE: &str = "a term is begun once";
pub const ONE_OWNER: &str = "a term has one owner at a time";
pub const ONE_CALL: &str = "a generation is sent once without a doubt on record";
pub const NO_NEEDLESS_SEND: &str =
    "a generation is sent once, unless an answer was lost, or an owner died or was overdue after it had dispatched";
pub const ONE_AT_A_TIME: &str = "nobody asks again while another owner is asking, if neither is overdue";
pub const ONLY_THE_PROVIDER_ENDS: &str = "nobody is told to log in unless the provider has refused the token";
pub const LIVES_ON: &str = "a token that the provider has not used is sent by the next owner";
pub const NOTHING_LOST: &str = "a received credential is in the store or a journal";
pub const NEVER_BACK: &str = "no older credential overwrites a newer one";
pub const NOBODY_WAITS_FOR_EVER: &str = "nobody waits for ever";
pub const GRANT_SURVIVES: &str = "without a death, a successor is in the store when everybody has ended";

pub(super) fn all<const N: usize>() -> Vec<Property<Owners<N>>> {
    vec![
        Property::always(BEGUN_ONCE, |_, world: &World<N>| world.terms.begun.iter().all(|&times| times <= 1)),
        Property::always(ONE_OWNER, |_, world: &World<N>| {
            let owners =
                |term| world.processes.iter().filter(move |one| one.tenure.is_owner() && one.tenure.term == term);
            (0..TERMS).all(|term| owners(term).count() <= 1)
        }),
        Property::always(ONE_CALL, |_, world: &World<N>| world.calls <= 1),
        Property::always(NO_NEEDLESS_SEND, |_, world: &World<N>| world.cut_off || world.calls + world.repeats <= 1),
        Property::always(ONE_AT_A_TIME, |_, world: &World<N>| !world.hasty),
        Property::always(ONLY_THE_PROVIDER_ENDS, |_, world: &World<N>| {
            !world.processes.iter().any(|one| one.step == Step::Ended(End::ToldToLogIn))
        }),
        Property::always(LIVES_ON, |_, world: &World<N>| {
            world.rotated || !world.journals.iter().any(|one| matches!(one.doubt, Doubt::Buried | Doubt::Dead))
        }),
        Property::always(NOTHING_LOST, |_, world: &World<N>| {
            !world.received || world.store > 0 || world.journals.iter().any(|one| one.state == State::Received)
        }),
        Property::always(NEVER_BACK, |_, world: &World<N>| !world.went_back),
        Property::always(NOBODY_WAITS_FOR_EVER, |model: &Owners<N>, world: &World<N>| !model.is_stuck(world)),
        Property::always(GRANT_SURVIVES, |model: &Owners<N>, world: &World<N>| {
            world.left != model.mishaps || world.store > 0 || !world.processes.iter().all(Process::has_ended)
        }),
        Property::sometimes("the last term begins", |_, world: &World<N>| world.terms.current() == LAST),
        Property::sometimes("an old owner undoes its dispatch", |_, world: &World<N>| any(world, Step::Undo, |_| true)),
        Property::sometimes("an old owner commits late", |_, world: &World<N>| {
            any(world, Step::WriteCommitted, |one| !one.found && one.tenure.term < world.terms.current())
        }),
        Property::sometimes("a successor is taken from an older journal", |_, world: &World<N>| {
            any(world, Step::Commit, |one| one.found)
        }),
        Property::sometimes("a repeated call is refused", |_, world: &World<N>| {
            any(world, Step::WriteRefused, |one| one.doubt == Doubt::Uncertain)
        }),
        Property::sometimes("a call comes later than its repetition", |_, world: &World<N>| {
            any(world, Step::WriteRefused, |one| one.doubt == Doubt::None)
        }),
    ]
}

fn any<const N: usize>(world: &World<N>, step: Step, is: impl Fn(&Process) -> bool) -> bool {
    world.processes.iter().any(|one| one.step == step && is(one))
}
