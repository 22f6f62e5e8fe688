//! From an order to a certificate.

use std::sync::Arc;
use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeType, Identifier, NewOrder, Order,
    OrderStatus, RetryPolicy,
};
use pomerium_api::clock::Clock;
use rcgen::{CertificateParams, CertificateSigningRequest, CustomExtension, DistinguishedName, KeyPair};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use zeroize::Zeroizing;

use super::challenges::Challenges;
use super::dns::{self, TxtRecord};
use super::error::AcmeError;
use super::options::{Dns, Method, Options};
use super::proofs::Proof;
use super::traces::{Shown, Trace};

/// How long the authority may take to look at a proof, and to sign.
const POLLING: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(500))
    .backoff(1.3)
    .timeout(Duration::from_secs(120));
/// One certificate, all attempts together; what was shown for it is taken back even afterwards.
const LIMIT: Duration = Duration::from_secs(600);
/// id-pe-tlsfeature (RFC 7633).
const TLS_FEATURE: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 1, 24];
/// SEQUENCE { INTEGER 5 }: status_request.
const STATUS_REQUEST: [u8; 5] = [0x30, 3, 2, 1, 5];

/// What an order brought.
pub(super) struct Issued {
    /// Leaf first.
    pub chain_pem: String,
    /// PKCS #8.
    pub key_pem: Zeroizing<String>,
}

/// What an order needs beside the account.
pub(super) struct Means<'a> {
    pub options: &'a Arc<Options>,
    pub challenges: &'a Arc<Challenges>,
    pub clock: &'a Arc<dyn Clock>,
    /// Takes back what an order leaves that is cut off.
    pub removals: &'a TaskTracker,
}

/// Gets a certificate for `name`, by the first of our methods that satisfies the authority.
pub(super) async fn obtain(
    means: &Means<'_>,
    account: &Account,
    name: &str,
    replaces: Option<&CertificateIdentifier<'_>>,
) -> Result<Issued, AcmeError> {
    let methods = means.options.methods(name);
    let mut last = AcmeError::NoMethod {
        name: name.to_owned(),
        reason: no_method(name),
    };
    let end = Instant::now() + LIMIT;
    for method in methods {
        match attempt(means, account, (name, method), replaces, end).await {
            Err(error @ (AcmeError::Refused { .. } | AcmeError::NoMethod { .. })) => {
                tracing::warn!(name, %error, "autocert: a challenge failed");
                last = error;
            }
            settled => return settled,
        }
    }
    Err(last)
}

fn no_method(name: &str) -> &'static str {
    if name.starts_with("*.") {
        "a wildcard is proven by DNS only; set autocert_dns"
    } else {
        "set autocert_dns, or serve TLS on the main listener, or plain HTTP with http_redirect_addr on port 80"
    }
}

async fn attempt(
    means: &Means<'_>,
    account: &Account,
    (name, method): (&str, Method),
    replaces: Option<&CertificateIdentifier<'_>>,
    end: Instant,
) -> Result<Issued, AcmeError> {
    let mut shown = Shown::new(means.options, means.clock, means.removals);
    let order = async {
        let mut order = start(account, name, replaces).await?;
        prove(means, &mut order, (name, method), &mut shown).await?;
        finish(&mut order, (name, method), means.options.must_staple).await
    };
    let result = match tokio::time::timeout_at(end, order).await {
        Ok(result) => result,
        Err(_) => Err(AcmeError::TooLong(LIMIT.as_secs())),
    };
    shown.take_back().await;
    result
}

/// Orders; the link to the certificate that is replaced is left out when the authority does not want it.
async fn start(
    account: &Account,
    name: &str,
    replaces: Option<&CertificateIdentifier<'_>>,
) -> Result<Order, AcmeError> {
    let identifiers = [Identifier::Dns(name.to_owned())];
    if let Some(replaces) = replaces {
        let order = NewOrder::new(&identifiers).replaces(replaces.clone());
        match account.new_order(&order).await {
            Ok(order) => return Ok(order),
            Err(error) => {
                tracing::info!(name, %error, "autocert: ordering without a link to the old certificate")
            }
        }
    }
    Ok(account.new_order(&NewOrder::new(&identifiers)).await?)
}

