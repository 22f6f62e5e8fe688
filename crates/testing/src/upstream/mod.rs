//! The upstream zoo: applications behind the proxy, tame and wild.
//!
//! [`Upstream`] speaks correct HTTP and says what it received; what it does is chosen by the path.
//! [`RawUpstream`] writes exactly the bytes it is told to, for lies about lengths, resets and garbage.

mod behave;
mod gate;
mod raw;
mod recorded;
mod tame;

pub use gate::Gate;
pub use raw::{RawUpstream, Step};
pub use recorded::Recorded;
pub use tame::Upstream;
