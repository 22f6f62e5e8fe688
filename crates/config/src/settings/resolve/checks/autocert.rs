//! ACME options: form only.

use super::super::{Cx, files};
use crate::spec::base64_std;
use crate::spec::values::Values;

pub(super) fn check(values: &Values, cx: &mut Cx<'_>) {
    account_binding(values, cx);
    trusted_ca(values, cx);
}

fn account_binding(values: &Values, cx: &mut Cx<'_>) {
    let (id, key) = ("autocert_eab_key_id", "autocert_eab_mac_key");
    let help = "set both or neither";
    match (values.some_text(id), values.some_text(key)) {
        (Some(_), None) => {
            let message = "config: Autocert EAB MAC Key required when Key ID is provided";
            cx.sink.error(values.place(id), id, message, help);
        }
        (None, Some(_)) => {
            let message = "config: Autocert EAB Key ID required when MAC Key is provided";
            cx.sink.error(values.place(key), key, message, help);
        }
        _ => {}
    }
    if let Some(text) = values.some_text(key)
        && let Err(error) = pomerium_crypto::encoding::base64url_decode(text)
    {
        let message = format!("config: decoding base64-urlencoded MAC Key: {error}");
        cx.sink.error(
            values.place(key),
            key,
            message,
            "the URL-safe alphabet, without padding",
        );
    }
}

fn trusted_ca(values: &Values, cx: &mut Cx<'_>) {
    let (inline, file) = ("autocert_trusted_ca", "autocert_trusted_ca_file");
    let (text, path) = (values.some_text(inline), values.some_text(file));
    if text.is_some() && path.is_some() {
        let message = "config: providing both Autocert Trusted CA and Trusted CA File is not supported";
        cx.sink
            .error(values.place(inline), inline, message, "keep one of them");
        return;
    }
    let pem = text
        .map(|text| (inline, base64_std(text)))
        .or_else(|| path.map(|path| (file, cx.read(path))));
    let problem = match pem {
        Some((name, Err(message))) => Some((name, message)),
        Some((name, Ok(pem))) if !files::has_certificate(&pem) => Some((name, "no certificate found".into())),
        _ => None,
    };
    if let Some((name, message)) = problem {
        let label = if name == file {
            "bad trusted certificate (bundle) file"
        } else {
            "bad trusted certificate"
        };
        cx.sink.error(
            values.place(name),
            name,
            format!("config: {label}: {message}"),
            "a PEM bundle is expected",
        );
    }
}
