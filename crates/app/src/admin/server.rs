//! The server's side of the socket.

use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use super::impersonation::{Caller, Sessions};
use super::protocol::{Answer, LONGEST_QUESTION, Question};
use super::socket_path;
use crate::accept::{self, Door};

/// A command calls, and goes.
const DOOR: Door = Door {
    name: "admin",
    most: 4,
    parting: Duration::ZERO,
};
/// How long one may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Opens the socket of `data_dir` and answers until `stop`.
///
/// Errors when the folder is not ours alone, or the socket cannot be opened.
pub fn start(data_dir: &Path, sessions: Sessions, stop: CancellationToken) -> anyhow::Result<()> {
    let path = socket_path(data_dir);
    private_folder(path.parent().unwrap_or(data_dir))?;
    // That of a process before us, or of one that we take over from: it has its own handle.
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("{} is in the way", path.display()));
        }
        _ => {}
    }
    let listener = UnixListener::bind(&path).with_context(|| format!("cannot open {}", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    let sessions = Arc::new(sessions);
    let served = move |stream| served(stream, Arc::clone(&sessions));
    tokio::spawn(accept::serve(DOOR, listener, stop, served));
    Ok(())
}

/// The socket is opened inside: from its first moment nobody else can reach it.
fn private_folder(folder: &Path) -> anyhow::Result<()> {
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder);
    made.with_context(|| format!("cannot make {}", folder.display()))?;
    let metadata = std::fs::symlink_metadata(folder)?;
    if !metadata.is_dir() || metadata.uid() != own_uid() {
        bail!("{} must be a folder that belongs to this user", folder.display());
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

async fn served(stream: UnixStream, sessions: Arc<Sessions>) {
    match tokio::time::timeout(TIMEOUT, answer(stream, &sessions)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(error = format!("{error:#}"), "admin: a caller got no answer"),
        Err(_) => tracing::warn!("admin: a caller took too long"),
    }
}

async fn answer(mut stream: UnixStream, sessions: &Sessions) -> anyhow::Result<()> {
    let caller = stream.peer_cred().context("who calls is not told")?;
    let (uid, pid) = (caller.uid(), caller.pid());
    if !may_ask(uid) {
        bail!("user {uid} may not ask");
    }
    let mut text = String::new();
    let (reading, mut writing) = stream.split();
    BufReader::new(reading.take(LONGEST_QUESTION))
        .read_line(&mut text)
        .await?;
    let answer = match serde_json::from_str::<Question>(&text) {
        Ok(question) => sessions.answer(question, Caller { uid, pid }).await,
        Err(error) => Answer::Refused(format!(
            "the question cannot be read ({error}): are command and server of one version?"
        )),
    };
    let mut line = serde_json::to_vec(&answer)?;
    line.push(b'\n');
    writing.write_all(&line).await?;
    writing.shutdown().await?;
    Ok(())
}

/// The owner of this process, and root, who could do all of this anyway.
fn may_ask(uid: u32) -> bool {
    uid == own_uid() || uid == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_owner_and_root_may_ask() {
        assert!(may_ask(own_uid()) && may_ask(0));
        assert!(!may_ask(own_uid().wrapping_add(4711)));
    }

    #[test]
    fn a_folder_that_others_can_open_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("admin");
        std::fs::create_dir(&folder).unwrap();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
        private_folder(&folder).unwrap();
        assert_eq!(
            std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777,
            0o700
        );
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&folder, &link).unwrap();
        assert!(private_folder(&link).is_err(), "a link leads elsewhere");
    }
}
