//! `decision_listener` (spec config.md 20). Whoever may ask there chooses who and what is judged, so nothing of it
//! has a default that lets anybody in.

use super::pem;
use super::{Cx, address, http};
use crate::settings::{DecisionSettings, DecisionTls, Services};
use crate::spec::values::Values;

const NAME: &str = "decision_listener";
const CERTIFICATE: (&str, &str) = ("tls_certificate", "tls_certificate_file");
const KEY: (&str, &str) = ("tls_key", "tls_key_file");
const CLIENT_CA: (&str, &str) = ("tls_client_ca", "tls_client_ca_file");
const FORWARD_AUTH: &str = "forward_auth";
const EXT_AUTHZ: &str = "ext_authz";

pub(super) fn resolve(values: &Values, services: Services, cx: &mut Cx<'_>) -> Option<DecisionSettings> {
    let listener = values.object(NAME)?;
    if !services.authorize && !services.proxy {
        let message = "has no effect: this process judges no requests";
        let help = "run `authorize` or `proxy` here as well (`services`), or remove it";
        cx.sink.warn(values.place(NAME), NAME, message, help);
    }
    let address = listen_on(listener, cx);
    let trusted_peers = peers(listener, cx);
    let (forward_auth, ext_authz) = protocols(listener, cx);
    let tls = tls(listener, cx);
    let address = address?;
    if tls.is_none() && !listener.on("allow_plain_text") && !address::is_loopback(&address) {
        let message = format!("without TLS, sessions cross the network in the clear to {address}");
        let help = "set `tls_certificate_file` and `tls_key_file`, listen on a loopback address such as \
                    127.0.0.1:9090, or set `allow_plain_text: true` where something else encrypts the way";
        cx.sink
            .error(listener.place("address"), listener.key("address"), message, help);
    }
    Some(DecisionSettings {
        address,
        trusted_peers,
        forward_auth,
        ext_authz,
        tls,
    })
}

fn listen_on(listener: &Values, cx: &mut Cx<'_>) -> Option<String> {
    let address = listener.text("address");
    let problem = match address {
        _ if listener.is_failed("address") => return None,
        "" => "`address` is missing",
        unix if unix.starts_with("unix:") || unix.starts_with('/') => "UNIX sockets are not listened on here",
        address => match address::check(address) {
            Ok(()) => return Some(address.to_owned()),
            Err(problem) => problem.text,
        },
    };
    let help = "write host:port, for instance 127.0.0.1:9090";
    cx.sink
        .error(listener.place("address"), listener.key("address"), problem, help);
    None
}

fn peers(listener: &Values, cx: &mut Cx<'_>) -> Vec<ipnet::IpNet> {
    let name = "trusted_peers";
    let networks = http::networks(listener, name, cx);
    if listener.texts(name).is_empty() && !listener.is_failed(name) {
        let help = "name the addresses or networks of your proxies, for instance `trusted_peers: [127.0.0.1, 10.0.0.0/24]`";
        cx.sink.error(
            listener.place(name),
            listener.key(name),
            "`trusted_peers` is missing: whoever asks chooses whose request is judged",
            help,
        );
    }
    for network in networks.iter().filter(|network| network.prefix_len() == 0) {
        let message = format!("{network} trusts everybody");
        let help =
            "name the addresses of your proxies; with `tls_client_ca` their certificates count as well";
        cx.sink
            .error(listener.place(name), listener.key(name), message, help);
    }
    networks
}

fn protocols(listener: &Values, cx: &mut Cx<'_>) -> (bool, bool) {
    let name = "protocols";
    if !listener.is_set(name) {
        return (true, true);
    }
    let given = listener.texts(name);
    let has = |protocol: &str| given.iter().any(|given| given == protocol);
    let unknown = given
        .iter()
        .find(|name| *name != FORWARD_AUTH && *name != EXT_AUTHZ);
    let problem = match unknown {
        Some(unknown) => Some(format!("unknown protocol \"{unknown}\"")),
        None if given.is_empty() => Some("the list is empty".to_owned()),
        None => None,
    };
    if let Some(problem) = problem {
        let help = "one or both of forward_auth (nginx, Traefik, Caddy) and ext_authz (Envoy)";
        cx.sink
            .error(listener.place(name), listener.key(name), problem, help);
    }
    (has(FORWARD_AUTH), has(EXT_AUTHZ))
}

fn tls(listener: &Values, cx: &mut Cx<'_>) -> Option<DecisionTls> {
    let certificate = pem::pair(listener, CERTIFICATE, KEY, "bad certificate:", cx);
    let client_ca = pem::given(listener, CLIENT_CA, cx).and_then(|given| {
        let name = given.name;
        let certificate = [CERTIFICATE.0, CERTIFICATE.1];
        if certificate.iter().all(|name| listener.some_text(name).is_none()) {
            let message = "proxies can show certificates over TLS only, and there is no `tls_certificate`";
            let help = "set `tls_certificate_file` and `tls_key_file`";
            cx.sink
                .error(listener.place(name), listener.key(name), message, help);
        }
        given.certificates(listener, "bad client CA:", cx)
    });
    Some(DecisionTls {
        certificate: certificate?,
        client_ca,
    })
}
