//! The text of an `auth-profiles.json`, edited one profile at a time.
//!
//! A write cuts values out of the text and puts others in; every other byte stays as it was. So number spelling, key
//! order, unknown fields, escapes that are not valid text and everything else we do not own survive by construction.

use crate::credential::fields::{Fields, Members, Name};
use crate::credential::{is_oauth, mistake};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::ops::Range;
use zeroize::Zeroizing;

/// What is written where no store is.
const EMPTY: &str = "{\n  \"version\": 1,\n  \"profiles\": {}\n}\n";

/// What is wrong with a profile of [`Document::misplaced_ids`], to be put behind "the profile".
pub const MISPLACED: &str = "stands at the top level of the store; profiles belong inside `profiles`";

/// How deep a profile lies in the file, in spaces.
const PROFILE_INDENT: usize = 4;

/// The text is not a store. Says why, and nothing of its contents.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed(pub String);

/// A store's text, known to be well-formed. Wiped on drop.
#[derive(PartialEq, Eq)]
pub struct Document {
    text: Zeroizing<String>,
    /// Where the whole object lies.
    root: Object,
    /// Where `profiles` lies, if there is one.
    profiles: Option<Object>,
}

/// Where an object lies in the text, and its members.
#[derive(PartialEq, Eq, Default)]
struct Object {
    span: Range<usize>,
    /// Where the members' keys and values lie, in order.
    keys: Vec<Range<usize>>,
    values: Vec<Range<usize>>,
    /// Which of them a key has: of several equal keys the last, which is the one that `JSON.parse` keeps. A key that is not valid
    /// text (a lone surrogate) is not among them.
    places: HashMap<Name, usize>,
}

impl Document {
    /// Reads a store's bytes.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, Malformed> {
        let bytes = Zeroizing::new(bytes);
        let text = Zeroizing::new(text_of(&bytes)?.to_owned());
        let is_space = |next: char| matches!(next, ' ' | '\t' | '\n' | '\r');
        let span = text.len() - text.trim_start_matches(is_space).len()..text.trim_end_matches(is_space).len();
        let root = Object::parse(&text, span).map_err(|why| Malformed(why.of("it")))?;
        let profiles = match root.value("profiles") {
            Some(value) => {
                let profiles = Object::parse(&text, value);
                Some(profiles.map_err(|why| Malformed(why.of("its `profiles`")))?)
            }
            None => None,
        };
        Ok(Self { text, root, profiles })
    }

    /// A store without profiles.
    #[must_use]
    pub fn empty() -> Self {
        let profiles_at = EMPTY.find("{}").unwrap_or(0);
        Self {
            text: Zeroizing::new(EMPTY.to_owned()),
            root: Object { span: 0..EMPTY.len() - 1, ..Object::default() },
            profiles: Some(Object { span: profiles_at..profiles_at + 2, ..Object::default() }),
        }
    }

    /// The profile of this id. `Ok(None)` if there is none, `Err` if it is not an object.
    pub fn profile(&self, id: &str) -> Result<Option<Fields>, Malformed> {
        let Some(value) = self.profiles.as_ref().and_then(|profiles| profiles.value(id)) else {
            return Ok(None);
        };
        let profile = Fields::parse(&self.text[value]);
        profile.map(Some).ok_or_else(|| Malformed("the profile is not an object".into()))
    }

    /// Whether there is a profile of this id, whatever it is.
    #[must_use]
    pub fn has_profile(&self, id: &str) -> bool {
        self.profiles.as_ref().is_some_and(|profiles| profiles.value(id).is_some())
    }

    /// All profiles that are objects, whatever their ids.
    pub fn profiles(&self) -> impl Iterator<Item = Fields> {
        let values = self.profiles.as_ref().map_or(&[][..], |profiles| &profiles.values);
        values.iter().filter_map(|value| Fields::parse(&self.text[value.clone()]))
    }

    /// The ids of all profiles, whatever they are; of several equal ones the last counts, as in [`Self::profile`]. An id that is
    /// not valid text can't be asked for.
    #[must_use]
    pub fn profile_ids(&self) -> BTreeSet<&str> {
        self.profiles.iter().flat_map(|profiles| profiles.places.keys()).map(|key| key.0.as_str()).collect()
    }

    /// Whether the store lacks `profiles`, and a login of this id stands at the top level instead.
    #[must_use]
    pub fn has_misplaced(&self, id: &str) -> bool {
        let value = self.root.value(id).filter(|_| self.profiles.is_none());
        let fields = value.and_then(|value| Fields::parse(&self.text[value]));
        fields.is_some_and(|fields| is_oauth(fields.values()) || mistake(fields.values()).is_some())
    }

    /// The ids of all such profiles.
    pub fn misplaced_ids(&self) -> impl Iterator<Item = &str> {
        self.root.places.keys().map(|key| key.0.as_str()).filter(|id| self.has_misplaced(id))
    }

    /// The whole text with `profile` put in place of the one of this id, or added as the last.
    #[must_use]
    pub fn with_profile(&self, id: &str, profile: &Fields) -> Zeroizing<String> {
        let laid_out = || profile.to_pretty(PROFILE_INDENT);
        let Some(profiles) = &self.profiles else {
            let profiles = Zeroizing::new(format!("{{\n    {}: {}\n  }}", quoted(id), *laid_out()));
            return self.splice_member(&self.root, "  ", "profiles", &profiles);
        };
        match profiles.value(id) {
            Some(place) => match self.changes(place.clone(), profile) {
                Some(changes) => self.splice(&changes),
                None => self.splice(&[(place, &laid_out())]),
            },
            None => self.splice_member(profiles, "    ", id, &laid_out()),
        }
    }

    /// The whole text without the profile of this id; if the store has it several times, without all of them.
    #[must_use]
    pub fn without_profile(&self, id: &str) -> Zeroizing<String> {
        let Some(profiles) = &self.profiles else { return self.text.clone() };
        let is_it =
            |key: &Range<usize>| serde_json::from_str::<String>(&self.text[key.clone()]).is_ok_and(|key| key == id);
        let is_gone: Vec<_> = profiles.keys.iter().map(is_it).collect();
        let last_kept = is_gone.iter().rposition(|gone| !gone);
        // A member goes with the comma behind it, or, behind the last that stays, with the one before it.
        let cuts = (0..is_gone.len()).filter(|at| is_gone[*at]).map(|at| match last_kept {
            Some(last) if at > last => (profiles.values[at - 1].end..profiles.values[at].end, ""),
            None if at > 0 => (profiles.values[at - 1].end..profiles.values[at].end, ""),
            None => (profiles.keys[at].start..profiles.values[at].end, ""),
            Some(_) => (profiles.keys[at].start..profiles.keys[at + 1].start, ""),
        });
        self.splice(&cuts.collect::<Vec<_>>())
    }

    /// The values to change in the object at `place` to make it `new`, if both have the same members: so its layout stays.
    fn changes<'a>(&self, place: Range<usize>, new: &'a Fields) -> Option<Vec<(Range<usize>, &'a str)>> {
        let old = Object::parse(&self.text, place).ok().filter(|old| old.places.len() == new.names().count())?;
        let pieces = new.names().map(|name| Some((old.value(name)?, new.spelled(name)?)));
        let mut changes = pieces.collect::<Option<Vec<_>>>()?;
        changes.sort_by_key(|(at, _)| at.start);
        Some(changes)
    }

    /// Adds a member behind an object's last.
    fn splice_member(&self, object: &Object, indent: &str, key: &str, value: &str) -> Zeroizing<String> {
        let key = quoted(key);
        if let Some(last) = object.values.last() {
            let member = Zeroizing::new(format!(",\n{indent}{key}: {value}"));
            return self.splice(&[(last.end..last.end, &member)]);
        }
        let closing = &indent[2..];
        let members = Zeroizing::new(format!("{{\n{indent}{key}: {value}\n{closing}}}"));
        self.splice(&[(object.span.clone(), &members)])
    }

    /// Puts new pieces in the place of others, in order.
    fn splice(&self, pieces: &[(Range<usize>, &str)]) -> Zeroizing<String> {
        let added: usize = pieces.iter().map(|(_, new)| new.len()).sum();
        let mut text = Zeroizing::new(String::with_capacity(self.text.len() + added));
        let mut rest = 0;
        for (at, new) in pieces {
            text.push_str(&self.text[rest..at.start]);
            text.push_str(new);
            rest = at.end;
        }
        text.push_str(&self.text[rest..]);
        text
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Document {{ {} bytes, redacted }}", self.text.len())
    }
}

