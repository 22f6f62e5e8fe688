//! What the tests stand on.

pub mod broker;
pub mod browser;
pub mod world;

pub use browser::Browser;
pub use world::*;
