use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pomerium_api::clock::Clock;
use pomerium_api::databroker::{Databroker, Error, SyncCall, SyncObserver, SyncState, Versions};
use pomerium_api::pb::session::Session;
use pomerium_api::pb::user::User;
use pomerium_api::records::{RecordMessage, from_record, to_proto_time, to_record, to_tombstone};
use serde_json::{Value, json};

use super::schedule::{Outcome, Task};
use super::{Matter, RefreshDeps, RefreshObserver, RefreshSettings, Refresher, session};
use crate::testing::{FakeBroker, FakeProvider, Following, ISSUER, TimerClock, json_answer, start};
use crate::{IdentityError, NewSession, OidcProvider, session_from_identity, user_from_identity};

struct World {
    fake: Arc<FakeProvider>,
    broker: Arc<FakeBroker>,
    deps: Arc<RefreshDeps>,
    id: String,
}

fn deps(fake: &Arc<FakeProvider>, broker: &Arc<FakeBroker>, clock: Arc<dyn Clock>) -> RefreshDeps {
    let provider = Arc::new(OidcProvider::new(
        FakeProvider::config(),
        fake.clone(),
        clock.clone(),
    ));
    RefreshDeps {
        broker: Arc::new(Following(broker.clone())),
        providers: Box::new(move |id| (id == "idp-1").then(|| provider.clone())),
        clock,
        syncer: Arc::new(()),
        observer: Arc::new(()),
        unwritten: Arc::default(),
    }
}

/// Someone has just signed in.
async fn world(answer: Value) -> World {
    let fake = FakeProvider::new();
    fake.grant(json!({"groups": ["staff"], "dept": "x"}), answer);
    let identity = fake.client().exchange("code", None, Some("n-1")).await.unwrap();
    let new = NewSession {
        idp_id: "idp-1".into(),
        audience: Vec::new(),
        issued_at: start(),
        expires_at: start() + Duration::from_secs(10 * 3600),
    };
    let session = session_from_identity(&identity, &new);
    let broker = FakeBroker::new();
    broker.write(to_record(&user_from_identity(&identity, None)));
    broker.write(to_record(&session));
    fake.grant(
        json!({"nonce": null}),
        json!({"access_token": "access-2", "refresh_token": "refresh-2"}),
    );
    let deps = Arc::new(deps(&fake, &broker, Arc::new(fake.clock.clone())));
    World {
        fake,
        broker,
        deps,
        id: session.id,
    }
}

impl World {
    async fn carry_out(&self, task: Task) -> Outcome {
        session::carry_out(self.deps.clone(), self.id.clone(), task).await
    }

    async fn session(&self) -> Option<Session> {
        match self.broker.get(Session::TYPE, &self.id).await {
            Ok(record) => Some(from_record(&record).unwrap()),
            Err(Error::NotFound) => None,
            Err(error) => panic!("{error}"),
        }
    }

    async fn refresh_token(&self) -> Option<String> {
        self.session()
            .await
            .map(|session| session.oauth_token.unwrap().refresh_token)
    }

    async fn user(&self) -> User {
        from_record(&self.broker.get(User::TYPE, "member").await.unwrap()).unwrap()
    }

    fn edit(&self, session: &Session) {
        self.broker.write(to_record(session));
    }
}

#[tokio::test]
async fn a_refresh_brings_tokens_and_claims_up_to_date() {
    let world = world(json!({})).await;
    let before = world.session().await.unwrap();
    world.fake.clock.advance(Duration::from_secs(240));
    world.fake.grant(
        json!({"nonce": null, "name": "Member B."}),
        json!({"refresh_token": "refresh-2"}),
    );
    world.fake.on_json(
        "/userinfo",
        200,
        &json!({"sub": "member", "email": "new@example.com", "groups": []}),
    );
    assert_eq!(world.carry_out(Task::Refresh).await, Outcome::Done);
    assert_eq!(
        world
            .fake
            .requests("/token")
            .last()
            .unwrap()
            .form
            .get("refresh_token"),
        Some("refresh-1")
    );
    let after = world.session().await.unwrap();
    assert_eq!(after.oauth_token.as_ref().unwrap().refresh_token, "refresh-2");
    assert!(after.claims["groups"].values.is_empty(), "a lost group is lost");
    assert!(!after.claims.contains_key("dept"));
    assert_eq!(
        after.claims["iat"], before.claims["iat"],
        "the sign-in was when it was"
    );
    assert_eq!(
        (after.expires_at, &after.user_id),
        (before.expires_at, &before.user_id)
    );
    let user = world.user().await;
    assert_eq!(
        (user.name.as_str(), user.email.as_str()),
        ("Member B.", "new@example.com")
    );
    assert!(user.claims["groups"].values.is_empty());
}

