//! A program publishes the record: `program args… present|cleanup <fqdn> <value>`.
//!
//! No shell is between, its environment is empty but for a search path, and what it writes is bounded.

use std::process::Stdio;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

use super::{DnsError, TxtRecord};
use crate::acme::options::DnsExec;

/// How much of the output is read, in bytes; the rest is thrown away.
const MAX_OUTPUT: u64 = 4096;
/// Where programs look for others.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(super) async fn present(settings: &DnsExec, record: &TxtRecord) -> Result<(), DnsError> {
    run(settings, "present", record).await?;
    tokio::time::sleep(settings.propagation).await;
    Ok(())
}

pub(super) async fn clean(settings: &DnsExec, record: &TxtRecord) -> Result<(), DnsError> {
    run(settings, "cleanup", record).await
}

async fn run(settings: &DnsExec, action: &str, record: &TxtRecord) -> Result<(), DnsError> {
    let failed = |what: String| DnsError::Program {
        program: settings.program.display().to_string(),
        what,
    };
    if !settings.program.is_absolute() {
        return Err(failed("must be given by its whole path".into()));
    }
    let mut child = Command::new(&settings.program)
        .args(&settings.args)
        .args([action, &record.fqdn, &record.value])
        .env_clear()
        .env("PATH", PATH)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(format!("cannot be started: {error}")))?;
    let errors = child.stderr.take();
    let finished = tokio::time::timeout(settings.timeout, async {
        tokio::join!(child.wait(), said(errors))
    });
    let Ok((status, said)) = finished.await else {
        return Err(failed(format!(
            "did not end within {} s and was stopped ({action})",
            settings.timeout.as_secs()
        )));
    };
    let status = status.map_err(|error| failed(error.to_string()))?;
    if status.success() {
        return Ok(());
    }
    Err(failed(format!("failed at {action}, {status}: {said}")))
}

/// The beginning of what the program said, in one line of printable text.
async fn said(stream: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut stream) = stream else {
        return String::new();
    };
    let mut text = Vec::new();
    if (&mut stream)
        .take(MAX_OUTPUT)
        .read_to_end(&mut text)
        .await
        .is_ok()
    {
        // A program that writes more must not wait for a reader.
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    }
    let text = String::from_utf8_lossy(&text);
    let printable = |character: char| if character.is_control() { ' ' } else { character };
    text.trim().chars().map(printable).collect()
}
