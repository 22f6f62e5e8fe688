//! One file per command. A command prints to standard output; everything else goes to the log.

pub mod databroker;
pub mod demo;
pub mod health;
pub mod init;
pub mod policy;
pub mod run;
pub mod schema;
pub mod session;
pub mod shared_secret;
pub mod user;
pub mod validate;

use std::collections::BTreeMap;
use std::io::Write;

/// Prints a line for the person who typed the command. A closed pipe is not an error.
pub fn print(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Prints a line to standard error.
pub fn print_error(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// The environment as configuration source; names and values that are not UTF-8 cannot be options.
pub fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}
