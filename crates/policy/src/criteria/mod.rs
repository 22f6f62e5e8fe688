//! The criteria: which there are, what each looks at, when it holds (spec policy.md 4).
//!
//! [`Test`] is a compiled criterion; `read` builds it from what people wrote, `run` judges.

mod certificate;
mod list;
mod network;
mod read;
mod text;

use serde_json::Value;

use self::certificate::CertificateMatcher;
use self::list::ListMatcher;
use self::network::Networks;
use self::text::TextMatcher;
use crate::input::{Input, Subject};
use crate::reason::Reason;
use crate::suggest::nearest;

/// The criteria that can be judged.
pub const BUILT: [&str; 13] = [
    "accept",
    "authenticated_user",
    "claim",
    "client_certificate",
    "cors_preflight",
    "domain",
    "email",
    "http_method",
    "http_path",
    "invalid_client_certificate",
    "reject",
    "source_ip",
    "user",
];

/// Criteria of the language that cannot be judged yet. A policy that uses one compiles to an error that
/// says so, and must never be replaced by something that lets in.
pub const NOT_BUILT: [&str; 12] = [
    "date",
    "day_of_week",
    "device",
    "groups",
    "mcp_tool",
    "record",
    "ssh_ca",
    "ssh_publickey",
    "ssh_username",
    "ssh_username_matches_claim",
    "ssh_username_matches_email",
    "time_of_day",
];

/// An address or CIDR as text that names the same network, for Rego.
pub(crate) fn network_text(text: &str) -> Option<String> {
    network::parse(text).ok().map(|network| network.to_string())
}

/// The criterion somebody probably meant.
pub(crate) fn nearest_name(word: &str) -> Option<&'static str> {
    nearest(word, BUILT.into_iter().chain(NOT_BUILT))
}

/// Whether a criterion asks who somebody is: without a session it never holds, and leads to the login.
pub(crate) fn needs_session(name: &str) -> bool {
    matches!(
        name,
        "authenticated_user" | "user" | "email" | "domain" | "claim" | "groups" | "device"
    )
}

/// A compiled criterion.
#[derive(Debug)]
pub(crate) enum Test {
    Accept,
    Reject,
    AuthenticatedUser,
    User(TextMatcher),
    Email(TextMatcher),
    Domain(TextMatcher),
    Claim(String, ListMatcher),
    HttpMethod(TextMatcher),
    HttpPath(TextMatcher),
    SourceIp(Networks),
    CorsPreflight,
    ClientCertificate(Box<CertificateMatcher>),
    InvalidClientCertificate,
}

impl Test {
    /// Judges one input: whether it holds, and why.
    pub(crate) fn run(&self, input: &Input<'_>) -> (bool, Reason) {
        match self {
            Test::Accept => (true, Reason::Accept),
            Test::Reject => (false, Reason::Reject),
            Test::AuthenticatedUser => {
                signed_in(input, Reason::UserOk, Reason::UserUnauthorized, |subject| {
                    subject.user().is_some()
                })
            }
            Test::User(matcher) => signed_in(input, Reason::UserOk, Reason::UserUnauthorized, |subject| {
                subject.user().is_some_and(|user| matcher.matches(user))
            }),
            Test::Email(matcher) => signed_in(input, Reason::EmailOk, Reason::EmailUnauthorized, |subject| {
                matcher.matches(&subject.email)
            }),
            Test::Domain(matcher) => {
                signed_in(input, Reason::DomainOk, Reason::DomainUnauthorized, |subject| {
                    subject.domain().is_some_and(|domain| matcher.matches(domain))
                })
            }
            Test::Claim(name, matcher) => {
                signed_in(input, Reason::ClaimOk, Reason::ClaimUnauthorized, |subject| {
                    matcher.matches(subject.claim(name))
                })
            }
            Test::HttpMethod(matcher) => either(
                matcher.matches(input.http.method),
                Reason::HttpMethodOk,
                Reason::HttpMethodUnauthorized,
            ),
            Test::HttpPath(matcher) => either(
                matcher.matches(input.http.path),
                Reason::HttpPathOk,
                Reason::HttpPathUnauthorized,
            ),
            Test::SourceIp(networks) => {
                let inside = input
                    .http
                    .client_ip
                    .is_some_and(|address| networks.contain(address));
                either(inside, Reason::SourceIpOk, Reason::SourceIpUnauthorized)
            }
            Test::CorsPreflight => either(is_preflight(input), Reason::CorsRequest, Reason::NonCorsRequest),
            Test::ClientCertificate(matcher) => either(
                matcher.matches(&input.http.client_certificate),
                Reason::ClientCertificateOk,
                Reason::ClientCertificateUnauthorized,
            ),
            Test::InvalidClientCertificate => certificate::invalid(&input.http.client_certificate),
        }
    }

