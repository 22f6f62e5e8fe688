//! Answers that their clients take slowly, or not at all, while the application always has more ("slow read",
//! CVE-2019-9511). A client must not keep alive what the rules end: the end of the route, the end of the session and
//! the limits of time count for it as for everybody, over every version of HTTP.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http::Request;
use pomerium_testing::{Environment, Http3Client, Route, Upstream, within};
use pomerium_tests::scripted_with;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::client::TlsStream;

/// What a slow client takes at a time, and how often.
const SIP: usize = 16 * 1024;
const PACE: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, Copy)]
enum Speaks {
    Http1,
    Http2,
    Http3,
}

#[derive(Debug, Clone, Copy)]
enum Reads {
    Slowly,
    Nothing,
}

/// Clients of one route of every version, each with an endless answer.
struct Readers {
    name: &'static str,
    /// Of the session, when the route wants one.
    cookie: Option<String>,
    clients: JoinSet<Result<()>>,
    /// Each ends when the upstream is rid of its request.
    answers: JoinSet<()>,
    paths: Vec<String>,
}

impl Readers {
    async fn start(
        (env, upstream): (&Environment, &Upstream),
        name: &'static str,
        cookie: Option<String>,
    ) -> Result<Readers> {
        let mut readers = Readers {
            name,
            cookie,
            clients: JoinSet::new(),
            answers: JoinSet::new(),
            paths: Vec::new(),
        };
        for speaks in [Speaks::Http1, Speaks::Http2, Speaks::Http3] {
            for reads in [Reads::Slowly, Reads::Nothing] {
                readers.begin((env, upstream), (speaks, reads)).await?;
            }
        }
        Ok(readers)
    }

    async fn begin(
        &mut self,
        (env, upstream): (&Environment, &Upstream),
        (speaks, reads): (Speaks, Reads),
    ) -> Result<()> {
        let gate = format!("{}-{speaks:?}-{reads:?}", self.name);
        let path = format!("/gated/{gate}");
        let sender = upstream.gate(&gate);
        let mut request = Request::get(env.url(self.name, &path));
        if let Some(cookie) = &self.cookie {
            request = request.header("cookie", format!("_pomerium={cookie}"));
        }
        let request = request.body(())?;
        let host = format!("{}.example.com", self.name);
        match speaks {
            Speaks::Http1 => {
                let stream = connect(env, &host, b"http/1.1").await?;
                self.clients.spawn(http1(stream, request, reads));
            }
            Speaks::Http2 => {
                let stream = connect(env, &host, b"h2").await?;
                self.clients.spawn(http2(stream, request, reads));
            }
            Speaks::Http3 => {
                let client = Http3Client::connect(env.address(), env.authority(), &host).await?;
                self.clients.spawn(http3(client, request, reads));
            }
        }
        let block = bytes::Bytes::from(vec![b'x'; 4 * SIP]);
        // There is room for one piece: the second has it when somebody asks for the first.
        within("the answer to begin", async {
            sender.send(block.clone()).await?;
            sender.send(block.clone()).await
        })
        .await??;
        self.paths.push(path);
        self.answers
            .spawn(async move { while sender.send(block.clone()).await.is_ok() {} });
        Ok(())
    }

    /// Waits until all are cut, and looks why.
    async fn are_cut(mut self, env: &Environment, details: &str) -> Result<()> {
        for path in &self.paths {
            let told = |line: &Value| line["message"] == "http-request" && line["path"] == *path;
            let line = env
                .log()
                .wait_json(0, &format!("the end of {path}"), told)
                .await?;
            ensure!(line["response-code-details"] == details, "{path}: {line}");
        }
        let released = async { while self.answers.join_next().await.is_some() {} };
        within("the upstream to be rid of all requests", released).await
    }
}

