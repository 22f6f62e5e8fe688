//! `pomerium user add`: users of the built-in identity provider.

use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use pomerium_config::Loader;
use pomerium_config::users_file::{self, UserEntry};
use pomerium_crypto::password;

use super::{environment, print, print_error};
use crate::cli::UserAddArgs;
use crate::demo::files::write_private;

/// Shortest password that is taken, characters.
const SHORTEST: usize = 8;

/// Adds or replaces a user in the users file. The running program takes it within a second.
pub fn add(args: &UserAddArgs) -> anyhow::Result<ExitCode> {
    if !users_file::is_address(&args.email) {
        bail!("\"{}\" is no e-mail address; people sign in with one", args.email);
    }
    let file = users_file(args)?;
    let password = read_password()?;
    let entry = UserEntry {
        email: args.email.to_lowercase(),
        name: args.name.clone(),
        groups: args.groups.clone(),
        password_hash: password::hash(&password)?,
    };
    let mut users = users_file::read(&file)?;
    let replaced = users
        .iter()
        .position(|user| user.email == entry.email)
        .map(|index| users.remove(index))
        .is_some();
    let (email, word) = (entry.email.clone(), if replaced { "changed" } else { "added" });
    users.push(entry);
    write_private(&file, users_file::write(&users).as_bytes())?;
    print(&format!("{word} {email} in {}", file.display()));
    Ok(ExitCode::SUCCESS)
}

/// The file named on the command line, else the one the configuration uses.
fn users_file(args: &UserAddArgs) -> anyhow::Result<PathBuf> {
    if let Some(file) = &args.users_file {
        return Ok(file.clone());
    }
    let loaded = Loader::new(args.config.as_deref(), &environment())
        .dry_run()
        .load()?;
    loaded
        .settings
        .authenticate
        .local_idp
        .users_file
        .context("the configuration does not say `idp_provider: local`; name the file with --users-file")
}

fn read_password() -> anyhow::Result<String> {
    if std::io::stdin().is_terminal() {
        print_error("Password (it will be visible; pipe it in to avoid that), then Enter:");
    }
    let mut text = String::new();
    std::io::stdin()
        .take(4096)
        .read_to_string(&mut text)
        .context("the password could not be read from standard input")?;
    let password = text.lines().next().unwrap_or_default().to_owned();
    if password.chars().count() < SHORTEST {
        bail!("the password is shorter than {SHORTEST} characters; choose a longer one");
    }
    Ok(password)
}
