//! The differential corpus: a hundred messages of every doubtful kind against the HTTP/1 edge, with an upstream
//! behind it that forgives nothing. Whatever comes through was judged, in the same order, and nothing else comes
//! through.

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use pomerium_testing::{Environment, Route, within};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;

type Seen = Arc<Mutex<Vec<Result<(String, String), String>>>>;

/// Accepts only what the grammar of RFC 9112 says, one framing, one host.
async fn strict_upstream() -> Result<(String, Seen)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let seen = Seen::default();
    let keep = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let keep = keep.clone();
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                loop {
                    match request(&mut stream).await {
                        Ok(None) => return,
                        Ok(Some(request)) => {
                            keep.lock().await.push(Ok(request));
                            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                            if stream.get_mut().write_all(answer).await.is_err() {
                                return;
                            }
                        }
                        Err(error) => {
                            keep.lock().await.push(Err(format!("{error:#}")));
                            return;
                        }
                    }
                }
            });
        }
    });
    Ok((url, seen))
}

async fn line(stream: &mut BufReader<TcpStream>) -> Result<String> {
    let mut line = Vec::new();
    stream.read_until(b'\n', &mut line).await?;
    let text = line
        .strip_suffix(b"\r\n")
        .with_context(|| format!("{line:?} is no line"))?;
    ensure!(
        !text.contains(&b'\r') && !text.contains(&0),
        "{text:?} has a control character"
    );
    Ok(String::from_utf8(text.to_vec())?)
}

/// Method and path of one request; `None` when the connection ends between two, or in the middle of a body that
/// its sender gave up.
async fn request(stream: &mut BufReader<TcpStream>) -> Result<Option<(String, String)>> {
    if stream.fill_buf().await?.is_empty() {
        return Ok(None);
    }
    let first = line(stream).await?;
    let words: Vec<&str> = first.split(' ').collect();
    let [method, target, "HTTP/1.1"] = words[..] else {
        bail!("{first:?} is no request line")
    };
    ensure!(target.starts_with('/'), "{first:?}");
    let (mut hosts, mut lengths, mut codings) = (0, Vec::new(), Vec::new());
    loop {
        let field = line(stream).await?;
        if field.is_empty() {
            break;
        }
        let (name, value) = field
            .split_once(':')
            .with_context(|| format!("{field:?} is no field"))?;
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        ensure!(!name.is_empty() && name.bytes().all(token), "{field:?}");
        match name.to_ascii_lowercase().as_str() {
            "host" => hosts += 1,
            "content-length" => lengths.push(value.trim().to_owned()),
            "transfer-encoding" => codings.push(value.trim().to_owned()),
            _ => {}
        }
    }
    ensure!(hosts == 1, "{hosts} hosts in {first:?}");
    let body = match (&lengths[..], &codings[..]) {
        ([], []) => Some(()),
        ([length], []) => {
            ensure!(
                length.bytes().all(|byte| byte.is_ascii_digit()),
                "length {length:?}"
            );
            let mut body = vec![0; length.parse()?];
            stream.read_exact(&mut body).await.ok().map(|_| ())
        }
        ([], [coding]) => {
            ensure!(coding == "chunked", "coding {coding:?}");
            chunks(stream).await?
        }
        _ => bail!("two framings in {first:?}: {lengths:?} {codings:?}"),
    };
    let path = target.split('?').next().unwrap_or_default();
    Ok(body.map(|()| (method.to_owned(), path.to_owned())))
}

async fn chunks(stream: &mut BufReader<TcpStream>) -> Result<Option<()>> {
    loop {
        if stream.fill_buf().await?.is_empty() {
            return Ok(None);
        }
        let size = line(stream).await?;
        let size = usize::from_str_radix(&size, 16).with_context(|| format!("chunk size {size:?}"))?;
        let mut chunk = vec![0; size];
        if stream.read_exact(&mut chunk).await.is_err() {
            return Ok(None);
        }
        let end = line(stream).await?;
        ensure!(end.is_empty(), "a chunk longer than its size: {end:?}");
        if size == 0 {
            return Ok(Some(()));
        }
    }
}

