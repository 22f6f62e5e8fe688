//! Client certificates: `downstream_mtls` (spec config.md 8.10, proxy.md 2) and the CA of one route.
//!
//! Whatever is written and cannot be used is an error: a missing CA must never open a door.

use std::collections::HashSet;

use super::Cx;
use super::files::has_certificate;
use super::pem::{self, Given};
use crate::records::{Records, RouteRecord};
use crate::settings::{DownstreamMtls, Enforcement, SanKind, SanMatch};
use crate::spec::base64_std;
use crate::spec::node::{Node, Value};
use crate::spec::re2;
use crate::spec::values::Values;

const PREFIX: &str = "config: bad downstream mTLS settings:";
const SAN_TYPES: [(&str, SanKind); 5] = [
    ("dns", SanKind::Dns),
    ("email", SanKind::Email),
    ("ip_address", SanKind::IpAddress),
    ("uri", SanKind::Uri),
    ("user_principal_name", SanKind::UserPrincipalName),
];

/// The global settings.
pub(super) fn resolve(values: &Values, cx: &mut Cx<'_>) -> Option<DownstreamMtls> {
    let mtls = values.object("downstream_mtls").filter(|mtls| !mtls.is_empty())?;
    let both = |name: &str| format!("{PREFIX} cannot set both {name} and {name}_file");
    let ca = pem::exclusive(mtls, ("ca", "ca_file"), &both("ca"), cx);
    let crl = pem::exclusive(mtls, ("crl", "crl_file"), &both("crl"), cx);
    Some(DownstreamMtls {
        ca: ca.and_then(|given| {
            let complaint = complaint(&given, "CA");
            given.certificates_at(pem::PARSED_WHEN_USED, mtls, &complaint, cx)
        }),
        crl: crl.and_then(|given| revocation_lists(given, mtls, cx)),
        enforcement: match mtls.choice("enforcement") {
            Some("policy") => Enforcement::Policy,
            Some("reject_connection") => Enforcement::RejectConnection,
            _ => Enforcement::PolicyWithDefaultDeny,
        },
        san: mtls
            .free("match_subject_alt_names")
            .map(|node| names(node, &mtls.key("match_subject_alt_names"), cx))
            .unwrap_or_default(),
        max_verify_depth: mtls
            .int("max_verify_depth")
            .and_then(|depth| u32::try_from(depth).ok())
            .unwrap_or(1),
    })
}

/// Whether every route denies without a valid client certificate: as soon as any authority is configured, unless the
/// enforcement leaves it to the policies (spec policy.md 5).
pub(super) fn denies_by_default(values: &Values, mtls: Option<&DownstreamMtls>, records: &Records) -> bool {
    if mtls.is_some_and(|mtls| mtls.enforcement == Enforcement::Policy) {
        return false;
    }
    let of_route = |route: &&Values| match &route.known {
        Some(known) => known.downstream_ca.is_some(),
        None => ["tls_downstream_client_ca", "tls_downstream_client_ca_file"]
            .iter()
            .any(|name| route.some_text(name).is_some()),
    };
    let routes = values.objects("policy").iter().chain(values.objects("routes"));
    mtls.is_some_and(|mtls| mtls.ca.is_some())
        || routes.into_iter().any(|route| of_route(&route))
        || a_record_asks(records)
}

/// Whether a route of a record has an authority of its own. One that is left out, since its id is taken or it cannot be
/// used, asks nobody for anything.
fn a_record_asks(records: &Records) -> bool {
    let has_authority = |route: &RouteRecord| {
        let given = route.node.get("tls_downstream_client_ca").map(|node| &node.value);
        matches!(given, Some(Value::Text(text)) if base64_std(text).is_ok_and(|pem| has_certificate(&pem)))
    };
    let mut taken = HashSet::new();
    records.routes.iter().any(|route| {
        let first = route.id.as_deref().is_none_or(|id| taken.insert(id));
        first && route.faults.is_empty() && has_authority(route)
    })
}

