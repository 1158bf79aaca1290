//! One caller's way through the core: what is served, what is asked of the provider, and what ends up in which store.

mod adopt;
mod failed;
mod look;
mod many;
mod meanwhile;
mod refused;
mod settle;

use crate::support::HUNG;
use crate::support::child::{Role, hear, say};
use crate::support::files::snapshot;
use crate::support::world::{Agent, MINUTE, PROFILE, World, answer, shown, with};
use oauth_refresh_lock::lock::{self, Target};
use oauth_refresh_lock::refresh::mirror::Reason;
use oauth_refresh_lock::refresh::{Refresh, Served, Settled};
use serde_json::Value;
use zeroize::Zeroizing;

const EXPIRED: i64 = -MINUTE;

/// What a refresh of `old` to this generation makes of it.
fn refreshed(old: &Value, generation: &str) -> Value {
    with(old.clone(), &answer(generation))
}

#[track_caller]
fn fresh(served: Option<Served>) -> Value {
    match served {
        Some(Served::Fresh(credential)) => shown(&credential),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn adopted(served: Option<Served>) -> Value {
    match served {
        Some(Served::Adopted { credential, not_saved: None, .. }) => shown(&credential),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn is_absent(served: Option<Served>) {
    match served {
        Some(Served::Absent) => {}
        other => panic!("{other:?}"),
    }
}

/// The refreshed credential and what main made of it.
#[track_caller]
fn settled(settled: Settled) -> (Value, Option<Reason>) {
    match settled {
        Settled::Refreshed { credential, mirrored, not_saved: None, .. } => {
            (shown(&credential), mirrored.map(|reason| reason.expect("a reason")))
        }
        other => panic!("{other:?}"),
    }
}

fn rejecting(call: Refresh, access: &str) -> Refresh {
    call.rejected.set(Zeroizing::new(access.to_owned())).unwrap();
    call
}

fn forced(call: Refresh) -> Refresh {
    Refresh { force: true, ..call }
}

/// Everything in the agents' directories.
fn stores(world: &World) -> impl PartialEq + std::fmt::Debug {
    snapshot(&world.state().join("agents"))
}

#[track_caller]
fn assert_lock_is_free(world: &World) {
    drop(
        lock::acquire_blocking(&Target::refresh(&world.lock_base(), &crate::support::clocks::system()), HUNG)
            .expect("a free lock"),
    );
}

/// What the children of these tests do.
pub(crate) const ROLES: &[Role] = &[
    ("be one of many agents", |arguments| many::is_one_of_many_agents(&World::of(arguments), &arguments[1])),
    ("claim and hang", |arguments| {
        let world = World::of(arguments);
        let claim = world.claim(&world.call_of_sub());
        say("claimed");
        hear();
        drop(claim);
    }),
];

/// The stored profile.
fn shown_profile(agent: &Agent) -> Value {
    match agent.store().read(PROFILE).unwrap() {
        oauth_refresh_lock::store::Profile::Oauth(credential) => shown(&credential),
        other => panic!("{other:?}"),
    }
}
