//! One databroker leads, others follow it with a store of their own and can take its place by command
//! (spec databroker.md 10, with a leader that is named, never elected).
//!
//! A follower copies the leader's records with their versions, as they come: what the leader acknowledged and had not
//! sent when it was lost is lost. [`Lag`] says how much that can be at any moment. Whoever must not lose anything uses
//! PostgreSQL.
//!
//! Each promotion begins a new *term*, which goes with the records. A node that leads asks the others all the time, and
//! before it answers anybody: when one of them serves records of a later term it gives way. There is no vote: a
//! former leader that can reach nobody does not know.
//!
//! Start at [`Node`]; `follow` is what a follower does all day, `rivals` what one that leads does.

mod follow;
mod node;
mod read_only;
mod rivals;
mod status;
#[cfg(test)]
mod tests;

pub use self::node::{Leader, Member, Node, PromoteError};
pub use self::status::{Lag, Role, Status};
