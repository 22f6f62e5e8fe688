//! Rego: scripts through ours and through an engine that is not, and a route that is guarded by one.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use pomerium_policy::{ClientCertificate, HttpInput, Input, NoHeaders, Program, Script, ScriptData, Subject};
use pomerium_testing::{Environment, Route, Upstream, tools};
use pomerium_tests::scripted_with;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

/// Scripts that both engines take the same way.
const SCRIPTS: &[&str] = &[
    "allow = true",
    "allow { input.http.method == \"GET\" }",
    "allow { input.http.method == \"PUT\" }",
    "default allow = false\nallow { input.session.user_id == \"u1\" }",
    "default allow = false\nallow { input.session.user_id == \"u2\" }",
    "allow = [true, [\"a\", \"b\"]]\ndeny = [false, {\"c\"}]",
    "allow = [false, [\"user-unauthenticated\"]] { input.session.id != \"\" }",
    "allow { not input.nope }",
    "allow { not input.nope == \"a\" }",
    "allow { not input.http.method == \"GET\" }",
    "allow { \"1\" == 1 }",
    "allow { 1 == 1.0 }",
    "allow { to_number(\"x\") == 1 }",
    "allow { x := [1, 2, 3]; count(x) == 3; sum(x) == 6; max(x) == 3 }",
    "allow { x := {1, 2} | {3}; y := x & {2, 3}; count(y) == 2; x - y == {1} }",
    "allow = true { input.http.method == \"PUT\" } else = false { true }",
    "allow { some i; [\"a\", \"b\"][i] == \"b\"; i == 1 }",
    "allow { x := [y | y := [1, 2, 3][_]; y > 1]; x == [2, 3] }",
    "allow { x := {k: v | v := [\"a\", \"b\"][k]}; x[1] == \"b\" }",
    "f(x) = y { y := x * 2 }\nallow { f(2) == 4 }",
    "f(1) = \"one\"\nf(2) = \"two\"\nallow { f(2) == \"two\" }",
    "p[x] { x := [1, 2, 2][_] }\nallow { count(p) == 2 }",
    "p[k] = v { v := [\"a\", \"b\"][k] }\nallow { p[0] == \"a\" }",
    "allow { startswith(input.http.path, \"/a\"); endswith(input.http.path, \"b\"); contains(input.http.path, \" \") }",
    "allow { split(\"a.b.c\", \".\")[2] == \"c\"; concat(\"-\", [\"a\", \"b\"]) == \"a-b\"; replace(\"aXa\", \"X\", \"b\") == \"aba\" }",
    "allow { sprintf(\"%s-%d\", [\"a\", 1]) == \"a-1\"; trim_prefix(\"abc\", \"a\") == \"bc\"; upper(\"a\") == \"A\" }",
    "allow { substring(\"hello\", 1, 3) == \"ell\"; indexof(\"hello\", \"l\") == 2 }",
    "allow { regex.match(\"^/a.*b$\", input.http.path) }",
    "allow { glob.match(\"*.example.com\", [\".\"], \"a.example.com\"); not glob.match(\"*.example.com\", [\".\"], \"a.b.example.com\") }",
    "allow { json.unmarshal(\"[1, {\\\"a\\\": null}]\")[1].a == null; json.marshal([1, \"a\"]) == \"[1,\\\"a\\\"]\" }",
    "allow { base64.decode(base64.encode(\"abc\")) == \"abc\"; hex.encode(\"a\") == \"61\" }",
    "allow { object.get({\"a\": 1}, \"b\", 5) == 5; object.union({\"a\": 1}, {\"b\": 2}) == {\"a\": 1, \"b\": 2} }",
    "allow { array.concat([1], [2]) == [1, 2]; array.slice([1, 2, 3], 1, 2) == [2]; sort([3, 1]) == [1, 3] }",
    "allow { is_string(\"a\"); not is_number(\"a\"); type_name({}) == \"object\" }",
    "allow { x := input.http.nope; x }",
    "allow { input.http.method == \"GET\" with input.http.method as \"PUT\" }",
    "import rego.v1\nallow if { some x in [\"GET\", \"HEAD\"]; x == input.http.method }",
    "import rego.v1\nallow if { every x in [1, 2] { x > 0 } }\ndeny if { \"a\" in [\"b\"] }",
    "import rego.v1\nallow contains \"x\" if false",
    "import rego.v1\nnames contains x if { some x in [\"b\", \"a\"] }\nallow := [true, names]",
];

