//! The program around sign-in, in process: settings from a real file, a databroker, a clock that stands still,
//! and in place of the data plane just enough of one to ask for a session.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use jiff::SignedDuration;
use parking_lot::Mutex;
use pomerium_api::clock::{Clock, ManualClock};
use pomerium_api::databroker::Databroker;
use pomerium_api::pb::session::Session;
use pomerium_api::pb::user::User;
use pomerium_api::records::{DIRECTORY_GROUP, DIRECTORY_USER};
use pomerium_api::synced::{Confirmed, Parts, ServiceAccountEntry, SessionEntry, StructEntry, UserEntry};
use pomerium_authenticate::{Authenticate, Deps, RequestContext, State};
use pomerium_authorize::{Principal, Records, authentication};
use pomerium_config::Loader;
use pomerium_config::settings::{RouteSettings, Settings};
use pomerium_crypto::jwt::SigningKey;
use pomerium_crypto::query::Query;
use pomerium_identity::{HttpClient, HttpError, HttpErrorKind};
use pomerium_policy::Demand;
use pomerium_web::canonical::{CanonicalRequest, Connection, Rules, canonicalize};
use pomerium_web::handle::{self, Handle};
use pomerium_web::pages::Site;
use pomerium_web::{body, negotiate};

use super::broker::MapBroker;

pub const AUTH: &str = "https://authenticate.example.com";
pub const APP: &str = "https://app.example.com";
pub const ADMIN: &str = "https://admin.example.com";
pub const OTHER: &str = "https://other.example.org";
pub const USER: (&str, &str) = ("user@example.com", "correct horse");
pub const BOSS: (&str, &str) = ("admin@example.com", "battery staple");

/// The hashes are as cheap as Argon2id allows: what they cost is no part of these tests.
const CONFIG: &str = r#"
authenticate_service_url: https://authenticate.example.com
shared_secret: AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=
cookie_secret: ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=
idp_provider: local
local_idp:
  users:
    - email: user@example.com
      name: A User
      groups: [staff]
      password_hash: $argon2id$v=19$m=8,t=1,p=1$LmhYTyY+XqO/U6lYhxU/BA$AzhbSxj9GT+4iYZlV3H1aQOq8llWtfA/AxpXIfVpouM
    - email: admin@example.com
      name: An Admin
      groups: [staff, admins]
      password_hash: $argon2id$v=19$m=8,t=1,p=1$O+M/NbWv3lC7NajUEW5T8w$Gjv402ES4oouygyXyfBr6yRHqW8p4tjaWwMs4fDQD6Y
routes:
  - from: https://app.example.com
    to: http://127.0.0.1:1
    name: Sample application
    description: Shows who you are
    allow_any_authenticated_user: true
  - from: https://admin.example.com
    to: http://127.0.0.1:1
    allowed_users: [admin@example.com]
  - from: https://other.example.org
    to: http://127.0.0.1:1
    depends_on: [app.example.com, admin.example.com]
    policy: {allow: {and: [{http_path: {starts_with: /x}}, {email: {is: user@example.com}}]}}
"#;

/// Nothing is beyond the built-in provider: whoever asks has gone the wrong way.
struct NoNetwork;

impl HttpClient for NoNetwork {
    fn send(&self, request: Request<Bytes>, _: usize) -> BoxFuture<'_, Result<Response<Bytes>, HttpError>> {
        let text = format!("nothing listens at {}", request.uri());
        ready(Err(HttpError {
            kind: HttpErrorKind::Connect,
            text,
        }))
        .boxed()
    }
}

pub struct World {
    pub broker: Arc<MapBroker>,
    pub clock: ManualClock,
    pub state: Arc<State>,
    pub settings: Mutex<Settings>,
    pub service: Mutex<Arc<Authenticate>>,
    /// What `app.example.com` asks of a sign-in.
    pub step_up: Mutex<Option<StepUp>>,
    /// Every reply that was JSON, with the URL it came from.
    pub json_replies: Mutex<Vec<(String, String)>>,
}

