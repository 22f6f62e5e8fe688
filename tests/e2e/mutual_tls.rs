//! Client certificates: three enforcements, every flaw, authorities of one route, connections that serve several hosts,
//! lists that change while the program runs; with certificates of two makers, and curl.

mod http3;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pomerium_testing::{
    ClientAuthority, ClientCertificate, ClientIdentity, Environment, EnvironmentBuilder, Route, SignIn,
    TlsClient, Upstream, tools,
};
use serde_json::{Value, json};
use tokio::process::Command;

const APP: &str = "app.example.com";

/// Certificates with one flaw each.
struct Clients {
    ca: ClientAuthority,
    valid: ClientIdentity,
    flawed: Vec<(&'static str, ClientIdentity)>,
}

const REVOKED: u64 = 66;

fn clients() -> Result<Clients> {
    let (ca, stranger) = (
        ClientAuthority::new("Clients")?,
        ClientAuthority::new("Stranger")?,
    );
    let good = ClientCertificate::new;
    let with = |change: fn(&mut ClientCertificate)| {
        let mut certificate = good(2);
        change(&mut certificate);
        ca.issue(&certificate)
    };
    let flawed = vec![
        ("issued", stranger.issue(&good(1))?),
        ("expired", with(|certificate| certificate.expired = true)?),
        ("revoked", with(|certificate| certificate.serial = REVOKED)?),
        ("max_verify_depth", ca.below("Middle")?.issue(&good(3))?),
        (
            "match_subject_alt_names",
            with(|certificate| certificate.email = "client@example.net".into())?,
        ),
        ("clientAuth", with(|certificate| certificate.for_clients = false)?),
    ];
    Ok(Clients {
        valid: ca.issue(&good(1))?,
        flawed,
        ca,
    })
}

fn inline(text: &str) -> String {
    STANDARD.encode(text)
}

fn settings(clients: &Clients, enforcement: Option<&str>) -> Result<Value> {
    let mut settings = json!({
        "ca": inline(clients.ca.pem()),
        "crl": inline(&clients.ca.revocation_list(&[REVOKED], true)?),
        "match_subject_alt_names": [{ "email": r".*@example\.com" }, { "uri": "spiffe://.*" }],
    });
    if let Some(enforcement) = enforcement {
        settings["enforcement"] = enforcement.into();
    }
    Ok(settings)
}

fn routes(builder: EnvironmentBuilder, upstream: &Upstream) -> EnvironmentBuilder {
    let headers = json!({
        "X-Fingerprint": "${pomerium.client_cert_fingerprint}",
        "X-Email": "${pomerium.client_cert_san_email}",
    });
    let named = json!([{ "allow": { "or": [{ "accept": true }] } }, { "deny": { "or": [{ "invalid_client_certificate": true }] } }]);
    builder
        // Nobody gets as far as to need it.
        .sign_in(SignIn::Oidc("https://idp.example.com".into()))
        .set(
            "access_log_fields",
            json!(["authority", "response-code", "client-certificate"]),
        )
        .route(
            Route::new("app", &upstream.url())
                .public()
                .set("set_request_headers", headers),
        )
        .route(Route::new("named", &upstream.url()).policy(named))
        .route(Route::new("login", &upstream.url()).any_user())
}

fn client(env: &Environment, identity: Option<&ClientIdentity>, alpn: &str) -> Result<TlsClient> {
    TlsClient::new(env.address(), env.authority(), identity, &[alpn])
}

async fn status(env: &Environment, identity: Option<&ClientIdentity>, name: &str, path: &str) -> Result<u16> {
    let host = format!("{name}.example.com");
    let answer = client(env, identity, "h2")?
        .get(&host, &env.authority_of(name), path)
        .await?;
    Ok(answer.status().as_u16())
}

#[tokio::test]
async fn every_route_denies_without_a_valid_certificate() -> Result<()> {
    let (clients, upstream) = (clients()?, Upstream::start().await?);
    let env = routes(Environment::builder()?, &upstream)
        .set("downstream_mtls", settings(&clients, None)?)
        .start()
        .await?;
    let valid = client(&env, Some(&clients.valid), "http/1.1")?;
    let answer = valid.get(APP, &env.authority_of("app"), "/").await?;
    assert_eq!(answer.status(), 200);
    let seen = upstream.take_requests().pop().context("a request")?;
    assert_eq!(seen.header("x-email"), Some("client-1@example.com"));
    assert_eq!(seen.header("x-fingerprint").map(str::len), Some(64));
    let line = env
        .log()
        .wait_json(0, "the certificate", |line| {
            line["client-certificate"].is_object()
        })
        .await?;
    assert_eq!(
        line["client-certificate"],
        json!({"issuer": "CN=Clients", "subject": "CN=client 1", "subjectAltName": ["DNS:host-1.example.com"]})
    );

    for (name, identity) in [
        ("app", None),
        ("login", None),
        ("app", Some(&clients.flawed[0].1)),
    ] {
        let asking = client(&env, identity, "h2")?;
        let answer = asking
            .get(&format!("{name}.example.com"), &env.authority_of(name), "/")
            .await?;
        assert_eq!(answer.status(), 495, "{name}: before the login, too");
        let body: Value = serde_json::from_slice(answer.body())?;
        assert_eq!(
            body["error"],
            "a valid client certificate is required to access this page"
        );
    }
    for (flaw, identity) in &clients.flawed {
        let path = format!("/{flaw}");
        assert_eq!(status(&env, Some(identity), "app", &path).await?, 495, "{flaw}");
        let judged = |line: &Value| line["message"] == "authorize check" && line["path"] == path;
        let line = env.log().wait_json(0, "the refusal", judged).await?;
        assert_eq!(line["deny-why-true"], json!(["invalid-client-certificate"]));
        let problem = line["certificate-problem"].as_str().unwrap_or_default();
        assert!(problem.contains(flaw), "{flaw}: {problem}");
    }
    let refused = upstream.take_requests();
    assert!(refused.is_empty(), "{refused:?}");
    // Pomerium's own paths need none.
    assert_eq!(status(&env, None, "app", "/ping").await?, 200);
    assert_eq!(status(&env, None, "app", "/.well-known/pomerium").await?, 200);
    assert_eq!(status(&env, Some(&clients.valid), "login", "/").await?, 401);
    Ok(())
}

#[tokio::test]
async fn policies_may_decide_by_themselves() -> Result<()> {
    let (clients, upstream) = (clients()?, Upstream::start().await?);
    let env = routes(Environment::builder()?, &upstream)
        .set("downstream_mtls", settings(&clients, Some("policy"))?)
        .start()
        .await?;
    let strangers = clients
        .flawed
        .iter()
        .map(|(flaw, identity)| (*flaw, Some(identity)));
    for (flaw, identity) in strangers.chain([("none", None)]) {
        assert_eq!(status(&env, identity, "app", "/").await?, 200, "{flaw}");
        assert_eq!(status(&env, identity, "named", "/").await?, 495, "{flaw}");
        assert_eq!(status(&env, identity, "login", "/").await?, 401, "{flaw}");
    }
    for seen in upstream.take_requests() {
        assert_eq!(seen.header("x-email"), Some(""), "nobody vouches for these names");
    }
    assert_eq!(status(&env, Some(&clients.valid), "named", "/").await?, 200);
    Ok(())
}

#[tokio::test]
async fn the_handshake_may_reject() -> Result<()> {
    let (clients, upstream) = (clients()?, Upstream::start().await?);
    let env = routes(Environment::builder()?, &upstream)
        .set("downstream_mtls", settings(&clients, Some("reject_connection"))?)
        .start()
        .await?;
    for path in ["/", "/ping"] {
        assert_eq!(status(&env, Some(&clients.valid), "app", path).await?, 200);
    }
    upstream.take_requests();
    let strangers = clients
        .flawed
        .iter()
        .map(|(flaw, identity)| (*flaw, Some(identity)));
    for (flaw, identity) in strangers.chain([("presented no certificate", None)]) {
        for (path, alpn) in [("/", "h2"), ("/ping", "http/1.1")] {
            let refused = client(&env, identity, alpn)?
                .get(APP, &env.authority_of("app"), path)
                .await;
            assert!(refused.is_err(), "{flaw}: {refused:?}");
        }
        let told = |line: &Value| {
            let reason = line["downstream-transport-failure-reason"].as_str();
            line["message"] == "listener connection failure"
                && reason.is_some_and(|reason| reason.contains(flaw))
        };
        let line = env.log().wait_json(0, flaw, told).await?;
        assert_eq!(line["level"], "info");
        assert_eq!(line["service"], "envoy");
        assert_eq!(line["ip"], "127.0.0.1");
        assert_eq!(line["tls-sni-hostname"], APP);
        assert_eq!(
            line["client-certificate"].is_object(),
            identity.is_some(),
            "{flaw}"
        );
    }
    assert!(upstream.take_requests().is_empty());
    Ok(())
}

#[tokio::test]
async fn a_list_that_has_ended_counts_where_the_handshake_rejects() -> Result<()> {
    let (clients, upstream) = (clients()?, Upstream::start().await?);
    let crl = inline(&clients.ca.revocation_list(&[REVOKED], false)?);
    for (enforcement, served) in [("policy_with_default_deny", true), ("reject_connection", false)] {
        let mut mtls = settings(&clients, Some(enforcement))?;
        mtls["crl"] = crl.clone().into();
        let env = routes(Environment::builder()?, &upstream)
            .set("downstream_mtls", mtls)
            .start()
            .await?;
        let answer = status(&env, Some(&clients.valid), "app", "/").await;
        assert_eq!(answer.ok(), served.then_some(200), "{enforcement}");
    }
    Ok(())
}

#[tokio::test]
async fn a_revocation_counts_at_once() -> Result<()> {
    let (clients, upstream) = (clients()?, Upstream::start().await?);
    let builder = routes(Environment::builder()?, &upstream);
    let folder = tempfile::tempdir()?;
    let crl = folder.path().join("crl.pem");
    std::fs::write(&crl, clients.ca.revocation_list(&[], true)?)?;
    let mut mtls = settings(&clients, None)?;
    if let Some(mtls) = mtls.as_object_mut() {
        mtls.remove("crl");
        mtls.insert("crl_file".into(), crl.to_string_lossy().into());
    }
    let env = builder.set("downstream_mtls", mtls).start().await?;
    let one = client(&env, Some(&clients.valid), "h2")?;
    let mut open = one.ask(one.connect(APP).await?).await?;
    assert_eq!(open.get(&env.authority_of("app"), "/").await?.status(), 200);
    let mark = env.log().mark();
    std::fs::write(
        folder.path().join("new.pem"),
        clients.ca.revocation_list(&[1], true)?,
    )?;
    std::fs::rename(folder.path().join("new.pem"), &crl)?;
    env.log()
        .wait_from(mark, "the reload", |line| line.contains("loaded configuration"))
        .await?;
    let answer = open.get(&env.authority_of("app"), "/").await?;
    assert_eq!(answer.status(), 495, "on a connection that is open already");
    assert_eq!(status(&env, Some(&clients.valid), "app", "/").await?, 495);
    Ok(())
}

/// The hosts of one route ask for its authority; a connection that was asked for more serves those that want less.
#[tokio::test]
async fn a_route_may_have_an_authority_of_its_own() -> Result<()> {
    let (own, global, upstream) = (
        ClientAuthority::new("Own")?,
        ClientAuthority::new("Global")?,
        Upstream::start().await?,
    );
    let (of_own, of_global) = (
        own.issue(&ClientCertificate::new(1))?,
        global.issue(&ClientCertificate::new(2))?,
    );
    let with_ca = Route::new("own", &upstream.url())
        .public()
        .set("tls_downstream_client_ca", inline(own.pem()));
    let open = |name: &str| Route::new(name, &upstream.url()).public();
    let env = Environment::builder()?
        .route(with_ca.clone())
        .route(open("open"))
        .route(open("other"))
        .start()
        .await?;
    let asks = |identity: Option<&ClientIdentity>| client(&env, identity, "h2");
    let on = |name: &str| env.authority_of(name);
    let mut nobody = asks(None)?
        .ask(asks(None)?.connect("open.example.com").await?)
        .await?;
    assert_eq!(nobody.get(&on("open"), "/").await?.status(), 200);
    assert_eq!(
        nobody.get(&on("other"), "/").await?.status(),
        200,
        "hosts share a connection"
    );
    let away = nobody.get(&on("own"), "/").await?;
    assert_eq!(
        away.status(),
        421,
        "this connection was not asked for a certificate"
    );
    assert_eq!(nobody.get(&on("own"), "/ping").await?.status(), 421);
    assert_eq!(status(&env, None, "own", "/").await?, 495);
    assert_eq!(status(&env, Some(&of_global), "own", "/").await?, 495);
    assert_eq!(status(&env, Some(&of_own), "own", "/").await?, 200);
    let with_certificate = asks(Some(&of_own))?;
    let mut known = with_certificate
        .ask(with_certificate.connect("own.example.com").await?)
        .await?;
    for name in ["own", "open", "other"] {
        assert_eq!(known.get(&on(name), "/").await?.status(), 200, "{name}");
    }

    // With global authorities beside it, its own replace them.
    let env = Environment::builder()?
        .set("downstream_mtls", json!({ "ca": inline(global.pem()) }))
        .route(with_ca)
        .route(open("open"))
        .start()
        .await?;
    for (identity, expected) in [(&of_own, (200, 495)), (&of_global, (495, 200))] {
        let found = (
            status(&env, Some(identity), "own", "/").await?,
            status(&env, Some(identity), "open", "/").await?,
        );
        assert_eq!(found, expected);
    }
    let asks = client(&env, Some(&of_global), "h2")?;
    let mut narrow = asks.ask(asks.connect("open.example.com").await?).await?;
    assert_eq!(narrow.get(&env.authority_of("own"), "/").await?.status(), 421);
    let mut wide = asks.ask(asks.connect("own.example.com").await?).await?;
    assert_eq!(wide.get(&env.authority_of("open"), "/").await?.status(), 200);
    Ok(())
}

async fn openssl(folder: &std::path::Path, line: &str) -> Result<()> {
    let mut command = Command::new(tools::find("openssl")?);
    command.current_dir(folder).args(line.split(' '));
    let output = command.output().await?;
    anyhow::ensure!(
        output.status.success(),
        "openssl {line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Everything made by openssl, asked for by curl.
#[tokio::test]
async fn certificates_and_lists_of_openssl() -> Result<()> {
    let (upstream, folder) = (Upstream::start().await?, tempfile::tempdir()?);
    let at = folder.path();
    std::fs::write(
        at.join("ca.cnf"),
        "[ca]\ndefault_ca=a\n[a]\ndatabase=index.txt\ndefault_md=sha256\ndefault_crl_days=30\ncrlnumber=number\n",
    )?;
    std::fs::write(at.join("index.txt"), "")?;
    std::fs::write(at.join("number"), "01\n")?;
    std::fs::write(at.join("client.ext"), "extendedKeyUsage=clientAuth\n")?;
    openssl(
        at,
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj /CN=Clients -days 30",
    )
    .await?;
    for name in ["kept", "gone"] {
        openssl(
            at,
            &format!("req -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}"),
        )
        .await?;
        openssl(at, &format!("x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -days 5 -extfile client.ext -out {name}.pem")).await?;
    }
    openssl(
        at,
        "ca -config ca.cnf -keyfile ca.key -cert ca.pem -revoke gone.pem",
    )
    .await?;
    openssl(
        at,
        "ca -config ca.cnf -keyfile ca.key -cert ca.pem -gencrl -out crl.pem",
    )
    .await?;
    let env = Environment::builder()?
        .set(
            "downstream_mtls",
            json!({ "ca_file": at.join("ca.pem"), "crl_file": at.join("crl.pem") }),
        )
        .route(Route::new("app", &upstream.url()).public())
        .start()
        .await?;
    std::fs::write(at.join("server-ca.pem"), env.authority().pem())?;
    for (name, expected) in [("kept", "200"), ("gone", "495")] {
        let output = Command::new(tools::find("curl")?)
            .current_dir(at)
            .args([
                "-sS",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code}",
                "--cacert",
                "server-ca.pem",
            ])
            .args(["--cert", &format!("{name}.pem"), "--key", &format!("{name}.key")])
            .args(["--resolve", &format!("{}:127.0.0.1", env.authority_of("app"))])
            .arg(env.url("app", "/"))
            .output()
            .await?;
        let found = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(
            found,
            expected,
            "{name}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}
