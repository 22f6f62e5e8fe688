//! Databrokers that only tell how they are, and who is asked.

use std::pin::Pin;

use futures_util::{Stream, StreamExt, stream};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex as Lock;
use pomerium_api::pb::grpc_health::health_check_response::ServingStatus;
use pomerium_api::pb::grpc_health::health_client::HealthClient;
use pomerium_api::pb::grpc_health::health_server::{Health, HealthServer};
use pomerium_api::pb::grpc_health::{HealthCheckRequest, HealthCheckResponse};
use tokio::net::TcpListener;
use tonic::{Request, Response};

use super::*;

/// What one answers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Says {
    Serving,
    NotServing,
    /// Every call fails with this.
    Unavailable,
}

/// A databroker of these tests.
pub(in super::super) struct Fake {
    pub(in super::super) address: SocketAddr,
    state: Arc<State>,
}

struct State {
    says: Lock<Says>,
    asked: AtomicUsize,
}

impl Fake {
    pub(in super::super) async fn start(says: Says) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            says: Lock::new(says),
            asked: AtomicUsize::new(0),
        });
        let server = HealthServer::from_arc(Arc::clone(&state));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = TowerToHyperService::new(server.clone());
                tokio::spawn(async move {
                    auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await
                });
            }
        });
        Self { address, state }
    }

    pub(in super::super) fn says(&self, says: Says) {
        *self.state.says.lock() = says;
    }

    pub(in super::super) fn asked(&self) -> usize {
        self.state.asked.load(Ordering::Relaxed)
    }
}

impl State {
    fn answer(&self) -> Result<HealthCheckResponse, Status> {
        let status = match *self.says.lock() {
            Says::Serving => ServingStatus::Serving,
            Says::NotServing => ServingStatus::NotServing,
            Says::Unavailable => return Err(Status::unavailable("PostgreSQL is gone")),
        };
        Ok(HealthCheckResponse {
            status: status.into(),
        })
    }
}

#[tonic::async_trait]
impl Health for State {
    async fn check(&self, _: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.answer().map(Response::new)
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    /// One good answer, then what it says.
    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let good = Ok(HealthCheckResponse::default());
        Ok(Response::new(stream::iter([good, self.answer()]).boxed()))
    }
}

/// The way to `fakes`; the first is asked first.
pub(in super::super) fn over(fakes: &[Fake]) -> Dialer {
    let roots = rustls::RootCertStore::empty();
    let tls =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
    let tls = TlsConnector::from(Arc::new(tls));
    let endpoint = |fake: &Fake| {
        let origin = Origin {
            scheme: "http".into(),
            host: fake.address.ip().to_string(),
            port: Some(fake.address.port()),
        };
        Endpoint::new(origin, None, &tls).unwrap()
    };
    let dialer = Dialer::new(fakes.iter().map(endpoint).collect(), Arc::default());
    dialer.0.current.store(0, Ordering::Relaxed);
    dialer
}

async fn check(dialer: &Dialer) -> Result<(), Status> {
    let mut client = HealthClient::new(dialer.clone());
    client.check(HealthCheckRequest::default()).await.map(|_| ())
}

fn asked(fakes: &[Fake]) -> Vec<usize> {
    fakes.iter().map(Fake::asked).collect()
}

#[tokio::test]
async fn one_that_cannot_serve_is_left_for_the_next_which_is_stayed_with() {
    let fakes = [
        Fake::start(Says::Unavailable).await,
        Fake::start(Says::Serving).await,
    ];
    let dialer = over(&fakes);
    assert_eq!(check(&dialer).await.unwrap_err().code(), Code::Unavailable);
    for _ in 0..3 {
        check(&dialer).await.unwrap();
    }
    fakes[0].says(Says::Serving);
    dialer.aside().take_back(fakes[0].address);
    check(&dialer).await.unwrap();
    assert_eq!(
        asked(&fakes),
        [1, 4],
        "what was written is read where it was written"
    );
}

#[tokio::test]
async fn a_stream_that_ends_so_counts_as_well() {
    let fakes = [
        Fake::start(Says::Unavailable).await,
        Fake::start(Says::Serving).await,
    ];
    let dialer = over(&fakes);
    let mut client = HealthClient::new(dialer.clone());
    let mut changes = client
        .watch(HealthCheckRequest::default())
        .await
        .unwrap()
        .into_inner();
    changes.message().await.unwrap();
    assert_eq!(dialer.aside().now(), [], "a good answer so far");
    changes.message().await.unwrap_err();
    check(&dialer).await.unwrap();
    assert_eq!(asked(&fakes), [0, 1]);
}

#[tokio::test]
async fn when_none_serves_it_does_not_go_round() {
    let fakes = [
        Fake::start(Says::Unavailable).await,
        Fake::start(Says::Unavailable).await,
    ];
    let dialer = over(&fakes);
    for _ in 0..10 {
        check(&dialer).await.unwrap_err();
    }
    assert_eq!(asked(&fakes), [9, 1]);
    // The first may be well again before that is known.
    fakes[0].says(Says::Serving);
    check(&dialer).await.unwrap();
}

#[tokio::test]
async fn one_that_cannot_be_reached_is_not_tried_each_time() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = gone.local_addr().unwrap();
    drop(gone);
    let state = Arc::new(State {
        says: Lock::new(Says::Serving),
        asked: AtomicUsize::new(0),
    });
    let fakes = [Fake { address, state }, Fake::start(Says::Serving).await];
    let dialer = over(&fakes);
    check(&dialer).await.unwrap();
    assert_eq!(dialer.aside().now(), [address]);
    // Alone, it is tried all the same.
    let alone = over(&fakes[..1]);
    for _ in 0..2 {
        assert_eq!(check(&alone).await.unwrap_err().code(), Code::Unavailable);
    }
}
