//! TCP: connecting is enough, unless there are bytes to send and to find in the answer.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::matcher::Matcher;
use super::{Kept, MAX_ANSWER, Prober, Report};
use crate::upstream::connect::Stream;

pub(super) async fn probe(prober: &Prober, send: &[u8], receive: &[Vec<u8>], kept: Kept) -> (Report, Kept) {
    if let Kept::Stream(stream) = kept {
        let (report, kept) = exchange(stream, send, receive).await;
        if matches!(kept, Kept::Stream(_)) {
            return (report, kept);
        }
        // The host may have closed it between two probes, which says nothing.
    }
    match prober.dial().await {
        Ok(stream) => exchange(Box::new(stream), send, receive).await,
        Err(error) => (Report::silent(error.to_string()), Kept::Nothing),
    }
}

async fn exchange(mut stream: Box<Stream>, send: &[u8], receive: &[Vec<u8>]) -> (Report, Kept) {
    let failed = |reason: String| (Report::silent(reason), Kept::Nothing);
    if let Err(error) = write(&mut stream, send).await {
        return failed(format!("cannot send: {error}"));
    }
    if receive.is_empty() {
        return (Report::good(), Kept::Nothing);
    }
    let mut matcher = Matcher::new(receive, MAX_ANSWER);
    let mut buffer = [0; 4096];
    while !matcher.matched() {
        match stream.read(&mut buffer).await {
            Ok(0) => return failed("closed before the expected answer".into()),
            Ok(read) => matcher.push(buffer.get(..read).unwrap_or_default()),
            Err(error) => return failed(format!("cannot read: {error}")),
        }
        if matcher.is_full() && !matcher.matched() {
            return failed(format!(
                "the expected answer is not in the first {MAX_ANSWER} bytes"
            ));
        }
    }
    (Report::good(), Kept::Stream(stream))
}

async fn write(stream: &mut Stream, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}
