//! Which facts a criterion looks at. Every criterion of the language is named here: one that is not cannot be judged
//! from a log.

use serde_json::Value;

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

/// What the criterion under `key` looks at.
pub(super) fn of<'a>(key: &'a str, data: &'a Value) -> Need<'a> {
    let (name, sub_path) = key.split_once('/').unwrap_or((key, ""));
    match name {
        "claim" => Need::Claim(sub_path),
        "ssh_username_matches_claim" => data.as_str().map_or(Need::Unknown, Need::Claim),
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
