//! Identity providers to sign in at.

mod oidc;
mod scripted;

pub use oidc::{Account, OidcProvider};
pub use scripted::{Refreshes, Script, ScriptedIdp};
