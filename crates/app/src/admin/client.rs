//! The command line's side of the socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};

use super::protocol::{Answer, LONGEST_ANSWER, Question};
use super::socket_path;

const TIMEOUT: Duration = Duration::from_secs(30);

/// Asks the server whose data folder this is.
///
/// Errors when none runs there, it may not be asked, or it refuses.
pub fn ask(data_dir: &Path, question: &Question) -> anyhow::Result<Answer> {
    let path = socket_path(data_dir);
    let stream = UnixStream::connect(&path).with_context(|| {
        format!(
            "cannot reach the server at {}; is Pomerium running with this data folder, and is this its user or root?",
            path.display()
        )
    })?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let mut line = serde_json::to_vec(question)?;
    line.push(b'\n');
    (&stream).write_all(&line)?;
    let mut text = String::new();
    BufReader::new(stream.take(LONGEST_ANSWER)).read_line(&mut text)?;
    if text.is_empty() {
        bail!("the server gave no answer; its log says why");
    }
    match serde_json::from_str(&text).context("the answer of the server cannot be read")? {
        Answer::Refused(why) => bail!("{why}"),
        answer => Ok(answer),
    }
}
