//! Configuration: what people write (`spec`) becomes what the program runs on (`settings`).
//!
//! Start at [`Loader`]. [`watch`] tells when to load again, [`schema()`] describes the file for editors,
//! [`conformance`] runs case files. Nothing here listens, connects or runs a service.

pub mod conformance;
pub mod diagnostic;
mod file_text;
mod layering;
mod loader;
pub mod records;
mod schema;
pub mod settings;
pub mod spec;
pub mod tidy;
pub mod users_file;
pub mod watch;

pub use diagnostic::{Diagnostic, LoadErrors, Origin, Place, Refusal, Sort, Stage, Step};
pub use file_text::Text;
pub use loader::{Loaded, Loader};
pub use schema::schema;
