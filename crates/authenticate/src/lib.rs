//! Sign-in: the authenticate service, its endpoints on every host, and the built-in identity provider.
//!
//! [`Authenticate`] is built from one version of the settings and swapped on reload; what must outlive that is in
//! [`State`]. A request comes in through [`Authenticate::handle`], is read once into a `Call`, finds its endpoint
//! in `service`, and every refusal goes out through `reply`.
//!
//! What must not be here: forwarding and routing (`pomerium-proxy`), decisions (`pomerium-authorize`), how pages
//! look (`pomerium-web`), the OpenID protocol as a client (`pomerium-identity`).
//!
//! Start at `service` for the map of paths, at `login` for the way of one login, at [`builtin`] for the local
//! identity provider.

pub mod builtin;
mod call;
mod cookie;
mod device;
mod endpoints;
mod error;
mod links;
mod login;
mod once;
mod options;
mod providers;
mod reply;
mod return_to;
mod sealed;
mod service;
mod session;
mod state;
mod verify;

pub use builtin::backchannel::LocalBackchannel;
pub use call::RequestContext;
pub use error::{BuildError, Error};
pub use service::{Authenticate, Deps, HostCheck};
pub use session::is_alive as session_is_alive;
pub use state::State;
