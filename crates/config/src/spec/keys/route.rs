//! The options of a route (spec config.md 9.8).

use super::{AUTH_STYLE, BEARER_TOKEN_FORMAT, ISSUER_FORMAT, Key, Kind, LOAD_BALANCING, RATE_KEY};

const UINT: Kind = Kind::Int(0, u32::MAX as i64);
const PORT: Kind = Kind::Int(0, u16::MAX as i64);

/// `redirect`.
pub const REDIRECT: &[Key] = &[
    Key::new(
        "https_redirect",
        Kind::Bool,
        "Redirect to https; `scheme_redirect` is then ignored.",
    )
    .nullable(),
    Key::new("scheme_redirect", Kind::Text, "Scheme of the new location.").nullable(),
    Key::new("host_redirect", Kind::Text, "Host of the new location.").nullable(),
    Key::new("port_redirect", PORT, "Port of the new location.").nullable(),
    Key::new("path_redirect", Kind::Text, "Whole path of the new location.").nullable(),
    Key::new(
        "prefix_rewrite",
        Kind::Text,
        "Replacement of the matched path prefix.",
    )
    .nullable(),
    Key::new(
        "response_code",
        Kind::Int(0, 999),
        "Status: 301, 302, 303, 307 or 308.",
    )
    .nullable(),
    Key::new("strip_query", Kind::Bool, "Drop the query."),
];

/// `response`.
pub const RESPONSE: &[Key] = &[
    Key::new("status", Kind::Int(0, 999), "Status of the answer."),
    Key::new("body", Kind::Text, "Body of the answer."),
];

/// An item of `rewrite_response_headers`.
pub const REWRITE_HEADER: &[Key] = &[
    Key::new("header", Kind::Text, "Response header."),
    Key::new("prefix", Kind::Text, "Beginning of its value that is replaced."),
    Key::new("value", Kind::Text, "Replacement."),
];

/// An item of `sub_policies`.
pub const SUB_POLICY: &[Key] = &[
    Key::new("id", Kind::Text, "Identifier."),
    Key::new("name", Kind::Text, "Display name."),
    Key::new("allowed_users", Kind::Texts, "Users by id or e-mail."),
    Key::new("allowed_domains", Kind::Texts, "E-mail domains."),
    Key::new(
        "allowed_idp_claims",
        Kind::ClaimValues,
        "Claims with accepted values.",
    ),
    Key::new("rego", Kind::Texts, "Rego scripts."),
    Key::new("source_ppl", Kind::Text, "Policy language source."),
    Key::new(
        "explanation",
        Kind::Text,
        "What it is about, in Markdown: shown to people who are denied, with `show_error_details`.",
    ),
    Key::new(
        "remediation",
        Kind::Text,
        "What a denied person can do, in Markdown.",
    ),
];

/// `circuit_breaker_thresholds`.
pub const BREAKER: &[Key] = &[
    Key::new("max_connections", Kind::StrictInt, "Connections to the upstream."),
    Key::new(
        "max_pending_requests",
        Kind::StrictInt,
        "Requests that wait for a connection.",
    ),
    Key::new("max_requests", Kind::StrictInt, "Requests in flight."),
    Key::new("max_retries", Kind::StrictInt, "Retries in flight."),
    Key::new("max_connection_pools", Kind::StrictInt, "Connection pools.").tuning(),
];

const OAUTH2_ENDPOINT: &[Key] = &[
    Key::new("auth_url", Kind::Text, "Authorization endpoint."),
    Key::new("token_url", Kind::Text, "Token endpoint."),
    Key::new(
        "auth_style",
        Kind::Choice(&AUTH_STYLE),
        "How the client secret is sent.",
    ),
];

const UPSTREAM_OAUTH2: &[Key] = &[
    Key::new("client_id", Kind::Text, "OAuth client id at the upstream."),
    Key::new(
        "client_secret",
        Kind::Text,
        "OAuth client secret at the upstream.",
    ),
    Key::new(
        "endpoint",
        Kind::Object(OAUTH2_ENDPOINT),
        "OAuth endpoints of the upstream.",
    ),
    Key::new("scopes", Kind::Texts, "Scopes asked for."),
    Key::new(
        "authorization_url_params",
        Kind::TextMap,
        "Extra parameters of the authorization URL.",
    ),
];

const MCP_SERVER: &[Key] = &[
    Key::new(
        "upstream_oauth2",
        Kind::Object(UPSTREAM_OAUTH2),
        "OAuth to the upstream.",
    ),
    Key::new(
        "max_request_bytes",
        UINT,
        "Bytes of a body that policies may read.",
    )
    .or("4096"),
    Key::new("path", Kind::Text, "Path of the server in listings.").or("/"),
    Key::new(
        "authorization_server_url",
        Kind::Text,
        "Issuer to fall back to, https.",
    ),
];

const MCP: &[Key] = &[
    Key::new(
        "server",
        Kind::Object(MCP_SERVER),
        "The upstream is an MCP server.",
    ),
    Key::new("client", Kind::Object(&[]), "The upstream is an MCP client."),
];

