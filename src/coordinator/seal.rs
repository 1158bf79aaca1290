//! Names and keys from the refresh token itself: who holds it can find its row and open what the provider gave for it; nobody else
//! can, and no key has to be managed. HKDF-SHA-256 (RFC 5869) and ChaCha20-Poly1305 (RFC 8439).

use crate::credential::Credential;
use crate::credential::fields::Fields;
use crate::digest::hex;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

const SALT: &[u8] = b"oauth-refresh-lock/1";
const KEY_BYTES: usize = 32;

struct Length;

impl KeyType for Length {
    fn len(&self) -> usize {
        KEY_BYTES
    }
}

/// A refresh token, as what is derived from it.
pub struct Grant {
    row: String,
    prk: Prk,
}

impl Grant {
    /// Of this refresh token.
    #[must_use]
    pub fn of(refresh: &str) -> Option<Self> {
        let prk = Salt::new(HKDF_SHA256, SALT).extract(refresh.as_bytes());
        let name = derive(&prk, &[b"row"])?;
        Some(Self { row: hex(&name[..]), prk })
    }

    /// The name of its row: 64 hexadecimal digits.
    #[must_use]
    pub fn row(&self) -> &str {
        &self.row
    }

    /// Seals what the provider gave for it. `keys`: the program's own, the newest first.
    #[must_use]
    pub fn seal(&self, answer: &Answer, keys: &[Zeroizing<String>]) -> Option<String> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).ok()?;
        let mut text = serde_json::to_vec(answer).ok()?;
        let key = self.key(keys.first())?;
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(&self.row), &mut text).ok()?;
        Some(STANDARD.encode([&nonce[..], &text].concat()))
    }

    /// Opens that; `None` if it was sealed by another key, or changed since.
    #[must_use]
    pub fn open(&self, sealed: &str, keys: &[Zeroizing<String>]) -> Option<Answer> {
        let bytes = STANDARD.decode(sealed).ok()?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN)?;
        let without = keys.is_empty().then_some(None);
        keys.iter().map(Some).chain(without).find_map(|key| {
            let mut text = Zeroizing::new(sealed.to_vec());
            let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
            let opened = self.key(key)?.open_in_place(nonce, Aad::from(&self.row), &mut text).ok()?;
            serde_json::from_slice(opened).ok()
        })
    }

    fn key(&self, mixed_in: Option<&Zeroizing<String>>) -> Option<LessSafeKey> {
        let mixed_in = mixed_in.map_or(&[][..], |key| key.as_bytes());
        let key = derive(&self.prk, &[b"seal", mixed_in])?;
        UnboundKey::new(&CHACHA20_POLY1305, &key[..]).map(LessSafeKey::new).ok()
    }
}

fn derive(prk: &Prk, info: &[&[u8]]) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    prk.expand(info, Length).and_then(|okm| okm.fill(&mut key[..])).ok()?;
    Some(key)
}

/// What the provider gave in exchange for a refresh token.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// The whole credential, as JSON text.
    credential: Zeroizing<String>,
    /// Which of its fields are new.
    pub answered: Vec<String>,
    /// For how many milliseconds the access token was still good when it was sealed: clocks of hosts differ.
    pub left_ms: Option<f64>,
    /// The host that asked, for people.
    pub host: String,
}

impl Answer {
    /// Of this credential, which still lives for `left_ms`.
    #[must_use]
    pub fn new(credential: &Credential, answered: Vec<String>, left_ms: Option<f64>, host: String) -> Self {
        Self { credential: credential.members().to_compact(), answered, left_ms, host }
    }

    /// The credential as it is on this host, where it is `now_ms`, if the answer is `age_ms` old; without an age its expiry is as
    /// the other host's clock had it.
    #[must_use]
    pub fn credential(&self, now_ms: f64, age_ms: Option<f64>) -> Option<Credential> {
        let credential = Fields::parse(&self.credential).and_then(Credential::from_profile)?;
        Some(match (self.left_ms, age_ms) {
            (Some(left_ms), Some(age_ms)) => credential.expiring_at((now_ms + left_ms - age_ms).floor()),
            _ => credential,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn answer(refresh: &str) -> Answer {
        let fields = json!({ "type": "oauth", "provider": "p", "access": "A", "refresh": refresh, "expires": 5_000 });
        let credential = Fields::parse(&fields.to_string()).and_then(Credential::from_profile).expect("a credential");
        Answer::new(&credential, vec!["access".to_owned()], Some(1_000.0), "host".to_owned())
    }

    #[test]
    fn only_the_same_refresh_token_and_keys_open_what_was_sealed() {
        let keys = |keys: &[&str]| keys.iter().map(|key| Zeroizing::new((*key).to_owned())).collect::<Vec<_>>();
        let grant = Grant::of("old").expect("a grant");
        let sealed = grant.seal(&answer("new"), &keys(&["k1"])).expect("sealed");
        assert!(!sealed.contains("new"));
        let open = |refresh: &str, held: &[&str], sealed: &str| {
            let opened = Grant::of(refresh)?.open(sealed, &keys(held))?;
            opened.credential(0.0, None)?.refresh().map(str::to_owned)
        };
        assert_eq!(open("old", &["k1"], &sealed).as_deref(), Some("new"));
        assert_eq!(open("old", &["k2", "k1"], &sealed).as_deref(), Some("new"));
        // As hosts get their first key: an empty one is none.
        let without = grant.seal(&answer("new"), &keys(&["", "k1"])).expect("sealed");
        for held in [&[][..], &["k1", ""], &["", "k1"]] {
            assert_eq!(open("old", held, &without).as_deref(), Some("new"), "{held:?}");
        }
        for (refresh, held) in [("other", &["k1"][..]), ("old", &["k2"]), ("old", &[])] {
            assert_eq!(open(refresh, held, &sealed), None);
        }
        for at in [0, 20, sealed.len() - 3] {
            let mut changed = sealed.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(open("old", &["k1"], &String::from_utf8(changed).expect("text")), None);
        }
        for torn in ["", "AAAA", "?"] {
            assert_eq!(open("old", &["k1"], torn), None);
        }
    }

    #[test]
    fn the_expiry_is_this_hosts_where_the_age_is_known() {
        let expires = |now, age| answer("new").credential(now, age).and_then(|one| one.expires());
        assert_eq!(expires(100_000.0, Some(400.0)), Some(100_600.0));
        assert_eq!(expires(100_000.0, None), Some(5_000.0));
    }
}
