//! Test doubles at the two edges of this room: a provider that can be told to lie, and a databroker.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, ready};
use futures_util::{FutureExt, StreamExt, stream};
use http::{Request, Response};
use jiff::Timestamp;
use parking_lot::Mutex;
use pomerium_api::clock::{Clock, ManualClock};
use pomerium_api::databroker::{
    Cleared, Databroker, Error, Latest, PutReply, Record, RecordStream, Versions,
};
use pomerium_crypto::jwt::SigningKey;
use pomerium_crypto::query::Query;
use serde_json::{Map, Value, json};
use tokio::sync::{Semaphore, watch};

use crate::{HttpClient, HttpError, HttpErrorKind, OidcConfig, OidcProvider};

pub(crate) const ISSUER: &str = "https://idp.example.com/realm";
pub(crate) const CLIENT: &str = "client-1";
pub(crate) const SECRET: &str = "s3cret:&ü";

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    pub(crate) form: Query,
}

type Answer = Result<Response<Bytes>, HttpError>;
type Script = Arc<dyn Fn(&Seen) -> Answer + Send + Sync>;

/// A provider in this process. Answers as it should, except where a test says otherwise with [`Self::on`].
pub(crate) struct FakeProvider {
    pub(crate) clock: ManualClock,
    key: Mutex<Arc<SigningKey>>,
    scripts: Mutex<HashMap<String, Script>>,
    seen: Mutex<Vec<Seen>>,
    gate: Mutex<Option<Arc<Semaphore>>>,
}

pub(crate) fn start() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

pub(crate) fn json_answer(status: u16, body: &Value) -> Answer {
    answer(status, "application/json", body.to_string())
}

pub(crate) fn answer(status: u16, content_type: &str, body: impl Into<Bytes>) -> Answer {
    let response = Response::builder()
        .status(status)
        .header("content-type", content_type);
    Ok(response.body(body.into()).unwrap())
}

pub(crate) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        other => panic!("{other} is not an object"),
    }
}

impl FakeProvider {
    pub(crate) fn new() -> Arc<Self> {
        let fake = Arc::new(Self {
            clock: ManualClock::new(start()),
            key: Mutex::new(Arc::new(SigningKey::random())),
            scripts: Mutex::default(),
            seen: Mutex::default(),
            gate: Mutex::default(),
        });
        fake.on_json(
            "/.well-known/openid-configuration",
            200,
            &fake.metadata(json!({})),
        );
        fake.publish_keys();
        fake.on_json(
            "/userinfo",
            200,
            &json!({"sub": "member", "email": "member@example.com", "groups": ["staff"]}),
        );
        fake.on_json("/revoke", 200, &json!({}));
        fake.grant(json!({}), json!({}));
        fake
    }

    /// The discovery document, with changes; `null` takes a member out.
    pub(crate) fn metadata(&self, changes: Value) -> Value {
        let endpoint = |name: &str| format!("{ISSUER}/{name}");
        let mut metadata = object(json!({
            "issuer": ISSUER,
            "authorization_endpoint": endpoint("authorize?tenant=1"),
            "token_endpoint": endpoint("token"),
            "jwks_uri": endpoint("jwks"),
            "userinfo_endpoint": endpoint("userinfo"),
            "revocation_endpoint": endpoint("revoke"),
            "end_session_endpoint": endpoint("logout"),
            "code_challenge_methods_supported": ["plain", "S256"],
            "id_token_signing_alg_values_supported": ["none", "HS256", "RS256", "ES256"],
        }));
        metadata.extend(object(changes));
        metadata.retain(|_, value| !value.is_null());
        Value::Object(metadata)
    }

    pub(crate) fn set_metadata(&self, changes: Value) {
        self.on_json("/.well-known/openid-configuration", 200, &self.metadata(changes));
    }

    /// Answers at the path (below the issuer) as `script` says.
    pub(crate) fn on(&self, path: &str, script: impl Fn(&Seen) -> Answer + Send + Sync + 'static) {
        self.scripts.lock().insert(path.to_owned(), Arc::new(script));
    }

    pub(crate) fn on_json(&self, path: &str, status: u16, body: &Value) {
        let body = body.clone();
        self.on(path, move |_| json_answer(status, &body));
    }

    pub(crate) fn unreachable(&self, path: &str) {
        let error = HttpError {
            kind: HttpErrorKind::Connect,
            text: "connection refused".into(),
        };
        self.on(path, move |_| Err(error.clone()));
    }

    /// The token endpoint grants, with these changes to the ID token and to the answer.
    pub(crate) fn grant(&self, id_token: Value, changes: Value) {
        let id_token = self.sign(id_token);
        self.grant_raw(&id_token, changes);
    }

    pub(crate) fn grant_raw(&self, id_token: &str, changes: Value) {
        let mut body = object(json!({
            "access_token": "access-1", "token_type": "bearer", "refresh_token": "refresh-1",
            "expires_in": 300, "id_token": id_token,
        }));
        body.extend(object(changes));
        body.retain(|_, value| !value.is_null());
        self.on_json("/token", 200, &Value::Object(body));
    }