#[tokio::test]
async fn a_refresh_without_id_token_keeps_the_old_one_for_sign_out() {
    let world = world(json!({})).await;
    world.fake.grant(json!({}), json!({"id_token": null}));
    assert_eq!(world.carry_out(Task::Refresh).await, Outcome::Done);
    let token = world.session().await.unwrap().id_token.unwrap();
    assert!(!token.raw.is_empty());
    assert_eq!(token.expires_at, None, "it must not call for the next refresh");
    assert_eq!(world.user().await.name, "Member");
}

#[tokio::test]
async fn temporary_failures_keep_the_session() {
    let world = world(json!({})).await;
    world.fake.unreachable("/token");
    assert_eq!(world.carry_out(Task::Refresh).await, Outcome::Retry);
    for status in [500, 502, 503, 504, 429, 408] {
        world
            .fake
            .on_json("/token", status, &json!({"error": "server_error"}));
        assert_eq!(world.carry_out(Task::Refresh).await, Outcome::Retry, "{status}");
    }
    world.fake.on_json("/userinfo", 503, &json!({}));
    assert_eq!(world.carry_out(Task::UserInfo).await, Outcome::Retry);
    assert_eq!(world.refresh_token().await.as_deref(), Some("refresh-1"));
    *world.broker.down.lock() = true;
    assert_eq!(world.carry_out(Task::Refresh).await, Outcome::Retry);
}

#[tokio::test]
async fn a_clear_no_ends_the_session() {
    for (status, error) in [
        (400, "invalid_grant"),
        (401, "invalid_client"),
        (403, "access_denied"),
    ] {
        let world = world(json!({})).await;
        world.fake.on_json("/token", status, &json!({"error": error}));
        assert_eq!(world.carry_out(Task::Refresh).await, Outcome::Gone, "{error}");
        assert_eq!(world.session().await, None);
    }
}

#[tokio::test]
async fn a_provider_that_speaks_of_someone_else_ends_the_session() {
    let world = world(json!({})).await;
    world.fake.on_json("/userinfo", 200, &json!({"sub": "stranger"}));
    assert_eq!(world.carry_out(Task::UserInfo).await, Outcome::Gone);
    assert_eq!(world.session().await, None);
}

#[tokio::test]
async fn an_access_token_that_ended_early_is_renewed_before_judging() {
    let world = world(json!({})).await;
    world
        .fake
        .on("/userinfo", |seen| match seen.authorization.as_deref() {
            Some("Bearer access-2") => {
                json_answer(200, &json!({"sub": "member", "email": "new@example.com"}))
            }
            _ => json_answer(401, &json!({})),
        });
    assert_eq!(world.carry_out(Task::UserInfo).await, Outcome::Done);
    assert_eq!(world.user().await.email, "new@example.com");
    world.fake.on_json("/userinfo", 401, &json!({}));
    assert_eq!(
        world.carry_out(Task::UserInfo).await,
        Outcome::Gone,
        "with new tokens too"
    );
}

