//! Who is behind a request: built once from the records, used for every request until one of them changes.
//!
//! `facts` says what the records mean, `behind` remembers which ones were read.

mod behind;
mod facts;
#[cfg(test)]
mod tests;
mod usage;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use pomerium_api::synced::{Parts, ServiceAccountEntry, SessionEntry, UserEntry};
use pomerium_policy::{Authentication, Claims, Device, GroupSource, Subject};
use serde_json::Value;

use self::behind::Behind;
use self::usage::Noted;
use crate::authentication;
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
    /// E-mail of that user, for policies: the directory's unless it is empty, else that of the user record; empty when
    /// there is none.
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
    groups_claim: Arc<str>,
    behind: Arc<Behind>,
    noted: Arc<Noted>,
}

/// Group ids that are kept in an assertion (`jwt_groups_filter`), sorted; `None` keeps all.
pub type GroupsFilter = Option<Arc<[String]>>;

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
    ///
    /// `groups_claim` names the claim that stands in where the directory does not know somebody; empty is none.
    pub fn of_session(
        records: &dyn Records,
        own: Arc<SessionEntry>,
        groups_claim: &Arc<str>,
    ) -> Result<Self, Anonymous> {
        let own_end = validity::session_end(&own.session);
        let Some(target_id) = own
            .session
            .impersonate_session_id
            .as_deref()
            .filter(|id| !id.is_empty())
        else {
            let mut principal = Self::base(records, Basis::Session(&own), None, groups_claim);
            principal.expires_at = own_end;
            principal.session = Some(own);
            return Ok(principal);
        };
        let target = records.session(target_id).ok_or(Anonymous::ImpersonationGone)?;
        let own_id = own.session.user_id.as_str();
        let mut principal = Self::base(records, Basis::Session(&target), Some(own_id), groups_claim);
        principal.expires_at = validity::earlier(own_end, validity::session_end(&target.session));
        let user = records.user(own_id);
        let email = facts::email(
            principal.behind.own(),
            user.as_ref().map(|entry| entry.user.email.as_str()),
        );
        principal.session_id.clone_from(&own.session.id);
        principal.session = Some(target);
        principal.impersonator = Some(Impersonator {
            user_id: own_id.to_owned(),
            email,
            user,
            session: own,
        });
        Ok(principal)
    }

    /// The principal of a service account. What is known about the person with its user id counts, if there is one;
    /// it has no claims of a session, no devices and no sign-in.
    pub fn of_account(
        records: &dyn Records,
        account: Arc<ServiceAccountEntry>,
        groups_claim: &Arc<str>,
    ) -> Self {
        let mut principal = Self::base(records, Basis::Account(&account), None, groups_claim);
        principal.service_account = true;
        principal.expires_at = validity::moment(account.account.expires_at.as_ref());
        principal.account = Some(account);
        principal
    }

    /// What is the same for all: identity, claims, groups, devices.
    fn base(records: &dyn Records, basis: Basis<'_>, own: Option<&str>, groups_claim: &Arc<str>) -> Self {
        let (record_id, user_id) = basis.ids();
        let user = records.user(user_id);
        let mut behind = Behind::new(records, user_id, own);
        let session_claims = basis.claims();
        let user_claims = user
            .as_ref()
            .map(|entry| json_claims(&entry.user.claims))
            .unwrap_or_default();
        let user_email = user.as_ref().map(|entry| entry.user.email.as_str());
        let email = facts::email(behind.user(), user_email);
        let claim = session_over_user(&session_claims, &user_claims, groups_claim)
            .filter(|_| !groups_claim.is_empty());
        let groups = facts::groups(records, &mut behind, claim);
        let (devices, authentication) = basis.shown(records, &mut behind, &session_claims);
        let subject = Subject {
            session_id: record_id.to_owned(),
            user_id: user_id.to_owned(),
            email: email.clone(),
            claims: user_over_session(&session_claims, &user_claims),
            groups,
            devices,
            authentication,
        };
        let name = session_over_user(&session_claims, &user_claims, "name").map(crate::claims::joined);
        Self {
            session_id: record_id.to_owned(),
            service_account: false,
            user_id: user_id.to_owned(),
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
            groups_claim: Arc::clone(groups_claim),
            behind: Arc::new(behind),
            noted: Arc::default(),
        }
    }

    /// Whether everything this was built from is still the same: each record, and the name of the claim of groups.
    pub(crate) fn is_current(&self, records: &dyn Records, groups_claim: &str) -> bool {
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
        *self.groups_claim == *groups_claim
            && self.session.as_ref().is_none_or(same_session)
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
            && self.behind.is_current(records)
    }

    /// Whether a record of the directory was looked for and not found. Where records had to be left out for want of
    /// room, such a person cannot be judged.
    pub fn lacks_directory_records(&self) -> bool {
        self.behind.lacks()
    }

    /// Whether some of `parts` was left out of the session whose identity counts.
    pub fn lacks(&self, parts: Parts) -> bool {
        let left_out = self.session.as_ref().map(|entry| entry.left_out);
        left_out.is_some_and(|left_out| left_out.any(parts))
    }

    /// Whether the session has ended at `now`.
    pub fn expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| now >= end)
    }

    /// Whether the use of the session at `now` is still to be noted: true once in each `every` for all who share this.
    pub fn is_news(&self, now: Timestamp, every: Duration) -> bool {
        self.noted.at(now, every)
    }

    /// The values of a claim for assertion and headers: the session's, else the user's.
    pub fn claim(&self, name: &str) -> Option<&[Value]> {
        session_over_user(&self.session_claims, &self.user_claims, name)
    }

    /// The claim that stands in where the directory does not know the person; empty is none.
    pub fn groups_claim(&self) -> &str {
        &self.groups_claim
    }

    /// The e-mail for the assertion: the directory's if it has the field, even when it is empty; else that of the
    /// user record (spec policy.md 11.1).
    pub fn assertion_email(&self) -> &str {
        let directory = self.behind.user().and_then(|entry| entry.data.get("email"));
        match (directory, &self.user) {
            (Some(email), _) => email.as_str().unwrap_or_default(),
            (None, Some(entry)) => &entry.user.email,
            (None, None) => "",
        }
    }

    /// Groups for the assertion (spec policy.md 11.2): the ids of the directory that pass `filter`, then the names of
    /// those groups; if the directory names none, the claim's, unfiltered.
    pub fn groups(&self, filter: &GroupsFilter) -> Vec<String> {
        let groups = &self.subject.groups;
        if groups.source != GroupSource::Directory || groups.all.is_empty() {
            return self.claimed_groups();
        }
        let kept = || groups.all.iter().filter(|group| passes(filter, &group.id));
        let ids = kept().map(|group| group.id.clone());
        let names = kept()
            .map(|group| group.name.clone())
            .filter(|name| !name.is_empty());
        ids.chain(names).collect()
    }

    fn claimed_groups(&self) -> Vec<String> {
        let claim = self.claim(&self.groups_claim);
        let values = claim
            .filter(|_| !self.groups_claim.is_empty())
            .unwrap_or_default();
        values.iter().filter_map(stringify).collect()
    }

    /// How many of the directory's groups `filter` keeps out of the assertion.
    pub fn removed_groups(&self, filter: &GroupsFilter) -> usize {
        let groups = &self.subject.groups;
        let removed = groups.all.iter().filter(|group| !passes(filter, &group.id));
        match groups.source {
            GroupSource::Directory => removed.count(),
            GroupSource::Claim | GroupSource::Unknown => 0,
        }
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
            further: self.behind.stamp(),
        }
    }
}

