//! Outlier detection: hosts that fail real requests are taken out for a while and come back.

use anyhow::{Context, Result, ensure};
use pomerium_testing::{Environment, PATIENCE, RawReply, RawUpstream, Route, Step, Upstream, lease};
use serde_json::{Value, json};

const OUT: &str = "outlier detection: the host is out";
const BACK: &str = "outlier detection: the host is back";

/// Two hosts may be out at once, for a second; nobody comes back in panic.
#[allow(clippy::needless_pass_by_value, reason = "the caller writes json!(…)")]
fn rules(more: Value) -> Value {
    let mut rules = json!({
        "interval": "0.1s",
        "base_ejection_time": "1s",
        "max_ejection_percent": 100,
        "enforcing_consecutive_5xx": 0,
        "enforcing_success_rate": 0,
    });
    if let (Some(rules), Some(more)) = (rules.as_object_mut(), more.as_object()) {
        rules.extend(more.clone());
    }
    rules
}

async fn behind(to: &[String], rules: Value) -> Result<Environment> {
    let route = Route::new("open", "")
        .public()
        .set("to", json!(to))
        .set("timeout", "1s")
        .set("healthy_panic_threshold", 0)
        .set("outlier_detection", rules);
    Environment::builder()?.route(route).start().await
}

async fn get(env: &Environment) -> Result<RawReply> {
    let mut client = env.raw("open").await?;
    let authority = env.authority_of("open");
    client
        .send(format!(
            "GET / HTTP/1.1\r\nHost: {authority}\r\nAccept: application/json\r\n\r\n"
        ))
        .await?;
    client.reply(false).await
}

/// Asks until the host is out; what for.
async fn until_out(env: &Environment, host: &str) -> Result<String> {
    let asking = async {
        loop {
            get(env).await?;
            let lines = env.log().json();
            let out = |line: &&Value| line["message"] == OUT && line["host"] == host;
            if let Some(line) = lines.iter().find(out) {
                return Ok(line["cause"].as_str().unwrap_or_default().to_owned());
            }
        }
    };
    match tokio::time::timeout(PATIENCE, asking).await {
        Ok(cause) => cause,
        Err(_) => anyhow::bail!("{host} stays in: {}", env.log().tail(5)),
    }
}

fn host(url: &str) -> String {
    url.trim_start_matches("http://")
        .trim_start_matches("h2c://")
        .to_owned()
}

#[tokio::test]
async fn a_host_that_fails_is_out_and_comes_back() -> Result<()> {
    let (good, bad) = (Upstream::start().await?, Upstream::start().await?);
    good.reply_with(200, &[], "good");
    bad.reply_with(500, &[], "bad");
    let rules = rules(json!({"consecutive_5xx": 3, "enforcing_consecutive_5xx": 100}));
    let env = behind(&[good.url(), bad.url()], rules).await?;
    ensure!(until_out(&env, &host(&bad.url())).await? == "consecutive_5xx");
    ensure!(bad.requests().len() == 3, "{}", bad.requests().len());
    let line = env.log().wait_json(0, OUT, |line| line["message"] == OUT).await?;
    ensure!(
        line["seconds"] == 1.0
            && line["cluster"]
                .as_str()
                .is_some_and(|name| name.starts_with("open-")),
        "{line}"
    );
    bad.reply_with(200, &[], "bad");
    env.log().wait(BACK, |line| line.contains(BACK)).await?;
    let mut texts = Vec::new();
    for _ in 0..8 {
        texts.push(get(&env).await?.text());
    }
    ensure!(
        texts.iter().filter(|text| *text == "bad").count() == 4,
        "{texts:?}"
    );
    // The second time it is out for twice as long.
    bad.reply_with(503, &[], "bad");
    let mark = env.log().mark();
    for _ in 0..20 {
        get(&env).await?;
    }
    let line = env
        .log()
        .wait_json(mark, OUT, |line| line["message"] == OUT)
        .await?;
    ensure!(line["seconds"] == 2.0 || line["seconds"] == 1.0, "{line}");
    Ok(())
}

