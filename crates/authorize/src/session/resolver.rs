//! The resolver: token in, principal out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use pomerium_api::databroker::{Databroker, Error, Record, Versions};
use pomerium_api::pb;
use pomerium_api::pb::session::Session;
use pomerium_api::pb::session::session::device_credential;
use pomerium_api::records::{DIRECTORY_USER, RecordMessage};
use pomerium_api::synced::{Entry, Parts, SyncedRecords};
use quick_cache::sync::Cache;

use super::Anonymous;
use super::handle::Handle;
use crate::principal::Principal;

/// The claim of groups, unless another one is set.
const DEFAULT_GROUPS_CLAIM: &str = "groups";

/// How many tokens are remembered.
const REMEMBERED: usize = 8192;

/// Resolves session tokens. What it remembers about a token is checked against the records on every use,
/// so that a change or a sign-out counts as soon as it has arrived here.
pub struct SessionResolver {
    records: Arc<SyncedRecords>,
    broker: Arc<dyn Databroker>,
    shared_key: [u8; 32],
    groups_claim: ArcSwap<Arc<str>>,
    any_provider: AtomicBool,
    tokens: Cache<Box<str>, Remembered, quick_cache::UnitWeighter, foldhash::fast::RandomState>,
}

/// What is known about a token that is signed by us.
#[derive(Clone)]
struct Remembered {
    handle: Arc<Handle>,
    state: State,
}

#[derive(Clone)]
enum State {
    Principal(Arc<Principal>),
    /// The databroker had no such record when the records stood at this generation.
    Absent(u64),
}

/// What a token leads to.
#[derive(Debug)]
pub enum Resolved {
    /// Somebody.
    Principal(Arc<Principal>),
    /// Nobody, and why.
    Anonymous(Anonymous),
    /// Nobody can tell any more: the databroker could not be reached for too long.
    OutOfTouch,
    /// Only the databroker knows: go on with [`SessionResolver::resolve_slow`].
    NeedsFetch(Pending),
}

/// A token that is signed by us, whose record is not known here yet.
#[derive(Debug)]
pub struct Pending {
    token: Box<str>,
    handle: Arc<Handle>,
}

impl SessionResolver {
    /// A resolver over synced records. `broker` is asked for what they do not hold yet.
    pub fn new(records: Arc<SyncedRecords>, broker: Arc<dyn Databroker>, shared_key: [u8; 32]) -> Self {
        let tokens = Cache::with(
            REMEMBERED,
            REMEMBERED as u64,
            quick_cache::UnitWeighter,
            foldhash::fast::RandomState::default(),
            quick_cache::sync::DefaultLifecycle::default(),
        );
        Self {
            records,
            broker,
            shared_key,
            groups_claim: ArcSwap::from_pointee(Arc::from(DEFAULT_GROUPS_CLAIM)),
            any_provider: AtomicBool::new(false),
            tokens,
        }
    }

    /// Sets the claim that names the groups of people whom the directory does not know (`groups_claim`); empty is
    /// none. Counts from the next request on.
    pub fn set_groups_claim(&self, name: &str) {
        self.groups_claim.store(Arc::new(Arc::from(name)));
    }

    /// Whether sessions of any identity provider count where a route names none: in a process that does not sign people
    /// in, and so does not know the provider.
    pub fn set_any_provider(&self, any: bool) {
        self.any_provider.store(any, Ordering::Relaxed);
    }

    /// The records this reads.
    pub fn records(&self) -> &Arc<SyncedRecords> {
        &self.records
    }

    /// Resolves a token for a route that signs in with `idp_id`, without I/O.
    pub fn resolve(&self, token: &str, idp_id: Option<&str>, now: Timestamp) -> Resolved {
        if self.records.out_of_touch(now) {
            return Resolved::OutOfTouch;
        }
        let known = self.tokens.get(token);
        let handle = match &known {
            Some(known) => Arc::clone(&known.handle),
            None => match Handle::read(&self.shared_key, token) {
                Some(handle) => Arc::new(handle),
                None => return Resolved::Anonymous(Anonymous::Malformed),
            },
        };
        let any = idp_id.is_none() && self.any_provider.load(Ordering::Relaxed);
        if !any && !handle.fits(idp_id) {
            return Resolved::Anonymous(Anonymous::OtherProvider);
        }
        match known.map(|known| known.state) {
            Some(State::Principal(principal))
                if principal.is_current(&*self.records, &self.groups_claim.load()) =>
            {
                unexpired(principal, now)
            }
            Some(State::Absent(generation)) if generation == self.records.generation() => {
                Resolved::Anonymous(Anonymous::NoRecord)
            }
            _ => self.resolve_locally(token, handle, now),
        }
    }