fn passes(filter: &GroupsFilter, id: &str) -> bool {
    filter
        .as_ref()
        .is_none_or(|kept| kept.binary_search_by(|known| known.as_str().cmp(id)).is_ok())
}

/// The record a principal is built on.
#[derive(Clone, Copy)]
enum Basis<'a> {
    Session(&'a SessionEntry),
    Account(&'a ServiceAccountEntry),
}

impl<'a> Basis<'a> {
    /// Of the record, and of the user.
    fn ids(self) -> (&'a str, &'a str) {
        match self {
            Self::Session(entry) => (&entry.session.id, &entry.session.user_id),
            Self::Account(entry) => (&entry.account.id, &entry.account.user_id),
        }
    }

    fn claims(self) -> Claims {
        match self {
            Self::Session(entry) => json_claims(&entry.session.claims),
            Self::Account(_) => Claims::new(),
        }
    }

    /// What the session has shown: devices, and how the person signed in.
    fn shown(
        self,
        records: &dyn Records,
        behind: &mut Behind,
        claims: &Claims,
    ) -> (Vec<Device>, Authentication) {
        match self {
            Self::Session(entry) => (
                facts::devices(records, behind, &entry.session),
                authentication::of_claims(claims),
            ),
            Self::Account(_) => (Vec::new(), Authentication::default()),
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
    /// Stands for the records of the directory and of devices.
    pub further: u64,
}
