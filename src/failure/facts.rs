//! The facts about failed calls, as `lib/failures.json` holds them: which codes, sentences and statuses mean what, and where in
//! a body they stand. Each has its source there.

use super::FailureClass;
use crate::ecma;
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::LazyLock;

/// What is known of answers. What the file says of connections concerns JavaScript alone.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Facts {
    places: Vec<JsonPaths>,
    descriptions: Vec<JsonPaths>,
    /// What codes mean.
    pub(super) answers: Vec<KnownAnswer>,
    phrases: Vec<Phrases>,
    statuses: Vec<Statuses>,
}

#[derive(Debug, Deserialize)]
struct JsonPaths {
    at: Vec<JsonPath>,
}

/// Codes that mean the same.
#[derive(Debug, Deserialize)]
pub(super) struct KnownAnswer {
    #[serde(flatten)]
    pub(super) meaning: Meaning,
    /// Compared whole, in any case.
    pub(super) codes: Vec<String>,
    /// Where they have to stand. Empty: at any of the usual places.
    #[serde(default)]
    pub(super) at: Vec<JsonPath>,
    /// What has to stand beside them, by member: one of these texts.
    #[serde(default)]
    pub(super) with: HashMap<String, Vec<String>>,
    /// What any description has to say: one of these sentences. Case and punctuation don't matter.
    #[serde(default)]
    pub(super) says: Vec<String>,
    /// The statuses that count. Empty: any but a gateway's, or none.
    #[serde(default)]
    pub(super) status: Vec<u16>,
}

#[derive(Debug, Deserialize)]
struct Phrases {
    phrases: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Statuses {
    #[serde(flatten)]
    meaning: Meaning,
    from: u16,
    to: u16,
}

/// What an answer means.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub(super) struct Meaning {
    /// What the next caller may do. No pause is in it.
    pub(super) class: FailureClass,
    /// Whether it may work in a moment, without anybody's help.
    #[serde(default, rename = "passes")]
    pub(super) is_temporary: bool,
}

/// Where in a body something stands: member names, each followed by `[]` if its value is a list.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(from = "String")]
pub(super) struct JsonPath(pub(super) Vec<Step>);

/// One step on the way to a place.
#[derive(Debug, PartialEq)]
pub(super) struct Step {
    /// The member's name.
    pub(super) name: String,
    /// Whether any element of its value is meant.
    pub(super) is_list: bool,
}

impl From<String> for JsonPath {
    fn from(path: String) -> Self {
        let step = |name: &str| match name.strip_suffix("[]") {
            Some(name) => Step { name: name.to_owned(), is_list: true },
            None => Step { name: name.to_owned(), is_list: false },
        };
        Self(path.split('.').map(step).collect())
    }
}

impl Facts {
    /// The facts of the file.
    pub(super) fn all() -> &'static Self {
        static FACTS: LazyLock<Facts> =
            LazyLock::new(|| serde_json::from_str(include_str!("../../lib/failures.json")).unwrap_or_default());
        &FACTS
    }

    /// The usual places of a code, the most telling first.
    pub(super) fn places(&self) -> impl Iterator<Item = &JsonPath> {
        self.places.iter().flat_map(|places| &places.at)
    }

    /// The places of a sentence.
    pub(super) fn descriptions(&self) -> impl Iterator<Item = &JsonPath> {
        self.descriptions.iter().flat_map(|places| &places.at)
    }

    /// Whether these words say that the refresh token was used before.
    pub(super) fn says_reused(&self, words: &Words) -> bool {
        self.phrases.iter().flat_map(|fact| &fact.phrases).any(|phrase| words.say(phrase))
    }

    /// What a status alone means.
    pub(super) fn of_status(&self, status: u16) -> Meaning {
        let fact = self.statuses.iter().find(|fact| (fact.from..=fact.to).contains(&status));
        fact.map_or(Meaning { class: FailureClass::Uncertain, is_temporary: false }, |fact| fact.meaning)
    }
}

impl KnownAnswer {
    /// Whether it says where it stands, or beside what: that tells more than a code that stands anywhere.
    pub(super) fn is_precise(&self) -> bool {
        !self.at.is_empty() || !self.says.is_empty()
    }

    /// Whether one of its codes is this text.
    pub(super) fn has(&self, text: &str) -> bool {
        self.codes.iter().any(|code| code.eq_ignore_ascii_case(text))
    }
}

/// A text as words, without case and punctuation. What links, paths and assignments are made of stays one word, so that an
/// address that ends in a code says nothing.
#[derive(Debug)]
pub(super) struct Words(String);

impl Words {
    pub(super) fn of(text: &str) -> Self {
        let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '/' | '#' | '=' | '&' | '?');
        let lower = ecma::to_lower_case(text);
        let words: Vec<_> = lower.split(|c| !is_part(c)).filter(|word| !word.is_empty()).collect();
        Self(format!(" {} ", words.join(" ")))
    }

    /// Whether this sentence is among them.
    pub(super) fn say(&self, sentence: &str) -> bool {
        self.0.contains(&Self::of(sentence).0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::collections::HashSet;

    fn file() -> Value {
        serde_json::from_str(include_str!("../../lib/failures.json")).expect("JSON")
    }

    #[test]
    fn the_file_is_understood() {
        let facts: Facts = serde_json::from_str(include_str!("../../lib/failures.json")).expect("facts");
        assert!(facts.answers.len() > 20 && facts.places().count() > 5);
        assert!(facts.says_reused(&Words::of("x Refresh_token_reused.")));
        assert!(!facts.says_reused(&Words::of("see docs/errors#refresh_token_reused")));
    }

    #[test]
    fn every_fact_has_a_source_and_a_date() {
        for (section, facts) in file().as_object().expect("an object") {
            for fact in facts.as_array().expect("a list") {
                let text = |name| fact.get(name).and_then(Value::as_str).unwrap_or_default();
                let is_public = text("source").contains('.') || text("source").starts_with("RFC ");
                assert!(is_public && !text("source").contains("://"), "{section}: {fact}");
                let date: Vec<_> = text("date").split('-').map(str::len).collect();
                assert_eq!(date, [4, 2, 2], "{section}: {fact}");
            }
        }
    }

    #[test]
    fn no_code_means_two_things_at_one_place() {
        let mut seen = HashSet::new();
        for fact in &Facts::all().answers {
            let with: Vec<_> = fact.with.iter().collect();
            for code in &fact.codes {
                let key = format!("{} {:?} {with:?} {:?}", code.to_ascii_lowercase(), fact.at, fact.says);
                assert!(seen.insert(key), "{code} stands there twice");
                // A number means something else with everybody.
                let is_number = code.bytes().all(|byte| byte.is_ascii_digit());
                assert!(!is_number || !fact.at.is_empty(), "{code} needs a place");
            }
            assert!(fact.with.is_empty() || !fact.at.is_empty(), "{:?} needs a place", fact.codes);
            let Meaning { class, is_temporary } = fact.meaning;
            assert!(matches!(class, FailureClass::AnsweredDead | FailureClass::AnsweredUnspent), "{:?}", fact.codes);
            assert!(!is_temporary || class == FailureClass::AnsweredUnspent, "{:?}", fact.codes);
        }
    }
}
