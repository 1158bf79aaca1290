//! What is sent to a token endpoint only if it is safe, and what its answers mean. No network: `__test__/` has that.

mod answers;
mod failures;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use oauth_refresh_lock::credential::Credential;
use oauth_refresh_lock::credential::account::IdentityClaims;
use oauth_refresh_lock::error::Code;
use oauth_refresh_lock::failure::{FailureClass, OwnCodes};
use oauth_refresh_lock::token_endpoint::answer::Response;
use oauth_refresh_lock::token_endpoint::{ClientAuth, Encoding, Exchange, Failure, Spec, TimeUnit, TokenEndpoint};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

const NOW: i64 = 1_700_000_000_000;
const NOW_MS: f64 = 1_700_000_000_000.0;
const UNSPENT: FailureClass = FailureClass::AnsweredUnspent;

fn spec(token_endpoint: &str) -> Spec {
    Spec {
        token_endpoint: token_endpoint.to_owned(),
        enterprise_token_endpoint: None,
        client_id: Some("client".to_owned()),
        client_secret: None,
        client_auth: None,
        encoding: Encoding::Form,
        exchange: Exchange::RefreshToken,
        scope: None,
        resource: Vec::new(),
        headers: Vec::new(),
        identity_claims: IdentityClaims {
            account_id: Some(vec!["https://api.example/auth".to_owned(), "account".to_owned()]),
            email: None,
        },
        envelope: Vec::new(),
        expires_in_unit: TimeUnit::Seconds,
        is_replay_safe: false,
        own_codes: OwnCodes::default(),
    }
}

fn secret(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.to_owned())
}

fn endpoint() -> TokenEndpoint {
    TokenEndpoint::new(spec("https://auth.example/token")).unwrap()
}

fn credential(fields: &Value) -> Credential {
    let mut held = json!({"type": "oauth", "provider": "x", "access": "a0", "refresh": "r0", "expires": 1});
    held.as_object_mut().unwrap().extend(fields.as_object().cloned().unwrap());
    match held {
        Value::Object(held) => Credential::from_profile(held).unwrap(),
        _ => unreachable!(),
    }
}

fn answer(status: u16, body: &[u8]) -> Response {
    Response { status, retry_after: None, body: Zeroizing::new(body.to_vec()), is_whole: true }
}

fn read(endpoint: &TokenEndpoint, held: &Credential, answer: &Response) -> Result<Map<String, Value>, Failure> {
    let fields = endpoint.read(held, NOW_MS..NOW_MS + 1.0, answer)?;
    Ok(serde_json::from_str(&fields).expect("an object"))
}

/// What an answer of 200 makes of a credential of which nothing is known.
fn fields(body: &str) -> Value {
    read(&endpoint(), &credential(&json!({})), &answer(200, body.as_bytes())).unwrap_or_else(|f| panic!("{f:?}")).into()
}

fn failure(status: u16, body: &str) -> Failure {
    read(&endpoint(), &credential(&json!({})), &answer(status, body.as_bytes())).expect_err(body)
}

