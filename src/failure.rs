//! How a provider call failed, and what the next caller may do.
//!
//! The one question is whether the refresh token may have been spent. In doubt it is [`FailureClass::Uncertain`], which
//! costs little, as it is asked again; [`FailureClass::AnsweredDead`] costs a login, so nothing but the provider's own word
//! counts for it. `lib/failures.json` lists the words.

mod body;
mod facts;

pub use body::codes;

use crate::ecma;
use facts::{Facts, KnownAnswer, Meaning, Words};
use serde::Deserialize;
use serde_json::{Map, Value};

/// How a provider call failed. The class decides what the next caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// The provider was not reached: the next caller may try.
    NotSent,
    /// The provider answered and has not rotated.
    AnsweredUnspent,
    /// The provider refused the refresh token for good.
    AnsweredDead,
    /// Whether the provider has rotated is unknown.
    Uncertain,
}

impl FailureClass {
    /// Its name as users see it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotSent => "not_sent",
            Self::AnsweredUnspent => "answered_unspent",
            Self::AnsweredDead => "answered_dead",
            Self::Uncertain => "uncertain",
        }
    }

    /// Whether it says nothing against the next call: the provider was not reached, or the call was lost.
    #[must_use]
    pub fn may_work_again(self) -> bool {
        matches!(self, Self::NotSent | Self::Uncertain)
    }
}

/// How a provider call failed, all that the core needs to know of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CallFailure {
    /// What the next caller may do.
    pub class: FailureClass,
    /// What everyone keeps before the provider is asked again.
    pub pause: Backoff,
    /// Whether it may work in a moment, without anybody's help.
    pub is_temporary: bool,
}

/// The pause that every process keeps before the provider is asked again with the same refresh token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Backoff {
    /// None: no provider was reached, or the provider is not asked again.
    None,
    /// One that grows with each failure.
    Growing,
    /// So many milliseconds: what was asked for (RFC 9110 §10.2.3), within [`Backoff::SHORTEST_MS`] and [`Backoff::LONGEST_MS`].
    Asked(f64),
}

impl Backoff {
    /// A second.
    pub const SHORTEST_MS: f64 = 1_000.0;
    /// An hour: a provider that wants a longer one is asked again none the less.
    pub const LONGEST_MS: f64 = 3_600_000.0;

    /// The pause after a failure of this class, if an answer, even a gateway's, asked for this one.
    #[must_use]
    pub fn after(class: FailureClass, is_answer: bool, retry_after_ms: Option<f64>) -> Self {
        match (class, retry_after_ms) {
            (FailureClass::AnsweredDead, _) => Self::None,
            (FailureClass::NotSent, _) if !is_answer => Self::None,
            (_, Some(asked)) => Self::Asked(asked.clamp(Self::SHORTEST_MS, Self::LONGEST_MS)),
            (_, None) => Self::Growing,
        }
    }

    /// If it was asked for: how long it is.
    #[must_use]
    pub fn asked_ms(self) -> Option<f64> {
        match self {
            Self::Asked(ms) => Some(ms),
            Self::None | Self::Growing => None,
        }
    }
}

/// From this status on it is not the provider that refuses: it may have looked, or not.
const FIRST_SERVER_ERROR: u16 = 500;
/// At so many places of a message a body is looked for.
const MAX_EMBEDDED: usize = 16;

/// What is known of a failed call.
#[derive(Debug, Default)]
pub struct Evidence<'a> {
    /// The answer's status, if there was an answer.
    pub status: Option<u16>,
    /// A status that only the words of an error tell.
    pub told_status: Option<u16>,
    /// The answer's body, and whatever else carries its codes.
    pub bodies: Vec<&'a Map<String, Value>>,
    /// What an error says of itself: a code and nothing else, or something with a body in it.
    pub messages: Vec<&'a str>,
    /// For how long the provider wants everyone to wait, in milliseconds.
    pub retry_after_ms: Option<f64>,
    /// Whether a typed cause says that there never was a connection.
    pub never_connected: bool,
    /// Whether one says that a connection broke.
    pub connection_lost: bool,
    /// What the host knows of this provider.
    pub own: Option<&'a OwnCodes>,
}

/// Codes that a host knows of its provider. They count whatever the status is.
#[derive(Debug, Clone, Default)]
pub struct OwnCodes {
    /// Those that end a login.
    pub dead: Vec<String>,
    /// Those that leave the refresh token as it is.
    pub unspent: Vec<String>,
}

/// What was found out.
#[derive(Debug, PartialEq)]
pub struct Finding {
    /// What the next caller may do.
    pub class: FailureClass,
    /// Whether it may work in a moment, without anybody's help.
    pub is_temporary: bool,
    /// What everyone keeps before the provider is asked again.
    pub pause: Backoff,
    /// The code that says so, as the answer spells it.
    pub code: Option<String>,
}

impl Finding {
    fn new(Meaning { class, is_temporary }: Meaning, code: Option<String>, evidence: &Evidence) -> Self {
        Self {
            class,
            is_temporary,
            pause: Backoff::after(class, evidence.status.is_some(), evidence.retry_after_ms),
            code,
        }
    }
}

