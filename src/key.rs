//! A key: one provider's profile, and the lock base path it hashes to.

use crate::digest::Digest;
use crate::ecma;
use crate::error::{Code, Error, Result};
use std::path::{Path, PathBuf};

/// Provider and profile id. Both are plain text: no id can reach outside the lock directory, because only their hash
/// becomes a file name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    provider: String,
    profile_id: String,
}

impl Key {
    /// Refuses blank ids, and a provider with a NUL, which separates the two in the hash.
    pub fn new(provider: &str, profile_id: &str) -> Result<Self> {
        for (name, id) in [("provider", provider), ("profileId", profile_id)] {
            if ecma::is_blank(id) {
                return Err(Error::new(Code::InvalidArgument, format!("{name} must not be blank")));
            }
        }
        if provider.contains('\0') {
            return Err(Error::new(Code::InvalidArgument, "provider must not contain a NUL character"));
        }
        Ok(Self { provider: provider.to_owned(), profile_id: profile_id.to_owned() })
    }

    /// What the key hashes to.
    #[must_use]
    pub fn digest(&self) -> Digest {
        digest(&self.provider, &self.profile_id)
    }

    /// Its lock base path in a state directory: see [`lock_base`].
    #[must_use]
    pub fn lock_base(&self, state_dir: &Path) -> PathBuf {
        lock_base(state_dir, &self.provider, &self.profile_id)
    }

    /// The provider's id, as in a credential's `provider`.
    #[must_use]
    pub fn provider(&self) -> &str {
        &self.provider
    }

    /// The profile's id, as in a store's `profiles`.
    #[must_use]
    pub fn profile_id(&self) -> &str {
        &self.profile_id
    }
}

/// `sha256-<64 hex>` over `provider NUL profileId`, as OpenClaw names its refresh locks.
///
/// Takes any text, blank included, so that it agrees with OpenClaw on every input.
#[must_use]
pub fn lock_name(provider: &str, profile_id: &str) -> String {
    format!("sha256-{}", digest(provider, profile_id).to_hex())
}

/// What a provider and a profile id hash to, whatever text they are.
#[must_use]
pub fn digest(provider: &str, profile_id: &str) -> Digest {
    Digest::of(&[provider.as_bytes(), b"\0", profile_id.as_bytes()])
}

/// `<state>/locks/oauth-refresh/<lock name>`. Creates nothing.
#[must_use]
pub fn lock_base(state_dir: &Path, provider: &str, profile_id: &str) -> PathBuf {
    state_dir.join("locks").join("oauth-refresh").join(lock_name(provider, profile_id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_blank_ids_and_a_nul_in_the_provider() {
        for (provider, profile_id) in [("", "x"), ("x", ""), (" \u{FEFF}", "x"), ("x", "\n"), ("a\0b", "x")] {
            let refused = Key::new(provider, profile_id).map_err(|error| error.code);
            assert_eq!(refused, Err(Code::InvalidArgument), "{provider:?} {profile_id:?}");
        }
        assert!(Key::new("p", "a\0b").is_ok());
    }
}
