//! Work that one process of several does: the one that holds a lease (spec databroker.md 7).
//!
//! Start at [`Leaser::run`]. What the work is, and how it ends half-way, is its own business.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::{Databroker, Error, LeaseRequest};

/// First pause after a databroker that cannot be asked; doubles up to half the time of the lease.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// A wish for a lease, and what is done while it is held.
#[derive(Clone)]
pub struct Leaser {
    broker: Arc<dyn Databroker>,
    name: String,
    ttl: Duration,
}

/// Tells work that it has to end: somebody else may begin with it soon, or the process stops.
#[derive(Debug, Clone)]
pub struct Over(watch::Receiver<bool>);

/// Why a turn at the work ended.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    /// It came to an end by itself.
    Done,
    /// The lease is not ours any more, or nobody can say.
    Lost,
    /// The process stops.
    Stopped,
}

impl Over {
    /// Completes when the work has to end.
    pub async fn wait(mut self) {
        // Without its sender nobody holds a lease either.
        let _ = self.0.wait_for(|over| *over).await;
    }
}

impl Leaser {
    /// The lease `name`, which lasts `ttl` without a sign of life. Holders give one, and others look, twice in that time.
    pub fn new(broker: Arc<dyn Databroker>, name: impl Into<String>, ttl: Duration) -> Self {
        Self {
            broker,
            name: name.into(),
            ttl,
        }
    }

