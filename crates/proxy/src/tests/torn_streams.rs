//! Requests that are given up on a connection that others share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::support::*;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// `:status: 200`.
const OK: &[u8] = &[0x88];

/// Requests given up at a time, of the hundred that share a connection, and how often.
const AT_A_TIME: usize = 90;
const ROUNDS: usize = 25;

/// What the upstream has seen of a stream that is not the first.
#[derive(Debug, PartialEq)]
enum Seen {
    Request,
    Reset,
}

async fn frame(socket: &mut TcpStream) -> Option<(u8, u32)> {
    let mut head = [0; 9];
    socket.read_exact(&mut head).await.ok()?;
    let length = u64::from(u32::from_be_bytes([0, head[0], head[1], head[2]]));
    tokio::io::copy(&mut (&mut *socket).take(length), &mut tokio::io::sink())
        .await
        .ok()?;
    Some((head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]])))
}

async fn write(socket: &mut TcpStream, (kind, flags): (u8, u8), stream: u32, payload: &[u8]) {
    let length = u8::try_from(payload.len()).unwrap();
    let mut bytes = vec![0, 0, length, kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    socket.write_all(&bytes).await.unwrap();
}

/// Answers the first request and goes on with it when all others were given up. An answer to each of those is on its
/// way at that moment.
async fn talk(mut socket: TcpStream, seen: mpsc::UnboundedSender<Seen>) {
    let mut resets = 0;
    socket.read_exact(&mut [0; 24]).await.unwrap();
    write(&mut socket, (4, 0), 0, &[]).await;
    while let Some((kind, stream)) = frame(&mut socket).await {
        match (kind, stream) {
            (HEADERS, 1) => write(&mut socket, (HEADERS, END_HEADERS), 1, OK).await,
            (HEADERS, _) => seen.send(Seen::Request).unwrap(),
            (RST_STREAM, given_up) => {
                write(&mut socket, (HEADERS, END_HEADERS), given_up, OK).await;
                write(&mut socket, (DATA, END_STREAM), given_up, b"late").await;
                resets += 1;
                seen.send(Seen::Reset).unwrap();
                if resets == AT_A_TIME * ROUNDS {
                    write(&mut socket, (DATA, END_STREAM), 1, b"long").await;
                }
            }
            _ => {}
        }
    }
}

async fn ask(proxy: &Proxy) -> Client {
    let mut client = proxy.connect().await;
    client
        .send("GET / HTTP/1.1\r\nHost: app.example.com\r\n\r\n")
        .await;
    client
}

#[tokio::test]
async fn requests_that_are_given_up_do_not_end_those_beside_them() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, mut seen) = mpsc::unbounded_channel();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(talk(socket, sender.clone()));
        }
    });
    let routes = public(address, "").replace("to: http:", "to: h2c:");
    let proxy = Proxy::start(&settings("", &routes)).await;
    let mut long = ask(&proxy).await;
    assert_eq!(long.head().await.0, 200);
    for round in 0..ROUNDS {
        let mut given_up = Vec::new();
        for _ in 0..AT_A_TIME {
            given_up.push(ask(&proxy).await);
        }
        for _ in 0..AT_A_TIME {
            assert_eq!(seen.recv().await, Some(Seen::Request), "round {round}");
        }
        drop(given_up);
        for _ in 0..AT_A_TIME {
            assert_eq!(seen.recv().await, Some(Seen::Reset), "round {round}");
        }
    }
    assert_eq!(String::from_utf8(long.until("long").await).unwrap(), "4\r\nlong");
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}
