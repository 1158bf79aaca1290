//! A row: what all hosts know of one refresh token.

use super::Unavailable;
use serde::{Deserialize, Serialize};

/// The format this code writes. A newer one is refused, not guessed.
const VERSION: u32 = 1;
/// The longest name of a host that is told, in characters.
const MAX_NAME_CHARS: usize = 255;

/// A row's value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    v: u32,
    /// How far it has come.
    pub state: RowState,
    /// The last claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<HostClaim>,
    /// How often in a row it was sent before that claim, and no token came.
    #[serde(default)]
    pub attempts: u32,
    /// Whether one of those calls may have used it up, and nobody has heard the answer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_doubt: bool,
    /// How long nobody asks, in milliseconds from the row's writing.
    #[serde(default, skip_serializing_if = "is_none")]
    pub pause_ms: f64,
    /// What the provider answered, sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// For how many milliseconds that had been sealed when the row was written: its host may not have been able to tell it before.
    #[serde(default, skip_serializing_if = "is_none")]
    pub answer_age_ms: f64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_none(ms: &f64) -> bool {
    *ms <= 0.0
}

/// What may be done with a refresh token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RowState {
    /// It may be claimed.
    Free,
    /// It is claimed, and being sent or about to be.
    Sent,
    /// It was claimed, and that claim's host has been silent for too long.
    Lost,
    /// It was sent, and its host knows that no answer will come.
    Unsure,
    /// The provider has exchanged it.
    Spent,
    /// The provider has refused it for good.
    Dead,
}

/// What is known of the calls before a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Earlier {
    /// How many there were in a row that brought no token.
    pub attempts: u32,
    /// Whether one of them may have used the refresh token up, and nobody has heard the answer.
    pub in_doubt: bool,
}

/// Which owner on which host has claimed it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostClaim {
    /// Its own: only that host's journal has it as well.
    pub id: String,
    /// The host, for people.
    pub host: String,
    /// The process, for people.
    pub pid: u32,
    /// When, in milliseconds since the epoch, for people: clocks of hosts differ.
    pub at: f64,
}

impl Row {
    /// A row in this state.
    #[must_use]
    pub fn new(state: RowState, claim: Option<HostClaim>) -> Self {
        Self { v: VERSION, state, claim, attempts: 0, in_doubt: false, pause_ms: 0.0, answer: None, answer_age_ms: 0.0 }
    }

    /// The same, claimed after these calls.
    #[must_use]
    pub fn after(self, earlier: Earlier) -> Self {
        Self { attempts: earlier.attempts, in_doubt: earlier.in_doubt, ..self }
    }

    /// The same, in another state.
    #[must_use]
    pub fn in_state(self, state: RowState) -> Self {
        Self { state, ..self }
    }

    /// What an engine holds.
    pub fn parse(value: &str) -> Result<Self, Unavailable> {
        /// All that a newer release is sure to write.
        #[derive(Deserialize)]
        struct Version {
            v: u32,
        }
        match serde_json::from_str::<Version>(value) {
            Ok(Version { v }) if v > VERSION => Err(Unavailable(format!(
                "it holds a row of format {v}, which a newer release of oauth-refresh-lock wrote; upgrade this host"
            ))),
            _ => serde_json::from_str(value).ok().filter(Self::names_its_host).map(Self::with_short_name).ok_or_else(|| {
                Unavailable("it holds a row that oauth-refresh-lock did not write; does another program use its table or prefix?".to_owned())
            }),
        }
    }

    /// Whether it says who is at it, if a host is.
    fn names_its_host(&self) -> bool {
        self.claim.is_some() || !matches!(self.state, RowState::Sent | RowState::Lost)
    }

    /// What it says of a host goes into this host's journal, which has little room.
    fn with_short_name(mut self) -> Self {
        if let Some(claim) = &mut self.claim {
            claim.host = claim.host.chars().take(MAX_NAME_CHARS).collect();
        }
        self
    }

    /// Its JSON text.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Whether the last claim is this one.
    #[must_use]
    pub fn is_claimed_by(&self, id: &str) -> bool {
        self.claim.as_ref().is_some_and(|claim| claim.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_a_newer_format_or_of_another_program_is_refused() {
        let row = Row::new(RowState::Free, None);
        assert_eq!(Row::parse(&row.to_json()), Ok(row));
        let told = |value: &str| Row::parse(value).expect_err("refused").0;
        assert!(told(r#"{"v":2,"state":"new"}"#).contains("newer release"));
        for foreign in ["", "null", "{}", r#"{"v":1,"state":"gone"}"#, r#"{"v":1,"state":"sent"}"#, r#"{"v":1}"#, "[1]"]
        {
            assert!(told(foreign).contains("another program"), "{foreign}");
        }
    }
}
