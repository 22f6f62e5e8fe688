//! Who may: the route's switches and lists joined with its policy, compiled (spec config.md 9.4).

use std::collections::BTreeMap;

use pomerium_policy::ppl::{Lint, Policy, Warning};
use pomerium_policy::{Part, Program, RouteRules, ScriptData, merge};

use super::super::Cx;
use super::{rego, sub_policies};
use crate::diagnostic::{Place, Sort, Stage};
use crate::spec::go_url::GoUrl;
use crate::spec::node::Node;
use crate::spec::policy::{key_path, locate};
use crate::spec::values::Values;

/// Most extra hosts of a login.
const MAX_DEPENDS_ON: usize = 5;

pub(super) struct Access {
    pub program: Program,
    /// The policies that people are told about, on routes that tell.
    pub told: Vec<Part>,
    pub depends_on: Vec<String>,
}

pub(super) fn resolve(
    route: &Values,
    deny_without_certificate: bool,
    data: &ScriptData,
    cx: &mut Cx<'_>,
) -> Access {
    check_whitelists(route, cx);
    let embedded = route.policy("policy");
    let mut rules = rules(route);
    rules.client_certificate = deny_without_certificate;
    let mut merged = merge(&rules, embedded.map(|(policy, _)| policy));
    let parts = sub_policies::read(route, data, cx);
    for part in parts.iter().flatten() {
        merged.rules.extend(part.rules.rules.iter().cloned());
    }
    let tree = embedded.map(|(_, tree)| tree);
    if cx.review {
        advise(merged.lint(), tree, route, cx);
    } else if tree.is_some() {
        advise(merged.warnings(), tree, route, cx);
    }
    let program = compile(&merged, tree, route, cx);
    let program = match (rego::scripts(route, data, cx), &parts) {
        (Some(mut scripts), Some(parts)) => {
            scripts.extend(parts.iter().flat_map(|part| part.scripts.iter().cloned()));
            program.with_scripts(scripts)
        }
        _ => Program::deny_all(),
    };
    let told = match route.on("show_error_details") {
        true => parts
            .into_iter()
            .flatten()
            .filter_map(sub_policies::Sub::told)
            .collect(),
        false => Vec::new(),
    };
    Access {
        program,
        told,
        depends_on: depends_on(route, cx),
    }
}

/// For a route that leads to the authenticate service: who has not signed in yet must get there, whatever it says.
pub(super) fn open(route: &Values, deny_without_certificate: bool, cx: &mut Cx<'_>) -> Access {
    let program = compile(
        &merge(
            &RouteRules {
                public: true,
                client_certificate: deny_without_certificate,
                ..RouteRules::default()
            },
            None,
        ),
        None,
        route,
        cx,
    );
    if !route.on("allow_public_unauthenticated_access") {
        let message = "people sign in behind this route, so that everybody may pass: what it says of who may is not asked";
        let help = "write `allow_public_unauthenticated_access: true`";
        cx.sink.warn(route.place, route.path.clone(), message, help);
    }
    Access {
        program,
        told: Vec::new(),
        depends_on: depends_on(route, cx),
    }
}

fn rules(route: &Values) -> RouteRules {
    RouteRules {
        public: route.on("allow_public_unauthenticated_access"),
        cors_allow_preflight: route.on("cors_allow_preflight"),
        any_authenticated_user: route.on("allow_any_authenticated_user"),
        ..lists(route)
    }
}

/// The lists of a route, or of one of its policies.
pub(super) fn lists(values: &Values) -> RouteRules {
    RouteRules {
        allowed_domains: values.texts("allowed_domains").to_vec(),
        allowed_idp_claims: values
            .claims("allowed_idp_claims")
            .iter()
            .cloned()
            .collect::<BTreeMap<_, _>>(),
        allowed_users: values.texts("allowed_users").to_vec(),
        ..RouteRules::default()
    }
}

/// An empty list still counts as a whitelist.
fn check_whitelists(route: &Values, cx: &mut Cx<'_>) {
    let lists = route.is_set("allowed_users") || route.is_set("allowed_domains");
    let (public, any) = (
        "allow_public_unauthenticated_access",
        "allow_any_authenticated_user",
    );
    let help = "keep either the switch or the lists";
    if route.on(public) && (lists || route.on(any)) {
        let message = "config: policy route marked as public but contains whitelists";
        cx.sink
            .error(route.place(public), route.key(public), message, help);
    }
    if route.on(any) && lists {
        let message =
            "config: policy route marked accessible for any authenticated user but contains whitelists";
        cx.sink.error(route.place(any), route.key(any), message, help);
    }
}

fn advise(warnings: Vec<Warning>, tree: Option<&Node>, route: &Values, cx: &mut Cx<'_>) {
    // A script may let people in where no rule does.
    let scripts = route.free("rego").is_some() || sub_policies::any_script(route);
    let warnings = warnings
        .into_iter()
        .filter(|warning| !(scripts && warning.lint == Lint::Empty));
    for warning in warnings {
        let (place, key) = position(&warning.place, tree, route);
        cx.sink.warn(place, key, warning.meaning, "");
        cx.sink.last_warning_is(Sort::Policy(warning.lint));
    }
}

/// Compiles. What cannot be judged is an error, and in its place stands a program that lets nobody in.
fn compile(policy: &Policy, tree: Option<&Node>, route: &Values, cx: &mut Cx<'_>) -> Program {
    let errors = match Program::compile_all(policy) {
        Ok(program) => return program,
        Err(errors) => errors,
    };
    for error in errors {
        let (place, key) = position(error.place(), tree, route);
        let text = error.to_string();
        let message = text
            .strip_prefix(error.place())
            .map_or(text.as_str(), |rest| rest.trim_start_matches(": "));
        cx.sink.error_at(Stage::ServiceStart, place, key, message, "");
    }
    Program::deny_all()
}

fn position(place: &str, tree: Option<&Node>, route: &Values) -> (Place, String) {
    if place.starts_with("policy") {
        let key = key_path(&route.key("policy"), place);
        return (tree.map_or(route.place, |tree| locate(tree, place)), key);
    }
    let option = place.split(['[', '.']).next().unwrap_or(place);
    (route.place(option), route.key(place))
}

/// Extra hosts of the login, reduced to `host[:port]`.
fn depends_on(route: &Values, cx: &mut Cx<'_>) -> Vec<String> {
    let items = route.texts("depends_on");
    let (place, key) = (route.place("depends_on"), route.key("depends_on"));
    if items.len() > MAX_DEPENDS_ON {
        let message = format!("depends_on is limited to {MAX_DEPENDS_ON} additional redirect hosts");
        cx.sink.error(
            place,
            key.clone(),
            message,
            "keep the hosts that people need at once",
        );
    }
    let mut hosts = Vec::new();
    for item in items {
        let host = if item.contains("://") {
            GoUrl::parse(item)
                .ok()
                .map(|url| url.host)
                .filter(|host| !host.is_empty())
        } else {
            Some(item.clone()).filter(|item| !item.contains('/') && !item.is_empty())
        };
        match host {
            Some(host) => hosts.push(host),
            None => {
                let message = format!("unsupported depends_on value: {item}");
                cx.sink.error(
                    place,
                    key.clone(),
                    message,
                    "write a host, or a URL such as https://api.example.com",
                );
            }
        }
    }
    hosts
}