fn jwt(claims: &Value) -> String {
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

#[test]
fn a_token_is_only_sent_where_nobody_can_read_it_on_the_way() {
    for url in [
        "https://auth.example/token",
        "http://127.0.0.1:1/t",
        "http://127.9.9.9/t",
        "http://[::1]/",
        "http://localhost:8/",
    ] {
        assert!(TokenEndpoint::new(spec(url)).is_ok(), "{url}");
    }
    for url in [
        "",
        "token",
        "//auth.example/token",
        "ftp://auth.example/",
        "http://auth.example/",
        "http://localhost.example/",
        "http://127.0.0.1.example/",
        "http://[::2]/",
        "https://user@auth.example/",
        "https://user:password@auth.example/",
        "https://auth.example/#x",
    ] {
        let error = TokenEndpoint::new(spec(url)).expect_err(url);
        assert_eq!(error.code, Code::InvalidArgument, "{url}");
        assert!(!error.message.contains("password"), "{error}");
    }
}

#[test]
fn a_request_that_contradicts_itself_is_refused() {
    let refused: [fn(&mut Spec); 12] = [
        |spec| spec.client_auth = Some(ClientAuth::Basic),
        |spec| spec.client_auth = Some(ClientAuth::Post),
        |spec| (spec.client_secret, spec.client_auth) = (Some(secret("s")), Some(ClientAuth::None)),
        |spec| (spec.client_secret, spec.client_id) = (Some(secret("s")), None),
        |spec| spec.resource = vec!["no uri".to_owned()],
        |spec| spec.resource = vec!["https://api.example/#part".to_owned()],
        |spec| spec.headers = vec![("Host".to_owned(), secret("elsewhere.example"))],
        |spec| spec.headers = vec![("no name".to_owned(), secret("x"))],
        |spec| spec.headers = vec![("x".to_owned(), secret("two\r\nlines"))],
        |spec| spec.enterprise_token_endpoint = Some("https://fixed.example/".to_owned()),
        |spec| spec.exchange = Exchange::GithubCopilot,
        |spec| spec.envelope = vec!["body".to_owned(); 9],
    ];
    for (at, change) in refused.into_iter().enumerate() {
        let mut spec = spec("https://auth.example/token");
        change(&mut spec);
        let error = TokenEndpoint::new(spec).map(|_| at).expect_err("refused");
        assert_eq!(error.code, Code::InvalidArgument);
        assert!(!error.message.contains("lines"), "{error}");
    }
}

#[test]
fn the_account_of_the_token_is_filled_in() {
    let id_token = jwt(&json!({
        "iss": "https://auth.example", "sub": "u1", "email": "u@example.com",
        "https://api.example/auth": {"account": "acc-1"},
    }));
    let body = json!({"access_token": "a1", "id_token": id_token}).to_string();
    let who = json!({
        "access": "a1", "idToken": id_token, "issuer": "https://auth.example", "subject": "u1",
        "accountId": "acc-1", "email": "u@example.com",
    });
    assert_eq!(fields(&body), who);
    // What is known already stays as it is spelled.
    let known = credential(&json!({"email": " U@Example.com", "accountId": "acc-1", "issuer": "https://auth.example"}));
    let found = read(&endpoint(), &known, &answer(200, body.as_bytes())).unwrap();
    assert_eq!(Value::from(found), json!({"access": "a1", "idToken": id_token, "subject": "u1"}));
    // A JWT access token tells as much where there is no id_token, nor was any.
    let access = jwt(&json!({"iss": "i", "sub": "s", "email": "e@example.com"}));
    let found = fields(&json!({"access_token": access}).to_string());
    assert_eq!(found["subject"], "s");
    let with_id_token = credential(&json!({"idToken": id_token}));
    let found = read(&endpoint(), &with_id_token, &answer(200, json!({"access_token": access}).to_string().as_bytes()));
    assert_eq!(found.unwrap().get("subject"), None);
}

#[test]
fn a_tenants_token_goes_nowhere_else() {
    let mut spec = spec("https://auth.example/token");
    spec.enterprise_token_endpoint = Some("https://api.{host}/token".to_owned());
    let at = |spec: Spec, enterprise_url: Value| {
        let endpoint = TokenEndpoint::new(spec).unwrap();
        let url = endpoint.url_for(&credential(&json!({"enterpriseUrl": enterprise_url})));
        url.map_or_else(|error| error.code.as_str().to_owned(), |url| url.to_string())
    };
    for (enterprise_url, url) in [
        (json!(null), "https://auth.example/token"),
        (json!(" "), "https://auth.example/token"),
        (json!("https://GHE.example.com/"), "https://api.ghe.example.com/token"),
        (json!("ghe.example.com/path?x#y"), "https://api.ghe.example.com/token"),
        (json!("auth.example"), "https://auth.example/token"),
        (json!("example"), "https://auth.example/token"),
        (json!("th.example"), "https://api.th.example/token"),
        (json!(false), "invalid_argument"),
        (json!({}), "invalid_argument"),
        (json!("https:///login"), "invalid_argument"),
        (json!("?"), "invalid_argument"),
    ] {
        assert_eq!(at(spec.clone(), enterprise_url.clone()), url, "{enterprise_url}");
    }
    spec.enterprise_token_endpoint = None;
    assert_eq!(at(spec, json!("ghe.example.com")), "invalid_argument");
}