const UPSTREAM_TUNNEL: &[Key] = &[
    Key::new("ssh_policy", Kind::Policy, "Who may open the tunnel."),
    Key::new("ssh_policy_rego", Kind::Texts, "The same in Rego."),
];

const SESSION_RECORDING: &[Key] = &[Key::new(
    "enabled",
    Kind::Bool,
    "Record the sessions of this route.",
)];

/// `rate_limit`.
pub const RATE_LIMIT: &[Key] = &[
    Key::new("requests", UINT, "Requests per period."),
    Key::new("per", Kind::Duration, "The period; 1s unless set."),
    Key::new("burst", UINT, "Requests at once; `requests` unless set."),
    Key::new(
        "key",
        Kind::Choice(&RATE_KEY),
        "What has a bucket of its own: client, user or route.",
    ),
];

/// Every option of a route.
pub const ROUTE: &[Key] = &[
    // what matches
    Key::new(
        "from",
        Kind::Text,
        "Public address, for instance https://app.example.com.",
    ),
    Key::new(
        "name",
        Kind::Text,
        "Display name; also the prefix of metric names.",
    ),
    Key::new("description", Kind::Text, "Text in the portal."),
    Key::new("logo_url", Kind::Text, "Icon in the portal."),
    Key::new("prefix", Kind::Text, "Paths that begin with this."),
    Key::new("path", Kind::Text, "Exactly this path."),
    Key::new(
        "regex",
        Kind::Text,
        "Paths that match this regular expression as a whole.",
    ),
    Key::new(
        "regex_priority_order",
        Kind::Int(i64::MIN, i64::MAX),
        "Order among regex routes of records.",
    )
    .tuning(),
    // where it goes
    Key::new(
        "to",
        Kind::Upstreams,
        "Upstream URL, or a list of them, each with an optional `,weight`.",
    ),
    Key::new("redirect", Kind::Object(REDIRECT), "Answer with a redirect."),
    Key::new("response", Kind::Object(RESPONSE), "Answer with a fixed text."),
    Key::new(
        "depends_on",
        Kind::Texts,
        "Hosts that people are signed in to along with this one.",
    ),
    // who may
    Key::new("policy", Kind::Policy, "Who may, in the policy language."),
    Key::new(
        "rego",
        Kind::Scripts,
        "Who may, in Rego: scripts beside `policy`, whose results are joined with its.",
    ),
    Key::new(
        "allow_public_unauthenticated_access",
        Kind::Bool,
        "Everybody may, without signing in.",
    )
    .or("false"),
    Key::new(
        "allow_any_authenticated_user",
        Kind::Bool,
        "Everybody who is signed in may.",
    )
    .or("false"),
    Key::new("allowed_users", Kind::Texts, "Users who may, by id or e-mail."),
    Key::new("allowed_domains", Kind::Texts, "E-mail domains whose users may."),
    Key::new(
        "allowed_idp_claims",
        Kind::ClaimValues,
        "Claims whose holders may.",
    ),
    Key::new(
        "cors_allow_preflight",
        Kind::Bool,
        "Let CORS preflight requests through without signing in.",
    )
    .or("false"),
    Key::new(
        "sub_policies",
        Kind::Objects(SUB_POLICY),
        "Policies with a name and words of their own, as the console writes them.",
    ),
    Key::new(
        "bearer_token_format",
        Kind::Choice(&BEARER_TOKEN_FORMAT),
        "How bearer tokens are read.",
    )
    .nullable()
    .not_built(),
    Key::new(
        "identity_providers",
        Kind::Texts,
        "Token issuers this route accepts.",
    )
    .not_built(),
    Key::new("idp_client_id", Kind::Text, "OAuth client id for this route."),
    Key::new(
        "idp_client_secret",
        Kind::Text,
        "OAuth client secret for this route.",
    ),
    Key::new(
        "idp_access_token_allowed_audiences",
        Kind::Texts,
        "Accepted audiences of access tokens.",
    )
    .nullable()
    .not_built(),
    Key::new(
        "show_error_details",
        Kind::Bool,
        "Tell people on the error page which rule denied.",
    )
    .or("false"),
    // shaping
    Key::new(
        "prefix_rewrite",
        Kind::Text,
        "Replaces the matched prefix on the way up.",
    ),
    Key::new("regex_rewrite_pattern", Kind::Text, "Pattern of a path rewrite."),
    Key::new(
        "regex_rewrite_substitution",
        Kind::Text,
        "Its substitution, with \\1 for groups.",
    ),
    Key::new("host_rewrite", Kind::Text, "Host header to the upstream."),
    Key::new(
        "host_rewrite_header",
        Kind::Text,
        "Request header that gives the Host to the upstream.",
    ),
    Key::new(
        "host_path_regex_rewrite_pattern",
        Kind::Text,
        "Pattern that takes the Host from the path.",
    ),
    Key::new(
        "host_path_regex_rewrite_substitution",
        Kind::Text,
        "Its substitution.",
    ),
    Key::new("preserve_host_header", Kind::Bool, "Hand the Host on as it came.").or("false"),
    Key::new(
        "set_request_headers",
        Kind::TextMap,
        "Headers to set; values may hold ${pomerium.…} templates.",
    ),
    Key::new(
        "remove_request_headers",
        Kind::Texts,
        "Request headers to remove.",
    ),
    Key::new(
        "set_response_headers",
        Kind::TextMap,
        "Response headers to set; the key `disable` sets none.",
    )
    .nullable(),
    Key::new(
        "rewrite_response_headers",
        Kind::Objects(REWRITE_HEADER),
        "Response header prefixes to replace.",
    ),
    Key::new(
        "pass_identity_headers",
        Kind::Bool,
        "Send the signed identity assertion to the upstream.",
    )
    .nullable(),
    Key::new(
        "jwt_issuer_format",
        Kind::Choice(&ISSUER_FORMAT),
        "Form of `iss` in the assertion.",
    )
    .nullable(),
    Key::new(
        "jwt_groups_filter",
        Kind::Texts,
        "Ids of the directory's groups that are kept in the assertion, beside the global ones.",
    ),
    Key::new(
        "enable_google_cloud_serverless_authentication",
        Kind::Bool,
        "Send a Google Cloud identity token.",
    )
    .or("false"),
    Key::new(
        "kubernetes_service_account_token",
        Kind::Text,
        "Token for a Kubernetes API upstream.",
    ),
    Key::new(
        "kubernetes_service_account_token_file",
        Kind::Text,
        "The same from a file.",
    ),
    // connection
    Key::new("timeout", Kind::Duration, "Whole response time; 0 is off.").nullable(),
    Key::new("idle_timeout", Kind::Duration, "Time without any byte; 0 is off.").nullable(),
    Key::new("allow_websockets", Kind::Bool, "Let WebSocket upgrades through.").or("false"),
    Key::new("allow_spdy", Kind::Bool, "Let SPDY upgrades through.").or("false"),
    Key::new(
        "allow_upgrades",
        Kind::Texts,
        "Upgrades to let through; replaces the global list.",
    )
    .nullable(),
    // TLS to the upstream
    Key::new(
        "tls_skip_verify",
        Kind::Bool,
        "Do not verify the upstream certificate.",
    )
    .or("false"),
    Key::new("tls_server_name", Kind::Text, "Name to send and verify."),
    Key::new(
        "tls_upstream_server_name",
        Kind::Text,
        "The same; wins over `tls_server_name`.",
    ),
    Key::new(
        "tls_downstream_server_name",
        Kind::Text,
        "One more server name of this route.",
    ),
    Key::new(
        "tls_custom_ca",
        Kind::Text,
        "Trust roots for this upstream, base64 of PEM.",
    ),
    Key::new("tls_custom_ca_file", Kind::Text, "The same from a PEM file."),
    Key::new(
        "tls_client_cert",
        Kind::Text,
        "Client certificate, base64 of PEM.",
    ),
    Key::new("tls_client_key", Kind::Text, "Its key, base64 of PEM."),
    Key::new(
        "tls_client_cert_file",
        Kind::Text,
        "Client certificate, PEM file.",
    ),
    Key::new("tls_client_key_file", Kind::Text, "Its key, PEM file."),
    Key::new(
        "tls_downstream_client_ca",
        Kind::Text,
        "Client CA of this route (deprecated), base64 of PEM.",
    ),
    Key::new(
        "tls_downstream_client_ca_file",
        Kind::Text,
        "The same from a PEM file.",
    ),
    Key::new(
        "tls_upstream_allow_renegotiation",
        Kind::Bool,
        "Allow TLS renegotiation; only false is possible.",
    )
    .or("false"),
    // balance and health
    Key::new(
        "load_balancing_policy",
        Kind::Choice(&LOAD_BALANCING),
        "How an endpoint is chosen.",
    )
    .or("round_robin"),
    Key::new("health_checks", Kind::Free, "Active health checks."),
    Key::new("outlier_detection", Kind::Free, "Passive health checks.").nullable(),
    Key::new(
        "healthy_panic_threshold",
        Kind::StrictInt,
        "Percentage below which health is ignored.",
    )
    .nullable(),
    Key::new(
        "circuit_breaker_thresholds",
        Kind::Object(BREAKER),
        "Limits per upstream.",
    ),
    // MCP, SSH, recording
    Key::new("mcp", Kind::Object(MCP), "Model Context Protocol.")
        .nullable()
        .not_built(),
    Key::new(
        "upstream_tunnel",
        Kind::Object(UPSTREAM_TUNNEL),
        "Upstream behind a reverse tunnel.",
    )
    .nullable()
    .not_built(),
    Key::new(
        "session_recording",
        Kind::Object(SESSION_RECORDING),
        "Recording of SSH sessions.",
    )
    .not_built(),
    // not in the original
    Key::new("idp", Kind::Text, "Name of the sign-in provider of this route.").not_built(),
    Key::new(
        "rate_limit",
        Kind::Object(RATE_LIMIT),
        "Token bucket for this route.",
    )
    .nullable(),
];
