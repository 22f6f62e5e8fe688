//! Applications that end their HTTP/2 connections after a few requests, as nginx does after `keepalive_requests`: nobody notices.

use anyhow::{Result, ensure};
use pomerium_testing::{Environment, Route};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::upstream_h2_lies::{DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, OK, SETTINGS, frame};

/// Requests of a connection.
const EACH: u32 = 3;
const CLIENTS: usize = 16;
const REQUESTS: usize = 25;

const PREFACE: usize = 24;

/// Answers a few requests of a connection, says goodbye with the last answer, and looks at no more of them.
async fn serve(mut socket: TcpStream) -> Result<()> {
    socket.read_exact(&mut [0; PREFACE]).await?;
    socket.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
    let mut answered = 0;
    loop {
        let mut head = [0; 9];
        socket.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        socket.read_exact(&mut payload).await?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        if head[3] == SETTINGS && head[4] == 0 {
            socket.write_all(&frame(SETTINGS, 1, 0, &[])).await?;
        }
        if head[3] != HEADERS || answered == EACH {
            continue;
        }
        answered += 1;
        let mut answer = frame(HEADERS, END_HEADERS, stream, OK);
        answer.extend(frame(DATA, END_STREAM, stream, b"here"));
        if answered == EACH {
            let last = [stream.to_be_bytes(), 0_u32.to_be_bytes()].concat();
            answer.extend(frame(GOAWAY, 0, 0, &last));
        }
        socket.write_all(&answer).await?;
    }
}

#[tokio::test]
async fn requests_that_were_not_looked_at_are_sent_again() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let to = format!("h2c://{}", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(serve(socket));
        }
    });
    let env = Environment::builder()?
        .route(Route::new("open", &to).public())
        .start()
        .await?;
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (client, url) = (env.http1_client()?, env.url("open", "/"));
        clients.spawn(async move {
            for _ in 0..REQUESTS {
                let reply = client.get(&url).await?;
                ensure!(reply.status == 200, "{}: {}", reply.status, reply.text());
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = clients.join_next().await {
        done??;
    }
    Ok(())
}
