//! One databroker leads, others follow it with a store of their own and can take its place by command
//! (spec databroker.md 10, with a leader that is named, never elected).
//!
//! A follower copies the leader's records with their versions, as they come: what the leader acknowledged and had not
//! sent when it was lost is lost. [`Lag`] says how much that can be at any moment. Whoever must not lose anything uses
//! PostgreSQL.
//!
//! Start at [`Node`]; `follow` is what a follower does all day.

mod follow;
mod node;
mod read_only;
mod status;
#[cfg(test)]
mod tests;

pub use self::node::{Leader, Member, Node, PromoteError};
pub use self::status::{Lag, Role, Status};
