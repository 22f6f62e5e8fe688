//! Time from start to the first answered request, and memory when nothing happens.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use pomerium_testing::{Environment, Program, RawClient};

use crate::rivals::{self, environment};
use crate::statistics::median;
use crate::{Size, process};

/// Measures and returns the section as Markdown.
pub async fn run(size: Size) -> Result<String> {
    let (_upstream, upstream) = rivals::helper("upstream").await?;
    let mut environment = environment(upstream)?.start().await?;
    let cookie = rivals::cookie_of(&environment).await?;
    environment.kill().await?;
    let (mut starts, mut idle) = (Vec::new(), Vec::new());
    for run in 0..size.runs {
        let (mut program, time) = first_answer(&environment, &cookie).await?;
        // Nothing happens for a while; what start-up needed and gave back is gone.
        tokio::time::sleep(Duration::from_secs(2)).await;
        #[allow(clippy::cast_precision_loss, reason = "memory in bytes is far below 2^52")]
        let resident = process::resident(program.id().unwrap_or_default())? as f64 / 1e6;
        eprintln!("start {}: {time:.0} ms, idle {resident:.1} MB", run + 1);
        starts.push(time);
        idle.push(resident);
        // Until it has ended, its store is locked against the next one.
        program.kill().await?;
    }
    let mut text = String::from("### Start and idle memory\n\n");
    let _ = writeln!(
        text,
        "- start to the first answered, authorised request: {:.0} ms; goal under 150 ms",
        median(starts)
    );
    let _ = writeln!(
        text,
        "- resident memory, idle: {:.1} MB; goal under 25 MB\n",
        median(idle)
    );
    Ok(text)
}

/// Starts the program on the records it left behind and asks until the answer is the application's.
async fn first_answer(environment: &Environment, cookie: &str) -> Result<(Program, f64)> {
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {}\r\nAccept: text/html\r\nCookie: {cookie}\r\n\r\n",
        environment.authority_of("app")
    );
    let begin = Instant::now();
    let program = Program::start_into_file(environment.command()?, &environment.folder().join("start.txt"))?;
    loop {
        if let Ok(answer) = ask(environment, &request).await {
            ensure!(answer == 200, "the first answer was {answer}");
            return Ok((program, begin.elapsed().as_secs_f64() * 1e3));
        }
        ensure!(begin.elapsed() < Duration::from_secs(30), "no answer");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn ask(environment: &Environment, request: &str) -> Result<u16> {
    let mut client: RawClient = environment.raw("app").await?;
    client.send(request).await?;
    Ok(client.reply(false).await?.status)
}