    /// Claims of a good ID token, with changes; `null` takes one out.
    pub(crate) fn id_claims(&self, changes: Value) -> Map<String, Value> {
        let now = self.clock.now().as_second();
        let mut claims = object(json!({
            "iss": ISSUER, "sub": "member", "aud": CLIENT, "exp": now + 3600, "iat": now, "nonce": "n-1",
            "name": "Member", "email": "old@example.com", "jti": "chosen-by-the-provider",
        }));
        claims.extend(object(changes));
        claims.retain(|_, value| !value.is_null());
        claims
    }

    pub(crate) fn sign(&self, changes: Value) -> String {
        self.key().sign(&self.id_claims(changes)).unwrap()
    }

    pub(crate) fn key(&self) -> Arc<SigningKey> {
        self.key.lock().clone()
    }

    /// A new key, not yet published.
    pub(crate) fn rotate(&self) {
        *self.key.lock() = Arc::new(SigningKey::random());
    }

    pub(crate) fn publish_keys(&self) {
        self.on_json("/jwks", 200, &self.key().jwks());
    }

    pub(crate) fn clock_seconds(&self) -> i64 {
        self.clock.now().as_second()
    }

    /// Holds all requests back until the semaphore gets permits.
    pub(crate) fn hold(&self) -> Arc<Semaphore> {
        let gate = Arc::new(Semaphore::new(0));
        *self.gate.lock() = Some(gate.clone());
        gate
    }

    pub(crate) fn requests(&self, path: &str) -> Vec<Seen> {
        self.seen
            .lock()
            .iter()
            .filter(|seen| seen.path == path)
            .cloned()
            .collect()
    }

    pub(crate) fn config() -> OidcConfig {
        OidcConfig {
            id: "idp-1".into(),
            issuer: ISSUER.into(),
            client_id: CLIENT.into(),
            client_secret: SECRET.into(),
            scopes: vec!["openid".into(), "email".into()],
            request_params: Vec::new(),
            redirect_uri: "https://auth.example.com/oauth2/callback".into(),
        }
    }

    pub(crate) fn client(self: &Arc<Self>) -> OidcProvider {
        self.client_with(Self::config())
    }

    pub(crate) fn client_with(self: &Arc<Self>, config: OidcConfig) -> OidcProvider {
        OidcProvider::new(config, self.clone(), Arc::new(self.clock.clone()))
    }
}

