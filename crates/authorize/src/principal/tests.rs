//! What is known about a person, and when it is known anew.

use std::collections::HashMap;

use parking_lot::Mutex;
use pomerium_api::databroker::Versions;
use pomerium_api::json::to_struct;
use pomerium_api::pb;
use pomerium_api::pb::session::Session;
use pomerium_api::pb::session::session::{DeviceCredential, device_credential};
use pomerium_api::synced::{CredentialEntry, EnrollmentEntry, Entry, StructEntry};
use pomerium_policy::{Group, GroupSource};
use serde_json::json;

use super::*;

/// Records that can be changed.
#[derive(Default)]
struct World {
    version: Mutex<u64>,
    sessions: Mutex<HashMap<String, Arc<SessionEntry>>>,
    users: Mutex<HashMap<String, Arc<UserEntry>>>,
    people: Mutex<HashMap<String, Arc<StructEntry>>>,
    groups: Mutex<HashMap<String, Arc<StructEntry>>>,
    credentials: Mutex<HashMap<String, Arc<CredentialEntry>>>,
    enrollments: Mutex<HashMap<String, Arc<EnrollmentEntry>>>,
}

impl Records for World {
    fn session(&self, id: &str) -> Option<Arc<SessionEntry>> {
        self.sessions.lock().get(id).cloned()
    }
    fn user(&self, id: &str) -> Option<Arc<UserEntry>> {
        self.users.lock().get(id).cloned()
    }
    fn service_account(&self, _: &str) -> Option<Arc<ServiceAccountEntry>> {
        None
    }
    fn directory_user(&self, id: &str) -> Option<Arc<StructEntry>> {
        self.people.lock().get(id).cloned()
    }
    fn directory_group(&self, id: &str) -> Option<Arc<StructEntry>> {
        self.groups.lock().get(id).cloned()
    }
    fn directory_group_changes(&self) -> u64 {
        *self.version.lock()
    }
    fn device_credential(&self, id: &str) -> Option<Arc<CredentialEntry>> {
        self.credentials.lock().get(id).cloned()
    }
    fn device_enrollment(&self, id: &str) -> Option<Arc<EnrollmentEntry>> {
        self.enrollments.lock().get(id).cloned()
    }
}

impl World {
    fn at(&self) -> Versions {
        let mut version = self.version.lock();
        *version += 1;
        Versions {
            server_version: 1,
            latest_record_version: *version,
        }
    }

    fn free(&self, id: &str, data: Value) -> Arc<StructEntry> {
        Arc::new(StructEntry::new(
            id,
            (1, self.at().latest_record_version),
            data,
            0,
        ))
    }

    fn put_person(&self, id: &str, data: Value) {
        let entry = self.free(id, data);
        self.people.lock().insert(id.into(), entry);
    }

    fn put_group(&self, id: &str, data: Value) {
        let entry = self.free(id, data);
        self.groups.lock().insert(id.into(), entry);
    }

    fn put_session(&self, session: Session) {
        let entry = Arc::new(SessionEntry::new(self.at(), session.clone()));
        self.sessions.lock().insert(session.id, entry);
    }

    fn put_user(&self, id: &str, email: &str) {
        let user = pb::user::User {
            id: id.into(),
            email: email.into(),
            ..Default::default()
        };
        let entry = Arc::new(UserEntry::new(self.at(), user));
        self.users.lock().insert(id.into(), entry);
    }

    fn put_credential(&self, id: &str, enrollment_id: &str, user_id: &str) {
        let credential = pb::device::Credential {
            id: id.into(),
            enrollment_id: enrollment_id.into(),
            user_id: user_id.into(),
            ..Default::default()
        };
        let entry = Arc::new(CredentialEntry::new(self.at(), credential));
        self.credentials.lock().insert(id.into(), entry);
    }

    fn put_enrollment(&self, id: &str, approved_by: &str) {
        let enrollment = pb::device::Enrollment {
            id: id.into(),
            user_id: "u1".into(),
            approved_by: approved_by.into(),
            ..Default::default()
        };
        let entry = Arc::new(EnrollmentEntry::new(self.at(), enrollment));
        self.enrollments.lock().insert(id.into(), entry);
    }

    fn principal(&self) -> Principal {
        self.principal_with("groups")
    }

    fn principal_with(&self, groups_claim: &str) -> Principal {
        let own = Records::session(self, "s1").unwrap();
        Principal::of_session(self, own, &groups_claim.into()).unwrap()
    }

    fn groups(&self) -> (GroupSource, Vec<String>) {
        let groups = self.principal().subject.groups;
        (
            groups.source,
            groups.all.into_iter().map(|group| group.id).collect(),
        )
    }
}