/// Framing fields with the body that follows them.
const FRAMINGS: [(&str, &str); 27] = [
    ("", ""),
    ("Content-Length: 0\r\n", ""),
    ("Content-Length: 3\r\n", "abc"),
    ("Content-Length: 3\r\nContent-Length: 3\r\n", "abc"),
    ("Content-Length: 3, 3\r\n", "abc"),
    ("Content-Length: 3\r\nContent-Length: 4\r\n", "abc"),
    ("Content-Length: 03\r\n", "abc"),
    ("Content-Length: 3 \r\n", "abc"),
    ("Content-Length:\t3\r\n", "abc"),
    ("Content-Length: 3;a\r\n", "abc"),
    ("Content-Length: 18446744073709551619\r\n", "abc"),
    ("Content-Length: \r\n", ""),
    ("Content_Length: 3\r\n", "abc"),
    ("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n"),
    ("Transfer-Encoding: CHUNKED\r\n", "3\r\nabc\r\n0\r\n\r\n"),
    ("Transfer-Encoding: chunked\r\n", "3;x=y\r\nabc\r\n0\r\n\r\n"),
    ("Transfer-Encoding: chunked\r\n", "3\nabc\n0\n\n"),
    ("Transfer-Encoding: chunked\r\n", "0x3\r\nabc\r\n0\r\n\r\n"),
    ("Transfer-Encoding: chunked\r\n", " 3\r\nabc\r\n0\r\n\r\n"),
    ("Transfer-Encoding: chunked\r\n", "-3\r\nabc\r\n0\r\n\r\n"),
    (
        "Transfer-Encoding: chunked\r\n",
        "0\r\nHost: evil.example.org\r\n\r\n",
    ),
    (
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
        "3\r\nabc\r\n0\r\n\r\n",
    ),
    (
        "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n",
        "0\r\n\r\nX",
    ),
    (
        "Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n",
        "0\r\n\r\n",
    ),
    ("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"),
    ("Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n"),
    ("Transfer-Encoding\x00: chunked\r\n", "0\r\n\r\n"),
];

/// Request lines and what stands between them and the framing.
const HEADS: [&str; 5] = [
    "GET /first HTTP/1.1\r\nHost: {host}\r\n",
    "POST /first HTTP/1.1\r\nHost: {host}\r\n",
    "DELETE /first HTTP/1.1\r\nhOST: {host}\r\nX: é\r\n",
    "POST /first?a=/hidden HTTP/1.1\nHost: {host}\n",
    "POST http://{host}/first HTTP/1.1\r\nHost: other.example.com\r\n",
];

#[tokio::test]
async fn what_comes_through_is_what_was_judged() -> Result<()> {
    let (url, seen) = strict_upstream().await?;
    let env = Environment::builder()?
        .route(Route::new("open", &url).public())
        .start()
        .await?;
    let host = env.authority_of("open");
    let mut count = 0;
    for head in HEADS {
        for (framing, body) in FRAMINGS {
            count += 1;
            let tail = "GET /last HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n";
            let message = format!("{head}{framing}\r\n{body}{tail}")
                .replace("{host}", &host)
                .replace("/first", &format!("/first-{count}"))
                .replace("/last", &format!("/last-{count}"));
            let mut client = env.raw("open").await?;
            client.send(&message).await?;
            let answer = client.read_to_close().await?;
            let answer = String::from_utf8_lossy(&answer).into_owned();
            let arrived = std::mem::take(&mut *seen.lock().await);
            let arrived: Vec<(String, String)> = arrived
                .into_iter()
                .collect::<Result<_, _>>()
                .map_err(|error| anyhow::anyhow!("{message:?}: the upstream got {error}"))?;
            ensure!(
                arrived
                    .iter()
                    .all(|(_, path)| path.ends_with(&format!("-{count}")) && !path.contains("hidden")),
                "{message:?}: {arrived:?}"
            );
            ensure!(
                answer.matches("HTTP/1.1 200").count() == arrived.len(),
                "{message:?}: {arrived:?} but {answer:?}"
            );
            let judged = within("the log of what was judged", async {
                loop {
                    let judged = judged(&env, count);
                    if judged.len() >= arrived.len() {
                        return judged;
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
                }
            })
            .await?;
            // A request whose body breaks off was judged and has not arrived; nothing else may be missing.
            let mut left = judged.iter();
            ensure!(
                arrived.iter().all(|request| left.any(|judged| judged == request)),
                "{message:?}: {judged:?}, {arrived:?}"
            );
        }
    }
    ensure!(count > 100, "{count}");
    Ok(())
}

/// Method and path of every request of message `count` that was allowed.
fn judged(env: &Environment, count: usize) -> Vec<(String, String)> {
    let own = format!("-{count}");
    let lines = env.log().all();
    let allowed = lines.iter().filter_map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        let text = |key: &str| line[key].as_str().map(str::to_owned);
        let (method, path) = (text("method")?, text("path")?);
        let ours = line["message"] == "authorize check" && line["allow"] == true && path.ends_with(&own);
        ours.then_some((method, path))
    });
    allowed.collect()
}
