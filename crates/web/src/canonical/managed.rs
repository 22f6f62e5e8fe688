//! Which header names are ours to set, in whatever spelling they come.
//!
//! Applications behind CGI or WSGI read `X-Forwarded-User` and `X_Forwarded_User` as one, so names are
//! compared without case and with `_` equal to `-`.

use std::sync::Arc;

/// What a header name means to the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// None of our business.
    Plain,
    /// Belongs to one hop: removed.
    Hop,
    /// `content-length`, `transfer-encoding`, `host`: framing and addressing.
    Framing,
    /// Never accepted from anybody.
    Forbidden,
    /// Accepted from a trusted peer only.
    Forwarded,
    /// Read by us before the request is forwarded (credentials, assertion).
    Ours,
}

/// What a header name means to somebody who tells another proxy what to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// The application's, or nobody's.
    Plain,
    /// It tells an application who somebody is, or carries a credential of ours; in any spelling. Only we may set it.
    Identity,
    /// It belongs to the proxy that asks: its hop, its framing, what it forwards about the client.
    Proxy,
}

/// Header names that carry identity to applications, beyond the fixed ones: the names of
/// `jwt_claims_headers`. A client may neither send nor nominate them.
#[derive(Debug, Clone, Default)]
pub struct ManagedHeaders {
    names: Arc<[String]>,
    /// Bit n: some name has length n (63: that or more). A cheap first look.
    lengths: u64,
}

