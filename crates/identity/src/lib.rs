//! Identity providers: who someone is, by OpenID Connect, and whether that still holds.
//!
//! [`OidcProvider`] speaks the protocol over an [`HttpClient`], trusting nothing it is told until it is
//! checked; [`records`] turns what it learned into session and user records; [`refresh`] keeps those up to
//! date. [`google`] gets the tokens that upstreams at Google ask *us* for. What must not be here: cookies, pages, redirects (`authenticate`), and who may do what (`authorize`).
//!
//! Start at [`OidcProvider`].

pub mod claims;
mod error;
mod flight;
pub mod google;
mod http;
mod oidc;
mod pkce;
pub mod records;
pub mod refresh;
#[cfg(test)]
mod testing;

pub use error::IdentityError;
pub use http::{ClientError, HttpClient, HttpError, HttpErrorKind, ReqwestClient};
pub use oidc::{
    AuthRequest, IdToken, Identity, Metadata, OidcConfig, OidcProvider, Refreshed, StepUp, Tokens, UserInfo,
};
pub use pkce::Pkce;
pub use records::{NewSession, apply_identity, session_from_identity, user_from_identity};
