//! `google_cloud_serverless_authentication_service_account`: the key file of a Google service account, inline.

use serde::Deserialize;

use super::Cx;
use crate::diagnostic::Stage;
use crate::settings::{GoogleAccount, Secret};
use crate::spec::base64_std;
use crate::spec::values::Values;

const NAME: &str = "google_cloud_serverless_authentication_service_account";
const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";

#[derive(Deserialize)]
struct KeyFile {
    #[serde(default)]
    r#type: String,
    #[serde(default)]
    client_email: String,
    #[serde(default)]
    private_key: String,
    #[serde(default)]
    private_key_id: String,
    #[serde(default)]
    token_uri: String,
}

/// The account, when one is configured. The text is JSON, or base64 of it.
pub(super) fn account(values: &Values, cx: &mut Cx<'_>) -> Option<GoogleAccount> {
    let text = values.some_text(NAME)?;
    match read(text) {
        Ok(account) => Some(account),
        Err(what) => {
            let help = "paste the JSON key of a service account as Google made it, or base64 of it; \
                        or remove it, and the metadata server of the machine is asked";
            cx.sink
                .error_at(Stage::ServiceStart, values.place(NAME), NAME, what, help);
            None
        }
    }
}

/// What is wrong is said without a word of the text: it holds a private key.
fn read(text: &str) -> Result<GoogleAccount, &'static str> {
    let decoded = match text.trim_start().starts_with('{') {
        true => text.as_bytes().to_vec(),
        false => base64_std(text).map_err(|_| "it is neither JSON nor base64")?,
    };
    let file: KeyFile = serde_json::from_slice(&decoded).map_err(|_| "it is no JSON object of a key file")?;
    if file.r#type != "service_account" {
        return Err("its `type` is not service_account");
    }
    if file.client_email.is_empty() {
        return Err("it has no `client_email`");
    }
    pomerium_crypto::jwt::SigningKey::from_pem(file.private_key.as_bytes())
        .ok()
        .filter(|key| key.alg() == "RS256")
        .ok_or("its `private_key` is no RSA key in PEM")?;
    let token_uri = match file.token_uri.as_str() {
        "" => TOKEN_URI.to_owned(),
        _ => file.token_uri,
    };
    if !is_safe(&token_uri) {
        return Err("its `token_uri` is no https address");
    }
    Ok(GoogleAccount {
        email: file.client_email,
        key_id: file.private_key_id,
        key: Secret::new(file.private_key.into_bytes()),
        token_uri,
    })
}

/// What is sent there is a signed statement: over TLS, or not off this machine.
fn is_safe(url: &str) -> bool {
    if url.starts_with("https://") {
        return true;
    }
    let Some(rest) = url.strip_prefix("http://") else {
        return false;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    matches!(host, "localhost" | "127.0.0.1" | "[::1]")
}

#[cfg(test)]
mod tests {
    use super::*;

    const RSA: &str = include_str!("../../../../crypto/testdata/rsa-pkcs1.pem");
    const EC: &str = include_str!("../../../../crypto/testdata/ec-sec1.pem");

    fn file(change: impl FnOnce(&mut serde_json::Value)) -> String {
        let mut file = serde_json::json!({
            "type": "service_account", "client_email": "proxy@project.iam.gserviceaccount.com",
            "private_key": RSA, "private_key_id": "k1",
        });
        change(&mut file);
        file.to_string()
    }

    #[test]
    fn json_and_base64_of_it_are_read() {
        let account = read(&file(|_| ())).unwrap();
        assert_eq!(account.token_uri, TOKEN_URI);
        assert_eq!(account.key_id, "k1");
        let encoded = pomerium_crypto::encoding::base64_encode(file(|_| ()).as_bytes());
        assert_eq!(read(&encoded).unwrap(), account);
    }

    #[test]
    fn what_is_wrong_is_told_without_the_key() {
        for (text, says) in [
            ("!".to_owned(), "base64"),
            ("{".to_owned(), "JSON"),
            (file(|file| file["type"] = "authorized_user".into()), "type"),
            (file(|file| file["client_email"] = "".into()), "client_email"),
            (file(|file| file["private_key"] = EC.into()), "private_key"),
            (
                file(|file| file["token_uri"] = "http://evil.example/".into()),
                "token_uri",
            ),
            (
                file(|file| file["token_uri"] = "http://127.0.0.1.evil.example/".into()),
                "token_uri",
            ),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
        assert!(read(&file(|file| file["token_uri"] = "http://127.0.0.1:1/t".into())).is_ok());
    }
}
