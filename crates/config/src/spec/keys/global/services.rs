//! Services, record store, sign-in, cookies, client certificates.

use super::super::{BEARER_TOKEN_FORMAT, ENFORCEMENT, ISSUER_FORMAT, Key, Kind};

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

/// `downstream_mtls`.
pub const MTLS: &[Key] = &[
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

const UINT: Kind = Kind::Int(0, u32::MAX as i64);

pub(super) const SERVICE_URLS: &[Key] = &[
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
    Key::new("authorize_service_url", Kind::Text, "Authorize service.").tuning(),
    Key::new("authorize_service_urls", Kind::Texts, "More of them.").tuning(),
    Key::new(
        "authorize_internal_service_url",
        Kind::Text,
        "Internal URL of the authorize service.",
    )
    .tuning(),
    Key::new("databroker_service_url", Kind::Text, "Databroker."),
    Key::new("databroker_service_urls", Kind::Texts, "More of them."),
    Key::new(
        "databroker_internal_service_url",
        Kind::Text,
        "Internal URL of the databroker.",
    )
    .tuning(),
    Key::new(
        "signout_redirect_url",
        Kind::Text,
        "Where people go after signing out.",
    ),
];

pub(super) const DATABROKER: &[Key] = &[
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
    .nullable(),
    Key::new(
        "databroker_cluster_leader_id",
        Kind::StrictText,
        "Leader of the cluster.",
    )
    .nullable(),
    Key::new(
        "databroker_cluster_nodes",
        Kind::Objects(CLUSTER_NODE),
        "Nodes of the cluster.",
    ),
    // Refused with advice where it is set.
    Key::new("databroker_raft_bind_address", Kind::StrictText, "Raft listener.").nullable(),
];

pub(super) const IDENTITY: &[Key] = &[
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

pub(super) const COOKIES: &[Key] = &[
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

pub(super) const DOWNSTREAM: &[Key] = &[Key::new(
    "downstream_mtls",
    Kind::Object(MTLS),
    "Certificates of clients.",
)];
