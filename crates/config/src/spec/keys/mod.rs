//! The key table: every option that can be written, with its kind, default, environment variable and whether
//! it has an effect in this version. Decoding, the unknown-key check, the start refusals, the JSON schema and
//! the documentation all read this one table.

mod choices;
mod global;
mod guard;
mod ours;
mod route;

pub use choices::{
    AUTH_STYLE, BEARER_TOKEN_FORMAT, CODEC, Choices, ENFORCEMENT, ESCAPED_SLASHES, ISSUER_FORMAT,
    LOAD_BALANCING, RATE_KEY, UNDERSCORES,
};
pub use global::MTLS;
pub use guard::{guards_access, likely_guard, nearest};
pub use ours::{BRANDING, LOCAL_IDP, LOCAL_USER};
pub use route::{REDIRECT, RESPONSE, REWRITE_HEADER, ROUTE, SUB_POLICY};

/// One option.
#[derive(Debug)]
pub struct Key {
    /// Name in a file, lower case.
    pub name: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// One line for people: schema, editor, documentation.
    pub meaning: &'static str,
    /// Default, in the text form of the environment; absent when unset is a state of its own or empty.
    pub default: Option<&'static str>,
    /// Environment variable, when it is not the upper-case name.
    pub env: Option<&'static str>,
    /// A change takes effect at the next start only.
    pub restart: bool,
    /// Set to an empty value is something else than unset.
    pub nullable: bool,
    /// Whether something reads it today.
    pub effect: Effect,
}

/// Whether a key has an effect in this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Yes.
    Built,
    /// Not yet: the start is refused when it is set to something else than its default.
    NotBuilt,
    /// It tunes a component that is not part of this program: a warning.
    Tuning,
}