#[tokio::test]
async fn without_a_refresh_token_the_session_lives_as_long_as_we_say() {
    let world = world(json!({"refresh_token": null})).await;
    world.fake.on_json("/userinfo", 401, &json!({}));
    assert_eq!(world.carry_out(Task::UserInfo).await, Outcome::Pointless);
    assert_eq!(world.carry_out(Task::Refresh).await, Outcome::Pointless);
    assert!(world.session().await.is_some());
    world.fake.clock.advance(Duration::from_secs(10 * 3600));
    assert_eq!(world.carry_out(Task::Expire).await, Outcome::Gone);
    assert_eq!(world.session().await, None);
}

#[tokio::test]
async fn a_no_to_a_token_that_should_live_ends_the_session() {
    let world = world(json!({"refresh_token": null, "expires_in": 36_000})).await;
    assert_eq!(world.carry_out(Task::UserInfo).await, Outcome::Done);
    world.fake.on_json("/userinfo", 401, &json!({}));
    assert_eq!(world.carry_out(Task::UserInfo).await, Outcome::Gone);
    assert_eq!(world.session().await, None);
}

#[tokio::test]
async fn sessions_of_providers_no_longer_configured_end() {
    let world = world(json!({})).await;
    let session = world.session().await.unwrap();
    world.edit(&Session {
        idp_id: "idp-gone".into(),
        ..session
    });
    assert_eq!(world.carry_out(Task::Refresh).await, Outcome::Gone);
    assert_eq!(world.session().await, None);
}

#[tokio::test]
async fn sessions_with_refresh_disabled_are_left_alone() {
    let world = world(json!({})).await;
    let session = world.session().await.unwrap();
    world.edit(&Session {
        refresh_disabled: true,
        ..session
    });
    let writes = world.broker.writes();
    assert_eq!(world.carry_out(Task::Refresh).await, Outcome::Done);
    assert_eq!(
        (world.broker.writes(), world.fake.requests("/token").len()),
        (writes, 1)
    );
}

/// Signed out while the provider was being asked: the session must not come back.
#[tokio::test]
async fn a_session_deleted_meanwhile_stays_deleted() {
    let world = world(json!({})).await;
    let session = world.session().await.unwrap();
    let broker = world.broker.clone();
    let sign_out = move || drop(broker.write(to_tombstone(&session, start())));
    *world.broker.before_write.lock() = Some(Box::new(sign_out));
    assert_eq!(world.carry_out(Task::Refresh).await, Outcome::Gone);
    assert_eq!(world.session().await, None);
    let revoked = world.fake.requests("/revoke");
    assert_eq!(
        revoked[0].form.get("token"),
        Some("refresh-2"),
        "nor do its new tokens live on"
    );
}

/// Changed by somebody else in between: both changes are there.
#[tokio::test]
async fn changes_by_others_are_kept() {
    let world = world(json!({})).await;
    let mut other = world.session().await.unwrap();
    other.accessed_at = Some(to_proto_time(start() + Duration::from_secs(99)));
    let (broker, record) = (world.broker.clone(), to_record(&other));
    *world.broker.before_write.lock() = Some(Box::new(move || drop(broker.write(record.clone()))));
    assert_eq!(world.carry_out(Task::Refresh).await, Outcome::Done);
    let after = world.session().await.unwrap();
    assert_eq!(after.accessed_at, other.accessed_at);
    assert_eq!(after.oauth_token.unwrap().refresh_token, "refresh-2");
}

#[tokio::test]
async fn nothing_is_written_when_nothing_changed() {
    let world = world(json!({})).await;
    assert_eq!(world.carry_out(Task::UserInfo).await, Outcome::Done);
    let writes = world.broker.writes();
    assert_eq!(world.carry_out(Task::UserInfo).await, Outcome::Done);
    assert_eq!(world.broker.writes(), writes);
}

#[tokio::test]
async fn a_deleted_user_does_not_come_back() {
    let world = world(json!({})).await;
    world.broker.write(to_tombstone(&world.user().await, start()));
    assert_eq!(world.carry_out(Task::Refresh).await, Outcome::Done);
    assert_eq!(world.broker.get(User::TYPE, "member").await, Err(Error::NotFound));
}

