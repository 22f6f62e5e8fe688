//! Answers and the connections they come over (pingora CVE-2025-4366 and its kind: a body that is not
//! drained before its connection serves again). Whatever an upstream sends beyond one answer, and
//! whatever a client leaves unsent of a request, ends with its connection and never meets another request.

use anyhow::{Context, Result, ensure};
use pomerium_testing::{Environment, RawClient, RawUpstream, Route, Step, Upstream};

const POISON: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON";

async fn behind(to: &str) -> Result<Environment> {
    Environment::builder()?
        .route(Route::new("open", to).public().set("timeout", "5s"))
        .start()
        .await
}

fn request(env: &Environment, line: &str, more: &str) -> String {
    let authority = env.authority_of("open");
    format!("{line} HTTP/1.1\r\nHost: {authority}\r\n{more}\r\n")
}

/// One request whose answer brings more than it should, then two more on the same client connection and
/// on another one: nobody gets what was left over, and no connection serves twice.
async fn poisoned(name: &str, line: &str, answer: &str) -> Result<()> {
    let bytes = format!("{answer}{POISON}");
    let upstream = RawUpstream::start(vec![Step::ReadHead, Step::write(&bytes), Step::Hold]).await?;
    let env = behind(&upstream.url()).await?;
    let is_head = line.starts_with("HEAD");
    let mut first = env.raw("open").await?;
    let mut second = env.raw("open").await?;
    for client in [&mut first, &mut second] {
        for turn in 0..2 {
            client.send(request(&env, line, "")).await?;
            let reply = client
                .reply(is_head)
                .await
                .with_context(|| format!("{name}, turn {turn}"))?;
            ensure!(!reply.text().contains("POISON"), "{name}, turn {turn}: {reply:?}");
        }
    }
    // Each connection of the upstream saw one request, whole and alone.
    for connection in upstream.received() {
        let text = String::from_utf8_lossy(&connection).into_owned();
        ensure!(text.matches(" HTTP/1.1\r\n").count() == 1, "{name}: {text:?}");
    }
    ensure!(
        upstream.received().len() == 4,
        "{name}: {}",
        upstream.received().len()
    );
    Ok(())
}

#[tokio::test]
async fn what_follows_an_answer_is_given_to_nobody() -> Result<()> {
    let ok = "HTTP/1.1 200 OK\r\n";
    let length = format!("{ok}Content-Length: 5\r\n\r\nfirst");
    poisoned("a longer body", "GET /", &length).await?;
    let chunks = format!("{ok}Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n0\r\n\r\n");
    poisoned("bytes behind the last chunk", "GET /", &chunks).await?;
    poisoned(
        "an empty body",
        "GET /",
        &format!("{ok}Content-Length: 0\r\n\r\n"),
    )
    .await?;
    poisoned("204", "GET /", "HTTP/1.1 204 No Content\r\n\r\n").await?;
    poisoned(
        "204 with a length",
        "GET /",
        "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nfirst",
    )
    .await?;
    poisoned(
        "304",
        "GET /",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
    )
    .await
}

#[tokio::test]
async fn a_body_that_answers_head_is_given_to_nobody() -> Result<()> {
    let ok = "HTTP/1.1 200 OK\r\n";
    poisoned(
        "HEAD with a body",
        "HEAD /",
        &format!("{ok}Content-Length: 5\r\n\r\nfirst"),
    )
    .await?;
    let chunks = format!("{ok}Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n0\r\n\r\n");
    poisoned("HEAD with chunks", "HEAD /", &chunks).await
}

/// A connection that is at rest gets bytes: they answer nothing.
#[tokio::test]
async fn an_answer_before_its_request_is_given_to_nobody() -> Result<()> {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst";
    let upstream = RawUpstream::start(vec![
        Step::ReadHead,
        Step::write(answer),
        Step::Pause("leave"),
        Step::write(POISON),
        Step::Hold,
    ])
    .await?;
    let env = behind(&upstream.url()).await?;
    let mut client = env.raw("open").await?;
    client.send(request(&env, "GET /", "")).await?;
    ensure!(client.reply(false).await?.text() == "first");
    upstream.go_on("leave");
    // The proxy notices, and ends the connection without anybody asking.
    upstream.wait_finished(1).await?;
    client.send(request(&env, "GET /", "")).await?;
    ensure!(client.reply(false).await?.text() == "first");
    ensure!(upstream.received().len() == 2);
    Ok(())
}

/// CVE-2025-4366: an early answer leaves the rest of the request unsent; sent as it comes, it would be
/// the beginning of the next request.
#[tokio::test]
async fn a_request_answered_before_its_end_takes_its_connection_along() -> Result<()> {
    answered_early("Content-Length: 1000\r\n").await?;
    answered_early("Transfer-Encoding: chunked\r\n").await
}

async fn answered_early(framing: &str) -> Result<()> {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst";
    let upstream = RawUpstream::start(vec![Step::ReadHead, Step::write(answer), Step::Hold]).await?;
    let env = behind(&upstream.url()).await?;
    let mut client = env.raw("open").await?;
    client.send(request(&env, "POST /", framing)).await?;
    client.wait_for_bytes(b"first").await?;
    // The rest of the body comes now, and looks like a request.
    let _ = client.send(request(&env, "GET /smuggled", "")).await;
    let mut other = env.raw("open").await?;
    other.send(request(&env, "GET /other", "")).await?;
    ensure!(other.reply(false).await?.text() == "first");
    let connections = upstream.received();
    ensure!(connections.len() == 2, "{framing}: the connection served again");
    for (connection, line) in connections.iter().zip(["POST / ", "GET /other "]) {
        let text = String::from_utf8_lossy(connection).into_owned();
        ensure!(text.starts_with(line), "{framing}: {text:?}");
        ensure!(
            text.matches(" HTTP/1.1\r\n").count() == 1 || line == "POST / ",
            "{text:?}"
        );
    }
    Ok(())
}

