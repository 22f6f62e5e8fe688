//! Records to a receiver over HTTP: batches of lines, posted one after the other, again and again until they are taken.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{Method, Request, Response, StatusCode};
use pomerium_config::settings::AuditHttp;
use pomerium_identity::{HttpClient, ReqwestClient};

use super::queue::Taken;
use super::sink::Shared;

/// Longest wait for records.
const WAIT: Duration = Duration::from_secs(3600);
/// Most bytes of a batch.
const BATCH_BYTES: usize = 4 << 20;
/// Most bytes of an answer, which nobody reads.
const ANSWER: usize = 64 << 10;
/// Wait after a failure: the first, and the longest.
const RETRY: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(60)];
/// Longest wait that a receiver can ask for.
const LONGEST: u64 = 300;
/// How long the end of the program waits for the receiver.
const LAST: Duration = Duration::from_secs(5);
/// How often a batch is offered to a receiver that calls it wrong, before it is left out.
const CALLED_WRONG: u32 = 5;

/// Posts batches.
pub(super) struct Receiver {
    settings: AuditHttp,
    client: Arc<dyn HttpClient>,
    runtime: tokio::runtime::Handle,
}

/// What an answer means.
enum Answer {
    Taken,
    /// Try again, after a time that the receiver may have named.
    Later(String, Option<Duration>),
    /// The batch is too large.
    TooLarge,
    /// The receiver says that the batch is wrong.
    Wrong(String),
}

impl Receiver {
    /// Errors when the trust anchors cannot be used.
    pub(super) fn new(settings: AuditHttp, runtime: tokio::runtime::Handle) -> anyhow::Result<Self> {
        let client = ReqwestClient::new(settings.ca.as_deref().unwrap_or_default())?;
        Ok(Self {
            settings,
            client: Arc::new(client),
            runtime,
        })
    }

    /// Posts until the queue is closed.
    pub(super) fn run(self, shared: &Shared) {
        let limits = (self.settings.batch_size, BATCH_BYTES);
        loop {
            let times = (WAIT, self.settings.batch_interval);
            match shared.queue.take(limits, times, || shared.clock.now()) {
                Taken::Closed => return,
                Taken::Nothing => {}
                Taken::Lines(lines) => {
                    if let Err(left) = self.deliver(lines, shared) {
                        shared.abandoned(&left);
                        return;
                    }
                }
            }
        }
    }

    /// Delivers lines, however long it takes. Errors with what is left when the program ends before it can be done.
    fn deliver(&self, lines: Vec<Vec<u8>>, shared: &Shared) -> Result<(), Vec<Vec<u8>>> {
        let mut parts = vec![lines];
        let mut pause = RETRY[0];
        let mut wrong = 0;
        while let Some(part) = parts.pop() {
            let (problem, wait) = match self.post(&part, shared) {
                Answer::Taken => {
                    shared.arrived(&part);
                    (pause, wrong) = (RETRY[0], 0);
                    continue;
                }
                Answer::TooLarge if part.len() > 1 => {
                    let mut first = part;
                    let second = first.split_off(first.len() / 2);
                    parts.extend([second, first]);
                    continue;
                }
                Answer::TooLarge => {
                    leave_out(&part, "the receiver calls it too large", shared);
                    continue;
                }
                Answer::Wrong(_) if wrong + 1 >= CALLED_WRONG => {
                    leave_out(&part, "the receiver calls it wrong", shared);
                    wrong = 0;
                    continue;
                }
                Answer::Wrong(problem) => {
                    wrong += 1;
                    (problem, None)
                }
                Answer::Later(problem, wait) => (problem, wait),
            };
            let help = "check the receiver, its address and the credentials; sending goes on by itself";
            shared.failed(&problem, help);
            parts.push(part);
            if !rest(shared, wait.unwrap_or_else(|| jittered(pause))) {
                return Err(parts.into_iter().rev().flatten().collect());
            }
            pause = (pause * 2).min(RETRY[1]);
        }
        Ok(())
    }

    fn post(&self, lines: &[Vec<u8>], shared: &Shared) -> Answer {
        let timeout = match shared.queue.closed_for() {
            Some(time) => self.settings.timeout.min(LAST.saturating_sub(time)),
            None => self.settings.timeout,
        };
        let mut request = Request::new(Bytes::from(lines.concat()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.settings.url.clone();
        let headers = request.headers_mut();
        for (name, value) in &self.settings.headers {
            headers.append(name, value.clone());
        }
        headers.insert(
            CONTENT_TYPE,
            http::HeaderValue::from_static("application/x-ndjson"),
        );
        let sent = self
            .runtime
            .block_on(async { tokio::time::timeout(timeout, self.client.send(request, ANSWER)).await });
        match sent {
            Err(_) => Answer::Later(format!("no answer within {timeout:?}"), None),
            Ok(Err(error)) => Answer::Later(error.text, None),
            Ok(Ok(answer)) => meaning(&answer),
        }
    }
}

fn meaning(answer: &Response<Bytes>) -> Answer {
    let status = answer.status();
    let problem = format!("the receiver answers {}", status.as_u16());
    match status {
        status if status.is_success() => Answer::Taken,
        StatusCode::PAYLOAD_TOO_LARGE => Answer::TooLarge,
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => Answer::Wrong(problem),
        _ => {
            let seconds = answer
                .headers()
                .get(RETRY_AFTER)
                .and_then(|value| value.to_str().ok());
            let seconds = seconds.and_then(|text| text.trim().parse::<u64>().ok());
            Answer::Later(
                problem,
                seconds.map(|seconds| Duration::from_secs(seconds.min(LONGEST))),
            )
        }
    }
}

fn leave_out(lines: &[Vec<u8>], why: &'static str, shared: &Shared) {
    shared.metrics.dropped.inc_by(lines.len() as u64);
    tracing::error!(
        sink = shared.name,
        records = lines.len(),
        why,
        "audit: records are left out"
    );
    shared.queue.lost(lines, shared.clock.now(), why);
}

/// Waits; false when the program has ended and its time is over.
fn rest(shared: &Shared, time: Duration) -> bool {
    match shared.queue.closed_for() {
        None => {
            shared.queue.pause(time);
            true
        }
        Some(closed) if closed < LAST => {
            shared.queue.pause(RETRY[0].min(LAST.saturating_sub(closed)));
            true
        }
        Some(_) => false,
    }
}

/// Between half of it and all of it, so that many programs do not come at once.
fn jittered(time: Duration) -> Duration {
    time.mul_f64(rand::random_range(0.5..=1.0))
}