async fn prove(
    means: &Means<'_>,
    order: &mut Order,
    (name, method): (&str, Method),
    shown: &mut Shown,
) -> Result<(), AcmeError> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        match authorization.status {
            AuthorizationStatus::Pending => {}
            AuthorizationStatus::Valid => continue,
            _ => return Err(refused(method, "the authorization is not open any more".into())),
        }
        let challenge = authorization.challenge(kind(method));
        let mut challenge = challenge.ok_or_else(|| AcmeError::NoMethod {
            name: name.to_owned(),
            reason: "the authority does not offer a challenge that is possible here",
        })?;
        let key = challenge.key_authorization();
        match (method, &means.options.dns) {
            (Method::Dns, Some(dns)) => {
                let record = TxtRecord::proving(name, key.dns_value());
                shown.note(Trace::Record(record.clone()));
                publish(dns, &record, means.clock).await?;
            }
            (Method::Http, _) => {
                let proof = Proof::http(name, &challenge.token, key.as_str());
                offer(means, &proof, shown).await?;
            }
            _ => offer(means, &Proof::tls(name, key.digest().as_ref()), shown).await?,
        }
        challenge.set_ready().await?;
    }
    Ok(())
}

/// Here at once, and by every other process: the authority may ask any of them.
async fn offer(means: &Means<'_>, proof: &Proof, shown: &mut Shown) -> Result<(), AcmeError> {
    let offered = proof.offer(means.challenges);
    let offered = offered.map_err(|error| AcmeError::Other(error.to_string()))?;
    shown.hold(offered);
    let id = proof.id();
    shown.note(Trace::Shared(id.clone()));
    Ok(means.options.storage.publish(&id, &proof.content()).await?)
}

async fn publish(dns: &Dns, record: &TxtRecord, clock: &Arc<dyn Clock>) -> Result<(), AcmeError> {
    Ok(dns::present(dns, record, clock).await?)
}

async fn finish(
    order: &mut Order,
    (name, method): (&str, Method),
    must_staple: bool,
) -> Result<Issued, AcmeError> {
    match order.poll_ready(&POLLING).await {
        Ok(OrderStatus::Ready) => {}
        Ok(_) => return Err(refused(method, reason(order).await)),
        Err(instant_acme::Error::Api(problem)) => return Err(refused(method, problem.to_string())),
        Err(error) => return Err(error.into()),
    }
    let key = KeyPair::generate()?;
    order
        .finalize_csr(request(name, &key, must_staple)?.der())
        .await?;
    let chain_pem = order.poll_certificate(&POLLING).await?;
    Ok(Issued {
        chain_pem,
        key_pem: Zeroizing::new(key.serialize_pem()),
    })
}

fn request(name: &str, key: &KeyPair, must_staple: bool) -> Result<CertificateSigningRequest, rcgen::Error> {
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    if must_staple {
        let feature = CustomExtension::from_oid_content(TLS_FEATURE, STATUS_REQUEST.to_vec());
        params.custom_extensions.push(feature);
    }
    params.serialize_request(key)
}

/// What the authority did not like, in its words.
async fn reason(order: &mut Order) -> String {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let Ok(state) = authorization.refresh().await else {
            continue;
        };
        let problem = state
            .challenges
            .iter()
            .find_map(|challenge| challenge.error.as_ref());
        if let Some(problem) = problem {
            return problem.to_string();
        }
    }
    "it does not say why".into()
}

fn kind(method: Method) -> ChallengeType {
    match method {
        Method::Dns => ChallengeType::Dns01,
        Method::Tls => ChallengeType::TlsAlpn01,
        Method::Http => ChallengeType::Http01,
    }
}

fn refused(method: Method, reason: String) -> AcmeError {
    let method = match method {
        Method::Dns => "DNS-01",
        Method::Tls => "TLS-ALPN-01",
        Method::Http => "HTTP-01",
    };
    AcmeError::Refused { method, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn must_staple_is_asked_for_when_wanted_and_only_then() {
        let key = KeyPair::generate().unwrap();
        for wanted in [false, true] {
            let made = request("app.example.com", &key, wanted).unwrap();
            let der: &[u8] = made.der();
            let holds = |part: &[u8]| der.windows(part.len()).any(|window| window == part);
            assert!(holds(b"app.example.com"));
            // RFC 7633: 1.3.6.1.5.5.7.1.24.
            let feature = [0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x18];
            assert_eq!(holds(&feature), wanted);
        }
    }
}
