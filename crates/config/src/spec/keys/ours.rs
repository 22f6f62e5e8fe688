//! Options that the original does not have (spec config.md 20).

use super::choices::{AUDIT_DECISIONS, AUDIT_FSYNC, AUTOCERT_STORAGE};
use super::{Key, Kind};
use crate::spec::keys::route::RATE_LIMIT;

/// A user of the built-in identity provider.
pub const LOCAL_USER: &[Key] = &[
    Key::new("email", Kind::Text, "E-mail address; also the login name."),
    Key::new("name", Kind::Text, "Display name."),
    Key::new("groups", Kind::Texts, "Groups."),
    Key::new(
        "password_hash",
        Kind::Text,
        "Argon2id hash as printed by `pomerium user add`.",
    ),
];

/// `local_idp`.
pub const LOCAL_IDP: &[Key] = &[
    Key::new("users", Kind::Objects(LOCAL_USER), "Users."),
    Key::new(
        "users_file",
        Kind::Text,
        "YAML list of more users; `pomerium user add` writes it.",
    ),
    Key::new("invitations", Kind::Free, "Invitations by e-mail.").not_built(),
    Key::new("passkeys", Kind::Free, "Passkeys.").not_built(),
];

/// `branding`.
pub const BRANDING: &[Key] = &[
    Key::new("primary_color", Kind::Text, "Accent colour, #rrggbb."),
    Key::new("secondary_color", Kind::Text, "Second colour, #rrggbb."),
    Key::new(
        "darkmode_primary_color",
        Kind::Text,
        "Accent colour on dark pages.",
    ),
    Key::new(
        "darkmode_secondary_color",
        Kind::Text,
        "Second colour on dark pages.",
    ),
    Key::new("logo_url", Kind::Text, "Logo."),
    Key::new("favicon_url", Kind::Text, "Icon of the browser tab."),
    Key::new(
        "error_message_first_paragraph",
        Kind::Text,
        "Text at the top of error pages.",
    ),
];

/// `autocert_dns`.
const AUTOCERT_DNS: &[Key] = &[
    Key::new("provider", Kind::Text, "How records are made: rfc2136 or exec."),
    Key::new("server", Kind::Text, "rfc2136: primary name server, host:port."),
    Key::new("zone", Kind::Text, "rfc2136: zone; asked for when unset."),
    Key::new("key_name", Kind::Text, "rfc2136: name of the TSIG key."),
    Key::new(
        "algorithm",
        Kind::Text,
        "rfc2136: hmac-sha256, hmac-sha384 or hmac-sha512.",
    ),
    Key::new("secret", Kind::Text, "rfc2136: the TSIG key, base64."),
    Key::new("secret_file", Kind::Text, "rfc2136: file with the TSIG key."),
    Key::new(
        "ttl",
        Kind::Duration,
        "rfc2136: TTL of the record; 1m unless set.",
    ),
    Key::new("program", Kind::Text, "exec: absolute path of the program."),
    Key::new("args", Kind::Texts, "exec: arguments before ours."),
    Key::new(
        "timeout",
        Kind::Duration,
        "exec: time limit of a call; 2m unless set.",
    ),
    Key::new(
        "propagation",
        Kind::Duration,
        "How long a new record may take to show; 1m unless set.",
    ),
];

/// `decision_listener`.
const DECISION_LISTENER: &[Key] = &[
    Key::new("address", Kind::Text, "Where proxies ask, host:port."),
    Key::new(
        "trusted_peers",
        Kind::Texts,
        "Networks of the proxies that may ask; what they forward is believed.",
    ),
    Key::new(
        "protocols",
        Kind::Texts,
        "forward_auth and ext_authz; both unless set.",
    ),
    Key::new("tls_certificate", Kind::Text, "Certificate, base64 of PEM."),
    Key::new("tls_certificate_file", Kind::Text, "Certificate, PEM file."),
    Key::new("tls_key", Kind::Text, "Key of the certificate, base64 of PEM."),
    Key::new("tls_key_file", Kind::Text, "Key of the certificate, PEM file."),
    Key::new(
        "tls_client_ca",
        Kind::Text,
        "Proxies must show a certificate of this authority; base64 of PEM.",
    ),
    Key::new(
        "tls_client_ca_file",
        Kind::Text,
        "Proxies must show a certificate of this authority; PEM file.",
    ),
    Key::new(
        "allow_plain_text",
        Kind::Bool,
        "Without TLS on another address than loopback: whoever reads the network reads sessions.",
    ),
];

