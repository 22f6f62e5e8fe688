//! Certificates by ACME (spec config.md 8.5, proxy.md 3). Everything is checked, also while `autocert` is off.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Cx;
use super::pem;
use crate::diagnostic::Stage;
use crate::settings::{AutocertSettings, AutocertStorage, RouteSettings, Secret};
use crate::spec::go_url::GoUrl;
use crate::spec::values::Values;

mod dns;
mod names;

const PRODUCTION: &str = "https://acme-v02.api.letsencrypt.org/directory";
const STAGING: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";

/// `alone`: there are no other certificates, so a host without one by ACME has none. `shared`: other processes may have
/// the same databroker.
pub(super) fn resolve(
    values: &Values,
    data_dir: &Path,
    routes: &[Arc<RouteSettings>],
    (alone, shared): (bool, bool),
    cx: &mut Cx<'_>,
) -> Option<AutocertSettings> {
    let eab = account_binding(values, cx);
    let trusted_ca = trusted_ca(values, cx);
    let directory = directory(values, cx);
    let storage = storage(values, data_dir, shared, cx);
    let dns = dns::resolve(values, cx);
    if !values.on("autocert") {
        return None;
    }
    Some(AutocertSettings {
        directory,
        email: values.text("autocert_email").to_owned(),
        eab,
        must_staple: values.on("autocert_must_staple"),
        storage,
        trusted_ca,
        names: names::resolve(values, routes, (dns.is_some(), alone), cx),
        dns,
        http_challenge: http_challenge(values),
    })
}

/// The directory of an own CA wins over the staging switch. Accounts and orders are worth protecting: https.
fn directory(values: &Values, cx: &mut Cx<'_>) -> String {
    let name = "autocert_ca";
    let Some(given) = values.some_text(name) else {
        let staging = values.on("autocert_use_staging");
        return if staging { STAGING } else { PRODUCTION }.to_owned();
    };
    let url = GoUrl::parse(given).ok();
    if !url.is_some_and(|url| url.scheme == "https" && !url.host.is_empty()) {
        let message = format!("\"{given}\" is no https URL");
        let help = "write the URL of the ACME directory, for instance https://ca.example.com/acme/directory";
        cx.sink
            .error_at(Stage::ServiceStart, values.place(name), name, message, help);
    }
    given.to_owned()
}

fn storage(values: &Values, data_dir: &Path, shared: bool, cx: &mut Cx<'_>) -> AutocertStorage {
    let name = "autocert_dir";
    let Some(given) = values.some_text(name) else {
        // Replicas with a folder each would order every certificate once for each of them.
        return match values.choice("autocert_storage") {
            Some("databroker") => AutocertStorage::Databroker,
            None if shared => AutocertStorage::Databroker,
            _ => AutocertStorage::Folder(data_dir.join("autocert")),
        };
    };
    if values.choice("autocert_storage") == Some("databroker") {
        let message = "certificates are kept in one place: `autocert_storage` says databroker, and `autocert_dir` names another";
        cx.sink
            .error(values.place(name), name, message, "keep one of the two");
    }
    match given.split_once("://") {
        None => AutocertStorage::Folder(PathBuf::from(given)),
        Some(("s3" | "gs", _)) => AutocertStorage::Object(Secret::new(given.as_bytes().to_vec())),
        Some((scheme, _)) => {
            // The rest is not repeated: it may hold credentials.
            let message = format!("\"{scheme}://\" is no storage for certificates");
            let help = "a folder, s3://… or gs://…";
            cx.sink
                .error_at(Stage::ServiceStart, values.place(name), name, message, help);
            AutocertStorage::Folder(data_dir.join("autocert"))
        }
    }
}

/// A public CA asks on port 80 only; one of our own may be told another port.
fn http_challenge(values: &Values) -> bool {
    let redirect = values.text("http_redirect_addr").trim_matches(['"', '\'']);
    match redirect.rsplit_once(':') {
        Some((_, port)) => port == "80" || values.some_text("autocert_ca").is_some(),
        None => false,
    }
}

fn account_binding(values: &Values, cx: &mut Cx<'_>) -> Option<(String, Secret)> {
    let (id, key) = ("autocert_eab_key_id", "autocert_eab_mac_key");
    let help = "set both or neither";
    let mac = values.some_text(key).and_then(|text| {
        pomerium_crypto::encoding::base64url_decode(text)
            .map_err(|error| {
                let message = format!("config: decoding base64-urlencoded MAC Key: {error}");
                let help = "the URL-safe alphabet, without padding";
                cx.sink.error(values.place(key), key, message, help);
            })
            .ok()
    });
    match (values.some_text(id), values.some_text(key)) {
        (Some(_), None) => {
            let message = "config: Autocert EAB MAC Key required when Key ID is provided";
            cx.sink.error(values.place(id), id, message, help);
            None
        }
        (None, Some(_)) => {
            let message = "config: Autocert EAB Key ID required when MAC Key is provided";
            cx.sink.error(values.place(key), key, message, help);
            None
        }
        (id, _) => Some((id?.to_owned(), Secret::new(mac?))),
    }
}

fn trusted_ca(values: &Values, cx: &mut Cx<'_>) -> Option<Vec<u8>> {
    let both = "config: providing both Autocert Trusted CA and Trusted CA File is not supported";
    let given = pem::exclusive(
        values,
        ("autocert_trusted_ca", "autocert_trusted_ca_file"),
        both,
        cx,
    )?;
    let complaint = if given.is_file() {
        "config: bad trusted certificate (bundle) file:"
    } else {
        "config: bad trusted certificate:"
    };
    given.certificates(values, complaint, cx)
}
