//! Whose tokens are: what ID tokens, access tokens and answers say of the account, and what a credential says itself.

use super::fields::Fields;
use super::{Credential, jwt, text};
use crate::ecma;
use serde_json::{Map, Value};

/// Where an account's id and e-mail address stand: a path of member names, in the claims of the tokens or in the answer.
#[derive(Debug, Clone, Default)]
pub struct IdentityClaims {
    /// Of the account id; without it none is read.
    pub account_id: Option<Vec<String>>,
    /// Of the e-mail address; else the claim `email`.
    pub email: Option<Vec<String>>,
}

/// Whose a credential is, and whose the tokens that came for it are.
pub struct Evidence<'a> {
    held: &'a Map<String, Value>,
    old: TokenClaims,
    new: TokenClaims,
    /// The credential's own issuer and subject, as claims.
    stored: Map<String, Value>,
    /// Whether those are an access token's. The subjects of an id_token and of an access token may differ, so each is compared with
    /// its like.
    is_stored_of_access: bool,
}

impl<'a> Evidence<'a> {
    /// Of the credential that is held, and of new tokens.
    #[must_use]
    pub fn of(credential: &'a Credential, id_token: Option<&str>, access: Option<&str>) -> Self {
        let held = credential.fields();
        let new = TokenClaims { id_token: id_token.and_then(jwt::claims), access: access.and_then(jwt::claims) };
        let old = TokenClaims {
            id_token: given(held, "idToken").and_then(jwt::claims),
            access: credential.access().and_then(jwt::claims),
        };
        let stored = |name: &str, field: &str| given(held, field).map(|text| (name.to_owned(), Value::from(text)));
        let stored: Map<_, _> = [stored("iss", "issuer"), stored("sub", "subject")].into_iter().flatten().collect();
        let subject = |claims: &Map<String, Value>| claims.get("sub").cloned();
        let is_stored_of_access = old.id_token.is_none()
            && old.access.as_ref().and_then(subject).is_some_and(|access| Some(access) == subject(&stored));
        Self { held, old, new, stored, is_stored_of_access }
    }

    /// Whether the new tokens are certainly another account's.
    #[must_use]
    pub fn is_of_another(&self) -> bool {
        // Those of the stored access token are compared with it, as it says what it is for.
        let stored = (!self.is_stored_of_access).then_some(&self.stored);
        differ(self.old.id_token.as_ref(), self.new.id_token.as_ref(), true)
            || differ(self.old.access.as_ref(), self.new.access.as_ref(), false)
            || differ(stored, self.new.id_token.as_ref(), true)
    }

    /// Whether the new tokens are certainly the same person's, by the id_token: of the same issuer, for the same subject.
    #[must_use]
    pub fn is_of_same_person(&self) -> bool {
        let stored = (!self.is_stored_of_access).then_some(&self.stored);
        [self.old.id_token.as_ref(), stored].into_iter().any(|old| same(old, self.new.id_token.as_ref()))
    }

    /// Whether they are for the same subject, perhaps by access tokens alone. Such a subject may be a client's, so that this
    /// outvotes nothing that is said of a person.
    #[must_use]
    pub fn is_of_same_subject(&self) -> bool {
        let (id_token, access) = (self.new.id_token.as_ref(), self.new.access.as_ref());
        let is_alone = id_token.is_none() || same(id_token, access);
        let old = [self.old.id_token.as_ref(), self.old.access.as_ref(), Some(&self.stored)];
        self.is_of_same_person() || (is_alone && old.into_iter().any(|old| same(old, access)))
    }

    /// Puts in `issuer` and `subject`, where they are not known.
    pub fn fill_issuer_and_subject(&self, fields: &mut Fields) {
        let of_access = self.new.access.as_ref().filter(|_| self.old.id_token.is_none());
        let Some(claims) = self.new.id_token.as_ref().or(of_access) else { return };
        let is_better = self.is_stored_of_access && self.new.id_token.is_some();
        for (field, claim) in [("issuer", "iss"), ("subject", "sub")] {
            if let Some(new) = given(claims, claim)
                && (given(self.held, field).is_none() || is_better)
            {
                fields.insert(field, &new.into());
            }
        }
    }

