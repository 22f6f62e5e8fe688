//! Bodies on their way through: they count, note progress, enforce the time limits of a request and
//! give the upstream connection back at their end. Back-pressure is the library's: a frame is asked
//! for when the other side has room for it.

mod client;
mod reader;
mod request;
mod response;
mod timing;
mod unary;
mod unread;

pub use client::ClientBody;
pub use reader::Reader;
pub use request::RequestBody;
pub use response::{ResponseBody, Tail};
pub use timing::{Activity, Expired, Limits, MOMENT, STALLED, Watchdog};
pub use unary::Unary;
pub use unread::MOST_UNREAD;