#[tokio::test]
async fn alone_and_out_means_503() -> Result<()> {
    let bad = Upstream::start().await?;
    bad.reply_with(500, &[], "bad");
    let rules = rules(json!({"consecutive_5xx": 1, "enforcing_consecutive_5xx": 100}));
    let env = behind(&[bad.url()], rules).await?;
    until_out(&env, &host(&bad.url())).await?;
    let reply = get(&env).await?;
    ensure!(
        reply.status == 503 && reply.text().contains("no_healthy_upstream"),
        "{}",
        reply.text()
    );
    Ok(())
}

#[tokio::test]
async fn the_share_of_hosts_that_may_be_out_is_kept() -> Result<()> {
    let (one, two) = (Upstream::start().await?, Upstream::start().await?);
    one.reply_with(500, &[], "one");
    two.reply_with(500, &[], "two");
    let to = [one.url(), two.url()];
    let limits = [
        (json!({"max_ejection_percent": 50}), 1),
        (json!({"max_ejection_percent": 49}), 0),
        (
            json!({"max_ejection_percent": 10, "always_eject_one_host": true}),
            1,
        ),
        (json!({"max_ejection_percent": 100}), 2),
    ];
    for (limit, expected) in limits {
        let mut all =
            json!({"consecutive_5xx": 2, "enforcing_consecutive_5xx": 100, "base_ejection_time": "60s"});
        all.as_object_mut()
            .context("rules")?
            .extend(limit.as_object().cloned().unwrap_or_default());
        let env = behind(&to, rules(all)).await?;
        for _ in 0..12 {
            get(&env).await?;
        }
        let out = env
            .log()
            .json()
            .into_iter()
            .filter(|line| line["message"] == OUT)
            .count();
        ensure!(out == expected, "{limit}: {out}");
    }
    Ok(())
}

#[tokio::test]
async fn each_kind_of_failure_is_told_by_its_rule() -> Result<()> {
    let good = Upstream::start().await?;
    let bad = Upstream::start().await?;
    bad.reply_with(502, &[], "bad");
    let gateway = json!({"consecutive_gateway_failure": 2, "enforcing_consecutive_gateway_failure": 100});
    let env = behind(&[good.url(), bad.url()], rules(gateway)).await?;
    ensure!(until_out(&env, &host(&bad.url())).await? == "consecutive_gateway_failure");

    let nobody = lease()?;
    let gone = format!("http://127.0.0.1:{}", nobody.number());
    let local = json!({"split_external_local_origin_errors": true, "consecutive_local_origin_failure": 2});
    let env = behind(&[good.url(), gone.clone()], rules(local.clone())).await?;
    ensure!(until_out(&env, &host(&gone)).await? == "consecutive_local_origin_failure");

    let silent = RawUpstream::start(vec![Step::Hold]).await?;
    let mut patient = rules(local);
    patient["base_ejection_time"] = json!("60s");
    let env = behind(&[good.url(), silent.url()], patient).await?;
    ensure!(
        until_out(&env, &host(&silent.url())).await? == "consecutive_local_origin_failure",
        "no answer in time"
    );

    // Not split, a host that is not there is a gateway that fails.
    let joined = json!({"consecutive_gateway_failure": 2, "enforcing_consecutive_gateway_failure": 100});
    let env = behind(&[good.url(), gone.clone()], rules(joined)).await?;
    ensure!(until_out(&env, &host(&gone)).await? == "consecutive_gateway_failure");
    Ok(())
}

