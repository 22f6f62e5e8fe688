//! Sign-in: the authenticate service, the identity provider, cookies, branding.

use std::path::Path;

use pomerium_crypto::{encoding, kdf};

use super::{Cx, local_users};
use crate::diagnostic::Stage;
use crate::settings::{
    AuthenticateSettings, Branding, CookieSettings, IdpKind, IdpSettings, Origin, SameSite, Secret, Secrets,
};
use crate::spec::go_url::{self, GoUrl};
use crate::spec::values::Values;

/// The hosted authenticate service: what an unset URL means.
pub(crate) const HOSTED: &str = "https://authenticate.pomerium.app";
pub(super) const HOSTED_HOSTS: [&str; 2] = ["authenticate.pomerium.app", "authenticate.staging.pomerium.app"];
/// Path of the built-in identity provider under the authenticate origin; the issuer ends here.
const LOCAL_IDP_PATH: &str = "/.pomerium/idp";
const DEFAULT_SCOPES: [&str; 4] = ["openid", "profile", "email", "offline_access"];
/// Providers of the original that this version does not speak to by name.
pub(super) const KNOWN_PROVIDERS: [&str; 11] = [
    "apple", "auth0", "azure", "cognito", "github", "gitlab", "google", "hosted", "okta", "onelogin", "ping",
];

pub(super) fn resolve(
    values: &Values,
    secrets: &Secrets,
    data_dir: &Path,
    cx: &mut Cx<'_>,
) -> AuthenticateSettings {
    let url = service_url(values, "authenticate_service_url", "authenticate-url", cx);
    let internal = service_url(
        values,
        "authenticate_internal_service_url",
        "authenticate-internal-url",
        cx,
    );
    let signout = service_url(values, "signout_redirect_url", "signout-redirect-url", cx);
    // A proxy judges by itself, so it asks no authorize service; the URLs are still checked.
    service_url(values, "authorize_service_url", "authorize-url", cx);
    service_url(
        values,
        "authorize_internal_service_url",
        "authorize-internal-url",
        cx,
    );
    let url = url.as_ref().map_or_else(hosted, origin);
    AuthenticateSettings {
        internal_url: internal.as_ref().map_or_else(|| url.clone(), origin),
        signout_redirect_url: signout.map(|url| url.text()),
        idp: provider(values, values, &url, secrets, cx),
        local_idp: local_users::resolve(values, data_dir, cx),
        programmatic_domains: values.texts("programmatic_redirect_domain_whitelist").to_vec(),
        url,
    }
}

pub(super) fn service_url(values: &Values, name: &str, label: &str, cx: &mut Cx<'_>) -> Option<GoUrl> {
    let text = values.some_text(name)?;
    match go_url::require(text) {
        Ok(url) => Some(url),
        Err(message) => {
            let help = "write scheme and host, for instance https://authenticate.example.com";
            cx.sink.error(
                values.place(name),
                name,
                format!("config: bad {label} {text}: {message}"),
                help,
            );
            None
        }
    }
}

fn hosted() -> Origin {
    Origin {
        scheme: "https".into(),
        host: HOSTED_HOSTS[0].into(),
        port: None,
    }
}

/// Whether signing in goes through the hosted service.
pub(super) fn is_hosted(authenticate: &AuthenticateSettings) -> bool {
    HOSTED_HOSTS.contains(&authenticate.internal_url.host.as_str())
}

pub(super) fn origin(url: &GoUrl) -> Origin {
    Origin {
        scheme: url.scheme.clone(),
        host: url.hostname().to_lowercase(),
        port: url.port().parse().ok(),
    }
}

