//! Applications that answer over HTTP/1.1 what is no answer: each lie has its status, flag and details
//! (spec proxy.md 7), nothing hangs, and other routes go on.

use anyhow::{Context, Result, ensure};
use pomerium_testing::{Environment, RawUpstream, Route, Step, Upstream};

const BROKEN: &str = "protocol_error";
const CLOSED: &str = "connection_termination";
const SLOW: &str = "response_timeout";

/// The route `open` goes to the liar, `good` to an application that behaves.
struct Stage {
    env: Environment,
    liar: RawUpstream,
    _good: Upstream,
}

impl Stage {
    async fn new(script: Vec<Step>) -> Result<Stage> {
        let liar = RawUpstream::start(script).await?;
        let good = Upstream::start().await?;
        let env = Environment::builder()?
            .route(Route::new("open", &liar.url()).public().set("timeout", "2s"))
            .route(Route::new("good", &good.url()).public())
            .start()
            .await?;
        Ok(Stage {
            env,
            liar,
            _good: good,
        })
    }

    fn request(&self, name: &str, line: &str) -> String {
        let authority = self.env.authority_of(name);
        format!("{line} HTTP/1.1\r\nHost: {authority}\r\nAccept: application/json\r\n\r\n")
    }

    /// The other route answers, and the liar's connection is not kept.
    async fn unharmed(&self) -> Result<()> {
        let mut client = self.env.raw("good").await?;
        client.send(self.request("good", "GET /")).await?;
        ensure!(client.reply(false).await?.status == 200, "another route suffers");
        self.liar
            .wait_finished(1)
            .await
            .context("its connection was kept")
    }
}

