//! Active health checks: hosts that fail and recover, what that means for requests, for the log and over
//! reloads. What single probes send and accept is told in [`probes`].

mod probes;

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use pomerium_testing::{
    Environment, EnvironmentBuilder, Lines, Program, RawReply, Route, Upstream, lease, tools,
};
use serde_json::{Value, json};

const HEALTHY: &str = "health check: the host is healthy";
const UNHEALTHY: &str = "health check: the host is unhealthy";

/// A quick check with this probe.
#[allow(clippy::needless_pass_by_value, reason = "the caller writes json!(…)")]
fn check(kind: &str, probe: Value) -> Value {
    json!({
        "timeout": "5s",
        "interval": "0.05s",
        "no_traffic_interval": "0.05s",
        "unhealthy_threshold": 1,
        "healthy_threshold": 1,
        kind: probe,
    })
}

fn http(probe: Value) -> Value {
    check("http_health_check", probe)
}

fn with(mut check: Value, key: &str, value: impl Into<Value>) -> Value {
    check[key] = value.into();
    check
}

fn route(to: &[String], checks: &[Value]) -> Route {
    Route::new("open", "")
        .public()
        .set("to", json!(to))
        .set("health_checks", json!(checks))
}

async fn behind(to: &[String], checks: &[Value]) -> Result<Environment> {
    Environment::builder()?.route(route(to, checks)).start().await
}

/// Without the panic threshold, nothing goes to a host that is not healthy.
async fn strict(to: &[String], checks: &[Value]) -> Result<Environment> {
    let route = route(to, checks).set("healthy_panic_threshold", 0);
    Environment::builder()?.route(route).start().await
}

/// Waits for word about a host behind `mark`; the reason given for it.
async fn told(lines: &Lines, mark: usize, message: &str, host: SocketAddr) -> Result<String> {
    let line = lines
        .wait_json(mark, message, |line| {
            line["message"] == message && line["host"] == host.to_string()
        })
        .await?;
    Ok(line["reason"].as_str().unwrap_or_default().to_owned())
}

async fn get(env: &Environment) -> Result<RawReply> {
    let mut client = env.raw("open").await?;
    let authority = env.authority_of("open");
    client
        .send(format!(
            "GET /app HTTP/1.1\r\nHost: {authority}\r\nAccept: application/json\r\n\r\n"
        ))
        .await?;
    client.reply(false).await
}

