//! Running other programs: echo the command, pass output through, turn a bad exit into an error.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The root of the clone. Asked of cargo at run time: clones that share a build folder share this program,
/// so a path compiled into it may be that of another clone.
pub fn root() -> PathBuf {
    let member = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from("xtask"), PathBuf::from);
    member.parent().map(Path::to_path_buf).unwrap_or_default()
}

/// `cargo` as it called us, in the root of the clone.
pub fn cargo<I: IntoIterator<Item = S>, S: AsRef<std::ffi::OsStr>>(args: I) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).args(args);
    command
}

/// Runs a command in the foreground; an exit code other than 0 is an error that names the command.
pub fn check(command: &mut Command) -> Result<()> {
    let text = describe(command);
    eprintln!("$ {text}");
    let status = command
        .status()
        .with_context(|| format!("cannot start `{text}`"))?;
    if !status.success() {
        bail!("`{text}` failed ({status})");
    }
    Ok(())
}

/// Runs a command quietly and returns its standard output; on failure the error holds its last words.
pub fn output(command: &mut Command) -> Result<String> {
    let text = describe(command);
    let result = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{text}`"))?;
    if !result.status.success() {
        let said = String::from_utf8_lossy(&result.stderr);
        let tail: Vec<&str> = said.lines().rev().take(12).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        bail!("`{text}` failed ({}):\n{}", result.status, tail.join("\n"));
    }
    Ok(String::from_utf8_lossy(&result.stdout).into_owned())
}

/// Where a program is on the PATH (or in one of `extra`, which come first).
pub fn find(program: &str, extra: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    extra
        .iter()
        .cloned()
        .chain(std::env::split_paths(&path))
        .chain(usual)
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

/// A command as a person would type it, without the folder of the program.
pub fn describe(command: &Command) -> String {
    let mut text = Path::new(command.get_program())
        .file_name()
        .unwrap_or_else(|| command.get_program())
        .to_string_lossy()
        .into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}
