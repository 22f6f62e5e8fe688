//! A client that does not take its answer. Whoever writes asks a body for its next piece only when there is room for
//! it; a client that makes none would keep the answer, and what lies behind it, for ever. So while an answer is not
//! asked for more, whoever drives it looks here: at the time, and at whether the client may still have it.

use std::sync::Arc;
use std::task::{Context, Poll};

use super::timing::{Activity, Watchdog};
use crate::live::ENDED;

/// Watches the client of one request. To be asked from the task that drives the answer.
#[derive(Debug)]
pub struct Reader {
    activity: Arc<Activity>,
    watchdog: Option<Watchdog>,
}

impl Reader {
    /// Watches the client of the request that moves by `activity`.
    pub fn new(activity: Arc<Activity>) -> Self {
        Self {
            activity,
            watchdog: None,
        }
    }

    /// The client has taken something.
    pub fn took(&self) {
        self.activity.touch();
    }

    /// Ready when the answer is to be cut: there is more of it than the client takes, and its time is over or the
    /// client has lost it.
    pub fn poll_unread(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.activity.is_unread() && self.activity.answer().is_some() {
            self.poll_waiting(cx)
        } else {
            Poll::Pending
        }
    }

    /// The same for a writer that knows that it waits for the client.
    pub fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let answer = self.activity.answer();
        if let Some(answer) = &answer {
            let mut answer = answer.lock();
            if answer.poll_ended(cx).is_ready() {
                answer.break_off(ENDED);
                return Poll::Ready(());
            }
        }
        let watchdog = self.watchdog.get_or_insert_with(|| self.activity.watch_reader());
        watchdog.poll_expired(cx).map(|expired| {
            if let Some(answer) = answer {
                answer.lock().break_off(expired.details());
            }
        })
    }
}
