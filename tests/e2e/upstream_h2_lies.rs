//! Applications that break HTTP/2: resets, floods, storms of GOAWAY, answers that are none. Each gets
//! its status and details (spec proxy.md 7), and other routes go on.

use anyhow::{Context, Result, ensure};
use pomerium_testing::{Environment, RawUpstream, Route, Step, Upstream};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// `:status: 200` in HPACK's static table.
pub(crate) const OK: &[u8] = &[0x88];

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A header that is not in any table.
fn literal(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0, name.len() as u8];
    bytes.extend(name.as_bytes());
    bytes.push(value.len() as u8);
    bytes.extend(value.as_bytes());
    bytes
}

fn settings() -> Step {
    Step::Write(frame(SETTINGS, 0, 0, &[]))
}

struct Stage {
    env: Environment,
    liar: RawUpstream,
    _good: Upstream,
}

async fn stage(script: Vec<Step>) -> Result<Stage> {
    let liar = RawUpstream::start(script).await?;
    let good = Upstream::start().await?;
    let h2c = liar.url().replace("http://", "h2c://");
    let env = Environment::builder()?
        .route(Route::new("open", &h2c).public().set("timeout", "2s"))
        .route(Route::new("good", &good.h2c_url()).public())
        .start()
        .await?;
    Ok(Stage {
        env,
        liar,
        _good: good,
    })
}

impl Stage {
    async fn ask(&self, name: &str) -> Result<pomerium_testing::RawReply> {
        let mut client = self.env.raw(name).await?;
        let authority = self.env.authority_of(name);
        client
            .send(format!(
                "GET / HTTP/1.1\r\nHost: {authority}\r\nAccept: application/json\r\n\r\n"
            ))
            .await?;
        client.reply(false).await
    }
}

/// After the settings and the request's HEADERS the liar sends `then`.
async fn answered(name: &str, then: Vec<Step>, expected: &[(u16, &str)]) -> Result<()> {
    let mut script = vec![settings(), Step::ReadFrame(HEADERS)];
    script.extend(then);
    let stage = stage(script).await?;
    let reply = stage.ask("open").await.with_context(|| name.to_owned())?;
    let text = reply.text();
    let fits = |(status, details): &(u16, &str)| reply.status == *status && text.contains(details);
    ensure!(expected.iter().any(fits), "{name}: {} {text}", reply.status);
    ensure!(
        stage.ask("good").await?.status == 200,
        "{name}: another route suffers"
    );
    Ok(())
}

fn frames(bytes: Vec<u8>) -> Vec<Step> {
    vec![Step::Write(bytes), Step::Hold]
}

fn flood(bytes: Vec<u8>) -> Vec<Step> {
    vec![Step::Repeat(bytes)]
}

const BROKEN: (u16, &str) = (502, "protocol_error");
const RESET: (u16, &str) = (503, "remote_reset");
const CLOSED: (u16, &str) = (503, "connection_termination");
const SLOW: (u16, &str) = (504, "response_timeout");

#[tokio::test]
async fn a_reset_is_told_from_a_broken_protocol() -> Result<()> {
    let reset = |code: u32| frames(frame(RST_STREAM, 0, 1, &code.to_be_bytes()));
    answered("CANCEL", reset(8), &[RESET]).await?;
    answered("INTERNAL_ERROR", reset(2), &[RESET]).await?;
    // A refused stream was not looked at: the request is sent again, but not for ever.
    let refused = |stream: u32| Step::Write(frame(RST_STREAM, 0, stream, &7_u32.to_be_bytes()));
    let again = Step::ReadFrame(HEADERS);
    let steps = vec![
        refused(1),
        again.clone(),
        refused(3),
        again,
        refused(5),
        Step::Hold,
    ];
    answered("REFUSED_STREAM", steps, &[RESET]).await?;
    answered("PROTOCOL_ERROR", reset(1), &[BROKEN]).await
}

#[tokio::test]
async fn answers_that_are_none_are_a_broken_protocol() -> Result<()> {
    let headers = |block: &[u8]| frames(frame(HEADERS, END_HEADERS | END_STREAM, 1, block));
    answered("no status", headers(&literal("x-a", "b")), &[BROKEN]).await?;
    answered(
        "a name in capitals",
        headers(&[OK, &literal("X-A", "b")[..]].concat()),
        &[BROKEN],
    )
    .await?;
    answered(
        "connection headers",
        headers(&[OK, &literal("connection", "close")[..]].concat()),
        &[BROKEN],
    )
    .await?;
    answered("two states", headers(&[OK, OK].concat()), &[BROKEN]).await?;
    answered(
        "a status that is none",
        headers(&literal(":status", "2x")),
        &[BROKEN],
    )
    .await?;
    answered(
        "a broken table index",
        headers(&[0xff, 0xff, 0xff, 0x7f]),
        &[BROKEN, CLOSED],
    )
    .await?;
    answered(
        "data before headers",
        frames(frame(DATA, END_STREAM, 1, b"x")),
        &[BROKEN],
    )
    .await?;
    answered("data on no stream", frames(frame(DATA, 0, 0, b"x")), &[BROKEN]).await?;
    answered(
        "an answer nobody waits for",
        frames(frame(HEADERS, END_HEADERS, 7, OK)),
        &[BROKEN],
    )
    .await?;
    let push = [&2_u32.to_be_bytes()[..], OK].concat();
    answered(
        "a push",
        frames(frame(PUSH_PROMISE, END_HEADERS, 1, &push)),
        &[BROKEN],
    )
    .await?;
    answered(
        "a window too wide",
        frames(frame(WINDOW_UPDATE, 0, 0, &[0x7f, 255, 255, 255])),
        &[BROKEN, CLOSED],
    )
    .await?;
    answered(
        "a frame too long",
        frames(frame(DATA, 0, 1, &vec![0; 20_000])),
        &[BROKEN, CLOSED],
    )
    .await?;
    answered(
        "settings of odd length",
        frames(frame(SETTINGS, 0, 0, b"abc")),
        &[BROKEN, CLOSED],
    )
    .await?;
    answered(
        "HTTP/1.1",
        vec![Step::write("HTTP/1.1 200 OK\r\n\r\n"), Step::Hold],
        &[BROKEN, CLOSED],
    )
    .await
}

