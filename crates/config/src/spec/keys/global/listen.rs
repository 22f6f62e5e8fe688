//! Listeners, logs, secrets, certificates.

use super::super::{CODEC, Key, Kind};

const CERTIFICATE_PAIR: &[Key] = &[
    Key::new("cert", Kind::Text, "PEM file with the chain."),
    Key::new("key", Kind::Text, "PEM file with the key."),
];

pub(super) const ROUTES: &[Key] = &[
    Key::new("routes", Kind::Routes, "Routes, in order of evaluation."),
    Key::new(
        "policy",
        Kind::Routes,
        "Old name of `routes`; evaluated before them.",
    ),
    Key::new("policy_file", Kind::Text, "No longer supported."),
];

pub(super) const PROCESS: &[Key] = &[
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
    Key::new("grpc_address", Kind::Text, "Internal gRPC listener.").or(":443"),
    Key::new("grpc_insecure", Kind::Bool, "No TLS on the gRPC listener.").nullable(),
    Key::new(
        "grpc_client_timeout",
        Kind::Duration,
        "Time limit of calls between services.",
    )
    .or("10s")
    .tuning(),
    Key::new("use_proxy_protocol", Kind::Bool, "Expect PROXY protocol headers.").or("false"),
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

pub(super) const LOGS: &[Key] = &[
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

pub(super) const SECRETS: &[Key] = &[
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

pub(super) const CERTIFICATES: &[Key] = &[
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
    ),
    Key::new(
        "tls_derive",
        Kind::Text,
        "Domain of an internal CA derived from the shared secret.",
    )
    .nullable(),
];

pub(super) const AUTOCERT: &[Key] = &[
    Key::new("autocert", Kind::Bool, "Certificates by ACME.").or("false"),
    Key::new("autocert_ca", Kind::Text, "ACME directory."),
    Key::new("autocert_email", Kind::Text, "E-mail of the ACME account."),
    Key::new(
        "autocert_use_staging",
        Kind::Bool,
        "Staging directory of Let's Encrypt.",
    )
    .or("false"),
    Key::new(
        "autocert_eab_key_id",
        Kind::Text,
        "Key id of an external account.",
    ),
    Key::new(
        "autocert_eab_mac_key",
        Kind::Text,
        "Key of an external account, base64url.",
    ),
    Key::new(
        "autocert_must_staple",
        Kind::Bool,
        "Ask for must-staple certificates.",
    )
    .or("false"),
    Key::new("autocert_dir", Kind::Text, "Folder or bucket of certificates."),
    Key::new(
        "autocert_trusted_ca",
        Kind::Text,
        "Trust roots of the ACME server, base64 of PEM.",
    ),
    Key::new(
        "autocert_trusted_ca_file",
        Kind::Text,
        "Trust roots of the ACME server, PEM file.",
    ),
];