/// An item of `audit`.
const AUDIT: &[Key] = &[
    Key::new("type", Kind::Text, "file or http."),
    Key::new(
        "decisions",
        Kind::Choice(&AUDIT_DECISIONS),
        "all, or denied: only requests that were not let in.",
    )
    .or("all"),
    Key::new(
        "inputs",
        Kind::Bool,
        "Whether records hold the inputs of every criterion, which `pomerium policy replay` needs.",
    )
    .or("true"),
    Key::new(
        "queue_bytes",
        Kind::Int(65_536, 1 << 30),
        "Bytes that may wait in memory; 16 MiB unless set.",
    ),
    Key::new("path", Kind::Text, "file: absolute path."),
    Key::new(
        "rotate_bytes",
        Kind::Int(0, i64::MAX),
        "file: size from which on a new file is begun; 100 MiB unless set, 0 leaves it to others.",
    ),
    Key::new(
        "keep",
        Kind::Int(0, 10_000),
        "file: old files that are kept; 10 unless set.",
    ),
    Key::new(
        "fsync",
        Kind::Choice(&AUDIT_FSYNC),
        "file: when records are forced to disk: never, second or always.",
    )
    .or("never"),
    Key::new("url", Kind::Text, "http: where batches are posted to."),
    Key::new("headers", Kind::TextMap, "http: headers of every batch."),
    Key::new(
        "bearer_token_file",
        Kind::Text,
        "http: file with a token for the header Authorization.",
    ),
    Key::new(
        "tls_ca_file",
        Kind::Text,
        "http: trust anchors, PEM, beside those of the system.",
    ),
    Key::new(
        "batch_size",
        Kind::Int(1, 100_000),
        "http: most records in a batch; 500 unless set.",
    ),
    Key::new(
        "batch_interval",
        Kind::Duration,
        "http: how long records are gathered; 1s unless set.",
    ),
    Key::new(
        "timeout",
        Kind::Duration,
        "http: how long an answer may take; 10s unless set.",
    ),
];

/// Top-level options of ours.
pub(super) const GLOBAL: &[Key] = &[
    Key::new(
        "data_dir",
        Kind::Text,
        "Folder of the file store, generated secrets and certificates.",
    )
    .restart(),
    Key::new(
        "certificates_dir",
        Kind::Text,
        "Folder with more server certificates and their keys.",
    ),
    Key::new(
        "local_idp",
        Kind::Object(LOCAL_IDP),
        "Built-in identity provider (`idp_provider: local`).",
    ),
    Key::new(
        "branding",
        Kind::Object(BRANDING),
        "Colours, logo and texts of generated pages.",
    ),
    Key::new(
        "trusted_proxies",
        Kind::Texts,
        "Networks of proxies whose forwarded headers are believed.",
    ),
    Key::new("idp_providers", Kind::Free, "Several sign-in providers.").not_built(),
    Key::new("directory", Kind::Free, "Sources of users and groups.").not_built(),
    Key::new("external_data", Kind::Free, "Outside data for policies.").not_built(),
    Key::new(
        "jwt_groups_filter",
        Kind::Texts,
        "Ids of the directory's groups that are kept in assertions.",
    ),
    Key::new(
        "geoip_database",
        Kind::Text,
        "File in the MaxMind format (.mmdb): where addresses are, for `record` rules of type `pomerium.io/GeoIP`.",
    ),
    Key::new(
        "groups_claim",
        Kind::Text,
        "Claim that names the groups of people whom the directory does not know; empty is none.",
    )
    .or("groups"),
    Key::new(
        "rate_limit",
        Kind::Object(RATE_LIMIT),
        "Token bucket for every route.",
    )
    .nullable(),
    Key::new(
        "autocert_dns",
        Kind::Object(AUTOCERT_DNS),
        "Certificates by DNS challenge, patterns included.",
    )
    .nullable(),
    Key::new(
        "autocert_storage",
        Kind::Choice(&AUTOCERT_STORAGE),
        "Where certificates by ACME are kept without `autocert_dir`: folder, or databroker, where replicas share them.",
    )
    .nullable(),
    Key::new(
        "decision_listener",
        Kind::Object(DECISION_LISTENER),
        "Decisions for other proxies: forward-auth and Envoy's ext_authz.",
    )
    .nullable(),
    Key::new(
        "audit",
        Kind::Objects(AUDIT),
        "Audit stream: a record of every decision.",
    ),
    Key::new(
        "databroker_encryption_keys",
        Kind::Texts,
        "Keys of records at rest, base64 of 32 bytes; the first one writes, all of them read.",
    ),
    Key::new(
        "databroker_outage_limit",
        Kind::Duration,
        "How long people stay signed in while the databroker cannot be reached.",
    )
    .or("5m"),
    Key::new(
        "http3_advertise_port",
        Kind::Int(1, u16::MAX as i64),
        "Port of HTTP/3 as clients reach it, where that is not the port listened on.",
    ),
    Key::new(
        "grpc_mutual_tls",
        Kind::Bool,
        "Services show each other certificates on the gRPC listener.",
    )
    .or("false"),
];
