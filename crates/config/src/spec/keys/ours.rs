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

/// Top-level options of ours.
pub(super) const GLOBAL: &[Key] = &[
    Key::new(
        "data_dir",
        Kind::Text,
        "Folder of the file store, generated secrets and certificates.",
    )
    .restart(),
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
        "Groups that are kept in the assertion.",
    )
    .not_built(),
    Key::new(
        "rate_limit",
        Kind::Object(RATE_LIMIT),
        "Token bucket for every route.",
    )
    .nullable()
    .not_built(),
    Key::new("autocert_dns", Kind::Free, "Certificates by DNS challenge.").not_built(),
    Key::new("decision_listener", Kind::Free, "Decisions for other proxies.").not_built(),
    Key::new("audit", Kind::Free, "Audit stream.").not_built(),
    Key::new(
        "databroker_encryption_keys",
        Kind::Texts,
        "Keys of records at rest; the first one writes.",
    )
    .not_built(),
];
