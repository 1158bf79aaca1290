//! One OAuth refresh token, any number of processes, one provider call.
//!
//! Data flows one way: [`key`] names the lock, [`lock`] grants it, [`journal`] remembers how far a refresh has come, [`store`]
//! holds the credentials, and [`refresh`] composes them. It asks the provider through its caller: a function, or
//! [`token_endpoint`]. [`inspect`] tells people what lies on disk; [`claim`] is for hosts with a refresh of their own. Only
//! `binding` uses Node-API.

#[cfg(feature = "binding")]
mod binding;
pub mod claim;
pub mod clock;
pub mod coordinator;
pub mod credential;
pub mod digest;
pub mod disk;
pub mod ecma;
pub mod error;
pub mod failure;
pub mod inspect;
pub mod journal;
pub mod key;
pub mod lock;
pub mod process;
pub mod refresh;
pub mod state_dir;
pub mod store;
#[cfg(feature = "token-endpoint")]
pub mod token_endpoint;