    /// Whether it is judged by who somebody is, and so needs people to sign in.
    pub(crate) fn needs_identity(&self) -> bool {
        match self {
            Test::AuthenticatedUser | Test::User(_) | Test::Email(_) | Test::Domain(_) | Test::Claim(..) => {
                true
            }
            Test::Accept
            | Test::Reject
            | Test::HttpMethod(_)
            | Test::HttpPath(_)
            | Test::SourceIp(_)
            | Test::CorsPreflight
            | Test::ClientCertificate(_)
            | Test::InvalidClientCertificate => false,
        }
    }

    /// Whether it looks at the client certificate, which is verified only for those who do.
    pub(crate) fn needs_certificate(&self) -> bool {
        matches!(self, Test::ClientCertificate(_) | Test::InvalidClientCertificate)
    }

    /// The part of the input that [`Test::run`] looks at; null when there is no such part.
    pub(crate) fn looks_at(&self, input: &Input<'_>) -> Value {
        let of_subject = |read: fn(&Subject) -> Option<&str>| {
            input
                .subject
                .and_then(read)
                .map_or(Value::Null, |text| Value::String(text.to_owned()))
        };
        match self {
            Test::Accept | Test::Reject => Value::Null,
            Test::AuthenticatedUser | Test::User(_) => of_subject(Subject::user),
            Test::Email(_) => of_subject(|subject| Some(&subject.email)),
            Test::Domain(_) => of_subject(Subject::domain),
            Test::Claim(name, _) => input
                .subject
                .map_or(Value::Null, |subject| Value::Array(subject.claim(name).to_vec())),
            Test::HttpMethod(_) => input.http.method.into(),
            Test::HttpPath(_) => input.http.path.into(),
            Test::SourceIp(_) => input
                .http
                .client_ip
                .map_or(Value::Null, |address| address.to_canonical().to_string().into()),
            Test::CorsPreflight => serde_json::json!({
                "method": input.http.method,
                "origin": input.http.headers.get("origin"),
                "access-control-request-method": input.http.headers.get("access-control-request-method"),
            }),
            Test::ClientCertificate(_) | Test::InvalidClientCertificate => {
                let certificate = &input.http.client_certificate;
                serde_json::json!({
                    "presented": certificate.presented,
                    "trust": certificate.trust.as_str(),
                    "fingerprint": certificate.leaf.map(|leaf| &leaf.fingerprint),
                })
            }
        }
    }
}

fn either(holds: bool, pass: Reason, fail: Reason) -> (bool, Reason) {
    if holds { (true, pass) } else { (false, fail) }
}

/// A criterion about identity: it never holds without a session, not even a negated or an empty one.
fn signed_in(
    input: &Input<'_>,
    pass: Reason,
    fail: Reason,
    test: impl FnOnce(&Subject) -> bool,
) -> (bool, Reason) {
    match input.subject {
        Some(subject) => either(test(subject), pass, fail),
        None => (false, Reason::UserUnauthenticated),
    }
}

fn is_preflight(input: &Input<'_>) -> bool {
    let given = |name: &str| {
        input
            .http
            .headers
            .get(name)
            .is_some_and(|value| !value.is_empty())
    };
    input.http.method == "OPTIONS" && given("access-control-request-method") && given("origin")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_known_once() {
        let mut names: Vec<_> = BUILT.into_iter().chain(NOT_BUILT).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