impl ManagedHeaders {
    /// A set of names in any spelling.
    pub fn new<I, S>(names: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: AsRef<str>,
    {
        let mut names: Vec<String> = names.into_iter().map(|name| fold(name.as_ref())).collect();
        names.sort_unstable();
        names.dedup();
        let lengths = names.iter().fold(0, |bits, name| bits | length_bit(name));
        Self {
            names: names.into(),
            lengths,
        }
    }

    /// Whether the name is one of the set, in any spelling.
    pub fn contains(&self, name: &str) -> bool {
        self.lengths & length_bit(name) != 0 && self.names.iter().any(|own| same(name, own))
    }

    /// Whether only the proxy may set this header: the set and every fixed name.
    pub fn is_managed(&self, name: &str) -> bool {
        !matches!(self.classify(name), Class::Plain | Class::Hop)
    }

    /// What a name means on the other side of a proxy that is not ours.
    pub fn meaning(&self, name: &str) -> Meaning {
        match self.classify(name) {
            Class::Forbidden if starts(name, "x-envoy-") => Meaning::Proxy,
            Class::Forbidden => Meaning::Identity,
            Class::Ours if starts(name, "x-pomerium-") => Meaning::Identity,
            Class::Hop | Class::Framing | Class::Forwarded => Meaning::Proxy,
            Class::Plain | Class::Ours => Meaning::Plain,
        }
    }

    /// The class of a name, for one pass over the headers.
    pub(super) fn classify(&self, name: &str) -> Class {
        let fixed = classify_fixed(name);
        match fixed {
            Class::Plain if self.contains(name) => Class::Forbidden,
            other => other,
        }
    }
}

fn length_bit(name: &str) -> u64 {
    1 << name.len().min(63)
}

fn fold(name: &str) -> String {
    name.chars()
        .map(|letter| {
            if letter == '_' {
                '-'
            } else {
                letter.to_ascii_lowercase()
            }
        })
        .collect()
}

/// Equal without case and with `_` as `-`; `own` is folded already.
fn same(name: &str, own: &str) -> bool {
    name.len() == own.len() && starts(name, own)
}

fn starts(name: &str, own: &str) -> bool {
    name.len() >= own.len()
        && name
            .bytes()
            .zip(own.bytes())
            .all(|(a, b)| a.eq_ignore_ascii_case(&b) || (a == b'_' && b == b'-'))
}

fn classify_fixed(name: &str) -> Class {
    let is = |own: &str| same(name, own);
    match name.as_bytes().first().map(u8::to_ascii_lowercase) {
        Some(b'x') if name.len() > 2 && matches!(name.as_bytes()[1], b'-' | b'_') => classify_x(name),
        Some(b'a') if is("authorization") => Class::Ours,
        Some(b'c') if is("connection") => Class::Hop,
        Some(b'c') if is("content-length") => Class::Framing,
        Some(b'c') if is("cookie") => Class::Ours,
        Some(b'f') if is("forwarded") => Class::Forwarded,
        Some(b'h') if is("host") => Class::Framing,
        Some(b'h') if is("http2-settings") => Class::Hop,
        Some(b'k') if is("keep-alive") => Class::Hop,
        // `proxy` becomes HTTP_PROXY in CGI; `proxy-authorization` is for the first proxy, which is us.
        Some(b'p') if is("proxy-connection") || is("proxy-authorization") || is("proxy") => Class::Hop,
        Some(b't') if is("te") => Class::Hop,
        Some(b't') if is("transfer-encoding") => Class::Framing,
        Some(b'u') if is("upgrade") => Class::Hop,
        _ => Class::Plain,
    }
}

/// Forwarded headers that name a person: nobody in front of us may say who is signed in.
const FORWARDED_IDENTITY: [&str; 7] = [
    "x-forwarded-user",
    "x-forwarded-email",
    "x-forwarded-groups",
    "x-forwarded-preferred-username",
    "x-forwarded-access-token",
    "x-forwarded-id-token",
    "x-forwarded-name",
];

fn classify_x(name: &str) -> Class {
    let is = |own: &str| same(name, own);
    if starts(name, "x-forwarded-") {
        let identity = FORWARDED_IDENTITY.iter().any(|own| is(own));
        return if identity {
            Class::Forbidden
        } else {
            Class::Forwarded
        };
    }
    if starts(name, "x-pomerium-") {
        let read = is("x-pomerium-authorization")
            || is("x-pomerium-jwt-assertion")
            || is("x-pomerium-jwt-assertion-for");
        return if read { Class::Ours } else { Class::Forbidden };
    }
    if starts(name, "x-envoy-") {
        return Class::Forbidden;
    }
    if is("x-real-ip") || is("x-request-id") {
        return Class::Forwarded;
    }
    Class::Plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_in_any_spelling() {
        let managed = ManagedHeaders::new(["X-Email", "x-pomerium-claim-groups"]);
        for name in [
            "x-email",
            "X-EMAIL",
            "x_email",
            "X_Email",
            "x-pomerium-claim_groups",
            "X_Forwarded_User",
        ] {
            assert!(managed.is_managed(name), "{name}");
        }
        for name in [
            "x-emails",
            "x-emai",
            "xemail",
            "accept",
            "te",
            "x-csrf-token",
            "x",
        ] {
            assert!(!managed.is_managed(name), "{name}");
        }
        assert!(managed.contains("X_EMAIL") && !managed.contains("x-forwarded-for"));
    }

    #[test]
    fn classes() {
        let managed = ManagedHeaders::default();
        for (name, class) in [
            ("x-forwarded-for", Class::Forwarded),
            ("x_forwarded_for", Class::Forwarded),
            ("x-forwarded-user", Class::Forbidden),
            ("x_forwarded-email", Class::Forbidden),
            ("x-envoy-internal", Class::Forbidden),
            ("x-pomerium-authorization", Class::Ours),
            ("x-pomerium-reproxy-policy", Class::Forbidden),
            ("x-real-ip", Class::Forwarded),
            ("forwarded", Class::Forwarded),
            ("transfer_encoding", Class::Framing),
            ("connection", Class::Hop),
            ("accept-encoding", Class::Plain),
        ] {
            assert_eq!(managed.classify(name), class, "{name}");
        }
    }

    #[test]
    fn meanings() {
        let managed = ManagedHeaders::new(["X-Email"]);
        for (name, meaning) in [
            ("x-email", Meaning::Identity),
            ("X_EMAIL", Meaning::Identity),
            ("x_pomerium_jwt_assertion", Meaning::Identity),
            ("x-pomerium-authorization", Meaning::Identity),
            ("x-forwarded-user", Meaning::Identity),
            ("x-forwarded-for", Meaning::Proxy),
            ("x-envoy-internal", Meaning::Proxy),
            ("connection", Meaning::Proxy),
            ("cookie", Meaning::Plain),
            ("authorization", Meaning::Plain),
            ("accept", Meaning::Plain),
        ] {
            assert_eq!(managed.meaning(name), meaning, "{name}");
        }
    }

    #[test]
    fn a_very_long_name_is_found() {
        let long = "x-".repeat(60);
        assert!(ManagedHeaders::new([&long]).contains(&long));
    }
}
