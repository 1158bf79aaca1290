#![allow(clippy::disallowed_methods, reason = "torn and foreign files are made by hand")]

use super::*;
use crate::clock::tests::Boot;
use crate::clock::{BootMs, Clock, SystemClock};
use crate::credential::tests::credential;
use crate::credential::{Credential, Generation};
use crate::digest::Digest;
use crate::journal::ledger::Ledger;
use crate::journal::record::{
    ClaimRecord, FailureRecord, Lifetime, LostCall, Origin, Outcome, PauseUntil, Progress, Receipt, Seen,
};
use crate::lock::Target;
use serde_json::json;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

fn record(state: Progress, failure: Option<FailureRecord>) -> Record {
    let generation = Generation::of("r");
    let key = Digest::of(&[b"key"]);
    let (profile, pid, at, origin) = ("p".into(), 1, 2.5, origin("/store", "/main"));
    let claim = Some(ClaimRecord { key, profile, pid, at, origin, attempts: 1, pause: Some(pause()) });
    let received = credential(json!({"type": "oauth", "access": "secret", "expires": 1.5}));
    let mut ledger = Ledger::default();
    ledger.record(generation, Generation::of("s"));
    let failures = failure.into_iter().collect();
    let lifetimes = vec![Lifetime { access: key, ms: 300_000.0 }];
    let receipts = vec![receipt(&received)];
    Record { state, epoch: 3, claim, receipts, failures, ledger, stores: Vec::new(), lifetimes, ..Record::default() }
}

fn pause() -> PauseUntil {
    PauseUntil { until: BootMs(1.5), boot: "b".into(), since: BootMs(0.5) }
}

fn origin(store: &str, main: &str) -> Origin {
    let (store, main, generation) = (store.into(), main.into(), Generation::of("r"));
    Origin { generation, store, main, main_has_profile: true, main_generation: Some(generation) }
}

fn receipt(credential: &Credential) -> Receipt {
    let (credential, answered) = (Sealed::new(credential), vec!["access".into()]);
    Receipt { credential, answered, origin: origin("/store", "/main"), superseded: false, kept: false }
}

fn open(directory: &tempfile::TempDir) -> Result<Journal> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let target = Target::never_taken_over(&base(directory), &clock);
    Journal::open(&lock::acquire_blocking(&target, Duration::from_secs(60)).expect("free"))
}

fn base(directory: &tempfile::TempDir) -> PathBuf {
    directory.path().canonicalize().expect("a path").join("locks").join("sha256-0")
}

#[test]
fn every_record_is_read_as_it_was_written() {
    let generation = Generation::of("r");
    let (pid, at) = (7, 8.25);
    let outcomes = [
        Outcome::Unspent,
        Outcome::Uncertain,
        Outcome::Dead { lost_with: Some(LostCall { pid, host: None, at }) },
        Outcome::Dead { lost_with: None },
    ];
    let failure =
        |outcome| FailureRecord { generation, outcome, pid, host: None, at, attempts: 2, pause: Some(pause()) };
    let failures = std::iter::once(None).chain(outcomes.map(|outcome| Some(failure(outcome))));
    let directory = tempfile::tempdir().expect("a directory");
    for failure in failures {
        for state in [Progress::Idle, Progress::Dispatched, Progress::Received, Progress::Committed] {
            let written = record(state, failure.clone());
            open(&directory).expect("opened").write(written.clone()).expect("written");
            let read = open(&directory).expect("opened").record().clone();
            assert_eq!(serde_json::to_string(&read).expect("json"), serde_json::to_string(&written).expect("json"));
            assert_eq!(read.failures, Vec::from_iter(failure.clone()));
        }
    }
}

#[test]
fn a_record_that_was_cut_off_leaves_the_one_before_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut journal = open(&directory).expect("opened");
    journal.write(record(Progress::Idle, None)).expect("written");
    let before = fs::read(term::journal(&base(&directory), 0)).expect("read");
    journal.write(record(Progress::Dispatched, None)).expect("written");
    let after = fs::read(term::journal(&base(&directory), 0)).expect("read");
    let changed: Vec<usize> = (0..after.len()).filter(|at| before[*at] != after[*at]).collect();
    for cut in changed.iter().skip(1) {
        let torn: Vec<u8> = after[..*cut].iter().chain(&before[*cut..]).copied().collect();
        fs::write(term::journal(&base(&directory), 0), torn).expect("written");
        let read = open(&directory).expect("opened");
        assert_eq!(read.record().state, Progress::Idle, "cut at {cut}");
    }
}

