//! A data plane to test against, upstreams of every temper, and clients that write raw bytes.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use http::Request;
use jiff::Timestamp;
use parking_lot::Mutex;
use pomerium_api::clock::ManualClock;
use pomerium_api::databroker::{
    Cleared, Databroker, Error, Latest, PutReply, Record, RecordStream, Versions,
};
use pomerium_api::pb;
use pomerium_api::records::to_record;
use pomerium_api::synced::SyncedRecords;
use pomerium_authorize::{AssertionSigner, SessionResolver};
use pomerium_certs::{CertStore, DerivedAuthority};
use pomerium_config::Loader;
use pomerium_config::settings::{RouteSettings, Settings};
use pomerium_crypto::jwt::SigningKey;
use pomerium_policy::Demand;
use pomerium_web::canonical::CanonicalRequest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::{
    ControlContext, ControlPlane, Dataplane, LogSink, LoginLinks, Metrics, Options, Shared, Snapshot,
};

pub(crate) const KEY: [u8; 32] = *b"0123456789abcdef0123456789abcdef";

/// What a process without certificates serves.
pub(crate) fn generated_certificate() -> CertStore {
    let authority = DerivedAuthority::new(&KEY).unwrap();
    CertStore::new(vec![authority.catch_all().unwrap()])
}

/// Loads settings as the program does. `routes` is the YAML under `routes:`.
pub(crate) fn settings(extra: &str, routes: &str) -> Settings {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    let secret = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    let text = format!(
        "shared_secret: {secret}\ncookie_secret: {secret}\naddress: 127.0.0.1:0\ninsecure_server: true\n\
         databroker_storage_type: memory\n{extra}\nroutes:\n{routes}\n"
    );
    std::fs::write(&file, text).unwrap();
    let environment = Default::default();
    let loaded = Loader::new(Some(&file), &environment).dry_run().load();
    loaded.unwrap_or_else(|errors| panic!("{errors:?}")).settings
}

/// One public route of `app.example.com` to a port of this machine, with more keys.
pub(crate) fn public(to: SocketAddr, more: &str) -> String {
    format!(
        "  - from: https://app.example.com\n    to: http://{to}\n    allow_public_unauthenticated_access: true\n{more}"
    )
}

/// The id of a record that cannot be asked for.
pub(crate) const UNREACHABLE: &str = "unreachable";

/// Holds the records it is given and never changes.
pub(crate) struct Records(pub(super) Vec<Record>);

impl Databroker for Records {
    fn versions(&self) -> BoxFuture<'_, Result<Versions, Error>> {
        async { Ok(at()) }.boxed()
    }
    fn get<'a>(&'a self, record_type: &'a str, id: &'a str) -> BoxFuture<'a, Result<Record, Error>> {
        let found = self
            .0
            .iter()
            .find(|record| record.r#type == record_type && record.id == id)
            .cloned();
        let unreachable = id == UNREACHABLE;
        async move {
            if unreachable {
                return Err(Error::Unavailable("not now".into()));
            }
            found.ok_or(Error::NotFound)
        }
        .boxed()
    }
    fn put(&self, _: Vec<Record>) -> BoxFuture<'_, Result<PutReply, Error>> {
        async { Err(Error::Unavailable("not here".into())) }.boxed()
    }
    fn sync_latest<'a>(&'a self, record_type: &'a str) -> BoxFuture<'a, Result<RecordStream<Latest>, Error>> {
        let wanted = |record: &&Record| record_type.is_empty() || record.r#type == record_type;
        let mut all: Vec<_> = self
            .0
            .iter()
            .filter(wanted)
            .cloned()
            .map(|record| Ok(Latest::Record(record)))
            .collect();
        all.push(Ok(Latest::Versions(at())));
        async move { Ok(futures_util::stream::iter(all).boxed()) }.boxed()
    }
    fn sync<'a>(&'a self, _: &'a str, _: Versions) -> BoxFuture<'a, Result<RecordStream<Record>, Error>> {
        async { Ok(futures_util::stream::pending().boxed()) }.boxed()
    }
    fn clear(&self) -> BoxFuture<'_, Result<Cleared, Error>> {
        async { Err(Error::Unavailable("not here".into())) }.boxed()
    }
}

fn at() -> Versions {
    Versions {
        server_version: 1,
        latest_record_version: 100,
    }
}

/// A session and its user.
pub(crate) fn session(id: &str, email: &str) -> Vec<Record> {
    let user = pb::user::User {
        id: format!("user-{id}"),
        email: email.into(),
        ..Default::default()
    };
    let session = pb::session::Session {
        id: id.into(),
        user_id: user.id.clone(),
        ..Default::default()
    };
    let mut records = vec![to_record(&user), to_record(&session)];
    for (record, version) in records.iter_mut().zip(1..) {
        record.version = version;
    }
    records
}

