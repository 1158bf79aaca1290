//! The core alone: `cargo bench`. Nothing here asserts on time.

#![allow(clippy::expect_used, clippy::unwrap_used, missing_docs, reason = "a benchmark ends with its first fault")]

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use oauth_refresh_lock::clock::{Clock, SystemClock};
use oauth_refresh_lock::credential::Credential;
use oauth_refresh_lock::credential::identity;
use oauth_refresh_lock::journal::Journal;
use oauth_refresh_lock::key::{Key, lock_base};
use oauth_refresh_lock::lock::{self, Target};
use oauth_refresh_lock::refresh::{Decision, Paths, Refresh, Served};
use oauth_refresh_lock::store::FileStore;
use serde_json::{Map, Value, json};
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

const PROVIDER: &str = "bench";
const PATIENCE: Duration = Duration::from_secs(10);
const FAR_FUTURE_MS: u64 = 7_000_000_000_000;

/// A state directory with a main agent.
struct World {
    root: PathBuf,
    _directory: TempDir,
}

impl World {
    /// With a store of so many profiles that expire then.
    fn new(profiles: usize, expires: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        let world = Self { root, _directory: directory };
        let profiles: Map<_, _> =
            (0..profiles).map(|number| (id(number), profile(&format!("{number:0>64}"), expires))).collect();
        fs::create_dir_all(world.agent()).unwrap();
        let text = format!("{:#}\n", json!({ "version": 1, "profiles": profiles }));
        File::create(world.agent().join("auth-profiles.json")).unwrap().write_all(text.as_bytes()).unwrap();
        world
    }

    fn agent(&self) -> PathBuf {
        self.root.join("agents/main/agent")
    }

    fn store(&self) -> FileStore {
        FileStore::new(&self.agent(), &self.root, &clock())
    }

    fn lock_base(&self, profile: usize) -> PathBuf {
        lock_base(&self.root, PROVIDER, &id(profile))
    }

    fn call(&self, profile: usize) -> Refresh {
        let key = Key::new(PROVIDER, &id(profile)).unwrap();
        let paths = Paths::of(&key, self.root.clone());
        Refresh::new(key, paths, self.store().into(), None, clock())
    }
}

fn id(profile: usize) -> String {
    format!("{PROVIDER}:{profile}")
}

fn profile(secret: &str, expires: u64) -> Value {
    json!({
        "type": "oauth", "provider": PROVIDER, "access": format!("access-{secret}"), "refresh": format!("refresh-{secret}"),
        "expires": expires, "email": "owner@example.test", "accountId": "account",
    })
}

fn credential(secret: &str, expires: u64) -> Credential {
    Credential::from_profile(profile(secret, expires).as_object().unwrap().clone()).unwrap()
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

fn locks(criterion: &mut Criterion) {
    let world = World::new(1, 0);
    for (name, target) in [("alone", Target::never_taken_over as fn(&_, &_) -> _), ("to refresh", Target::refresh)] {
        let target = target(&world.lock_base(0), &clock());
        criterion.bench_function(&format!("lock, {name}: acquire and release"), |bencher| {
            bencher.iter(|| lock::acquire_blocking(&target, PATIENCE).unwrap());
        });
    }
}

fn looks(criterion: &mut Criterion) {
    for profiles in [1, 20, 100, 1_000] {
        let world = World::new(profiles, FAR_FUTURE_MS);
        criterion.bench_function(&format!("look at a usable credential among {profiles}"), |bencher| {
            bencher.iter(|| {
                let served = world.call(profiles / 2).look(None).unwrap();
                assert!(matches!(served, Some(Served::Fresh(_))));
            });
        });
    }
}

fn writes(criterion: &mut Criterion) {
    let world = World::new(20, 0);
    let base = world.lock_base(0);
    let lock = lock::acquire_blocking(&Target::refresh(&base, &clock()), PATIENCE).unwrap();
    let mut journal = Journal::open(&lock).unwrap();
    criterion.bench_function("journal: write", |bencher| {
        bencher.iter(|| journal.write(journal.record().clone()).unwrap());
    });
    let store = world.store();
    let mut generation = 0_u64;
    criterion.bench_function("store of 20 profiles: commit", |bencher| {
        bencher.iter(|| {
            generation += 1;
            let new = credential(&format!("{generation:0>64}"), FAR_FUTURE_MS);
            store.lock().unwrap().update(&id(7), |_| (Some(new.clone()), ())).unwrap();
        });
    });
}

fn refreshes(criterion: &mut Criterion) {
    let world = World::new(20, 0);
    let mut generation = 0_u64;
    criterion.bench_function("refresh, from the lock to the durable answer", |bencher| {
        bencher.iter_batched(
            || {
                let expired = credential(&format!("expired-{generation:0>64}"), 0);
                generation += 1;
                world.store().lock().unwrap().update(&id(0), |_| (Some(expired.clone()), ())).unwrap();
                let new = json!({
                    "access": format!("access-{generation:0>64}"), "refresh": format!("refresh-{generation:0>64}"),
                    "expires": FAR_FUTURE_MS,
                });
                (world.call(0), new.to_string())
            },
            |(call, answer)| {
                assert!(call.look(None).unwrap().is_none());
                let lock = lock::acquire_blocking(&Target::refresh(&call.lock_base, &call.clock), PATIENCE).unwrap();
                let Decision::Send(claim) = call.decide(lock).unwrap() else { panic!("not to be asked") };
                call.settle(claim.send().unwrap(), &answer).unwrap()
            },
            BatchSize::PerIteration,
        );
    });
}

fn gate(criterion: &mut Criterion) {
    let (held, offered) = (credential("held", 0), credential("offered", FAR_FUTURE_MS));
    criterion.bench_function("identity gate", |bencher| {
        bencher.iter(|| identity::is_safe_to_copy(held.fields(), offered.fields()));
    });
}

criterion_group!(core, locks, looks, writes, refreshes, gate);
criterion_main!(core);