/// Classifies a failed call.
#[must_use]
pub fn classify(evidence: &Evidence) -> Finding {
    let embedded: Vec<_> = evidence.messages.iter().flat_map(|message| embedded(message)).collect();
    let bodies = || evidence.bodies.iter().copied().chain(&embedded);
    if let Some((meaning, code)) = evidence.own.and_then(|own| by_own(own, bodies())) {
        return Finding::new(meaning, Some(code), evidence);
    }
    let told = evidence.status.or(evidence.told_status);
    // A typed cause says more than a status in words, as that of a proxy.
    let is_typed = evidence.never_connected || evidence.connection_lost;
    let by_status = if is_typed { evidence.status } else { told };
    let by_status = by_status.map(|status| Facts::all().of_status(status));
    // A refusal that comes with 429 does not concern the token.
    if let Some(meaning) = by_status.filter(|meaning| meaning.is_temporary) {
        return Finding::new(meaning, None, evidence);
    }
    // Where a connection broke, what an error quotes is of another attempt.
    let may_quote = evidence.status.is_some() || !evidence.connection_lost;
    if may_quote
        && told.is_none_or(|status| status < FIRST_SERVER_ERROR)
        && let Some((meaning, code)) = by_words(evidence, &bodies().collect::<Vec<_>>())
    {
        return Finding::new(meaning, code, evidence);
    }
    let unknown = Meaning { class: FailureClass::Uncertain, is_temporary: false };
    let not_sent = Meaning { class: FailureClass::NotSent, is_temporary: true };
    let meaning = match by_status {
        // Words prove nothing here: a status that only they tell may be anybody's.
        Some(Meaning { class: FailureClass::NotSent, .. }) if evidence.status.is_none() => unknown,
        Some(Meaning { class: FailureClass::NotSent, .. }) => not_sent,
        Some(meaning) => meaning,
        None if evidence.never_connected => not_sent,
        None => unknown,
    };
    Finding::new(meaning, None, evidence)
}

/// What the host's own codes say.
fn by_own<'a>(own: &OwnCodes, bodies: impl Iterator<Item = &'a Map<String, Value>>) -> Option<(Meaning, String)> {
    let found: Vec<_> = bodies.flat_map(codes).collect();
    let first = |codes: &[String]| {
        found.iter().find(|found| codes.iter().any(|code| code.eq_ignore_ascii_case(found))).cloned()
    };
    let unspent = Meaning { class: FailureClass::AnsweredUnspent, is_temporary: false };
    let dead = Meaning { class: FailureClass::AnsweredDead, is_temporary: false };
    first(&own.unspent).map(|code| (unspent, code)).or_else(|| first(&own.dead).map(|code| (dead, code)))
}

/// What codes and sentences say: the precise facts first, and of those what spares the login.
fn by_words(evidence: &Evidence, bodies: &[&Map<String, Value>]) -> Option<(Meaning, Option<String>)> {
    let status = evidence.status.or(evidence.told_status);
    let mut said: Vec<_> = evidence.messages.iter().map(|message| Words::of(message)).collect();
    said.extend(bodies.iter().flat_map(|body| body::descriptions(body)).map(|text| Words::of(&text)));
    let says = |sentence: &str| said.iter().any(|words| words.say(sentence));
    let mut facts: Vec<(&KnownAnswer, String)> =
        bodies.iter().flat_map(|body| body::facts(body, status, says)).collect();
    let exact = evidence.messages.iter().map(|message| ecma::trim(message));
    facts.extend(exact.flat_map(|message| {
        let answers = Facts::all().answers.iter().filter(|fact| !fact.is_precise());
        answers.filter(|fact| fact.has(message)).map(|fact| (fact, message.to_owned()))
    }));
    let best = |is_precise: bool, class: FailureClass| {
        let fits = |fact: &KnownAnswer| fact.is_precise() == is_precise && fact.meaning.class == class;
        facts.iter().find(|(fact, _)| fits(fact)).map(|(fact, code)| (fact.meaning, Some(code.clone())))
    };
    let unspent = FailureClass::AnsweredUnspent;
    let dead = FailureClass::AnsweredDead;
    best(true, unspent)
        .or_else(|| best(true, dead))
        .or_else(|| best(false, dead))
        .or_else(|| {
            says_reused(evidence, status, bodies).then_some((Meaning { class: dead, is_temporary: false }, None))
        })
        .or_else(|| best(false, unspent))
}

/// Whether it is said that the refresh token was used before: by an error's message, or in a refusal's description, and beside
/// no code that says otherwise. Text that either quotes does not count.
fn says_reused(evidence: &Evidence, status: Option<u16>, bodies: &[&Map<String, Value>]) -> bool {
    let is_reuse = |text: &str| Facts::all().says_reused(&Words::of(text));
    let own_words = |text: &str| text.split(['{', '<']).next().is_some_and(is_reuse);
    status.is_none_or(|status| matches!(status, 400 | 401))
        && !bodies.iter().any(|body| body::has_code_but(body, is_reuse))
        && (evidence.messages.iter().any(|message| own_words(message))
            || bodies.iter().flat_map(|body| body::descriptions(body)).any(|text| own_words(&text)))
}

/// The JSON objects within a message, as where a client has put the answer's body into its error's.
fn embedded(message: &str) -> Vec<Map<String, Value>> {
    let mut found = Vec::new();
    let mut rest = message;
    for _ in 0..MAX_EMBEDDED {
        let Some(at) = rest.find('{') else { break };
        let from = &rest[at..];
        let mut values = serde_json::Deserializer::from_str(from).into_iter::<Map<String, Value>>();
        rest = match values.next() {
            Some(Ok(object)) => {
                found.push(object);
                from.get(values.byte_offset()..).unwrap_or_default()
            }
            _ => &from[1..],
        };
    }
    found
}

#[cfg(test)]
mod tests;
