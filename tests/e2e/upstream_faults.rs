//! Applications that are down, stall, reset or lie: a clear answer, a log line, nothing hung.

use anyhow::Result;
use pomerium_testing::{Environment, RawUpstream, Route, Step, Upstream, lease};

async fn behind(to: &str) -> Result<Environment> {
    Environment::builder()?
        .route(Route::new("open", to).public().set("timeout", "2s"))
        .start()
        .await
}

async fn ask(env: &Environment) -> Result<pomerium_testing::RawReply> {
    let mut client = env.raw("open").await?;
    let head = format!(
        "GET / HTTP/1.1\r\nHost: {}\r\nAccept: application/json\r\n\r\n",
        env.authority_of("open")
    );
    client.send(head).await?;
    client.reply(false).await
}

async fn logged(env: &Environment) -> Result<serde_json::Value> {
    env.log()
        .wait_json(0, "an access log line", |line| line["message"] == "http-request")
        .await
}

#[tokio::test]
async fn an_application_that_is_down_is_said_to_be_down() -> Result<()> {
    let nobody = lease()?;
    let env = behind(&format!("http://127.0.0.1:{}", nobody.number())).await?;
    let reply = ask(&env).await?;
    assert_eq!(reply.status, 503, "{}", reply.text());
    assert!(
        !reply.text().contains(&nobody.number().to_string()),
        "no address of the upstream: {}",
        reply.text()
    );
    assert_eq!(logged(&env).await?["response-code"], 503);
    Ok(())
}

#[tokio::test]
async fn an_application_that_stalls_is_timed_out() -> Result<()> {
    let upstream = Upstream::start().await?;
    let env = behind(&format!("{}/stall", upstream.url())).await?;
    let reply = ask(&env).await?;
    assert_eq!(reply.status, 504, "{}", reply.text());
    assert_eq!(logged(&env).await?["response-code-details"], "response_timeout");
    Ok(())
}

#[tokio::test]
async fn an_application_that_resets_gives_a_502_or_503() -> Result<()> {
    let upstream = RawUpstream::start(vec![Step::ReadHead, Step::Reset]).await?;
    let env = behind(&upstream.url()).await?;
    let reply = ask(&env).await?;
    assert!(matches!(reply.status, 502 | 503), "{}", reply.status);
    Ok(())
}

#[tokio::test]
async fn garbage_instead_of_http_gives_a_502_or_503() -> Result<()> {
    let upstream = RawUpstream::start(vec![
        Step::ReadHead,
        Step::write("SSH-2.0-nothing\r\n\r\n"),
        Step::Close,
    ])
    .await?;
    let env = behind(&upstream.url()).await?;
    let reply = ask(&env).await?;
    assert!(matches!(reply.status, 502 | 503), "{}", reply.status);
    Ok(())
}

#[tokio::test]
async fn a_body_shorter_than_its_length_is_not_passed_off_as_whole() -> Result<()> {
    let lie = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort";
    let upstream = RawUpstream::start(vec![Step::ReadHead, Step::write(lie), Step::Close]).await?;
    let env = behind(&upstream.url()).await?;
    assert!(ask(&env).await.is_err(), "a short body was passed off as whole");
    Ok(())
}

#[tokio::test]
async fn a_body_longer_than_its_length_does_not_leak_into_the_next_answer() -> Result<()> {
    let lie =
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirstHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let upstream = RawUpstream::start(vec![Step::ReadHead, Step::write(lie), Step::Hold]).await?;
    let env = behind(&upstream.url()).await?;
    let mut client = env.raw("open").await?;
    let head = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", env.authority_of("open"));
    client.send(&head).await?;
    assert_eq!(client.reply(false).await?.text(), "first");
    client.send(&head).await?;
    let second = client.reply(false).await?.text();
    assert_ne!(
        second, "evil",
        "an answer nobody asked for was given to the next request"
    );
    Ok(())
}

#[tokio::test]
async fn an_early_answer_reaches_the_client_before_the_body_is_sent() -> Result<()> {
    let upstream = Upstream::start().await?;
    let env = behind(&upstream.url()).await?;
    let mut client = env.raw("open").await?;
    let authority = env.authority_of("open");
    client
        .send(format!(
            "POST /early HTTP/1.1\r\nHost: {authority}\r\nContent-Length: 1000\r\n\r\nbegin"
        ))
        .await?;
    assert_eq!(client.reply(false).await?.text(), "early");
    Ok(())
}

#[tokio::test]
async fn informational_answers_do_not_confuse() -> Result<()> {
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let upstream = RawUpstream::start(vec![Step::ReadHead, Step::write(hints), Step::Hold]).await?;
    let env = behind(&upstream.url()).await?;
    let reply = ask(&env).await?;
    assert_eq!((reply.status, reply.text().as_str()), (200, "ok"));
    Ok(())
}
