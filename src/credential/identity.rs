//! The identity gate: no account's tokens ever land in another account's, or another tenant's, place.

use crate::ecma;
use serde_json::{Map, Value};

type Fields = Map<String, Value>;

/// Why a credential may not replace another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Another provider issued it.
    Provider,
    /// `enterpriseUrl` differs, or `projectId` changes or vanishes.
    Tenant,
    /// The identity gate refuses.
    Identity,
}

/// Whether `incoming` may replace `existing`: same provider, same tenant, and the identity gate.
pub fn check(existing: &Fields, incoming: &Fields) -> Result<(), Refusal> {
    if existing.get("provider") != incoming.get("provider") {
        Err(Refusal::Provider)
    } else if !is_same_tenant(existing, incoming) {
        Err(Refusal::Tenant)
    } else if !is_safe_to_copy(existing, incoming) {
        Err(Refusal::Identity)
    } else {
        Ok(())
    }
}

/// Whether some field of account or tenant that both carry differs. Missing evidence does not contradict.
#[must_use]
pub fn contradicts(existing: &Fields, incoming: &Fields) -> bool {
    let differs = |field, normalise| match (evidence(existing, field, normalise), evidence(incoming, field, normalise))
    {
        (Some(existing), Some(incoming)) => existing != incoming,
        _ => false,
    };
    existing.get("provider") != incoming.get("provider")
        || differs("accountId", account_id)
        || differs("email", email)
        || differs("projectId", account_id)
        || evidence(existing, "enterpriseUrl", enterprise_url) != evidence(incoming, "enterpriseUrl", enterprise_url)
}

/// The gate: no field that both carry differs, and `incoming` carries every field that `existing` carries.
///
/// Fields are `accountId` and `email`. Stricter than OpenClaw's own code, as its description says: members of one
/// workspace share an `accountId`.
#[must_use]
pub fn is_safe_to_copy(existing: &Fields, incoming: &Fields) -> bool {
    [("accountId", account_id as fn(&str) -> String), ("email", email)].into_iter().all(|(field, normalise)| {
        keeps(evidence(existing, field, normalise).as_ref(), evidence(incoming, field, normalise).as_ref())
    })
}

/// `enterpriseUrl` equal, where absent equals only absent; `projectId` added at most.
#[must_use]
pub fn is_same_tenant(existing: &Fields, incoming: &Fields) -> bool {
    let url = |fields| evidence(fields, "enterpriseUrl", enterprise_url);
    let project = |fields| evidence(fields, "projectId", account_id);
    url(existing) == url(incoming) && keeps(project(existing).as_ref(), project(incoming).as_ref())
}

/// The host of the tenant that a credential belongs to, in lower case; `None` if it names none. A URL that can't be read
/// counts as a host that does not exist.
#[must_use]
pub fn tenant_host(fields: &Fields) -> Option<String> {
    match evidence(fields, "enterpriseUrl", enterprise_url)? {
        Evidence::Text(url) => url.split(['/', '?', '#']).next().map(str::to_owned),
        Evidence::Other(_) => Some(String::new()),
    }
}

/// Evidence may be added, not changed or dropped.
fn keeps(existing: Option<&Evidence>, incoming: Option<&Evidence>) -> bool {
    existing.is_none() || existing == incoming
}

/// What a field says of the account.
#[derive(PartialEq)]
enum Evidence {
    Text(String),
    /// Not text, so we can't read it; only the very same value is the same.
    Other(Value),
}

fn evidence(fields: &Fields, name: &str, normalise: fn(&str) -> String) -> Option<Evidence> {
    match fields.get(name)? {
        Value::Null => None,
        Value::String(text) => Some(normalise(text)).filter(|text| !text.is_empty()).map(Evidence::Text),
        other => Some(Evidence::Other(other.clone())),
    }
}

fn account_id(text: &str) -> String {
    ecma::trim(text).to_owned()
}

fn email(text: &str) -> String {
    ecma::to_lower_case(ecma::trim(text))
}

fn enterprise_url(text: &str) -> String {
    let lower = email(text);
    let without_scheme = lower.strip_prefix("https://").or_else(|| lower.strip_prefix("http://")).unwrap_or(&lower);
    without_scheme.trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(value: Value) -> Fields {
        match value {
            Value::Object(map) => map,
            _ => panic!("not an object"),
        }
    }

    #[test]
    fn tenants_are_compared_without_scheme_case_and_slash() {
        let url = |url: &str| fields(json!({"enterpriseUrl": url}));
        let none = fields(json!({}));
        assert!(is_same_tenant(&url("https://GHE.example.com/"), &url(" ghe.example.com")));
        assert!(!is_same_tenant(&url("ghe.example.com"), &url("github.com")));
        assert!(!is_same_tenant(&url("ghe.example.com"), &none));
        assert!(!is_same_tenant(&none, &url("ghe.example.com")));
        assert!(is_same_tenant(&none, &url(" ")));
    }

    #[test]
    fn a_project_may_be_added_only() {
        let project = |id: &str| fields(json!({"projectId": id}));
        let none = fields(json!({}));
        assert!(is_same_tenant(&none, &project("p")));
        assert!(is_same_tenant(&project("p"), &project(" p ")));
        assert!(!is_same_tenant(&project("p"), &none));
        assert!(!is_same_tenant(&project("p"), &project("q")));
    }

    #[test]
    fn identity_that_is_no_text_is_not_taken_for_absent() {
        let account = |id: Value| fields(json!({"accountId": id}));
        assert!(!is_safe_to_copy(&account(json!(1)), &account(json!(2))));
        assert!(!is_safe_to_copy(&account(json!(1)), &account(json!("1"))));
        assert!(is_safe_to_copy(&account(json!(1)), &account(json!(1))));
        assert!(is_safe_to_copy(&account(json!(null)), &account(json!(1))));
    }
}