    /// Does `work` for as long as the lease is held, anew each time it is acquired, until `stop` completes or `work`
    /// ends by itself.
    ///
    /// A renewal that is refused, fails or takes too long ends the work: it is told, and has a quarter of `ttl` to put
    /// things in order, while the lease is still out of others' reach. The lease is given back in the end.
    pub async fn run<W>(&self, stop: impl Future<Output = ()>, mut work: impl FnMut(Over) -> W)
    where
        W: Future<Output = ()>,
    {
        let mut stop = pin!(stop);
        let mut pause = FIRST_PAUSE;
        loop {
            let acquired = tokio::select! {
                () = &mut stop => return,
                acquired = self.ask(None) => acquired,
            };
            let wait = match acquired {
                Ok(Some(id)) => {
                    pause = FIRST_PAUSE;
                    tracing::debug!(lease = self.name, "lease acquired");
                    let ended = self.hold(&id, stop.as_mut(), &mut work).await;
                    self.release(id).await;
                    match ended {
                        Ended::Done | Ended::Stopped => return,
                        Ended::Lost => tracing::warn!(lease = self.name, "the lease was lost"),
                    }
                    self.ttl / 2
                }
                Ok(None) => self.ttl / 2,
                Err(error) => {
                    tracing::warn!(%error, lease = self.name, "the lease cannot be asked for");
                    let wait = pause;
                    pause = (pause * 2).min(self.ttl / 2);
                    wait
                }
            };
            tokio::select! {
                () = &mut stop => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// One turn at the work.
    async fn hold<W>(
        &self,
        id: &str,
        mut stop: Pin<&mut impl Future<Output = ()>>,
        work: &mut impl FnMut(Over) -> W,
    ) -> Ended
    where
        W: Future<Output = ()>,
    {
        let (over, told) = watch::channel(false);
        let mut turn = pin!(work(Over(told)));
        let ended = tokio::select! {
            () = &mut turn => return Ended::Done,
            () = stop.as_mut() => Ended::Stopped,
            () = self.renew_until_lost(id) => Ended::Lost,
        };
        over.send_replace(true);
        if tokio::time::timeout(self.ttl / 4, turn).await.is_err() {
            tracing::warn!(lease = self.name, "what was done under the lease is cut off");
        }
        ended
    }

    async fn renew_until_lost(&self, id: &str) {
        loop {
            tokio::time::sleep(self.ttl / 2).await;
            match self.ask(Some(id.to_owned())).await {
                Ok(Some(_)) => {}
                Ok(None) => return,
                Err(error) => {
                    return tracing::warn!(%error, lease = self.name, "the lease cannot be renewed");
                }
            }
        }
    }

    /// Acquires it, or renews it as `id`. An answer that comes too late to be of use is none.
    async fn ask(&self, id: Option<String>) -> Result<Option<String>, Error> {
        let request = LeaseRequest {
            name: self.name.clone(),
            ttl: self.ttl,
            id,
        };
        match tokio::time::timeout(self.ttl / 4, self.broker.lease(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::Unavailable("it does not answer in time".into())),
        }
    }

    async fn release(&self, id: String) {
        let released = self.broker.release_lease(self.name.clone(), id);
        match tokio::time::timeout(self.ttl, released).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, lease = self.name, "the lease cannot be given back; it ends by itself");
            }
            Err(_) => tracing::warn!(lease = self.name, "the lease could not be given back in time"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use futures_util::FutureExt;
    use futures_util::future::{BoxFuture, ready};
    use parking_lot::Mutex;
    use tokio::sync::mpsc;
    use tokio::time::{Instant, advance, timeout};

    use super::*;
    use crate::databroker::{Cleared, Latest, PutReply, Record, RecordStream, Versions};

    const TTL: Duration = Duration::from_secs(30);

    /// One lease, on the clock of the runtime.
    #[derive(Default)]
    struct Leases {
        held: Mutex<Option<(String, Instant)>>,
        given: AtomicUsize,
        broken: AtomicBool,
        silent: AtomicBool,
    }

    impl Leases {
        fn answer(&self, request: &LeaseRequest) -> Result<Option<String>, Error> {
            if self.broken.load(Ordering::Relaxed) {
                return Err(Error::Unavailable("disk full".into()));
            }
            let mut held = self.held.lock();
            let now = Instant::now();
            if let Some((id, until)) = &*held
                && *until >= now
                && request.id.as_ref() != Some(id)
            {
                return Ok(None);
            }
            let id = request
                .id
                .clone()
                .unwrap_or_else(|| self.given.fetch_add(1, Ordering::Relaxed).to_string());
            *held = Some((id.clone(), now + request.ttl));
            Ok(Some(id))
        }

        fn holder(&self) -> Option<String> {
            let held = self.held.lock();
            let live = held.as_ref().filter(|(_, until)| *until >= Instant::now());
            live.map(|(id, _)| id.clone())
        }
    }

    fn nothing<T: Send + 'static>() -> BoxFuture<'static, Result<T, Error>> {
        ready(Err(Error::Unsupported("only leases".into()))).boxed()
    }

    impl Databroker for Leases {
        fn versions(&self) -> BoxFuture<'_, Result<Versions, Error>> {
            nothing()
        }
        fn get<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, Result<Record, Error>> {
            nothing()
        }
        fn put(&self, _: Vec<Record>) -> BoxFuture<'_, Result<PutReply, Error>> {
            nothing()
        }
        fn sync_latest<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<RecordStream<Latest>, Error>> {
            nothing()
        }
        fn sync<'a>(&'a self, _: &'a str, _: Versions) -> BoxFuture<'a, Result<RecordStream<Record>, Error>> {
            nothing()
        }
        fn clear(&self) -> BoxFuture<'_, Result<Cleared, Error>> {
            nothing()
        }
        fn lease(&self, request: LeaseRequest) -> BoxFuture<'_, Result<Option<String>, Error>> {
            async move {
                if self.silent.load(Ordering::Relaxed) {
                    std::future::pending::<()>().await;
                }
                self.answer(&request)
            }
            .boxed()
        }
        fn release_lease(&self, _: String, id: String) -> BoxFuture<'_, Result<(), Error>> {
            let mut held = self.held.lock();
            if held.as_ref().is_some_and(|(holder, _)| *holder == id) {
                *held = None;
            }
            ready(Ok(())).boxed()
        }
    }

    /// A process that does the work.
    struct Process {
        stop: Option<tokio::sync::oneshot::Sender<()>>,
        task: tokio::task::JoinHandle<()>,
        said: mpsc::UnboundedReceiver<&'static str>,
    }

    impl Process {
        fn start(leases: &Arc<Leases>) -> Self {
            let leaser = Leaser::new(Arc::clone(leases) as Arc<dyn Databroker>, "job", TTL);
            let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
            let (say, said) = mpsc::unbounded_channel();
            let task = tokio::spawn(async move {
                let stop = async { drop(stopped.await) };
                leaser
                    .run(stop, |over| {
                        let say = say.clone();
                        async move {
                            let _ = say.send("begins");
                            over.wait().await;
                            let _ = say.send("ends");
                        }
                    })
                    .await;
            });
            Self {
                stop: Some(stop),
                task,
                said,
            }
        }

        async fn says(&mut self, what: &str) {
            assert_eq!(self.said.recv().await, Some(what));
        }

        async fn is_quiet_for(&mut self, time: Duration) {
            assert!(timeout(time, self.said.recv()).await.is_err());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_of_two_works_and_the_other_follows_when_it_stops() {
        let leases = Arc::<Leases>::default();
        let mut first = Process::start(&leases);
        first.says("begins").await;
        let mut second = Process::start(&leases);
        second.is_quiet_for(TTL * 20).await;
        first.stop.take();
        first.says("ends").await;
        first.task.await.unwrap();
        assert_ne!(leases.holder().as_deref(), Some("0"), "given back");
        let begun = Instant::now();
        second.says("begins").await;
        assert!(begun.elapsed() <= TTL / 2, "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn the_place_of_one_that_was_killed_is_taken_after_its_lease() {
        let leases = Arc::<Leases>::default();
        let mut first = Process::start(&leases);
        first.says("begins").await;
        let mut second = Process::start(&leases);
        second.is_quiet_for(TTL * 2).await;
        let killed = Instant::now();
        first.task.abort();
        second.says("begins").await;
        let passed = killed.elapsed();
        assert!(passed >= TTL / 2 && passed <= TTL * 3 / 2, "{passed:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_loses_the_lease_ends_and_waits_for_its_turn() {
        let leases = Arc::<Leases>::default();
        let mut process = Process::start(&leases);
        process.says("begins").await;
        *leases.held.lock() = Some(("somebody else".into(), Instant::now() + TTL * 3));
        process.says("ends").await;
        process.is_quiet_for(TTL * 2).await;
        process.says("begins").await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_databroker_that_fails_or_says_nothing_ends_the_work_while_the_lease_lasts() {
        for silent in [false, true] {
            let leases = Arc::<Leases>::default();
            let mut process = Process::start(&leases);
            process.says("begins").await;
            let begun = Instant::now();
            let switch = if silent { &leases.silent } else { &leases.broken };
            switch.store(true, Ordering::Relaxed);
            process.says("ends").await;
            assert!(begun.elapsed() < TTL, "while nobody else can begin");
            process.is_quiet_for(TTL * 3).await;
            switch.store(false, Ordering::Relaxed);
            process.says("begins").await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_does_not_end_is_cut_off_and_work_that_is_done_is_not_repeated() {
        let leases = Arc::<Leases>::default();
        let leaser = Leaser::new(Arc::clone(&leases) as Arc<dyn Databroker>, "job", TTL);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let stubborn = leaser.run(async { drop(stopped.await) }, |_| std::future::pending());
        let stopping = async {
            advance(TTL).await;
            drop(stop);
        };
        let begun = Instant::now();
        tokio::join!(stubborn, stopping);
        assert!(begun.elapsed() <= TTL * 2);
        let times = AtomicUsize::new(0);
        leaser
            .run(std::future::pending(), |_| {
                times.fetch_add(1, Ordering::Relaxed);
                ready(())
            })
            .await;
        assert_eq!(times.into_inner(), 1);
        assert_eq!(leases.holder(), None);
    }
}
