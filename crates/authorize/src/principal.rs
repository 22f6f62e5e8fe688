//! Who is behind a request: built once from the records, used for every request until one of them changes.

use std::sync::Arc;

use jiff::Timestamp;
use pomerium_api::synced::{ServiceAccountEntry, SessionEntry, UserEntry};
use pomerium_policy::{Claims, Subject};
use serde_json::Value;

use crate::claims::{json_claims, session_over_user, stringify, user_over_session};
use crate::session::{Anonymous, Records, validity};

/// A person or machine that is signed in.
#[derive(Debug, Clone)]
pub struct Principal {
    /// Id of the record the request named: the session, or the service account. Never the impersonated one.
    pub session_id: String,
    /// Whether a service account stands behind the request.
    pub service_account: bool,
    /// User id, of the impersonated session if there is one; may be empty.
    pub user_id: String,
    /// E-mail of that user; empty when there is none.
    pub email: String,
    /// Display name; empty when there is none.
    pub name: String,
    /// What policies look at.
    pub subject: Subject,
    /// The session whose identity counts: the impersonated one if there is one. None for service accounts.
    pub session: Option<Arc<SessionEntry>>,
    /// The service account.
    pub account: Option<Arc<ServiceAccountEntry>>,
    /// The user record.
    pub user: Option<Arc<UserEntry>>,
    /// Set while somebody looks through somebody else's eyes: who they really are.
    pub impersonator: Option<Impersonator>,
    /// From then on the principal is nobody; `None` is never.
    pub expires_at: Option<Timestamp>,
    session_claims: Claims,
    user_claims: Claims,
}

/// The person who impersonates.
#[derive(Debug, Clone)]
pub struct Impersonator {
    /// Their session.
    pub session: Arc<SessionEntry>,
    /// Their user record.
    pub user: Option<Arc<UserEntry>>,
    /// Their user id.
    pub user_id: String,
    /// Their e-mail; empty when there is none.
    pub email: String,
}

impl Principal {
    /// The principal of a session. One impersonation is followed; that it leads nowhere, or to a session
    /// that has ended, makes nobody of the request.
    pub fn of_session(records: &dyn Records, own: Arc<SessionEntry>) -> Result<Self, Anonymous> {
        let mut expires_at = validity::session_end(&own.session);
        let Some(target_id) = own
            .session
            .impersonate_session_id
            .as_deref()
            .filter(|id| !id.is_empty())
        else {
            return Ok(Self::new(records, own.session.id.clone(), own, None, expires_at));
        };
        let target = records.session(target_id).ok_or(Anonymous::ImpersonationGone)?;
        expires_at = validity::earlier(expires_at, validity::session_end(&target.session));
        let user = records.user(&own.session.user_id);
        let impersonator = Impersonator {
            user_id: own.session.user_id.clone(),
            email: user
                .as_ref()
                .map(|user| user.user.email.clone())
                .unwrap_or_default(),
            user,
            session: own,
        };
        let session_id = impersonator.session.session.id.clone();
        Ok(Self::new(
            records,
            session_id,
            target,
            Some(impersonator),
            expires_at,
        ))
    }

    fn new(
        records: &dyn Records,
        session_id: String,
        session: Arc<SessionEntry>,
        impersonator: Option<Impersonator>,
        expires_at: Option<Timestamp>,
    ) -> Self {
        let user = records.user(&session.session.user_id);
        let session_claims = json_claims(&session.session.claims);
        let user_id = session.session.user_id.clone();
        let record_id = session.session.id.clone();
        Self {
            session_id,
            session: Some(session),
            impersonator,
            expires_at,
            ..Self::base(record_id, user_id, user, session_claims)
        }
    }

    /// The principal of a service account. It has no claims but those of a user record with its user id.
    pub fn of_account(records: &dyn Records, account: Arc<ServiceAccountEntry>) -> Self {
        let user_id = account.account.user_id.clone();
        let user = records.user(&user_id);
        let id = account.account.id.clone();
        let expires_at = validity::moment(account.account.expires_at.as_ref());
        let base = Self::base(id, user_id, user, Claims::new());
        Self {
            service_account: true,
            account: Some(account),
            expires_at,
            ..base
        }
    }