#[test]
fn no_byte_of_a_credential_outlives_its_commit() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut journal = open(&directory).expect("opened");
    journal.write(record(Progress::Received, None)).expect("written");
    let bare = Record { receipts: Vec::new(), ledger: Ledger::default(), ..record(Progress::Committed, None) };
    journal.write(bare).expect("written");
    journal.wipe_previous().expect("wiped");
    let bytes = fs::read(term::journal(&base(&directory), 0)).expect("read");
    assert!(!String::from_utf8_lossy(&bytes).contains("secret"));
    assert_eq!(bytes.len(), 2 * HALF_BYTES);
}

#[test]
fn garbage_is_an_empty_journal_and_a_newer_format_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = term::journal(&base(&directory), 0);
    drop(open(&directory));
    for garbage in [vec![], vec![7; 3], vec![0xFF; 2 * HALF_BYTES], b"ORLJ\x01\0\0\0".repeat(99)] {
        fs::write(&path, garbage).expect("written");
        assert_eq!(open(&directory).expect("opened").record().state, Progress::Idle);
    }
    fs::write(&path, b"ORLJ\x02\0\0\0").expect("written");
    let refused = open(&directory).map(|_| ()).map_err(|error| error.code);
    assert_eq!(refused, Err(Code::JournalVersion));
    assert_eq!(Journal::peek(&path).map(|_| ()).map_err(|error| error.code), Err(Code::JournalVersion));
}

/// Adds receipts until there is room for just one more, which is not added.
fn fill(journal: &mut Journal, superseded: bool) -> Vec<Option<Credential>> {
    loop {
        let kept = waiting(journal);
        let large = json!({"type": "oauth", "refresh": kept.len().to_string(), "access": "x".repeat(MAX_CREDENTIAL_BYTES - 100)});
        let mut record = journal.record().clone();
        record.receive(Generation::of("spent"), Receipt { superseded, ..receipt(&credential(large)) });
        journal.write(record).expect("room");
        if !matches!(journal.make_room(&[], false), Ok(()) if waiting(journal).len() > kept.len()) {
            return kept;
        }
    }
}

fn waiting(journal: &Journal) -> Vec<Option<Credential>> {
    journal.record().receipts().iter().map(|one| one.credential.open()).collect()
}

#[test]
fn what_waits_for_its_store_is_never_displaced_and_fills_the_journal_at_last() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut journal = open(&directory).expect("opened");
    let kept = fill(&mut journal, false);
    assert!(!kept.is_empty());
    assert_eq!(journal.make_room(&[], false).map_err(|error| error.code), Err(Code::JournalUnusable));
    assert_eq!(waiting(&journal)[..kept.len()], kept);
}

#[test]
fn words_for_which_there_is_room_are_recorded_with_the_largest_credential_and_longer_ones_are_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut journal = open(&directory).expect("opened");
    let (mut room, mut too_long) = (0, HALF_BYTES);
    while too_long - room > 1 {
        let between = usize::midpoint(room, too_long);
        match journal.make_room(&[&"x".repeat(between)], false) {
            Ok(()) => room = between,
            Err(error) => {
                assert_eq!(error.code, Code::InvalidArgument);
                too_long = between;
            }
        }
    }
    // There is room for an id of 12 KiB.
    assert!(room > 12 << 10, "{room}");
    let word = "x".repeat(room);
    let claimed = record(Progress::Dispatched, None);
    let claim = claimed.claim.clone().map(|claim| ClaimRecord { profile: word, ..claim });
    let access = "x".repeat(MAX_CREDENTIAL_BYTES - 100);
    let largest = credential(json!({"type": "oauth", "access": access}));
    let receipts = vec![receipt(&largest)];
    for _ in 0..2 {
        let record = Record { claim: claim.clone(), receipts: receipts.clone(), ..claimed.clone() };
        journal.write(record).expect("room");
        journal.write(Record { receipts: Vec::new(), claim: claim.clone(), ..claimed.clone() }).expect("room");
        journal.make_room(&[&"x".repeat(room - 1024)], false).expect("room");
    }
}

