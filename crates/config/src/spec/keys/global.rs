//! The options at the top level of a file (spec config.md 8).

use super::route::BREAKER;
use super::{
    BEARER_TOKEN_FORMAT, CODEC, ENFORCEMENT, ESCAPED_SLASHES, ISSUER_FORMAT, Key, Kind, UNDERSCORES,
};

const UINT: Kind = Kind::Int(0, u32::MAX as i64);
const INT32: Kind = Kind::Int(i32::MIN as i64, i32::MAX as i64);

const CERTIFICATE_PAIR: &[Key] = &[
    Key::new("cert", Kind::Text, "PEM file with the chain."),
    Key::new("key", Kind::Text, "PEM file with the key."),
];

const CLUSTER_NODE: &[Key] = &[
    Key::new("id", Kind::StrictText, "Name of the node."),
    Key::new("grpc_address", Kind::StrictText, "URL of its gRPC listener."),
    Key::new(
        "raft_address",
        Kind::StrictText,
        "host:port of its raft listener.",
    ),
];

const IDENTITY_PROVIDER: &[Key] = &[
    Key::new("issuer", Kind::Text, "Issuer of the tokens, https."),
    Key::new(
        "jwks_url",
        Kind::Text,
        "Keys of the issuer; by discovery when absent.",
    ),
    Key::new("supported_algs", Kind::Texts, "Accepted signature algorithms."),
    Key::new("audiences", Kind::Texts, "Accepted audiences."),
    Key::new("jwksurl", Kind::Text, "Other spelling of `jwks_url`."),
    Key::new(
        "supportedalgs",
        Kind::Texts,
        "Other spelling of `supported_algs`.",
    ),
];

const MTLS: &[Key] = &[
    Key::new("ca", Kind::Text, "Client CA bundle, base64 of PEM.").env("DOWNSTREAM_MTLS_CA"),
    Key::new("ca_file", Kind::Text, "Client CA bundle, PEM file.").env("DOWNSTREAM_MTLS_CA_FILE"),
    Key::new("crl", Kind::Text, "Revocation lists, base64 of PEM.").env("DOWNSTREAM_MTLS_CRL"),
    Key::new("crl_file", Kind::Text, "Revocation lists, PEM file.").env("DOWNSTREAM_MTLS_CRL_FILE"),
    Key::new(
        "enforcement",
        Kind::Choice(&ENFORCEMENT),
        "What happens without a valid client certificate.",
    )
    .env("DOWNSTREAM_MTLS_ENFORCEMENT")
    .nullable(),
    Key::new(
        "match_subject_alt_names",
        Kind::Free,
        "Patterns of accepted names in client certificates.",
    )
    .env("DOWNSTREAM_MTLS_MATCH_SUBJECT_ALT_NAMES"),
    Key::new(
        "max_verify_depth",
        UINT,
        "Longest accepted chain; 0 is unlimited.",
    )
    .env("DOWNSTREAM_MTLS_MAX_VERIFY_DEPTH")
    .nullable(),
];

const BLOB_STORAGE: &[Key] = &[
    Key::new("bucket_uri", Kind::Text, "Bucket."),
    Key::new("managed_prefix", Kind::Text, "Prefix of object names."),
];

const KEY_VALUE: &[Key] = &[
    Key::new("key", Kind::Text, "Descriptor key."),
    Key::new("value", Kind::Text, "Descriptor value."),
];

/// All sections.
pub(super) const SECTIONS: &[&[Key]] = &[
    ROUTES,
    PROCESS,
    LOGS,
    SECRETS,
    CERTIFICATES,
    AUTOCERT,
    SERVICE_URLS,
    DATABROKER,
    IDENTITY,
    COOKIES,
    DOWNSTREAM,
    HTTP,
    DNS,
    METRICS,
    OTEL,
    SSH,
    MISC,
    ENVOY,
];