/// New tokens are kept even if the user info that should follow fails.
#[tokio::test]
async fn rotated_tokens_are_never_lost() {
    let world = world(json!({})).await;
    world.fake.on_json("/userinfo", 503, &json!({}));
    assert_eq!(world.carry_out(Task::Refresh).await, Outcome::Done);
    assert_eq!(world.refresh_token().await.as_deref(), Some("refresh-2"));
}

/// And if they cannot be written when they come: a disk may be full for a while.
#[tokio::test]
async fn rotated_tokens_wait_until_they_can_be_written() {
    let world = world(json!({})).await;
    let broker = world.broker.clone();
    world.fake.on("/token", move |_| {
        *broker.down.lock() = true;
        json_answer(
            200,
            &json!({"access_token": "access-9", "refresh_token": "refresh-9", "token_type": "Bearer"}),
        )
    });
    assert_eq!(world.carry_out(Task::Refresh).await, Outcome::Retry);
    *world.broker.down.lock() = false;
    assert_eq!(world.refresh_token().await.as_deref(), Some("refresh-1"));
    // The old token is worth nothing any more; nobody asks for it.
    world
        .fake
        .on_json("/token", 400, &json!({"error": "invalid_grant"}));
    assert_eq!(world.carry_out(Task::Refresh).await, Outcome::Done);
    assert_eq!(world.refresh_token().await.as_deref(), Some("refresh-9"));
    assert_eq!(world.carry_out(Task::Refresh).await, Outcome::Gone, "once only");
}

/// The whole manager, in the time of the (paused) timers: a session signed in before it starts, one signed
/// in later; an outage; a refusal; the end.
#[tokio::test(start_paused = true)]
async fn the_manager_keeps_sessions_until_it_is_told_otherwise() {
    let world = world(json!({})).await;
    let clock = Arc::new(TimerClock::new());
    let deps = deps(&world.fake, &world.broker, clock.clone());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let refresher = Refresher::new(deps, RefreshSettings::DEFAULT);
    let running = tokio::spawn(refresher.run(async {
        let _ = stopped.await;
    }));
    let refreshes = || world.fake.requests("/token").len() - 1;
    let sleep = |seconds| tokio::time::sleep(Duration::from_secs(seconds));
    sleep(200).await;
    assert_eq!(refreshes(), 0, "too early");
    sleep(45).await;
    assert_eq!(refreshes(), 1);
    assert_eq!(world.refresh_token().await.as_deref(), Some("refresh-2"));

    let mut second = world.session().await.unwrap();
    second.id = "second".into();
    world.edit(&second);
    world.fake.unreachable("/token");
    sleep(3600).await;
    assert!(world.session().await.is_some(), "an outage ends nothing");
    let during_outage = refreshes();
    assert!(
        (10..40).contains(&during_outage),
        "two sessions, later and later: {during_outage}"
    );

    world
        .fake
        .on_json("/token", 400, &json!({"error": "invalid_grant"}));
    sleep(700).await;
    assert!(world.session().await.is_none() && world.broker.get(Session::TYPE, "second").await.is_err());
    let at_the_end = refreshes();
    sleep(36_000).await;
    assert_eq!(refreshes(), at_the_end);
    drop(stop);
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_job_panics_is_looked_at_again() {
    let world = world(json!({})).await;
    let mut deps = deps(&world.fake, &world.broker, Arc::new(TimerClock::new()));
    let good = deps.providers;
    let first = AtomicBool::new(true);
    deps.providers = Box::new(move |id| {
        assert!(!first.swap(false, Ordering::Relaxed), "a fault of ours");
        good(id)
    });
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(Refresher::new(deps, RefreshSettings::DEFAULT).run(async {
        let _ = stopped.await;
    }));
    tokio::time::sleep(Duration::from_secs(290)).await;
    assert_eq!(world.refresh_token().await.as_deref(), Some("refresh-2"));
    drop(stop);
    running.await.unwrap();
}

/// Notes what is told of following sessions, and of asking the provider.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Notes {
    fn add(&self, note: String) {
        self.0.lock().push(note);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock())
    }
}

