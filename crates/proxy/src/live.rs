//! What goes on for long: tunnels, and requests and answers that take more than a moment. A request is judged once;
//! these are judged again when routes change, when the records change that they were judged by, and when a moment
//! passes that counts; they end when they would not begin any more.
//!
//! Each of them is asked ([`Live::changed`], [`Live::time_passed`]); only those that end are woken.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};

use arc_swap::{ArcSwap, ArcSwapOption};
use futures_util::task::AtomicWaker;
use http::HeaderMap;
use jiff::Timestamp;
use parking_lot::Mutex;
use pomerium_authorize::{Lookup, Principal, SessionResolver};
use pomerium_policy::CertificateTrust;
use pomerium_web::canonical::CanonicalRequest;

use crate::client_tls::{ClientTrusts, Shown};
use crate::flow::{client_certificate, judge};
use crate::route::{Route, RouteAction};
use crate::router::Match;
use crate::snapshot::Snapshot;

/// The response code details of what ends this way.
pub(crate) const ENDED: &str = "access_ended";

/// Everything of one worker that goes on for long.
#[derive(Debug, Default)]
pub(crate) struct Live {
    held: Mutex<HashMap<u64, Arc<Held>>>,
    next: AtomicU64,
}

/// What has begun, and what it was judged by.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) request: Arc<CanonicalRequest>,
    /// The headers, where the policy looks at them.
    pub(crate) headers: Option<Arc<HeaderMap>>,
    pub(crate) principal: Option<Arc<Principal>>,
    pub(crate) route: Arc<Route>,
    pub(crate) shown: Shown,
    /// What the client certificate counted for.
    pub(crate) trust: CertificateTrust,
}

impl Live {
    /// Counts in what has begun, until the hold goes.
    pub(crate) fn hold(self: &Arc<Self>, begun: Begun) -> Hold {
        let held = Arc::new(Held {
            request: begun.request,
            headers: begun.headers,
            signed_in: begun.principal.is_some(),
            principal: ArcSwapOption::new(begun.principal),
            route: ArcSwap::new(begun.route),
            shown: begun.shown,
            trust: AtomicU8::new(begun.trust as u8),
            ended: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        });
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.held.lock().insert(id, held.clone());
        Hold {
            held,
            live: self.clone(),
            id,
        }
    }

    /// Ends what would not be allowed under `snapshot` and by the records as they are now, and what belongs to a session
    /// that is gone.
    pub(crate) fn changed(&self, snapshot: &Snapshot, sessions: &SessionResolver, now: Timestamp) {
        self.ask(|_| true, |held| held.stands(snapshot, sessions, now));
    }

    /// Ends what may not go on because of the time: a session is over, a login too old, a date has come.
    pub(crate) fn time_passed(&self, snapshot: &Snapshot, sessions: &SessionResolver, now: Timestamp) {
        let minds = |held: &Held| held.minds_time(now);
        self.ask(minds, |held| held.stands_in_time(snapshot, sessions, now));
    }

    /// Ends what belongs to people of whom `lost` says so.
    pub(crate) fn people_changed(&self, lost: &dyn Fn(&Principal) -> bool) {
        let is_lost = |held: &Held| held.principal.load().as_deref().is_some_and(lost);
        self.ask(|held| held.signed_in, |held| !is_lost(held));
    }

    /// Judged outside the lock, which every tunnel takes when it begins and ends.
    fn ask(&self, whom: impl Fn(&Held) -> bool, stands: impl Fn(&Held) -> bool) {
        let asked: Vec<Arc<Held>> = self
            .held
            .lock()
            .values()
            .filter(|held| whom(held))
            .cloned()
            .collect();
        for held in asked {
            if !stands(&held) {
                held.end();
            }
        }
    }
}

/// One tunnel or stream.
#[derive(Debug)]
struct Held {
    request: Arc<CanonicalRequest>,
    headers: Option<Arc<HeaderMap>>,
    /// Somebody was signed in when it began: it ends with their session, whatever the route says of nobody.
    signed_in: bool,
    principal: ArcSwapOption<Principal>,
    route: ArcSwap<Route>,
    shown: Shown,
    /// What its client certificate counted for, as [`CertificateTrust`].
    trust: AtomicU8,
    ended: AtomicBool,
    waker: AtomicWaker,
}