impl HttpClient for FakeProvider {
    fn send(
        &self,
        request: Request<Bytes>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Response<Bytes>, HttpError>> {
        async move {
            let url = request.uri().to_string();
            let path = url.strip_prefix(ISSUER).unwrap_or(&url).to_owned();
            let header = |name: &str| {
                request
                    .headers()
                    .get(name)
                    .map(|value| value.to_str().unwrap().to_owned())
            };
            let form = Query::parse(std::str::from_utf8(request.body()).unwrap());
            let seen = Seen {
                path: path.clone(),
                authorization: header("authorization"),
                form,
            };
            self.seen.lock().push(seen.clone());
            let gate = self.gate.lock().clone();
            if let Some(gate) = gate {
                gate.acquire().await.unwrap().forget();
            }
            let script = self.scripts.lock().get(&path).cloned();
            let response = match script {
                Some(script) => script(&seen)?,
                None => answer(404, "text/plain", "")?,
            };
            if response.body().len() > limit {
                return Err(HttpError {
                    kind: HttpErrorKind::TooLarge,
                    text: "too large".into(),
                });
            }
            Ok(response)
        }
        .boxed()
    }
}

/// A clock that goes with the (paused) timers of the runtime.
pub(crate) struct TimerClock(tokio::time::Instant);

impl TimerClock {
    pub(crate) fn new() -> Self {
        Self(tokio::time::Instant::now())
    }
}

impl Clock for TimerClock {
    fn now(&self) -> Timestamp {
        start() + Duration::from_secs(self.0.elapsed().as_secs())
    }
}

/// Records in a map. The real ones are tested in their own room.
pub(crate) struct FakeBroker {
    log: Mutex<Vec<Record>>,
    live: Mutex<BTreeMap<(String, String), Record>>,
    changed: watch::Sender<()>,
    /// When set, every call fails.
    pub(crate) down: Mutex<bool>,
    /// Runs before each write.
    pub(crate) before_write: Mutex<Option<Box<dyn FnMut() + Send>>>,
}

impl FakeBroker {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            log: Mutex::default(),
            live: Mutex::default(),
            changed: watch::Sender::new(()),
            down: Mutex::new(false),
            before_write: Mutex::new(None),
        })
    }

    pub(crate) fn writes(&self) -> usize {
        self.log.lock().len()
    }

    /// Writes as somebody else would.
    pub(crate) fn write(&self, mut record: Record) -> Record {
        let mut log = self.log.lock();
        record.version = log.len() as u64 + 1;
        let key = (record.r#type.clone(), record.id.clone());
        match record.deleted_at {
            Some(_) => self.live.lock().remove(&key),
            None => self.live.lock().insert(key, record.clone()),
        };
        log.push(record.clone());
        drop(log);
        self.changed.send_replace(());
        record
    }

    fn check(&self) -> Result<(), Error> {
        if *self.down.lock() {
            Err(Error::Unavailable("down".into()))
        } else {
            Ok(())
        }
    }

    fn interfere(&self) {
        let interfere = self.before_write.lock().take();
        if let Some(mut interfere) = interfere {
            interfere();
        }
    }

    fn since(&self, record_type: &str, position: u64) -> Option<Record> {
        let log = self.log.lock();
        log.iter()
            .find(|record| record.version > position && record.r#type == record_type)
            .cloned()
    }
}

impl Databroker for FakeBroker {
    fn versions(&self) -> BoxFuture<'_, Result<Versions, Error>> {
        let at = Versions {
            server_version: 1,
            latest_record_version: self.writes() as u64,
        };
        ready(self.check().map(|()| at)).boxed()
    }

    fn get<'a>(&'a self, record_type: &'a str, id: &'a str) -> BoxFuture<'a, Result<Record, Error>> {
        let found = self
            .live
            .lock()
            .get(&(record_type.to_owned(), id.to_owned()))
            .cloned();
        ready(self.check().and_then(|()| found.ok_or(Error::NotFound))).boxed()
    }

    fn put(&self, records: Vec<Record>) -> BoxFuture<'_, Result<PutReply, Error>> {
        let put = self.check().map(|()| {
            self.interfere();
            PutReply {
                server_version: 1,
                records: records.into_iter().map(|record| self.write(record)).collect(),
            }
        });
        ready(put).boxed()
    }

    fn replace(&self, record: Record) -> BoxFuture<'_, Result<Option<Record>, Error>> {
        let replaced = self.check().map(|()| {
            self.interfere();
            let key = (record.r#type.clone(), record.id.clone());
            let fits = self
                .live
                .lock()
                .get(&key)
                .is_some_and(|live| live.version == record.version);
            fits.then(|| self.write(record))
        });
        ready(replaced).boxed()
    }

    fn sync_latest<'a>(&'a self, record_type: &'a str) -> BoxFuture<'a, Result<RecordStream<Latest>, Error>> {
        let at = Versions {
            server_version: 1,
            latest_record_version: self.writes() as u64,
        };
        let live = self
            .live
            .lock()
            .clone()
            .into_values()
            .filter(|record| record.r#type == record_type);
        let items: Vec<_> = live
            .map(|record| Ok(Latest::Record(record)))
            .chain([Ok(Latest::Versions(at))])
            .collect();
        ready(self.check().map(|()| stream::iter(items).boxed())).boxed()
    }

    fn sync<'a>(
        &'a self,
        record_type: &'a str,
        from: Versions,
    ) -> BoxFuture<'a, Result<RecordStream<Record>, Error>> {
        ready(Err(Error::Unavailable(format!(
            "{record_type} from {from:?}: use an Arc"
        ))))
        .boxed()
    }

    fn clear(&self) -> BoxFuture<'_, Result<Cleared, Error>> {
        ready(Err(Error::Invalid("not used here".into()))).boxed()
    }
}

/// [`FakeBroker`] with a stream of changes, which needs shared ownership.
pub(crate) struct Following(pub(crate) Arc<FakeBroker>);

impl Databroker for Following {
    fn versions(&self) -> BoxFuture<'_, Result<Versions, Error>> {
        self.0.versions()
    }
    fn get<'a>(&'a self, record_type: &'a str, id: &'a str) -> BoxFuture<'a, Result<Record, Error>> {
        self.0.get(record_type, id)
    }
    fn put(&self, records: Vec<Record>) -> BoxFuture<'_, Result<PutReply, Error>> {
        self.0.put(records)
    }
    fn replace(&self, record: Record) -> BoxFuture<'_, Result<Option<Record>, Error>> {
        self.0.replace(record)
    }
    fn sync_latest<'a>(&'a self, record_type: &'a str) -> BoxFuture<'a, Result<RecordStream<Latest>, Error>> {
        self.0.sync_latest(record_type)
    }
    fn sync<'a>(
        &'a self,
        record_type: &'a str,
        from: Versions,
    ) -> BoxFuture<'a, Result<RecordStream<Record>, Error>> {
        let state = (
            self.0.clone(),
            self.0.changed.subscribe(),
            from.latest_record_version,
            record_type.to_owned(),
        );
        let changes = stream::unfold(state, |(broker, mut changed, position, record_type)| async move {
            loop {
                if let Some(record) = broker.since(&record_type, position) {
                    let position = record.version;
                    return Some((Ok(record), (broker, changed, position, record_type)));
                }
                changed.changed().await.ok()?;
            }
        });
        ready(self.0.check().map(|()| changes.boxed())).boxed()
    }
    fn clear(&self) -> BoxFuture<'_, Result<Cleared, Error>> {
        self.0.clear()
    }
}
