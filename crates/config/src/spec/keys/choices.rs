//! Options that take one of several names, and how loosely a name may be written (spec config.md 4.1).

/// The names of one option.
#[derive(Debug)]
pub struct Choices {
    /// Name of the type, for messages.
    pub name: &'static str,
    /// Prefix of the long spelling (`CODEC_TYPE_`).
    pub prefix: &'static str,
    /// Members; the first is meant by empty text; their index is their number.
    pub members: &'static [&'static str],
    /// Other spellings.
    pub aliases: &'static [(&'static str, &'static str)],
}

impl Choices {
    /// The member a text means: any case, with or without the prefix, or a suffix after `_`, or its number.
    pub fn find(&self, text: &str) -> Option<&'static str> {
        let text = text.to_lowercase();
        if text.is_empty() {
            return self.members.first().copied();
        }
        if let Some(alias) = self.aliases.iter().find(|(alias, _)| *alias == text) {
            return Some(alias.1);
        }
        let short = text.strip_prefix(&self.prefix.to_lowercase()).unwrap_or(&text);
        if let Some(member) = self
            .members
            .iter()
            .find(|member| member.eq_ignore_ascii_case(short))
        {
            return Some(member);
        }
        if let Ok(number) = text.parse::<usize>() {
            return self.members.get(number).copied();
        }
        self.members
            .iter()
            .find(|member| member.to_lowercase().ends_with(&format!("_{text}")))
            .copied()
    }
}

/// HTTP version downstream.
pub const CODEC: Choices = Choices {
    name: "CodecType",
    prefix: "CODEC_TYPE_",
    members: &["auto", "http1", "http2", "http3"],
    aliases: &[("unknown", "auto"), ("codec_type_unknown", "auto")],
};

/// How bearer tokens are read.
pub const BEARER_TOKEN_FORMAT: Choices = Choices {
    name: "BearerTokenFormat",
    prefix: "BEARER_TOKEN_FORMAT_",
    members: &[
        "unknown",
        "default",
        "idp_access_token",
        "idp_identity_token",
        "jwt",
    ],
    aliases: &[],
};

/// `iss` of the assertion.
pub const ISSUER_FORMAT: Choices = Choices {
    name: "IssuerFormat",
    prefix: "Issuer",
    members: &["hostOnly", "uri"],
    aliases: &[
        ("issuerhostonly", "hostOnly"),
        ("issueruri", "uri"),
        ("host_only", "hostOnly"),
    ],
};

/// Which decisions go into an audit stream.
pub(super) const AUDIT_DECISIONS: Choices = Choices {
    name: "AuditDecisions",
    prefix: "AUDIT_DECISIONS_",
    members: &["all", "denied"],
    aliases: &[],
};

/// Where certificates by ACME are kept when no folder or bucket is named.
pub(super) const AUTOCERT_STORAGE: Choices = Choices {
    name: "AutocertStorage",
    prefix: "AUTOCERT_STORAGE_",
    members: &["folder", "databroker"],
    aliases: &[],
};

/// When audit records are forced to disk.
pub(super) const AUDIT_FSYNC: Choices = Choices {
    name: "AuditFsync",
    prefix: "AUDIT_FSYNC_",
    members: &["never", "second", "always"],
    aliases: &[],
};

/// How an endpoint is chosen.
pub const LOAD_BALANCING: Choices = Choices {
    name: "LoadBalancingPolicy",
    prefix: "LOAD_BALANCING_POLICY_",
    members: &[
        "unspecified",
        "round_robin",
        "maglev",
        "random",
        "ring_hash",
        "least_request",
    ],
    aliases: &[],
};

/// What happens to requests without a valid client certificate.
pub const ENFORCEMENT: Choices = Choices {
    name: "MtlsEnforcementMode",
    prefix: "MTLS_ENFORCEMENT_MODE_",
    members: &[
        "unknown",
        "policy",
        "policy_with_default_deny",
        "reject_connection",
    ],
    aliases: &[],
};

/// What happens to header names with an underscore.
pub const UNDERSCORES: Choices = Choices {
    name: "HeadersWithUnderscoresAction",
    prefix: "HEADERS_WITH_UNDERSCORES_ACTION_",
    members: &["unknown", "allow", "reject_request", "drop_header"],
    aliases: &[],
};

/// What happens to escaped slashes in a path.
pub const ESCAPED_SLASHES: Choices = Choices {
    name: "PathWithEscapedSlashesAction",
    prefix: "PATH_WITH_ESCAPED_SLASHES_ACTION_",
    members: &[
        "unknown",
        "keep_unchanged",
        "reject_request",
        "unescape_and_redirect",
        "unescape_and_forward",
    ],
    aliases: &[],
};

/// How an OAuth client sends its secret.
pub const AUTH_STYLE: Choices = Choices {
    name: "OAuth2AuthStyle",
    prefix: "OAUTH2_AUTH_STYLE_",
    members: &["unspecified", "in_params", "in_header"],
    aliases: &[("params", "in_params"), ("header", "in_header")],
};

/// What has a bucket of its own.
pub const RATE_KEY: Choices = Choices {
    name: "RateLimitKey",
    prefix: "",
    members: &["client", "user", "route"],
    aliases: &[],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings() {
        for text in ["http3", "HTTP3", "CODEC_TYPE_HTTP3", "codec_type_http3", "3"] {
            assert_eq!(CODEC.find(text), Some("http3"), "{text}");
        }
        assert_eq!(CODEC.find(""), Some("auto"));
        assert_eq!(CODEC.find("spdy"), None);
        assert_eq!(LOAD_BALANCING.find("hash"), Some("ring_hash"));
        for text in [
            "hostOnly",
            "HOSTONLY",
            "hostonly",
            "IssuerHostOnly",
            "host_only",
            "0",
        ] {
            assert_eq!(ISSUER_FORMAT.find(text), Some("hostOnly"), "{text}");
        }
        assert_eq!(ISSUER_FORMAT.find("IssuerURI"), Some("uri"));
        assert_eq!(AUTH_STYLE.find("params"), Some("in_params"));
    }
}