/// Where they differ, and ours does what the language's own compiler does (docs/rego.md): what a negated call is given
/// has to be there.
const DIFFERENT: &[&str] = &[
    "allow { not startswith(input.nope, \"a\") }",
    "allow { not input.nope != \"a\" }",
    "allow { not count(input.nope) == 0 }",
];

fn subject() -> Subject {
    Subject {
        session_id: "s1".into(),
        user_id: "u1".into(),
        ..Subject::default()
    }
}

/// What ours says: value and reasons of both actions.
fn ours(text: &str) -> Result<[(bool, Vec<String>); 2]> {
    let script = Script::compile("test", text, &ScriptData::default())?;
    let program = Program::compile(&pomerium_policy::ppl::Policy::default())?.with_scripts(vec![script]);
    let http = HttpInput {
        method: "GET",
        path: "/a b",
        raw_path: "/a%20b",
        query: "",
        host: "app.example.com",
        headers: &NoHeaders,
        client_ip: None,
        client_certificate: ClientCertificate::default(),
    };
    let subject = subject();
    let evaluation = program.evaluate(&Input::new(Some(&subject), http, jiff::Timestamp::UNIX_EPOCH));
    ensure!(evaluation.failure.is_none(), "{text}: {:?}", evaluation.failure);
    Ok([&evaluation.allow, &evaluation.deny].map(|verdict| {
        let names = verdict.names().into_iter().map(str::to_owned).collect();
        (verdict.value, names)
    }))
}

/// What a value of the other engine means (spec policy.md 7).
fn meaning(value: &Value) -> (bool, Vec<String>) {
    let Value::Array(items) = value else {
        return (value == &json!(true), Vec::new());
    };
    if items.is_empty() || items.len() > 3 {
        return (false, Vec::new());
    }
    let reasons = items.get(1).and_then(Value::as_array).into_iter().flatten();
    let mut reasons: Vec<String> = reasons.filter_map(Value::as_str).map(str::to_owned).collect();
    reasons.sort();
    (items[0] == json!(true), reasons)
}