/// `tls_downstream_client_ca` of a route; the file wins.
pub(super) fn of_route(route: &Values, cx: &mut Cx<'_>) -> Option<Vec<u8>> {
    let (inline, file) = ("tls_downstream_client_ca", "tls_downstream_client_ca_file");
    let given = pem::file(route, file, cx).or_else(|| pem::inline(route, inline))?;
    let complaint = if given.is_file() {
        "config: couldn't load downstream client ca:"
    } else {
        "config: couldn't decode downstream client ca:"
    };
    warn_of_the_successor(route, given.name, cx);
    given.certificates_at(pem::PARSED_WHEN_USED, route, complaint, cx)
}

fn warn_of_the_successor(route: &Values, name: &str, cx: &mut Cx<'_>) {
    let message = format!("config: {name} is deprecated");
    let help = "name the authority in `downstream_mtls`, which counts for every route, and say in the route's `policy` which \
                certificates it takes";
    cx.sink.warn(route.place(name), route.key(name), message, help);
}

fn complaint(given: &Given, label: &str) -> String {
    let file = if given.is_file() { " file" } else { "" };
    format!("{PREFIX} {label}{file}:")
}

fn revocation_lists(given: Given, mtls: &Values, cx: &mut Cx<'_>) -> Option<Vec<u8>> {
    let (name, complaint) = (given.name, complaint(&given, "CRL"));
    let checked = given.bytes.and_then(|pem| match crl_problem(&pem) {
        None => Ok(pem),
        Some(problem) => Err(problem),
    });
    checked
        .map_err(|problem| {
            let help = "PEM blocks `X509 CRL` are expected; inline it is base64 of that";
            let message = format!("{complaint} {problem}");
            cx.sink.error(mtls.place(name), mtls.key(name), message, help);
        })
        .ok()
}

fn crl_problem(pem: &[u8]) -> Option<String> {
    use x509_parser::prelude::FromDer as _;
    let mut rest = pem;
    let mut lists = 0;
    while !rest.iter().all(u8::is_ascii_whitespace) {
        let Ok((after, block)) = x509_parser::pem::parse_x509_pem(rest) else {
            return Some("trailing data that is not PEM".into());
        };
        let parsed = x509_parser::revocation_list::CertificateRevocationList::from_der(&block.contents);
        if block.label != "X509 CRL" || !parsed.is_ok_and(|(rest, _)| rest.is_empty()) {
            return Some("a block is no X.509 revocation list".into());
        }
        rest = after;
        lists += 1;
    }
    (lists == 0).then(|| "no revocation list found in the PEM text".into())
}

fn names(node: &Node, key: &str, cx: &mut Cx<'_>) -> Vec<SanMatch> {
    let Value::List(items) = &node.value else {
        let message = format!("expected a list, found {}", node.kind());
        let help = "write a list of `type: pattern`";
        cx.sink.error(node.place, key, message, help);
        return Vec::new();
    };
    let mut matches = Vec::new();
    for item in items {
        let found = match &item.value {
            Value::Map(entries) if entries.len() == 1 => matcher(&entries[0].key, &entries[0].node),
            _ => Err("unsupported SAN matcher format".to_owned()),
        };
        match found {
            Ok(found) => matches.push(found),
            Err(problem) => {
                let types: Vec<_> = SAN_TYPES.iter().map(|(name, _)| *name).collect();
                let help = format!("one `type: pattern` per item; types are {}", types.join(", "));
                cx.sink
                    .error(item.place, key, format!("{PREFIX} {problem}"), help);
            }
        }
    }
    matches
}

fn matcher(name: &str, pattern: &Node) -> Result<SanMatch, String> {
    let (_, kind) = SAN_TYPES
        .into_iter()
        .find(|(known, _)| *known == name.to_lowercase())
        .ok_or_else(|| format!("unknown SAN type: {name}"))?;
    let Value::Text(pattern) = &pattern.value else {
        return Err("unsupported SAN matcher format".into());
    };
    // Alone, since `a)|(b` is whole inside parentheses only; and anchored, as it is used.
    let translated = re2::translate(pattern).into_owned();
    for text in [translated.clone(), format!("^(?:{translated})$")] {
        re2::compile(&text).map_err(|_| format!("couldn't parse pattern \"{pattern}\""))?;
    }
    Ok(SanMatch {
        kind,
        pattern: translated,
    })
}
