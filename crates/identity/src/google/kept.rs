//! A token that is always at hand.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use jiff::Timestamp;
use tokio::sync::watch;

use super::{GoogleTokens, IdentityToken};

/// How old a token gets before there is a new one; it holds for an hour.
const KEPT: Duration = Duration::from_secs(45 * 60);
/// First pause after a failure; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A token is not sent in its last moments: it would be over when it arrives.
const MARGIN: i64 = 30;

/// The token for one audience.
pub struct KeptToken {
    audience: String,
    tokens: Arc<GoogleTokens>,
    held: ArcSwapOption<(HeaderValue, Timestamp)>,
    tried: watch::Sender<bool>,
}

impl KeptToken {
    /// Nothing is asked before [`Self::run`].
    pub fn new(audience: String, tokens: Arc<GoogleTokens>) -> Arc<Self> {
        Arc::new(Self {
            audience,
            tokens,
            held: ArcSwapOption::empty(),
            tried: watch::Sender::new(false),
        })
    }

    /// `Bearer …` while there is a token that holds at `now`.
    pub fn bearer(&self, now: Timestamp) -> Option<HeaderValue> {
        let held = self.held.load();
        let (value, until) = held.as_deref()?;
        (now.as_second() + MARGIN < until.as_second()).then(|| value.clone())
    }

    /// Waits until a token was asked for once, with or without success.
    pub async fn tried(&self) {
        // The sender lives in `self`, so this cannot fail while it is awaited.
        let _ = self.tried.subscribe().wait_for(|tried| *tried).await;
    }

    /// Keeps the token fresh, without end. A token that cannot be replaced is used for as long as it holds.
    pub async fn run(self: Arc<Self>) {
        let mut pause = FIRST_PAUSE;
        loop {
            let wait = match self.tokens.fetch(&self.audience).await {
                Ok(token) => {
                    self.hold(&token);
                    pause = FIRST_PAUSE;
                    KEPT
                }
                Err(error) => {
                    tracing::error!(%error, audience = self.audience, "no Google identity token for an upstream: requests go there without one");
                    let wait = pause;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    wait
                }
            };
            self.tried.send_replace(true);
            tokio::time::sleep(wait).await;
        }
    }

    fn hold(&self, token: &IdentityToken) {
        // Base64url and dots always make a header value.
        if let Ok(mut value) = HeaderValue::try_from(format!("Bearer {}", token.raw)) {
            value.set_sensitive(true);
            self.held.store(Some(Arc::new((value, token.expires_at))));
        }
    }
}
