//! Whether an answer can be believed (RFC 6960 section 3.2).

use der::Encode as _;
use der::asn1::{AnyRef, BitStringRef, GeneralizedTime};
use rustls::crypto::aws_lc_rs;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::asn1::{
    BASIC, BasicResponse, CertStatus, OcspResponse, PublicKey, ResponseData, ResponseStatus, Signed, read,
};
use super::{OcspError, Staple, Subject};

/// How far ahead of ours the clock of a responder may be, in seconds.
const SKEW: i64 = 300;
/// How long an answer counts that does not say it, in seconds.
const WITHOUT_END: i64 = 12 * 3600;
/// The most certificates of responders that are looked at.
const MAX_CERTIFICATES: usize = 4;

pub(super) fn verify(subject: &Subject, response: &[u8], now_unix: i64) -> Result<Staple, OcspError> {
    let outer: OcspResponse<'_> = read(response)?;
    if outer.status != ResponseStatus::Successful {
        return Err(OcspError::NoAnswer(outer.status as u8));
    }
    let bytes = outer.bytes.ok_or(OcspError::NoAnswer(0))?;
    if bytes.response_type != BASIC {
        return Err(OcspError::Malformed("an unknown kind of response".into()));
    }
    let basic: BasicResponse<'_> = read(bytes.response.as_bytes())?;
    let signed = raw(basic.data)?;
    check_signature(subject, &basic, &signed, now_unix)?;
    let data: ResponseData<'_> = read(&signed)?;
    let about = data
        .responses
        .iter()
        .find(|single| single.cert_id.is(&subject.id));
    let single = about.ok_or(OcspError::OtherCertificate)?;
    let this_update = unix(&single.this_update);
    let next_update = single
        .next_update
        .as_ref()
        .map_or(this_update + WITHOUT_END, unix);
    if this_update > now_unix + SKEW || next_update <= now_unix {
        return Err(OcspError::OutOfTime);
    }
    let revoked = match single.status {
        CertStatus::Good(_) => false,
        CertStatus::Revoked(_) => true,
        CertStatus::Unknown(_) => return Err(OcspError::Unknown),
    };
    Ok(Staple {
        der: response.to_vec(),
        revoked,
        this_update,
        next_update,
    })
}

fn unix(time: &GeneralizedTime) -> i64 {
    i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX)
}

fn raw(any: AnyRef<'_>) -> Result<Vec<u8>, OcspError> {
    any.to_der()
        .map_err(|error| OcspError::Malformed(error.to_string()))
}

/// By the issuer itself, or by a certificate that the issuer made for this purpose.
fn check_signature(
    subject: &Subject,
    basic: &BasicResponse<'_>,
    signed: &[u8],
    now_unix: i64,
) -> Result<(), OcspError> {
    let malformed = |_| OcspError::Malformed("the issuer's certificate".into());
    let (_, issuer) = X509Certificate::from_der(&subject.issuer).map_err(malformed)?;
    let issuer_key = issuer.public_key().raw;
    if is_signed(issuer_key, basic.algorithm, signed, basic.signature) {
        return Ok(());
    }
    for certificate in basic.certs.iter().flatten().take(MAX_CERTIFICATES) {
        let der = raw(*certificate)?;
        let Ok((_, responder)) = X509Certificate::from_der(&der) else {
            continue;
        };
        if is_charged(&responder, &der, &issuer, now_unix)?
            && is_signed(
                responder.public_key().raw,
                basic.algorithm,
                signed,
                basic.signature,
            )
        {
            return Ok(());
        }
    }
    Err(OcspError::Signature)
}

/// Whether the issuer made this certificate for signing statuses, and now is its time.
fn is_charged(
    responder: &X509Certificate<'_>,
    der: &[u8],
    issuer: &X509Certificate<'_>,
    now_unix: i64,
) -> Result<bool, OcspError> {
    let usage = responder.extended_key_usage().ok().flatten();
    let charged = usage.is_some_and(|usage| usage.value.ocsp_signing);
    let validity = responder.validity();
    let in_time = (validity.not_before.timestamp()..=validity.not_after.timestamp()).contains(&now_unix);
    if !charged || !in_time || responder.issuer() != issuer.subject() {
        return Ok(false);
    }
    let parts: Signed<'_> = read(der)?;
    let data = raw(parts.data)?;
    Ok(is_signed(
        issuer.public_key().raw,
        parts.algorithm,
        &data,
        parts.signature,
    ))
}

/// Whether `signature` over `data` is by the key in `public_key` (a SubjectPublicKeyInfo), with an algorithm that TLS
/// uses too; SHA-1 is not among them.
fn is_signed(public_key: &[u8], algorithm: AnyRef<'_>, data: &[u8], signature: BitStringRef<'_>) -> bool {
    let (Ok(public_key), Some(signature)) = (read::<PublicKey<'_>>(public_key), signature.as_bytes()) else {
        return false;
    };
    let Some(key) = public_key.key.as_bytes() else {
        return false;
    };
    aws_lc_rs::default_provider()
        .signature_verification_algorithms
        .all
        .iter()
        .filter(|known| known.signature_alg_id().as_ref() == algorithm.value())
        .filter(|known| known.public_key_alg_id().as_ref() == public_key.algorithm.value())
        .any(|known| known.verify_signature(key, data, signature).is_ok())
}