impl SyncObserver for Notes {
    fn state(&self, state: SyncState) {
        self.add(format!("{state:?}"));
    }
    fn reached(&self, at: Versions) {
        self.add(format!("at {}", at.latest_record_version));
    }
    fn asked(&self, call: SyncCall) {
        self.add(format!("asked {call:?}"));
    }
    fn failed(&self, call: SyncCall) {
        self.add(format!("failed {call:?}"));
    }
    fn cleared(&self, _: Duration) {
        self.add("cleared".into());
    }
    fn updated(&self, _: Duration) {
        self.add("updated".into());
    }
}

#[tokio::test(start_paused = true)]
async fn the_manager_tells_how_it_follows_sessions() {
    let world = world(json!({})).await;
    let notes = Arc::new(Notes::default());
    let deps = RefreshDeps {
        syncer: notes.clone(),
        ..deps(&world.fake, &world.broker, Arc::new(TimerClock::new()))
    };
    *world.broker.down.lock() = true;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(Refresher::new(deps, RefreshSettings::DEFAULT).run(async {
        let _ = stopped.await;
    }));
    let sleep = |millis| tokio::time::sleep(Duration::from_millis(millis));
    sleep(1).await;
    assert_eq!(
        notes.take(),
        ["Pending", "asked SyncLatest", "failed SyncLatest", "Pending"]
    );
    *world.broker.down.lock() = false;
    sleep(200).await;
    assert_eq!(
        notes.take(),
        [
            "asked SyncLatest",
            "at 2",
            "cleared",
            "updated",
            "asked Sync",
            "Active"
        ]
    );
    let mut second = world.session().await.unwrap();
    second.id = "second".into();
    world.edit(&second);
    sleep(1).await;
    assert_eq!(notes.take(), ["at 3", "updated"]);
    drop(stop);
    running.await.unwrap();
    assert_eq!(notes.take(), ["Inactive"]);
}

impl RefreshObserver for Notes {
    fn succeeded(&self, matter: Matter) {
        self.add(format!("{matter:?} well"));
    }
    fn failed(&self, matter: Matter, error: &IdentityError) {
        self.add(format!("{matter:?}: {}", error.summary()));
    }
}

#[tokio::test]
async fn what_the_provider_does_not_do_is_told() {
    let world = world(json!({})).await;
    let notes = Arc::new(Notes::default());
    let deps = Arc::new(RefreshDeps {
        observer: notes.clone(),
        ..deps(&world.fake, &world.broker, Arc::new(world.fake.clock.clone()))
    });
    let carry_out = async |task| {
        session::carry_out(deps.clone(), world.id.clone(), task).await;
        notes.take()
    };
    assert_eq!(carry_out(Task::UserInfo).await, ["User well"]);
    assert_eq!(carry_out(Task::Refresh).await, ["Session well", "User well"]);

    let out_of_order =
        |path: &str| format!("the identity provider answered 503 at {ISSUER}{path}; it may work again later");
    world.fake.on_json("/userinfo", 503, &json!({}));
    let user = format!("User: {}", out_of_order("/userinfo"));
    assert_eq!(carry_out(Task::UserInfo).await, [user.as_str()]);
    assert_eq!(carry_out(Task::Refresh).await, ["Session well", user.as_str()]);

    // An access token that ended early is no trouble, if there are new ones.
    world.fake.on_json("/userinfo", 401, &json!({}));
    world.fake.on_json("/token", 503, &json!({}));
    let session = format!("Session: {}", out_of_order("/token"));
    assert_eq!(carry_out(Task::UserInfo).await, [session]);

    // What the databroker does not do is not the provider's.
    *world.broker.down.lock() = true;
    assert_eq!(carry_out(Task::UserInfo).await, Vec::<String>::new());
    *world.broker.down.lock() = false;

    world
        .fake
        .on_json("/token", 400, &json!({"error": "invalid_grant"}));
    assert_eq!(
        carry_out(Task::Refresh).await,
        ["Session: the identity provider refused the refresh token (400 invalid_grant)"]
    );
}
