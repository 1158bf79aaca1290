//! Whether the main store takes a refreshed credential: each row of the table, each before all the rows below it.

use crate::support::world::{map, oauth, with};
use oauth_refresh_lock::refresh::mirror::{Reason, decide};
use serde_json::{Value, json};

const ALL: [(Reason, &str, bool); 8] = [
    (Reason::NoExistingCredential, "no-existing-credential", true),
    (Reason::NonOauthExistingCredential, "non-oauth-existing-credential", false),
    (Reason::ProviderMismatch, "provider-mismatch", false),
    (Reason::TenantMismatch, "tenant-mismatch", false),
    (Reason::IdentityMismatchOrRegression, "identity-mismatch-or-regression", false),
    (Reason::InvalidIncomingExpiry, "invalid-incoming-expiry", false),
    (Reason::IncomingNotFresher, "incoming-not-fresher", false),
    (Reason::IncomingFresher, "incoming-fresher", true),
];

/// Main's, in the simplest form.
fn existing() -> Value {
    json!({ "type": "oauth", "provider": "p", "access": "a1", "expires": 1000, "accountId": "A", "email": "u@e" })
}

/// Refreshed, and fit to replace it.
fn incoming() -> Value {
    with(existing(), &json!({ "access": "a2", "expires": 2000 }))
}

#[track_caller]
fn assert_decides(existing: &Value, incoming: &Value, expected: Reason) {
    assert_eq!(decide(Some(&map(existing)), &oauth(incoming)), expected, "{existing} {incoming}");
}

#[test]
fn each_reason_has_its_name_and_two_of_them_write() {
    for (reason, name, writes) in ALL {
        assert_eq!(reason.as_str(), name);
        assert_eq!(reason.writes(), writes, "{name}");
    }
}

#[test]
fn each_row_comes_before_all_rows_below_it() {
    // What is wrong in each row; a row is tried with everything wrong that the rows below it look at.
    let not_oauth = json!({ "type": "api_key" });
    let other_provider = json!({ "provider": "q" });
    let other_tenant = json!({ "enterpriseUrl": "ghe.example.com" });
    let other_identity = json!({ "accountId": "B" });
    let later_than_all = json!({ "expires": 9000 });
    let no_expiry = json!({ "expires": "soon" });
    let rows = [
        (Reason::NonOauthExistingCredential, vec![&not_oauth, &other_provider, &other_tenant, &other_identity]),
        (Reason::ProviderMismatch, vec![&other_provider, &other_tenant, &other_identity]),
        (Reason::TenantMismatch, vec![&other_tenant, &other_identity]),
        (Reason::IdentityMismatchOrRegression, vec![&other_identity]),
        (Reason::InvalidIncomingExpiry, vec![]),
    ];
    for (reason, wrong) in rows {
        let all_wrong = wrong.iter().fold(with(existing(), &later_than_all), |fields, wrong| with(fields, wrong));
        assert_decides(&all_wrong, &with(incoming(), &no_expiry), reason);
        if let Some(first) = wrong.first() {
            assert_decides(&with(existing(), first), &incoming(), reason);
        }
    }
    assert_decides(&with(existing(), &later_than_all), &incoming(), Reason::IncomingNotFresher);
    assert_decides(&existing(), &incoming(), Reason::IncomingFresher);
}

#[test]
fn whatever_is_refreshed_goes_where_nothing_is() {
    for incoming in [incoming(), with(incoming(), &json!({ "expires": null, "provider": null, "accountId": null }))] {
        assert_eq!(decide(None, &oauth(&incoming)), Reason::NoExistingCredential);
    }
}

#[test]
fn only_oauth_is_replaced() {
    for kind in [
        json!({"type": "api_key"}),
        json!({"type": "token"}),
        json!({"type": null}),
        json!({"type": "OAuth"}),
        json!({"type": 1}),
        json!({"type": null, "mode": "api_key"}),
        json!({"type": "token", "mode": "oauth"}),
    ] {
        assert_decides(&with(existing(), &kind), &incoming(), Reason::NonOauthExistingCredential);
    }
    assert_decides(&with(existing(), &json!({ "type": null, "mode": "oauth" })), &incoming(), Reason::IncomingFresher);
}