#[tokio::test]
async fn rates_of_an_interval_are_compared() -> Result<()> {
    let mut upstreams = Vec::new();
    for _ in 0..4 {
        upstreams.push(Upstream::start().await?);
    }
    upstreams[3].reply_with(500, &[], "bad");
    let to: Vec<_> = upstreams.iter().map(Upstream::url).collect();
    let long = |more: Value| {
        let mut rules = rules(more);
        rules["interval"] = json!("1s");
        rules
    };
    let spread = json!({
        "enforcing_success_rate": 100,
        "success_rate_minimum_hosts": 4,
        "success_rate_request_volume": 2,
        "success_rate_stdev_factor": 1000,
    });
    let env = behind(&to, long(spread)).await?;
    ensure!(until_out(&env, &host(&to[3])).await? == "success_rate");
    let share = json!({
        "enforcing_failure_percentage": 100,
        "failure_percentage_minimum_hosts": 4,
        "failure_percentage_request_volume": 2,
        "failure_percentage_threshold": 90,
    });
    let env = behind(&to, long(share)).await?;
    ensure!(until_out(&env, &host(&to[3])).await? == "failure_percentage");
    Ok(())
}

#[tokio::test]
async fn a_good_check_brings_a_host_back_unless_told_otherwise() -> Result<()> {
    let bad = Upstream::start().await?;
    let good = Upstream::start().await?;
    let check = json!([{
        "timeout": "5s", "interval": "0.05s", "no_traffic_interval": "0.05s",
        "unhealthy_threshold": 1, "healthy_threshold": 1,
        "http_health_check": {"path": "/status/200"},
    }]);
    bad.reply_with(500, &[], "bad");
    for (brings_back, message) in [(true, BACK), (false, OUT)] {
        let rules = rules(json!({
            "consecutive_5xx": 1, "enforcing_consecutive_5xx": 100, "base_ejection_time": "60s",
            "successful_active_health_check_uneject_host": brings_back,
        }));
        let route = Route::new("open", "")
            .public()
            .set("to", json!([good.url(), bad.url()]))
            .set("outlier_detection", rules)
            .set("health_checks", check.clone());
        let env = Environment::builder()?.route(route).start().await?;
        until_out(&env, &host(&bad.url())).await?;
        env.log().wait(message, |line| line.contains(message)).await?;
        if !brings_back {
            // Some more good checks change nothing.
            bad.take_requests();
            while bad.requests().len() < 5 {
                get(&env).await?;
            }
            ensure!(!env.log().all().iter().any(|line| line.contains(BACK)));
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_grpc_status_counts_as_its_http_counterpart() -> Result<()> {
    let (good, bad) = (Upstream::start().await?, Upstream::start().await?);
    good.reply_with(
        200,
        &[("content-type", "application/grpc"), ("grpc-status", "5")],
        "",
    );
    bad.reply_with(
        200,
        &[("content-type", "application/grpc"), ("grpc-status", "14")],
        "",
    );
    let rules =
        rules(json!({"consecutive_gateway_failure": 2, "enforcing_consecutive_gateway_failure": 100}));
    let env = behind(&[good.h2c_url(), bad.h2c_url()], rules).await?;
    ensure!(until_out(&env, &host(&bad.url())).await? == "consecutive_gateway_failure");
    Ok(())
}

#[tokio::test]
async fn who_is_out_stays_out_over_a_reload() -> Result<()> {
    let (good, bad) = (Upstream::start().await?, Upstream::start().await?);
    good.reply_with(200, &[], "good");
    bad.reply_with(500, &[], "bad");
    let rules = rules(json!({
        "consecutive_5xx": 1, "enforcing_consecutive_5xx": 100, "base_ejection_time": "3s",
    }));
    let mut env = behind(&[good.url(), bad.url()], rules).await?;
    until_out(&env, &host(&bad.url())).await?;
    env.rewrite_config(|config| {
        config["routes"][0]["set_response_headers"] = json!({"x-new": "yes"});
        config["routes"][0]["healthy_panic_threshold"] = json!(10);
    })?;
    let mut news = 0;
    while news < 8 {
        let reply = get(&env).await?;
        news += u32::from(reply.header("x-new").is_some());
        if env.log().all().iter().any(|line| line.contains(BACK)) {
            break;
        }
        ensure!(reply.text() == "good", "{reply:?}");
    }
    env.log().wait(BACK, |line| line.contains(BACK)).await?;
    ensure!(news > 0, "the reload came too late to show anything");
    Ok(())
}
