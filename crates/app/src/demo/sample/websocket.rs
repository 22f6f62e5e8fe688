//! A WebSocket echo: answers every text or binary message with itself (RFC 6455).

use base64::Engine as _;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// RFC 6455 section 1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Longest message that is echoed, bytes.
const LIMIT: u64 = 64 * 1024;

const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

/// Whether the request asks to become a WebSocket.
pub fn asked_for(headers: &HeaderMap) -> bool {
    headers
        .get(header::UPGRADE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Switches protocols and echoes until the other side closes.
pub fn accept(request: Request<Incoming>) -> Response<Full<Bytes>> {
    let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY).cloned() else {
        return super::plain(StatusCode::BAD_REQUEST, "Sec-WebSocket-Key is missing\n");
    };
    tokio::spawn(async move {
        match hyper::upgrade::on(request).await {
            Ok(upgraded) => {
                if let Err(error) = echo(TokioIo::new(upgraded)).await {
                    tracing::debug!(%error, "sample application: websocket ended");
                }
            }
            Err(error) => tracing::debug!(%error, "sample application: upgrade failed"),
        }
    });
    let mut answer = super::plain(StatusCode::SWITCHING_PROTOCOLS, "");
    let headers = answer.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(value) = HeaderValue::from_str(&accept_key(key.as_bytes())) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, value);
    }
    answer
}

fn accept_key(key: &[u8]) -> String {
    let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY);
    digest.update(key);
    digest.update(GUID.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(digest.finish())
}

async fn echo<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> std::io::Result<()> {
    loop {
        let Some((head, payload)) = read_frame(&mut stream).await? else {
            return Ok(());
        };
        match head & 0x0f {
            CLOSE => return write_frame(&mut stream, 0x80 | CLOSE, &payload).await,
            PING => write_frame(&mut stream, 0x80 | PONG, &payload).await?,
            PONG => {}
            _ => write_frame(&mut stream, head, &payload).await?,
        }
    }
}

/// One frame, unmasked: its first byte and its payload; `None` when it is too long to echo.
async fn read_frame<S: AsyncRead + Unpin>(stream: &mut S) -> std::io::Result<Option<(u8, Vec<u8>)>> {
    let head = stream.read_u8().await?;
    let second = stream.read_u8().await?;
    let length = match second & 0x7f {
        126 => u64::from(stream.read_u16().await?),
        127 => stream.read_u64().await?,
        short => u64::from(short),
    };
    if length > LIMIT || second & 0x80 == 0 {
        return Ok(None);
    }
    let mut mask = [0; 4];
    stream.read_exact(&mut mask).await?;
    let mut payload = vec![0; usize::try_from(length).unwrap_or_default()];
    stream.read_exact(&mut payload).await?;
    payload
        .iter_mut()
        .zip(mask.iter().cycle())
        .for_each(|(byte, mask)| *byte ^= mask);
    Ok(Some((head, payload)))
}

async fn write_frame<S: AsyncWrite + Unpin>(stream: &mut S, head: u8, payload: &[u8]) -> std::io::Result<()> {
    let mut frame = vec![head];
    match u16::try_from(payload.len()) {
        Ok(length) if length < 126 => frame.push(u8::try_from(length).unwrap_or_default()),
        Ok(length) => {
            frame.push(126);
            frame.extend(length.to_be_bytes());
        }
        Err(_) => {
            frame.push(127);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    stream.write_all(&frame).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_key_is_that_of_the_rfc() {
        assert_eq!(
            accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }

    #[tokio::test]
    async fn a_masked_message_comes_back_unmasked() {
        let (mut client, server) = tokio::io::duplex(1024);
        let task = tokio::spawn(echo(server));
        client
            .write_all(&[0x81, 0x82, 1, 2, 3, 4, b'h' ^ 1, b'i' ^ 2])
            .await
            .unwrap();
        let mut answer = [0; 4];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, &[0x81, 2, b'h', b'i']);
        client.write_all(&[0x88, 0x80, 0, 0, 0, 0]).await.unwrap();
        task.await.unwrap().unwrap();
    }
}
