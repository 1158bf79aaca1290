//! What is sent.

use super::{ClientAuth, Encoding, Exchange, Spec, TokenEndpoint, invalid};
use crate::error::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use url::form_urlencoded::{Serializer, byte_serialize};
use zeroize::Zeroizing;

/// Headers that are the request's own.
const RESERVED: [&str; 8] =
    ["authorization", "connection", "content-length", "content-type", "expect", "host", "te", "transfer-encoding"];

impl TokenEndpoint {
    /// The request's body.
    pub(super) fn body(&self, refresh_token: &str) -> Zeroizing<Vec<u8>> {
        let Spec { client_id, client_secret, scope, resource, .. } = &self.spec;
        let mut pairs: Vec<(&str, &str)> = vec![("grant_type", "refresh_token"), ("refresh_token", refresh_token)];
        if let (Some(client_id), ClientAuth::None | ClientAuth::Post) = (client_id, self.auth) {
            pairs.push(("client_id", client_id));
        }
        if let (Some(secret), ClientAuth::Post) = (client_secret, self.auth) {
            pairs.push(("client_secret", secret));
        }
        pairs.extend(scope.as_deref().map(|scope| ("scope", scope)));
        match self.spec.encoding {
            Encoding::Form => {
                pairs.extend(resource.iter().map(|resource| ("resource", resource.as_str())));
                // Room for all, so that no copy is left behind by growing.
                let room: usize = pairs.iter().map(|(name, value)| 3 * value.len() + name.len() + 2).sum();
                let mut form = Serializer::new(String::with_capacity(room));
                form.extend_pairs(pairs);
                Zeroizing::new(form.finish().into_bytes())
            }
            Encoding::Json => {
                let mut members: Vec<_> = pairs.iter().map(|(name, value)| member(name, value)).collect();
                match resource.as_slice() {
                    [] => {}
                    [one] => members.push(member("resource", one)),
                    several => {
                        let several: Vec<_> = several.iter().map(|one| quoted(one)).collect();
                        members.push(Zeroizing::new(format!("\"resource\":[{}]", several.join(","))));
                    }
                }
                let room: usize = members.iter().map(|member| member.len() + 1).sum();
                let mut json = Zeroizing::new(Vec::with_capacity(room + 2));
                for (at, member) in members.iter().enumerate() {
                    json.push(if at == 0 { b'{' } else { b',' });
                    json.extend_from_slice(member.as_bytes());
                }
                json.push(b'}');
                json
            }
        }
    }

    /// How the client, or the GitHub token, is told.
    pub(super) fn authorization(&self, refresh_token: &str) -> Result<Option<HeaderValue>> {
        let credentials = match (self.spec.exchange, self.auth, &self.spec.client_id, &self.spec.client_secret) {
            (Exchange::GithubCopilot, ..) => Zeroizing::new(format!("token {refresh_token}")),
            (_, ClientAuth::Basic, Some(id), Some(secret)) => {
                let encoded = |text: &str| Zeroizing::new(byte_serialize(text.as_bytes()).collect::<String>());
                let pair = Zeroizing::new(format!("{}:{}", *encoded(id), *encoded(secret)));
                let pair = Zeroizing::new(STANDARD.encode(pair.as_bytes()));
                Zeroizing::new(format!("Basic {}", *pair))
            }
            _ => return Ok(None),
        };
        let mut value = HeaderValue::from_str(&credentials)
            .map_err(|_| invalid("the refresh token has characters that no header can carry"))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

fn member(name: &str, value: &str) -> Zeroizing<String> {
    let value = Zeroizing::new(quoted(value));
    Zeroizing::new(format!("\"{name}\":{}", *value))
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The headers of every request.
pub(super) fn headers(spec: &Spec) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("oauth-refresh-lock/", env!("CARGO_PKG_VERSION"))));
    if spec.exchange == Exchange::RefreshToken {
        let form = spec.encoding == Encoding::Form;
        let media_type = if form { "application/x-www-form-urlencoded" } else { "application/json" };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    }
    for (name, value) in &spec.headers {
        let shown = name.escape_debug();
        if RESERVED.contains(&name.to_ascii_lowercase().as_str()) {
            return Err(invalid(format!("headers must not set \"{shown}\": the request sets it itself")));
        }
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| invalid(format!("headers: \"{shown}\" is not a header name")))?;
        let mut value = HeaderValue::from_str(value)
            .map_err(|_| invalid(format!("headers: the value of \"{shown}\" can't be sent")))?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}
