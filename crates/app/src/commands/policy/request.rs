//! An imagined request as the input of a case.

use anyhow::{Context, bail};
use base64::Engine as _;
use pomerium_api::clock::{Clock as _, SystemClock};
use serde_json::{Map, Value, json};

use super::args::Imagined;

const SESSION: &str = "session";
/// User id where only an e-mail address is given.
const USER: &str = "user";
const CREDENTIAL: &str = "certificate";

/// The case file that holds the request as its only case, called `name`.
pub(super) fn case_file(
    imagined: &Imagined,
    host: Option<&str>,
    name: &str,
    route: &str,
) -> anyhow::Result<Value> {
    let mut input = Map::new();
    add_person(&mut input, imagined)?;
    input.insert("http".into(), http(imagined, host)?);
    let time = imagined.time.unwrap_or_else(|| SystemClock.now());
    input.insert("time".into(), json!(time));
    let mut certificates = Map::new();
    if let Some(path) = &imagined.certificate {
        let pem = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        if !is_certificate(&pem) {
            bail!("{} holds no certificate in PEM", path.display());
        }
        certificates.insert(CREDENTIAL.into(), json!(pem));
        let valid = !imagined.certificate_invalid;
        input.insert(
            "tls".into(),
            json!({"presented": true, "leaf": CREDENTIAL, "valid": valid}),
        );
    }
    // Without a certificate none is valid where a rule asks for one.
    input.insert("client_ca_configured".into(), json!(true));
    Ok(json!({
        "certificates": certificates,
        "cases": [{"name": name, "route": route, "input": input, "expect": {}}],
    }))
}

fn add_person(input: &mut Map<String, Value>, imagined: &Imagined) -> anyhow::Result<()> {
    if imagined.user.is_none() && imagined.email.is_none() {
        let facts = !imagined.claims.is_empty() || !imagined.groups.is_empty() || imagined.device.is_some();
        if facts {
            bail!("claims, groups and devices are those of somebody: add --user or --email");
        }
        return Ok(());
    }
    let user = imagined.user.as_deref().unwrap_or(USER);
    let email = imagined.email.as_deref().unwrap_or_default();
    let claims = claims(&imagined.claims)?;
    input.insert("user".into(), json!({"id": user, "email": email, "claims": {}}));
    if !imagined.groups.is_empty() {
        input.insert(
            "directory_user".into(),
            json!({"id": user, "email": email, "group_ids": imagined.groups}),
        );
    }
    if imagined.service_account {
        if !claims.is_empty() || imagined.device.is_some() {
            bail!("a service account has no claims of a session and no device");
        }
        input.insert("service_account".into(), json!({"id": SESSION, "user_id": user}));
        return Ok(());
    }
    let mut session = json!({"id": SESSION, "user_id": user, "claims": claims});
    if let Some(device) = &imagined.device {
        let id = &imagined.device_id;
        session["device_credentials"] = json!([{"type_id": device, "id": id}]);
        let mut enrollment = json!({"id": "enrollment"});
        if let Some(who) = &imagined.device_approved_by {
            enrollment["approved_by"] = json!(who);
        }
        input.insert(
            "devices".into(),
            json!({
                "credentials": [{"id": id, "type_id": device, "enrollment_id": "enrollment"}],
                "enrollments": [enrollment],
            }),
        );
    }
    input.insert("session".into(), session);
    Ok(())
}

/// `NAME=VALUE` by name; the values of one name make a list.
fn claims(given: &[String]) -> anyhow::Result<Map<String, Value>> {
    let mut claims = Map::new();
    for claim in given {
        let Some((name, value)) = claim.split_once('=') else {
            bail!("--claim {claim}: write NAME=VALUE");
        };
        let value = serde_json::from_str(value).unwrap_or_else(|_| json!(value));
        let values = claims.entry(name).or_insert_with(|| json!([]));
        if let Some(values) = values.as_array_mut() {
            match value {
                Value::Array(several) => values.extend(several),
                one => values.push(one),
            }
        }
    }
    Ok(claims)
}

fn http(imagined: &Imagined, host: Option<&str>) -> anyhow::Result<Value> {
    let mut headers = Map::from_iter([("Accept".to_owned(), json!("text/html"))]);
    for header in &imagined.headers {
        let Some((name, value)) = header.split_once(':') else {
            bail!("--header {header}: write `Name: value`");
        };
        headers.retain(|known, _| !known.eq_ignore_ascii_case(name.trim()));
        headers.insert(name.trim().to_owned(), json!(value.trim()));
    }
    let mut http = json!({
        "method": imagined.method,
        "path": imagined.path,
        "headers": headers,
        "ip": imagined.ip,
    });
    if let Some(host) = host {
        http["host"] = json!(host);
    }
    Ok(http)
}

fn is_certificate(pem: &str) -> bool {
    let base64: String = pem
        .lines()
        .skip_while(|line| !line.starts_with("-----BEGIN CERTIFICATE"))
        .skip(1)
        .take_while(|line| !line.starts_with("-----END"))
        .collect();
    let der = base64::engine::general_purpose::STANDARD.decode(base64);
    der.is_ok_and(|der| pomerium_policy::CertificateFacts::read(&der).is_some())
}
