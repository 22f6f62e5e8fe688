//! One login, from the page that needs a session to the session (spec authentication.md 4).
//!
//! Start at [`start`] for the way out to the identity provider and at [`callback`] for the way back. What is
//! carried through the browser meanwhile: [`csrf`] (which browser), [`pending`] (PKCE verifier and nonce),
//! [`state`] (the way back). [`rounds`] breaks loops.

mod callback;
pub mod csrf;
pub mod pending;
pub mod rounds;
mod start;
pub mod state;
pub mod step_up;