/// What is wrong with a piece of JSON.
struct Fault {
    what: &'static str,
    line: usize,
    column: usize,
}

impl Fault {
    fn of(&self, subject: &str) -> String {
        if self.line == 0 {
            format!("{subject} {}", self.what)
        } else {
            format!("{subject} {} (line {}, column {})", self.what, self.line, self.column)
        }
    }
}

/// The text, unless it is in another encoding than OpenClaw reads. Windows' own programs like to write those.
fn text_of(bytes: &[u8]) -> Result<&str, Malformed> {
    let what = match bytes {
        [0xEF, 0xBB, 0xBF, ..] => "it begins with a byte order mark; save it as UTF-8 without one",
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => "it is UTF-16 text, as PowerShell may write; save it as UTF-8",
        _ => "it is not UTF-8 text",
    };
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.starts_with('\u{FEFF}') => Ok(text),
        _ => Err(Malformed(what.into())),
    }
}

/// Only category and place: serde_json's own words may quote the text.
fn describe(error: &serde_json::Error) -> Fault {
    let what = match error.classify() {
        serde_json::error::Category::Eof => "is cut off",
        serde_json::error::Category::Data => "is not an object",
        serde_json::error::Category::Syntax | serde_json::error::Category::Io => "is not JSON",
    };
    Fault { what, line: error.line(), column: error.column() }
}

impl Object {
    fn parse(text: &str, span: Range<usize>) -> Result<Self, Fault> {
        if span.is_empty() {
            return Err(Fault { what: "is empty", line: 0, column: 0 });
        }
        let Members(members) = serde_json::from_str(&text[span.clone()]).map_err(|error| describe(&error))?;
        let start = text.as_ptr() as usize;
        let mut object = Self { span, ..Self::default() };
        for (key, value) in members {
            if let Ok(key) = serde_json::from_str(key.get()) {
                object.places.insert(Name(key), object.values.len());
            }
            let place = |piece: &RawValue| {
                let from = piece.get().as_ptr() as usize - start;
                from..from + piece.get().len()
            };
            object.keys.push(place(key));
            object.values.push(place(value));
        }
        Ok(object)
    }

    /// Where the value of this key lies.
    fn value(&self, key: &str) -> Option<Range<usize>> {
        self.places.get(&Name(key.to_owned())).map(|place| self.values[*place].clone())
    }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests;