/// The cookie that names a session.
pub(crate) fn cookie(id: &str) -> String {
    let handle = pomerium_web::handle::Handle {
        jti: id.into(),
        ..Default::default()
    };
    format!("_pomerium={}", handle.encode(&KEY))
}

struct Control;

impl ControlPlane for Control {
    fn handle(
        &self,
        request: Request<pomerium_web::Body>,
        context: ControlContext,
    ) -> BoxFuture<'static, pomerium_web::Response> {
        async move {
            let who = context
                .principal
                .map(|principal| principal.email.clone())
                .unwrap_or_default();
            let text = format!("control {} {who}", request.uri());
            pomerium_web::body::response(http::StatusCode::OK, "text/plain", text)
        }
        .boxed()
    }
}

struct Login;

impl LoginLinks for Login {
    fn sign_in_url(&self, request: &CanonicalRequest, _: &RouteSettings) -> String {
        format!(
            "https://authenticate.example.com/.pomerium/sign_in?to={}",
            request.host()
        )
    }

    fn device_url(&self, request: &CanonicalRequest, device_type: &str) -> String {
        format!("https://{}/.pomerium/webauthn?type={device_type}", request.host())
    }

    fn step_up_url(&self, request: &CanonicalRequest, _: &RouteSettings, demand: &Demand) -> String {
        format!(
            "https://authenticate.example.com/.pomerium/sign_in?to={}&max_age={}",
            request.host(),
            demand.max_age.unwrap_or_default()
        )
    }
}

#[derive(Clone, Default)]
pub(crate) struct LogLines(Arc<Mutex<Vec<u8>>>);

impl Write for LogLines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A running data plane.
pub(crate) struct Proxy {
    pub(crate) plane: Dataplane,
    pub(crate) addr: SocketAddr,
    pub(crate) shared: Arc<Shared>,
    log: LogLines,
}

impl Proxy {
    pub(crate) async fn start(settings: &Settings) -> Self {
        Self::with(settings, Vec::new(), CertStore::new(Vec::new())).await
    }

    pub(crate) async fn with(settings: &Settings, records: Vec<Record>, certificates: CertStore) -> Self {
        let log = LogLines::default();
        Self::launch(settings, records, certificates, (log.clone(), Box::new(log))).await
    }

    pub(crate) async fn launch(
        settings: &Settings,
        records: Vec<Record>,
        certificates: CertStore,
        (log, sink): (LogLines, Box<dyn Write + Send>),
    ) -> Self {
        let broker: Arc<dyn Databroker> = Arc::new(Records(records));
        let synced = SyncedRecords::new(broker.clone());
        tokio::spawn(synced.clone().run(std::future::pending()));
        synced.wait_ready().await;
        let metrics = Arc::new(Metrics::register(&prometheus::Registry::new()).unwrap());
        let shared = Arc::new(Shared {
            challenges: Arc::default(),
            sessions: SessionResolver::new(synced, broker, KEY),
            signer: AssertionSigner::new(Arc::new(SigningKey::random())),
            clock: Arc::new(ManualClock::new(
                "2026-08-01T10:00:00Z".parse::<Timestamp>().unwrap(),
            )),
            log: LogSink::start(sink, metrics.log_drops.clone()).unwrap(),
            metrics,
            audit: Arc::new(()),
            access: Arc::new(()),
            control: Arc::new(Control),
            login: Arc::new(Login),
            tokens: Arc::new(()),
            control_runtime: tokio::runtime::Handle::current(),
            tracer: None,
        });
        let snapshot = Arc::new(Snapshot::build(settings, None).unwrap());
        let options = Options {
            address: Some(settings.listener.address.clone()),
            redirect_address: settings.listener.redirect_address.clone(),
            decision_address: settings
                .decision
                .as_ref()
                .map(|decision| decision.address.clone()),
            workers: 0,
        };
        let plane = Dataplane::start(&options, snapshot, Arc::new(certificates), shared.clone()).unwrap();
        let addr = plane.local_addrs()[0];
        Self {
            plane,
            addr,
            shared,
            log,
        }
    }

    /// Lines of both logs so far, parsed.
    pub(crate) fn lines(&self, message: &str) -> Vec<serde_json::Value> {
        self.shared.log.flush();
        let text = String::from_utf8(self.log.0.lock().clone()).unwrap();
        let parse = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        text.lines()
            .map(parse)
            .filter(|line| line["message"] == message)
            .collect()
    }

