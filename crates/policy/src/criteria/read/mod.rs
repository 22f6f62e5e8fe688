//! From what people wrote to a compiled criterion, with the load-time checks of spec policy.md 3, 4 and 21.

mod matchers;

use serde_json::{Map, Value};

use self::matchers::{Left, certificate, networks, text};
use super::authentication::AuthenticationMatcher;
use super::device::DeviceMatcher;
use super::groups::GroupsMatcher;
use super::record::RecordMatcher;
use super::ssh::Keys;
use super::time::{Dates, Days, Hours};
use super::{CRITERIA, Test, nearest_name};
use crate::compile::CompileError;
use crate::ppl::{Criterion, Operator};
use crate::suggest::nearest;
use crate::value::kind;

pub(super) use self::matchers::list;

impl Test {
    /// Compiles one criterion.
    pub(crate) fn read(criterion: &Criterion) -> Result<Test, CompileError> {
        Ok(match criterion.name.as_str() {
            "accept" => Test::Accept,
            "reject" => Test::Reject,
            "authenticated_user" => Test::AuthenticatedUser,
            "user" => Test::User(text(criterion, Left::Static)?),
            "email" => Test::Email(text(criterion, Left::Dynamic)?),
            "domain" => Test::Domain(text(criterion, Left::Static)?),
            "claim" => Test::Claim(Box::new((criterion.sub_path.clone(), list(criterion)?))),
            "http_method" => Test::HttpMethod(text(criterion, Left::Dynamic)?),
            "http_path" => Test::HttpPath(text(criterion, Left::Dynamic)?),
            "source_ip" => Test::SourceIp(networks(criterion)?),
            "mcp_tool" => Test::McpTool(text(criterion, Left::Dynamic)?),
            "cors_preflight" => Test::CorsPreflight,
            "client_certificate" => Test::ClientCertificate(Box::new(certificate(criterion)?)),
            "invalid_client_certificate" => Test::InvalidClientCertificate,
            "groups" => Test::Groups(Box::new(GroupsMatcher::read(criterion)?)),
            "device" => Test::Device(Box::new(DeviceMatcher::read(criterion)?)),
            "authentication" => Test::Authentication(Box::new(AuthenticationMatcher::read(criterion)?)),
            "date" => Test::Date(Box::new(Dates::read(criterion)?)),
            "day_of_week" => Test::DayOfWeek(Days::read(criterion)?),
            "time_of_day" => Test::TimeOfDay(Box::new(Hours::read(criterion)?)),
            "record" => Test::Record(Box::new(RecordMatcher::read(criterion)?)),
            name if name.starts_with("ssh_") => return read_ssh(criterion),
            _ => return Err(not_known(criterion)),
        })
    }
}

fn read_ssh(criterion: &Criterion) -> Result<Test, CompileError> {
    Ok(match criterion.name.as_str() {
        "ssh_username" => Test::SshUsername(text(criterion, Left::Dynamic)?),
        "ssh_username_matches_email" => Test::SshUsernameMatchesEmail,
        "ssh_username_matches_claim" => {
            Test::SshUsernameMatchesClaim(string(criterion, "", &criterion.data)?.into())
        }
        "ssh_publickey" => Test::SshPublicKey(Keys::read(criterion)?),
        "ssh_ca" => Test::SshCa(Keys::read_authorities(criterion)?),
        _ => return Err(not_known(criterion)),
    })
}

fn not_known(criterion: &Criterion) -> CompileError {
    CompileError::UnknownCriterion {
        place: criterion.place.to_string(),
        name: criterion.key(),
        hint: name_hint(&criterion.name),
    }
}

fn name_hint(name: &str) -> String {
    if Operator::ALL.iter().any(|operator| operator.as_str() == name) {
        return "operators do not nest; use several groups, which are alternatives, or several rules".into();
    }
    match name {
        "pomerium_routes" => "Pomerium's own paths need no rule; leave it out".into(),
        "allowed_users" => {
            "`allowed_users` is a key of the route; in a policy write `user` or `email`".into()
        }
        "allowed_domains" => "`allowed_domains` is a key of the route; in a policy write `domain`".into(),
        "allowed_groups" | "group" => "group membership is judged by `groups` or by `claim/groups`".into(),
        "allowed_idp_claims" | "claims" => "write `claim/NAME: VALUE`".into(),
        _ => match nearest_name(name) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the criteria are {}", CRITERIA.join(", ")),
        },
    }
}

