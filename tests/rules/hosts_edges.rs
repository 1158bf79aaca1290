//! One grant on several hosts: races, forgetful or slow engines, and rows that nobody expects.

use crate::hosts::{EXPIRED, adopted, assert_elsewhere, backed_off, call, host, later, refreshed};
use crate::support::engine::Engine;
use crate::support::world::{HOUR, MINUTE, NOW, PROVIDER, World, answer, claimed, credential, die_asking, oauth, with};
use crate::support::{files, locks};
use oauth_refresh_lock::coordinator::{
    Answer, Coordinator, CoordinatorDown, Entry, Grant, HostClaim, Hosts, LostHost, Row, RowState, Unavailable, Watch,
};
use oauth_refresh_lock::error::Code;
use oauth_refresh_lock::refresh::{Backoff, Decision, FailureClass, Refresh, Uncertain};
use serde_json::{Value, json};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Runs something after the first swap that is done, and shows rows as they were, or no more than so many.
struct Odd {
    engine: Arc<Engine>,
    after_swap: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    shown: Option<Entry>,
    max_loads: u32,
}

impl Odd {
    fn new(engine: &Arc<Engine>) -> Self {
        Self { engine: Arc::clone(engine), after_swap: Mutex::default(), shown: None, max_loads: u32::MAX }
    }

    fn take_hook(&self) -> Option<Box<dyn FnOnce() + Send>> {
        self.after_swap.lock().unwrap().take()
    }

    fn hosts(self, name: &str) -> Hosts {
        Hosts {
            coordinator: Arc::new(self),
            lost_host: LostHost::Wait,
            down: CoordinatorDown::Refuse,
            keys: Vec::new(),
            name: name.to_owned(),
        }
    }
}

impl Coordinator for Odd {
    fn name(&self) -> &'static str {
        "odd"
    }

    fn load(&self, row: &str) -> Result<Option<Entry>, Unavailable> {
        if self.engine.asked().0 >= self.max_loads {
            return Err(Unavailable("asked too often".to_owned()));
        }
        let loaded = self.engine.load(row)?;
        Ok(self.shown.clone().or(loaded))
    }

    fn compare_and_swap(&self, row: &str, expected: Option<&str>, value: &str) -> Result<Option<String>, Unavailable> {
        let swapped = self.engine.compare_and_swap(row, expected, value);
        if matches!(swapped, Ok(Some(_)))
            && let Some(hook) = self.take_hook()
        {
            hook();
        }
        swapped
    }

    fn watch(&self, _: &str, _: &str, _: Duration, _: Box<dyn FnOnce() + Send>) -> Option<Watch> {
        None
    }
}

fn alone(world: &World, engine: &Arc<Engine>) -> Refresh {
    let mut alone = call(world, engine, "a");
    alone.hosts.as_mut().unwrap().down = CoordinatorDown::Alone;
    alone
}

fn spent(from: &str, to: &Value) -> (String, String) {
    let grant = Grant::of(&format!("SECRET-refresh-{from}")).unwrap();
    let names = vec!["access".into(), "refresh".into(), "expires".into()];
    let mut row = Row::new(RowState::Spent, None);
    row.answer = grant.seal(&Answer::new(&oauth(to), names, None, "b".into()), &[]);
    (grant.row().to_owned(), row.to_json())
}

#[test]
fn an_owner_that_was_taken_over_from_does_not_free_the_row_of_its_lost_peer() {
    for (taken_over, state) in [(true, "lost"), (false, "free")] {
        let (a, engine) = (host("1"), Arc::new(Engine::default()));
        let stuck = a.claim(&call(&a, &engine, "a"));
        // A peer of a later term has gone on under the same id, later; or nobody has. Other hosts have given the row up.
        let mut row: Value = serde_json::from_str(&engine.values()[0]).unwrap();
        row["state"] = "lost".into();
        if taken_over {
            row["claim"]["at"] = (NOW + 10 * MINUTE).into();
        }
        engine.put(&engine.rows()[0], &row.to_string());
        stuck.give_up().unwrap();
        assert_eq!(engine.states(), [state]);
    }
}

#[test]
fn a_row_with_a_long_name_does_no_lasting_harm() {
    let (a, engine) = (host("1"), Arc::new(Engine::default()));
    let empty = engine.backup();
    let claim = HostClaim { id: "x".into(), host: "h".repeat(60_000), pid: 1, at: 0.0 };
    let row = Row::new(RowState::Unsure, Some(claim));
    engine.put(Grant::of("SECRET-refresh-1").unwrap().row(), &row.to_json());
    let _ = a.decide(&call(&a, &engine, "a"));
    engine.restore(&empty);
    later(&[&a], 10_000);
    a.claim(&call(&a, &engine, "a")).give_up().unwrap();
}

#[test]
fn a_program_that_asks_late_does_not_ask_under_an_old_claim() {
    let (a, engine) = (host("1"), Arc::new(Engine::default()));
    let sent = a.claim(&call(&a, &engine, "a")).send().unwrap();
    assert!(sent.is_ours());
    later(&[&a], 61_000);
    assert!(!sent.is_ours());
}