    /// Waits for the access log line number `count`.
    pub(crate) async fn line(&self, count: usize) -> serde_json::Value {
        let wait = async {
            loop {
                if let Some(line) = self.lines("http-request").get(count - 1) {
                    return line.clone();
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), wait)
            .await
            .expect("a line of the access log")
    }

    pub(crate) async fn connect(&self) -> Client {
        Client {
            stream: TcpStream::connect(self.addr).await.unwrap(),
            read: Vec::new(),
        }
    }

    /// One request on a connection of its own.
    pub(crate) async fn get(&self, path: &str, headers: &str) -> Answer {
        let mut client = self.connect().await;
        client
            .send(&format!(
                "GET {path} HTTP/1.1\r\nHost: app.example.com\r\n{headers}\r\n"
            ))
            .await;
        client.answer().await
    }
}

/// A client that writes bytes as they are told.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    pub(crate) read: Vec<u8>,
}

/// A response as it came over the wire.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let wanted = format!("{name}:");
        let line = self
            .head
            .lines()
            .find(|line| line.to_ascii_lowercase().starts_with(&wanted))?;
        Some(line[wanted.len()..].trim().to_owned())
    }
}

impl Client {
    pub(crate) async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads more; false at the end of the connection.
    async fn more(&mut self) -> bool {
        let mut buffer = vec![0; 16 * 1024];
        let read = tokio::time::timeout(Duration::from_secs(10), self.stream.read(&mut buffer)).await;
        let count = read.expect("an answer in time").unwrap_or(0);
        self.read.extend_from_slice(&buffer[..count]);
        count > 0
    }

    pub(crate) async fn until(&mut self, end: &str) -> Vec<u8> {
        loop {
            if let Some(at) = self
                .read
                .windows(end.len())
                .position(|window| window == end.as_bytes())
            {
                return self.read.drain(..at + end.len()).collect();
            }
            if !self.more().await {
                panic!(
                    "closed while waiting for {end:?}; got {:?}",
                    String::from_utf8_lossy(&self.read)
                );
            }
        }
    }

    pub(crate) async fn head(&mut self) -> (u16, String) {
        let head = String::from_utf8(self.until("\r\n\r\n").await).unwrap();
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .unwrap_or(0);
        (status, head)
    }

    /// One whole response.
    pub(crate) async fn answer(&mut self) -> Answer {
        let (status, head) = self.head().await;
        let mut answer = Answer {
            status,
            head,
            body: Vec::new(),
        };
        if let Some(length) = answer.header("content-length") {
            let length: usize = length.parse().unwrap();
            while self.read.len() < length {
                assert!(self.more().await, "body cut at {} of {length}", self.read.len());
            }
            answer.body = self.read.drain(..length).collect();
        } else if answer.header("transfer-encoding").is_some() {
            loop {
                let size = String::from_utf8(self.until("\r\n").await).unwrap();
                let size = usize::from_str_radix(size.trim(), 16).unwrap();
                while self.read.len() < size + 2 {
                    assert!(self.more().await, "chunk cut");
                }
                answer.body.extend(self.read.drain(..size));
                self.read.drain(..2);
                if size == 0 {
                    break;
                }
            }
        }
        answer
    }

    /// Everything until the connection ends.
    pub(crate) async fn rest(&mut self) -> String {
        while self.more().await {}
        String::from_utf8_lossy(&std::mem::take(&mut self.read)).into_owned()
    }
}

/// An upstream that talks raw TCP: `talk` gets each connection with its number.
pub(crate) async fn upstream<F, R>(talk: F) -> SocketAddr
where
    F: Fn(Client, usize) -> R + Send + Sync + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for number in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(talk(
                Client {
                    stream,
                    read: Vec::new(),
                },
                number,
            ));
        }
    });
    addr
}

/// An upstream that answers every request with what it received: head and, framed by its length or
/// chunks, body. Keeps connections alive.
pub(crate) async fn mirror() -> SocketAddr {
    upstream(|mut client, number| async move {
        loop {
            while !client.read.windows(4).any(|window| window == b"\r\n\r\n") {
                if !client.more().await {
                    return;
                }
            }
            let seen = read_request(&mut client).await;
            let body = format!("{}\n#{number}", seen);
            client
                .send(&format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nServer: mirror\r\n\r\n{body}",
                    body.len()
                ))
                .await;
        }
    })
    .await
}

/// Reads one request: its head, a blank line, its body.
pub(crate) async fn read_request(client: &mut Client) -> String {
    let request = client.answer().await;
    format!("{}{}", request.head, request.text())
}

/// An address where nobody listens.
pub(crate) async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}