/// Nginx with `/healthz` out of a folder and its name for everything else.
struct Nginx {
    _program: Program,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Nginx {
    async fn start() -> Result<Nginx> {
        let (folder, port) = (tempfile::tempdir()?, lease()?);
        let address = SocketAddr::from(([127, 0, 0, 1], port.number()));
        let root = folder.path().display();
        let config = format!(
            "daemon off; master_process off; pid {root}/pid; error_log stderr notice;\n\
             events {{}}\n\
             http {{ access_log off; client_body_temp_path {root}/a; proxy_temp_path {root}/b;\n\
             fastcgi_temp_path {root}/c; uwsgi_temp_path {root}/d; scgi_temp_path {root}/e;\n\
             server {{ listen {address}; location = /healthz {{ root {root}; }}\n\
             location / {{ return 200 nginx; }} }} }}\n"
        );
        std::fs::write(folder.path().join("nginx.conf"), config)?;
        std::fs::write(folder.path().join("healthz"), "all is well")?;
        let mut command = tokio::process::Command::new(tools::find("nginx")?);
        command
            .arg("-p")
            .arg(folder.path())
            .arg("-c")
            .arg(folder.path().join("nginx.conf"));
        let program = Program::start(command)?;
        program
            .output()
            .wait("start of nginx", |line| {
                line.contains("start worker process") || line.contains("using the")
            })
            .await?;
        Ok(Nginx {
            _program: program,
            address,
            folder,
        })
    }

    fn health(&self) -> std::path::PathBuf {
        self.folder.path().join("healthz")
    }
}

#[tokio::test]
async fn a_host_that_fails_its_check_gets_nothing_until_it_recovers() -> Result<()> {
    let nginx = Nginx::start().await?;
    let other = Upstream::start().await?;
    let to = [format!("http://{}", nginx.address), other.url()];
    let env = behind(&to, &[http(json!({"path": "/healthz"}))]).await?;
    told(env.log(), 0, HEALTHY, nginx.address).await?;
    told(env.log(), 0, HEALTHY, other.address()).await?;
    let mark = env.log().mark();
    std::fs::remove_file(nginx.health())?;
    let reason = told(env.log(), mark, UNHEALTHY, nginx.address).await?;
    ensure!(reason == "status 404", "{reason}");
    for _ in 0..8 {
        ensure!(get(&env).await?.text() != "nginx", "an unhealthy host was used");
    }
    std::fs::write(nginx.health(), "again")?;
    told(env.log(), mark, HEALTHY, nginx.address).await?;
    let mut seen = 0;
    for _ in 0..8 {
        seen += u32::from(get(&env).await?.text() == "nginx");
    }
    ensure!(seen == 4, "a healthy host gets its share again: {seen} of 8");
    Ok(())
}

#[tokio::test]
async fn without_a_healthy_host_there_is_a_503_that_says_so() -> Result<()> {
    let upstream = Upstream::start().await?;
    upstream.reply_with(500, &[], "ill");
    let checks = [http(json!({"path": "/healthz"}))];
    let env = strict(&[upstream.url()], &checks).await?;
    told(env.log(), 0, UNHEALTHY, upstream.address()).await?;
    let reply = get(&env).await?;
    ensure!(
        reply.status == 503 && reply.text().contains("no_healthy_upstream"),
        "{}",
        reply.text()
    );
    let logged = |line: &Value| line["message"] == "http-request" && line["response-code"] == 503;
    let line = env.log().wait_json(0, "the request", logged).await?;
    ensure!(line["response-code-details"] == "no_healthy_upstream", "{line}");
    ensure!(!upstream.requests().iter().any(|request| request.target == "/app"));
    // The default threshold of 50 %: too few are healthy, so health is ignored.
    let lenient = behind(&[upstream.url()], &checks).await?;
    told(lenient.log(), 0, UNHEALTHY, upstream.address()).await?;
    ensure!(get(&lenient).await?.text() == "ill");
    Ok(())
}

#[tokio::test]
async fn thresholds_count_what_may_be_chance_only() -> Result<()> {
    let upstream = Upstream::start().await?;
    let probe = json!({"path": "/healthz", "retriable_statuses": [{"start": 503, "end": 504}]});
    let check = with(
        with(http(probe), "unhealthy_threshold", 3),
        "healthy_threshold",
        2,
    );
    let check = with(
        with(check, "always_log_health_check_failures", true),
        "always_log_health_check_success",
        true,
    );
    let env = behind(&[upstream.url()], &[check]).await?;
    told(env.log(), 0, HEALTHY, upstream.address()).await?;
    told(env.log(), 0, "health check: good", upstream.address()).await?;
    let count = |mark: usize, message: &str| {
        let lines = env.log().all();
        lines[mark..].iter().filter(|line| line.contains(message)).count()
    };
    upstream.reply_with(503, &[], "later");
    let mark = env.log().mark();
    let reason = told(env.log(), mark, UNHEALTHY, upstream.address()).await?;
    ensure!(reason == "status 503", "{reason}");
    ensure!(
        count(mark, "health check: failed") == 2,
        "the third of three makes it unhealthy"
    );
    let mark = env.log().mark();
    upstream.reply_with(200, &[], "fine");
    told(env.log(), mark, HEALTHY, upstream.address()).await?;
    ensure!(
        count(mark, "health check: good") == 1,
        "the second of two makes it healthy"
    );
    upstream.reply_with(500, &[], "broken");
    let mark = env.log().mark();
    told(env.log(), mark, UNHEALTHY, upstream.address()).await?;
    ensure!(
        count(mark, "health check: failed") == 0,
        "no threshold for what says no"
    );
    Ok(())
}

#[tokio::test]
async fn probes_go_to_another_port_and_every_check_counts() -> Result<()> {
    let (app, health) = (Upstream::start().await?, Upstream::start().await?);
    let beside = with(
        http(json!({"path": "/healthz"})),
        "alt_port",
        health.address().port(),
    );
    let env = strict(&[app.url()], &[http(json!({"path": "/first"})), beside]).await?;
    told(env.log(), 0, HEALTHY, app.address()).await?;
    health.wait_for(1).await?;
    ensure!(health.requests()[0].target == "/healthz");
    let mark = env.log().mark();
    health.reply_with(500, &[], "ill");
    told(env.log(), mark, UNHEALTHY, app.address()).await?;
    ensure!(get(&env).await?.status == 503, "one of two checks fails");
    Ok(())
}

#[tokio::test]
async fn health_lives_through_a_reload_that_does_not_touch_it() -> Result<()> {
    let upstream = Upstream::start().await?;
    upstream.reply_with(500, &[], "ill");
    let checks = [http(json!({"path": "/healthz"}))];
    let mut env = strict(&[upstream.url()], &checks).await?;
    told(env.log(), 0, UNHEALTHY, upstream.address()).await?;
    let mark = env.log().mark();
    env.rewrite_config(|config| config["routes"][0]["set_request_headers"] = json!({"x-new": "yes"}))?;
    env.log()
        .wait_from(mark, "the reload", |line| line.contains("onfiguration"))
        .await?;
    ensure!(get(&env).await?.status == 503);
    // The next probes find what the ones before found: nothing new is told.
    upstream.wait_for(upstream.requests().len() + 3).await?;
    let news = env
        .log()
        .json()
        .into_iter()
        .filter(|line| line["message"] == UNHEALTHY)
        .count();
    ensure!(news == 1, "{news}");
    env.rewrite_config(|config| {
        config["routes"][0]["health_checks"] = json!(null);
    })?;
    loop {
        // Takes effect with the new configuration, whenever that is.
        if get(&env).await?.text() == "ill" {
            return Ok(());
        }
    }
}

#[tokio::test]
async fn checks_and_members_are_counted() -> Result<()> {
    let (good, bad, metrics) = (Upstream::start().await?, Upstream::start().await?, lease()?);
    bad.reply_with(500, &[], "ill");
    let to = [good.url(), bad.url()];
    let builder: EnvironmentBuilder = Environment::builder()?
        .set("metrics_address", format!("127.0.0.1:{}", metrics.number()))
        .route(route(&to, &[http(json!({"path": "/healthz"}))]));
    let env = builder.start().await?;
    told(env.log(), 0, HEALTHY, good.address()).await?;
    told(env.log(), 0, UNHEALTHY, bad.address()).await?;
    let url = format!("http://127.0.0.1:{}/metrics", metrics.number());
    loop {
        let text = env.client()?.get(&url).await?.text().to_owned();
        let value = |name: &str| {
            let line = text
                .lines()
                .find(|line| line.starts_with(name) && !line.starts_with('#'));
            line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
                .unwrap_or(-1.0)
        };
        let members = (
            value("envoy_cluster_membership_total{"),
            value("envoy_cluster_membership_healthy{"),
        );
        let probes = value("pomerium_upstream_health_checks_total{result=\"good\"");
        if members == (2.0, 1.0) && probes >= 1.0 {
            return Ok(());
        }
    }
}