/// A client that leaves in the middle of an answer: what is left of it goes nowhere.
#[tokio::test]
async fn an_answer_nobody_reads_to_its_end_takes_its_connection_along() -> Result<()> {
    let begin = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegin";
    let upstream = RawUpstream::start(vec![Step::ReadHead, Step::write(begin), Step::Hold]).await?;
    let env = behind(&upstream.url()).await?;
    let mut client = env.raw("open").await?;
    client.send(request(&env, "GET /", "")).await?;
    client.wait_for_bytes(b"begin").await?;
    drop(client);
    upstream.wait_finished(1).await?;
    let mut other = env.raw("open").await?;
    other.send(request(&env, "GET /", "")).await?;
    other.wait_for_bytes(b"begin").await?;
    ensure!(upstream.received().len() == 2);
    Ok(())
}

/// The same for a client that leaves before its own request has ended.
#[tokio::test]
async fn a_request_nobody_ends_takes_its_connection_along() -> Result<()> {
    let upstream = RawUpstream::start(vec![Step::ReadHead, Step::Hold]).await?;
    let env = behind(&upstream.url()).await?;
    let mut client = env.raw("open").await?;
    client
        .send(request(&env, "POST /", "Content-Length: 100\r\n"))
        .await?;
    client.send("half").await?;
    upstream.wait_received(b"half").await?;
    drop(client);
    upstream.wait_finished(1).await?;
    let received = upstream.received();
    let text = String::from_utf8_lossy(&received[0]).into_owned();
    ensure!(text.ends_with("\r\n\r\nhalf"), "the rest was made up: {text:?}");
    Ok(())
}

/// Trailers of an upstream are fields, not a message: what could frame or route does not pass as such.
#[tokio::test]
async fn trailers_do_not_become_headers() -> Result<()> {
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Content-Length, Set-Cookie\r\n\r\n\
                  5\r\nfirst\r\n0\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\nSet-Cookie: a=b\r\n\r\n";
    let upstream = RawUpstream::start(vec![Step::ReadHead, Step::write(answer), Step::Hold]).await?;
    let env = behind(&upstream.url()).await?;
    let mut client = env.raw("open").await?;
    for _ in 0..2 {
        client.send(request(&env, "GET /", "TE: trailers\r\n")).await?;
        let reply = client.reply(false).await?;
        ensure!(
            reply.text() == "first" && reply.header("set-cookie").is_none(),
            "{reply:?}"
        );
        ensure!(reply.header("content-length").is_none(), "{reply:?}");
    }
    Ok(())
}

/// Two people at once: each gets the answers to their own requests, whatever goes wrong for others.
#[tokio::test]
async fn answers_are_never_swapped_among_broken_ones() -> Result<()> {
    let upstream = Upstream::start().await?;
    let env = behind(&upstream.url()).await?;
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(env.raw("open").await?);
    }
    for turn in 0..20 {
        // Every third one leaves early; its connection upstream must not serve the others.
        for (number, client) in clients.iter_mut().enumerate() {
            let path = format!("GET /{turn}/{number}");
            let more = format!("X-Who: {turn}-{number}\r\nContent-Length: 4\r\n");
            client.send(request(&env, &path, &more)).await?;
            if number % 3 == 0 {
                *client = env.raw("open").await?;
                continue;
            }
            client.send("body").await?;
        }
        for (number, client) in clients
            .iter_mut()
            .enumerate()
            .filter(|(number, _)| number % 3 != 0)
        {
            own(client, &format!("{turn}-{number}")).await?;
        }
    }
    Ok(())
}

async fn own(client: &mut RawClient, who: &str) -> Result<()> {
    let reply = client.reply(false).await?;
    let echoed: serde_json::Value = serde_json::from_slice(&reply.body)?;
    ensure!(
        echoed.to_string().contains(&format!("\"{who}\"")),
        "{who} got {echoed}"
    );
    Ok(())
}

/// An application shares its parent domain with others: it cannot plant a session there, or end one, by a cookie of ours.
#[tokio::test]
async fn applications_set_no_cookies_of_ours() -> Result<()> {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nSet-Cookie: own=1; Path=/\r\nSet-Cookie: _pomerium=planted; Domain=example.com\r\n\
        Set-Cookie: _pomerium_csrf=planted\r\nSet-Cookie:  _pomerium_authenticate=planted; Secure\r\nSet-Cookie: _pomerium_own=2\r\n\
        X-Pomerium-Intercepted-Response: true\r\n\r\nok";
    let upstream = RawUpstream::start(vec![Step::ReadHead, Step::write(answer), Step::Hold]).await?;
    let env = behind(&upstream.url()).await?;
    let mut client = env.raw("open").await?;
    client.send(request(&env, "GET /", "")).await?;
    let reply = client.reply(false).await?;
    let set = reply
        .headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"));
    let set: Vec<&str> = set.map(|(_, value)| value.as_str()).collect();
    assert_eq!(set, ["own=1; Path=/", "_pomerium_own=2"]);
    assert_eq!(reply.header("x-pomerium-intercepted-response"), None);
    Ok(())
}
