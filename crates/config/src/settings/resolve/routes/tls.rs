//! TLS to the upstream (spec config.md 9.8 F).

use super::super::{Cx, certificates, files};
use crate::diagnostic::Stage;
use crate::settings::{Secret, UpstreamTls};
use crate::spec::base64_std;
use crate::spec::values::Values;

pub(super) fn resolve(route: &Values, cx: &mut Cx<'_>) -> UpstreamTls {
    let name = route
        .some_text("tls_upstream_server_name")
        .or_else(|| route.some_text("tls_server_name"));
    UpstreamTls {
        skip_verify: route.on("tls_skip_verify"),
        server_name: name.map(str::to_owned),
        custom_ca: custom_ca(route, cx),
        client_certificate: client_certificate(route, cx),
    }
}

/// The inline form wins; the file is not read then.
fn custom_ca(route: &Values, cx: &mut Cx<'_>) -> Option<Vec<u8>> {
    let (name, bytes) = match (
        route.some_text("tls_custom_ca"),
        route.some_text("tls_custom_ca_file"),
    ) {
        (Some(text), _) => (
            "tls_custom_ca",
            base64_std(text).map_err(|error| format!("config: couldn't decode custom ca: {error}")),
        ),
        (None, Some(path)) => (
            "tls_custom_ca_file",
            cx.read(path)
                .map_err(|error| format!("config: couldn't load client ca file: {error}")),
        ),
        (None, None) => return None,
    };
    // The original parses what is in it when it builds the cluster of the route.
    let checked = match bytes {
        Ok(pem) if files::has_certificate(&pem) => Ok(pem),
        Ok(_) => Err((
            Stage::DataPlane,
            "config: couldn't decode custom ca: no certificate found in the PEM text".to_owned(),
        )),
        Err(message) => Err((Stage::Load, message)),
    };
    match checked {
        Ok(pem) => Some(pem),
        Err((stage, message)) => {
            let help = "a PEM bundle of CA certificates; inline it is base64 of that";
            cx.sink
                .error_at(stage, route.place(name), route.key(name), message, help);
            None
        }
    }
}

/// The inline pair wins over the files.
fn client_certificate(route: &Values, cx: &mut Cx<'_>) -> Option<(Vec<u8>, Secret)> {
    let inline = (route.text("tls_client_cert"), route.text("tls_client_key"));
    let named = (
        route.text("tls_client_cert_file"),
        route.text("tls_client_key_file"),
    );
    for ((cert, key), option) in [(inline, "tls_client_cert"), (named, "tls_client_cert_file")] {
        if cert.is_empty() != key.is_empty() {
            let message = "config: client certificate key and cert both must be non-empty";
            let help = "set certificate and key together";
            cx.sink
                .error(route.place(option), route.key(option), message, help);
            return None;
        }
    }
    let (option, pair) = if !inline.0.is_empty() {
        let decoded = base64_std(inline.0).and_then(|cert| Ok((cert, base64_std(inline.1)?)));
        (
            "tls_client_cert",
            decoded.map_err(|error| format!("config: couldn't decode client cert: {error}")),
        )
    } else if !named.0.is_empty() {
        let read = cx.read(named.0).and_then(|cert| Ok((cert, cx.read(named.1)?)));
        (
            "tls_client_cert_file",
            read.map_err(|error| format!("config: couldn't load client cert file: {error}")),
        )
    } else {
        return None;
    };
    let checked = pair.and_then(|(cert, key)| match certificates::check(&cert, &key) {
        Ok(()) => Ok((cert, Secret::new(key))),
        Err(error) => Err(format!("config: couldn't decode client cert: {error}")),
    });
    checked
        .map_err(|message| {
            let help = "certificate and key in PEM that belong together; inline they are base64 of that";
            cx.sink
                .error(route.place(option), route.key(option), message, help);
        })
        .ok()
}
