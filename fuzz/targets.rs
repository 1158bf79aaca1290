//! What reads input that somebody else wrote, and what must hold whatever that is. Fuzzed by `cargo fuzz run NAME`; the tests replay
//! `corpus/NAME`.

use oauth_refresh_lock::clock::SystemClock;
use oauth_refresh_lock::coordinator::{Grant, Row};
use oauth_refresh_lock::credential::account::IdentityClaims;
use oauth_refresh_lock::credential::fields::Fields;
use oauth_refresh_lock::credential::{Credential, RefreshedFields, holds_token, jwt};
use oauth_refresh_lock::failure::{Evidence, OwnCodes, classify, codes};
use oauth_refresh_lock::journal::{HALF_BYTES, Journal};
use oauth_refresh_lock::lock::holder::Holder;
use oauth_refresh_lock::lock::sidecar::Foreign;
use oauth_refresh_lock::store::document::Document;
use oauth_refresh_lock::token_endpoint::answer::Response;
use oauth_refresh_lock::token_endpoint::{Encoding, Exchange, Spec, TimeUnit, TokenEndpoint};
use std::io::Write as _;
use std::sync::LazyLock;

const NOW_MS: f64 = 1_800_000_000_000.0;

type Target = fn(&[u8]);

/// Those that there are, by name.
pub(super) const ALL: [(&str, Target); 9] = [
    ("document", document),
    ("journal", journal),
    ("holder", holder),
    ("sidecar", sidecar),
    ("jwt", jwt),
    ("login", login),
    ("answer", answer),
    ("failure", failure),
    ("row", row),
];

fn stored() -> Credential {
    let json = r#"{"type":"oauth","provider":"acme","access":"old","refresh":"r0","expires":1,"accountId":"one"}"#;
    Fields::parse(json).and_then(Credential::from_profile).expect("a credential")
}

fn file_of(data: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(data).expect("written");
    file
}

/// A store: what we write into it can be read, and every other profile stays as it is spelled.
pub(super) fn document(data: &[u8]) {
    const ID: &str = "acme:fuzzed";
    let Ok(before) = Document::parse(data.to_vec()) else { return };
    let spelled = |document: &Document, id: &str| document.profile(id).ok().flatten().map(|one| one.to_json());
    for (text, holds) in [(before.with_profile(ID, stored().members()), true), (before.without_profile(ID), false)] {
        let after = Document::parse(text.as_bytes().to_vec()).expect("what we write can be read");
        assert_eq!(after.has_profile(ID), holds);
        for id in before.profile_ids().into_iter().filter(|id| *id != ID) {
            assert_eq!(spelled(&after, id), spelled(&before, id));
        }
    }
}

/// A journal: how long what its first half holds is (2 bytes), that, and what its second half holds.
pub(super) fn journal(data: &[u8]) {
    let Some((length, halves)) = data.split_first_chunk() else { return };
    let Some((first, second)) = halves.split_at_checked(u16::from_be_bytes(*length).into()) else { return };
    let half = |bytes: &[u8]| {
        let mut half = bytes.to_vec();
        half.resize(HALF_BYTES, b' ');
        half
    };
    let _ = Journal::peek(file_of(&[half(first), half(second)].concat()).path());
}

/// A lock file.
pub(super) fn holder(data: &[u8]) {
    let _ = Holder::read_from(file_of(data).as_file());
}

/// Another program's lock file: a process that it names can be waited for, and the line that ends it says nothing of that process.
pub(super) fn sidecar(data: &[u8]) {
    const LINE: &[u8] = b"\n\t\t\t\t\t\t\t\t\t \t  \t\n";
    let read = |data: &[u8]| Foreign::at(file_of(data).path()).expect("a file");
    let foreign = read(data);
    assert!(foreign.created_at.is_none_or(|at| at.is_finite() && at >= 0.0));
    assert!(foreign.pid.is_some() || !foreign.is_alive());
    let holder = foreign.as_holder(&SystemClock);
    assert_eq!(holder.as_ref().map(|holder| holder.pid), foreign.pid);
    if let Some(holder) = holder {
        assert!(holder.pid > 0);
        assert_eq!(foreign.is_of(&holder), foreign.created_at.is_some());
    }
    assert_eq!(read(&[data, LINE].concat()), foreign);
}

/// A token that may be a JWT.
pub(super) fn jwt(data: &[u8]) {
    let Ok(token) = std::str::from_utf8(data) else { return };
    assert!(jwt::expiry_ms(token).is_none() || jwt::claims(token).is_some());
    let _ = jwt::lifetime_ms(token);
}

/// What a refresh function gave, or a login on standard input: what is taken from it has a usable access token.
pub(super) fn login(data: &[u8]) {
    let Ok(json) = std::str::from_utf8(data) else { return };
    let _ = Credential::of_login(json, "acme", &IdentityClaims::default(), NOW_MS);
    let _ = holds_token(json);
    if let Ok(fields) = RefreshedFields::parse(json, &stored(), NOW_MS) {
        assert!(stored().merged_with(&fields).is_unexpired(NOW_MS));
    }
}

/// A token endpoint's answer: `STATUS`, `Retry-After`, and the body, in lines.
pub(super) fn answer(data: &[u8]) {
    static ENDPOINT: LazyLock<TokenEndpoint> = LazyLock::new(|| {
        TokenEndpoint::new(Spec {
            token_endpoint: "https://auth.acme.test/token".to_owned(),
            enterprise_token_endpoint: None,
            client_id: None,
            client_secret: None,
            client_auth: None,
            encoding: Encoding::Form,
            exchange: Exchange::RefreshToken,
            scope: None,
            resource: Vec::new(),
            headers: Vec::new(),
            identity_claims: IdentityClaims {
                account_id: Some(vec!["auth".to_owned(), "account".to_owned()]),
                email: None,
            },
            envelope: vec!["data".to_owned()],
            expires_in_unit: TimeUnit::Seconds,
            is_replay_safe: false,
            own_codes: OwnCodes::default(),
        })
        .expect("an endpoint")
    });
    let mut parts = data.splitn(3, |byte| *byte == b'\n');
    let mut line = || parts.next().unwrap_or_default();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let status = text(line()).parse().unwrap_or(200);
    let retry_after = Some(text(line())).filter(|value| !value.is_empty());
    let response = Response { status, retry_after, body: line().to_vec().into(), is_whole: status % 2 == 0 };
    if let Ok(fields) = ENDPOINT.read(&stored(), NOW_MS..NOW_MS + 1_000.0, &response) {
        assert!(Fields::parse(&fields).is_some());
    }
}

/// The body and the words of a client's error.
pub(super) fn failure(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let body = Fields::parse(text);
    let bodies: Vec<_> = body.iter().map(Fields::values).collect();
    for body in &bodies {
        let _ = codes(body);
    }
    for status in [None, Some(200), Some(400), Some(401), Some(429), Some(503)] {
        let _ = classify(&Evidence { status, bodies: bodies.clone(), messages: vec![text], ..Evidence::default() });
    }
}

/// A coordinator's row: what is understood of it is written and read as the same.
pub(super) fn row(data: &[u8]) {
    let Ok(value) = std::str::from_utf8(data) else { return };
    let _ = Grant::of("r0").and_then(|grant| grant.open(value, &[]));
    if let Ok(row) = Row::parse(value) {
        let written = row.to_json();
        assert_eq!(Row::parse(&written).ok().map(|again| again.to_json()), Some(written));
    }
}