const ROUTES: &[Key] = &[
    Key::new("routes", Kind::Routes, "Routes, in order of evaluation."),
    Key::new(
        "policy",
        Kind::Routes,
        "Old name of `routes`; evaluated before them.",
    ),
    Key::new("policy_file", Kind::Text, "No longer supported."),
];

const PROCESS: &[Key] = &[
    Key::new(
        "services",
        Kind::Text,
        "Services of this process, comma separated.",
    )
    .or("all")
    .restart(),
    Key::new("address", Kind::Text, "Main listener, host:port.").or(":443"),
    Key::new("insecure_server", Kind::Bool, "Plain HTTP on the main listener.").or("false"),
    Key::new(
        "http_redirect_addr",
        Kind::Text,
        "Plain listener that redirects to https.",
    ),
    Key::new("grpc_address", Kind::Text, "Internal gRPC listener.")
        .or(":443")
        .not_built(),
    Key::new("grpc_insecure", Kind::Bool, "No TLS on the gRPC listener.")
        .nullable()
        .not_built(),
    Key::new(
        "grpc_client_timeout",
        Kind::Duration,
        "Time limit of calls between services.",
    )
    .or("10s")
    .tuning(),
    Key::new("use_proxy_protocol", Kind::Bool, "Expect PROXY protocol headers.")
        .or("false")
        .not_built(),
    Key::new(
        "codec_type",
        Kind::Choice(&CODEC),
        "HTTP versions of the main listener.",
    )
    .nullable(),
    Key::new(
        "installation_id",
        Kind::Text,
        "Name of this installation in metrics.",
    ),
    Key::new("health_check_addr", Kind::Text, "Health listener, host:port.")
        .or("127.0.0.1:28080")
        .restart(),
    Key::new(
        "health_check_systemd_disabled",
        Kind::Bool,
        "Do not report health to systemd.",
    )
    .or("false")
    .restart(),
    Key::new("debug_address", Kind::StrictText, "Listener of debug endpoints.")
        .nullable()
        .not_built(),
];

const LOGS: &[Key] = &[
    Key::new("log_level", Kind::Text, "Log level.").or("info"),
    Key::new(
        "proxy_log_level",
        Kind::Text,
        "Log level of the data plane; empty is `log_level`.",
    ),
    Key::new("access_log_fields", Kind::Texts, "Fields of the access log.").nullable(),
    Key::new(
        "authorize_log_fields",
        Kind::Texts,
        "Fields of the authorize log.",
    )
    .nullable(),
];

const SECRETS: &[Key] = &[
    Key::new(
        "shared_secret",
        Kind::Text,
        "Key between services, base64 of 32 bytes; generated when unset.",
    ),
    Key::new("shared_secret_file", Kind::Text, "File with the shared secret."),
    Key::new(
        "cookie_secret",
        Kind::Text,
        "Key of sign-in cookies, base64 of 32 bytes.",
    ),
    Key::new("cookie_secret_file", Kind::Text, "File with the cookie secret."),
    Key::new(
        "signing_key",
        Kind::Text,
        "Key that signs assertions, PEM or base64 of PEM.",
    ),
    Key::new("signing_key_file", Kind::Text, "File with the signing key."),
];

const CERTIFICATES: &[Key] = &[
    Key::new("certificate", Kind::Text, "Server certificate, base64 of PEM."),
    Key::new("certificate_key", Kind::Text, "Its key, base64 of PEM."),
    Key::new("certificate_file", Kind::Text, "Server certificate, PEM file."),
    Key::new("certificate_key_file", Kind::Text, "Its key, PEM file."),
    Key::new(
        "certificates",
        Kind::Objects(CERTIFICATE_PAIR),
        "More certificates, as files.",
    ),
    Key::new(
        "certificate_authority",
        Kind::Text,
        "Extra trust roots, base64 of PEM.",
    ),
    Key::new(
        "certificate_authority_file",
        Kind::Text,
        "Extra trust roots, PEM file.",
    ),
    Key::new(
        "override_certificate_name",
        Kind::Text,
        "Server name expected on internal URLs.",
    )
    .not_built(),
    Key::new(
        "tls_derive",
        Kind::Text,
        "Domain of an internal CA derived from the shared secret.",
    )
    .nullable()
    .not_built(),
];

