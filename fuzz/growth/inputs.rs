//! What grows in the input of each target.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use oauth_refresh_lock::digest::Digest;
use oauth_refresh_lock::journal::HALF_BYTES;

/// How much larger the large input is, unless the target has a limit.
const TIMES: usize = 1_000;
const NESTED: &str = "lists within lists";

/// One kind of input.
pub(crate) struct Case {
    pub(crate) target: &'static str,
    /// What there is more of in the large one.
    pub(crate) grows: &'static str,
    pub(crate) small: usize,
    pub(crate) large: usize,
    /// Why the large one is no larger, if it is not [`TIMES`] the small one.
    pub(crate) limit: Option<&'static str>,
    pub(crate) make: Box<dyn Fn(usize) -> Vec<u8>>,
}

impl Case {
    fn new(target: &'static str, grows: &'static str, small: usize, make: impl Fn(usize) -> String + 'static) -> Self {
        Self::of_bytes(target, grows, small, move |count| make(count).into_bytes())
    }

    fn of_bytes(
        target: &'static str,
        grows: &'static str,
        small: usize,
        make: impl Fn(usize) -> Vec<u8> + 'static,
    ) -> Self {
        Self { target, grows, small, large: TIMES * small, limit: None, make: Box::new(make) }
    }

    /// The same, with so many in the small one.
    fn starting_at(self, small: usize) -> Self {
        Self { small, large: TIMES * small, ..self }
    }

    /// The same, with no more than so many.
    fn up_to(self, large: usize, limit: &'static str) -> Self {
        Self { large, limit: Some(limit), ..self }
    }

    /// How many bytes another one takes.
    fn bytes_each(&self) -> usize {
        ((self.make)(2 * self.small).len() - (self.make)(self.small).len()) / self.small
    }
}

/// All of them.
pub(crate) fn all() -> Vec<Case> {
    [document(), journal(), holder(), sidecar(), jwt(), login(), answer(), failure(), row()]
        .into_iter()
        .flatten()
        .collect()
}

/// Numbers from here on have seven digits, so that one is as long as another.
const FIRST: usize = 1_000_000;

/// So many pieces, with commas between them.
fn list(count: usize, piece: impl Fn(usize) -> String) -> String {
    (0..count).map(piece).collect::<Vec<_>>().join(",")
}