pub(super) fn wrong_type(
    criterion: &Criterion,
    operator: &str,
    expected: &'static str,
    found: &Value,
) -> CompileError {
    CompileError::WrongType {
        place: criterion.place.to_string(),
        subject: subject(criterion, operator),
        expected,
        found: kind(found),
    }
}

fn unknown_operator(criterion: &Criterion, operator: &str, known: &'static [&'static str]) -> CompileError {
    let hint = match (operator, nearest(operator, known.iter().copied())) {
        ("regex" | "matches" | "match", _) => {
            format!(
                "there is no pattern matching; the operators are {}",
                known.join(", ")
            )
        }
        (_, Some(near)) => format!("did you mean `{near}`?"),
        _ => format!("the operators are {}", known.join(", ")),
    };
    CompileError::UnknownOperator {
        place: criterion.place.to_string(),
        criterion: criterion.key(),
        operator: operator.to_owned(),
        hint,
    }
}

/// Criterion, or criterion and key.
fn subject(criterion: &Criterion, key: &str) -> String {
    if key.is_empty() {
        criterion.key()
    } else {
        format!("{}: {key}", criterion.key())
    }
}

/// A key that the criterion does not have.
pub(super) fn unknown_key(criterion: &Criterion, key: &str, known: &'static [&'static str]) -> CompileError {
    let keys = format!("the keys are {}", known.join(", "));
    let hint = match nearest(key, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`? {keys}"),
        None => keys,
    };
    CompileError::UnknownKey {
        place: criterion.place.to_string(),
        criterion: criterion.key(),
        key: key.to_owned(),
        hint,
    }
}

/// Something is missing.
pub(super) fn incomplete(criterion: &Criterion, needs: &'static str) -> CompileError {
    CompileError::Incomplete {
        place: criterion.place.to_string(),
        criterion: criterion.key(),
        needs,
    }
}

/// A value of the right type that cannot work, and the way out.
pub(super) fn bad_value(criterion: &Criterion, key: &str, text: &str, problem: &str) -> CompileError {
    CompileError::BadValue {
        place: criterion.place.to_string(),
        subject: subject(criterion, key),
        text: text.to_owned(),
        problem: problem.to_owned(),
    }
}

/// Refuses what stands after a `/`, where nothing can.
pub(super) fn no_sub_path(criterion: &Criterion) -> Result<(), CompileError> {
    if criterion.sub_path.is_empty() {
        return Ok(());
    }
    Err(CompileError::UnknownCriterion {
        place: criterion.place.to_string(),
        name: criterion.key(),
        hint: format!("write `{}` without what follows the `/`", criterion.name),
    })
}

/// The data as a map.
pub(super) fn map<'c>(
    criterion: &'c Criterion,
    expected: &'static str,
) -> Result<&'c Map<String, Value>, CompileError> {
    match &criterion.data {
        Value::Object(keys) => Ok(keys),
        other => Err(wrong_type(criterion, "", expected, other)),
    }
}

/// The value of a key as text.
pub(super) fn string<'v>(criterion: &Criterion, key: &str, data: &'v Value) -> Result<&'v str, CompileError> {
    data.as_str()
        .ok_or_else(|| wrong_type(criterion, key, "a string", data))
}

/// One text or a list of them.
pub(super) fn strings<'v>(
    criterion: &Criterion,
    key: &str,
    data: &'v Value,
) -> Result<Vec<&'v str>, CompileError> {
    strings_of(criterion, key, "a string or a list of strings", data)
}

fn strings_of<'v>(
    criterion: &Criterion,
    key: &str,
    expected: &'static str,
    data: &'v Value,
) -> Result<Vec<&'v str>, CompileError> {
    let one = |value: &'v Value| {
        value
            .as_str()
            .ok_or_else(|| wrong_type(criterion, key, expected, value))
    };
    match data {
        Value::Array(items) => items.iter().map(one).collect(),
        single => Ok(vec![one(single)?]),
    }
}

#[cfg(test)]
mod tests;
