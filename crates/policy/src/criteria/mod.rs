//! The criteria: which there are, what each looks at, when it holds (spec policy.md 4).
//!
//! [`Test`] is a compiled criterion; `read` builds it from what people wrote, `run` judges.

mod authentication;
mod certificate;
mod device;
mod facts;
mod groups;
mod list;
pub(crate) mod network;
mod read;
mod record;
mod ssh;
mod text;
mod time;

use self::authentication::AuthenticationMatcher;
use self::certificate::CertificateMatcher;
pub(crate) use self::device::ANY as ANY_DEVICE;
use self::device::DeviceMatcher;
use self::groups::GroupsMatcher;
use self::list::ListMatcher;
use self::network::Networks;
use self::record::RecordMatcher;
use self::ssh::Keys;
use self::text::TextMatcher;
use self::time::{Dates, Days, Hours};
use crate::input::{Input, Subject};
use crate::reason::Reason;
use crate::suggest::nearest;

/// Every criterion of the language.
pub const CRITERIA: [&str; 26] = [
    "accept",
    "authenticated_user",
    "authentication",
    "claim",
    "client_certificate",
    "cors_preflight",
    "date",
    "day_of_week",
    "device",
    "domain",
    "email",
    "groups",
    "http_method",
    "http_path",
    "invalid_client_certificate",
    "mcp_tool",
    "record",
    "reject",
    "source_ip",
    "ssh_ca",
    "ssh_publickey",
    "ssh_username",
    "ssh_username_matches_claim",
    "ssh_username_matches_email",
    "time_of_day",
    "user",
];

/// An address or CIDR as text that names the same network, for Rego.
pub(crate) fn network_text(text: &str) -> Option<String> {
    network::parse(text).ok().map(|network| network.to_string())
}

/// The criterion somebody probably meant.
pub(crate) fn nearest_name(word: &str) -> Option<&'static str> {
    nearest(word, CRITERIA)
}

/// Whether a criterion asks who somebody is: without a session it never holds, and leads to the login.
pub(crate) fn needs_session(name: &str) -> bool {
    matches!(
        name,
        "authenticated_user"
            | "authentication"
            | "user"
            | "email"
            | "domain"
            | "claim"
            | "groups"
            | "device"
            | "ssh_username_matches_claim"
            | "ssh_username_matches_email"
    )
}

/// A compiled criterion.
#[derive(Debug)]
pub(crate) enum Test {
    Accept,
    Reject,
    AuthenticatedUser,
    Authentication(Box<AuthenticationMatcher>),
    User(TextMatcher),
    Email(TextMatcher),
    Domain(TextMatcher),
    Claim(Box<(String, ListMatcher)>),
    Groups(Box<GroupsMatcher>),
    Device(Box<DeviceMatcher>),
    HttpMethod(TextMatcher),
    HttpPath(TextMatcher),
    SourceIp(Networks),
    CorsPreflight,
    ClientCertificate(Box<CertificateMatcher>),
    InvalidClientCertificate,
    McpTool(TextMatcher),
    SshUsername(TextMatcher),
    SshUsernameMatchesEmail,
    SshUsernameMatchesClaim(Box<str>),
    SshPublicKey(Keys),
    SshCa(Keys),
    Date(Box<Dates>),
    DayOfWeek(Days),
    TimeOfDay(Box<Hours>),
    Record(Box<RecordMatcher>),
}

impl Test {
    /// What was written, where the test holds all of it; see [`TextMatcher::told`].
    pub(crate) fn told(&self) -> Option<serde_json::Value> {
        match self {
            Test::User(matcher)
            | Test::Email(matcher)
            | Test::Domain(matcher)
            | Test::HttpMethod(matcher)
            | Test::HttpPath(matcher)
            | Test::McpTool(matcher)
            | Test::SshUsername(matcher) => matcher.told(),
            _ => None,
        }
    }
}

impl Test {
    /// Judges one input: whether it holds, and why. Does not allocate.
    pub(crate) fn run(&self, input: &Input<'_>) -> (bool, Reason) {
        match self {
            Test::Accept => (true, Reason::Accept),
            Test::Reject => (false, Reason::Reject),
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
            Test::McpTool(matcher) => mcp_tool(matcher, input),
            Test::Date(dates) => either(dates.hold(input.now), Reason::DateOk, Reason::DateUnauthorized),
            Test::DayOfWeek(days) => either(
                days.hold(input.now),
                Reason::DayOfWeekOk,
                Reason::DayOfWeekUnauthorized,
            ),
            Test::TimeOfDay(hours) => either(
                hours.hold(input.now),
                Reason::TimeOfDayOk,
                Reason::TimeOfDayUnauthorized,
            ),
            Test::Record(matcher) => matcher.run(input),
            Test::SshUsername(_) | Test::SshPublicKey(_) | Test::SshCa(_) => self.run_ssh(input),
            _ => self.run_identity(input),
        }
    }