const AUTOCERT: &[Key] = &[
    Key::new("autocert", Kind::Bool, "Certificates by ACME.")
        .or("false")
        .not_built(),
    Key::new("autocert_ca", Kind::Text, "ACME directory.").not_built(),
    Key::new("autocert_email", Kind::Text, "E-mail of the ACME account.").not_built(),
    Key::new(
        "autocert_use_staging",
        Kind::Bool,
        "Staging directory of Let's Encrypt.",
    )
    .or("false")
    .not_built(),
    Key::new(
        "autocert_eab_key_id",
        Kind::Text,
        "Key id of an external account.",
    )
    .not_built(),
    Key::new(
        "autocert_eab_mac_key",
        Kind::Text,
        "Key of an external account, base64url.",
    )
    .not_built(),
    Key::new(
        "autocert_must_staple",
        Kind::Bool,
        "Ask for must-staple certificates.",
    )
    .or("false")
    .not_built(),
    Key::new("autocert_dir", Kind::Text, "Folder or bucket of certificates.").not_built(),
    Key::new(
        "autocert_trusted_ca",
        Kind::Text,
        "Trust roots of the ACME server, base64 of PEM.",
    )
    .not_built(),
    Key::new(
        "autocert_trusted_ca_file",
        Kind::Text,
        "Trust roots of the ACME server, PEM file.",
    )
    .not_built(),
];

const SERVICE_URLS: &[Key] = &[
    Key::new(
        "authenticate_service_url",
        Kind::Text,
        "Public URL where people sign in.",
    ),
    Key::new(
        "authenticate_internal_service_url",
        Kind::Text,
        "URL of the same for other services.",
    ),
    Key::new("authorize_service_url", Kind::Text, "Authorize service.").not_built(),
    Key::new("authorize_service_urls", Kind::Texts, "More of them.").not_built(),
    Key::new(
        "authorize_internal_service_url",
        Kind::Text,
        "Internal URL of the authorize service.",
    )
    .not_built(),
    Key::new("databroker_service_url", Kind::Text, "Databroker.").not_built(),
    Key::new("databroker_service_urls", Kind::Texts, "More of them.").not_built(),
    Key::new(
        "databroker_internal_service_url",
        Kind::Text,
        "Internal URL of the databroker.",
    )
    .not_built(),
    Key::new(
        "signout_redirect_url",
        Kind::Text,
        "Where people go after signing out.",
    ),
];

const DATABROKER: &[Key] = &[
    Key::new(
        "databroker_storage_type",
        Kind::Text,
        "Where records are kept: file, memory or postgres.",
    )
    .or("file"),
    Key::new(
        "databroker_storage_connection_string",
        Kind::Text,
        "Folder or data source of the storage.",
    ),
    Key::new(
        "databroker_storage_connection_string_file",
        Kind::Text,
        "File with the same.",
    ),
    Key::new(
        "databroker_cluster_node_id",
        Kind::StrictText,
        "This node of a cluster.",
    )
    .nullable()
    .not_built(),
    Key::new(
        "databroker_cluster_leader_id",
        Kind::StrictText,
        "Leader of the cluster.",
    )
    .nullable()
    .not_built(),
    Key::new(
        "databroker_cluster_nodes",
        Kind::Objects(CLUSTER_NODE),
        "Nodes of the cluster.",
    )
    .not_built(),
    Key::new("databroker_raft_bind_address", Kind::StrictText, "Raft listener.")
        .nullable()
        .not_built(),
];

