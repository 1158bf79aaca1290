//! A JSON object whose values keep the spelling they came in: numbers, escapes and text that is not valid Unicode survive.

use indexmap::map::Entry;
use indexmap::{Equivalent, IndexMap};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::fmt;
use std::hash::{Hash, Hasher};
use zeroize::{Zeroize, Zeroizing};

/// An object's members, as they are spelled and as they are understood. Wiped on drop; its `Debug` shows no value.
#[derive(Clone, Default)]
pub struct Fields {
    /// By key; a key that is not valid Unicode stands as it is spelled.
    members: IndexMap<Name, Member>,
    values: Map<String, Value>,
}

/// One member, as it is spelled.
#[derive(Clone)]
struct Member {
    spelled_name: String,
    spelled: String,
}

/// A key. Objects of many members are looked through by hash; tests count how often one key is compared with another.
#[derive(Clone, Eq)]
pub(crate) struct Name(pub(crate) String);

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        other.0.as_str().equivalent(self)
    }
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl Equivalent<Name> for str {
    fn equivalent(&self, name: &Name) -> bool {
        #[cfg(test)]
        tests::COMPARISONS.with(|count| count.set(count.get() + 1));
        *self == *name.0
    }
}

impl Fields {
    /// Reads an object's text. `None` if it is not one. Of several equal keys the last counts.
    #[must_use]
    pub fn parse(json: &str) -> Option<Self> {
        let Members(members) = serde_json::from_str(json).ok()?;
        let mut fields = Self::default();
        for (name, value) in members {
            let decoded = serde_json::from_str(name.get()).unwrap_or_else(|_| name.get().to_owned());
            fields.put(decoded, name.get(), value.get());
        }
        Some(fields)
    }

    /// The members as they are understood. A value with text that is not valid Unicode stands as it is spelled.
    #[must_use]
    pub fn values(&self) -> &Map<String, Value> {
        &self.values
    }

    /// The keys, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.members.keys().map(|name| name.0.as_str())
    }

    /// A value, as it is spelled.
    #[must_use]
    pub fn spelled(&self, name: &str) -> Option<&str> {
        self.members.get(name).map(|member| member.spelled.as_str())
    }

    /// Gives a member another name, and drops a member that had that name.
    pub fn rename(&mut self, name: &str, to: &str) {
        if name == to || !self.values.contains_key(name) {
            return;
        }
        self.retain(|name, _| name != to);
        if let Some(place) = self.members.get_index_of(name)
            && self.members.replace_index(place, Name(to.to_owned())).is_ok()
        {
            self.members[place].spelled_name = Value::from(to).to_string();
        }
        if let Some(value) = self.values.shift_remove(name) {
            self.values.insert(to.to_owned(), value);
        }
    }

    /// Sets a member, in its place if there is one.
    pub fn insert(&mut self, name: &str, value: &Value) {
        let spelled = Zeroizing::new(value.to_string());
        self.put(name.to_owned(), &Value::from(name).to_string(), &spelled);
    }

    /// Takes another object's members over if they are `wanted`, each in its place if there is one.
    pub fn overlay(&mut self, other: &Self, wanted: impl Fn(&str, &Value) -> bool) {
        for (Name(name), member) in &other.members {
            if other.values.get(name).is_some_and(|value| wanted(name, value)) {
                self.put(name.clone(), &member.spelled_name, &member.spelled);
            }
        }
    }

    /// Drops the members that are not `wanted`.
    pub fn retain(&mut self, wanted: impl Fn(&str, &Value) -> bool) {
        let Self { members, values } = self;
        members.retain(|Name(name), member| {
            let keep = values.get(name).is_some_and(|value| wanted(name, value));
            if !keep {
                member.spelled.zeroize();
            }
            keep
        });
        values.retain(|name, value| wanted(name, value));
    }

    /// The object's text on one line.
    #[must_use]
    pub fn to_json(&self) -> String {
        let members: Vec<_> =
            self.members.values().map(|member| format!("{}:{}", member.spelled_name, member.spelled)).collect();
        let members = Zeroizing::new(members);
        format!("{{{}}}", members.join(","))
    }

    /// The same without white space between its parts. A credential's size is counted on this: the writer of its store may
    /// lay it out in any way.
    #[must_use]
    pub fn to_compact(&self) -> Zeroizing<String> {
        compact(&Zeroizing::new(self.to_json()))
    }

    /// The object's text with one member a line, `indent` spaces deep. Values stand as they are spelled.
    #[must_use]
    pub fn to_pretty(&self, indent: usize) -> Zeroizing<String> {
        let line = |member: &Member| format!("\n{:1$}{2}: {3}", "", indent + 2, member.spelled_name, member.spelled);
        let members = Zeroizing::new(self.members.values().map(line).collect::<Vec<_>>());
        if members.is_empty() {
            return Zeroizing::new("{}".to_owned());
        }
        let members = Zeroizing::new(members.join(","));
        Zeroizing::new(format!("{{{}\n{:2$}}}", *members, "", indent))
    }

    fn put(&mut self, name: String, spelled_name: &str, spelled: &str) {
        // A value that is nested too deep to be understood is compared as text: its layout must not count.
        let understood = serde_json::from_str(spelled).unwrap_or_else(|_| Value::from(compact(spelled).as_str()));
        self.values.insert(name.clone(), understood);
        match self.members.entry(Name(name)) {
            Entry::Occupied(member) => {
                let member = member.into_mut();
                member.spelled.zeroize();
                member.spelled.push_str(spelled);
            }
            Entry::Vacant(place) => {
                place.insert(Member { spelled_name: spelled_name.to_owned(), spelled: spelled.to_owned() });
            }
        }
    }
}

impl From<Map<String, Value>> for Fields {
    fn from(values: Map<String, Value>) -> Self {
        let mut fields = Self::default();
        for (name, value) in &values {
            fields.insert(name, value);
        }
        fields
    }
}

impl PartialEq for Fields {
    fn eq(&self, other: &Self) -> bool {
        self.values == other.values
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fields {{ {} members, redacted }}", self.members.len())
    }
}

impl Drop for Fields {
    fn drop(&mut self) {
        for member in self.members.values_mut() {
            member.spelled.zeroize();
        }
        for value in self.values.values_mut() {
            if let Value::String(text) = value {
                text.zeroize();
            }
        }
    }
}

/// An object's members as the text spells them.
pub(crate) struct Members<'a>(pub(crate) Vec<(&'a RawValue, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// Takes the white space out of well-formed JSON, but for that in strings.
fn compact(json: &str) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::with_capacity(json.len()));
    let (mut in_string, mut is_escaped) = (false, false);
    for next in json.chars() {
        if in_string {
            in_string = next != '"' || is_escaped;
            is_escaped = next == '\\' && !is_escaped;
        } else if next.is_ascii_whitespace() {
            continue;
        } else {
            in_string = next == '"';
        }
        out.push(next);
    }
    out
}

#[cfg(test)]
pub(crate) mod tests;