    fn base(
        record_id: String,
        user_id: String,
        user: Option<Arc<UserEntry>>,
        session_claims: Claims,
    ) -> Self {
        let user_claims = user
            .as_ref()
            .map(|entry| json_claims(&entry.user.claims))
            .unwrap_or_default();
        let email = user
            .as_ref()
            .map(|entry| entry.user.email.clone())
            .unwrap_or_default();
        let claims = user_over_session(&session_claims, &user_claims);
        let subject = Subject {
            session_id: record_id.clone(),
            user_id: user_id.clone(),
            email: email.clone(),
            claims,
            ..Subject::default()
        };
        let name = session_over_user(&session_claims, &user_claims, "name").map(crate::claims::joined);
        Self {
            session_id: record_id,
            service_account: false,
            user_id,
            email,
            name: name.unwrap_or_default(),
            subject,
            session: None,
            account: None,
            user,
            impersonator: None,
            expires_at: None,
            session_claims,
            user_claims,
        }
    }

    /// Whether every record this was built from is still the one known.
    pub(crate) fn is_current(&self, records: &dyn Records) -> bool {
        let same_session = |known: &Arc<SessionEntry>| {
            records
                .session(&known.session.id)
                .is_some_and(|now| Arc::ptr_eq(&now, known))
        };
        let same_user = |id: &str, known: Option<&Arc<UserEntry>>| match (records.user(id), known) {
            (Some(now), Some(known)) => Arc::ptr_eq(&now, known),
            (None, None) => true,
            _ => false,
        };
        self.session.as_ref().is_none_or(same_session)
            && self.account.as_ref().is_none_or(|known| {
                records
                    .service_account(&known.account.id)
                    .is_some_and(|now| Arc::ptr_eq(&now, known))
            })
            && same_user(&self.user_id, self.user.as_ref())
            && self
                .impersonator
                .as_ref()
                .is_none_or(|who| same_session(&who.session) && same_user(&who.user_id, who.user.as_ref()))
    }

    /// Whether the session has ended at `now`.
    pub fn expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| now >= end)
    }

    /// The values of a claim for assertion and headers: the session's, else the user's.
    pub fn claim(&self, name: &str) -> Option<&[Value]> {
        session_over_user(&self.session_claims, &self.user_claims, name)
    }

    /// Groups for the assertion: the session's claim `groups`, as text.
    pub fn groups(&self) -> Vec<String> {
        self.session_claims
            .get("groups")
            .map(|values| values.iter().filter_map(stringify).collect())
            .unwrap_or_default()
    }

    /// The record versions everything above was read from.
    pub fn versions(&self) -> RecordVersions {
        let session = |entry: &Arc<SessionEntry>| (entry.server_version, entry.version);
        let user = |entry: &Arc<UserEntry>| (entry.server_version, entry.version);
        RecordVersions {
            session: self.session.as_ref().map(session),
            account: self
                .account
                .as_ref()
                .map(|entry| (entry.server_version, entry.version)),
            user: self.user.as_ref().map(user),
            impersonator: self.impersonator.as_ref().map(|who| session(&who.session)),
            impersonator_user: self
                .impersonator
                .as_ref()
                .and_then(|who| who.user.as_ref())
                .map(user),
        }
    }
}

/// Server version and record version of each record behind a principal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct RecordVersions {
    /// The session whose identity counts.
    pub session: Option<(u64, u64)>,
    /// The service account.
    pub account: Option<(u64, u64)>,
    /// The user.
    pub user: Option<(u64, u64)>,
    /// The session of somebody who impersonates.
    pub impersonator: Option<(u64, u64)>,
    /// Their user record.
    pub impersonator_user: Option<(u64, u64)>,
}