const IDENTITY: &[Key] = &[
    Key::new("idp_provider", Kind::Text, "Identity provider: oidc or local."),
    Key::new("idp_provider_url", Kind::Text, "Issuer URL of the provider."),
    Key::new("idp_client_id", Kind::Text, "OAuth client id."),
    Key::new("idp_client_secret", Kind::Text, "OAuth client secret."),
    Key::new(
        "idp_client_secret_file",
        Kind::Text,
        "File with the client secret.",
    ),
    Key::new(
        "idp_scopes",
        Kind::Texts,
        "Scopes; replaces the defaults of the provider.",
    ),
    Key::new(
        "idp_request_params",
        Kind::TextMap,
        "Extra parameters of the authorization request.",
    ),
    Key::new(
        "idp_access_token_allowed_audiences",
        Kind::Texts,
        "Accepted audiences of access tokens.",
    )
    .nullable()
    .not_built(),
    Key::new(
        "identity_providers",
        Kind::Named(IDENTITY_PROVIDER),
        "Issuers of bearer tokens.",
    )
    .not_built(),
    Key::new(
        "bearer_token_format",
        Kind::Choice(&BEARER_TOKEN_FORMAT),
        "How bearer tokens are read.",
    )
    .or("default")
    .not_built(),
    Key::new(
        "jwt_issuer_format",
        Kind::Choice(&ISSUER_FORMAT),
        "Form of `iss` in the assertion.",
    )
    .nullable(),
    Key::new(
        "jwt_claims_headers",
        Kind::ClaimHeaders,
        "Claims that go to request headers of their own.",
    ),
];

const COOKIES: &[Key] = &[
    Key::new("cookie_name", Kind::Text, "Name of the session cookie.").or("_pomerium"),
    Key::new(
        "cookie_domain",
        Kind::Text,
        "Domain of cookies; host-only when empty.",
    ),
    Key::new("cookie_http_only", Kind::Bool, "Hide cookies from scripts.").or("true"),
    Key::new("cookie_expire", Kind::Duration, "Lifetime of cookie and session.").or("14h"),
    Key::new(
        "cookie_same_site",
        Kind::Text,
        "SameSite of cookies: strict, lax or none.",
    ),
    Key::new(
        "programmatic_redirect_domain_whitelist",
        Kind::Texts,
        "Hosts that programmatic login may return to.",
    )
    .or("localhost"),
];

const DOWNSTREAM: &[Key] =
    &[Key::new("downstream_mtls", Kind::Object(MTLS), "Certificates of clients.").not_built()];

const HTTP: &[Key] = &[
    Key::new("timeout_read", Kind::Duration, "Time to receive a request.").or("30s"),
    Key::new(
        "timeout_write",
        Kind::Duration,
        "Longest life of a request; 0 is off.",
    )
    .or("0s"),
    Key::new(
        "timeout_idle",
        Kind::Duration,
        "Longest idle time of a connection.",
    )
    .or("5m"),
    Key::new(
        "default_upstream_timeout",
        Kind::Duration,
        "Response time where a route sets none.",
    )
    .or("30s"),
    Key::new(
        "pass_identity_headers",
        Kind::Bool,
        "Default of the route option.",
    )
    .nullable(),
    Key::new(
        "set_response_headers",
        Kind::TextMap,
        "Headers on every response; the key `disable` sets none.",
    )
    .env("HEADERS")
    .nullable(),
    Key::new(
        "skip_xff_append",
        Kind::Bool,
        "Do not add the client to X-Forwarded-For.",
    )
    .or("false"),
    Key::new(
        "xff_num_trusted_hops",
        UINT,
        "Trusted proxies in X-Forwarded-For.",
    )
    .or("0"),
    Key::new("allow_upgrades", Kind::Texts, "Upgrades that routes let through.").nullable(),
    Key::new(
        "headers_with_underscores_action",
        Kind::Choice(&UNDERSCORES),
        "Header names with an underscore.",
    )
    .nullable(),
    Key::new("merge_slashes", Kind::Bool, "Collapse // in paths.").or("true"),
    Key::new("normalize_path", Kind::Bool, "Resolve dot segments in paths.").or("true"),
    Key::new(
        "path_with_escaped_slashes_action",
        Kind::Choice(&ESCAPED_SLASHES),
        "Escaped slashes in paths.",
    )
    .nullable(),
    Key::new(
        "circuit_breaker_thresholds",
        Kind::Object(BREAKER),
        "Limits per upstream.",
    )
    .not_built(),
    Key::new(
        "google_cloud_serverless_authentication_service_account",
        Kind::Text,
        "Service account for Google Cloud identity tokens.",
    )
    .not_built(),
];