/// A policy with the criterion `authentication`.
pub struct StepUp {
    pub demand: Demand,
    /// It does not hold, whatever the sign-in is.
    pub never_enough: bool,
}

/// A reply, read whole.
#[derive(Debug, Clone)]
pub struct Reply {
    pub url: String,
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl World {
    pub fn new() -> Self {
        Self::with("")
    }

    /// The usual settings and `more` lines of configuration.
    pub fn with(more: &str) -> Self {
        let settings = load(more);
        let clock = ManualClock::new("2026-03-01T12:00:00Z".parse().unwrap());
        let broker = Arc::new(MapBroker::default());
        let state = Arc::new(State::default());
        let service = build(&settings, &broker, &clock, &state);
        Self {
            broker,
            clock,
            state,
            settings: Mutex::new(settings),
            service: Mutex::new(service),
            step_up: Mutex::default(),
            json_replies: Mutex::default(),
        }
    }

    /// Goes on as another process with the same databroker would: nothing is remembered from before.
    pub fn another_replica(&self) {
        let state = Arc::new(State::default());
        *self.service.lock() = build(&self.settings.lock(), &self.broker, &self.clock, &state);
    }

    /// Swaps the settings, as a reload does.
    pub fn reload(&self, more: &str) {
        let settings = load(more);
        *self.service.lock() = build(&settings, &self.broker, &self.clock, &self.state);
        *self.settings.lock() = settings;
    }

    /// Swaps the settings for changed ones.
    pub fn reload_changed(&self, from: &str, to: &str) {
        assert!(CONFIG.contains(from));
        let settings = load_text(&CONFIG.replace(from, to));
        *self.service.lock() = build(&settings, &self.broker, &self.clock, &self.state);
        *self.settings.lock() = settings;
    }

    /// Unix seconds.
    pub fn now(&self) -> i64 {
        self.clock.now().as_second()
    }

    /// What is asked of a sign-in that falls short.
    fn lacking(&self, route: &RouteSettings, principal: &Principal) -> Option<Demand> {
        let step_up = self.step_up.lock();
        let step_up = step_up.as_ref().filter(|_| &*route.from == APP)?;
        let how = authentication(&principal.session.as_ref()?.session);
        let lacks = step_up
            .demand
            .unmet(&how, self.clock.now(), SignedDuration::ZERO)
            .any();
        (lacks || step_up.never_enough).then(|| step_up.demand.clone())
    }

    pub fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    pub async fn send(&self, method: Method, url: &str, headers: &[(&str, String)], body: String) -> Reply {
        let (host, _) = super::browser::split(url);
        let target = &url["https://".len() + host.len()..];
        let target = if target.starts_with('/') {
            target.to_owned()
        } else {
            format!("/{target}")
        };
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header("host", &host);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let (mut parts, body) = request.body(body::full(body)).unwrap().into_parts();
        let peer: SocketAddr = "192.0.2.7:4711".parse().unwrap();
        let connection = Connection {
            peer,
            tls: true,
            local: "192.0.2.1:443".parse().unwrap(),
        };
        let canonical = canonicalize(&mut parts, &connection, &Rules::default(), &mut || {
            "request-1".into()
        })
        .unwrap();
        let response = self
            .serve(Request::from_parts(parts, body), Arc::new(canonical))
            .await;
        let (parts, body) = response.into_parts();
        let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        let reply = Reply {
            url: url.to_owned(),
            status: parts.status,
            headers: parts.headers,
            body,
        };
        if reply.content_type().contains("json") {
            self.json_replies
                .lock()
                .push((url.to_owned(), reply.body.clone()));
        }
        reply
    }

    async fn serve(
        &self,
        request: Request<pomerium_web::Body>,
        canonical: Arc<CanonicalRequest>,
    ) -> pomerium_web::Response {
        let service = self.service.lock().clone();
        let route = self.route(canonical.host());
        let principal = self.principal(request.headers(), canonical.query.as_deref());
        let internal =
            canonical.path.starts_with("/.pomerium") || canonical.path.starts_with("/.well-known/pomerium");
        match (&route, internal) {
            (Some(route), false) => self.application(
                &service,
                route,
                principal.as_deref(),
                request.headers(),
                &canonical,
            ),
            _ => {
                let assertion = principal.as_ref().map(|principal| assertion(principal));
                let context = RequestContext {
                    route,
                    principal,
                    assertion,
                };
                service.handle(request, canonical, context).await
            }
        }
    }

    /// The data plane: a session, or the way to one.
    fn application(
        &self,
        service: &Authenticate,
        route: &RouteSettings,
        principal: Option<&Principal>,
        headers: &HeaderMap,
        canonical: &CanonicalRequest,
    ) -> pomerium_web::Response {
        let lacking = principal.and_then(|principal| self.lacking(route, principal));
        if let Some(demand) = lacking {
            let url = service.step_up_url(canonical, route, &demand);
            return pomerium_web::error_reply::redirect(StatusCode::FOUND, &url);
        }
        match principal {
            Some(principal) => {
                body::response(StatusCode::OK, "text/plain", format!("hello {}", principal.email))
            }
            None if negotiate::redirect_allowed(canonical, headers) => {
                let url = service.sign_in_url(canonical, route);
                pomerium_web::error_reply::redirect(StatusCode::FOUND, &url)
            }
            None => body::response(StatusCode::UNAUTHORIZED, "text/plain", "Unauthenticated"),
        }
    }

    fn route(&self, host: &str) -> Option<Arc<RouteSettings>> {
        let settings = self.settings.lock();
        settings
            .routes
            .iter()
            .find(|route| *route.from == *format!("https://{host}"))
            .cloned()
    }

    fn principal(&self, headers: &HeaderMap, query: Option<&str>) -> Option<Arc<Principal>> {
        let (_, token) = handle::find_token(headers, query, "_pomerium")?;
        let handle = Handle::decode(self.settings.lock().secrets.shared.expose(), token).ok()?;
        let session = Records::session(self, &handle.jti)?;
        let principal = Principal::of_session(self, session, &"groups".into()).ok()?;
        let alive = principal.expires_at.is_none_or(|end| end > self.clock.now());
        alive.then(|| Arc::new(principal))
    }
}

impl World {
    fn free_object(&self, kind: &str, id: &str) -> Option<Arc<StructEntry>> {
        let record = Databroker::get(&*self.broker, kind, id).now_or_never()?.ok()?;
        StructEntry::of_record(7, &record).ok()?.map(Arc::new)
    }
}

impl Records for World {
    fn session(&self, id: &str) -> Option<Arc<SessionEntry>> {
        let session = self
            .broker
            .sessions()
            .into_iter()
            .find(|session| session.id == id)?;
        Some(Arc::new(SessionEntry {
            server_version: 7,
            version: 1,
            session,
            confirmed: Confirmed::default(),
            left_out: Parts::NONE,
        }))
    }