    /// Puts in `accountId` and `email`, where they are not known: from the tokens, else from what came with them.
    pub fn fill_account(&self, paths: &IdentityClaims, answers: [&Map<String, Value>; 2], fields: &mut Fields) {
        // Where there was never an id_token, the access token speaks for it.
        let access = self.new.access.as_ref().filter(|_| self.is_stored_of_access && self.new.id_token.is_none());
        let is_known = self.is_of_same_person() || same(Some(&self.stored), access);
        for (field, found) in [
            ("accountId", self.new.find(answers, paths.account_id.as_ref(), None)),
            ("email", self.new.find(answers, paths.email.as_ref(), Some("email"))),
        ] {
            let known = given(self.held, field);
            // Spelled as it was, if it is the same. An address may change (OpenID Connect Core §5.7), the account does not.
            if let Some(found) = found.filter(|found| !is_same(known, found))
                && !(field == "email" && is_known && known.is_some())
            {
                fields.insert(field, &found.into());
            }
        }
    }
}

/// What tokens say of whom they are for.
struct TokenClaims {
    id_token: Option<Map<String, Value>>,
    access: Option<Map<String, Value>>,
}

impl TokenClaims {
    /// What stands at a path in them or in the answer, else at a name in them.
    fn find<'a>(
        &'a self,
        answers: [&'a Map<String, Value>; 2],
        path: Option<&Vec<String>>,
        name: Option<&str>,
    ) -> Option<&'a str> {
        let claims = || self.id_token.iter().chain(&self.access);
        let by_path = path.and_then(|path| claims().chain(answers).find_map(|place| at(place, path)));
        by_path.or_else(|| name.and_then(|name| claims().find_map(|claims| given(claims, name))))
    }
}

/// Whether two tokens are for different people. A refresh changes neither issuer nor subject of an id_token (OpenID Connect
/// Core §12.2). An access token is for a resource and may change with that; then it proves nothing.
fn differ(old: Option<&Map<String, Value>>, new: Option<&Map<String, Value>>, is_id_token: bool) -> bool {
    let (Some(old), Some(new)) = (old, new) else { return false };
    let differs = |name: &str| matches!((claim(old, name), claim(new, name)), (Some(old), Some(new)) if old != new);
    if is_id_token { differs("iss") || differs("sub") } else { differs("sub") && !differs("iss") && !differs("aud") }
}

/// Whether two tokens are for the same person of the same issuer.
fn same(old: Option<&Map<String, Value>>, new: Option<&Map<String, Value>>) -> bool {
    let (Some(old), Some(new)) = (old, new) else { return false };
    ["iss", "sub"].into_iter().all(|name| given(old, name).is_some() && claim(old, name) == claim(new, name))
}

/// A claim. Google's issuer is with a scheme or without.
fn claim(claims: &Map<String, Value>, name: &str) -> Option<Value> {
    let value = claims.get(name)?;
    let issuer = value.as_str().filter(|_| name == "iss");
    let bare = issuer.map(|issuer| issuer.trim_start_matches("https://").trim_end_matches('/').into());
    Some(bare.unwrap_or_else(|| value.clone()))
}

/// A text that is there and not blank.
fn given<'a>(map: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    text(map, name).filter(|text| !ecma::is_blank(text))
}

/// What stands at the end of a path of member names.
fn at<'a>(map: &'a Map<String, Value>, path: &[String]) -> Option<&'a str> {
    let (last, parents) = path.split_last()?;
    let parent = parents.iter().try_fold(map, |map, name| map.get(name)?.as_object())?;
    given(parent, last)
}

fn is_same(held: Option<&str>, found: &str) -> bool {
    let normal = |text: &str| ecma::to_lower_case(ecma::trim(text));
    held.is_some_and(|held| normal(held) == normal(found))
}
