//! Which facts a criterion looks at. Every criterion of the language is named here: one that is not cannot be judged
//! from a log.

/// A fact that may be missing in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need<'a> {
    /// Something that every record with inputs holds, or nothing.
    Standard,
    /// A claim.
    Claim(&'a str),
    /// The client certificate.
    Certificate,
    /// Records are asked for while judging.
    Records,
    /// It is not known what the criterion looks at.
    Unknown,
}

/// What the criterion under `key`, which may look at a `claim`, looks at.
pub(super) fn of<'a>(key: &str, claim: Option<&'a str>) -> Need<'a> {
    let name = key.split_once('/').map_or(key, |(name, _)| name);
    match name {
        "claim" | "ssh_username_matches_claim" => claim.map_or(Need::Unknown, Need::Claim),
        "client_certificate" | "invalid_client_certificate" => Need::Certificate,
        "record" => Need::Records,
        "accept"
        | "reject"
        | "authenticated_user"
        | "authentication"
        | "user"
        | "email"
        | "domain"
        | "groups"
        | "device"
        | "http_method"
        | "http_path"
        | "cors_preflight"
        | "source_ip"
        | "date"
        | "day_of_week"
        | "time_of_day"
        | "mcp_tool"
        | "ssh_username"
        | "ssh_username_matches_email"
        | "ssh_publickey"
        | "ssh_ca" => Need::Standard,
        _ => Need::Unknown,
    }
}