/// The provider of a level: the global options, overlaid with the client of a route.
pub(super) fn provider(
    values: &Values,
    client: &Values,
    authenticate: &Origin,
    secrets: &Secrets,
    cx: &mut Cx<'_>,
) -> Option<IdpSettings> {
    let kind = match values.text("idp_provider") {
        "oidc" => IdpKind::Oidc,
        "local" => IdpKind::Local,
        _ => return None,
    };
    let mut idp = IdpSettings {
        id: String::new(),
        kind,
        issuer: values.text("idp_provider_url").to_owned(),
        client_id: client
            .some_text("idp_client_id")
            .unwrap_or(values.text("idp_client_id"))
            .to_owned(),
        client_secret: client_secret(values, client, cx),
        scopes: values.texts("idp_scopes").to_vec(),
        request_params: values.pairs("idp_request_params").to_vec(),
    };
    if kind == IdpKind::Local {
        local_client(&mut idp, authenticate, secrets);
    }
    idp.request_params.sort();
    idp.id = provider_id(
        values.text("idp_provider"),
        &idp,
        values.text("authenticate_service_url"),
    );
    if idp.scopes.is_empty() {
        idp.scopes = DEFAULT_SCOPES.map(str::to_owned).to_vec();
    }
    Some(idp)
}

/// Issuer and client of the built-in provider follow from the authenticate URL and the shared secret.
fn local_client(idp: &mut IdpSettings, authenticate: &Origin, secrets: &Secrets) {
    let shared = <[u8; 32]>::try_from(secrets.shared.expose()).unwrap_or_default();
    idp.issuer = format!("{}{LOCAL_IDP_PATH}", authenticate.url());
    idp.client_id = "pomerium".into();
    let secret = encoding::base64url_encode(&kdf::derive(&shared, "local-idp-client-secret"));
    idp.client_secret = Secret::new(secret.into_bytes());
}

fn client_secret(values: &Values, client: &Values, cx: &mut Cx<'_>) -> Secret {
    let is_route = !client.path.is_empty();
    if is_route && let Some(secret) = client.some_text("idp_client_secret") {
        return Secret::new(secret.as_bytes());
    }
    let name = "idp_client_secret_file";
    let Some(path) = values.some_text(name) else {
        return Secret::new(values.text("idp_client_secret").as_bytes());
    };
    match cx.read(path) {
        Ok(bytes) => Secret::new(bytes),
        Err(message) => {
            if !is_route {
                cx.sink.error_at(
                    Stage::ServiceStart,
                    values.place(name),
                    name,
                    message,
                    "check the path",
                );
            }
            Secret::new(Vec::new())
        }
    }
}

/// base62 of SHA-256 over the provider as a protobuf message (spec authentication.md 1, "IdP id").
fn provider_id(kind: &str, idp: &IdpSettings, authenticate_url: &str) -> String {
    use sha2::{Digest as _, Sha256};
    let authenticate_url = if authenticate_url.is_empty() {
        HOSTED
    } else {
        authenticate_url
    };
    let mut message = Vec::new();
    field(&mut message, 2, idp.client_id.as_bytes());
    field(&mut message, 3, idp.client_secret.expose());
    field(&mut message, 4, kind.as_bytes());
    for scope in &idp.scopes {
        repeated(&mut message, 5, scope.as_bytes());
    }
    field(&mut message, 7, idp.issuer.as_bytes());
    for (name, value) in &idp.request_params {
        let mut entry = Vec::new();
        repeated(&mut entry, 1, name.as_bytes());
        repeated(&mut entry, 2, value.as_bytes());
        repeated(&mut message, 8, &entry);
    }
    field(&mut message, 9, authenticate_url.as_bytes());
    encoding::base62_bitpacked(&Sha256::digest(&message))
}

/// A text field; empty ones are not written.
fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        repeated(out, number, bytes);
    }
}

fn repeated(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push(u8::try_from(length & 0x7f).unwrap_or(0) | 0x80);
        length >>= 7;
    }
    out.push(u8::try_from(length).unwrap_or(0));
    out.extend_from_slice(bytes);
}

