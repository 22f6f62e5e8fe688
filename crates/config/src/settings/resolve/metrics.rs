//! The metrics listener (spec config.md 8.13). What guards it is never left out in silence.

use super::pem;
use super::{Cx, address};
use crate::diagnostic::Stage;
use crate::settings::{MetricsSettings, MetricsTls, Secret};
use crate::spec::base64_std;
use crate::spec::values::Values;

const CERTIFICATE: (&str, &str) = ("metrics_certificate", "metrics_certificate_file");
const KEY: (&str, &str) = ("metrics_certificate_key", "metrics_certificate_key_file");
const CLIENT_CA: (&str, &str) = ("metrics_client_ca", "metrics_client_ca_file");

pub(super) fn resolve(values: &Values, cx: &mut Cx<'_>) -> Option<MetricsSettings> {
    let basic_auth = basic_auth(values, cx);
    let tls = tls(values, cx);
    values.some_text("metrics_address")?;
    let address = address::checked(values, "metrics_address", "config: invalid metrics_addr:", cx);
    Some(MetricsSettings {
        address,
        basic_auth,
        tls,
    })
}

fn basic_auth(values: &Values, cx: &mut Cx<'_>) -> Option<Secret> {
    let name = "metrics_basic_auth";
    let text = values.some_text(name)?;
    let help = "make it with `printf %s 'user:password' | base64`";
    match base64_std(text) {
        Ok(bytes) if bytes.contains(&b':') => Some(Secret::new(bytes)),
        Ok(_) => {
            let message =
                "config: metrics_basic_auth must contain a username and password separated by a colon";
            cx.sink.error(values.place(name), name, message, help);
            None
        }
        Err(_) => {
            let message = "config: metrics_basic_auth must be a base64 encoded string";
            cx.sink.error(values.place(name), name, message, help);
            None
        }
    }
}

fn tls(values: &Values, cx: &mut Cx<'_>) -> Option<MetricsTls> {
    let certificate = pem::pair(values, CERTIFICATE, KEY, "config: bad metrics certificate:", cx);
    let client_ca = pem::given(values, CLIENT_CA, cx).and_then(|given| {
        let name = given.name;
        if !is_set(values, CERTIFICATE) {
            let message =
                "clients can show certificates over TLS only, and there is no `metrics_certificate`";
            let help = "set `metrics_certificate` and `metrics_certificate_key`, or their `_file` forms";
            cx.sink
                .error_at(Stage::ServiceStart, values.place(name), name, message, help);
        }
        given.certificates_at(pem::READ_AT_START, values, "config: bad metrics client CA:", cx)
    });
    Some(MetricsTls {
        certificate: certificate?,
        client_ca,
    })
}

fn is_set(values: &Values, (text, path): (&str, &str)) -> bool {
    values.some_text(text).is_some() || values.some_text(path).is_some()
}
