//! Where people may be sent: hosts of ours, and for programmatic logins the hosts the administrator listed
//! (spec authentication.md 11.3).

use std::net::IpAddr;

use pomerium_web::canonical::{Authority, Scheme};

use crate::options::{host_of, same_authority};
use crate::{Authenticate, Error};

const FOREIGN: Error =
    Error::BadRequest("the return address does not belong to an application of this proxy");

impl Authenticate {
    /// A URL on a host of ours, in its checked form.
    pub(crate) fn own_url(&self, url: &str) -> Result<String, Error> {
        let own = |authority: &str| self.is_own(authority);
        match pomerium_web::return_url::check(url, &own) {
            Ok(safe) if safe.scheme() == Scheme::Https => Ok(safe.as_str().to_owned()),
            Ok(_) => Err(FOREIGN),
            Err(error) => {
                tracing::info!(%error, "return address refused");
                Err(FOREIGN)
            }
        }
    }

    /// As [`Self::own_url`], for an address that is in a link signed by a service of ours. A process that knows no routes
    /// goes by the signature alone: proxies sign only addresses of their own routes.
    pub(crate) fn signed_url(&self, url: &str) -> Result<String, Error> {
        if !self.options.goes_by_signatures {
            return self.own_url(url);
        }
        match pomerium_web::return_url::check(url, &|_: &str| true) {
            Ok(safe) if safe.scheme() == Scheme::Https => Ok(safe.as_str().to_owned()),
            _ => Err(FOREIGN),
        }
    }

    /// Whether a host that is named in a link signed by a service of ours may be one of ours.
    pub(crate) fn is_signed_host(&self, authority: &str) -> bool {
        self.options.goes_by_signatures || self.is_own(authority)
    }

    /// The target of a programmatic login: a host that the administrator listed.
    pub(crate) fn programmatic_url(&self, url: &str) -> Result<String, Error> {
        let listed = |authority: &str| is_listed(&self.options.programmatic_domains, host_of(authority));
        pomerium_web::return_url::check(url, &listed)
            .map(|safe| safe.as_str().to_owned())
            .map_err(|error| {
                tracing::info!(%error, "programmatic return address refused");
                Error::BadRequest("invalid redirect uri")
            })
    }

    /// Whether a route of ours, or the authenticate service, answers to this `host[:port]`. What is none is not
    /// asked about: a route for `*` hosts takes many texts.
    pub(crate) fn is_own(&self, authority: &str) -> bool {
        Authority::parse(authority.as_bytes()).is_ok_and(|parsed| parsed.as_str() == authority)
            && (same_authority(authority, &self.options.authority) || (self.deps.hosts)(authority))
    }
}

/// Whether a host is on the list; the entry `localhost` stands for every loopback address as well.
fn is_listed(domains: &[String], host: &str) -> bool {
    let loopback = || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    domains
        .iter()
        .any(|domain| domain.eq_ignore_ascii_case(host) || (domain == "localhost" && loopback()))
}

/// `host[:port]` of an absolute URL.
pub fn authority_of(url: &str) -> Option<String> {
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"))?;
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let authority = &rest[..end];
    (!authority.is_empty() && !authority.contains('@')).then(|| authority.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_programmatic_hosts() {
        let list = ["localhost".to_owned(), "cli.example.com".to_owned()];
        for (host, listed) in [
            ("localhost", true),
            ("LOCALHOST", true),
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("::1", true),
            ("cli.example.com", true),
            ("example.com", false),
            ("x.cli.example.com", false),
            ("cli.example.com.evil.example", false),
            ("localhost.evil.example", false),
            ("192.0.2.1", false),
            ("", false),
        ] {
            assert_eq!(is_listed(&list, host), listed, "{host}");
        }
        assert!(
            !is_listed(&["cli.example.com".to_owned()], "127.0.0.1"),
            "loopback only with localhost"
        );
    }

    #[test]
    fn authorities_of_urls() {
        assert_eq!(
            authority_of("https://App.example.com:8443/x?y").as_deref(),
            Some("app.example.com:8443")
        );
        assert_eq!(
            authority_of("https://app.example.com?x").as_deref(),
            Some("app.example.com")
        );
        for url in ["//app.example.com/", "https:///x", "https://a@b/", "javascript:x"] {
            assert_eq!(authority_of(url), None, "{url}");
        }
    }
}