pub(super) fn cookies(values: &Values, cx: &mut Cx<'_>) -> CookieSettings {
    let name = "cookie_same_site";
    let same_site = match values.text(name).to_lowercase().as_str() {
        "" => None,
        "strict" => Some(SameSite::Strict),
        "lax" => Some(SameSite::Lax),
        "none" => Some(SameSite::None),
        other => {
            let message = format!("config: invalid cookie_same_site: unknown cookie_same_site: {other}");
            cx.sink
                .error(values.place(name), name, message, "one of strict, lax, none");
            None
        }
    };
    check_cookie(values, cx);
    CookieSettings {
        name: values.text("cookie_name").to_owned(),
        domain: values.some_text("cookie_domain").map(str::to_owned),
        http_only: values.on("cookie_http_only"),
        expire: values.duration("cookie_expire").unwrap_or_default(),
        same_site,
    }
}

/// What no browser would keep, so that nobody could stay signed in.
fn check_cookie(values: &Values, cx: &mut Cx<'_>) {
    let mut wrong = |name: &str, message: String, help: &str| {
        cx.sink
            .error_at(Stage::ServiceStart, values.place(name), name, message, help);
    };
    let name = values.text("cookie_name");
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if name.is_empty() || !name.chars().all(token) {
        let message = format!("\"{name}\" is no cookie name");
        wrong("cookie_name", message, "use letters, digits, `-` and `_`");
    }
    let domain = values.text("cookie_domain");
    if !domain
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "-.".contains(c))
    {
        let message = format!("\"{domain}\" is no domain");
        wrong(
            "cookie_domain",
            message,
            "write one such as example.com, or remove it",
        );
    }
    if values
        .duration("cookie_expire")
        .is_none_or(|expire| expire.is_zero())
    {
        let message = "a session would end when it begins".to_owned();
        wrong(
            "cookie_expire",
            message,
            "write a time of at least some minutes, for instance 14h",
        );
    }
}

/// `#rgb` or `#rrggbb`.
fn is_color(text: &str) -> bool {
    let digits = text.trim().strip_prefix('#').unwrap_or_default();
    matches!(digits.len(), 3 | 6) && digits.chars().all(|c| c.is_ascii_hexdigit())
}

pub(super) fn branding(values: &Values, cx: &mut Cx<'_>) -> Branding {
    let Some(given) = values.object("branding") else {
        return Branding::default();
    };
    let text = |name| given.some_text(name).map(str::to_owned);
    let mut color = |name| {
        let text = given.some_text(name)?;
        if is_color(text) {
            return Some(text.to_owned());
        }
        let message = format!("\"{text}\" is no colour: it is ignored");
        cx.sink
            .warn(given.place(name), given.key(name), message, "write #rrggbb");
        None
    };
    Branding {
        primary_color: color("primary_color"),
        secondary_color: color("secondary_color"),
        darkmode_primary_color: color("darkmode_primary_color"),
        darkmode_secondary_color: color("darkmode_secondary_color"),
        logo_url: text("logo_url"),
        favicon_url: text("favicon_url"),
        error_message_first_paragraph: text("error_message_first_paragraph"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_fields_get_a_two_byte_length() {
        let mut out = Vec::new();
        repeated(&mut out, 7, &[b'x'; 200]);
        assert_eq!(out[..3], [7 << 3 | 2, 0xc8, 0x01]);
        assert_eq!(out.len(), 203);
    }

    #[test]
    fn the_id_depends_on_the_client() {
        let mut idp = IdpSettings {
            id: String::new(),
            kind: IdpKind::Oidc,
            issuer: "https://idp.example.com".into(),
            client_id: "a".into(),
            client_secret: Secret::new(b"s".as_slice()),
            scopes: Vec::new(),
            request_params: Vec::new(),
        };
        let first = provider_id("oidc", &idp, "");
        assert_eq!(first, provider_id("oidc", &idp, HOSTED));
        idp.client_id = "b".into();
        assert_ne!(first, provider_id("oidc", &idp, ""));
    }
}
