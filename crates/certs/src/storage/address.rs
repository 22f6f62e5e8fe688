//! `s3://…` and `gs://…`: which store an address means (spec proxy.md 3).

use std::sync::Arc;

use object_store::aws::AmazonS3Builder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::{ClientOptions, ObjectStore};
use percent_encoding::percent_decode_str;

use super::object::ObjectStorage;

/// Where Amazon's buckets are.
const AMAZON: &str = ".amazonaws.com";

/// An address that names no store. The text never holds the address, which may hold credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not `s3` and not `gs`.
    #[error("autocert_dir: the scheme is not known: a folder, s3://… or gs://… are")]
    Scheme,
    /// A part is missing.
    #[error(
        "autocert_dir: the address is not complete: s3://BUCKET.s3.REGION.amazonaws.com/PREFIX, s3://[USER:PASSWORD@]HOST/BUCKET/PREFIX or gs://BUCKET/PREFIX"
    )]
    Incomplete,
    /// The library refuses it.
    #[error("autocert_dir: the object store cannot be used: {0}")]
    Refused(String),
}

/// An address, taken apart.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Amazon {
        bucket: String,
        region: String,
        prefix: String,
    },
    /// MinIO and its like: plain HTTP, bucket in the path.
    Own {
        endpoint: String,
        credentials: Option<(String, String)>,
        bucket: String,
        prefix: String,
    },
    Google {
        bucket: String,
        prefix: String,
    },
}

/// Opens the store that `address` names. Credentials that are not in the address come from the usual environment
/// variables and from the machine's own identity in the cloud.
///
/// # Errors
/// [`AddressError`]; nothing is asked over the network yet.
pub fn open_object_store(address: &str) -> Result<ObjectStorage, AddressError> {
    let refused = |error: object_store::Error| AddressError::Refused(error.to_string());
    let (store, prefix): (Arc<dyn ObjectStore>, String) = match parse(address)? {
        Place::Amazon {
            bucket,
            region,
            prefix,
        } => {
            let store = AmazonS3Builder::from_env()
                .with_bucket_name(bucket)
                .with_region(region);
            (Arc::new(store.build().map_err(refused)?), prefix)
        }
        Place::Own {
            endpoint,
            credentials,
            bucket,
            prefix,
        } => {
            let mut store = AmazonS3Builder::from_env()
                .with_bucket_name(bucket)
                .with_region("us-east-1")
                .with_endpoint(endpoint)
                .with_client_options(ClientOptions::new().with_allow_http(true))
                .with_virtual_hosted_style_request(false);
            if let Some((user, password)) = credentials {
                store = store.with_access_key_id(user).with_secret_access_key(password);
            }
            (Arc::new(store.build().map_err(refused)?), prefix)
        }
        Place::Google { bucket, prefix } => {
            let store = GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket);
            (Arc::new(store.build().map_err(refused)?), prefix)
        }
    };
    Ok(ObjectStorage::new(store, &prefix))
}

fn parse(address: &str) -> Result<Place, AddressError> {
    let (scheme, rest) = address.split_once("://").ok_or(AddressError::Scheme)?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let path = path.trim_matches('/');
    let (credentials, host) = match authority.rsplit_once('@') {
        Some((credentials, host)) => (Some(credentials), host),
        None => (None, authority),
    };
    if host.is_empty() {
        return Err(AddressError::Incomplete);
    }
    match scheme {
        "gs" => Ok(Place::Google {
            bucket: host.to_owned(),
            prefix: path.to_owned(),
        }),
        "s3" if host.ends_with(AMAZON) => amazon(host, path),
        "s3" => {
            let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
            if bucket.is_empty() {
                return Err(AddressError::Incomplete);
            }
            Ok(Place::Own {
                endpoint: format!("http://{host}"),
                credentials: credentials.map(user_and_password).transpose()?,
                bucket: bucket.to_owned(),
                prefix: prefix.to_owned(),
            })
        }
        _ => Err(AddressError::Scheme),
    }
}

/// `bucket.s3.region.amazonaws.com`.
fn amazon(host: &str, prefix: &str) -> Result<Place, AddressError> {
    let name = host.strip_suffix(AMAZON).unwrap_or(host);
    let (bucket, region) = name.rsplit_once(".s3.").ok_or(AddressError::Incomplete)?;
    if bucket.is_empty() || region.is_empty() || region.contains('.') {
        return Err(AddressError::Incomplete);
    }
    Ok(Place::Amazon {
        bucket: bucket.to_owned(),
        region: region.to_owned(),
        prefix: prefix.to_owned(),
    })
}

fn user_and_password(text: &str) -> Result<(String, String), AddressError> {
    let (user, password) = text.split_once(':').ok_or(AddressError::Incomplete)?;
    let decoded = |text: &str| percent_decode_str(text).decode_utf8().map(String::from);
    match (decoded(user), decoded(password)) {
        (Ok(user), Ok(password)) => Ok((user, password)),
        _ => Err(AddressError::Incomplete),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_forms() {
        assert_eq!(
            parse("s3://certs.s3.eu-central-1.amazonaws.com/edge/one").unwrap(),
            Place::Amazon {
                bucket: "certs".into(),
                region: "eu-central-1".into(),
                prefix: "edge/one".into()
            }
        );
        assert_eq!(
            parse("s3://user:p%40ss@minio.example.com:9000/certs/edge").unwrap(),
            Place::Own {
                endpoint: "http://minio.example.com:9000".into(),
                credentials: Some(("user".into(), "p@ss".into())),
                bucket: "certs".into(),
                prefix: "edge".into()
            }
        );
        assert_eq!(
            parse("gs://certs/edge").unwrap(),
            Place::Google {
                bucket: "certs".into(),
                prefix: "edge".into()
            }
        );
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        assert_eq!(parse("azure://x/y").unwrap_err(), AddressError::Scheme);
        assert_eq!(parse("/var/lib").unwrap_err(), AddressError::Scheme);
        for bad in [
            "s3://",
            "gs:///x",
            "s3://user:hunter2@host",
            "s3://hunter2@host/bucket",
            "s3://x.amazonaws.com/a",
        ] {
            let error = parse(bad).unwrap_err();
            assert_eq!(error, AddressError::Incomplete, "{bad}");
            assert!(!error.to_string().contains("hunter2"));
        }
        assert!(open_object_store("s3://user:hunter2@127.0.0.1:9/bucket").is_ok());
    }
}