impl Held {
    /// Whether it might begin now, too. What has not changed is not judged again.
    fn stands(&self, snapshot: &Snapshot, sessions: &SessionResolver, now: Timestamp) -> bool {
        self.judged(snapshot, sessions, now, false)
    }

    /// The same when nothing but the time has changed.
    fn stands_in_time(&self, snapshot: &Snapshot, sessions: &SessionResolver, now: Timestamp) -> bool {
        self.judged(snapshot, sessions, now, true)
    }

    /// Whether it has to be asked as time passes.
    fn minds_time(&self, now: Timestamp) -> bool {
        let over = || {
            self.principal
                .load()
                .as_deref()
                .is_some_and(|who| who.expired(now))
        };
        self.route.load().depends.time || over()
    }

    fn judged(&self, snapshot: &Snapshot, sessions: &SessionResolver, now: Timestamp, time: bool) -> bool {
        let request = &*self.request;
        let Match::Route(index) = snapshot.table.find(request.authority.as_str(), &request.path) else {
            return false;
        };
        let Some(route) = snapshot.routes.get(index) else {
            return false;
        };
        let client = self.shown.client.as_deref();
        let rejected = |clients: &ClientTrusts| clients.rejects(client, request.host(), now.as_second());
        if self.shown.tls && snapshot.clients.as_ref().is_some_and(rejected) {
            return false;
        }
        let Ok((principal, same_person)) = self.person(sessions, now) else {
            return false;
        };
        // A certificate may be revoked, or its authority gone, while the route is as it was.
        let certificate = client_certificate(snapshot, client, route, now);
        let trust = certificate.trust as u8;
        let same_trust = self.trust.swap(trust, Ordering::AcqRel) == trust;
        let known = self.route.swap(route.clone());
        let same_route = Arc::ptr_eq(&known, route) || known.checksum() == route.checksum();
        let same_facts = same_trust && same_person && !route.depends.records && !(time && route.depends.time);
        if same_route && same_facts {
            return true;
        }
        let carried = matches!(route.action, RouteAction::Forward(_))
            && request
                .upgrade
                .as_deref()
                .is_none_or(|protocol| route.upgrades_to(protocol));
        let admits_like = same_facts && known.admits_like(route);
        let lookup = Lookup::new(sessions.records(), snapshot.geoip.as_ref(), now);
        let nothing = HeaderMap::new();
        let headers = self.headers.as_deref().unwrap_or(&nothing);
        let facts = (request, headers, principal.as_deref(), certificate);
        carried && (admits_like || judge::again(facts, route, &lookup))
    }

    /// Who it belongs to as the records have them now, and whether they are the same as before. Errors when they have
    /// lost their session.
    fn person(
        &self,
        sessions: &SessionResolver,
        now: Timestamp,
    ) -> Result<(Option<Arc<Principal>>, bool), ()> {
        if !self.signed_in {
            return Ok((None, true));
        }
        let known = self.principal.load_full().ok_or(())?;
        let renewed = sessions.renewed(&known, now).ok_or(())?;
        let same = Arc::ptr_eq(&known, &renewed);
        if !same {
            self.principal.store(Some(Arc::clone(&renewed)));
        }
        Ok((Some(renewed), same))
    }

    fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.waker.wake();
    }
}

/// A place in [`Live`].
#[derive(Debug)]
pub(crate) struct Hold {
    held: Arc<Held>,
    live: Arc<Live>,
    id: u64,
}

impl Hold {
    /// Judges at once: for a hold that is taken when routes or records may have changed since the request was judged.
    pub(crate) fn catch_up(&self, snapshot: &Snapshot, sessions: &SessionResolver, now: Timestamp) {
        if !self.held.stands(snapshot, sessions, now) {
            self.held.end();
        }
    }

    /// Whether it has to end.
    pub(crate) fn is_ended(&self) -> bool {
        self.held.ended.load(Ordering::Acquire)
    }

    /// Ready when it has to end.
    pub(crate) fn poll_ended(&self, cx: &Context<'_>) -> Poll<()> {
        self.held.waker.register(cx.waker());
        if self.is_ended() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.live.held.lock().remove(&self.id);
    }
}
