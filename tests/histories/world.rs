//! Plays a history: three agents of one main agent, with two profiles each.

use crate::calls::Pending;
use crate::history::{AGENTS, History, Holder, PROFILES, Step, Weather};
use crate::provider::{Provider, TestClock};
use crate::{Reached, Tally};
use oauth_refresh_lock::clock::Clock;
use oauth_refresh_lock::key::Key;
use oauth_refresh_lock::refresh::{Paths, Refresh, Uncertain};
use oauth_refresh_lock::store::FileStore;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

const PROVIDER: &str = "provider";
const LIFETIME_MS: f64 = 3_600_000.0;
/// What the first and the second account are called.
const ACCOUNTS: [&str; 2] = ["a", "b"];

pub(crate) struct World<'a> {
    history: &'a History,
    /// Whether it tells what happens.
    is_loud: bool,
    pub clock: Arc<TestClock>,
    pub provider: Provider,
    state_dir: tempfile::TempDir,
    pub pending: Vec<Pending>,
    backups: Vec<(&'static str, Vec<u8>)>,
    /// What the stores held when they were last checked.
    pub checked: [Option<Vec<u8>>; AGENTS.len()],
    /// Whose profile each is, as far as it was seen. Only other programs change that.
    pub accounts: HashMap<Holder, String>,
    pub died_deciding: bool,
    pub tally: Tally,
}

impl<'a> World<'a> {
    pub(crate) fn new(history: &'a History, is_loud: bool) -> Self {
        // In memory where that can be had: what is tested is order, not the disk.
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let mut world = Self {
            history,
            is_loud,
            clock: Arc::default(),
            provider: Provider::default(),
            state_dir: tempfile::Builder::new().prefix("histories-").tempdir_in(place).expect("a directory"),
            pending: Vec::new(),
            backups: Vec::new(),
            checked: Default::default(),
            accounts: HashMap::new(),
            died_deciding: false,
            tally: Tally::new(),
        };
        let grant = world.provider.login(ACCOUNTS[0]);
        for (agent, also_held) in AGENTS.into_iter().zip(history.also_held) {
            for (profile, is_held) in PROFILES.into_iter().zip(also_held) {
                // Some agents inherit.
                if is_held || (profile == PROFILES[0] && agent != "two") {
                    world.write_login((agent, profile), grant);
                }
            }
        }
        world
    }

    /// Plays it to its end, and further until everyone is served.
    pub(crate) fn play(mut self) -> Tally {
        for step in &self.history.steps {
            self.say(format_args!("{step:?}"));
            if self.step(step) {
                self.check_stores();
            }
        }
        self.answer_all();
        self.clock.advance(4_000_000.0);
        for holder in AGENTS.into_iter().flat_map(|agent| PROFILES.map(|profile| (agent, profile))) {
            self.finally_served(holder);
            self.check_stores();
        }
        self.tally
    }

    pub(crate) fn say(&self, what: impl std::fmt::Display) {
        if self.is_loud {
            println!("  {what}");
        }
    }

    pub(crate) fn count(&mut self, reached: Reached) {
        *self.tally.entry(reached).or_default() += 1;
    }

    pub(crate) fn may_repeat(&self) -> bool {
        !self.history.forbids_repeats
    }