async fn connect(env: &Environment, host: &str, alpn: &[u8]) -> Result<TlsStream<TcpStream>> {
    pomerium_testing::install_crypto_provider();
    let mut config = rustls::ClientConfig::builder()
        .with_root_certificates(env.authority().roots()?)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let name = rustls::pki_types::ServerName::try_from(host.to_owned())?;
    let stream = TcpStream::connect(env.address()).await?;
    Ok(tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await?)
}

async fn http1(mut stream: TlsStream<TcpStream>, request: Request<()>, reads: Reads) -> Result<()> {
    let uri = request.uri();
    let mut head = format!("GET {} HTTP/1.1\r\n", uri.path());
    head += &format!("Host: {}\r\n", uri.authority().context("a host")?);
    for (name, value) in request.headers() {
        head += &format!("{name}: {}\r\n", value.to_str()?);
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).await?;
    let mut sip = vec![0; SIP];
    match reads {
        Reads::Slowly => {
            while stream.read(&mut sip).await? > 0 {
                tokio::time::sleep(PACE).await;
            }
        }
        Reads::Nothing => std::future::pending().await,
    }
    Ok(())
}

async fn http2(stream: TlsStream<TcpStream>, request: Request<()>, reads: Reads) -> Result<()> {
    let (mut sender, connection) = h2::client::handshake(stream).await?;
    tokio::spawn(connection);
    let (response, _) = sender.send_request(request, true)?;
    let mut body = response.await?.into_body();
    match reads {
        Reads::Slowly => {
            while let Some(piece) = body.data().await {
                let size = piece?.len();
                tokio::time::sleep(PACE).await;
                body.flow_control().release_capacity(size)?;
            }
        }
        Reads::Nothing => std::future::pending().await,
    }
    Ok(())
}

async fn http3(client: Http3Client, request: Request<()>, reads: Reads) -> Result<()> {
    let mut answer = client.begin(request).await?;
    match reads {
        Reads::Slowly => {
            while answer.piece().await?.is_some() {
                tokio::time::sleep(PACE).await;
            }
        }
        Reads::Nothing => std::future::pending().await,
    }
    Ok(())
}

async fn stage(routes: &[&str], timeout: &str) -> Result<(Environment, Upstream)> {
    let upstream = Upstream::start().await?;
    let mut builder = Environment::builder()?.set("codec_type", "http3");
    for name in routes {
        builder = builder.route(Route::new(name, &upstream.url()).public().set("timeout", timeout));
    }
    Ok((builder.start().await?, upstream))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_end_with_their_route_and_others_go_on() -> Result<()> {
    let (mut env, upstream) = stage(&["gone", "stays"], "0s").await?;
    let gone = Readers::start((&env, &upstream), "gone", None).await?;
    let stay = Readers::start((&env, &upstream), "stays", None).await?;
    env.rewrite_config(|config| {
        if let Some(routes) = config["routes"].as_array_mut() {
            routes.retain(|route| route["name"] != "gone");
        }
    })?;
    gone.are_cut(&env, "access_ended").await?;
    let ended = |path: &String| env.access_log().iter().any(|line| line["path"] == *path);
    ensure!(!stay.paths.iter().any(ended), "{:?}", env.access_log());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_end_with_their_session() -> Result<()> {
    let stage = scripted_with(|builder| builder.set("codec_type", "http3")).await?;
    let client = stage.signed_in().await?;
    let cookie = client.cookie(&stage.env.url("app", "/"), "_pomerium");
    let readers = Readers::start((&stage.env, &stage.upstream), "app", cookie).await?;
    let page = client
        .follow(&stage.env.url("app", "/.pomerium/sign_out"))
        .await?;
    ensure!(page.text().contains("signed out"), "{}", page.text());
    readers.are_cut(&stage.env, "access_ended").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_end_at_the_limits_of_their_route() -> Result<()> {
    let (env, upstream) = stage(&["open"], "5s").await?;
    let readers = Readers::start((&env, &upstream), "open", None).await?;
    readers.are_cut(&env, "response_timeout").await
}
