//! A response body whose parts leave when the test says so.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::serve::{Body, BoxError};

type Part = Result<Frame<Bytes>, BoxError>;

/// The test's end of a gated response: `GET /gated/<name>` answers what is sent here.
#[derive(Debug)]
pub struct Gate {
    sender: mpsc::Sender<Part>,
}

impl Gate {
    /// Sends a part of the body. Waits while the proxy takes nothing: that is back-pressure.
    ///
    /// # Errors
    /// The request was given up.
    pub async fn send(&self, part: impl Into<Bytes>) -> Result<()> {
        self.sender
            .send(Ok(Frame::data(part.into())))
            .await
            .map_err(|_| anyhow::anyhow!("the request is gone"))
    }

    /// Breaks the response off in the middle.
    ///
    /// # Errors
    /// The request was given up.
    pub async fn fail(&self) -> Result<()> {
        self.sender
            .send(Err("broken off by the test".into()))
            .await
            .map_err(|_| anyhow::anyhow!("the request is gone"))
    }

    /// Waits until the proxy has given the request up.
    pub async fn abandoned(&self) {
        self.sender.closed().await;
    }
}

/// Gates that no request has come for yet.
#[derive(Debug, Clone, Default)]
pub(super) struct Gates {
    waiting: Arc<Mutex<HashMap<String, mpsc::Receiver<Part>>>>,
}

impl Gates {
    pub(super) fn open(&self, name: &str) -> Gate {
        let (sender, receiver) = mpsc::channel(1);
        self.waiting.lock().insert(name.to_owned(), receiver);
        Gate { sender }
    }

    pub(super) fn body(&self, name: &str) -> Option<Body> {
        let receiver = self.waiting.lock().remove(name)?;
        let parts = futures_util::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|part| (part, receiver))
        });
        Some(StreamBody::new(parts).boxed_unsync())
    }
}
