//! Values of `set_request_headers`: text with references (spec policy.md 12), parsed once, rendered per
//! request. One pass: what is put in is not read again.

use http::HeaderMap;
use pomerium_api::pb::session::Session;
use pomerium_api::synced::Parts;
use pomerium_policy::{CertificateFacts, CertificateTrust, ClientCertificate};

use crate::headers::joined;

/// A parsed header value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    AccessToken,
    IdToken,
    Assertion,
    RequestHeader(String),
    CertificateFingerprint,
    CertificateDnsNames,
    CertificateEmails,
}

/// What references refer to.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The session whose identity counts; none for service accounts and when nobody is signed in.
    pub session: Option<&'a Session>,
    /// The signed assertion.
    pub assertion: &'a str,
    /// Headers of the request.
    pub headers: &'a HeaderMap,
    /// The client certificate.
    pub certificate: ClientCertificate<'a>,
}

impl Template {
    /// Reads a value. What is no well-formed reference stays as it is; a reference to nothing we have is
    /// empty.
    pub fn parse(text: &str) -> Self {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            plain.push_str(&rest[..at]);
            rest = &rest[at..];
            if let Some(after) = rest.strip_prefix("$$") {
                plain.push('$');
                rest = after;
            } else if let Some((path, after)) = reference(rest) {
                if let Some(part) = Part::of(&path) {
                    if !plain.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut plain)));
                    }
                    parts.push(part);
                }
                rest = after;
            } else {
                plain.push('$');
                rest = &rest[1..];
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Self(parts)
    }

    /// The value for one request.
    pub fn render(&self, context: &Context<'_>) -> String {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Assertion => text.push_str(context.assertion),
                Part::CertificateFingerprint => {
                    text.push_str(context.certificate.leaf.map_or("", |leaf| &leaf.fingerprint));
                }
                Part::CertificateDnsNames => push_names(&mut text, context, |leaf| &leaf.dns_names),
                Part::CertificateEmails => push_names(&mut text, context, |leaf| &leaf.emails),
                Part::AccessToken => text.push_str(context.access_token()),
                Part::IdToken => text.push_str(context.id_token()),
                Part::RequestHeader(name) => {
                    text.push_str(&joined(context.headers, name).unwrap_or_default())
                }
            }
        }
        text
    }

    /// The value when it is the same for every request.
    pub fn constant(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Whether it tells something of the client certificate.
    pub fn uses_certificate(&self) -> bool {
        self.0.iter().any(|part| {
            matches!(
                part,
                Part::CertificateFingerprint | Part::CertificateDnsNames | Part::CertificateEmails
            )
        })
    }

    /// What of a session it tells.
    pub fn session_parts(&self) -> Parts {
        let of = |part: &Part| match part {
            Part::AccessToken => Parts::ACCESS_TOKEN,
            Part::IdToken => Parts::ID_TOKEN,
            Part::Text(_)
            | Part::Assertion
            | Part::RequestHeader(_)
            | Part::CertificateFingerprint
            | Part::CertificateDnsNames
            | Part::CertificateEmails => Parts::NONE,
        };
        self.0.iter().map(of).fold(Parts::NONE, Parts::and)
    }

    /// Whether the assertion has to be signed to render this.
    pub fn uses_assertion(&self) -> bool {
        self.0.contains(&Part::Assertion)
    }
}

/// Names of a certificate that verifies, joined with `,`; a name with a comma in it is left out, since it would read as
/// two. Of any other certificate nothing: anybody can write any name into one.
fn push_names(text: &mut String, context: &Context<'_>, names: fn(&CertificateFacts) -> &[String]) {
    if context.certificate.trust != CertificateTrust::Verified {
        return;
    }
    let names = context.certificate.leaf.map(names).unwrap_or_default();
    let names: Vec<&str> = names
        .iter()
        .map(String::as_str)
        .filter(|name| !name.contains(','))
        .collect();
    text.push_str(&names.join(","));
}

