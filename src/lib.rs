//! One OAuth refresh token, any number of processes, one provider call.
//!
//! Data flows one way: [`key`] names the lock, [`lock`] grants it, [`store`] holds the credentials, and [`refresh`]
//! composes them: [`journal`] remembers how far a refresh had come, [`grant`] makes one of several names for one grant.
//! [`identity`] and [`mirror`] decide what may be copied where; [`claim`] is for hosts with a refresh of their own. Nothing
//! in here knows of Node, except `binding`.

#[cfg(feature = "binding")]
mod binding;
pub mod claim;
pub mod clock;
pub mod credential;
pub mod digest;
pub mod disk;
pub mod document;
pub mod ecma;
pub mod error;
pub mod failure;
pub mod fields;
pub mod file_system;
pub mod grant;
pub mod holder;
pub mod identity;
pub mod inspect;
pub mod journal;
pub mod jwt;
pub mod key;
pub mod ledger;
pub mod lock;
pub mod mirror;
pub mod private_dir;
pub mod process;
pub mod record;
pub mod refresh;
pub mod sidecar;
pub mod state_dir;
pub mod store;
#[cfg(feature = "token-endpoint")]
pub mod token_endpoint;
