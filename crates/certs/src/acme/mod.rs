//! Certificates by ACME (RFC 8555; spec proxy.md 3).
//!
//! What lives here: the account, orders and their proofs ([`Challenges`] for the listeners, `dns` for records), renewal in
//! time ([`Keeper`]) and the layout of what is kept. What must not live here: listeners, configuration keys, the
//! decision which names are wanted.
//!
//! Start at [`Keeper`], then `order`.

mod account;
mod challenges;
mod dns;
mod entry;
mod error;
mod jobs;
mod keeper;
mod layout;
mod options;
mod order;
mod proofs;
mod schedule;
mod stored;
mod traces;

pub use challenges::{ACME_TLS, Challenges, HTTP_PATH, OfferError, Offered};
pub use dns::DnsError;
pub use error::AcmeError;
pub use keeper::{Keeper, Observer, Plan, Served};
pub use options::{Dns, DnsExec, DnsUpdate, ExternalAccount, Options, TsigKey};
pub use proofs::SharedChallenges;