#[test]
fn another_provider_is_kept() {
    for provider in [json!("q"), json!("P"), json!("p "), json!(null), json!(1)] {
        assert_decides(&with(existing(), &json!({ "provider": provider })), &incoming(), Reason::ProviderMismatch);
    }
    assert_decides(&existing(), &with(incoming(), &json!({ "provider": null })), Reason::ProviderMismatch);
}

#[test]
fn another_tenant_is_kept() {
    let tenant = |fields: Value| (with(existing(), &fields), with(incoming(), &fields));
    let (hosted, refreshed) = tenant(json!({ "enterpriseUrl": "https://GHE.example.com/" }));
    assert_decides(&hosted, &incoming(), Reason::TenantMismatch);
    assert_decides(&existing(), &refreshed, Reason::TenantMismatch);
    assert_decides(&hosted, &with(incoming(), &json!({ "enterpriseUrl": "github.com" })), Reason::TenantMismatch);
    assert_decides(&hosted, &with(incoming(), &json!({ "enterpriseUrl": "ghe.example.com" })), Reason::IncomingFresher);
    let (project, refreshed) = tenant(json!({ "projectId": "one" }));
    assert_decides(&project, &incoming(), Reason::TenantMismatch);
    assert_decides(&project, &with(incoming(), &json!({ "projectId": "two" })), Reason::TenantMismatch);
    assert_decides(&existing(), &refreshed, Reason::IncomingFresher);
}

#[test]
fn another_account_or_one_that_says_less_is_kept() {
    let refused = [
        json!({ "accountId": "B" }),
        json!({ "accountId": "a" }),
        json!({ "accountId": null }),
        json!({ "accountId": " " }),
        json!({ "email": "v@e" }),
        json!({ "email": null }),
        json!({ "accountId": null, "email": null }),
        json!({ "accountId": 1 }),
    ];
    for fields in refused {
        assert_decides(&existing(), &with(incoming(), &fields), Reason::IdentityMismatchOrRegression);
    }
    for known in [
        json!({ "accountId": null }),
        json!({ "email": "" }),
        json!({ "accountId": null, "email": null }),
        json!({ "accountId": " A", "email": "U@E " }),
    ] {
        assert_decides(&with(existing(), &known), &incoming(), Reason::IncomingFresher);
    }
}

/// Numbers as a file spells them, text, and nothing.
fn expiry(json: &str) -> Value {
    json!({ "expires": serde_json::from_str::<Value>(json).expect("a value") })
}

const NO_DATES: [&str; 8] =
    ["null", "\"2000\"", "8640000000000001", "-8640000000000001", "1e300", "1e400", "true", "{}"];

#[test]
fn a_refreshed_credential_without_a_valid_expiry_is_not_mirrored() {
    for no_date in NO_DATES {
        let incoming = with(incoming(), &expiry(no_date));
        for existing in [existing(), with(existing(), &expiry("null")), with(existing(), &expiry("9000"))] {
            assert_decides(&existing, &incoming, Reason::InvalidIncomingExpiry);
        }
    }
    assert_decides(&existing(), &with(incoming(), &expiry("8640000000000000")), Reason::IncomingFresher);
}

#[test]
fn an_invalid_expiry_in_main_may_be_overwritten() {
    for no_date in NO_DATES {
        assert_decides(&with(existing(), &expiry(no_date)), &incoming(), Reason::IncomingFresher);
    }
}

#[test]
fn only_what_expires_later_is_fresher() {
    let rows = [
        ("1999", "2000", Reason::IncomingFresher),
        ("1999.5", "2000", Reason::IncomingFresher),
        ("2000", "2000", Reason::IncomingNotFresher),
        ("2e3", "2000.0", Reason::IncomingNotFresher),
        ("2001", "2000", Reason::IncomingNotFresher),
        ("-1", "0", Reason::IncomingFresher),
        ("8640000000000000", "2000", Reason::IncomingNotFresher),
        ("8640000000000000", "8640000000000000", Reason::IncomingNotFresher),
        ("-8640000000000000", "-1", Reason::IncomingFresher),
    ];
    for (main_credential, refreshed, expected) in rows {
        assert_decides(&with(existing(), &expiry(main_credential)), &with(incoming(), &expiry(refreshed)), expected);
    }
}