    fn resolve_locally(&self, token: &str, handle: Arc<Handle>, now: Timestamp) -> Resolved {
        let min = handle.min();
        // Before the records: one that arrives in between is then asked for.
        let before = self.records.position();
        let id = handle.jti.as_str();
        let built = if let Some(entry) = self.records.session(id) {
            // A session ahead of the change log may be ahead of its user record as well. That it was used since says
            // nothing of the kind.
            if !(reaches_min(entry.at(), min) && has_come_to(self.records.position(), entry.said_at())) {
                return needs_fetch(token, handle);
            }
            Principal::of_session(&*self.records, entry, &self.groups_claim.load())
        } else if let Some(entry) = self.records.service_account(id) {
            if !reaches_min(entry.at(), min) {
                return needs_fetch(token, handle);
            }
            Ok(Principal::of_account(
                &*self.records,
                entry,
                &self.groups_claim.load(),
            ))
        } else if min.is_some_and(|min| has_come_to(before, min)) {
            Err(Anonymous::NoRecord)
        } else {
            return needs_fetch(token, handle);
        };
        self.settle(token.into(), handle, built, now)
    }

    /// The same person as the records have them now, without I/O: `known` itself where nothing has changed. `None` when
    /// the session or account is gone or over, when somebody looks through a session that is, and when the records are too
    /// old to be believed.
    pub fn renewed(&self, known: &Arc<Principal>, now: Timestamp) -> Option<Arc<Principal>> {
        if self.records.out_of_touch(now) {
            return None;
        }
        let claim = self.groups_claim.load();
        let renewed = if known.is_current(&*self.records, &claim) {
            Arc::clone(known)
        } else if known.service_account {
            let entry = self.records.service_account(&known.session_id)?;
            Arc::new(Principal::of_account(&*self.records, entry, &claim))
        } else {
            let entry = self.records.session(&known.session_id)?;
            Arc::new(Principal::of_session(&*self.records, entry, &claim).ok()?)
        };
        (!renewed.expired(now)).then_some(renewed)
    }

    /// The same person with `parts` of their session, if those were left out: they are left out where nothing read them
    /// when the session came here. Asks the databroker then.
    ///
    /// Nobody when the session has ended meanwhile. Errors when the databroker cannot be reached, or when its version of
    /// the session is not the one that is here: what is asked for is not known then, and the answer is 503.
    pub async fn complete(
        &self,
        principal: Arc<Principal>,
        parts: Parts,
        now: Timestamp,
    ) -> Result<Resolved, Error> {
        let lacking = principal.session.as_ref().filter(|_| principal.lacks(parts));
        let Some(session) = lacking else {
            return Ok(Resolved::Principal(principal));
        };
        self.records.complete_session(&session.session.id, parts).await?;
        if self.records.out_of_touch(now) {
            return Ok(Resolved::OutOfTouch);
        }
        match self.renewed(&principal, now) {
            Some(renewed) if renewed.lacks(parts) => Err(Error::Unavailable(
                "another version of the session is here".into(),
            )),
            Some(renewed) => Ok(Resolved::Principal(renewed)),
            None => Ok(Resolved::Anonymous(Anonymous::NoRecord)),
        }
    }

    /// Asks the databroker. Never answers [`Resolved::NeedsFetch`].
    ///
    /// Errors when the databroker cannot be reached: the request can be neither judged nor sent to the
    /// login, the answer is 503.
    pub async fn resolve_slow(&self, pending: Pending, now: Timestamp) -> Result<Resolved, Error> {
        let Pending { token, handle } = pending;
        let generation = self.records.generation();
        let session = present(self.records.fetch_session(&handle.jti, handle.min()).await)?.flatten();
        let built = match session {
            Some(session) => {
                self.refresh_behind(&session.session).await?;
                Principal::of_session(&*self.records, session, &self.groups_claim.load())
            }
            None => self.account(&handle).await?,
        };
        if matches!(built, Err(Anonymous::NoRecord)) {
            self.tokens.insert(
                token,
                Remembered {
                    handle,
                    state: State::Absent(generation),
                },
            );
            return Ok(Resolved::Anonymous(Anonymous::NoRecord));
        }
        Ok(self.settle(token, handle, built, now))
    }

