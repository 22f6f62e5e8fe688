//! Options that the original does not have (spec config.md 20).

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
        "decision_listener",
        Kind::Object(DECISION_LISTENER),
        "Decisions for other proxies: forward-auth and Envoy's ext_authz.",
    )
    .nullable(),
    Key::new("audit", Kind::Free, "Audit stream.").not_built(),
    Key::new(
        "databroker_encryption_keys",
        Kind::Texts,
        "Keys of records at rest; the first one writes.",
    )
    .not_built(),
];
