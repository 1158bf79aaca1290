//! Random histories: callers, crashes, disk faults, logins, logouts, restored backups and provider answers, interleaved.
//!
//! A provider model rotates at each use and counts. After each step it is checked that
//!
//! - a generation is sent again only if nobody learned what became of it, one call at a time, and not before the back-off
//!   that is on record allows it;
//! - nobody is told to log in while a store that it can see holds the current token of its grant;
//! - no received credential was lost;
//! - no store holds tokens under another account than they were issued to;
//! - every caller was answered, and in the end everyone whose grant is alive is served.
//!
//! `HISTORIES=100000 cargo test --features faults --test histories` runs longer; `SEED=17` runs one history again.

#![allow(clippy::too_many_lines, reason = "a test tells one story")]
#![allow(clippy::expect_used, reason = "a test fails by it")]
#![allow(clippy::disallowed_methods, reason = "logins, logouts and backups are other programs' writes")]

use oauth_refresh_lock::clock::Clock;
use oauth_refresh_lock::credential::Credential;
use oauth_refresh_lock::disk::fault::{self, Fault};
use oauth_refresh_lock::error::{Code, Error};
use oauth_refresh_lock::journal::Journal;
use oauth_refresh_lock::journal::record::Record;
use oauth_refresh_lock::key::{self, Key};
use oauth_refresh_lock::lock::{self, Target, term};
use oauth_refresh_lock::refresh::{
    AskResult, CallFailure, Caller, Decision, Event, Failed, FailureClass, Patience, Pause, Program, Refresh, Run,
    Sent, Served, Settled, Turn, Uncertain, Waits, Work,
};
use oauth_refresh_lock::store::{FileStore, Profile, Store};
use serde_json::{Map, Value, json};
use std::cell::Cell;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

const HISTORIES: u64 = 10_000;
const STEPS: u64 = 24;
const PROVIDER: &str = "provider";
const PROFILES: [&str; 2] = ["p:1", "p:2"];
const AGENTS: [&str; 3] = ["main", "one", "two"];
const LIFETIME_MS: f64 = 3_600_000.0;
/// The provider's word that it is over.
const REFUSED: CallFailure = CallFailure { class: FailureClass::AnsweredDead, pause: Pause::None, passes: false };
/// More file operations than any phase makes, so that some faults never strike.
const MOST_OPERATIONS: u64 = 90;

#[test]
fn random_histories_keep_every_promise() {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().expect(name));
    if let Some(seed) = number("SEED") {
        History::new(seed).run();
        return;
    }
    let histories = number("HISTORIES").unwrap_or(HISTORIES);
    let next = AtomicU64::new(0);
    let totals = Tally::default();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from).min(8) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= histories {
                        return;
                    }
                    let told = std::panic::catch_unwind(|| History::new(seed).run());
                    match told {
                        Ok(tally) => totals.add(&tally),
                        Err(panic) => {
                            eprintln!("this history fails: SEED={seed}");
                            next.store(histories, Ordering::Relaxed);
                            std::panic::resume_unwind(panic);
                        }
                    }
                }
            });
        }
    });
    println!("{histories} histories: {totals:?}");
    // A generator that stops reaching the interesting places would prove nothing.
    for (what, count) in totals.all() {
        assert!(histories < HISTORIES || count > histories / 1000, "hardly any {what}: {count}");
    }
}

/// How often what happened, so that a generator gone lame is noticed.
#[derive(Debug, Default)]
struct Tally {
    refreshed: AtomicU64,
    adopted: AtomicU64,
    recovered: AtomicU64,
    repeats: AtomicU64,
    deaths: AtomicU64,
    faults: AtomicU64,
    resurrections_refused: AtomicU64,
    unsaved: AtomicU64,
    superseded: AtomicU64,
}