#[test]
fn what_a_login_has_superseded_makes_room_oldest_first() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut journal = open(&directory).expect("opened");
    let kept = fill(&mut journal, true);
    let left = waiting(&journal);
    assert_eq!(left[..left.len() - 1], kept[1..]);
    let bytes = fs::read(term::journal(&base(&directory), 0)).expect("read");
    let on_disk = |refresh| String::from_utf8_lossy(&bytes).contains(&format!(r#"\"refresh\":\"{refresh}\""#));
    assert!(on_disk(1) && !on_disk(0));
}

#[test]
fn what_is_only_kept_makes_room_after_what_is_superseded() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut journal = open(&directory).expect("opened");
    let large = |refresh: &str| {
        let access = "x".repeat(MAX_CREDENTIAL_BYTES - 100);
        receipt(&credential(json!({"type": "oauth", "refresh": refresh, "access": access})))
    };
    let kept = Receipt { kept: true, ..large("kept") };
    let receipts = vec![kept, Receipt { superseded: true, ..large("superseded") }];
    journal.write(Record { receipts, ..Record::default() }).expect("room");
    let left = |journal: &Journal| {
        waiting(journal).into_iter().map(|one| one.unwrap().refresh().unwrap().to_owned()).collect::<Vec<_>>()
    };
    journal.make_room(&[], false).expect("room");
    assert_eq!(left(&journal), ["kept"]);
    let mut record = journal.record().clone();
    record.receipts.push(large("waiting"));
    journal.write(record).expect("room");
    journal.make_room(&[], false).expect("room");
    assert_eq!(left(&journal), ["waiting"]);
}

#[test]
fn a_receipt_that_is_kept_takes_the_place_of_the_one_before_it_and_ends_with_its_login() {
    let (own, main) = (PathBuf::from("host:own"), PathBuf::from("host:main"));
    let of = |refresh: &str, main: &str| Receipt {
        origin: origin("host:own", main),
        ..receipt(&credential(json!({"type": "oauth", "refresh": refresh})))
    };
    let left =
        |record: &Record| record.kept().map(|one| one.credential.open().unwrap().generation()).collect::<Vec<_>>();
    let mut record = Record { state: Progress::Received, ..Record::default() };
    for refresh in ["one", "two"] {
        record.receipts.push(of(refresh, "host:own"));
        record.settle_receipt(Generation::of(refresh), &own, true);
        assert_eq!(left(&record), [Generation::of(refresh)]);
    }
    assert_eq!((record.state, record.waiting().count()), (Progress::Committed, 0));
    record.forget_kept(&main);
    assert_eq!(left(&record).len(), 1);
    record.forget_kept(&own);
    assert!(left(&record).is_empty());
    // What main holds too is not the agent's alone to end.
    record.receipts.push(of("three", "host:main"));
    record.settle_receipt(Generation::of("three"), &own, true);
    record.forget_kept(&own);
    assert_eq!(left(&record), [Generation::of("three")]);
    record.receive(Generation::of("three"), of("four", "host:main"));
    assert!(left(&record).is_empty());
}

#[test]
fn a_record_that_does_not_fit_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut journal = open(&directory).expect("opened");
    let large = credential(json!({"type": "oauth", "access": "x".repeat(HALF_BYTES)}));
    let large = Record { receipts: vec![receipt(&large)], ..Record::default() };
    assert_eq!(journal.write(large).map_err(|error| error.code), Err(Code::JournalUnusable));
    assert_eq!(journal.record().state, Progress::Idle);
}

#[test]
fn who_takes_over_goes_on_counting_how_long_a_row_is_as_it_is() {
    let at = |boot_ms| Boot("b", boot_ms);
    let record = |version, boot_ms| {
        let mut record = Record::default();
        record.note_seen(Seen::now("row", version, &at(boot_ms)));
        record
    };
    let earlier = record("1", 1_000.0);
    let mut later = Record::default();
    later.absorb(&earlier);
    assert_eq!(later.seen_ms("row", "1", &at(182_000.0)), Some(181_000.0));
    // The row has changed since.
    let mut later = record("2", 2_000.0);
    later.absorb(&earlier);
    assert_eq!(later.seen_ms("row", "2", &at(3_000.0)), Some(1_000.0));
    assert_eq!(later.seen_ms("row", "1", &at(3_000.0)), None);
}
