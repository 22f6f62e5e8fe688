//! PROXY protocol headers at the beginning of a connection (spec proxy.md 1.4): who the client is, told by a
//! load balancer in front.
//!
//! [`read`] takes exactly the header from the socket and nothing behind it. With `trusted_proxies` only those
//! peers may send one; everybody else is turned away, because a connection without a header is not served
//! either. What the bytes mean is `parse`'s business.

mod parse;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use parse::{FIXED_V2, LONGEST_V1, Malformed, Named, SHORTEST, Version};

/// A header has this long to arrive.
const LIMIT: Duration = Duration::from_secs(10);

/// Why a connection is closed before anything is read as TLS or HTTP.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// The peer is not one of `trusted_proxies`.
    #[error("the peer is not one of trusted_proxies")]
    Untrusted,
    /// What came is no header.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// It did not come whole in time.
    #[error("no PROXY protocol header within 10 s")]
    Slow,
    /// The connection broke.
    #[error("the connection ended within the PROXY protocol header: {0}")]
    Ended(#[from] io::Error),
}

/// Reads the header of a connection from `peer` to `local`, and says who is at which end.
pub(crate) async fn read(
    socket: &mut TcpStream,
    (peer, local): (SocketAddr, SocketAddr),
    trusted: &[IpNet],
) -> Result<(SocketAddr, SocketAddr), Refused> {
    let ip = peer.ip().to_canonical();
    if !trusted.is_empty() && !trusted.iter().any(|net| net.contains(&ip)) {
        return Err(Refused::Untrusted);
    }
    let named = tokio::time::timeout(LIMIT, header(socket))
        .await
        .map_err(|_| Refused::Slow)??;
    Ok(match named {
        Named::Client { source, destination } => (source, destination),
        Named::Nobody => (peer, local),
    })
}

async fn header(stream: &mut TcpStream) -> Result<Named, Refused> {
    let mut first = [0; SHORTEST];
    // Byte for byte at first: whoever speaks TLS or HTTP is told apart before the shortest header is whole.
    let mut have = 0;
    while have < SHORTEST {
        let read = stream.read(&mut first[have..]).await?;
        if read == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        have += read;
        if !may_begin(&first[..have]) {
            return Err(Malformed::Absent.into());
        }
    }
    match parse::version(&first)? {
        Version::One => line(stream, &first).await,
        Version::Two => binary(stream, &first).await,
    }
}

fn may_begin(bytes: &[u8]) -> bool {
    [&b"PROXY "[..], b"\r\n\r\n\0\r\nQUIT\n"]
        .into_iter()
        .any(|begin| {
            let both = begin.len().min(bytes.len());
            begin[..both] == bytes[..both]
        })
}

/// The rest of a version 1 line. What is looked at is taken up to the line end and no further.
async fn line(stream: &mut TcpStream, first: &[u8]) -> Result<Named, Refused> {
    let mut line = [0; LONGEST_V1];
    let mut have = first.len();
    line[..have].copy_from_slice(first);
    while !line[..have].ends_with(b"\n") {
        let seen = stream.peek(&mut line[have..]).await?;
        if seen == 0 {
            let full = have == LONGEST_V1;
            let ended = io::Error::from(io::ErrorKind::UnexpectedEof);
            return Err(if full {
                Malformed::TooLong.into()
            } else {
                ended.into()
            });
        }
        let new = &line[have..have + seen];
        let take = new
            .iter()
            .position(|byte| *byte == b'\n')
            .map_or(seen, |at| at + 1);
        stream.read_exact(&mut line[have..have + take]).await?;
        have += take;
    }
    Ok(parse::v1(&line[..have])?)
}

async fn binary(stream: &mut TcpStream, first: &[u8; SHORTEST]) -> Result<Named, Refused> {
    let mut fixed = [0; FIXED_V2];
    fixed[..SHORTEST].copy_from_slice(first);
    stream.read_exact(&mut fixed[SHORTEST..]).await?;
    let mut rest = vec![0; parse::v2_rest(&fixed)?];
    stream.read_exact(&mut rest).await?;
    Ok(parse::v2(&fixed, &rest)?)
}
