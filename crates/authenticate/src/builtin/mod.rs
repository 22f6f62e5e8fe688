//! The built-in identity provider: an OpenID provider under `/.pomerium/idp` of the authenticate host, off unless
//! the settings name it.
//!
//! Our own sign-in uses it like any other provider, by the same protocol and the same checks, only over the
//! short way of [`backchannel`]. Start at [`provider`]; what people see is in [`front`].
//!
//! What must not be here: sessions of the proxy. The provider knows who typed a password in this browser
//! ([`sso`]), and that is another matter.

pub mod backchannel;
pub mod client;
pub mod codes;
mod discovery;
mod end_session;
mod form;
pub mod front;
pub mod limits;
mod pkce;
pub mod provider;
pub mod request;
pub mod sso;
mod token;
pub mod tokens;
mod userinfo;
pub mod users;
