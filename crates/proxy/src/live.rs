//! What goes on for long: tunnels, and answers that stream for more than a moment. A request is judged once;
//! these are judged again when routes change or somebody loses a session, and end when they would not begin
//! any more.
//!
//! A reload asks each of them ([`Live::routes_changed`]); only those that end are woken.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};

use arc_swap::ArcSwap;
use futures_util::task::AtomicWaker;
use jiff::Timestamp;
use parking_lot::Mutex;
use pomerium_api::synced::SyncedRecords;
use pomerium_authorize::{Lookup, Principal};
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

impl Live {
    /// Counts in what `request` of `principal` has begun under `route`, until the hold goes.
    pub(crate) fn hold(
        self: &Arc<Self>,
        request: Arc<CanonicalRequest>,
        principal: Option<Arc<Principal>>,
        route: Arc<Route>,
        (shown, trust): (Shown, CertificateTrust),
    ) -> Hold {
        let held = Arc::new(Held {
            request,
            principal,
            route: ArcSwap::new(route),
            shown,
            trust: AtomicU8::new(trust as u8),
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

    /// Ends what would not be allowed under `snapshot`.
    pub(crate) fn routes_changed(&self, snapshot: &Snapshot, records: &Arc<SyncedRecords>, now: Timestamp) {
        for held in self.all() {
            if !held.stands(snapshot, records, now) {
                held.end();
            }
        }
    }

    /// Ends what belongs to people of whom `lost` says so.
    pub(crate) fn people_changed(&self, lost: &dyn Fn(&Principal) -> bool) {
        for held in self.all() {
            if held.principal.as_deref().is_some_and(lost) {
                held.end();
            }
        }
    }

    /// Judged outside the lock, which every tunnel takes when it begins and ends.
    fn all(&self) -> Vec<Arc<Held>> {
        self.held.lock().values().cloned().collect()
    }
}

/// One tunnel or stream.
#[derive(Debug)]
struct Held {
    request: Arc<CanonicalRequest>,
    principal: Option<Arc<Principal>>,
    route: ArcSwap<Route>,
    shown: Shown,
    /// What its client certificate counted for, as [`CertificateTrust`].
    trust: AtomicU8,
    ended: AtomicBool,
    waker: AtomicWaker,
}

impl Held {
    /// Whether it might begin under `snapshot`, too. A route that has not changed is not asked again: what it
    /// was asked about, headers for instance, is gone.
    fn stands(&self, snapshot: &Snapshot, records: &Arc<SyncedRecords>, now: Timestamp) -> bool {
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
        // A certificate may be revoked, or its authority gone, while the route is as it was.
        let certificate = client_certificate(snapshot, client, route, now);
        let trust = certificate.trust as u8;
        let same_trust = self.trust.swap(trust, Ordering::AcqRel) == trust;
        let known = self.route.swap(route.clone());
        let same_route = Arc::ptr_eq(&known, route) || known.checksum() == route.checksum();
        if same_route && same_trust {
            return true;
        }
        let carried = matches!(route.action, RouteAction::Forward(_))
            && request
                .upgrade
                .as_deref()
                .is_none_or(|protocol| route.upgrades_to(protocol));
        let admits_like = same_trust && known.admits_like(route);
        let principal = self.principal.as_deref();
        let lookup = Lookup::new(records, snapshot.geoip.as_ref(), now);
        carried && (admits_like || judge::again(request, principal, certificate, route, &lookup))
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
    /// Judges at once: for a hold that is taken when the routes may have changed since the request was judged.
    pub(crate) fn catch_up(&self, snapshot: &Snapshot, records: &Arc<SyncedRecords>, now: Timestamp) {
        if !self.held.stands(snapshot, records, now) {
            self.held.end();
        }
    }

    /// Ready when it has to end.
    pub(crate) fn poll_ended(&self, cx: &Context<'_>) -> Poll<()> {
        self.held.waker.register(cx.waker());
        if self.held.ended.load(Ordering::Acquire) {
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
