//! `show_error_details`: what the policies of a route said, to people and programs that are refused, and to nobody else.

use anyhow::{Context, Result};
use pomerium_testing::{Browser, Look, Route, Upstream};
use pomerium_tests::{Stage, scripted_with};
use serde_json::{Value, json};

use crate::browser_local::judge_page;

/// Three policies: one that says no in words, one that says no without them, and one that would let everybody in.
fn policies() -> Value {
    json!([
        {
            "id": "office", "name": "Office", "allowed_domains": ["corp.example.com"],
            "explanation": "Only for the **office**. <img src=x onerror=alert(1)>",
            "remediation": "Ask [the desk](https://desk.example.com), not [him](javascript:alert(1)).",
        },
        {"id": "night", "source_ppl": "deny: {or: [{http_path: {starts_with: /night}}]}"},
        {"id": "readers", "rego": ["allow { input.http.method == \"GET\" }"], "explanation": "Readers", "remediation": "never shown"},
    ])
}

/// The program, and the application behind both routes.
async fn stage() -> Result<(Stage<pomerium_testing::ScriptedIdp>, Upstream)> {
    let upstream = Upstream::start().await?;
    let to = upstream.url();
    let stage = scripted_with(|builder| {
        let told = Route::new("told", &to).set("sub_policies", policies());
        let quiet = Route::new("quiet", &to).set("sub_policies", policies());
        builder.route(told.set("show_error_details", true)).route(quiet)
    })
    .await?;
    Ok((stage, upstream))
}

#[tokio::test]
async fn people_and_programs_are_told_what_each_policy_said() -> Result<()> {
    let (stage, _upstream) = stage().await?;
    let client = stage.signed_in().await?;
    let reply = client.get(&stage.env.url("told", "/day")).await?;
    assert_eq!(
        reply.status,
        200,
        "one policy that allows is enough: {}",
        reply.text()
    );

    let reply = stage.api(&client, "told", "/night").await?;
    assert_eq!(reply.status, 403);
    let said: Value = serde_json::from_str(&reply.text())?;
    let traces = said["policy_evaluation_traces"].as_array().context("no traces")?;
    let outcomes: Vec<_> = traces
        .iter()
        .map(|trace| {
            (
                trace["id"].as_str(),
                trace["allow"].as_bool(),
                trace["deny"].as_bool(),
            )
        })
        .collect();
    assert_eq!(
        outcomes,
        [
            (Some("office"), Some(false), Some(false)),
            (Some("night"), Some(false), Some(true)),
            (Some("readers"), Some(true), Some(false)),
        ]
    );
    assert_eq!(traces[0]["explanation"], policies()[0]["explanation"]);
    assert_eq!(traces[0]["remediation"], policies()[0]["remediation"]);

    let page = client
        .get_with(&stage.env.url("told", "/night"), &[("accept", "text/html")])
        .await?
        .text();
    for part in [
        "Only for the <strong>office</strong>. &lt;img src=x onerror=alert(1)&gt;",
        "<a href=\"https://desk.example.com\" rel=\"noreferrer\">the desk</a>, not him.",
        "Policy ID night",
        "<span class=\"denied\">Denies</span>",
        "Readers",
        "policyEvaluationTraces",
    ] {
        assert!(page.contains(part), "{part:?} is missing:\n{page}");
    }
    let shown = page.split("POMERIUM_DATA").next().unwrap_or_default();
    assert!(
        !shown.contains("never shown"),
        "a policy that allows has nothing to mend"
    );
    for part in ["<img src=x", "href=\"javascript"] {
        assert!(!page.contains(part), "{part}:\n{page}");
    }
    Ok(())
}

#[tokio::test]
async fn without_the_option_nobody_is_told() -> Result<()> {
    let (stage, _upstream) = stage().await?;
    let client = stage.signed_in().await?;
    for accept in ["application/json", "text/html"] {
        let reply = client
            .get_with(&stage.env.url("quiet", "/night"), &[("accept", accept)])
            .await?;
        assert_eq!(reply.status, 403);
        let text = reply.text().to_lowercase();
        for part in ["office", "readers", "traces", "night", "policy id"] {
            assert!(!text.contains(part), "{accept}: {part:?}:\n{text}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_page_is_fit_for_people() -> Result<()> {
    let upstream = Upstream::start().await?;
    let mut closed = policies();
    closed[1] = json!({"id": "closed", "source_ppl": "deny: {or: [{accept: true}]}"});
    let stage = scripted_with(|builder| {
        let told = Route::new("told", &upstream.url()).set("sub_policies", closed);
        builder.route(told.set("show_error_details", true))
    })
    .await?;
    let browser = Browser::start().await?;
    let page = browser.open(Look::PHONE).await?;
    page.goto(&stage.env.url("told", "/")).await?;
    judge_page(&page, "error-details").await?;
    let text = page.text("main").await?;
    for part in [
        "Only for the office.",
        "<img src=x onerror=alert(1)>",
        "Policy ID closed",
    ] {
        assert!(text.contains(part), "{part:?} is missing:\n{text}");
    }
    Ok(())
}