    fn run_ssh(&self, input: &Input<'_>) -> (bool, Reason) {
        let key = |holds| either(holds, Reason::SshPublickeyOk, Reason::SshPublickeyUnauthorized);
        match self {
            Test::SshUsername(matcher) => either(
                matcher.matches(ssh::username(input)),
                Reason::SshUsernameOk,
                Reason::SshUsernameUnauthorized,
            ),
            Test::SshPublicKey(keys) => key(keys.list(input)),
            Test::SshCa(authorities) => key(authorities.signed(input).is_ok()),
            _ => (false, Reason::Reject),
        }
    }

    fn run_identity(&self, input: &Input<'_>) -> (bool, Reason) {
        match self {
            Test::AuthenticatedUser => {
                signed_in(input, Reason::UserOk, Reason::UserUnauthorized, |subject| {
                    subject.user().is_some()
                })
            }
            Test::Authentication(matcher) => matcher.run(input),
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
            Test::Claim(claim) => signed_in(input, Reason::ClaimOk, Reason::ClaimUnauthorized, |subject| {
                let (name, matcher) = &**claim;
                matcher.matches(subject.claim(name))
            }),
            Test::Groups(matcher) => {
                signed_in(input, Reason::GroupsOk, Reason::GroupsUnauthorized, |subject| {
                    matcher.matches(subject)
                })
            }
            Test::Device(matcher) => matcher.run(input),
            Test::SshUsernameMatchesEmail => ssh_name(input, |subject| ssh::is_local_part(input, subject)),
            Test::SshUsernameMatchesClaim(claim) => {
                ssh_name(input, |subject| ssh::is_in_claim(input, subject, claim))
            }
            // What is not named here has been judged before; nothing holds by accident.
            _ => (false, Reason::Reject),
        }
    }

    /// Whether it is judged by who somebody is, and so needs people to sign in.
    pub(crate) fn needs_identity(&self) -> bool {
        match self {
            Test::AuthenticatedUser
            | Test::Authentication(_)
            | Test::User(_)
            | Test::Email(_)
            | Test::Domain(_)
            | Test::Claim(_)
            | Test::Groups(_)
            | Test::Device(_)
            | Test::SshUsernameMatchesEmail
            | Test::SshUsernameMatchesClaim(_) => true,
            Test::Record(matcher) => matcher.needs_identity(),
            Test::Accept
            | Test::Reject
            | Test::HttpMethod(_)
            | Test::HttpPath(_)
            | Test::SourceIp(_)
            | Test::CorsPreflight
            | Test::ClientCertificate(_)
            | Test::InvalidClientCertificate
            | Test::McpTool(_)
            | Test::SshUsername(_)
            | Test::SshPublicKey(_)
            | Test::SshCa(_)
            | Test::Date(_)
            | Test::DayOfWeek(_)
            | Test::TimeOfDay(_) => false,
        }
    }

    /// Whether it looks at the client certificate, which is verified only for those who do.
    pub(crate) fn needs_certificate(&self) -> bool {
        match self {
            Test::ClientCertificate(_) | Test::InvalidClientCertificate => true,
            Test::Record(matcher) => matcher.needs_certificate(),
            _ => false,
        }
    }

    /// The claim it looks at, if it looks at one.
    pub(crate) fn claim(&self) -> Option<&str> {
        match self {
            Test::Claim(claim) => Some(&claim.0),
            Test::SshUsernameMatchesClaim(name) => Some(name),
            _ => None,
        }
    }

    /// The type of device it looks for, if it looks for one.
    pub(crate) fn wanted_device(&self) -> Option<&str> {
        match self {
            Test::Device(matcher) => Some(matcher.wanted()),
            _ => None,
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

fn ssh_name(input: &Input<'_>, test: impl FnOnce(&Subject) -> bool) -> (bool, Reason) {
    signed_in(
        input,
        Reason::SshUsernameOk,
        Reason::SshUsernameUnauthorized,
        test,
    )
}

/// A call of a tool without a name is one of the tool with the empty name.
fn mcp_tool(matcher: &TextMatcher, input: &Input<'_>) -> (bool, Reason) {
    match input.mcp.filter(|mcp| mcp.method == "tools/call") {
        None => (false, Reason::McpNotAToolCall),
        Some(mcp) => either(
            matcher.matches(mcp.tool.unwrap_or_default()),
            Reason::McpToolMatch,
            Reason::McpToolNoMatch,
        ),
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
    fn names_are_sorted_and_known_once() {
        assert!(CRITERIA.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