fn members(count: usize) -> String {
    list(count, |number| format!(r#""name{number:07}":"value{number:07}""#))
}

/// Names that all mean `alias`: underscores and hyphens don't matter.
fn aliases(count: usize, alias: &str, value: &str) -> String {
    let blanks = |number: usize| (0..16).map(move |bit| if number >> bit & 1 == 1 { '_' } else { '-' });
    list(count, |number| format!(r#""{}{alias}":{value}"#, blanks(number).collect::<String>()))
}

/// What may grow in any JSON text, where `around` puts an object into the target's input.
fn of_json(target: &'static str, around: fn(&str) -> String) -> Vec<Case> {
    let case =
        |grows, small, make: fn(usize) -> String| Case::new(target, grows, small, move |count| around(&make(count)));
    vec![
        case("members", 20, |count| format!("{{{}}}", members(count))),
        case("members of one name", 100, |count| {
            format!("{{{}}}", list(count, |number| format!(r#""x":{}"#, FIRST + number)))
        }),
        case("a list", 200, |count| format!(r#"{{"x":[{}]}}"#, list(count, |number| (FIRST + number).to_string()))),
        case("a text", 1_000, |count| format!(r#"{{"x":"{}"}}"#, "x".repeat(count))),
        case("escapes in a text", 100, |count| format!(r#"{{"x":"{}"}}"#, r#"\u00e9\"\\\n"#.repeat(count))),
        case("half surrogate pairs", 200, |count| format!(r#"{{"x":"{}"}}"#, r"\ud83d".repeat(count))),
        case("digits of a number", 1_000, |count| format!(r#"{{"x":{}.5}}"#, "7".repeat(count))),
        case("lines", 1_000, |count| format!("{{{}\"x\":1}}", "\n".repeat(count))),
        case(NESTED, 500, |count| format!(r#"{{"x":{}{}}}"#, "[".repeat(count), "]".repeat(count))),
        case("what is cut off", 200, |count| format!(r#"{{"x":{}"#, r#"{"x":"#.repeat(count))),
    ]
}

/// The same for a target that refuses what `serde_json` does not read into a value.
fn of_shallow_json(target: &'static str, around: fn(&str) -> String) -> Vec<Case> {
    let cases = of_json(target, around).into_iter();
    cases.map(|case| if case.grows == NESTED { case.starting_at(1).up_to(126, "127 levels") } else { case }).collect()
}

fn document() -> Vec<Case> {
    let profile = |number: usize| {
        format!(
            r#""acme:{number:07}":{{"type":"oauth","provider":"acme","access":"access-{number:07}","refresh":"refresh-{number:07}","expires":1}}"#
        )
    };
    let store = |profiles: &str| format!("{{\"version\":1,\"profiles\":{{{profiles}}}}}");
    let mut cases = of_json("document", |object| format!(r#"{{"profiles":{{"acme:one":{object}}}}}"#));
    cases.extend([
        Case::new("document", "profiles", 10, move |count| store(&list(count, profile))),
        Case::new("document", "profiles of one id", 50, move |count| {
            store(&list(count, |_| r#""acme:fuzzed":{"type":"oauth"}"#.to_owned()))
        }),
        Case::new("document", "members of what is replaced", 20, move |count| {
            store(&format!(r#""acme:fuzzed":{{{}}}"#, members(count)))
        }),
        Case::new("document", "members beside profiles", 20, |count| {
            format!(r#"{{{},"profiles":{{"acme:one":{{}}}}}}"#, members(count))
        }),
    ]);
    cases
}

/// A journal whose first half is blank, and whose second half holds a record with this field.
fn journal_of(field: &str) -> Vec<u8> {
    let default = r#""state":"idle","epoch":1,"receipts":[],"failures":[],"stores":[],"ledger":[],"lifetimes":[]"#;
    let name = field.split_inclusive(':').next().unwrap_or_default();
    let others: Vec<_> = default.split(',').filter(|other| !other.starts_with(name)).collect();
    let text = format!("{{{},{field}}}", others.join(","));
    let sequence = 1_u64.to_le_bytes();
    let length = u32::try_from(text.len()).expect("a short text").to_le_bytes();
    let digest = Digest::of(&[&sequence, text.as_bytes()]);
    [&[0, 0][..], b"ORLJ", &1_u32.to_le_bytes(), &sequence, &length, digest.as_bytes(), text.as_bytes()].concat()
}

fn journal() -> Vec<Case> {
    const LIMIT: &str = "a half has 128 KiB";
    let digest = |number: usize| format!("{number:064x}");
    let fills = |bytes: usize| (HALF_BYTES - 1_000) / bytes;
    vec![
        Case::of_bytes("journal", "spent tokens", 1, move |count| {
            journal_of(&format!(r#""ledger":[{}]"#, list(count, |number| format!(r#"["{}",null]"#, digest(number)))))
        })
        .up_to(fills(74), LIMIT),
        Case::of_bytes("journal", "stores", 1, |count| {
            journal_of(&format!(r#""stores":[{}]"#, list(count, |number| format!(r#""/agents/{number:07}""#))))
        })
        .up_to(fills(18), LIMIT),
        Case::of_bytes("journal", "a credential", 1, move |count| {
            let origin = format!(r#"{{"generation":"{}","store":"/s","main":"/s","mainHasProfile":true}}"#, digest(0));
            let escaped = r#"\"\\"#.repeat(count);
            journal_of(&format!(
                r#""receipts":[{{"credential":"{escaped}","answered":[],"origin":{origin},"superseded":false,"kept":true}}]"#
            ))
        })
        .up_to(fills(4), LIMIT),
    ]
}

fn holder() -> Vec<Case> {
    let record = |boot: &str| format!(r#"{{"pid":1,"since":1.5,"bootMs":2.5,"boot":"{boot}"}}"#);
    vec![
        Case::new("holder", "the boot's name", 1, move |count| record(&"b".repeat(count)))
            .up_to(210, "a record has 256 bytes"),
        Case::new("holder", "what follows the record", 1_000, move |count| {
            format!("{:255}\n{}", record("b"), "x".repeat(count))
        }),
    ]
}

fn sidecar() -> Vec<Case> {
    const READ: usize = 64 << 10;
    let cases = of_shallow_json("sidecar", |object| object.replacen('{', r#"{"pid":1,"#, 1)).into_iter();
    let within = |case: Case| {
        let most = (READ - 100) / case.bytes_each();
        case.starting_at(most.div_ceil(TIMES)).up_to(most, "64 KiB are read")
    };
    let record = r#"{"pid":1,"createdAt":"2026-11-23T20:15:00.000Z","starttime":1}"#;
    let behind = move |count| format!("{record}\n{}", "\t".repeat(count));
    cases
        .map(|case| if case.limit.is_none() { within(case) } else { case })
        .chain([Case::new("sidecar", "what follows the record", 1_000, behind)])
        .collect()
}

fn jwt() -> Vec<Case> {
    let token = |claims: &str| format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
    let mut cases = of_shallow_json("jwt", |object| {
        let claims = object.replacen('{', r#"{"exp":1800000000,"iat":1700000000,"#, 1);
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    });
    cases.extend([
        Case::new("jwt", "the signature", 1_000, move |count| {
            format!("{}{}", token(r#"{"exp":1}"#), "A".repeat(count))
        }),
        Case::new("jwt", "padding", 1_000, |count| format!("e30.e30{}.c2ln", "=".repeat(count))),
        Case::new("jwt", "parts", 500, |count| "e.".repeat(count)),
    ]);
    cases
}

fn login() -> Vec<Case> {
    let mut cases = of_json("login", |object| object.replacen('{', r#"{"access":"new","refresh":"r1","#, 1));
    cases.extend([
        Case::new("login", "claims of its token", 20, |count| {
            let claims = format!(r#"{{"exp":1900000000,{}}}"#, members(count));
            format!(r#"{{"access_token":"e30.{}.c2ln"}}"#, URL_SAFE_NO_PAD.encode(claims))
        }),
        Case::new("login", "names of one token", 3, |count| format!("{{{}}}", aliases(count, "access", r#""old""#))),
        Case::new("login", "expiries", 3, |count| format!(r#"{{"access":"new",{}}}"#, aliases(count, "expires", "1"))),
        Case::new("login", "wrappers", 3, |count| {
            format!("{{{}}}", aliases(count, "data", r#"{"access_token":"old","expires_in":1}"#))
        }),
        Case::new("login", "wrappers in wrappers", 3, |count| {
            format!(r#"{{"data":{{"body":{{{}}}}}}}"#, aliases(count, "token", r#"{"access_token":"old"}"#))
        }),
        Case::new("login", "JSON as text", 20, |count| {
            let inner = format!(r#"{{"access_token":"new",{}}}"#, members(count));
            format!(r#"{{"data":"{}"}}"#, inner.replace('"', r#"\""#))
        }),
    ]);
    cases
}

fn answer() -> Vec<Case> {
    let mut cases = of_json("answer", |object| {
        format!("200\n\n{}", object.replacen('{', r#"{"access_token":"a","refresh_token":"r","expires_in":60,"#, 1))
    });
    cases.extend([
        Case::new("answer", "members in the envelope", 20, |count| {
            format!("200\n\n{{\"data\":{{\"access_token\":\"a\",{}}}}}", members(count))
        }),
        Case::new("answer", "fields of a form", 20, |count| {
            let fields: Vec<_> = (0..count).map(|number| format!("name{number:07}=%76alue")).collect();
            format!("200\n\naccess_token=a&{}", fields.join("&"))
        }),
        Case::new("answer", "a token", 1_000, |count| format!("200\n\n{{\"access_token\":\"{}\"}}", "x".repeat(count))),
        Case::new("answer", "a description", 100, |count| {
            let words = "refresh token has ".repeat(count);
            format!("400\n\n{{\"error\":\"invalid_grant\",\"error_description\":\"{words}\"}}")
        }),
        Case::new("answer", "Retry-After", 1_000, |count| format!("429\n{}\n{{}}", "9".repeat(count))),
        Case::of_bytes("answer", "bytes that are no text", 1_000, |count| {
            [&b"200\n\n{\"access_token\":\"a\",\"x\":\""[..], &vec![0xFF; count], b"\"}"].concat()
        }),
    ]);
    cases
}

fn failure() -> Vec<Case> {
    let mut cases = of_json("failure", |object| object.replacen('{', r#"{"error":"invalid_grant","#, 1));
    cases.extend([
        Case::new("failure", "words", 100, |count| "refresh token has already been ".repeat(count)),
        Case::new("failure", "bodies in a message", 50, |count| r#"said {"error":"invalid_grant"} "#.repeat(count)),
        Case::new("failure", "braces", 1_000, |count| "{".repeat(count)),
        Case::new("failure", "codes", 50, |count| {
            format!(r#"{{"errors":[{}]}}"#, list(count, |_| r#"{"code":"invalid","errorType":"x"}"#.to_owned()))
        }),
        Case::new("failure", "a description", 100, |count| {
            let words = "refresh token has ".repeat(count);
            format!(r#"{{"error":"invalid_grant","error_description":"{words}"}}"#)
        }),
        Case::new("failure", "letters that case depends on", 500, |count| "\u{3a3}'".repeat(count)),
    ]);
    cases
}

fn row() -> Vec<Case> {
    let claim = |host: &str| format!(r#"{{"v":1,"state":"sent","claim":{{"id":"1","host":"{host}","pid":7,"at":1}}}}"#);
    let mut cases = of_json("row", |object| object.replacen('{', r#"{"v":1,"state":"free","#, 1));
    cases.extend([
        Case::new("row", "a host's name", 1_000, move |count| claim(&"h".repeat(count))),
        Case::new("row", "an answer", 1_000, |count| {
            format!(r#"{{"v":1,"state":"spent","answer":"{}"}}"#, "A".repeat(count))
        }),
        Case::new("row", "a sealed value", 1_000, |count| STANDARD.encode(vec![7; count])),
    ]);
    cases
}
