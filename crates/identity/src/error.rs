//! What can go wrong with an identity provider, in words a person can act on.

use pomerium_crypto::jwt::JwtError;

use crate::http::{HttpError, HttpErrorKind};

/// Why something asked of an identity provider did not work.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum IdentityError {
    /// No answer: network, name resolution, TLS, time.
    #[error("the identity provider cannot be reached at {url}: {error}{}", hint(.error))]
    Unreachable {
        /// What was asked.
        url: String,
        /// What went wrong.
        error: HttpError,
    },
    /// It answered that it is out of order or overloaded.
    #[error("the identity provider answered {status} at {url}; it may work again later")]
    OutOfOrder {
        /// What was asked.
        url: String,
        /// A 5xx, 408 or 429.
        status: u16,
    },
    /// It answered something else than the protocol says.
    #[error("the identity provider's answer at {url} cannot be used: {detail}")]
    BadAnswer {
        /// What was asked.
        url: String,
        /// What is wrong with it.
        detail: String,
    },
    /// Discovery names another issuer than the configuration.
    #[error(
        "wrong issuer: idp_provider_url is \"{configured}\", but the provider calls itself \"{found}\"; \
         they must be equal, also in the last slash"
    )]
    WrongIssuer {
        /// From the configuration.
        configured: String,
        /// From the discovery document.
        found: String,
    },
    /// It refused: a code, a refresh token, the client, the scopes.
    #[error("the identity provider refused the {what} ({status} {error}{})", detail(.description))]
    Refused {
        /// What was refused: `code`, `refresh token`, `access token`, `revocation`.
        what: &'static str,
        /// HTTP status.
        status: u16,
        /// The OAuth error code, or empty.
        error: String,
        /// Its explanation, if any; cleaned and cut.
        description: String,
    },
    /// The token answer has no ID token.
    #[error("the identity provider sent no ID token; is `openid` among idp_scopes?")]
    NoIdToken,
    /// The ID token must not be believed.
    #[error("the identity provider's ID token is refused: {}{}", .0, token_hint(.0))]
    IdToken(JwtError),
    /// The ID token was made for another sign-in: a replay, or a mix-up.
    #[error("the identity provider's ID token belongs to another sign-in (nonce)")]
    Nonce,
    /// The ID token was made for another client.
    #[error("the identity provider's ID token is meant for client \"{azp}\", not for \"{client_id}\"")]
    AuthorizedParty {
        /// Who it is meant for.
        azp: String,
        /// Who we are.
        client_id: String,
    },
    /// A later answer speaks of someone else than the ID token.
    #[error(
        "the identity provider's {what} is about another subject (\"{found}\") than its ID token (\"{expected}\")"
    )]
    Subject {
        /// `user info` or `refreshed ID token`.
        what: &'static str,
        /// From the first ID token.
        expected: String,
        /// From the later answer.
        found: String,
    },
    /// The answer to the sign-in came from another issuer (RFC 9207).
    #[error("the sign-in was answered by \"{found}\" instead of \"{expected}\"")]
    MixUp {
        /// The issuer asked.
        expected: String,
        /// The issuer named by the answer.
        found: String,
    },
    /// There is no refresh token.
    #[error("there is no refresh token; ask for the scope `offline_access` to get one")]
    NoRefreshToken,
    /// The provider has no such endpoint.
    #[error("the identity provider has no {0}")]
    NotOffered(&'static str),
}

impl IdentityError {
    /// What went wrong, without what the provider said in words of its own: it may repeat tokens it was sent, or name
    /// people. The names of issuers and clients stay.
    pub fn summary(&self) -> String {
        match self {
            Self::BadAnswer { url, .. } => {
                format!("the identity provider's answer at {url} cannot be used")
            }
            Self::Refused {
                what, status, error, ..
            } if is_code(error) => format!("the identity provider refused the {what} ({status} {error})"),
            Self::Refused { what, status, .. } => {
                format!("the identity provider refused the {what} ({status})")
            }
            Self::Subject { what, .. } => {
                format!("the identity provider's {what} is about another subject than its ID token")
            }
            other => other.to_string(),
        }
    }

    /// Whether this says nothing about the person, so that another try later may well work. Sessions live
    /// on through temporary errors.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::OutOfOrder { .. } | Self::BadAnswer { .. } => true,
            // Not gone by itself, but a matter of configuration and not of the person.
            Self::WrongIssuer { .. } | Self::NotOffered(_) => true,
            Self::IdToken(error) => matches!(error, JwtError::UnknownKey | JwtError::NotYetValid),
            Self::Refused { .. }
            | Self::NoIdToken
            | Self::Nonce
            | Self::AuthorizedParty { .. }
            | Self::Subject { .. }
            | Self::MixUp { .. }
            | Self::NoRefreshToken => false,
        }
    }
}

/// Whether this looks like an error code of OAuth, and not like anything that could be a token.
fn is_code(error: &str) -> bool {
    const LONGEST: usize = 40;
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    (1..=LONGEST).contains(&error.len()) && error.bytes().all(fits)
}

fn hint(error: &HttpError) -> &'static str {
    match error.kind {
        HttpErrorKind::Certificate => {
            "; if it uses a certificate authority of its own, name it in certificate_authority"
        }
        HttpErrorKind::Connect => "; check idp_provider_url, DNS and firewall",
        _ => "",
    }
}

fn token_hint(error: &JwtError) -> &'static str {
    match error {
        JwtError::Expired | JwtError::NotYetValid => "; compare the clocks of this machine and the provider",
        JwtError::Audience => "; check idp_client_id",
        _ => "",
    }
}

fn detail(description: &str) -> String {
    if description.is_empty() {
        String::new()
    } else {
        format!(": {description}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_repeats_nothing_of_the_provider() {
        let secret = "refresh-token-7";
        let refused = |error: &str| IdentityError::Refused {
            what: "refresh token",
            status: 400,
            error: error.into(),
            description: format!("{secret} has ended"),
        };
        let code = refused("invalid_grant");
        assert_eq!(
            code.summary(),
            "the identity provider refused the refresh token (400 invalid_grant)"
        );
        let url = "https://idp.example.com/token".to_owned();
        let expected = "id-member".to_owned();
        for error in [
            refused(secret),
            refused(&"x".repeat(41)),
            IdentityError::BadAnswer {
                url,
                detail: format!("invalid type: string \"{secret}\""),
            },
            IdentityError::Subject {
                what: "user info",
                expected,
                found: secret.into(),
            },
        ] {
            let summary = error.summary();
            assert!(
                !summary.contains(secret) && !summary.contains("xx") && !summary.contains("id-member"),
                "{summary}"
            );
            assert!(summary.starts_with("the identity provider"), "{summary}");
        }
        let plain = IdentityError::NoRefreshToken;
        assert_eq!(plain.summary(), plain.to_string());
    }
}