async fn theirs(scripts: &[&str]) -> Result<Vec<Value>> {
    let input = json!({
        "http": {"method": "GET", "path": "/a b", "host": "app.example.com"},
        "session": {"id": "s1", "user_id": "u1"},
    });
    let mut lines = String::new();
    for script in scripts {
        let script = format!("package pomerium.policy\n{script}");
        lines.push_str(&json!({"script": script, "input": input}).to_string());
        lines.push('\n');
    }
    let mut command = tools::python("rego.py")?;
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().context("a pipe")?;
    let written = tokio::spawn(async move { stdin.write_all(lines.as_bytes()).await });
    let output = child.wait_with_output().await?;
    written.await??;
    let text = String::from_utf8(output.stdout)?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

#[tokio::test]
async fn two_engines_agree() -> Result<()> {
    let answers = theirs(SCRIPTS).await?;
    ensure!(answers.len() == SCRIPTS.len(), "{answers:?}");
    for (script, answer) in SCRIPTS.iter().zip(&answers) {
        ensure!(answer.get("error").is_none(), "{script}: {answer}");
        let expected = [meaning(&answer["allow"]), meaning(&answer["deny"])];
        ensure!(
            ours(script)? == expected,
            "{script}: ours {:?}, theirs {answer}",
            ours(script)?
        );
    }
    for (script, answer) in DIFFERENT.iter().zip(theirs(DIFFERENT).await?) {
        ensure!(
            meaning(&answer["allow"]).0 && !ours(script)?[0].0,
            "{script}: no difference any more"
        );
    }
    Ok(())
}

/// Whoever is signed in may read; what is below `/closed` and who is nobody is told in words of the script.
const GUARD: &str = "
allow = [true, [\"reader\"]] {
    input.session.user_id != \"\"
    input.http.method == \"GET\"
    not startswith(input.http.path, \"/closed\")
} else = [false, [\"closed to readers\"]] {
    input.session.user_id != \"\"
} else = [false, [\"user-unauthenticated\"]]
";

async fn reload(env: &mut Environment, script: &str, said: &str) -> Result<()> {
    let mark = env.log().mark();
    env.rewrite_config(|config| {
        let routes = config["routes"].as_array_mut().into_iter().flatten();
        for route in routes.filter(|route| route["name"] == "guarded") {
            route["rego"] = script.into();
        }
    })?;
    env.log()
        .wait_from(mark, "the reload", |line| line.contains(said))
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_route_is_guarded_by_a_script_alone_and_the_script_is_changed_while_it_runs() -> Result<()> {
    let upstream = Upstream::start().await?;
    let mut stage = scripted_with(|builder| {
        builder
            .route(Route::new("guarded", &upstream.url()).set("rego", GUARD))
            .route(
                Route::new("listed", &upstream.url())
                    .any_user()
                    .set("rego", "deny = false"),
            )
    })
    .await?;
    let anonymous = stage.env.client()?;
    let reply = stage.api(&anonymous, "guarded", "/").await?;
    ensure!(reply.status == 401, "nobody is sent to sign in: {}", reply.status);
    let client = stage.signed_in().await?;
    ensure!(client.follow(&stage.env.url("guarded", "/")).await?.status == 200);
    let mark = stage.env.log().mark();
    ensure!(stage.api(&client, "guarded", "/closed/x").await?.status == 403);
    let line = stage
        .env
        .log()
        .wait_json(mark, "the decision", |line| {
            line["message"] == "authorize check" && line["path"] == "/closed/x"
        })
        .await?;
    ensure!(line["allow-why-false"] == json!(["closed to readers"]), "{line}");

    // The page of applications goes by rules: what a script allows is not known beforehand.
    let shown = client
        .get_with(
            &stage.env.url("app", "/.pomerium/api/v1/routes"),
            &[("accept", "application/json")],
        )
        .await?
        .text();
    ensure!(
        shown.contains("\"listed\"") && !shown.contains("\"guarded\""),
        "{shown}"
    );

    reload(
        &mut stage.env,
        &GUARD.replace("/closed", "/elsewhere"),
        "config: loaded configuration",
    )
    .await?;
    ensure!(stage.api(&client, "guarded", "/closed/x").await?.status == 200);
    ensure!(stage.api(&client, "guarded", "/elsewhere").await?.status == 403);

    // A broken one changes nothing, and is told with its place.
    reload(
        &mut stage.env,
        "allow { startwith(input.http.path, \"/\") }",
        "did you mean `startswith`?",
    )
    .await?;
    ensure!(stage.api(&client, "guarded", "/closed/x").await?.status == 200);
    ensure!(stage.api(&client, "guarded", "/elsewhere").await?.status == 403);

    // One that fails while it judges lets nobody in, and is no denial.
    reload(
        &mut stage.env,
        "allow = true { true }\nallow = false { input.http.method == \"GET\" }",
        "config: loaded configuration",
    )
    .await?;
    let mark = stage.env.log().mark();
    ensure!(stage.api(&client, "guarded", "/closed/x").await?.status == 503);
    stage
        .env
        .log()
        .wait_json(mark, "the failure", |line| {
            line["message"] == "authorize check"
                && line["error"]
                    .as_str()
                    .is_some_and(|error| error.contains("failed"))
        })
        .await?;
    Ok(())
}