/// The liar's words instead of an answer: what the client and the access log get.
async fn refused(name: &str, then: Vec<Step>, status: u16, details: &str) -> Result<()> {
    let mut script = vec![Step::ReadHead];
    script.extend(then);
    let stage = Stage::new(script).await?;
    let mut client = stage.env.raw("open").await?;
    client.send(stage.request("open", "GET /")).await?;
    let reply = client.reply(false).await.with_context(|| name.to_owned())?;
    ensure!(
        reply.status == status,
        "{name}: {} {}",
        reply.status,
        reply.text()
    );
    ensure!(reply.text().contains(details), "{name}: {}", reply.text());
    let line = stage
        .env
        .log()
        .wait_json(0, "an access log line", |line| line["message"] == "http-request")
        .await?;
    let logged = line["response-code-details"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    ensure!(logged.contains(details), "{name}: logged {logged}");
    stage.unharmed().await.with_context(|| name.to_owned())
}

fn head(lines: &str) -> Vec<Step> {
    vec![
        Step::Write(format!("HTTP/1.1 200 OK\r\n{lines}\r\n").into_bytes()),
        Step::Hold,
    ]
}

#[tokio::test]
async fn what_is_no_http_is_a_broken_protocol() -> Result<()> {
    let words = |text: &str| vec![Step::write(text), Step::Hold];
    refused("garbage", words("SSH-2.0-nothing\r\n\r\n"), 502, BROKEN).await?;
    refused("HTTP/0.9", words("<html>hello</html>\r\n\r\n"), 502, BROKEN).await?;
    refused("another version", words("HTTP/3.0 200 OK\r\n\r\n"), 502, BROKEN).await?;
    refused("a short status", words("HTTP/1.1 20 OK\r\n\r\n"), 502, BROKEN).await?;
    refused("a status of zero", words("HTTP/1.1 000 OK\r\n\r\n"), 502, BROKEN).await?;
    refused(
        "TLS",
        vec![Step::Write(vec![22, 3, 1, 0, 200, 1, 0, 0, 196]), Step::Hold],
        502,
        BROKEN,
    )
    .await
}

#[tokio::test]
async fn headers_that_cannot_be_read_are_a_broken_protocol() -> Result<()> {
    refused("a zero byte", head("X-A: b\0c\r\n"), 502, BROKEN).await?;
    refused("a blank in a name", head("X A: b\r\n"), 502, BROKEN).await?;
    refused("a blank before the colon", head("X-A : b\r\n"), 502, BROKEN).await?;
    refused("no colon", head("X-A\r\n"), 502, BROKEN).await?;
    refused("a fold of nothing", head(" X-A: b\r\n"), 502, BROKEN).await?;
    refused("a bare return", head("X-A: b\rX-C: d\r\n"), 502, BROKEN).await?;
    let many: String = (0..101).map(|number| format!("X-{number}: y\r\n")).collect();
    refused("a hundred and one headers", head(&many), 502, BROKEN).await?;
    let large = format!("X-A: {}\r\n", "y".repeat(160 * 1024));
    refused("a large header", head(&large), 502, BROKEN).await
}

#[tokio::test]
async fn doubtful_framing_of_an_answer_is_a_broken_protocol() -> Result<()> {
    let chunked = "Transfer-Encoding: chunked\r\n";
    let both = format!("Content-Length: 5\r\n{chunked}");
    refused("a length and chunks", head(&both), 502, BROKEN).await?;
    // Other lines may be folded.
    let length = "Content-Length: 1\r\n 0\r\n";
    refused("a folded length", head(length), 502, BROKEN).await?;
    let coding = "Transfer-Encoding: chunked\r\n , gzip\r\n";
    refused("a folded coding", head(coding), 502, BROKEN).await?;
    let twice = "Content-Length: 5\r\nContent-Length: 6\r\n";
    refused("two lengths", head(twice), 502, BROKEN).await?;
    refused(
        "a length with a sign",
        head("Content-Length: +5\r\n"),
        502,
        BROKEN,
    )
    .await?;
    refused(
        "a length that is none",
        head("Content-Length: five\r\n"),
        502,
        BROKEN,
    )
    .await?;
    refused(
        "an unknown coding",
        head("Transfer-Encoding: gzip\r\n"),
        502,
        BROKEN,
    )
    .await?;
    refused(
        "two codings",
        head("Transfer-Encoding: gzip, chunked\r\n"),
        502,
        BROKEN,
    )
    .await?;
    refused("chunked twice", head(&format!("{chunked}{chunked}")), 502, BROKEN).await?;
    let old = vec![
        Step::Write(format!("HTTP/1.0 200 OK\r\n{chunked}\r\n").into_bytes()),
        Step::Hold,
    ];
    refused("chunks in HTTP/1.0", old, 502, BROKEN).await
}

#[tokio::test]
async fn half_a_head_is_no_answer() -> Result<()> {
    let half = Step::write("HTTP/1.1 200 OK\r\nContent-Le");
    refused("closed", vec![half.clone(), Step::Close], 503, CLOSED).await?;
    refused("reset", vec![half.clone(), Step::Reset], 503, CLOSED).await?;
    refused("silence", vec![half, Step::Hold], 504, SLOW).await?;
    refused("closed at once", vec![Step::Close], 503, CLOSED).await
}

#[tokio::test]
async fn endless_heads_end() -> Result<()> {
    let begin = Step::write("HTTP/1.1 200 OK\r\n");
    let headers = Step::Repeat(b"X-A: b\r\n".to_vec());
    refused("headers", vec![begin.clone(), headers], 502, BROKEN).await?;
    let value = Step::Repeat(b"yyyyyyyy".to_vec());
    refused(
        "one header",
        vec![begin, Step::write("X-A: "), value.clone()],
        502,
        BROKEN,
    )
    .await?;
    refused("one word", vec![value], 502, BROKEN).await
}

#[tokio::test]
async fn floods_of_informational_answers_end() -> Result<()> {
    for status in ["100 Continue", "102 Processing", "103 Early Hints\r\nLink: </a>"] {
        let hint = format!("HTTP/1.1 {status}\r\n\r\n").into_bytes();
        refused(status, vec![Step::Repeat(hint)], 502, BROKEN).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_switch_nobody_asked_for_is_refused() -> Result<()> {
    let switch = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    refused("101", vec![Step::write(switch), Step::Hold], 502, BROKEN).await
}

/// The head passes, then the body breaks off: the client must notice, and the log says why.
async fn breaks_off(name: &str, then: Vec<Step>) -> Result<()> {
    let mut script = vec![Step::ReadHead];
    script.extend(then);
    let stage = Stage::new(script).await?;
    let mut client = stage.env.raw("open").await?;
    client.send(stage.request("open", "GET /")).await?;
    let reply = client.reply(false).await;
    ensure!(reply.is_err(), "{name}: passed off as whole: {reply:?}");
    let line = stage
        .env
        .log()
        .wait_json(0, "an access log line", |line| line["message"] == "http-request")
        .await?;
    let details = &line["response-code-details"];
    ensure!(
        details == "upstream_reset_after_response_started",
        "{name}: logged {details}"
    );
    stage.unharmed().await.with_context(|| name.to_owned())
}

#[tokio::test]
async fn bodies_with_broken_framing_are_cut() -> Result<()> {
    let chunks = |rest: &str| {
        let text = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{rest}");
        vec![Step::Write(text.into_bytes()), Step::Hold]
    };
    let closing = |rest: &str| {
        let mut steps = chunks(rest);
        steps.pop();
        steps.push(Step::Close);
        steps
    };
    breaks_off("no size", chunks("zz\r\nhello\r\n0\r\n\r\n")).await?;
    breaks_off("a negative size", chunks("-5\r\nhello\r\n0\r\n\r\n")).await?;
    breaks_off("a huge size", chunks("fffffffffffffffff\r\nhello")).await?;
    breaks_off("a chunk that is too long", chunks("2\r\nhello\r\n0\r\n\r\n")).await?;
    breaks_off("no last chunk", closing("5\r\nhello\r\n")).await?;
    breaks_off("half a chunk", closing("5\r\nhel")).await?;
    breaks_off("half a trailer", closing("5\r\nhello\r\n0\r\nX-A")).await?;
    let short = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort";
    breaks_off("a short body", vec![Step::write(short), Step::Close]).await?;
    breaks_off("a reset", vec![Step::write(short), Step::Reset]).await
}

#[tokio::test]
async fn endless_trailers_and_chunk_extensions_end() -> Result<()> {
    let begin = Step::write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    let trailers = vec![
        begin.clone(),
        Step::write("0\r\n"),
        Step::Repeat(b"X-A: b\r\n".to_vec()),
    ];
    breaks_off("trailers", trailers).await?;
    let extension = vec![begin, Step::write("5;"), Step::Repeat(b"a=b;".to_vec())];
    breaks_off("an extension", extension).await
}

#[tokio::test]
async fn an_application_that_reads_nothing_holds_nothing_up() -> Result<()> {
    let stage = Stage::new(vec![Step::Ignore]).await?;
    let authority = stage.env.authority_of("open");
    let mut client = stage.env.raw("open").await?;
    // The request is whole for us only when the application has taken it: the limit of the route is
    // counted from then, so one of the whole request is what ends this.
    client
        .send(format!(
            "GET / HTTP/1.1\r\nHost: {authority}\r\nAccept: application/json\r\n\r\n"
        ))
        .await?;
    let reply = client.reply(false).await?;
    ensure!(
        reply.status == 504 && reply.text().contains(SLOW),
        "{}",
        reply.text()
    );
    let mut other = stage.env.raw("good").await?;
    other.send(stage.request("good", "GET /")).await?;
    ensure!(other.reply(false).await?.status == 200);
    Ok(())
}