const DNS: &[Key] = &[
    Key::new("dns_lookup_family", Kind::Text, "Address families of lookups.").not_built(),
    Key::new("dns_refresh_rate", Kind::Duration, "Refresh of names.")
        .nullable()
        .tuning(),
    Key::new(
        "dns_failure_refresh_rate",
        Kind::Duration,
        "Refresh of names that failed.",
    )
    .nullable()
    .tuning(),
    Key::new("dns_query_timeout", Kind::Duration, "Time limit per server.")
        .nullable()
        .tuning(),
    Key::new("dns_query_tries", Kind::StrictInt, "Attempts.")
        .nullable()
        .tuning(),
    Key::new("dns_udp_max_queries", Kind::StrictInt, "Queries per UDP port.")
        .or("100")
        .tuning(),
    Key::new("dns_use_tcp", Kind::StrictBool, "Lookups over TCP.")
        .nullable()
        .tuning(),
    Key::new("dns_resolvers", Kind::Texts, "Name servers.").not_built(),
];

const METRICS: &[Key] = &[
    Key::new("metrics_address", Kind::Text, "Prometheus listener, host:port."),
    Key::new(
        "metrics_basic_auth",
        Kind::Text,
        "Credentials of the metrics listener, base64 of user:password.",
    ),
    Key::new(
        "metrics_certificate",
        Kind::Text,
        "Certificate of the metrics listener, base64 of PEM.",
    )
    .not_built(),
    Key::new("metrics_certificate_key", Kind::Text, "Its key, base64 of PEM.").not_built(),
    Key::new(
        "metrics_certificate_file",
        Kind::Text,
        "Certificate of the metrics listener, PEM file.",
    )
    .not_built(),
    Key::new("metrics_certificate_key_file", Kind::Text, "Its key, PEM file.").not_built(),
    Key::new(
        "metrics_client_ca",
        Kind::Text,
        "Client CA of the metrics listener, base64 of PEM.",
    )
    .not_built(),
    Key::new(
        "metrics_client_ca_file",
        Kind::Text,
        "Client CA of the metrics listener, PEM file.",
    )
    .not_built(),
];