    fn user(&self, id: &str) -> Option<Arc<UserEntry>> {
        let record = pomerium_api::databroker::Databroker::get(&*self.broker, USER_TYPE, id)
            .now_or_never()?
            .ok()?;
        let user: User = pomerium_api::records::from_record(&record).ok()?;
        Some(Arc::new(UserEntry {
            server_version: 7,
            version: 1,
            user,
            confirmed: Confirmed::default(),
        }))
    }

    fn service_account(&self, _: &str) -> Option<Arc<ServiceAccountEntry>> {
        None
    }

    fn directory_user(&self, id: &str) -> Option<Arc<StructEntry>> {
        self.free_object(DIRECTORY_USER, id)
    }

    fn directory_group(&self, id: &str) -> Option<Arc<StructEntry>> {
        self.free_object(DIRECTORY_GROUP, id)
    }
}

const USER_TYPE: &str = <User as pomerium_api::records::RecordMessage>::TYPE;

fn assertion(principal: &Principal) -> HeaderValue {
    let claims = serde_json::json!({
        "iss": "app.example.com", "aud": "app.example.com", "exp": 2, "iat": 1, "jti": "x",
        "sub": principal.user_id, "email": principal.email, "name": principal.name,
    });
    HeaderValue::try_from(SigningKey::random().sign(&claims).unwrap()).unwrap()
}

fn load(more: &str) -> Settings {
    load_text(&format!("{CONFIG}{more}"))
}

fn load_text(config: &str) -> Settings {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yaml");
    let data = format!("data_dir: {}\n", folder.path().join("data").display());
    std::fs::write(&path, format!("{data}{config}")).unwrap();
    match Loader::new(Some(&path), &BTreeMap::new()).dry_run().load() {
        Ok(loaded) => loaded.settings,
        Err(errors) => panic!("{errors}"),
    }
}

fn build(
    settings: &Settings,
    broker: &Arc<MapBroker>,
    clock: &ManualClock,
    state: &Arc<State>,
) -> Arc<Authenticate> {
    let hosts: Vec<String> = settings
        .routes
        .iter()
        .map(|route| route.from.trim_start_matches("https://").to_owned())
        .collect();
    let deps = Deps {
        broker: broker.clone(),
        http: Arc::new(NoNetwork),
        clock: Arc::new(clock.clone()),
        hosts: Arc::new(move |authority| hosts.iter().any(|host| host == authority)),
        site: Arc::new(Site::default()),
        state: state.clone(),
    };
    Authenticate::new(settings, deps).unwrap()
}

impl Reply {
    pub fn content_type(&self) -> &str {
        self.header("content-type").unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Where the browser is sent.
    pub fn next(&self) -> Option<String> {
        let refresh = self
            .header("refresh")
            .and_then(|value| value.strip_prefix("0; url="));
        self.header("location").or(refresh).map(str::to_owned)
    }

    pub fn location(&self) -> &str {
        self.header("location")
            .unwrap_or_else(|| panic!("no redirect: {} {}", self.status, self.body))
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {} {}", self.status, self.body))
    }

    /// Action and fields of the form on the page.
    pub fn form(&self) -> (String, Query) {
        let start = self
            .body
            .find("<form")
            .unwrap_or_else(|| panic!("no form: {}", self.body));
        let form = &self.body[start..start + self.body[start..].find("</form>").unwrap()];
        let action = attribute(&form[..form.find('>').unwrap()], "action").unwrap();
        let mut fields = Query::new();
        for input in form.split("<input").skip(1) {
            let tag = &input[..input.find('>').unwrap()];
            if let Some(name) = attribute(tag, "name") {
                fields.set(&name, attribute(tag, "value").unwrap_or_default());
            }
        }
        (action, fields)
    }
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let start = tag.find(&format!(" {name}=\""))? + name.len() + 3;
    let value = &tag[start..start + tag[start..].find('"')?];
    let plain = [
        ("&#38;", "&"),
        ("&amp;", "&"),
        ("&#34;", "\""),
        ("&quot;", "\""),
        ("&#39;", "'"),
        ("&#60;", "<"),
        ("&#62;", ">"),
    ];
    Some(
        plain
            .iter()
            .fold(value.to_owned(), |text, (from, to)| text.replace(from, to)),
    )
}

/// A change of one parameter of a URL; the rest stays byte for byte as the query encodes it.
pub fn with_parameter(url: &str, name: &str, value: Option<&str>) -> String {
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let mut query = Query::parse(query);
    match value {
        Some(value) => query.set(name, value),
        None => query.remove(name),
    };
    format!("{base}?{}", query.encode())
}

pub fn parameter(url: &str, name: &str) -> Option<String> {
    Query::parse(url.split_once('?')?.1).get(name).map(str::to_owned)
}

/// The session a cookie names.
pub fn session_of<'a>(sessions: &'a [Session], world: &World, token: &str) -> Option<&'a Session> {
    let handle = Handle::decode(world.settings.lock().secrets.shared.expose(), token).unwrap();
    sessions.iter().find(|session| session.id == handle.jti)
}