impl Context<'_> {
    fn access_token(&self) -> &str {
        self.session
            .and_then(|session| session.oauth_token.as_ref())
            .map_or("", |token| &token.access_token)
    }

    fn id_token(&self) -> &str {
        self.session
            .and_then(|session| session.id_token.as_ref())
            .map_or("", |token| &token.raw)
    }
}

impl Part {
    fn of(path: &[String]) -> Option<Part> {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        match path.as_slice() {
            ["pomerium", "access_token"] => Some(Part::AccessToken),
            ["pomerium", "id_token"] => Some(Part::IdToken),
            ["pomerium", "jwt"] => Some(Part::Assertion),
            ["pomerium", "client_cert_fingerprint"] => Some(Part::CertificateFingerprint),
            ["pomerium", "client_cert_san_dns"] => Some(Part::CertificateDnsNames),
            ["pomerium", "client_cert_san_email"] => Some(Part::CertificateEmails),
            ["pomerium", "request", "headers", name] => Some(Part::RequestHeader((*name).to_owned())),
            _ => None,
        }
    }
}

/// Reads a reference that starts with `$`: its path and what follows.
fn reference(text: &str) -> Option<(Vec<String>, &str)> {
    let text = text.strip_prefix('$')?;
    match text.strip_prefix('{') {
        Some(braced) => braced_reference(braced),
        None => {
            let (first, rest) = id(text)?;
            Some(dotted(first, rest))
        }
    }
}

fn braced_reference(text: &str) -> Option<(Vec<String>, &str)> {
    let (first, mut rest) = id(blanks(text))?;
    let mut path = vec![first.to_owned()];
    loop {
        rest = blanks(rest);
        if let Some((next, after)) = rest.strip_prefix('.').and_then(|rest| id(blanks(rest))) {
            path.push(next.to_owned());
            rest = after;
        } else if let Some(inside) = rest.strip_prefix('[') {
            let (next, after) = quoted_text(blanks(inside).strip_prefix('"')?)?;
            path.push(next);
            rest = blanks(after).strip_prefix(']')?;
        } else {
            break;
        }
    }
    Some((path, blanks(rest).strip_prefix('}')?))
}

fn dotted<'t>(first: &str, mut rest: &'t str) -> (Vec<String>, &'t str) {
    let mut path = vec![first.to_owned()];
    while let Some((next, after)) = rest.strip_prefix('.').and_then(id) {
        path.push(next.to_owned());
        rest = after;
    }
    (path, rest)
}

fn blanks(text: &str) -> &str {
    text.trim_start_matches([' ', '\t'])
}