const OTEL: &[Key] = &[
    Key::new("otel_traces_exporter", Kind::Text, "`otlp` exports traces.").nullable(),
    Key::new("otel_exporter_otlp_endpoint", Kind::Text, "OTLP endpoint.").nullable(),
    Key::new(
        "otel_exporter_otlp_traces_endpoint",
        Kind::Text,
        "OTLP endpoint of traces.",
    )
    .nullable(),
    Key::new(
        "otel_exporter_otlp_protocol",
        Kind::Text,
        "grpc or http/protobuf.",
    )
    .nullable(),
    Key::new(
        "otel_exporter_otlp_traces_protocol",
        Kind::Text,
        "The same for traces.",
    )
    .nullable(),
    Key::new(
        "otel_exporter_otlp_headers",
        Kind::Texts,
        "Headers of exports, k=v.",
    ),
    Key::new(
        "otel_exporter_otlp_traces_headers",
        Kind::Texts,
        "The same for traces.",
    ),
    Key::new(
        "otel_exporter_otlp_timeout",
        Kind::Millis,
        "Time limit of an export, milliseconds.",
    )
    .nullable(),
    Key::new(
        "otel_exporter_otlp_traces_timeout",
        Kind::Millis,
        "The same for traces.",
    )
    .nullable(),
    Key::new(
        "otel_traces_sampler_arg",
        Kind::Float,
        "Share of traces that is kept, 0 to 1.",
    )
    .nullable(),
    Key::new(
        "otel_resource_attributes",
        Kind::Texts,
        "Attributes of the resource, k=v.",
    ),
    Key::new("otel_log_level", Kind::Text, "Log level of the exporter.").nullable(),
    Key::new(
        "otel_attribute_value_length_limit",
        INT32,
        "Longest attribute value.",
    )
    .nullable(),
    Key::new(
        "otel_bsp_schedule_delay",
        Kind::Millis,
        "Delay of a batch, milliseconds.",
    )
    .nullable(),
    Key::new("otel_bsp_max_export_batch_size", INT32, "Spans per batch.").nullable(),
];

const SSH: &[Key] = &[
    Key::new("ssh_address", Kind::Text, "SSH listener.").not_built(),
    Key::new("ssh_host_key_files", Kind::Texts, "Host key files."),
    Key::new("ssh_host_keys", Kind::Texts, "Host keys, PEM."),
    Key::new(
        "ssh_user_ca_key_file",
        Kind::Text,
        "File with the CA key of user certificates.",
    ),
    Key::new("ssh_user_ca_key", Kind::Text, "CA key of user certificates, PEM."),
    Key::new(
        "ssh_rls_enabled",
        Kind::Bool,
        "Rate limit service on SSH connections.",
    )
    .or("false")
    .not_built(),
    Key::new(
        "ssh_rls_additional_entries",
        Kind::Objects(KEY_VALUE),
        "More descriptors for it.",
    )
    .not_built(),
];

const MISC: &[Key] = &[
    Key::new(
        "mcp_allowed_client_id_domains",
        Kind::Texts,
        "Domains of MCP client metadata.",
    )
    .not_built(),
    Key::new(
        "mcp_allowed_as_metadata_domains",
        Kind::Texts,
        "Domains of authorization server metadata.",
    )
    .not_built(),
    Key::new(
        "blob_storage",
        Kind::Object(BLOB_STORAGE),
        "Object store of session recordings.",
    )
    .not_built(),
    Key::new("session_recording_concurrency", UINT, "Recording workers.")
        .nullable()
        .not_built(),
    Key::new(
        "auto_apply_changesets",
        Kind::Bool,
        "Apply changes of the config API at once.",
    )
    .nullable()
    .not_built(),
    Key::new("runtime_flags", Kind::BoolMap, "Feature switches."),
];

const ENVOY: &[Key] = &[
    Key::new(
        "envoy_admin_address",
        Kind::Text,
        "Tunes Envoy, which is not used.",
    )
    .tuning(),
    Key::new(
        "envoy_admin_access_log_path",
        Kind::Text,
        "Tunes Envoy, which is not used.",
    )
    .restart()
    .tuning(),
    Key::new(
        "envoy_admin_profile_path",
        Kind::Text,
        "Tunes Envoy, which is not used.",
    )
    .restart()
    .tuning(),
    Key::new(
        "envoy_bind_config_source_address",
        Kind::Text,
        "Tunes Envoy, which is not used.",
    )
    .tuning(),
    Key::new(
        "envoy_bind_config_freebind",
        Kind::StrictBool,
        "Tunes Envoy, which is not used.",
    )
    .nullable()
    .tuning(),
    Key::new(
        "envoy_dynamic_extensions",
        Kind::Texts,
        "Tunes Envoy, which is not used.",
    )
    .nullable()
    .tuning(),
];
