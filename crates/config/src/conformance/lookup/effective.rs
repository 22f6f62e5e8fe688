//! What holds once every default has its say: `….effective`.

use std::time::Duration;

use serde_json::{Value, json};

use super::pairs;
use crate::settings::{
    Action, Codec, DnsFamily, EscapedSlashAction, IssuerFormat, LoadBalancing, LogLevel, PathRewrite,
    RouteSettings, SameSite, Settings, UnderscoreAction,
};
use crate::spec::values::Values;
use crate::spec::{duration, services};

/// Of a global option; nothing for one whose default is in the key table.
pub(super) fn global(values: &Values, settings: &Settings, name: &str) -> Option<Value> {
    let services = settings.services;
    Some(match name {
        "grpc_address" => json!(services::grpc_address(values, services)),
        "grpc_insecure" => json!(services::grpc_insecure(values, services)),
        "authorize_service_url" => json!(services::service_urls(values, "authorize_service")),
        "databroker_service_url" => json!(services::service_urls(values, "databroker_service")),
        "authenticate_service_url" => json!(settings.authenticate.url.url()),
        "authenticate_internal_service_url" => match values.some_text(name) {
            Some(url) => json!(url),
            None => json!(settings.authenticate.url.url()),
        },
        "authorize_internal_service_url" => internal_urls(values, name, "authorize_service"),
        "databroker_internal_service_url" => internal_urls(values, name, "databroker_service"),
        "codec_type" => json!(codec(settings.listener.codec)),
        "cookie_same_site" => json!(settings.cookie.same_site.map(same_site)),
        "response_headers" => pairs(&settings.response_headers),
        "pass_identity_headers" => json!(values.on(name)),
        "bearer_token_format" => json!(bearer_token_format(values)),
        "jwt_issuer_format" => json!(values.choice(name).unwrap_or("hostOnly")),
        "dns_lookup_family" => json!(dns_family(settings.dns.family)),
        "proxy_log_level" => json!(log_level(settings.log.proxy_level)),
        "merge_slashes" => json!(settings.http.merge_slashes),
        "normalize_path" => json!(settings.http.normalize_path),
        "headers_with_underscores_action" => json!(underscores(settings.http.underscores)),
        "path_with_escaped_slashes_action" => json!(escaped_slashes(settings.http.escaped_slashes)),
        _ => {
            return name
                .strip_prefix("downstream_mtls.")
                .and_then(|name| mtls(values, name));
        }
    })
}

/// Of an option of a route, inherited values included.
pub(super) fn of_route(global: &Values, given: &Values, route: &RouteSettings, name: &str) -> Option<Value> {
    Some(match name {
        "websocket" => json!(route.upgrades.iter().any(|token| token == "websocket")),
        "timeout" => off_is_zero(route.timeout),
        "idle_timeout" => off_is_zero(route.idle_timeout),
        "pass_identity_headers" => json!(route.pass_identity_headers),
        "prefix_rewrite" => match route.path_rewrite.as_deref() {
            Some(PathRewrite::Prefix(prefix)) => json!(prefix),
            _ => Value::Null,
        },
        "jwt_issuer_format" => json!(match route.jwt_issuer_format {
            IssuerFormat::HostOnly => "hostOnly",
            IssuerFormat::Uri => "uri",
        }),
        "bearer_token_format" => match given.choice(name).filter(|format| *format != "unknown") {
            Some(format) => json!(format),
            None => json!(bearer_token_format(global)),
        },
        "load_balancing_policy" => json!(load_balancing(route.balance.policy)),
        "redirect.response_code" => match &route.action {
            Action::Redirect(redirect) => json!(redirect.status),
            _ => return None,
        },
        "response_headers" => {
            let headers = route.set_response_headers.iter();
            let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
            let headers: Vec<_> = headers
                .map(|(name, value)| (name.to_string(), text(value)))
                .collect();
            pairs(&headers)
        }
        _ => return None,
    })
}

fn internal_urls(values: &Values, name: &str, public: &str) -> Value {
    match values.some_text(name) {
        Some(url) => json!([url]),
        None => json!(services::service_urls(values, public)),
    }
}

fn mtls(values: &Values, name: &str) -> Option<Value> {
    let given = values.object("downstream_mtls");
    Some(match name {
        "enforcement" => {
            let mode = given.and_then(|mtls| mtls.choice(name));
            json!(
                mode.filter(|mode| *mode != "unknown")
                    .unwrap_or("policy_with_default_deny")
            )
        }
        "max_verify_depth" => json!(given.and_then(|mtls| mtls.int(name)).unwrap_or(1)),
        _ => return None,
    })
}

fn off_is_zero(timeout: Option<Duration>) -> Value {
    let nanos = timeout.map_or(0, |timeout| i64::try_from(timeout.as_nanos()).unwrap_or(i64::MAX));
    json!(duration::format(nanos))
}

fn bearer_token_format(values: &Values) -> &'static str {
    let given = values.choice("bearer_token_format");
    given.filter(|format| *format != "unknown").unwrap_or("default")
}

fn codec(codec: Codec) -> &'static str {
    match codec {
        Codec::Auto => "auto",
        Codec::Http1 => "http1",
        Codec::Http2 => "http2",
        Codec::Http3 => "http3",
    }
}

fn same_site(same_site: SameSite) -> &'static str {
    match same_site {
        SameSite::Strict => "strict",
        SameSite::Lax => "lax",
        SameSite::None => "none",
    }
}

fn dns_family(family: DnsFamily) -> &'static str {
    match family {
        DnsFamily::Auto => "AUTO",
        DnsFamily::V4Only => "V4_ONLY",
        DnsFamily::V6Only => "V6_ONLY",
        DnsFamily::V4Preferred => "V4_PREFERRED",
        DnsFamily::All => "ALL",
    }
}

fn log_level(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Trace => "trace",
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
        LogLevel::Off => "off",
    }
}

fn underscores(action: UnderscoreAction) -> &'static str {
    match action {
        UnderscoreAction::Allow => "allow",
        UnderscoreAction::Reject => "reject_request",
        UnderscoreAction::Drop => "drop_header",
    }
}

fn escaped_slashes(action: EscapedSlashAction) -> &'static str {
    match action {
        EscapedSlashAction::Keep => "keep_unchanged",
        EscapedSlashAction::Reject => "reject_request",
        EscapedSlashAction::UnescapeAndRedirect => "unescape_and_redirect",
        EscapedSlashAction::UnescapeAndForward => "unescape_and_forward",
    }
}

fn load_balancing(policy: LoadBalancing) -> &'static str {
    match policy {
        LoadBalancing::RoundRobin => "round_robin",
        LoadBalancing::LeastRequest => "least_request",
        LoadBalancing::RingHash => "ring_hash",
        LoadBalancing::Maglev => "maglev",
        LoadBalancing::Random => "random",
    }
}