fn session(claims: &Value) -> Session {
    let claims = to_struct(claims).fields.into_iter().map(|(name, value)| {
        let list = match value.kind {
            Some(prost_types::value::Kind::ListValue(list)) => list,
            _ => panic!("claims are lists"),
        };
        (name, list)
    });
    Session {
        id: "s1".into(),
        user_id: "u1".into(),
        issued_at: Some(prost_types::Timestamp {
            seconds: 1_700_000_000,
            nanos: 0,
        }),
        claims: claims.collect(),
        device_credentials: vec![DeviceCredential {
            type_id: "any".into(),
            credential: Some(device_credential::Credential::Id("c1".into())),
        }],
        ..Session::default()
    }
}

fn world() -> World {
    let world = World::default();
    world.put_session(session(&json!({"groups": ["claimed", 7], "teams": ["blue"]})));
    world.put_user("u1", "user@example.com");
    world
}

fn ids(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

#[test]
fn groups_come_from_the_directory_else_from_the_claim() {
    let world = world();
    assert_eq!(world.groups(), (GroupSource::Claim, ids(&["claimed", "7"])));
    assert_eq!(
        world.principal_with("teams").subject.groups.all,
        [Group {
            id: "blue".into(),
            ..Group::default()
        }]
    );
    for none in ["", "absent"] {
        let groups = world.principal_with(none).subject.groups;
        assert_eq!(
            (groups.source, groups.all.len()),
            (GroupSource::Unknown, 0),
            "{none}"
        );
    }

    world.put_person("u1", json!({"id": "u1"}));
    assert_eq!(
        world.groups(),
        (GroupSource::Directory, vec![]),
        "it counts even when it names no group"
    );
    world.put_person("u1", json!({"group_ids": ["g2", "g1"]}));
    world.put_group("g1", json!({"name": "Admins", "email": "admins@example.com"}));
    let groups = world.principal().subject.groups;
    assert_eq!(groups.source, GroupSource::Directory);
    assert_eq!(
        groups.all,
        [
            Group {
                id: "g2".into(),
                ..Group::default()
            },
            Group {
                id: "g1".into(),
                name: "Admins".into(),
                email: "admins@example.com".into()
            },
        ]
    );
    world.put_person("u1", json!({"group_ids": ["g1", 7]}));
    assert_eq!(world.groups(), (GroupSource::Directory, vec![]), "ids are text");
}

#[test]
fn the_directory_has_the_better_e_mail() {
    let world = world();
    assert_eq!(world.principal().subject.email, "user@example.com");
    world.put_person("u1", json!({"email": ""}));
    let principal = world.principal();
    assert_eq!(
        (principal.email.as_str(), principal.assertion_email()),
        ("user@example.com", "")
    );
    world.put_person("u1", json!({"email": "directory@example.com"}));
    let principal = world.principal();
    assert_eq!(principal.subject.email, "directory@example.com");
    assert_eq!(principal.assertion_email(), "directory@example.com");
}

#[test]
fn an_assertion_has_ids_then_names_of_the_groups_that_pass() {
    let world = world();
    let filter = |ids: &[&str]| Some(ids.iter().map(|id| (*id).to_owned()).collect::<Arc<[String]>>());
    assert_eq!(
        world.principal().groups(&filter(&["g1"])),
        ["claimed", "7"],
        "claims are not filtered"
    );
    world.put_person("u1", json!({"group_ids": ["g1", "g2", "g3"]}));
    world.put_group("g1", json!({"name": "One"}));
    world.put_group("g3", json!({"name": "Three"}));
    let principal = world.principal();
    assert_eq!(principal.groups(&None), ["g1", "g2", "g3", "One", "Three"]);
    assert_eq!(principal.groups(&filter(&["g2", "g3"])), ["g2", "g3", "Three"]);
    assert_eq!(principal.removed_groups(&filter(&["g2", "g3"])), 1);
    assert_eq!(principal.removed_groups(&None), 0);
    world.put_person("u1", json!({"group_ids": []}));
    assert_eq!(world.principal().groups(&None), ["claimed", "7"]);
}

#[test]
fn devices_are_those_of_the_person() {
    let world = world();
    let device = || world.principal().subject.devices.remove(0);
    assert_eq!((device().credential_id, device().approved_by), (None, None));
    world.put_credential("c1", "e1", "u1");
    assert_eq!(
        (device().credential_id.as_deref(), device().approved_by),
        (Some("c1"), None)
    );
    world.put_enrollment("e1", "");
    assert_eq!(device().approved_by.as_deref(), Some(""));
    world.put_enrollment("e1", "admin");
    assert_eq!(device().approved_by.as_deref(), Some("admin"));
    world.put_credential("c1", "e1", "somebody-else");
    assert_eq!((device().credential_id, device().approved_by), (None, None));
}

#[test]
fn a_sign_in_is_as_old_as_the_provider_says() {
    let at = |claims: &Value| {
        let world = World::default();
        world.put_session(session(claims));
        let authentication = world.principal().subject.authentication;
        (
            authentication.at.map(Timestamp::as_second),
            authentication.acr,
            authentication.amr.join(" "),
        )
    };
    // A provider may let somebody through on a sign-in of last month: the beginning of the session is no stand-in.
    assert_eq!(at(&json!({})), (None, String::new(), String::new()));
    let said = json!({"auth_time": [1_600_000_000], "acr": ["strong"], "amr": ["pwd", "otp", 7]});
    assert_eq!(
        at(&said),
        (Some(1_600_000_000), "strong".into(), "pwd otp".into())
    );
    assert_eq!(at(&json!({"auth_time": ["1600000000"]})).0, Some(1_600_000_000));
    for unreadable in [json!("soon"), json!(null), json!(-5), json!(1e300)] {
        assert_eq!(at(&json!({"auth_time": [unreadable]})).0, None, "{unreadable}");
    }
}

#[test]
fn everything_of_an_impersonated_person_is_theirs() {
    let world = world();
    world.put_person("u1", json!({"group_ids": ["own"], "email": "own@example.com"}));
    world.put_person(
        "u2",
        json!({"group_ids": ["theirs"], "email": "theirs@example.com"}),
    );
    world.put_session(Session {
        id: "s2".into(),
        user_id: "u2".into(),
        device_credentials: Vec::new(),
        ..session(&json!({"acr": ["weak"]}))
    });
    world.put_session(Session {
        impersonate_session_id: Some("s2".into()),
        ..session(&json!({"acr": ["strong"]}))
    });
    let principal = world.principal();
    assert_eq!(principal.subject.groups.all[0].id, "theirs");
    assert_eq!(principal.subject.email, "theirs@example.com");
    assert_eq!(principal.subject.authentication.acr, "weak");
    assert!(principal.subject.devices.is_empty());
    assert_eq!(principal.impersonator.unwrap().email, "own@example.com");
}

/// Each change makes the principal outdated and gives its versions another value; a change of somebody else's
/// record does neither.
#[test]
fn every_record_counts() {
    let world = world();
    world.put_person("u1", json!({"group_ids": ["g1", "late"]}));
    world.put_person("admin", json!({"email": "admin@example.com"}));
    world.put_group("g1", json!({"name": "One"}));
    world.put_credential("c1", "e1", "u1");
    world.put_enrollment("e1", "");
    world.put_session(session(&json!({})));
    let admin = Session {
        id: "s9".into(),
        user_id: "admin".into(),
        impersonate_session_id: Some("s1".into()),
        ..session(&json!({}))
    };
    let changes: [(&str, &dyn Fn()); 9] = [
        ("session", &|| world.put_session(session(&json!({"x": [1]})))),
        ("user", &|| world.put_user("u1", "new@example.com")),
        ("directory user", &|| {
            world.put_person("u1", json!({"group_ids": ["g1", "late"]}))
        }),
        ("group", &|| world.put_group("g1", json!({"name": "1"}))),
        ("late group", &|| world.put_group("late", json!({"name": "Late"}))),
        ("credential", &|| world.put_credential("c1", "e1", "u1")),
        ("enrollment", &|| world.put_enrollment("e1", "admin")),
        ("own directory user", &|| {
            world.put_person("admin", json!({"email": "a@example.com"}))
        }),
        ("gone directory user", &|| drop(world.people.lock().remove("u1"))),
    ];
    for (what, change) in changes {
        let own = Arc::new(SessionEntry::new(world.at(), admin.clone()));
        world.sessions.lock().insert("s9".into(), Arc::clone(&own));
        let principal = Principal::of_session(&world, Arc::clone(&own), &"groups".into()).unwrap();
        assert!(principal.is_current(&world, "groups"), "{what}");
        assert!(!principal.is_current(&world, "teams"), "another claim of groups");
        world.put_group("unrelated", json!({}));
        world.put_person("unrelated", json!({}));
        assert!(principal.is_current(&world, "groups"), "{what}: unrelated");
        change();
        assert!(!principal.is_current(&world, "groups"), "{what}: unnoticed");
        let after = Principal::of_session(&world, own, &"groups".into()).unwrap();
        assert_ne!(after.versions(), principal.versions(), "{what}");
    }
}

#[test]
fn a_service_account_has_the_groups_of_its_user() {
    let world = world();
    world.put_person(
        "u1",
        json!({"group_ids": ["g1"], "email": "directory@example.com"}),
    );
    let account = pb::user::ServiceAccount {
        id: "sa".into(),
        user_id: "u1".into(),
        ..Default::default()
    };
    let entry = Arc::new(ServiceAccountEntry::new(world.at(), account));
    let principal = Principal::of_account(&world, entry, &"groups".into());
    assert_eq!(principal.groups(&None), ["g1"]);
    assert_eq!(principal.subject.email, "directory@example.com");
    assert!(principal.subject.devices.is_empty() && principal.subject.authentication.at.is_none());
}