    /// The records behind a session that may be newer than what has arrived here.
    async fn refresh_behind(&self, session: &Session) -> Result<(), Error> {
        self.refresh_person(session).await?;
        let target = session
            .impersonate_session_id
            .as_deref()
            .filter(|id| !id.is_empty());
        let Some(target) = target else { return Ok(()) };
        if let Some(target) = present(self.records.fetch_session(target, None).await)?.flatten() {
            self.refresh_person(&target.session).await?;
        }
        Ok(())
    }

    /// User, directory and devices of a session.
    async fn refresh_person(&self, session: &Session) -> Result<(), Error> {
        self.refresh_user(&session.user_id).await?;
        for shown in &session.device_credentials {
            let Some(device_credential::Credential::Id(id)) = &shown.credential else {
                continue;
            };
            self.refresh(pb::device::Credential::TYPE, id).await?;
            if let Some(entry) = self.records.device_credential(id) {
                let enrollment = &entry.credential.enrollment_id;
                self.refresh(pb::device::Enrollment::TYPE, enrollment).await?;
            }
        }
        Ok(())
    }

    async fn refresh_user(&self, id: &str) -> Result<(), Error> {
        self.refresh(pb::user::User::TYPE, id).await?;
        self.refresh(DIRECTORY_USER, id).await
    }

    async fn account(&self, handle: &Handle) -> Result<Result<Principal, Anonymous>, Error> {
        self.refresh(pb::user::ServiceAccount::TYPE, &handle.jti).await?;
        let Some(entry) = self.records.service_account(&handle.jti) else {
            return Ok(Err(Anonymous::NoRecord));
        };
        self.refresh_user(&entry.account.user_id).await?;
        Ok(Ok(Principal::of_account(
            &*self.records,
            entry,
            &self.groups_claim.load(),
        )))
    }

    /// Reads one record from the databroker and takes it over.
    async fn refresh(&self, kind: &str, id: &str) -> Result<(), Error> {
        if id.is_empty() {
            return Ok(());
        }
        let record: Option<Record> = present(self.broker.get(kind, id).await)?;
        if let (Some(record), Some(versions)) = (record, present(self.broker.versions().await)?) {
            self.records.apply(versions.server_version, &record);
        }
        Ok(())
    }

    fn settle(
        &self,
        token: Box<str>,
        handle: Arc<Handle>,
        built: Result<Principal, Anonymous>,
        now: Timestamp,
    ) -> Resolved {
        match built {
            Ok(principal) => {
                let principal = Arc::new(principal);
                let state = State::Principal(Arc::clone(&principal));
                self.tokens.insert(token, Remembered { handle, state });
                unexpired(principal, now)
            }
            Err(why) => Resolved::Anonymous(why),
        }
    }
}

impl std::fmt::Debug for SessionResolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionResolver")
            .field("remembered", &self.tokens.len())
            .finish_non_exhaustive()
    }
}

fn needs_fetch(token: &str, handle: Arc<Handle>) -> Resolved {
    Resolved::NeedsFetch(Pending {
        token: token.into(),
        handle,
    })
}

fn unexpired(principal: Arc<Principal>, now: Timestamp) -> Resolved {
    if principal.expired(now) {
        Resolved::Anonymous(Anonymous::Expired)
    } else {
        Resolved::Principal(principal)
    }
}

/// What is not there is no error; only what cannot be asked is. A record that is damaged for good is as good as none: who had
/// it signs in anew.
fn present<T>(answer: Result<T, Error>) -> Result<Option<T>, Error> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error @ (Error::Unavailable(_) | Error::Unsupported(_) | Error::Refused(_))) => Err(error),
        Err(Error::NotFound | Error::Resync | Error::Invalid(_) | Error::Damaged(_)) => Ok(None),
    }
}

/// Whether `at` is a place no earlier than `wanted`, in the same database.
fn reaches(at: Versions, wanted: Versions) -> bool {
    at.server_version == wanted.server_version && at.latest_record_version >= wanted.latest_record_version
}

/// Whether the change log has been followed to `wanted`.
fn has_come_to(position: Option<Versions>, wanted: Versions) -> bool {
    position.is_some_and(|position| reaches(position, wanted))
}

fn reaches_min(at: Versions, min: Option<Versions>) -> bool {
    min.is_none_or(|min| reaches(at, min))
}
