//! What comes of a client certificate.

use rustls::{CertificateError, OtherError};

/// Whether a certificate counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It does.
    Valid,
    /// It does not.
    Invalid(Flaw),
}

/// Why a certificate does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// It is no certificate, or of a kind that is not understood (X.509 version 1 among them).
    #[error("it cannot be read, or is not an X.509 version 3 certificate")]
    Unreadable,
    /// No way from it to an authority.
    #[error("no trusted authority has issued it")]
    UnknownAuthority,
    /// It, or one on the way, has ended.
    #[error("it has expired, or a certificate above it has")]
    Expired,
    /// It, or one on the way, begins later.
    #[error("it is not valid yet, or a certificate above it is not")]
    NotYetValid,
    /// Not for clients.
    #[error("it is not for authenticating clients (extended key usage clientAuth)")]
    Purpose,
    /// One on the way to the authority is not for issuing.
    #[error("a certificate above it may not issue certificates (key usage keyCertSign)")]
    NotAnIssuer,
    /// The way is too long.
    #[error("there are more certificates between it and the authority than max_verify_depth allows")]
    TooDeep,
    /// None of its names matches.
    #[error("none of its names matches match_subject_alt_names")]
    Name,
    /// Taken back by its issuer.
    #[error("its issuer has revoked it")]
    Revoked,
    /// The list of its issuer is over or not yet valid.
    #[error("the revocation list of its issuer is not current")]
    ListOutdated,
    /// The list under the name of its issuer is not its issuer's.
    #[error("the revocation list under its issuer's name is not signed by its issuer")]
    ListForged,
    /// Something else about its chain.
    #[error("its chain does not follow the rules for certificates")]
    Chain,
}

impl Flaw {
    pub(super) fn of(error: &webpki::Error) -> Self {
        use webpki::Error;
        match error {
            Error::UnknownIssuer => Self::UnknownAuthority,
            Error::CertExpired { .. } | Error::InvalidCertValidity => Self::Expired,
            Error::CertNotValidYet { .. } => Self::NotYetValid,
            Error::RequiredEkuNotFoundContext(_) | Error::EmptyEkuExtension => Self::Purpose,
            Error::MaximumPathDepthExceeded | Error::PathLenConstraintViolated => Self::TooDeep,
            Error::BadDer | Error::BadDerTime | Error::TrailingData(_) | Error::UnsupportedCertVersion => {
                Self::Unreadable
            }
            _ => Self::Chain,
        }
    }

    /// The error of a handshake, so that the client gets the alert that fits.
    #[must_use]
    pub fn into_tls(self) -> rustls::Error {
        rustls::Error::InvalidCertificate(match self {
            Self::Unreadable => CertificateError::BadEncoding,
            Self::UnknownAuthority => CertificateError::UnknownIssuer,
            Self::Expired => CertificateError::Expired,
            Self::NotYetValid => CertificateError::NotValidYet,
            Self::Purpose => CertificateError::InvalidPurpose,
            Self::Revoked => CertificateError::Revoked,
            other => CertificateError::Other(OtherError(std::sync::Arc::new(other))),
        })
    }
}
