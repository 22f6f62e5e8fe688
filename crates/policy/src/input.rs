//! What a policy looks at: one request and who sent it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;

use serde_json::Value;

use crate::certificate::ClientCertificate;

/// Flattened claims: dotted name to list of values.
pub type Claims = HashMap<String, Vec<Value>>;

/// The person or machine behind a request; there is one exactly when a session or service account record
/// stands behind the request (spec policy.md 6.3).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Subject {
    /// Id of the (impersonated) session or service account record.
    pub session_id: String,
    /// User id; empty when the record has none.
    pub user_id: String,
    /// Effective e-mail: of the directory user if it has one, else of the user record, else empty.
    pub email: String,
    /// Claims of the session overlaid by those of the user record: for one name, the user's values win.
    pub claims: Claims,
}

impl Subject {
    /// The user id, unless it is empty.
    pub fn user(&self) -> Option<&str> {
        (!self.user_id.is_empty()).then_some(self.user_id.as_str())
    }

    /// The domain of the e-mail. An address without exactly one `@`, or with nothing on either side of it,
    /// has no domain: `a@good.example@evil.example` is in neither.
    pub fn domain(&self) -> Option<&str> {
        let (local, domain) = self.email.split_once('@')?;
        (!local.is_empty() && !domain.is_empty() && !domain.contains('@')).then_some(domain)
    }

    /// The values of a claim; none when it is absent.
    pub fn claim(&self, name: &str) -> &[Value] {
        self.claims.get(name).map_or(&[], Vec::as_slice)
    }
}

/// Request headers by name.
pub trait HeaderLookup {
    /// The value of a header, name in any case. Repeated headers come joined with `,`, in order: a
    /// criterion never sees only the first or the last.
    fn get(&self, name: &str) -> Option<Cow<'_, str>>;
}

/// A request without headers.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHeaders;

impl HeaderLookup for NoHeaders {
    fn get(&self, _name: &str) -> Option<Cow<'_, str>> {
        None
    }
}

/// The facts of an HTTP request (spec policy.md 6.1), all from the one canonical request.
#[derive(Clone, Copy)]
pub struct HttpInput<'a> {
    /// Method, as sent.
    pub method: &'a str,
    /// Path, percent-decoded, without query.
    pub path: &'a str,
    /// Path, still escaped.
    pub raw_path: &'a str,
    /// Query without `?`, empty when there is none.
    pub query: &'a str,
    /// `host[:port]`.
    pub host: &'a str,
    /// Headers.
    pub headers: &'a dyn HeaderLookup,
    /// Address of the client after the trusted-proxy rules; unknown matches no network.
    pub client_ip: Option<IpAddr>,
    /// The client certificate.
    pub client_certificate: ClientCertificate<'a>,
}

/// Everything one evaluation looks at.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// Who asks; absent when nobody is signed in.
    pub subject: Option<&'a Subject>,
    /// What is asked.
    pub http: HttpInput<'a>,
    /// When.
    pub now: jiff::Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(email: &str) -> Option<String> {
        Subject {
            email: email.into(),
            ..Subject::default()
        }
        .domain()
        .map(str::to_owned)
    }

    #[test]
    fn a_domain_needs_exactly_one_at_with_something_on_both_sides() {
        assert_eq!(domain("a@example.com").as_deref(), Some("example.com"));
        for bad in [
            "",
            "a",
            "a@",
            "@example.com",
            "a@example.com@evil.example",
            "a@@example.com",
            "@",
        ] {
            assert_eq!(domain(bad), None, "{bad}");
        }
    }
}
