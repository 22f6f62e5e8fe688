//! How two conditions stand to each other. Everything here errs to the side of "they may": a condition that is not
//! understood is only equal to itself.

use std::fmt;

use ipnet::IpNet;
use serde_json::Value;

use super::text::TextSet;
use crate::criteria;
use crate::ppl::Criterion;
use crate::value::equal;

/// A criterion, as it is or turned round.
#[derive(Clone, Copy)]
pub(super) struct Condition<'a> {
    pub(super) criterion: &'a Criterion,
    pub(super) negated: bool,
}

/// What is known about a condition without a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Truth {
    Always,
    Never,
    Depends,
}

impl fmt::Display for Condition<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let not = if self.negated { "not " } else { "" };
        write!(f, "{not}`{}: {}`", self.criterion.key(), self.criterion.data)
    }
}

impl Condition<'_> {
    pub(super) fn truth(&self) -> Truth {
        match (truth(self.criterion), self.negated) {
            (truth, false) => truth,
            (Truth::Always, true) => Truth::Never,
            (Truth::Never, true) => Truth::Always,
            (Truth::Depends, true) => Truth::Depends,
        }
    }

    /// Whether both can never hold for one request.
    pub(super) fn excludes(&self, other: &Self) -> bool {
        match (self.negated, other.negated) {
            (false, false) => disjoint(self.criterion, other.criterion),
            (false, true) => implies(self.criterion, other.criterion),
            (true, false) => implies(other.criterion, self.criterion),
            (true, true) => false,
        }
    }

    /// Whether `weaker` holds wherever this does.
    pub(super) fn implies(&self, weaker: &Self) -> bool {
        match (self.negated, weaker.negated) {
            (false, false) => implies(self.criterion, weaker.criterion),
            (true, true) => implies(weaker.criterion, self.criterion),
            (false, true) => disjoint(self.criterion, weaker.criterion),
            (true, false) => false,
        }
    }
}

/// Criteria about one text, by the matcher of spec policy.md 3.1.
fn is_text(name: &str) -> bool {
    matches!(
        name,
        "user" | "email" | "domain" | "http_method" | "http_path" | "ssh_username"
    )
}

fn truth(criterion: &Criterion) -> Truth {
    match criterion.name.as_str() {
        "accept" => Truth::Always,
        "reject" => Truth::Never,
        "source_ip" if networks(criterion).is_some_and(|networks| networks.is_empty()) => Truth::Never,
        "claim" | "groups" if excludes_itself(&criterion.data) => Truth::Never,
        name if is_text(name) && TextSet::read(&criterion.data).is_some_and(|set| set.is_empty()) => {
            Truth::Never
        }
        _ => Truth::Depends,
    }
}

/// `{has: a, exclude: a}`
fn excludes_itself(data: &Value) -> bool {
    let wants = ["has", "is"].iter().filter_map(|operator| data.get(operator));
    data.get("exclude")
        .is_some_and(|unwanted| wants.into_iter().any(|wanted| equal(wanted, unwanted)))
}

/// Whether the two look at the same thing.
fn same_subject(one: &Criterion, other: &Criterion) -> bool {
    one.name == other.name && (one.name != "claim" || one.sub_path == other.sub_path)
}

fn disjoint(one: &Criterion, other: &Criterion) -> bool {
    if truth(one) == Truth::Never || truth(other) == Truth::Never {
        return true;
    }
    match (one.name.as_str(), other.name.as_str()) {
        ("email", "domain") => outside(one, other),
        ("domain", "email") => outside(other, one),
        _ if !same_subject(one, other) => false,
        ("source_ip", _) => match (networks(one), networks(other)) {
            (Some(one), Some(other)) => !one
                .iter()
                .any(|one| other.iter().any(|other| overlap(one, other))),
            _ => false,
        },
        ("claim" | "groups", _) => lists_exclude(one, other) || lists_exclude(other, one),
        (name, _) if is_text(name) => match (TextSet::read(&one.data), TextSet::read(&other.data)) {
            (Some(one), Some(other)) => one.disjoint(&other),
            _ => false,
        },
        _ => false,
    }
}

/// Whether no address that `email` accepts lies in a domain that `domain` accepts.
fn outside(email: &Criterion, domain: &Criterion) -> bool {
    let (Some(emails), Some(domains)) = (TextSet::read(&email.data), TextSet::read(&domain.data)) else {
        return false;
    };
    emails.candidates().is_some_and(|emails| {
        emails
            .iter()
            .all(|email| domain_of(email).is_none_or(|domain| !domains.accepts(domain)))
    })
}

fn domain_of(email: &str) -> Option<&str> {
    email.split_once('@').map(|(_, domain)| domain)
}

fn lists_exclude(one: &Criterion, other: &Criterion) -> bool {
    let of = |criterion: &Criterion, operator: &str| match &criterion.data {
        Value::Object(operators) => operators.get(operator).cloned(),
        plain => (operator == "has").then(|| plain.clone()),
    };
    let differ = |one: Option<Value>, other: Option<Value>| matches!((one, other), (Some(one), Some(other)) if !equal(&one, &other));
    let clash = |one: Option<Value>, other: Option<Value>| matches!((one, other), (Some(one), Some(other)) if equal(&one, &other));
    if clash(of(one, "has"), of(other, "exclude")) || clash(of(one, "is"), of(other, "exclude")) {
        return true;
    }
    // A group has an id, a name and an e-mail: two values may be the same group.
    one.name == "claim" && (differ(of(one, "is"), of(other, "is")) || differ(of(one, "is"), of(other, "has")))
}

/// Whether `weaker` holds wherever `stronger` does.
fn implies(stronger: &Criterion, weaker: &Criterion) -> bool {
    if stronger == weaker || truth(stronger) == Truth::Never || truth(weaker) == Truth::Always {
        return true;
    }
    match (stronger.name.as_str(), weaker.name.as_str()) {
        // Every session belongs to a user.
        (name, "authenticated_user") => criteria::needs_session(name),
        ("email", "domain") => inside(stronger, weaker),
        _ if !same_subject(stronger, weaker) => false,
        ("source_ip", _) => match (networks(stronger), networks(weaker)) {
            (Some(inner), Some(outer)) => inner
                .iter()
                .all(|inner| outer.iter().any(|outer| outer.contains(inner))),
            _ => false,
        },
        (name, _) if is_text(name) => match (TextSet::read(&stronger.data), TextSet::read(&weaker.data)) {
            (Some(inner), Some(outer)) => inner.within(&outer),
            _ => false,
        },
        _ => false,
    }
}

/// Whether every address that `email` accepts lies in a domain that `domain` accepts.
fn inside(email: &Criterion, domain: &Criterion) -> bool {
    let (Some(emails), Some(domains)) = (TextSet::read(&email.data), TextSet::read(&domain.data)) else {
        return false;
    };
    emails.candidates().is_some_and(|emails| {
        emails.iter().all(|email| {
            // An address with two `@` is in no domain.
            domain_of(email).is_some_and(|domain| !domain.contains('@') && domains.accepts(domain))
        })
    })
}

/// The networks of `source_ip`; none when one of them cannot be read.
fn networks(criterion: &Criterion) -> Option<Vec<IpNet>> {
    let read = |value: &Value| {
        let text = value.as_str()?;
        text.parse::<IpNet>()
            .or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from))
            .ok()
            .map(|network| network.trunc())
    };
    match &criterion.data {
        Value::Array(items) => items.iter().map(read).collect(),
        one => Some(vec![read(one)?]),
    }
}

fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}