    /// Takes a step, and says whether stores may have changed.
    fn step(&mut self, step: &Step) -> bool {
        match *step {
            Step::Call { holder, rejects, strike } => self.caller(holder, rejects, strike),
            Step::Answer { call, weather, with_pause, strike } => {
                let Some(pending) = self.take(call) else { return false };
                self.answer(pending, weather, with_pause, strike);
            }
            Step::GiveUp { call } => {
                let Some(pending) = self.take(call) else { return false };
                self.give_up(pending);
            }
            Step::Die { call, has_sent } => {
                let Some(pending) = self.take(call) else { return false };
                self.die(pending, has_sent);
            }
            Step::Login { holder, as_second_account } => {
                let account = ACCOUNTS[usize::from(as_second_account && self.history.with_second_account)];
                let grant = self.provider.login(account);
                self.write_login(holder, grant);
                self.accounts.remove(&holder);
                self.disturb();
            }
            Step::Logout { holder } => self.logout(holder),
            Step::BackUp { agent } => {
                self.backups.extend(self.bytes(agent).map(|bytes| (agent, bytes)));
                return false;
            }
            Step::Restore { backup } => {
                let Some(at) = backup.checked_rem(self.backups.len()) else { return false };
                let (agent, bytes) = &self.backups[at];
                fs::write(self.store(agent).path(), bytes).expect("written");
                self.accounts.retain(|(holder, _), _| holder != agent);
                self.disturb();
            }
            Step::Pass { lifetimes } => {
                self.clock.advance(lifetimes * LIFETIME_MS);
                return false;
            }
        }
        true
    }

    fn logout(&mut self, (agent, profile): Holder) {
        if let Some(text) = self.bytes(agent) {
            let mut store: Value = serde_json::from_slice(&text).expect("a store");
            store["profiles"].as_object_mut().expect("profiles").remove(profile);
            fs::write(self.store(agent).path(), store.to_string()).expect("written");
            self.accounts.remove(&(agent, profile));
            self.disturb();
        }
    }

    /// As another program does, which knows no lock of ours.
    fn write_login(&mut self, (agent, profile): Holder, grant: usize) {
        let token = self.provider.token(grant);
        let (_, generation) = Provider::origin(&token);
        let mut login = json!({
            "type": "oauth",
            "provider": PROVIDER,
            "access": format!("access-{grant}-{generation}"),
            "refresh": token,
            "expires": self.clock.now_ms() + LIFETIME_MS,
        });
        if self.history.with_identity {
            login["accountId"] = json!(self.provider.grants[grant].account);
        }
        let store = self.bytes(agent).map(|bytes| serde_json::from_slice(&bytes).expect("a store"));
        let mut store = store.unwrap_or_else(|| json!({ "version": 1, "profiles": {} }));
        store["profiles"][profile] = login;
        let path = self.store(agent).path().to_owned();
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        fs::write(path, store.to_string()).expect("written");
    }

    fn disturb(&mut self) {
        for pending in &mut self.pending {
            pending.disturbed = true;
        }
    }

    /// What an agent's store holds, if it is there.
    pub(crate) fn bytes(&self, agent: &str) -> Option<Vec<u8>> {
        fs::read(self.store(agent).path()).ok()
    }

    pub(crate) fn store(&self, agent: &str) -> FileStore {
        let state_dir = self.state_dir.path();
        let clock: Arc<dyn Clock> = self.clock.clone();
        FileStore::new(&state_dir.join("agents").join(agent).join("agent"), state_dir, &clock)
    }

    pub(crate) fn call(&self, (agent, profile): Holder) -> Refresh {
        let state_dir = self.state_dir.path();
        let key = Key::new(PROVIDER, profile).expect("a key");
        let paths = Paths::of(&key, state_dir.to_owned());
        let mut call = Refresh::new(
            key,
            paths,
            self.store(agent).into(),
            (agent != "main").then(|| self.store("main").into()),
            self.clock.clone(),
        );
        if self.history.forbids_repeats {
            call.uncertain = Uncertain::Fail;
        }
        call
    }

    /// What the provider answers.
    pub(crate) fn fields(&self, token: &str, weather: Weather) -> String {
        let (grant, generation) = Provider::origin(token);
        let mut fields = json!({
            "access": format!("access-{grant}-{}", generation + 1),
            "refresh": format!("refresh-{grant}-{}", generation + 1),
            "expires": self.clock.now_ms() + LIFETIME_MS,
        });
        if weather == Weather::WrongAccount {
            fields["accountId"] = json!("somebody else");
            // Only a credential that says whose it is shows the contradiction; another one takes the name for its own.
            if !self.history.with_identity {
                fields["provider"] = json!("another");
            }
        }
        if weather == Weather::Garbage {
            fields["expires"] = json!(0);
        }
        fields.to_string()
    }
}
