//! Names a certificate must bear (`match_subject_alt_names`): one of the patterns, each over one whole name.

use regex::Regex;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::TrustError;

/// The type of an alternative name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameKind {
    /// DNS name.
    Dns,
    /// E-mail address.
    Email,
    /// IP address.
    IpAddress,
    /// URI.
    Uri,
    /// otherName 1.3.6.1.4.1.311.20.2.3.
    UserPrincipalName,
}

const USER_PRINCIPAL_NAME: &str = "1.3.6.1.4.1.311.20.2.3";

/// Compiled patterns. Without any, every certificate passes.
#[derive(Debug, Default)]
pub(super) struct Names(Vec<(NameKind, Regex)>);

impl Names {
    /// Compiles each pattern alone first, so that an unbalanced one cannot mean something else inside the anchors.
    pub(super) fn compile(patterns: &[(NameKind, String)]) -> Result<Self, TrustError> {
        let one = |(kind, pattern): &(NameKind, String)| {
            let bad = |error: regex::Error| TrustError::BadPattern {
                pattern: pattern.clone(),
                reason: error.to_string(),
            };
            Regex::new(pattern).map_err(bad)?;
            Ok((*kind, Regex::new(&format!(r"\A(?:{pattern})\z")).map_err(bad)?))
        };
        patterns.iter().map(one).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn accept(&self, certificate: &X509Certificate<'_>) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let Ok(Some(alternatives)) = certificate.subject_alternative_name() else {
            return false;
        };
        alternatives.value.general_names.iter().any(|name| {
            text(name).is_some_and(|(kind, text)| {
                self.0
                    .iter()
                    .any(|(wanted, pattern)| *wanted == kind && pattern.is_match(&text))
            })
        })
    }
}

fn text(name: &GeneralName<'_>) -> Option<(NameKind, String)> {
    Some(match name {
        GeneralName::DNSName(name) => (NameKind::Dns, (*name).to_owned()),
        GeneralName::RFC822Name(name) => (NameKind::Email, (*name).to_owned()),
        GeneralName::URI(name) => (NameKind::Uri, (*name).to_owned()),
        GeneralName::IPAddress(octets) => (NameKind::IpAddress, address(octets)?),
        GeneralName::OtherName(kind, value) if kind.to_id_string() == USER_PRINCIPAL_NAME => {
            (NameKind::UserPrincipalName, utf8_string(value)?)
        }
        _ => return None,
    })
}

fn address(octets: &[u8]) -> Option<String> {
    if let Ok(v4) = <[u8; 4]>::try_from(octets) {
        return Some(std::net::Ipv4Addr::from(v4).to_string());
    }
    let v6 = <[u8; 16]>::try_from(octets).ok()?;
    Some(std::net::Ipv6Addr::from(v6).to_string())
}

/// The value of an otherName: `[0] EXPLICIT UTF8String`.
fn utf8_string(value: &[u8]) -> Option<String> {
    use x509_parser::asn1_rs::{Any, Tag};
    let (_, outer) = Any::from_der(value).ok()?;
    let inner = match outer.tag() {
        Tag::Utf8String => outer,
        _ => Any::from_der(outer.data).ok()?.1,
    };
    (inner.tag() == Tag::Utf8String).then(|| String::from_utf8(inner.data.to_vec()).ok())?
}