fn id(text: &str) -> Option<(&str, &str)> {
    let end = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'))
        .unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// Text up to the closing quote; a backslash takes the next character as it is.
fn quoted_text(text: &str) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((out, &text[at + 1..])),
            '\\' => out.push(chars.next()?.1),
            c => out.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use pomerium_api::pb::session::{IdToken, OAuthToken};

    use super::*;

    fn render(text: &str) -> String {
        let session = Session {
            oauth_token: Some(OAuthToken {
                access_token: "AT$pomerium.jwt".into(),
                ..OAuthToken::default()
            }),
            id_token: Some(IdToken {
                raw: "IDT".into(),
                ..IdToken::default()
            }),
            ..Session::default()
        };
        let mut headers = HeaderMap::new();
        headers.append("x-a", HeaderValue::from_static("1"));
        headers.append("x-a", HeaderValue::from_static("2"));
        let context = Context {
            session: Some(&session),
            assertion: "JWT",
            headers: &headers,
            certificate: ClientCertificate::default(),
        };
        Template::parse(text).render(&context)
    }

    #[test]
    fn certificates_tell_their_fingerprint_always_and_their_names_when_they_verify() {
        let facts = CertificateFacts {
            fingerprint: "00ff".into(),
            dns_names: vec!["a.example.com".into(), "b,c".into(), "d.example.com".into()],
            emails: vec!["user@example.com".into()],
            ..CertificateFacts::default()
        };
        let template = Template::parse(
            "${pomerium.client_cert_fingerprint} ${pomerium.client_cert_san_dns} ${pomerium.client_cert_san_email}",
        );
        assert!(template.uses_certificate() && !Template::parse("$pomerium.jwt").uses_certificate());
        for (trust, expected) in [
            (
                CertificateTrust::Verified,
                "00ff a.example.com,d.example.com user@example.com",
            ),
            (CertificateTrust::Rejected, "00ff  "),
            (CertificateTrust::NoAuthority, "00ff  "),
        ] {
            let context = Context {
                session: None,
                assertion: "",
                headers: &HeaderMap::new(),
                certificate: ClientCertificate {
                    presented: true,
                    leaf: Some(&facts),
                    trust,
                },
            };
            assert_eq!(template.render(&context), expected);
        }
    }

    #[test]
    fn references_are_replaced_once() {
        assert_eq!(
            render("Bearer ${pomerium.access_token}"),
            "Bearer AT$pomerium.jwt"
        );
        assert_eq!(render("$pomerium.id_token/x"), "IDT/x");
        assert_eq!(render("${ \tpomerium.jwt }"), "JWT");
        assert_eq!(render("$pomerium.jwt."), "JWT.");
        assert_eq!(render(r#"<${pomerium.request.headers["X-A"]}>"#), "<1,2>");
        assert_eq!(
            render("${pomerium.request.headers.x-a}$pomerium.request.headers.x-a"),
            "1,21,2"
        );
        assert_eq!(render(r#"${pomerium["request"].headers["x\-a"]}"#), "1,2");
    }

    #[test]
    fn other_references_are_empty() {
        assert_eq!(render("a${foo}b$foo.bar c"), "ab c");
        assert_eq!(render("${pomerium.client_cert_fingerprint}"), "");
        assert_eq!(render("${pomerium.request.headers.missing}"), "");
    }

    #[test]
    fn malformed_text_stays() {
        for text in [
            "$",
            "a$",
            "${",
            "${}",
            "${pomerium",
            "${pomerium.}",
            "${a[\"b}",
            "${a[b]}",
            "$ {a}",
            "${a b}",
        ] {
            assert_eq!(render(text), text, "{text}");
        }
        assert_eq!(render("cost: $$5 $$$$"), "cost: $5 $$");
        assert_eq!(render("${ $pomerium.jwt"), "${ JWT");
    }

    #[test]
    fn constants_are_known() {
        assert_eq!(Template::parse("a$$b").constant(), Some("a$b"));
        assert_eq!(Template::parse("$gone").constant(), Some(""));
        assert_eq!(Template::parse("x$pomerium.jwt").constant(), None);
        assert!(Template::parse("x$pomerium.jwt").uses_assertion());
        assert!(!Template::parse("$pomerium.id_token").uses_assertion());
        let parts = |text| Template::parse(text).session_parts();
        assert_eq!(
            parts("x ${pomerium.jwt} $pomerium.request.headers.X"),
            Parts::NONE
        );
        assert_eq!(parts("Bearer $pomerium.access_token"), Parts::ACCESS_TOKEN);
        assert_eq!(
            parts("${pomerium.id_token}$pomerium.access_token"),
            Parts::ID_TOKEN.and(Parts::ACCESS_TOKEN)
        );
    }

    #[test]
    fn nobody_has_no_tokens() {
        let context = Context {
            session: None,
            assertion: "",
            headers: &HeaderMap::new(),
            certificate: ClientCertificate::default(),
        };
        assert_eq!(
            Template::parse("${pomerium.access_token}|${pomerium.id_token}").render(&context),
            "|"
        );
    }
}
