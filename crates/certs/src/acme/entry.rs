//! What is known about one name, and about one staple.

use super::schedule;
use crate::load::LoadedCertificate;
use crate::ocsp::{Staple, Subject};

/// One name.
#[derive(Default)]
pub(super) struct Entry {
    /// Its certificate.
    pub kept: Option<LoadedCertificate>,
    /// The one before, for as long as the new one still waits for its staple.
    pub previous: Option<LoadedCertificate>,
    /// Failures in a row.
    pub failures: u32,
    /// Not before this.
    pub retry_at: i64,
    /// When it was last tried.
    pub tried_at: i64,
    /// A job is at work on it.
    pub running: bool,
    /// It has been revoked.
    pub revoked: bool,
    /// What the authority suggests: when to renew, and when to ask again.
    pub suggestion: Option<Suggestion>,
}

/// From the authority (RFC 9773).
#[derive(Debug, Clone, Copy)]
pub(super) struct Suggestion {
    pub renew_at: Option<i64>,
    pub ask_again: i64,
}

impl Entry {
    pub(super) fn with(kept: Option<LoadedCertificate>) -> Self {
        Self {
            kept,
            ..Self::default()
        }
    }

    /// When a certificate has to be obtained.
    pub(super) fn due_at(&self) -> i64 {
        let wanted = match &self.kept {
            None => 0,
            Some(_) if self.revoked => 0,
            Some(kept) => {
                let suggested = self.suggestion.and_then(|suggestion| suggestion.renew_at);
                let last = schedule::renew_at(kept);
                // A suggestion may come too late for an authority that has lost its way; the end of life may not pass.
                suggested.map_or(last, |at| at.min(latest(kept)))
            }
        };
        wanted.max(self.retry_at)
    }

    /// When the authority has to be asked for its suggestion.
    pub(super) fn ask_at(&self) -> Option<i64> {
        self.kept.as_ref()?;
        Some(self.suggestion.map_or(0, |suggestion| suggestion.ask_again))
    }

    /// Whether `stored` is another certificate, and a newer one.
    pub(super) fn is_behind(&self, stored: &LoadedCertificate, now: i64) -> bool {
        let newer = self.kept.as_ref().is_none_or(|kept| {
            kept.fingerprint() != stored.fingerprint() && stored.not_before() >= kept.not_before()
        });
        newer && schedule::renew_at(stored) > now
    }

    /// A job has brought a certificate.
    pub(super) fn obtained(&mut self, certificate: LoadedCertificate) {
        let running = self.running;
        let previous = self.kept.take();
        *self = Self::with(Some(certificate));
        self.previous = previous;
        self.running = running;
    }

    /// A job has failed.
    pub(super) fn failed(&mut self, now: i64) {
        self.failures += 1;
        let left = self.kept.as_ref().map(|kept| kept.not_after() - now);
        self.retry_at = schedule::retry_at(now, self.failures, left);
    }
}

/// The last moment for a renewal: a tenth of its life before a certificate's end.
fn latest(certificate: &LoadedCertificate) -> i64 {
    certificate.not_after() - (certificate.not_after() - certificate.not_before()) / 10
}

/// The status of one certificate.
pub(super) struct Status {
    pub subject: Subject,
    /// Where it is kept.
    pub key: String,
    pub staple: Option<Staple>,
    pub failures: u32,
    pub retry_at: i64,
    pub running: bool,
}

impl Status {
    pub(super) fn due_at(&self) -> i64 {
        let wanted = self.staple.as_ref().map_or(0, Staple::refresh_at);
        wanted.max(self.retry_at)
    }

    /// What may be shown in handshakes now.
    pub(super) fn shown(&self, now: i64) -> Option<&Staple> {
        self.staple
            .as_ref()
            .filter(|staple| staple.is_current(now) && !staple.revoked)
    }

    pub(super) fn failed(&mut self, now: i64) {
        self.failures += 1;
        let left = self.staple.as_ref().map(|staple| staple.next_update - now);
        self.retry_at = schedule::retry_at(now, self.failures, left);
    }
}
