//! One request over connections of a host, until one of them answers. What was written to a connection is sent again
//! only when the upstream cannot have looked at it: an idle connection that closed before the first byte, a stream that
//! was refused, a request after the last one of a GOAWAY.

use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;

use super::{Connection, Failed, H1Connection, HostPool, To};
use crate::body::RequestBody;
use crate::upstream::breakers::Running;
use crate::upstream::doubt;
use crate::upstream::endpoint::Protocol;
use crate::upstream::error::UpstreamError;
use crate::upstream::h2pool::H2Lease;
use crate::upstream::lease::Lease;
use crate::upstream::shape;

/// How often a request is sent again that its upstream refused to look at, on connections that answer nobody.
const FRUITLESS: u8 = 2;
/// The same in all: on connections that end after a few answers each, other requests may come first for a while.
const MOST: u8 = 20;

type Answer = (Response<Incoming>, Lease);

/// An attempt that came to nothing, and whether the same host may have another one: the request is there then.
struct Missed {
    failed: Failed,
    repeat: bool,
}

/// Attempts over HTTP/2 that the upstream refused to look at.
#[derive(Default)]
struct Refusals {
    all: u8,
    fruitless: u8,
}

impl Refusals {
    /// One more; whether the request may be sent again. `answered`: the connection has answered others.
    fn note(&mut self, answered: bool) -> bool {
        self.all += 1;
        self.fruitless += u8::from(!answered);
        self.fruitless <= FRUITLESS && self.all <= MOST
    }
}

impl HostPool {
    /// Sends a request in origin form with its `Host` header to `to.host` and waits for the response head.
    /// `running` counts it until the response has ended.
    pub async fn send(
        self: &Arc<Self>,
        to: To<'_>,
        mut running: Running,
        mut request: Box<Request<RequestBody>>,
    ) -> Result<Answer, Failed> {
        let mut refusals = Refusals::default();
        loop {
            let acquired = if to.switches && to.host.endpoint.protocol != Protocol::Http1 {
                Box::pin(self.connect_to_switch(to)).await
            } else {
                self.acquire(to).await
            };
            let attempt = match acquired {
                Ok((Connection::Http1(connection), reused)) => {
                    self.over_http1(to, (connection, reused), running, request).await
                }
                Ok((Connection::Http2(lease), _)) => {
                    over_http2(to, lease, (running, &mut refusals), request).await
                }
                Err(error) => {
                    return Err(Failed {
                        error,
                        request: Some(request),
                        running,
                    });
                }
            };
            // The same host did not look at it: no second attempt, which `max_retries` would count.
            match attempt {
                Ok(answer) => return Ok(answer),
                Err(Missed {
                    failed:
                        Failed {
                            request: Some(untouched),
                            running: same,
                            ..
                        },
                    repeat: true,
                }) => (request, running) = (untouched, same),
                Err(missed) => return Err(missed.failed),
            }
        }
    }

    async fn over_http1(
        self: &Arc<Self>,
        to: To<'_>,
        (mut connection, reused): (H1Connection, bool),
        mut running: Running,
        mut request: Box<Request<RequestBody>>,
    ) -> Result<Answer, Missed> {
        shape::http1(&mut request);
        connection.budget.begin();
        let mut error = match connection.sender.try_send_request(*request).await {
            Ok(response) => {
                running.connected(to.host);
                return self.answered(connection, running, response);
            }
            Err(error) => error,
        };
        let request = error.take_message().map(Box::new);
        let repeat = reused && request.is_some();
        // Not even sent: the connection ended before that, and the library does not say why.
        let unasked = !reused && request.is_some() && connection.budget.has_spoken();
        let error = if unasked {
            UpstreamError::Protocol(doubt::Doubt::Unasked.to_string())
        } else {
            UpstreamError::from_hyper(error.error())
        };
        let failed = Failed {
            error,
            request,
            running,
        };
        Err(Missed { failed, repeat })
    }

    /// An answer whose framing is in doubt is none, and its connection ends.
    fn answered(
        self: &Arc<Self>,
        connection: H1Connection,
        running: Running,
        response: Response<Incoming>,
    ) -> Result<Answer, Missed> {
        connection.budget.end();
        if let Err(doubt) = doubt::check_framing(response.version(), response.headers()) {
            connection.close();
            let failed = Failed {
                error: UpstreamError::Protocol(doubt.to_string()),
                request: None,
                running,
            };
            return Err(Missed {
                failed,
                repeat: false,
            });
        }
        Ok((response, Lease::http1(self.clone(), connection, running)))
    }
}

async fn over_http2(
    to: To<'_>,
    mut lease: H2Lease,
    (running, refusals): (Running, &mut Refusals),
    mut request: Box<Request<RequestBody>>,
) -> Result<Answer, Missed> {
    shape::http2(&mut request, to.host.endpoint.tls.is_some());
    let again = copy(&request);
    let mut error = match lease.sender.try_send_request(*request).await {
        Ok(response) => {
            lease.answered();
            return Ok((response, Lease::http2(lease, running)));
        }
        Err(error) => error,
    };
    // Those whose answers came with the goodbye are to note them first.
    tokio::task::yield_now().await;
    // Others may have used up what this one has dialled.
    let more = refusals.note(lease.has_answered());
    let mut request = error.take_message().map(Box::new);
    if request.is_none() && UpstreamError::is_unprocessed(error.error()) {
        request = again;
    }
    let repeat = more && request.is_some();
    let failed = Failed {
        error: UpstreamError::from_hyper(error.error()),
        request,
        running,
    };
    Err(Missed { failed, repeat })
}

/// The request once more, if it has no body: for streams that are refused after they were sent.
fn copy(request: &Request<RequestBody>) -> Option<Box<Request<RequestBody>>> {
    let body = request.body().again()?;
    let mut copy = Box::new(Request::new(body));
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}