impl Tally {
    fn all(&self) -> [(&'static str, u64); 9] {
        [
            ("refreshes", &self.refreshed),
            ("adoptions", &self.adopted),
            ("recoveries", &self.recovered),
            ("repeats", &self.repeats),
            ("deaths", &self.deaths),
            ("faults", &self.faults),
            ("refused resurrections", &self.resurrections_refused),
            ("unsaved receipts", &self.unsaved),
            ("logins or logouts during a call", &self.superseded),
        ]
        .map(|(what, count)| (what, count.load(Ordering::Relaxed)))
    }

    fn add(&self, other: &Self) {
        let pairs = [
            (&self.refreshed, &other.refreshed),
            (&self.adopted, &other.adopted),
            (&self.recovered, &other.recovered),
            (&self.repeats, &other.repeats),
            (&self.deaths, &other.deaths),
            (&self.faults, &other.faults),
            (&self.resurrections_refused, &other.resurrections_refused),
            (&self.unsaved, &other.unsaved),
            (&self.superseded, &other.superseded),
        ];
        for (sum, one) in pairs {
            sum.fetch_add(one.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// SplitMix64.
struct Random(Cell<u64>);

impl Random {
    fn next(&self) -> u64 {
        self.0.set(self.0.get().wrapping_add(0x9E37_79B9_7F4A_7C15));
        let mut word = self.0.get();
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    fn below(&self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn one_in(&self, chances: u64) -> bool {
        self.below(chances) == 0
    }

    fn pick<'a, T>(&self, choices: &'a [T]) -> &'a T {
        &choices[usize::try_from(self.below(choices.len() as u64)).expect("an index")]
    }
}

/// A clock that stands still until it is set, and a monotonic one beside it, which goes on by itself too: what a death left in
/// the way is waited for. Milliseconds.
#[derive(Debug)]
struct TestClock {
    wall: AtomicU64,
    boot: AtomicU64,
    started: Instant,
}

impl TestClock {
    fn advance(&self, ms: f64) {
        self.wall.store((self.now_ms() + ms).to_bits(), Ordering::Relaxed);
        let boot_ms = f64::from_bits(self.boot.load(Ordering::Relaxed));
        self.boot.store((boot_ms + ms.abs()).to_bits(), Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn now_ms(&self) -> f64 {
        f64::from_bits(self.wall.load(Ordering::Relaxed))
    }

    fn boot_ms(&self) -> f64 {
        f64::from_bits(self.boot.load(Ordering::Relaxed)) + self.started.elapsed().as_secs_f64() * 1000.0
    }

    fn boot_id(&self) -> String {
        "boot".to_owned()
    }
}

/// One login at the provider.
struct Grant {
    account: String,
    /// Which of its refresh tokens is current, counting from 0.
    current: u64,
    revoked: bool,
}

/// What is known of one refresh token.
#[derive(Default)]
struct Token {
    /// How often it reached the provider, which then looked at it.
    times: u32,
    /// Whether nobody may have learned what the provider answered.
    unknown: bool,
    /// Whether a process has died that may have sent it.
    lost: bool,
    /// How often in a row its outcome, or the provider's wish that everyone wait, was put on record.
    failures: i32,
    /// Before this instant of the boot's clock nobody may ask again.
    not_before: f64,
}

#[derive(Default)]
struct Provider {
    grants: Vec<Grant>,
    sent: HashMap<String, Token>,
}

/// What the network does to a call.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Weather {
    Fine,
    NotSent,
    Busy,
    LostBefore,
    LostAfter,
    WrongAccount,
    Garbage,
}

impl Provider {
    fn login(&mut self, account: &str) -> usize {
        self.grants.push(Grant { account: account.to_owned(), current: 0, revoked: false });
        self.grants.len() - 1
    }

    fn token(&self, grant: usize) -> String {
        format!("refresh-{grant}-{}", self.grants[grant].current)
    }

    /// Which grant and generation a token is of.
    fn origin(token: &str) -> (usize, u64) {
        let mut parts = token.rsplit('-');
        let mut number = || parts.next().and_then(|part| part.parse::<u64>().ok()).expect("a token of ours");
        let (generation, grant) = (number(), number());
        (usize::try_from(grant).expect("a grant"), generation)
    }

    /// A refresh request that arrives. Checks the promise on the number of calls.
    fn receive(&mut self, token: &str, tally: &Tally) -> bool {
        let sent = self.sent.entry(token.to_owned()).or_default();
        sent.times += 1;
        if sent.times > 1 {
            assert!(sent.unknown, "{token} was sent again although its outcome was known");
            count(&tally.repeats);
        }
        let (grant, generation) = Self::origin(token);
        let grant = &mut self.grants[grant];
        let good = !grant.revoked && grant.current == generation;
        if good {
            grant.current += 1;
        } else {
            // Taken for theft.
            grant.revoked = true;
        }
        good
    }

    fn lost(&mut self, token: &str) {
        self.unknown(token);
        self.sent.entry(token.to_owned()).or_default().lost = true;
    }

    fn unknown(&mut self, token: &str) {
        self.sent.entry(token.to_owned()).or_default().unknown = true;
    }

    /// A failure is on record: from now on everyone waits, each time twice as long.
    fn failed(&mut self, token: &str, now: f64, wanted: Option<f64>) {
        let sent = self.sent.entry(token.to_owned()).or_default();
        sent.failures += 1;
        sent.not_before = now + wanted.unwrap_or((1_000.0 * 2f64.powi(sent.failures - 1)).min(60_000.0));
    }
}

/// A file operation that is to fail, and how.
type Strike = Option<(usize, Fault)>;

/// A refresh of some process, as the history sees it: it runs on a thread, and stands still wherever it asks.
struct Process {
    call: Arc<Refresh>,
    orders: Sender<Order>,
    said: Receiver<Said>,
}

/// What a refresh goes on with.
enum Order {
    AskResult(AskResult<()>, Strike),
    SaveAgain,
}

/// Where a refresh stands.
enum Said {
    Looked(Result<Served, Error>),
    Asks(String),
    /// An answer could not be saved yet.
    Unsaved(Error),
    Done(Turn<()>),
}

/// The program that a refresh runs in.
struct Puppet {
    orders: Receiver<Order>,
    said: Sender<Said>,
}

impl Puppet {
    fn say(&self, what: Said) {
        // A history that has failed hears nothing.
        let _ = self.said.send(what);
    }
}

impl Program for Puppet {
    type Failure = ();

    fn ask(&mut self, sent: &Sent) -> AskResult<()> {
        self.say(Said::Asks(sent.credential().refresh().expect("a refresh token").to_owned()));
        match self.orders.recv() {
            Ok(Order::AskResult(answer, strike)) => {
                fault::order(strike);
                answer
            }
            Ok(Order::SaveAgain) | Err(_) => AskResult::Lost,
        }
    }

    fn tell(&mut self, event: Event<'_>) {
        if let Event::Unsaved(error) = event {
            self.say(Said::Unsaved(error));
        }
    }

    fn pause(&mut self, _: Duration) {
        if self.orders.recv().is_ok() {
            fault::order(None);
            return;
        }
        // The process dies. What it holds is let go of, as by the kernel; what it would write is not.
        fault::order(Some((1, Fault::Crash)));
        std::panic::resume_unwind(Box::new("died"));
    }

    fn spawn(work: Work) -> bool {
        work();
        true
    }

    fn after(_: f64, _: Work) {
        unreachable!("it does not wait");
    }

    fn random(&mut self) -> f64 {
        0.0
    }
}

impl Process {
    /// Looks, then takes its turn. A lock that is taken means that a peer is asking: this caller would wait.
    fn start(call: Refresh, strike: Strike) -> Self {
        let call = Arc::new(call);
        let ((orders, ordered), (say, said)) = (channel(), channel());
        let caller = Arc::new(Caller::default());
        let patience = Patience { waits: false, ms: f64::INFINITY, asking_ms: f64::INFINITY };
        let wanted = Arc::clone(&call);
        std::thread::spawn(move || {
            fault::order(strike);
            let puppet = Puppet { orders: ordered, said: say };
            match wanted.look(None) {
                Ok(None) => Run::new(wanted, caller, patience, puppet).start(|puppet, end| match end {
                    // It died.
                    Turn::Refused(error) if error.code == Code::Internal => {}
                    end => puppet.say(Said::Done(end)),
                }),
                Ok(Some(served)) => puppet.say(Said::Looked(Ok(served))),
                Err(error) => puppet.say(Said::Looked(Err(error))),
            }
        });
        Self { call, orders, said }
    }

    fn hear(&self) -> Said {
        self.said.recv_timeout(HUNG).expect("it stands still, or is done")
    }

    fn go_on(&self, order: Order) {
        self.orders.send(order).expect("it stands still");
    }

    /// It dies, having sent.
    fn lose(&self) {
        self.go_on(Order::AskResult(AskResult::Lost, None));
        assert!(matches!(self.hear(), Said::Done(Turn::Left)));
    }

    /// It dies where it can't save an answer.
    fn die(self) {
        let Self { orders, said, .. } = self;
        drop(orders);
        assert!(matches!(said.recv_timeout(HUNG), Err(RecvTimeoutError::Disconnected)), "it lets go of everything");
    }
}

/// A provider call of some process that has not ended.
struct Pending {
    process: Process,
    token: String,
    /// The provider has answered, and that could not be saved yet.
    is_unsaved: bool,
    /// A login, logout or restored backup came since.
    disturbed: bool,
}

/// What a failing history was.
impl Drop for History {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("SEED={}\n  {}", self.seed, self.log.join("\n  "));
        }
    }
}

/// Longer than anything takes.
const HUNG: Duration = Duration::from_secs(30);

struct History {
    seed: u64,
    random: Random,
    clock: Arc<TestClock>,
    provider: Provider,
    state_dir: tempfile::TempDir,
    pending: Vec<Pending>,
    backups: Vec<(PathBuf, Vec<u8>)>,
    /// Accounts of this history: often one, sometimes two.
    accounts: Vec<String>,
    with_identity: bool,
    uncertain: Uncertain,
    died_deciding: bool,
    tally: Tally,
    log: Vec<String>,
}

impl History {
    fn new(seed: u64) -> Self {
        let random = Random(Cell::new(seed.wrapping_mul(0xA076_1D64_78BD_642F)));
        // In memory where that can be had: what is tested is order, not the disk.
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let accounts = if random.one_in(4) { vec!["a".to_owned(), "b".to_owned()] } else { vec!["a".to_owned()] };
        let with_identity = accounts.len() > 1 || random.one_in(2);
        let uncertain = if random.one_in(5) { Uncertain::Fail } else { Uncertain::Probe };
        let mut history = Self {
            seed,
            random,
            clock: Arc::new(TestClock {
                wall: AtomicU64::new(1e12f64.to_bits()),
                boot: AtomicU64::new(0),
                started: Instant::now(),
            }),
            provider: Provider::default(),
            state_dir: tempfile::Builder::new().prefix("histories-").tempdir_in(place).expect("a directory"),
            pending: Vec::new(),
            backups: Vec::new(),
            accounts,
            with_identity,
            uncertain,
            died_deciding: false,
            tally: Tally::default(),
            log: Vec::new(),
        };
        let grant = history.provider.login("a");
        for agent in AGENTS {
            for profile in PROFILES {
                // Some agents inherit; the second name of the grant is there now and then.
                if (profile == PROFILES[0] && agent != "two") || history.random.one_in(3) {
                    history.write_login(agent, profile, grant);
                }
            }
        }
        history
    }

    fn run(mut self) -> Tally {
        for _ in 0..STEPS {
            match self.random.below(20) {
                0..=8 => self.caller(),
                9..=13 => self.answer(),
                14 => self.die(),
                15 => self.login(),
                16 => self.logout(),
                17 => self.back_up_or_restore(),
                _ => {
                    let hours = *self.random.pick(&[-4.0, 0.001, 0.5, 0.98, 2.0]);
                    self.clock.advance(hours * LIFETIME_MS);
                    self.say(format!("clock {hours:+} h"));
                }
            }
            self.check_stores();
        }
        self.everyone_is_served();
        std::mem::take(&mut self.tally)
    }

    /// A caller comes: it is served, or waits, or asks the provider.
    fn caller(&mut self) {
        let (agent, profile) = (*self.random.pick(&AGENTS), *self.random.pick(&PROFILES));
        let call = self.call(agent, profile);
        if self.random.one_in(8)
            && let Ok(Some(stored)) = call.unexpired()
        {
            let _ = call.rejected.set(stored.access().unwrap_or_default().to_owned().into());
        }
        let strike = self.strike();
        self.say(format!("caller {agent} {profile} {strike:?}"));
        let process = Process::start(call, strike);
        match process.hear() {
            Said::Looked(Ok(served)) => self.served(&process.call, served),
            Said::Looked(Err(error)) => self.refused(&process.call, &error, strike),
            Said::Done(Turn::Refused(error)) => {
                // It may have been on record already that the provider is being asked.
                self.died_deciding |= strike.is_some() && error.code != Code::LockUnavailable;
                self.refused(&process.call, &error, strike);
            }
            said => self.heard(process, said, strike),
        }
    }

    /// A refresh asks the provider, or ends without an answer of the provider's.
    fn heard(&mut self, process: Process, said: Said, strike: Strike) {
        let turn = match said {
            Said::Asks(token) => return self.asks(process, token, strike),
            Said::Done(turn) => turn,
            Said::Looked(_) | Said::Unsaved(_) => panic!("nothing was answered"),
        };
        match turn {
            Turn::Served(served) => self.served(&process.call, served),
            Turn::BackOff(ms, error) => {
                assert!(ms > 0.0 && ms <= 3_600_000.0, "{ms}");
                assert!(matches!(error.code, Code::RefreshBackoff | Code::RefreshUncertain), "{error}");
                assert!(!error.message.contains("log in"), "{error}");
                self.say(format!("back-off {ms}"));
            }
            // By a peer; or the disk was full when it was taken, and what was half cleared away then is in the way.
            Turn::Taken(lock) => self.say(format!("waits for {}", lock.display())),
            Turn::Failed((), _) => {}
            Turn::Refused(error) => self.refused(&process.call, &error, strike),
            other => panic!("{other:?}"),
        }
    }

    fn asks(&mut self, process: Process, token: String, strike: Strike) {
        self.say(format!("asks with {token}"));
        self.check_turn(&token);
        if matches!(strike, Some((_, Fault::Crash))) {
            // Died between the record and the call: nobody can know that it was not sent.
            self.provider.lost(&token);
            return process.lose();
        }
        self.pending.push(Pending { process, token, is_unsaved: false, disturbed: false });
    }

    /// Nobody asks beside another who does, or before the time on record.
    fn check_turn(&self, token: &str) {
        assert!(self.pending.iter().all(|other| other.token != token), "{token} is being sent already");
        let sent = self.provider.sent.get(token);
        let may_ask = self.uncertain == Uncertain::Probe || !sent.is_some_and(|sent| sent.lost);
        assert!(may_ask, "{token} is sent again after a death, although that is forbidden");
        let not_before = sent.map_or(0.0, |sent| sent.not_before);
        assert!(self.clock.boot_ms() >= not_before, "{token} is sent {} ms early", not_before - self.clock.boot_ms());
    }

    /// The provider answers a pending call, or the network loses it.
    fn answer(&mut self) {
        if self.pending.is_empty() {
            return self.caller();
        }
        let at = usize::try_from(self.random.below(self.pending.len() as u64)).expect("an index");
        let pending = self.pending.swap_remove(at);
        if pending.is_unsaved {
            pending.process.go_on(Order::SaveAgain);
            return self.settled(pending, None);
        }
        let weather = *self.random.pick(&[
            Weather::Fine,
            Weather::Fine,
            Weather::Fine,
            Weather::Fine,
            Weather::NotSent,
            Weather::Busy,
            Weather::LostBefore,
            Weather::LostAfter,
            Weather::WrongAccount,
            Weather::Garbage,
        ]);
        let token = pending.token.clone();
        let strike = self.strike();
        self.say(format!("{token} meets {weather:?}, {strike:?}"));
        let dies = matches!(strike, Some((_, Fault::Crash)));
        // What the provider says is known once it is on record, even if that took a second try.
        if dies || (strike.is_some() && weather != Weather::Fine) {
            self.provider.unknown(&token);
        }
        let class = match weather {
            Weather::NotSent => FailureClass::NotSent,
            Weather::Busy => FailureClass::AnsweredUnspent,
            Weather::LostBefore => {
                self.provider.unknown(&token);
                FailureClass::Uncertain
            }
            Weather::Fine | Weather::LostAfter | Weather::WrongAccount | Weather::Garbage => {
                let good = self.provider.receive(&token, &self.tally);
                // Of a result that is no credential the new refresh token is kept; of another account's, nothing.
                if matches!(weather, Weather::LostAfter | Weather::WrongAccount) || (strike.is_some() && !good) {
                    self.provider.unknown(&token);
                }
                match weather {
                    _ if !good => FailureClass::AnsweredDead,
                    Weather::LostAfter => FailureClass::Uncertain,
                    _ => {
                        let fields = self.fields(&token, weather);
                        return self.settle(pending, fields, strike);
                    }
                }
            }
        };
        self.say(format!("{token} fails: {class:?}"));
        let wanted = self.random.one_in(3).then_some(5_000.0);
        let pause = Pause::after(class, weather != Weather::NotSent, wanted);
        let failure = CallFailure { class, pause, passes: true };
        pending.process.go_on(Order::AskResult(AskResult::Failed(failure, ()), strike));
        let said = pending.process.hear();
        if strike.is_none() && pause != Pause::None {
            self.provider.failed(&token, self.clock.boot_ms(), pause.asked_ms());
        }
        self.heard(pending.process, said, strike);
    }

    fn fields(&self, token: &str, weather: Weather) -> String {
        let (grant, generation) = Provider::origin(token);
        let mut fields = json!({
            "access": format!("access-{grant}-{}", generation + 1),
            "refresh": format!("refresh-{grant}-{}", generation + 1),
            "expires": self.clock.now_ms() + LIFETIME_MS,
        });
        if weather == Weather::WrongAccount {
            fields["accountId"] = json!("somebody else");
            // Only a credential that knows whose it is can tell; one that does not takes the name for its own.
            if !self.with_identity {
                fields["provider"] = json!("another");
            }
        }
        if weather == Weather::Garbage {
            fields["expires"] = json!(0);
        }
        fields.to_string()
    }

    fn settle(&mut self, pending: Pending, fields: String, strike: Strike) {
        self.say(format!("{} answered, {strike:?}", pending.token));
        pending.process.go_on(Order::AskResult(AskResult::Fields(fields.into()), strike));
        self.settled(pending, strike);
    }

    fn settled(&mut self, pending: Pending, strike: Strike) {
        let dead = matches!(strike, Some((_, Fault::Crash)));
        let Pending { process, token, is_unsaved, disturbed } = pending;
        match process.hear() {
            Said::Done(Turn::Settled(Settled::Refreshed { credential, .. })) => {
                if !dead {
                    count(&self.tally.refreshed);
                    check_kept(&process.call, &credential);
                    // If it was unsaved its caller has been told, and the answer may have expired since.
                    if !is_unsaved {
                        self.check_served(&process.call, &credential);
                    }
                }
            }
            Said::Done(Turn::Settled(Settled::Superseded(login))) => {
                assert!(disturbed || dead, "nobody has logged in");
                count(&self.tally.superseded);
                self.check_served(&process.call, &login);
            }
            Said::Done(Turn::Settled(Settled::LoggedOut)) => {
                assert!(disturbed || dead, "nobody has logged out");
                count(&self.tally.superseded);
            }
            Said::Unsaved(_) if dead => process.die(),
            Said::Unsaved(error) => {
                assert_eq!(error.code, Code::ReceiptUnsaved);
                count(&self.tally.unsaved);
                self.pending.push(Pending { process, token, is_unsaved: true, disturbed });
            }
            Said::Done(Turn::Refused(error)) => {
                let code = error.code;
                let known = matches!(code, Code::InvalidRefreshResult | Code::IdentityMismatch | Code::Superseded);
                assert!(known || strike.is_some(), "{error:?}");
            }
            Said::Done(other) => panic!("{other:?}"),
            Said::Asks(_) | Said::Looked(_) => panic!("it has been answered"),
        }
    }

    /// A process dies during its call, or gives it up before the provider is asked.
    fn die(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let at = usize::try_from(self.random.below(self.pending.len() as u64)).expect("an index");
        let pending = self.pending.swap_remove(at);
        let Pending { process, token, is_unsaved, .. } = pending;
        if !is_unsaved && self.random.one_in(3) {
            self.say(format!("the owner of {token} has nothing to ask with"));
            process.go_on(Order::AskResult(AskResult::Nothing, None));
            assert!(matches!(process.hear(), Said::Done(Turn::Served(Served::Absent))));
            return;
        }
        self.say(format!("the owner of {token} dies"));
        count(&self.tally.deaths);
        // It may have reached the provider first.
        if !is_unsaved && self.random.one_in(2) {
            self.provider.receive(&token, &self.tally);
        }
        if is_unsaved {
            self.provider.unknown(&token);
            process.die();
        } else {
            self.provider.lost(&token);
            process.lose();
        }
    }

    fn login(&mut self) {
        let (agent, profile) = (*self.random.pick(&AGENTS), *self.random.pick(&PROFILES));
        let account = self.random.pick(&self.accounts).clone();
        let grant = self.provider.login(&account);
        self.say(format!("login {agent} {profile}: grant {grant}"));
        self.write_login(agent, profile, grant);
        self.disturb();
    }

    fn logout(&mut self) {
        let (agent, profile) = (*self.random.pick(&AGENTS), *self.random.pick(&PROFILES));
        let path = self.store(agent).path().to_owned();
        let Ok(text) = fs::read(&path) else { return };
        let mut store: Value = serde_json::from_slice(&text).expect("a store");
        store["profiles"].as_object_mut().expect("profiles").remove(profile);
        fs::write(&path, store.to_string()).expect("written");
        self.say(format!("logout {agent} {profile}"));
        self.disturb();
    }

    fn back_up_or_restore(&mut self) {
        if self.backups.is_empty() || self.random.one_in(2) {
            let agent = *self.random.pick(&AGENTS);
            let path = self.store(agent).path().to_owned();
            if let Ok(bytes) = fs::read(&path) {
                self.say(format!("back up {}", path.display()));
                self.backups.push((path, bytes));
            }
            return;
        }
        let (path, bytes) = self.random.pick(&self.backups).clone();
        fs::write(&path, bytes).expect("written");
        self.say(format!("restore {}", path.display()));
        self.disturb();
    }

    fn disturb(&mut self) {
        for pending in &mut self.pending {
            pending.disturbed = true;
        }
    }

    fn served(&mut self, call: &Refresh, served: Served) {
        let credential = match served {
            Served::Absent => return,
            Served::Fresh(credential) => credential,
            Served::Unexpired { credential, refresh_error } => {
                self.say(format!("kept from refreshing: {refresh_error}"));
                credential
            }
            Served::Adopted { credential, .. } => {
                count(&self.tally.adopted);
                credential
            }
            Served::Recovered { credential, .. } => {
                count(&self.tally.recovered);
                credential
            }
        };
        self.say(format!("served {}", credential.access().unwrap_or_default()));
        self.check_served(call, &credential);
    }

    fn refused(&mut self, call: &Refresh, error: &Error, strike: Option<(usize, Fault)>) {
        let (code, message) = (error.code, &error.message);
        self.say(format!("refused: {}", code.as_str()));
        let is_token = |word: &str| word.starts_with(|first: char| first.is_ascii_digit());
        let secret = ["refresh-", "access-"].iter().any(|kind| message.split(kind).skip(1).any(is_token));
        assert!(!secret, "a secret: {message}");
        if code == Code::RefreshTokenSpent {
            count(&self.tally.resurrections_refused);
            assert!(strike.is_some() || !self.sees_current_token(call), "told to log in beside a living successor");
        }
        let may_repeat = self.uncertain == Uncertain::Probe;
        assert!(code != Code::RefreshUncertain || !may_repeat, "an outcome that is not known ended the login");
        let known =
            matches!(code, Code::RefreshTokenSpent | Code::GrantDead | Code::RefreshUncertain | Code::Superseded);
        assert!(known || strike.is_some(), "refused without a fault: {} {message}", code.as_str());
    }

    /// Whether one of the caller's stores holds, under any name, the current token of the grant that the caller has.
    fn sees_current_token(&self, call: &Refresh) -> bool {
        let stores = [Some(&call.own), call.main.as_ref()].into_iter().flatten();
        let held = |store: &Store, profile: &str| match store.read(profile) {
            Ok(Profile::Oauth(held)) => held.refresh().map(Provider::origin),
            _ => None,
        };
        let own = stores.clone().find_map(|store| held(store, call.key.profile_id()));
        let Some((grant, _)) = own else { return false };
        let current = (grant, self.provider.grants[grant].current);
        let sees = |store| PROFILES.iter().any(|profile| held(store, profile) == Some(current));
        !self.provider.grants[grant].revoked && stores.into_iter().any(sees)
    }

    /// A credential that was served is of one piece, unexpired and of the account it says.
    fn check_served(&self, call: &Refresh, credential: &Credential) {
        self.check_credential(credential);
        assert!(credential.is_unexpired(self.clock.now_ms()), "expired");
        let rejected = call.rejected.get().map(|rejected| rejected.as_str());
        assert_ne!(credential.access(), rejected, "the rejected token");
    }

    fn check_stores(&self) {
        for agent in AGENTS {
            for profile in PROFILES {
                if let Profile::Oauth(held) = self.store(agent).read(profile).expect("a readable store") {
                    self.check_credential(&held);
                }
            }
        }
    }

    fn check_credential(&self, held: &Credential) {
        let access = held.access().expect("an access token");
        let refresh = held.refresh().expect("a refresh token");
        let (of_access, of_refresh) = (Provider::origin(access), Provider::origin(refresh));
        assert_eq!(of_access, of_refresh, "tokens of two answers in one credential");
        if let Some(account) = held.fields().get("accountId") {
            let owner = &self.provider.grants[of_access.0].account;
            assert_eq!(account, owner, "tokens under another account");
        }
    }

    /// When all is calm, whoever holds the current token of a living grant is served.
    fn everyone_is_served(&mut self) {
        while let Some(pending) = self.pending.pop() {
            if pending.is_unsaved {
                pending.process.go_on(Order::SaveAgain);
                self.settled(pending, None);
            } else if self.provider.receive(&pending.token, &self.tally) {
                let fields = self.fields(&pending.token, Weather::Fine);
                self.settle(pending, fields, None);
            } else {
                pending.process.go_on(Order::AskResult(AskResult::Failed(REFUSED, ()), None));
                let said = pending.process.hear();
                self.heard(pending.process, said, None);
            }
        }
        assert!(self.pending.is_empty(), "a healthy disk did not take a receipt");
        self.clock.advance(4_000_000.0);
        for (agent, profile) in AGENTS.iter().flat_map(|agent| PROFILES.map(|profile| (*agent, profile))) {
            self.finally_served(agent, profile);
            self.check_stores();
        }
    }

    fn finally_served(&mut self, agent: &str, profile: &str) {
        let call = self.call(agent, profile);
        self.say(format!("at last {agent} {profile}"));
        let own = |history: &Self| match history.store(agent).read(profile) {
            Ok(Profile::Oauth(held)) => Some(held),
            _ => None,
        };
        let alive = own(self).is_some_and(|held| {
            let token = held.refresh().unwrap_or_default().to_owned();
            let (grant, generation) = Provider::origin(&token);
            let grant = &self.provider.grants[grant];
            let never_sent = self.provider.sent.get(&token).is_none_or(|sent| sent.times == 0 && !sent.unknown);
            // However often it was sent: who may ask again is told what became of it.
            let may_ask = self.uncertain == Uncertain::Probe || (never_sent && !self.died_deciding);
            !grant.revoked && grant.current == generation && may_ask
        });
        if let Ok(Some(served)) = call.look(None) {
            return self.served(&call, served);
        }
        // Nobody holds it; what a death left there takes a moment.
        let lock =
            lock::acquire_blocking(&Target::refresh(&call.lock_base, &call.clock), HUNG).expect("nobody holds it");
        match call.decide(lock) {
            Ok(Decision::TakenOver) => panic!("nobody takes over here"),
            Ok(Decision::Send(claimed)) => {
                let token = claimed.credential().refresh().expect("a refresh token").to_owned();
                self.say(format!("dispatched {token} {claimed:?}"));
                let sent = claimed.send().expect("nobody takes over here");
                if self.provider.receive(&token, &self.tally) {
                    let fields = self.fields(&token, Weather::Fine);
                    let settled = call.settle(sent, &fields);
                    assert!(matches!(settled, Ok(Settled::Refreshed { .. })), "{settled:?}");
                } else {
                    assert!(!alive, "a living grant was refused");
                    let failed = call.fail(sent, REFUSED).expect("on record");
                    assert!(matches!(failed, Failed::ForGood(Some(_))), "{failed:?}");
                }
            }
            Ok(Decision::Served(served)) => self.served(&call, served),
            Ok(Decision::BackOff { wait_ms, error }) => panic!("still backing off {wait_ms} ms: {error}"),
            Ok(Decision::Busy { .. } | Decision::Later(_) | Decision::Claimed { .. }) => {
                panic!("somebody still holds a generation")
            }
            Err(error) => {
                assert!(!alive, "{agent} has a living grant and gets {error}");
                self.refused(&call, &error, None);
            }
        }
    }

    /// Now and then a file operation of the step fails, or the process dies at it.
    fn strike(&self) -> Strike {
        if !self.random.one_in(3) {
            return None;
        }
        count(&self.tally.faults);
        // Mostly at the beginning, where the journal is written.
        let most = *self.random.pick(&[4, 12, MOST_OPERATIONS]);
        let at = usize::try_from(1 + self.random.below(most)).expect("a number");
        let kinds = [
            Fault::Crash,
            Fault::Crash,
            Fault::Gone,
            Fault::Short,
            Fault::Errno(28),
            Fault::Errno(5),
            Fault::Errno(24),
        ];
        Some((at, *self.random.pick(&kinds)))
    }

    fn call(&self, agent: &str, profile: &str) -> Refresh {
        let state_dir = self.state_dir.path();
        Refresh {
            key: Key::new(PROVIDER, profile).expect("a key"),
            lock_base: key::lock_base(state_dir, PROVIDER, profile),
            state_dir: state_dir.to_owned(),
            own: self.store(agent).into(),
            main: (agent != "main").then(|| self.store("main").into()),
            margin_ms: 300_000.0,
            force: false,
            rejected: OnceLock::new(),
            seen: OnceLock::new(),
            last_seen: Mutex::default(),
            serve_unexpired: true,
            uncertain: self.uncertain,
            waits: Waits::default(),
            clock: self.clock.clone(),
        }
    }

    fn store(&self, agent: &str) -> FileStore {
        let (state_dir, clock): (_, Arc<dyn Clock>) = (self.state_dir.path(), self.clock.clone());
        FileStore::new(&state_dir.join("agents").join(agent).join("agent"), state_dir, &clock)
    }

    fn write_login(&self, agent: &str, profile: &str, grant: usize) {
        let token = self.provider.token(grant);
        let (_, generation) = Provider::origin(&token);
        let mut fields: Map<String, Value> = Map::new();
        fields.insert("type".to_owned(), json!("oauth"));
        fields.insert("provider".to_owned(), json!(PROVIDER));
        fields.insert("access".to_owned(), json!(format!("access-{grant}-{generation}")));
        fields.insert("refresh".to_owned(), json!(token));
        fields.insert("expires".to_owned(), json!(self.clock.now_ms() + LIFETIME_MS));
        if self.with_identity {
            fields.insert("accountId".to_owned(), json!(self.provider.grants[grant].account));
        }
        let store = self.store(agent);
        let credential = Credential::from_profile(fields);
        store.lock().and_then(|mut guard| guard.update(profile, |_| (credential, ()))).expect("written");
    }

    fn say(&mut self, what: String) {
        self.log.push(what);
    }
}

/// A received credential is in a store or in the journal.
fn check_kept(call: &Refresh, credential: &Credential) {
    let stored = [Some(&call.own), call.main.as_ref()].into_iter().flatten().any(|store| {
        matches!(store.read(call.key.profile_id()), Ok(Profile::Oauth(held)) if held.access() == credential.access())
    });
    let journaled = || {
        let record = Journal::peek(&term::journal(&call.lock_base, 0)).ok().flatten();
        let receipts = record.iter().flat_map(Record::receipts);
        receipts.filter_map(|receipt| receipt.credential.open()).any(|kept| kept.access() == credential.access())
    };
    assert!(stored || journaled(), "a received credential is lost");
}
