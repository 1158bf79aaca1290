//! A coordinator's engine in memory, with the faults of a real one.

use super::world::FakeClock;
use oauth_refresh_lock::clock::Clock;
use oauth_refresh_lock::coordinator::{Coordinator, Entry, Hosts, Unavailable, Watch};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// A row: version, value, and when it was written.
type Stored = (u64, String, f64);

#[derive(Debug, Default)]
pub struct Engine(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    rows: HashMap<String, Stored>,
    last: u64,
    /// What happens to the next steps, the first one first; none: they work.
    faults: Vec<Fault>,
    is_down: bool,
    /// After so many loads it is down.
    loads_left: Option<u32>,
    /// A step that is still on its way.
    late: Option<(String, Option<u64>, String)>,
    clock: Option<Arc<FakeClock>>,
    /// How often it was asked: loads, swaps.
    asked: (u32, u32),
}

/// What happens to one compare-and-swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Works,
    /// It is done, and nobody hears of it.
    LosesAnswer,
    /// It is not done.
    Fails,
    /// Nobody hears of it, and it is done when [`Engine::deliver`] is called.
    IsLate,
}

/// All rows at one time.
pub struct Backup(HashMap<String, Stored>);

impl Engine {
    /// One whose clock tells how old rows are.
    pub fn with(clock: &Arc<FakeClock>) -> Arc<Self> {
        let engine = Self::default();
        engine.state().clock = Some(Arc::clone(clock));
        Arc::new(engine)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub fn hosts(self: &Arc<Self>, name: &str) -> Hosts {
        Hosts {
            coordinator: self.clone(),
            lost_host: oauth_refresh_lock::coordinator::LostHost::Wait,
            keys: Vec::new(),
            name: name.to_owned(),
        }
    }

    pub fn set_down(&self, is_down: bool) {
        self.state().is_down = is_down;
    }

    pub fn go_down_after_loads(&self, loads: u32) {
        self.state().loads_left = Some(loads);
    }

    pub fn inject(&self, faults: &[Fault]) {
        self.state().faults = faults.to_vec();
    }

    pub fn backup(&self) -> Backup {
        Backup(self.state().rows.clone())
    }

    pub fn restore(&self, backup: &Backup) {
        self.state().rows.clone_from(&backup.0);
    }

    /// A step that was late arrives. Says whether it did something.
    pub fn deliver(&self) -> bool {
        let late = self.state().late.take().unwrap();
        self.state().swap(&late.0, late.1, &late.2).is_some()
    }

    /// All values.
    pub fn values(&self) -> Vec<String> {
        self.state().rows.values().map(|(_, value, _)| value.clone()).collect()
    }

    /// The `state` of each row, sorted.
    pub fn states(&self) -> Vec<String> {
        let state = |value: &String| {
            serde_json::from_str::<serde_json::Value>(value).unwrap()["state"].as_str().unwrap().to_owned()
        };
        let mut states: Vec<_> = self.values().iter().map(state).collect();
        states.sort();
        states
    }

    /// Puts what another program, or an attacker, would.
    pub fn put(&self, row: &str, value: &str) {
        let version = self.state().rows.get(row).map(|stored| stored.0);
        self.state().swap(row, version, value).unwrap();
    }

    /// The names of all rows.
    pub fn rows(&self) -> Vec<String> {
        self.state().rows.keys().cloned().collect()
    }

    pub fn asked(&self) -> (u32, u32) {
        self.state().asked
    }
}

impl State {
    fn swap(&mut self, row: &str, expected: Option<u64>, value: &str) -> Option<String> {
        if self.rows.get(row).map(|stored| stored.0) != expected {
            return None;
        }
        self.last += 1;
        let now = self.clock.as_ref().map_or(0.0, |clock| clock.now_ms());
        self.rows.insert(row.to_owned(), (self.last, value.to_owned(), now));
        Some(self.last.to_string())
    }
}

fn gone() -> Unavailable {
    Unavailable("connection refused".to_owned())
}

impl Coordinator for Engine {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn load(&self, row: &str) -> Result<Option<Entry>, Unavailable> {
        let mut state = self.state();
        state.asked.0 += 1;
        state.is_down |= state.loads_left == Some(0);
        state.loads_left = state.loads_left.map(|left| left.saturating_sub(1));
        if state.is_down {
            return Err(gone());
        }
        let now = state.clock.as_ref().map(|clock| clock.now_ms());
        Ok(state.rows.get(row).map(|(version, value, at)| Entry {
            version: version.to_string(),
            value: value.clone(),
            age_ms: now.map(|now| now - at),
        }))
    }

    fn compare_and_swap(&self, row: &str, expected: Option<&str>, value: &str) -> Result<Option<String>, Unavailable> {
        let mut state = self.state();
        state.asked.1 += 1;
        if state.is_down {
            return Err(gone());
        }
        let expected = expected.map(|version| version.parse().unwrap());
        let fault = if state.faults.is_empty() { Fault::Works } else { state.faults.remove(0) };
        match fault {
            Fault::Works => Ok(state.swap(row, expected, value)),
            Fault::Fails => Err(gone()),
            Fault::LosesAnswer => {
                state.swap(row, expected, value);
                Err(gone())
            }
            Fault::IsLate => {
                state.late = Some((row.to_owned(), expected, value.to_owned()));
                Err(gone())
            }
        }
    }

    fn watch(&self, _: &str, _: &str, _: Duration, changed: Box<dyn FnOnce() + Send>) -> Option<Watch> {
        // It may be early.
        changed();
        None
    }
}
