//! What takes time: each runs as a task of its own and ends with one [`Done`].

use std::sync::Arc;
use std::time::Duration;

use instant_acme::{Account, CertificateIdentifier};
use pomerium_api::clock::Clock;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::account;
use super::challenges::Challenges;
use super::entry::Suggestion;
use super::error::AcmeError;
use super::options::Options;
use super::order::{self, Means};
use super::{schedule, stored};
use crate::load::LoadedCertificate;
use crate::ocsp::{self, OcspError, Staple, Subject};
use crate::storage::{LockError, acquire};

/// How long another process may be at work on the same name.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a new certificate may wait for its first staple.
const FIRST_STAPLE: Duration = Duration::from_secs(20);

/// What all jobs have.
#[derive(Clone)]
pub(super) struct Tools {
    pub options: Arc<Options>,
    pub clock: Arc<dyn Clock>,
    pub challenges: Arc<Challenges>,
    /// Ends the jobs half-way.
    pub over: CancellationToken,
    /// Takes back what an order leaves that is cut off.
    pub removals: TaskTracker,
}

/// How a job ended.
pub(super) enum Done {
    /// For this name.
    Certificate(String, Result<Obtained, AcmeError>),
    /// For this name; `None` when the authority makes none.
    Suggestion(String, Suggestion),
    /// For the certificate with this fingerprint.
    Staple(String, Result<Staple, OcspError>),
    /// It was ended half-way.
    Over,
}

/// A certificate that was ordered, or that another process had ordered meanwhile.
pub(super) struct Obtained {
    pub certificate: LoadedCertificate,
    /// The staple that it demands.
    pub staple: Option<Staple>,
    /// We ordered it.
    pub ordered: bool,
}

impl Tools {
    fn now(&self) -> i64 {
        self.clock.now().as_second()
    }

    /// Gets a certificate for `name` in place of `current`.
    pub(super) async fn obtain(self, name: String, current: Option<LoadedCertificate>) -> Done {
        match self.obtain_or_adopt(&name, current.as_ref()).await {
            Err(AcmeError::Over) => Done::Over,
            result => Done::Certificate(name, result),
        }
    }

    async fn obtain_or_adopt(
        &self,
        name: &str,
        current: Option<&LoadedCertificate>,
    ) -> Result<Obtained, AcmeError> {
        let lock_name = format!("issue_cert_{name}");
        let acquired = acquire(&self.options.storage, &self.clock, &lock_name, PATIENCE);
        let lock = match self.unless_over(acquired).await? {
            Ok(lock) => lock,
            Err(LockError::Busy) => {
                return self
                    .adopt(name, current)
                    .await?
                    .ok_or(AcmeError::Lock(LockError::Busy));
            }
            Err(error) => return Err(error.into()),
        };
        let work = Box::pin(async {
            match self.adopt(name, current).await? {
                Some(adopted) => Ok(adopted),
                None => self.order(name, current).await,
            }
        });
        // Inside: the lock is given back at once, also by a job that is ended half-way.
        lock.during(async { self.unless_over(work).await? }).await
    }

    async fn unless_over<T>(&self, work: impl Future<Output = T>) -> Result<T, AcmeError> {
        let done = self.over.run_until_cancelled(work).await;
        done.ok_or(AcmeError::Over)
    }

    /// What another process has put into the storage since we last looked.
    async fn adopt(
        &self,
        name: &str,
        current: Option<&LoadedCertificate>,
    ) -> Result<Option<Obtained>, AcmeError> {
        let stored = stored::load(&self.options, name).await?;
        let newer = stored.filter(|stored| {
            let other = current.is_none_or(|current| current.fingerprint() != stored.fingerprint());
            other && schedule::renew_at(stored) > self.now()
        });
        Ok(newer.map(|certificate| Obtained {
            certificate,
            staple: None,
            ordered: false,
        }))
    }

    async fn order(&self, name: &str, current: Option<&LoadedCertificate>) -> Result<Obtained, AcmeError> {
        let replaces = current.and_then(|current| CertificateIdentifier::try_from(&current.chain()[0]).ok());
        let means = Means {
            options: &self.options,
            challenges: &self.challenges,
            clock: &self.clock,
            removals: &self.removals,
        };
        let mut account = account::open(&self.options, &self.clock).await?;
        let issued = match order::obtain(&means, &account, name, replaces.as_ref()).await {
            Err(AcmeError::NoAccount) => {
                tracing::warn!("autocert: the authority does not know the stored account; opening a new one");
                account::forget(&self.options).await?;
                account = account::open(&self.options, &self.clock).await?;
                order::obtain(&means, &account, name, None).await
            }
            result => result,
        }?;
        let certificate = stored::save(&self.options, name, &issued, self.now()).await?;
        let staple = self.first_staple(&certificate).await;
        Ok(Obtained {
            certificate,
            staple,
            ordered: true,
        })
    }

    /// A certificate that demands a staple should not be seen without one.
    async fn first_staple(&self, certificate: &LoadedCertificate) -> Option<Staple> {
        if !certificate.must_staple() {
            return None;
        }
        let subject = Subject::of(certificate.chain()).ok()?;
        let asked = ocsp::fetch(&*self.options.web, &subject, self.now());
        tokio::time::timeout(FIRST_STAPLE, asked).await.ok()?.ok()
    }

    /// Asks when `certificate` should be renewed (RFC 9773).
    pub(super) async fn suggest(self, name: String, certificate: LoadedCertificate) -> Done {
        let suggestion = match self.unless_over(Box::pin(self.window(&certificate))).await {
            Ok(Ok(suggestion)) => suggestion,
            Err(_) => return Done::Over,
            Ok(Err(error)) => {
                tracing::debug!(name, %error, "autocert: the authority makes no suggestion for the renewal");
                Suggestion {
                    renew_at: None,
                    ask_again: schedule::ask_again(self.now(), None),
                }
            }
        };
        Done::Suggestion(name, suggestion)
    }

    async fn window(&self, certificate: &LoadedCertificate) -> Result<Suggestion, AcmeError> {
        let id = CertificateIdentifier::try_from(&certificate.chain()[0]).map_err(AcmeError::Other)?;
        let account: Account = account::open(&self.options, &self.clock).await?;
        let (info, after) = account.renewal_info(&id).await?;
        let window = info.suggested_window;
        let (start, end) = (window.start.unix_timestamp(), window.end.unix_timestamp());
        Ok(Suggestion {
            renew_at: Some(schedule::in_window(start, end, certificate)),
            ask_again: schedule::ask_again(self.now(), Some(after)),
        })
    }

    /// Gets the status of a certificate and keeps it.
    pub(super) async fn staple(self, fingerprint: String, subject: Subject, key: String) -> Done {
        let asked = ocsp::fetch(&*self.options.web, &subject, self.now());
        let Ok(result) = self.unless_over(asked).await else {
            return Done::Over;
        };
        if let Ok(staple) = &result
            && let Err(error) = self.options.storage.put(&key, &staple.der).await
        {
            tracing::warn!(%error, "autocert: a staple could not be kept");
        }
        Done::Staple(fingerprint, result)
    }
}
