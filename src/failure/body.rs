//! What a body says of why a call failed.

use super::facts::{Facts, JsonPath, KnownAnswer, Step};
use crate::ecma;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::sync::LazyLock;

/// So many elements of a list are looked at.
const MAX_ELEMENTS: usize = 16;

/// Where a code stands that says what the rest is about.
static CODE_PLACES: LazyLock<[JsonPath; 5]> = LazyLock::new(|| {
    ["error", "error.code", "error_code", "errorCode", "code"].map(|place| JsonPath::from(place.to_owned()))
});

type Object = Map<String, Value>;

/// A text or number at a place, with the object that it is a member of.
struct CodeAt<'a> {
    beside: &'a Object,
    text: Cow<'a, str>,
}

/// The codes in a body, those of the most telling places first.
#[must_use]
pub fn codes(body: &Object) -> Vec<String> {
    Facts::all().places().flat_map(|place| all_at(body, place)).map(|found| found.text.into_owned()).collect()
}

/// What a body says in sentences.
pub(super) fn descriptions(body: &Object) -> impl Iterator<Item = Cow<'_, str>> {
    Facts::all().descriptions().flat_map(|place| all_at(body, place)).map(|found| found.text)
}

/// Whether it has a code of OAuth's that does not say so itself.
pub(super) fn has_code_but(body: &Object, is_meant: impl Fn(&str) -> bool) -> bool {
    let is_code = |text: &str| text.contains('_') && text.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    CODE_PLACES.iter().flat_map(|place| all_at(body, place)).any(|found| is_code(&found.text) && !is_meant(&found.text))
}

/// The facts that a body bears out after an answer with this status, each with the code that it has there. `says` tells
/// whether a sentence stands anywhere.
pub(super) fn facts(
    body: &Object,
    status: Option<u16>,
    says: impl Fn(&str) -> bool,
) -> Vec<(&'static KnownAnswer, String)> {
    let mut borne_out = Vec::new();
    let counts = |fact: &KnownAnswer| {
        (fact.status.is_empty() || status.is_some_and(|status| fact.status.contains(&status)))
            && (fact.says.is_empty() || fact.says.iter().any(|sentence| says(sentence)))
    };
    for fact in Facts::all().answers.iter().filter(|fact| counts(fact)) {
        let places: Vec<&JsonPath> =
            if fact.at.is_empty() { Facts::all().places().collect() } else { fact.at.iter().collect() };
        let found = places.into_iter().flat_map(|place| all_at(body, place));
        let mut found = found.filter(|found| fact.has(&found.text) && stands_with(fact, found.beside));
        borne_out.extend(found.next().map(|found| (fact, found.text.into_owned())));
    }
    borne_out
}

/// Whether beside a code stands what has to.
fn stands_with(fact: &KnownAnswer, beside: &Object) -> bool {
    fact.with.iter().all(|(member, texts)| {
        let found = beside.get(member).and_then(shown);
        found.is_some_and(|found| texts.iter().any(|text| text.eq_ignore_ascii_case(&found)))
    })
}

fn all_at<'a>(body: &'a Object, place: &JsonPath) -> Vec<CodeAt<'a>> {
    let mut found = Vec::new();
    walk(body, &place.0, &mut found);
    found
}

fn walk<'a>(object: &'a Object, steps: &[Step], found: &mut Vec<CodeAt<'a>>) {
    let Some((step, rest)) = steps.split_first() else { return };
    let Some(value) = object.get(&step.name) else { return };
    let values = match (value, step.is_list) {
        (Value::Array(values), true) => values.get(..MAX_ELEMENTS).unwrap_or(values),
        (value, false) => std::slice::from_ref(value),
        (_, true) => &[],
    };
    for value in values {
        match value {
            Value::Object(inner) => walk(inner, rest, found),
            value if rest.is_empty() => found.extend(shown(value).map(|text| CodeAt { beside: object, text })),
            _ => {}
        }
    }
}

/// A text without the blanks around it, or a number's digits.
fn shown(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(ecma::trim(text))),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        _ => None,
    }
}
