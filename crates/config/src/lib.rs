//! Configuration: what people write (`spec`) becomes what the program runs on (`settings`).
//!
//! Start at [`Loader`]. Nothing here listens, connects or runs a service.

pub mod conformance;
pub mod diagnostic;
mod loader;
pub mod settings;
pub mod spec;

pub use diagnostic::{Diagnostic, LoadErrors, Origin, Place, Refusal, Stage};
pub use loader::{Loaded, Loader};
