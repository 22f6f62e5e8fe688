//! Issuers of bearer tokens (spec config.md 10): form only.

use std::collections::BTreeMap;

use super::super::Cx;
use crate::spec::go_url::GoUrl;
use crate::spec::values::Values;

const ALGORITHMS: [&str; 10] = [
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
];

pub(super) fn check(values: &Values, cx: &mut Cx<'_>) {
    let mut issuers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, provider) in values.named("identity_providers") {
        for (option, message) in problems(name, provider) {
            let key = if option.is_empty() {
                provider.path.clone()
            } else {
                provider.key(option)
            };
            let place = if option.is_empty() {
                provider.place
            } else {
                provider.place(option)
            };
            cx.sink
                .error(place, key, format!("identity_providers: {message}"), "");
        }
        if let Some(issuer) = provider.some_text("issuer") {
            issuers.entry(issuer).or_default().push(name);
        }
    }
    for (issuer, mut names) in issuers {
        names.sort_unstable();
        if let [a, b, ..] = names.as_slice() {
            let message = format!("issuer \"{issuer}\" used by both \"{b}\" and \"{a}\"");
            let place = values.place("identity_providers");
            cx.sink.error(
                place,
                "identity_providers",
                message,
                "an issuer belongs to one provider",
            );
        }
    }
}

fn problems(name: &str, provider: &Values) -> Vec<(&'static str, String)> {
    let mut found: Vec<(&'static str, String)> = Vec::new();
    let mut add = |option, message: &str| found.push((option, message.to_owned()));
    if name.is_empty() {
        add("", "provider name must not be empty");
    }
    if name.contains('/') {
        add("", "provider name must not contain '/'");
    }
    if name.to_lowercase() != name {
        add("", "provider name must be lowercase");
    }
    let jwks = provider
        .some_text("jwks_url")
        .or_else(|| provider.some_text("jwksurl"));
    match provider.some_text("issuer") {
        None => add("issuer", "issuer is required"),
        Some(issuer) if issuer.starts_with("kubernetes:") => {
            if jwks.is_some() {
                add("jwks_url", "jwks_url must be empty for a kubernetes issuer");
            }
        }
        Some(issuer) => {
            if let Some(message) = url_problem(issuer) {
                add("issuer", &format!("issuer {message}"));
            }
        }
    }
    if let Some(message) = jwks.and_then(url_problem) {
        add("jwks_url", &format!("jwks_url {message}"));
    }
    if provider.texts("audiences").is_empty() {
        add("audiences", "at least one audience is required");
    }
    let algorithms = provider
        .texts("supported_algs")
        .iter()
        .chain(provider.texts("supportedalgs"));
    for algorithm in algorithms.filter(|name| !ALGORITHMS.contains(&name.as_str())) {
        add(
            "supported_algs",
            &format!("unsupported signing algorithm \"{algorithm}\""),
        );
    }
    found
}

fn url_problem(text: &str) -> Option<&'static str> {
    let absolute = GoUrl::parse(text)
        .ok()
        .filter(|url| !url.scheme.is_empty() && !url.host.is_empty());
    let Some(url) = absolute else {
        return Some("must be an absolute URL (scheme://host)");
    };
    let host = url.hostname().to_lowercase();
    let loopback = host == "localhost"
        || host.ends_with(".localhost")
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    let allowed = url.scheme == "https" || (url.scheme == "http" && loopback);
    (!allowed).then_some("must use https (http allowed only for loopback)")
}

/// References of a route, and whether its tokens are JWTs at all.
pub(super) fn check_route(values: &Values, route: &Values, cx: &mut Cx<'_>) {
    let name = "identity_providers";
    let format = route
        .choice("bearer_token_format")
        .or_else(|| values.choice("bearer_token_format"));
    let providers = values.named(name);
    let references = route.texts(name);
    if format != Some("jwt") {
        if !references.is_empty() {
            let message = "identity_providers is only valid on routes with bearer_token_format=jwt";
            cx.sink.error(
                route.place(name),
                route.key(name),
                message,
                "set bearer_token_format: jwt on the route",
            );
        }
        return;
    }
    if providers.is_empty() {
        let message = "bearer_token_format=jwt requires at least one identity_providers entry";
        let help = "describe the issuer under `identity_providers` at the top level";
        cx.sink.error(
            route.place("bearer_token_format"),
            route.key("bearer_token_format"),
            message,
            help,
        );
    }
    for reference in references {
        if providers.iter().any(|(name, _)| name == reference) {
            continue;
        }
        let near = providers
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(reference));
        let hint = near.map_or_else(String::new, |(name, _)| format!(", did you mean \"{name}\"?"));
        let message = format!("unknown identity provider \"{reference}\"{hint}");
        cx.sink.error(route.place(name), route.key(name), message, "");
    }
}
