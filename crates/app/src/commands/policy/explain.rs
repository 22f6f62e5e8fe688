//! `pomerium policy explain`.

use std::process::ExitCode;

use anyhow::{anyhow, bail};
use pomerium_authorize::audit::read::Decision;
use pomerium_authorize::audit::replay::{self, Replayed, came_to};
use pomerium_authorize::conformance::{self, Explained, Reply};
use pomerium_policy::explain::text;
use serde_json::{Value, json};

use super::super::print;
use super::args::ExplainArgs;
use super::edge::Product;
use super::source::{Answering, Routes};
use super::{logs, request, source};

/// Name of the case that an imagined request is.
const NAME: &str = "request";

pub(super) fn run(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let config = args.config.as_deref();
    let routes = config.map(|config| Routes::load(config, false)).transpose()?;
    if let Some(id) = &args.request {
        let decision = logs::find(id, args.log.as_deref(), routes.as_ref())?;
        show_logged(&decision, routes.as_ref(), args.json);
        return Ok(ExitCode::SUCCESS);
    }
    let (file, name) = match &args.case {
        Some(path) => case(args, source::document(path)?)?,
        None => (imagined(args, routes.as_ref())?, NAME.to_owned()),
    };
    let edge = Product {
        routes: routes.as_ref(),
    };
    let explained = conformance::explain(file, &name, &edge).map_err(|problem| anyhow!(problem))?;
    show(&explained, args.json);
    Ok(ExitCode::SUCCESS)
}

/// The request of the command line, to the route of the command line.
fn imagined(args: &ExplainArgs, routes: Option<&Routes>) -> anyhow::Result<Value> {
    let (Some(route), Some(routes)) = (&args.route, routes) else {
        bail!(
            "name a route with --config FILE --route ROUTE, a case with --case FILE, or a request with --request ID"
        );
    };
    let found = routes.find(route).map_err(|problem| anyhow!(problem))?;
    let id = &found.route.settings.id;
    let Some((host, path)) = &found.address else {
        let host = found.route.settings.from.split("://").nth(1).unwrap_or_default();
        // A pattern is no host that a request can have.
        let host = host.split('/').next().filter(|host| !host.contains('*'));
        return request::case_file(&args.imagined, host, NAME, id);
    };
    let mut imagined = super::args::Imagined {
        path: path.clone(),
        ..args.imagined.clone()
    };
    if args.imagined.path != "/" {
        if path != "/" {
            bail!("the address has a path already; leave --path out");
        }
        imagined.path.clone_from(&args.imagined.path);
    }
    request::case_file(&imagined, Some(host), NAME, id)
}

/// A case of a file, with the route of the command line when one is named.
fn case(args: &ExplainArgs, mut file: Value) -> anyhow::Result<(Value, String)> {
    let Some(cases) = file.get_mut("cases").and_then(Value::as_array_mut) else {
        bail!("this is no case file: it has no list `cases`");
    };
    let name = |case: &Value| case.get("name").and_then(Value::as_str).map(str::to_owned);
    let wanted = match (&args.name, cases.as_slice()) {
        (Some(name), _) => name.clone(),
        (None, [only]) => name(only).unwrap_or_default(),
        (None, several) => bail!("the file has {} cases; choose one with --name", several.len()),
    };
    if let Some(route) = &args.route {
        let chosen = cases.iter_mut().find(|case| name(case).as_ref() == Some(&wanted));
        if let Some(case) = chosen.and_then(Value::as_object_mut) {
            case.remove("policy");
            case.remove("policy_yaml");
            case.insert("route".into(), json!(route));
        }
    }
    Ok((file, wanted))
}

fn show(explained: &Explained, as_json: bool) {
    let tree = json!(explained.tree);
    let came_to = came_to(&explained.decision);
    let grounds = &explained.grounds;
    if as_json {
        let reply = &explained.reply;
        print(
            &json!({
                "outcome": came_to,
                "rule": grounds.rule,
                "criteria": grounds.criteria,
                "client": {"status": reply.status, "upstream": reply.upstream, "redirect": reply.redirect},
                "allow": tree["allow"],
                "deny": tree["deny"],
                "scripts": tree["scripts"],
            })
            .to_string(),
        );
        return;
    }
    print(&format!("outcome: {came_to}"));
    print(&format!("the client gets: {}", in_words(&explained.reply)));
    print_grounds(&grounds.rule, &grounds.criteria);
    print("");
    print(text(&tree).trim_end());
}

fn in_words(reply: &Reply) -> String {
    match (reply.upstream, reply.redirect) {
        (true, _) => "what the upstream answers".into(),
        (false, Some(to)) => format!("{} to the {to} page", reply.status),
        (false, None) => reply.status.to_string(),
    }
}

fn print_grounds(rule: &str, criteria: &[String]) {
    print(&format!("decided by: {rule}"));
    for criterion in criteria {
        print(&format!("  {criterion}"));
    }
}

/// A request of the log, and what the configuration says to it now.
fn show_logged(decision: &Decision, routes: Option<&Routes>, as_json: bool) {
    let now = routes.map(|routes| now(decision, routes));
    if as_json {
        let now = now.map(|(word, _)| word);
        print(
            &json!({
                "time": decision.time,
                "request_id": decision.request_id,
                "outcome": decision.came_to(),
                "rule": decision.rule,
                "criteria": decision.criteria,
                "allow": decision.allow,
                "deny": decision.deny,
                "now": now,
            })
            .to_string(),
        );
        return;
    }
    print(&format!("{} {}", decision.time, logs::summary(decision)));
    print(&format!("outcome: {}", decision.came_to()));
    if let Some(problem) = &decision.problem {
        print(&format!("it could not be judged: {}", logs::plain(problem)));
    }
    let criteria: Vec<String> = decision.criteria.iter().map(|text| logs::plain(text)).collect();
    print_grounds(&logs::plain(&decision.rule), &criteria);
    if let Some(tree) = decision.tree() {
        print("");
        print(text(&tree).trim_end());
    }
    if let Some((_, words)) = now {
        print("");
        print(&words);
    }
}

fn now(decision: &Decision, routes: &Routes) -> (Value, String) {
    let program = match routes.answering(&decision.host, &decision.path) {
        Answering::Route(route) => Some(&route.settings.policy),
        Answering::Nothing => None,
        Answering::Own => {
            let words = "with this configuration: the address is one of Pomerium's own pages";
            return (json!("own"), words.into());
        }
    };
    match replay::judge(decision, program) {
        Replayed::Same => (json!("same"), "with this configuration: the same".into()),
        Replayed::Differs { decision, grounds } => {
            let came_to = came_to(&decision);
            let words = format!(
                "with this configuration: {came_to}\n  decided by {}: {}",
                grounds.rule,
                grounds.criteria.join(", ")
            );
            (json!(came_to), words)
        }
        Replayed::CannotJudge(missing) => {
            let words = format!(
                "with this configuration: cannot judge, because the log does not hold {}",
                missing.join(", ")
            );
            (json!({"cannot_judge": missing}), words)
        }
    }
}
