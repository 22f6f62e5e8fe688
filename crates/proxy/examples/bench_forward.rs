//! A data plane to measure: `bench_forward <config file> [workers]`.
//!
//! Serves the routes of the file as the program does, with one session in memory, and prints the
//! addresses, the cookie of that session and then nothing more; the access log goes to a file in the
//! system's folder for temporary files. Drive it with `h2load` or `wrk`, watch it with `perf`:
//!
//! ```text
//! cargo run --profile dist -p pomerium-proxy --example bench_forward -- config.yaml 2
//! h2load --h1 -n 200000 -c 32 -H 'Cookie: _pomerium=…' https://app.example.com:8443/
//! ```
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::path::Path;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use http::Request;
use pomerium_api::clock::SystemClock;
use pomerium_api::databroker::{
    Cleared, Databroker, Error, Latest, PutReply, Record, RecordStream, Versions,
};
use pomerium_api::pb;
use pomerium_api::records::to_record;
use pomerium_api::synced::SyncedRecords;
use pomerium_authorize::{AssertionSigner, SessionResolver};
use pomerium_certs::{CertStore, DerivedAuthority};
use pomerium_config::Loader;
use pomerium_config::settings::RouteSettings;
use pomerium_crypto::jwt::SigningKey;
use pomerium_proxy::{
    ControlContext, ControlPlane, Dataplane, LogSink, LoginLinks, Metrics, Options, Shared, Snapshot,
};
use pomerium_web::canonical::CanonicalRequest;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments
        .next()
        .ok_or("usage: bench_forward <config file> [workers]")?;
    let workers = arguments.next().map_or(Ok(2), |count| count.parse())?;
    let loaded = Loader::new(Some(Path::new(&file)), &Default::default()).load();
    let settings = loaded.map_err(|errors| format!("{:?}", errors.errors))?.settings;
    let key: [u8; 32] = settings.secrets.shared.expose().try_into()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let broker: Arc<dyn Databroker> = Arc::new(One(session()));
        let synced = SyncedRecords::new(broker.clone());
        tokio::spawn(synced.clone().run(std::future::pending()));
        synced.wait_ready().await;
        let metrics = Arc::new(Metrics::register(&prometheus::Registry::new())?);
        let log = std::fs::File::create(std::env::temp_dir().join("bench_forward.log"))?;
        let shared = Arc::new(Shared {
            audit: Arc::new(()),
            access: Arc::new(()),
            challenges: Arc::default(),
            sessions: SessionResolver::new(synced, broker, key),
            signer: AssertionSigner::new(Arc::new(SigningKey::random())),
            clock: Arc::new(SystemClock),
            log: LogSink::start(Box::new(log), metrics.log_drops.clone())?,
            metrics,
            control: Arc::new(Nothing),
            login: Arc::new(Nothing),
            tokens: Arc::new(()),
            control_runtime: tokio::runtime::Handle::current(),
            tracer: None,
        });
        let snapshot = Arc::new(Snapshot::build(&settings, None)?);
        let options = Options {
            address: Some(settings.listener.address.clone()),
            redirect_address: settings.listener.redirect_address.clone(),
            decision_address: settings
                .decision
                .as_ref()
                .map(|decision| decision.address.clone()),
            workers,
        };
        let certificates = Arc::new(CertStore::new(vec![DerivedAuthority::new(&key)?.catch_all()?]));
        let plane = Dataplane::start(&options, snapshot, certificates, shared)?;
        let handle = pomerium_web::handle::Handle {
            jti: "session".into(),
            idp_id: settings
                .authenticate
                .idp
                .as_ref()
                .map(|idp| idp.id.clone())
                .unwrap_or_default(),
            ..Default::default()
        };
        println!("{:?}", plane.local_addrs());
        println!("Cookie: {}={}", settings.cookie.name, handle.encode(&key));
        std::future::pending::<()>().await;
        Ok(())
    })
}

fn session() -> Vec<Record> {
    let user = pb::user::User {
        id: "user".into(),
        email: "user@example.com".into(),
        ..Default::default()
    };
    let session = pb::session::Session {
        id: "session".into(),
        user_id: user.id.clone(),
        ..Default::default()
    };
    let mut records = vec![to_record(&user), to_record(&session)];
    for (record, version) in records.iter_mut().zip(1..) {
        record.version = version;
    }
    records
}

/// A databroker with what it was given.
struct One(Vec<Record>);

fn unsupported<T>() -> Result<T, Error> {
    Err(Error::Unavailable("a benchmark keeps no records".into()))
}

const AT: Versions = Versions {
    server_version: 1,
    latest_record_version: 2,
};

impl Databroker for One {
    fn versions(&self) -> BoxFuture<'_, Result<Versions, Error>> {
        async { Ok(AT) }.boxed()
    }
    fn get<'a>(&'a self, record_type: &'a str, id: &'a str) -> BoxFuture<'a, Result<Record, Error>> {
        let found = self
            .0
            .iter()
            .find(|record| record.r#type == record_type && record.id == id)
            .cloned();
        async move { found.ok_or(Error::NotFound) }.boxed()
    }
    fn put(&self, _: Vec<Record>) -> BoxFuture<'_, Result<PutReply, Error>> {
        async { unsupported() }.boxed()
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
        all.push(Ok(Latest::Versions(AT)));
        async move { Ok(futures_util::stream::iter(all).boxed()) }.boxed()
    }
    fn sync<'a>(&'a self, _: &'a str, _: Versions) -> BoxFuture<'a, Result<RecordStream<Record>, Error>> {
        async { Ok(futures_util::stream::pending().boxed()) }.boxed()
    }
    fn clear(&self) -> BoxFuture<'_, Result<Cleared, Error>> {
        async { unsupported() }.boxed()
    }
}

struct Nothing;

impl ControlPlane for Nothing {
    fn handle(
        &self,
        _: Request<pomerium_web::Body>,
        _: ControlContext,
    ) -> BoxFuture<'static, pomerium_web::Response> {
        async { pomerium_web::body::response(http::StatusCode::OK, "text/plain", "OK\n") }.boxed()
    }
}

impl LoginLinks for Nothing {
    fn sign_in_url(&self, request: &CanonicalRequest, _: &RouteSettings) -> String {
        format!("https://{}/.pomerium/sign_in", request.host())
    }

    fn device_url(&self, request: &CanonicalRequest, device_type: &str) -> String {
        format!("https://{}/.pomerium/webauthn?type={device_type}", request.host())
    }

    fn step_up_url(&self, _: &CanonicalRequest, _: &RouteSettings, _: &pomerium_policy::Demand) -> String {
        String::new()
    }
}
