//! What is refused of the places that a call names, and what the operator vouches for.

use super::Reply;
use super::paths::Surroundings;
use crate::state_dir::Environment;
use napi_derive::napi;
use std::path::Path;

/// Refuses surroundings that lack what the default paths need: a home directory, a working directory. Looks nothing up.
#[napi]
#[must_use]
#[allow(clippy::needless_pass_by_value, reason = "napi hands over owned strings")]
pub fn refuse_missing(given: Option<String>, surroundings: Surroundings) -> Reply {
    let checked = Environment::from(surroundings).refuse_missing(given.as_deref().map(Path::new));
    checked.map_or_else(Into::into, |()| Reply::default())
}

/// Takes the operator's word that no other user can get to a directory that everyone may write to.
#[napi]
#[allow(clippy::needless_pass_by_value, reason = "napi hands over owned strings")]
pub fn trust_volume(path: String) {
    crate::lock::private_dir::trust(Path::new(&path));
}
