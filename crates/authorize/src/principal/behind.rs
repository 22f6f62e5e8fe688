//! The records behind a principal besides session, account and user: what the directory says, and devices.
//!
//! Each lookup is remembered with its answer, "there is none" included: a principal is good for as long as every
//! answer would be the same.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pomerium_api::synced::{CredentialEntry, EnrollmentEntry, Entry, StructEntry};

use crate::session::Records;

/// An id and what was found under it.
type Known<E> = (String, Option<Arc<E>>);

#[derive(Debug)]
pub(super) struct Behind {
    /// The person.
    user: Known<StructEntry>,
    /// The person who impersonates.
    own: Option<Known<StructEntry>>,
    groups: Vec<Known<StructEntry>>,
    /// No group has changed while this number is the one of the records.
    group_changes: AtomicU64,
    credentials: Vec<Known<CredentialEntry>>,
    enrollments: Vec<Known<EnrollmentEntry>>,
}

impl Behind {
    /// Looks up what the directory says about `user_id` and about the user who impersonates.
    pub(super) fn new(records: &dyn Records, user_id: &str, own: Option<&str>) -> Self {
        // Before any group is read: a change after this moment is seen as one.
        let group_changes = AtomicU64::new(records.directory_group_changes());
        let user = |id: &str| (id.to_owned(), directory_user(records, id));
        Self {
            user: user(user_id),
            own: own.map(user),
            groups: Vec::new(),
            group_changes,
            credentials: Vec::new(),
            enrollments: Vec::new(),
        }
    }

    pub(super) fn user(&self) -> Option<&StructEntry> {
        self.user.1.as_deref()
    }

    pub(super) fn own(&self) -> Option<&StructEntry> {
        self.own.as_ref()?.1.as_deref()
    }

    pub(super) fn group(&mut self, records: &dyn Records, id: &str) -> Option<Arc<StructEntry>> {
        let found = records.directory_group(id);
        self.groups.push((id.to_owned(), found.clone()));
        found
    }

    pub(super) fn credential(&mut self, records: &dyn Records, id: &str) -> Option<Arc<CredentialEntry>> {
        let found = records.device_credential(id);
        self.credentials.push((id.to_owned(), found.clone()));
        found
    }

    pub(super) fn enrollment(&mut self, records: &dyn Records, id: &str) -> Option<Arc<EnrollmentEntry>> {
        let found = records.device_enrollment(id);
        self.enrollments.push((id.to_owned(), found.clone()));
        found
    }

    /// Whether something was looked for and not found.
    pub(super) fn lacks(&self) -> bool {
        self.user.1.is_none() || self.groups.iter().any(|(_, group)| group.is_none())
    }

    /// Whether every lookup would be answered as it was.
    pub(super) fn is_current(&self, records: &dyn Records) -> bool {
        let user = |(id, known): &Known<StructEntry>| same(directory_user(records, id), known.as_ref());
        user(&self.user)
            && self.own.as_ref().is_none_or(user)
            && self.groups_are_current(records)
            && all_same(&self.credentials, |id| records.device_credential(id))
            && all_same(&self.enrollments, |id| records.device_enrollment(id))
    }

    fn groups_are_current(&self, records: &dyn Records) -> bool {
        let changes = records.directory_group_changes();
        if self.group_changes.load(Ordering::Acquire) == changes {
            return true;
        }
        let same = all_same(&self.groups, |id| records.directory_group(id));
        if same {
            self.group_changes.store(changes, Ordering::Release);
        }
        same
    }

    /// A number for the versions of all of these records.
    pub(super) fn stamp(&self) -> u64 {
        let mut stamp = DefaultHasher::new();
        let group = |entry: &StructEntry| (entry.server_version, entry.version);
        versions(&mut stamp, [&self.user], group);
        versions(&mut stamp, self.own.as_ref(), group);
        versions(&mut stamp, &self.groups, group);
        versions(&mut stamp, &self.credentials, place);
        versions(&mut stamp, &self.enrollments, place);
        stamp.finish()
    }
}

fn directory_user(records: &dyn Records, id: &str) -> Option<Arc<StructEntry>> {
    (!id.is_empty()).then(|| records.directory_user(id)).flatten()
}

fn same<E>(now: Option<Arc<E>>, known: Option<&Arc<E>>) -> bool {
    match (now, known) {
        (Some(now), Some(known)) => Arc::ptr_eq(&now, known),
        (None, None) => true,
        _ => false,
    }
}

fn all_same<E>(known: &[Known<E>], find: impl Fn(&str) -> Option<Arc<E>>) -> bool {
    known.iter().all(|(id, known)| same(find(id), known.as_ref()))
}

fn place<E: Entry>(entry: &E) -> (u64, u64) {
    (entry.at().server_version, entry.at().latest_record_version)
}

fn versions<'a, E: 'a>(
    stamp: &mut DefaultHasher,
    known: impl IntoIterator<Item = &'a Known<E>>,
    place: impl Fn(&E) -> (u64, u64),
) {
    let mut count = 0_usize;
    for (id, entry) in known {
        (id, entry.as_deref().map(&place)).hash(stamp);
        count += 1;
    }
    count.hash(stamp);
}
