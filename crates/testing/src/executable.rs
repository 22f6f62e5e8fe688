//! Programs that tests write and the program under test starts.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// Writes a program. Another process does: a file that this one has open for writing may be inherited by whatever another
/// thread starts at that moment, and cannot be started until that lets go of it.
///
/// # Errors
/// The file cannot be written.
pub fn write_executable(path: &Path, text: &str) -> Result<()> {
    let mut writer = Command::new("sh")
        .args(["-c", "cat >\"$1\" && chmod 755 \"$1\"", "sh"])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .context("sh")?;
    let mut input = writer.stdin.take().context("no standard input")?;
    input.write_all(text.as_bytes())?;
    drop(input);
    ensure!(writer.wait()?.success(), "{} was not written", path.display());
    Ok(())
}
