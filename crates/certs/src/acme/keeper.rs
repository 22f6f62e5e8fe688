//! Keeps certificates: loads what is stored, gets what is missing, renews what ends, staples what has a responder.
//!
//! One task owns all state ([`Keeper::run`]); what takes time runs in [`jobs`](super::jobs) and reports back. Start at
//! `Keeper::run`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use pomerium_api::clock::Clock;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::challenges::Challenges;
use super::entry::{Entry, Status};
use super::error::AcmeError;
use super::jobs::{Done, Obtained, Tools};
use super::options::Options;
use super::{layout, schedule, stored};
use crate::load::LoadedCertificate;
use crate::ocsp::{OcspError, Staple, Subject};
use crate::storage::Change;

/// How often everything is looked over, whatever the plan (spec proxy.md 3).
const CHECK: Duration = Duration::from_secs(600);
/// Jobs at one time.
const MAX_JOBS: usize = 8;
/// Certificates that are read from the storage at one time.
const READS: usize = 16;
/// How long the end may take: locks are given back, and records of challenges are removed.
const LAST_DEEDS: Duration = Duration::from_secs(10);

/// What is to be kept.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// By ACME; nothing is done without.
    pub options: Option<Arc<Options>>,
    /// Certificates from elsewhere, which get staples.
    pub configured: Vec<LoadedCertificate>,
}

/// Learns what the keeper has.
pub trait Observer: Send + Sync + 'static {
    /// What is to be served from now on: certificates by ACME, with their staples, and the staples of configured
    /// certificates by fingerprint.
    fn changed(&self, served: Served);

    /// A certificate was ordered; `renewal` when it replaces one.
    fn ordered(&self, name: &str, renewal: bool);

    /// What goes wrong at this moment, by name; empty when all is well.
    fn failing(&self, failing: &BTreeMap<String, String>);
}

/// What is to be served.
#[derive(Debug, Clone, Default)]
pub struct Served {
    /// By ACME, sorted by name.
    pub certificates: Vec<LoadedCertificate>,
    /// Of configured certificates: response by fingerprint.
    pub staples: HashMap<String, Vec<u8>>,
}

/// The keeper.
pub struct Keeper {
    clock: Arc<dyn Clock>,
    challenges: Arc<Challenges>,
    observer: Arc<dyn Observer>,
    plan: Plan,
    entries: BTreeMap<String, Entry>,
    statuses: HashMap<String, Status>,
    failing: BTreeMap<String, String>,
    /// Each with the number of the authority that it works for; see [`Self::turn_away`].
    jobs: JoinSet<(u64, Done)>,
    number: u64,
    /// Ends the jobs of this number.
    over: CancellationToken,
    /// Take back what orders leave that were cut off.
    removals: TaskTracker,
}