#[tokio::test]
async fn floods_end() -> Result<()> {
    let all = [BROKEN, CLOSED, SLOW, RESET];
    answered("settings", flood(frame(SETTINGS, 0, 0, &[])), &all).await?;
    answered("pings", flood(frame(PING, 0, 0, &[0; 8])), &all).await?;
    answered(
        "resets",
        flood(frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes())),
        &all,
    )
    .await?;
    answered(
        "windows",
        flood(frame(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes())),
        &all,
    )
    .await?;
    let hints = frame(HEADERS, END_HEADERS, 1, &literal(":status", "103"));
    answered("informational answers", flood(hints), &all).await?;
    let begin = frame(HEADERS, 0, 1, OK);
    let more = frame(CONTINUATION, 0, 1, &literal("x-a", "b"));
    answered(
        "continuations",
        vec![Step::Write(begin), Step::Repeat(more)],
        &all,
    )
    .await?;
    answered("empty data", flood(frame(DATA, 0, 1, &[])), &all).await
}

#[tokio::test]
async fn goodbyes_and_silence_are_told_apart() -> Result<()> {
    let goodbye =
        |last: u32, code: u32| frame(GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat());
    answered(
        "GOAWAY before the request",
        frames(goodbye(0, 0)),
        &[CLOSED, RESET],
    )
    .await?;
    answered(
        "a storm of GOAWAY",
        flood(goodbye(0, 0)),
        &[CLOSED, RESET, BROKEN],
    )
    .await?;
    answered(
        "GOAWAY with an error",
        frames(goodbye(0, 11)),
        &[CLOSED, RESET, BROKEN],
    )
    .await?;
    answered(
        "GOAWAY, then closed",
        vec![Step::Write(goodbye(1, 0)), Step::Close],
        &[CLOSED],
    )
    .await?;
    // CVE-2021-39162: no streams any more, with requests in flight. What was taken may still be answered.
    let none = frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 0]);
    let going = |last: u32, then: &[u8]| frames([&goodbye(last, 0)[..], &none, then].concat());
    let answer = frame(HEADERS, END_HEADERS | END_STREAM, 1, OK);
    answered("GOAWAY, then no streams", going(1, &[]), &[SLOW]).await?;
    answered("GOAWAY, no streams, an answer", going(1, &answer), &[(200, "")]).await?;
    answered(
        "GOAWAY before the request, then no streams",
        going(0, &[]),
        &[CLOSED, RESET, SLOW],
    )
    .await?;
    answered("closed", vec![Step::Close], &[CLOSED]).await?;
    answered("silence", vec![Step::Hold], &[SLOW]).await?;
    // MAX_CONCURRENT_STREAMS 0: the request waits for its turn, which never comes.
    let stage = stage(vec![Step::Write(none), Step::Hold]).await?;
    let reply = stage.ask("open").await?;
    ensure!(reply.status == 504 || reply.status == 503, "{}", reply.text());
    Ok(())
}

#[tokio::test]
async fn a_body_of_another_length_is_cut() -> Result<()> {
    let lie = |length: &str, body: &[u8]| {
        let head = [OK, &literal("content-length", length)[..]].concat();
        let mut bytes = frame(HEADERS, END_HEADERS, 1, &head);
        bytes.extend(frame(DATA, END_STREAM, 1, body));
        frames(bytes)
    };
    for (name, steps) in [
        ("short", lie("100", b"short")),
        ("long", lie("2", b"much longer")),
    ] {
        let mut script = vec![settings(), Step::ReadFrame(HEADERS)];
        script.extend(steps);
        let stage = stage(script).await?;
        match stage.ask("open").await {
            Err(_) => {}
            Ok(reply) => ensure!(reply.status >= 500, "{name}: passed off as whole: {reply:?}"),
        }
        ensure!(stage.ask("good").await?.status == 200, "{name}");
        drop(stage.liar);
    }
    Ok(())
}
