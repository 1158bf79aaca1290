//! A host that has missed rotations follows the rows to the newest token.

use crate::hosts::{EXPIRED, adopted, call, host, later, refreshed};
use crate::support::engine::Engine;
use crate::support::world::{HOUR, NOW, answer, credential, oauth, with};
use oauth_refresh_lock::coordinator::{Answer, CoordinatorDown, Grant, Row, RowState};
use oauth_refresh_lock::refresh::Decision;
use serde_json::json;
use std::sync::Arc;

/// The row of what was exchanged for a refresh token, as another host has told of it.
fn put_spent(engine: &Engine, step: &str, next: &str, expires: i64) {
    let (grant, next) = (Grant::of(&format!("SECRET-refresh-{step}")).unwrap(), oauth(&credential(next, expires)));
    let given = Answer::new(&next, vec!["access".into(), "refresh".into(), "expires".into()], None, "b".into());
    let mut row = Row::new(RowState::Spent, None);
    row.answer = grant.seal(&given, &[]);
    engine.put(grant.row(), &row.to_json());
}

#[test]
fn a_host_that_is_many_rotations_behind_walks_to_the_newest_without_a_call() {
    let (a, engine) = (host("0"), Arc::new(Engine::default()));
    let steps = 1_000;
    for step in 0..steps {
        // A token that is still good is no end: the provider may have ended it when it gave the next one.
        let is_good = step % 100 == 50 || step + 1 == steps;
        put_spent(&engine, &step.to_string(), &(step + 1).to_string(), if is_good { HOUR } else { EXPIRED });
    }
    assert_eq!(adopted(a.decide(&call(&a, &engine, "a")).unwrap()).0, format!("SECRET-refresh-{steps}"));
    a.main().assert_holds(&credential(&steps.to_string(), HOUR));
    assert!(engine.asked().0 <= steps + 1, "{:?}", engine.asked());
}

#[test]
fn a_walk_that_can_go_no_further_takes_the_last_good_token() {
    let of_two = Grant::of("SECRET-refresh-2").unwrap();
    let ends: [fn(&Engine, &Grant); 4] = [
        |engine, of_two| engine.put(of_two.row(), r#"{"v":9}"#),
        |engine, of_two| {
            let mut row = Row::new(RowState::Spent, None);
            row.answer = Some("sealed with another key".into());
            engine.put(of_two.row(), &row.to_json());
        },
        // The provider gives old tokens again.
        |engine, _| put_spent(engine, "2", "1", EXPIRED),
        |engine, _| put_spent(engine, "2", "3", EXPIRED),
    ];
    for end in ends {
        let (a, engine) = (host("1"), Arc::new(Engine::default()));
        put_spent(&engine, "1", "2", HOUR);
        end(&engine, &of_two);
        assert_eq!(adopted(a.decide(&call(&a, &engine, "a")).unwrap()).0, "SECRET-refresh-2");
    }
}

#[test]
fn an_engine_that_fails_on_the_way_makes_nobody_send_a_spent_token() {
    for (expires, down) in
        [(HOUR, CoordinatorDown::Refuse), (HOUR, CoordinatorDown::Alone), (EXPIRED, CoordinatorDown::Alone)]
    {
        let (a, engine) = (host("1"), Arc::new(Engine::default()));
        put_spent(&engine, "1", "2", expires);
        let mut of_a = call(&a, &engine, "a");
        of_a.coordinator_down = down;
        engine.go_down_after_loads(1);
        match a.decide(&of_a).unwrap() {
            Decision::Send(claimed) if expires == EXPIRED => {
                assert_eq!(claimed.credential().refresh(), Some("SECRET-refresh-2"));
            }
            decision => assert_eq!((adopted(decision).0.as_str(), expires), ("SECRET-refresh-2", HOUR)),
        }
    }
}

#[test]
fn a_walk_that_ends_at_an_expired_token_goes_on_with_a_call() {
    let (a, b, engine) = (host("1"), host("1"), Arc::new(Engine::default()));
    let of_a = call(&a, &engine, "a");
    refreshed(a.settle(&of_a, a.claim(&of_a), &answer("2")).unwrap());
    later(&[&a, &b], 2 * HOUR);
    let of_b = call(&b, &engine, "b");
    let claim = b.claim(&of_b);
    assert_eq!(claim.credential().refresh(), Some("SECRET-refresh-2"));
    assert_eq!(engine.states(), ["sent", "spent"]);
    let next = with(answer("3"), &json!({ "expires": NOW + 4 * HOUR }));
    refreshed(b.settle(&of_b, claim, &next).unwrap());
    assert_eq!(adopted(a.decide(&call(&a, &engine, "a")).unwrap()).0, "SECRET-refresh-3");
}
