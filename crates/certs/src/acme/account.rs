//! The account at the authority: found in the storage, or opened.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::encoding::{AsDer as _, EcPrivateKeyRfc5915Der};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use instant_acme::{
    Account, AccountBuilder, BodyWrapper, BytesResponse, ExternalAccountKey, HttpClient, NewAccount,
};
use pomerium_api::clock::Clock;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::error::AcmeError;
use super::layout;
use super::options::Options;
use crate::storage::acquire;
use crate::web::Web;

/// The largest answer of an authority, in bytes.
const MAX_ANSWER: usize = 512 * 1024;
/// How long another process may take to open the account.
const PATIENCE: Duration = Duration::from_secs(60);

/// The registration as the original writes it; fields that we do not need stay out.
#[derive(Serialize, Deserialize)]
struct Registration {
    status: String,
    #[serde(default)]
    contact: Vec<String>,
    #[serde(rename = "termsOfServiceAgreed", default)]
    terms_of_service_agreed: bool,
    location: String,
}

/// Finds the account in the storage or opens one, under a lock so that several processes share it.
pub(super) async fn open(options: &Options, clock: &Arc<dyn Clock>) -> Result<Account, AcmeError> {
    if !options.directory.starts_with("https://") {
        return Err(AcmeError::NotHttps);
    }
    if let Some(account) = load(options).await? {
        return Ok(account);
    }
    let name = format!("register_acme_account_{}", layout::authority(&options.directory));
    let lock = acquire(&options.storage, clock, &name, PATIENCE).await?;
    lock.during(async {
        match load(options).await? {
            None => create(options).await,
            Some(account) => Ok(account),
        }
    })
    .await
}

/// Forgets an account that the authority does not know any more.
pub(super) async fn forget(options: &Options) -> Result<(), AcmeError> {
    let registration = layout::account_registration(&options.directory, &options.email);
    Ok(options.storage.delete(&registration).await?)
}

fn builder(options: &Options) -> AccountBuilder {
    Account::builder_with_http(Box::new(Client(Arc::clone(&options.web))))
}

async fn load(options: &Options) -> Result<Option<Account>, AcmeError> {
    let (directory, email) = (&options.directory, &options.email);
    let registration = options
        .storage
        .get(&layout::account_registration(directory, email))
        .await?;
    let key = options
        .storage
        .get(&layout::account_key(directory, email))
        .await?
        .map(Zeroizing::new);
    let (Some(registration), Some(key)) = (registration, key) else {
        return Ok(None);
    };
    let Ok(registration) = serde_json::from_slice::<Registration>(&registration) else {
        return Ok(None);
    };
    let Some(key) = pkcs8(&key) else {
        tracing::warn!(
            "autocert: the key of the stored account is not ECDSA on P-256; a new account is opened"
        );
        return Ok(None);
    };
    let key = PrivatePkcs8KeyDer::from(key.as_slice());
    let account = builder(options)
        .from_parts(registration.location, key, directory.clone())
        .await?;
    Ok(Some(account))
}

async fn create(options: &Options) -> Result<Account, AcmeError> {
    let contact = format!("mailto:{}", options.email);
    let contact: Vec<&str> = if options.email.is_empty() {
        Vec::new()
    } else {
        vec![&contact]
    };
    let wanted = NewAccount {
        contact: &contact,
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let external = options
        .external_account
        .as_ref()
        .map(|external| ExternalAccountKey::new(external.key_id.clone(), &external.mac_key));
    let (account, credentials) = builder(options)
        .create(&wanted, options.directory.clone(), external.as_ref())
        .await?;
    let registration = Registration {
        status: "valid".into(),
        contact: contact.iter().map(ToString::to_string).collect(),
        terms_of_service_agreed: true,
        location: account.id().to_owned(),
    };
    let registration =
        serde_json::to_vec_pretty(&registration).map_err(|error| AcmeError::Other(error.to_string()))?;
    let key = sec1_pem(credentials.private_key().secret_pkcs8_der()).ok_or(AcmeError::AccountKey)?;
    let (directory, email) = (&options.directory, &options.email);
    let files = [
        (layout::account_key(directory, email), key.as_bytes()),
        (layout::account_registration(directory, email), &registration),
    ];
    options.storage.put_all(&files).await?;
    tracing::info!(directory, email, "autocert: opened an account");
    Ok(account)
}

/// PKCS #8 DER from PEM of either form.
fn pkcs8(pem: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let key = PrivateKeyDer::from_pem_slice(pem).ok()?;
    let pair = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, key.secret_der()).ok()?;
    let document = pair.to_pkcs8v1().ok()?;
    Some(Zeroizing::new(document.as_ref().to_vec()))
}

/// The form in which the original keeps account keys.
fn sec1_pem(pkcs8: &[u8]) -> Option<Zeroizing<String>> {
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).ok()?;
    let der: EcPrivateKeyRfc5915Der<'_> = pair.private_key().as_der().ok()?;
    let document = der::pem::encode_string("EC PRIVATE KEY", der::pem::LineEnding::LF, der.as_ref()).ok()?;
    Some(Zeroizing::new(document))
}

/// Our HTTP for the ACME library: bounded, and https only.
struct Client(Arc<dyn Web>);

type Answer = Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>>;

impl HttpClient for Client {
    fn request(&self, request: Request<BodyWrapper<Bytes>>) -> Answer {
        let web = Arc::clone(&self.0);
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            if parts.uri.scheme_str() != Some("https") {
                return Err(instant_acme::Error::Str(
                    "the authority named an address without https",
                ));
            }
            let Ok(body) = body.collect().await;
            let request = Request::from_parts(parts, body.to_bytes());
            let response = web.send(request, MAX_ANSWER).await;
            let response = response.map_err(|error| instant_acme::Error::Other(Box::new(error)))?;
            Ok(BytesResponse::from(response.map(Full::new)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_the_form_of_the_original() {
        let key = rcgen::KeyPair::generate().unwrap();
        let sec1 = sec1_pem(&key.serialize_der()).unwrap();
        assert!(
            sec1.starts_with("-----BEGIN EC PRIVATE KEY-----\n"),
            "{}",
            &sec1[..40]
        );
        let back = pkcs8(sec1.as_bytes()).unwrap();
        assert_eq!(sec1_pem(&back).unwrap(), sec1);
        assert_eq!(
            sec1_pem(&pkcs8(key.serialize_pem().as_bytes()).unwrap()).unwrap(),
            sec1
        );
        assert!(pkcs8(b"nothing").is_none());
    }
}
