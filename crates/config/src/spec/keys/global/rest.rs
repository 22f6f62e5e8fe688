//! SSH, MCP, recording, and what only tunes Envoy.

use super::super::{Key, Kind};

const BLOB_STORAGE: &[Key] = &[
    Key::new("bucket_uri", Kind::Text, "Bucket."),
    Key::new("managed_prefix", Kind::Text, "Prefix of object names."),
];

const KEY_VALUE: &[Key] = &[
    Key::new("key", Kind::Text, "Descriptor key."),
    Key::new("value", Kind::Text, "Descriptor value."),
];

const UINT: Kind = Kind::Int(0, u32::MAX as i64);

pub(super) const SSH: &[Key] = &[
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

pub(super) const MISC: &[Key] = &[
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

pub(super) const ENVOY: &[Key] = &[
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
    .or("/dev/null")
    .restart()
    .tuning(),
    Key::new(
        "envoy_admin_profile_path",
        Kind::Text,
        "Tunes Envoy, which is not used.",
    )
    .or("/dev/null")
    .restart()
    .tuning(),
    Key::new(
        "envoy_bind_config_source_address",
        Kind::Text,
        "Source address of connections to upstreams.",
    ),
    Key::new(
        "envoy_bind_config_freebind",
        Kind::StrictBool,
        "Allow a source address that no interface has.",
    )
    .nullable(),
    Key::new(
        "envoy_dynamic_extensions",
        Kind::Texts,
        "Tunes Envoy, which is not used.",
    )
    .nullable()
    .tuning(),
];
