//! The demo: everything on this machine, nothing to set up. [`plan`] decides names and ports, [`files`]
//! writes the folder, [`sample`] is the application behind the proxy.

pub mod files;
pub mod plan;
pub mod sample;