impl Keeper {
    /// With nothing to do yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, challenges: Arc<Challenges>, observer: Arc<dyn Observer>) -> Self {
        Self {
            clock,
            challenges,
            observer,
            plan: Plan::default(),
            entries: BTreeMap::new(),
            statuses: HashMap::new(),
            failing: BTreeMap::new(),
            jobs: JoinSet::new(),
            number: 0,
            over: CancellationToken::new(),
            removals: TaskTracker::new(),
        }
    }

    /// Takes a plan: loads what the storage has for it and serves that at once. Nothing is ordered here.
    pub async fn adopt(&mut self, plan: Plan) {
        let same = match (&self.plan.options, &plan.options) {
            (Some(old), Some(new)) => {
                old.directory == new.directory && Arc::ptr_eq(&old.storage, &new.storage)
            }
            _ => false,
        };
        let now = self.now();
        let mut old = if same {
            std::mem::take(&mut self.entries)
        } else {
            self.turn_away();
            BTreeMap::new()
        };
        self.plan = plan;
        self.entries.clear();
        if let Some(options) = self.plan.options.clone() {
            let (known, new): (Vec<_>, Vec<_>) = options
                .names
                .iter()
                .cloned()
                .partition(|name| old.contains_key(name));
            for name in known {
                if let Some(mut entry) = old.remove(&name) {
                    entry.retry_at = entry
                        .retry_at
                        .min(entry.tried_at + schedule::AFTER_RELOAD)
                        .max(now);
                    self.entries.insert(name, entry);
                }
            }
            self.load(&options, new).await;
        }
        self.failing.retain(|name, _| self.entries.contains_key(name));
        self.follow_statuses().await;
        self.tell();
    }

    /// Ends the jobs for the authority and the storage that were in force. What they bring counts for nothing any more.
    fn turn_away(&mut self) {
        self.over.cancel();
        self.over = CancellationToken::new();
        self.number += 1;
        for status in self.statuses.values_mut() {
            status.running = false;
        }
    }

    async fn load(&mut self, options: &Arc<Options>, names: Vec<String>) {
        let loads = names.into_iter().map(|name| async move {
            let loaded = stored::load(options, &name).await;
            (name, loaded)
        });
        let mut loads = stream::iter(loads).buffer_unordered(READS);
        while let Some((name, loaded)) = loads.next().await {
            let kept = loaded.unwrap_or_else(|error| {
                tracing::error!(name, %error, "autocert: the storage cannot be read");
                None
            });
            self.entries.insert(name, Entry::with(kept));
        }
    }

    /// Works until `stop`, and puts in order what is half done then. A new plan in `plans` is taken at once; jobs of the
    /// old one may finish while authority and storage stay the same.
    pub async fn run(mut self, mut plans: watch::Receiver<Plan>, stop: CancellationToken) {
        let mut changes = self.changes();
        if changes.is_some() {
            // Between the first look and this moment.
            self.look_again(&Change::Any).await;
        }
        loop {
            self.start_jobs();
            let pause = self.pause();
            tokio::select! {
                () = stop.cancelled() => return self.end().await,
                changed = plans.changed() => {
                    if changed.is_err() {
                        return self.end().await;
                    }
                    let plan = plans.borrow_and_update().clone();
                    // First: what is written while it is read must not be missed.
                    changes = plan.options.as_ref().and_then(|options| options.storage.changes());
                    self.adopt(plan).await;
                }
                change = next_change(&mut changes) => self.look_again(&change).await,
                Some(done) = self.jobs.join_next() => match done {
                    Ok((number, done)) if number == self.number => self.finish(done).await,
                    Ok(_) => {}
                    Err(error) => tracing::error!(%error, "autocert: a job ended half-way"),
                },
                () = tokio::time::sleep(pause) => self.tell(),
            }
        }
    }

    /// Ends what is under way, and waits until it has left nothing behind.
    async fn end(&mut self) {
        self.turn_away();
        let ended = async {
            while self.jobs.join_next().await.is_some() {}
            self.removals.close();
            self.removals.wait().await;
        };
        if tokio::time::timeout(LAST_DEEDS, ended).await.is_err() {
            tracing::warn!("autocert: locks or records of challenges may stay behind");
        }
    }

    fn changes(&self) -> Option<broadcast::Receiver<Change>> {
        self.plan.options.as_ref()?.storage.changes()
    }

    /// Takes over what another process has written, unless a job of ours is at it and will do so.
    async fn look_again(&mut self, change: &Change) {
        let Some(options) = self.plan.options.clone() else {
            return;
        };
        let is_meant = |name: &str| match change {
            Change::Any => true,
            Change::Of(key) => *key == layout::certificate(&options.directory, name, "crt"),
        };
        let idle = self.entries.iter().filter(|(_, entry)| !entry.running);
        let names: Vec<String> = idle
            .map(|(name, _)| name.clone())
            .filter(|name| is_meant(name))
            .collect();
        let now = self.now();
        let mut taken = false;
        for name in names {
            let Ok(Some(stored)) = stored::load(&options, &name).await else {
                continue;
            };
            let Some(entry) = self.entries.get_mut(&name) else {
                continue;
            };
            if !entry.is_behind(&stored, now) {
                continue;
            }
            tracing::info!(name, "autocert: another process has obtained a certificate");
            entry.obtained(stored);
            self.failing.remove(&name);
            taken = true;
        }
        if taken {
            self.follow_statuses().await;
            self.tell();
        }
    }

    fn now(&self) -> i64 {
        self.clock.now().as_second()
    }

    fn start_jobs(&mut self) {
        let Some(options) = self.plan.options.clone() else {
            return;
        };
        let tools = Tools {
            options,
            clock: Arc::clone(&self.clock),
            challenges: Arc::clone(&self.challenges),
            over: self.over.clone(),
            removals: self.removals.clone(),
        };
        let number = self.number;
        let now = self.now();
        for (name, entry) in self.entries.iter_mut().filter(|(_, entry)| !entry.running) {
            if self.jobs.len() >= MAX_JOBS {
                return;
            }
            if entry.due_at() <= now {
                (entry.running, entry.tried_at) = (true, now);
                let job = tools.clone().obtain(name.clone(), entry.kept.clone());
                self.jobs.spawn(numbered(number, job));
            } else if let Some(kept) = entry
                .kept
                .clone()
                .filter(|_| entry.ask_at().is_some_and(|at| at <= now))
            {
                entry.running = true;
                let job = tools.clone().suggest(name.clone(), kept);
                self.jobs.spawn(numbered(number, job));
            }
        }
        for (fingerprint, status) in &mut self.statuses {
            if self.jobs.len() >= MAX_JOBS {
                return;
            }
            if !status.running && status.due_at() <= now {
                status.running = true;
                let job =
                    tools
                        .clone()
                        .staple(fingerprint.clone(), status.subject.clone(), status.key.clone());
                self.jobs.spawn(numbered(number, job));
            }
        }
    }

    /// Until the next thing is due.
    fn pause(&self) -> Duration {
        if self.plan.options.is_none() {
            return CHECK;
        }
        let idle = self.entries.values().filter(|entry| !entry.running);
        let names = idle
            .flat_map(|entry| [Some(entry.due_at()), entry.ask_at()])
            .flatten();
        let idle = self.statuses.values().filter(|status| !status.running);
        let next = names.chain(idle.map(Status::due_at)).min().unwrap_or(i64::MAX);
        // What is due and does not run waits for a job to end.
        let seconds = next.saturating_sub(self.now()).max(1);
        Duration::from_secs(u64::try_from(seconds).unwrap_or(1)).min(CHECK)
    }

    async fn finish(&mut self, done: Done) {
        match done {
            Done::Certificate(name, result) => self.finish_certificate(name, result).await,
            Done::Suggestion(name, suggestion) => {
                if let Some(entry) = self.entries.get_mut(&name) {
                    entry.running = false;
                    entry.suggestion = Some(suggestion);
                }
            }
            Done::Staple(fingerprint, result) => self.finish_staple(&fingerprint, result),
            Done::Over => {}
        }
    }

    async fn finish_certificate(&mut self, name: String, result: Result<Obtained, AcmeError>) {
        let Some(entry) = self.entries.get_mut(&name) else {
            return;
        };
        entry.running = false;
        match result {
            Ok(obtained) => self.obtained(&name, obtained).await,
            Err(error) => self.failed(name, &error),
        }
    }

    async fn obtained(&mut self, name: &str, obtained: Obtained) {
        let Some(entry) = self.entries.get_mut(name) else {
            return;
        };
        let renewal = entry.kept.is_some();
        let expires = moment(obtained.certificate.not_after());
        let fingerprint = obtained.certificate.fingerprint();
        entry.obtained(obtained.certificate);
        self.failing.remove(name);
        self.follow_statuses().await;
        if let (Some(status), Some(staple)) = (self.statuses.get_mut(&fingerprint), obtained.staple) {
            status.staple = Some(staple);
        }
        if obtained.ordered {
            self.observer.ordered(name, renewal);
        }
        self.tell();
        if obtained.ordered {
            tracing::info!(name, expires, renewal, "autocert: a certificate was obtained");
        } else {
            tracing::info!(
                name,
                expires,
                "autocert: another process has obtained a certificate"
            );
        }
    }

    fn failed(&mut self, name: String, error: &AcmeError) {
        let now = self.now();
        let Some(entry) = self.entries.get_mut(&name) else {
            return;
        };
        entry.failed(now);
        let ends = entry.kept.as_ref().map(|kept| moment(kept.not_after()));
        tracing::error!(
            name,
            %error,
            failures = entry.failures,
            next_attempt = moment(entry.retry_at),
            expires = ends.as_deref().unwrap_or("there is no certificate yet"),
            "autocert: a certificate could not be obtained; what there is stays in use"
        );
        self.failing.insert(name, error.to_string());
        self.tell();
    }

    fn finish_staple(&mut self, fingerprint: &str, result: Result<Staple, OcspError>) {
        let now = self.now();
        let Some(status) = self.statuses.get_mut(fingerprint) else {
            return;
        };
        status.running = false;
        let names = self.names_of(fingerprint);
        let Some(status) = self.statuses.get_mut(fingerprint) else {
            return;
        };
        match result {
            Ok(staple) => {
                let revoked = staple.revoked;
                (status.staple, status.failures, status.retry_at) = (Some(staple), 0, now + 1);
                if revoked {
                    tracing::error!(
                        names = names.join(", "),
                        "autocert: a certificate has been revoked; browsers will refuse it"
                    );
                    self.revoked(fingerprint);
                }
            }
            Err(error) => {
                status.failed(now);
                tracing::warn!(names = names.join(", "), %error, "autocert: the status of a certificate cannot be had");
            }
        }
        self.tell();
    }

    /// A revoked certificate of ours is renewed at once; one from elsewhere is its owner's business.
    fn revoked(&mut self, fingerprint: &str) {
        let of_this = |entry: &&mut Entry| {
            entry
                .kept
                .as_ref()
                .is_some_and(|kept| kept.fingerprint() == fingerprint)
        };
        if let Some(entry) = self.entries.values_mut().find(of_this) {
            entry.revoked = true;
        }
    }

    fn names_of(&self, fingerprint: &str) -> Vec<String> {
        let found = self
            .all()
            .find(|certificate| certificate.fingerprint() == fingerprint);
        found
            .map(|certificate| certificate.names().to_vec())
            .unwrap_or_default()
    }

    fn all(&self) -> impl Iterator<Item = &LoadedCertificate> {
        let kept = self.entries.values().filter_map(|entry| entry.kept.as_ref());
        kept.chain(&self.plan.configured)
    }

    /// Begins to follow the status of new certificates, with what the storage has, and forgets that of old ones.
    async fn follow_statuses(&mut self) {
        let Some(options) = self.plan.options.clone() else {
            self.statuses.clear();
            return;
        };
        let now = self.now();
        let wanted: HashMap<String, LoadedCertificate> = self
            .all()
            .map(|certificate| (certificate.fingerprint(), certificate.clone()))
            .collect();
        self.statuses
            .retain(|fingerprint, _| wanted.contains_key(fingerprint));
        for (fingerprint, certificate) in wanted {
            if self.statuses.contains_key(&fingerprint) {
                continue;
            }
            // Most certificates have no responder: nothing to staple then.
            let Ok(subject) = Subject::of(certificate.chain()) else {
                continue;
            };
            let first = certificate.names().first().map_or("", String::as_str);
            let key = layout::staple(first, stored::chain_pem(certificate.chain()).as_bytes());
            let stored = options.storage.get(&key).await.ok().flatten();
            let staple = stored.and_then(|der| subject.verify(&der, now).ok());
            let status = Status {
                subject,
                key,
                staple,
                failures: 0,
                retry_at: 0,
                running: false,
            };
            self.statuses.insert(fingerprint, status);
        }
    }

    /// Tells the observer what is to be served now.
    fn tell(&self) {
        let now = self.now();
        let staple = |certificate: &LoadedCertificate| {
            let status = self.statuses.get(&certificate.fingerprint())?;
            status.shown(now).map(|staple| staple.der.clone())
        };
        let certificates = self.entries.values().filter_map(|entry| {
            let kept = entry.kept.as_ref()?;
            let stapled = staple(kept);
            let previous = entry
                .previous
                .as_ref()
                .filter(|previous| previous.not_after() > now);
            match (stapled, previous) {
                (None, Some(previous)) if kept.must_staple() => Some(previous.with_staple(staple(previous))),
                (stapled, _) => Some(kept.with_staple(stapled)),
            }
        });
        let configured = self.plan.configured.iter();
        let staples =
            configured.filter_map(|certificate| Some((certificate.fingerprint(), staple(certificate)?)));
        self.observer.changed(Served {
            certificates: certificates.collect(),
            staples: staples.collect(),
        });
        self.observer.failing(&self.failing);
    }
}

/// For the authority with this number.
async fn numbered(number: u64, job: impl Future<Output = Done>) -> (u64, Done) {
    (number, job.await)
}

/// What comes next; never, where nothing can be known.
async fn next_change(changes: &mut Option<broadcast::Receiver<Change>>) -> Change {
    let Some(receiver) = changes else {
        return std::future::pending().await;
    };
    match receiver.recv().await {
        Ok(change) => change,
        Err(RecvError::Lagged(_)) => Change::Any,
        Err(RecvError::Closed) => {
            *changes = None;
            std::future::pending().await
        }
    }
}

/// For people.
fn moment(unix: i64) -> String {
    jiff::Timestamp::from_second(unix).map_or_else(|_| unix.to_string(), |at| at.to_string())
}