/// What values a key takes.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// Boolean.
    Bool,
    /// Text.
    Text,
    /// Whole number within bounds.
    Int(i64, i64),
    /// Number.
    Float,
    /// Duration with units (`1h30m`).
    Duration,
    /// Milliseconds, a bare whole number.
    Millis,
    /// List of texts, or comma separated text.
    Texts,
    /// Map of text to text.
    TextMap,
    /// Map of text to boolean.
    BoolMap,
    /// One of several names.
    Choice(&'static Choices),
    /// Whole number; text is refused in files.
    StrictInt,
    /// Boolean; nothing else in files.
    StrictBool,
    /// Text; nothing else in files.
    StrictText,
    /// Nested options.
    Object(&'static [Key]),
    /// List of nested options.
    Objects(&'static [Key]),
    /// Map of a name to nested options.
    Named(&'static [Key]),
    /// List of routes.
    Routes,
    /// Policy (PPL).
    Policy,
    /// Rego: a script, or a list of scripts, each a text or a map of `name` and `script`.
    Scripts,
    /// Upstreams: URL, or list of `URL[,weight]`.
    Upstreams,
    /// Claims that go to headers: map, list or comma/space text.
    ClaimHeaders,
    /// Map of claim to accepted values.
    ClaimValues,
    /// Any tree; judged elsewhere.
    Free,
}

impl Key {
    pub(crate) const fn new(name: &'static str, kind: Kind, meaning: &'static str) -> Self {
        Self {
            name,
            kind,
            meaning,
            default: None,
            env: None,
            restart: false,
            nullable: false,
            effect: Effect::Built,
        }
    }

    pub(crate) const fn or(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }

    pub(crate) const fn env(mut self, name: &'static str) -> Self {
        self.env = Some(name);
        self
    }

    pub(crate) const fn restart(mut self) -> Self {
        self.restart = true;
        self
    }

    pub(crate) const fn nullable(mut self) -> Self {
        self.nullable = true;
        self
    }

    pub(crate) const fn not_built(mut self) -> Self {
        self.effect = Effect::NotBuilt;
        self
    }

    pub(crate) const fn tuning(mut self) -> Self {
        self.effect = Effect::Tuning;
        self
    }
}

/// The options at the top level of a file, in the order of the documentation.
pub fn global() -> impl Iterator<Item = &'static Key> + Clone {
    global::SECTIONS
        .iter()
        .flat_map(|section| section.iter())
        .chain(ours::GLOBAL.iter())
}

/// The option of this name at the top level.
pub fn find_global(name: &str) -> Option<&'static Key> {
    global().find(|key| key.name == name)
}

/// An option that is gone.
#[derive(Debug)]
pub struct RemovedKey {
    /// Name.
    pub name: &'static str,
    /// Whether it was a route option.
    pub route: bool,
    /// What takes its place.
    pub replacement: &'static str,
}

/// Options that were removed; a file that holds one is refused (spec config.md 3.1).
pub const REMOVED: &[RemovedKey] = &[
    removed("client_ca", "use `downstream_mtls.ca`"),
    removed("client_ca_file", "use `downstream_mtls.ca_file`"),
    removed(
        "idp_service_account",
        "describe the source of groups under `directory`",
    ),
    removed(
        "idp_refresh_directory_timeout",
        "set `refresh_timeout` of an entry of `directory`",
    ),
    removed(
        "idp_refresh_directory_interval",
        "set `refresh_interval` of an entry of `directory`",
    ),
    removed("idp_qps", "describe the source of groups under `directory`"),
    removed_route("allowed_groups", "write a `groups` rule in the route's `policy`"),
    removed_route(
        "set_authorization_header",
        "use `set_request_headers` with a `${pomerium.…}` value",
    ),
    removed("tracing_datadog_address", "use the `otel_*` options"),
    removed("tracing_jaeger_collector_endpoint", "use the `otel_*` options"),
    removed("tracing_jaeger_agent_endpoint", "use the `otel_*` options"),
    removed("tracing_zipkin_endpoint", "use the `otel_*` options"),
    removed("tracing_provider", "use the `otel_*` options"),
    removed("tracing_sample_rate", "use `otel_traces_sampler_arg`"),
];

const fn removed(name: &'static str, replacement: &'static str) -> RemovedKey {
    RemovedKey {
        name,
        route: false,
        replacement,
    }
}

const fn removed_route(name: &'static str, replacement: &'static str) -> RemovedKey {
    RemovedKey {
        name,
        route: true,
        replacement,
    }
}

/// A feature switch of `runtime_flags`.
#[derive(Debug)]
pub struct Flag {
    /// Name.
    pub name: &'static str,
    /// Value when it is not given.
    pub default: bool,
    /// Whether something reads it today.
    pub effect: Effect,
}

/// The feature switches (spec config.md 11).
pub const FLAGS: &[Flag] = &[
    flag("add_extra_metrics_labels", true, Effect::Built),
    flag("allow_any_sign_out_redirect_uri", false, Effect::Built),
    flag("authorize_use_synced_data", true, Effect::Tuning),
    flag("config_hot_reload", true, Effect::Built),
    flag("debug_admin_endpoints", false, Effect::NotBuilt),
    flag("envoy_resource_manager", true, Effect::Tuning),
    flag("grpc_databroker_keepalive", true, Effect::Tuning),
    flag("match_any_incoming_port", true, Effect::Built),
    flag("mcp", true, Effect::NotBuilt),
    flag("mcp_dynamic_client_registration", false, Effect::NotBuilt),
    flag("pomerium_jwt_endpoint", false, Effect::Built),
    flag("refresh_session_at_id_token_expiration", true, Effect::Built),
    flag("routes_portal", true, Effect::Built),
    flag("set_envoy_concurrency_to_go_max_procs", true, Effect::Tuning),
    flag("ssh_allow_direct_tcpip", false, Effect::NotBuilt),
    flag("ssh_routes_portal", false, Effect::NotBuilt),
    flag("ssh_upstream_tunnel", false, Effect::NotBuilt),
];

const fn flag(name: &'static str, default: bool, effect: Effect) -> Flag {
    Flag {
        name,
        default,
        effect,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_lower_case() {
        let mut seen = HashSet::new();
        for key in global() {
            assert!(seen.insert(key.name), "{} twice", key.name);
            assert_eq!(key.name, key.name.to_lowercase());
            assert!(!key.meaning.is_empty());
        }
        let mut seen = HashSet::new();
        for key in ROUTE {
            assert!(seen.insert(key.name), "{} twice", key.name);
        }
    }

    #[test]
    fn every_default_decodes() {
        for key in global().chain(ROUTE) {
            if let Some(text) = key.default {
                let node = crate::spec::node::Node::env("X", text);
                assert!(
                    crate::spec::decode::decode_text_value(key, &node).is_ok(),
                    "{}",
                    key.name
                );
            }
        }
    }

    #[test]
    fn removed_names_are_not_in_the_table() {
        for removed in REMOVED {
            assert!(find_global(removed.name).is_none());
            assert!(!ROUTE.iter().any(|key| key.name == removed.name));
        }
    }
}
