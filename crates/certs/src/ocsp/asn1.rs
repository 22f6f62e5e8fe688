//! The messages of OCSP (RFC 6960 section 4).

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use der::asn1::{AnyRef, BitStringRef, GeneralizedTime, Int, ObjectIdentifier, OctetString, OctetStringRef};
use der::{Choice, Enumerated, Sequence};
use x509_cert::spki::AlgorithmIdentifierOwned;
use x509_parser::prelude::X509Certificate;

use super::OcspError;

/// id-sha1: the only hash that every responder knows. It names a certificate here and protects nothing.
const SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");
/// id-pkix-ocsp-basic.
pub(super) const BASIC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.1");

#[derive(Debug, Clone, PartialEq, Eq, Sequence)]
pub(super) struct CertId {
    hash_algorithm: AlgorithmIdentifierOwned,
    issuer_name_hash: OctetString,
    issuer_key_hash: OctetString,
    serial_number: Int,
}

#[derive(Debug, Sequence)]
pub(super) struct OcspRequest {
    tbs_request: TbsRequest,
}

#[derive(Debug, Sequence)]
struct TbsRequest {
    request_list: Vec<SingleRequest>,
}

#[derive(Debug, Sequence)]
struct SingleRequest {
    req_cert: CertId,
}

/// Response statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enumerated)]
#[asn1(type = "ENUMERATED")]
#[repr(u8)]
pub(super) enum ResponseStatus {
    Successful = 0,
    MalformedRequest = 1,
    InternalError = 2,
    TryLater = 3,
    SigRequired = 5,
    Unauthorized = 6,
}

#[derive(Debug, Sequence)]
pub(super) struct OcspResponse<'a> {
    pub status: ResponseStatus,
    #[asn1(context_specific = "0", optional = "true", tag_mode = "EXPLICIT")]
    pub bytes: Option<ResponseBytes<'a>>,
}

#[derive(Debug, Sequence)]
pub(super) struct ResponseBytes<'a> {
    pub response_type: ObjectIdentifier,
    pub response: &'a OctetStringRef,
}

#[derive(Debug, Sequence)]
pub(super) struct BasicResponse<'a> {
    pub data: AnyRef<'a>,
    pub algorithm: AnyRef<'a>,
    pub signature: BitStringRef<'a>,
    #[asn1(context_specific = "0", optional = "true", tag_mode = "EXPLICIT")]
    pub certs: Option<Vec<AnyRef<'a>>>,
}

#[derive(Debug, Sequence)]
pub(super) struct ResponseData<'a> {
    #[asn1(context_specific = "0", optional = "true", tag_mode = "EXPLICIT")]
    pub version: Option<u8>,
    /// Who signed; the signature itself decides.
    pub responder_id: AnyRef<'a>,
    pub produced_at: GeneralizedTime,
    pub responses: Vec<SingleResponse<'a>>,
    #[asn1(context_specific = "1", optional = "true", tag_mode = "EXPLICIT")]
    pub extensions: Option<AnyRef<'a>>,
}

#[derive(Debug, Sequence)]
pub(super) struct SingleResponse<'a> {
    pub cert_id: CertId,
    pub status: CertStatus<'a>,
    pub this_update: GeneralizedTime,
    #[asn1(context_specific = "0", optional = "true", tag_mode = "EXPLICIT")]
    pub next_update: Option<GeneralizedTime>,
    #[asn1(context_specific = "1", optional = "true", tag_mode = "EXPLICIT")]
    pub extensions: Option<AnyRef<'a>>,
}

#[derive(Debug, Choice)]
pub(super) enum CertStatus<'a> {
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT")]
    Good(der::asn1::Null),
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", constructed = "true")]
    Revoked(RevokedInfo<'a>),
    #[asn1(context_specific = "2", tag_mode = "IMPLICIT")]
    Unknown(der::asn1::Null),
}

#[derive(Debug, Sequence)]
pub(super) struct RevokedInfo<'a> {
    pub time: GeneralizedTime,
    #[asn1(context_specific = "0", optional = "true", tag_mode = "EXPLICIT")]
    pub reason: Option<AnyRef<'a>>,
}

/// A certificate, as far as its signature is concerned.
#[derive(Debug, Sequence)]
pub(super) struct Signed<'a> {
    pub data: AnyRef<'a>,
    pub algorithm: AnyRef<'a>,
    pub signature: BitStringRef<'a>,
}

/// A public key as certificates hold it.
#[derive(Debug, Sequence)]
pub(super) struct PublicKey<'a> {
    pub algorithm: AnyRef<'a>,
    pub key: BitStringRef<'a>,
}

impl CertId {
    pub(super) fn of(leaf: &X509Certificate<'_>, issuer: &X509Certificate<'_>) -> Result<Self, OcspError> {
        let malformed = |error: der::Error| OcspError::Malformed(error.to_string());
        let hash = |bytes: &[u8]| OctetString::new(digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref());
        Ok(Self {
            hash_algorithm: AlgorithmIdentifierOwned {
                oid: SHA1,
                parameters: Some(der::asn1::Null.into()),
            },
            issuer_name_hash: hash(leaf.issuer().as_raw()).map_err(malformed)?,
            issuer_key_hash: hash(&issuer.public_key().subject_public_key.data).map_err(malformed)?,
            serial_number: Int::new(leaf.raw_serial()).map_err(malformed)?,
        })
    }

    /// Whether both mean one certificate; an absent parameter of the hash is as good as NULL.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.hash_algorithm.oid == other.hash_algorithm.oid
            && self.issuer_name_hash == other.issuer_name_hash
            && self.issuer_key_hash == other.issuer_key_hash
            && self.serial_number == other.serial_number
    }
}

impl OcspRequest {
    pub(super) fn about(id: CertId) -> Self {
        Self {
            tbs_request: TbsRequest {
                request_list: vec![SingleRequest { req_cert: id }],
            },
        }
    }
}

/// Reads a structure, all of `bytes`.
pub(super) fn read<'a, T: der::Decode<'a>>(bytes: &'a [u8]) -> Result<T, OcspError>
where
    T::Error: std::fmt::Display,
{
    T::from_der(bytes).map_err(|error| OcspError::Malformed(error.to_string()))
}
