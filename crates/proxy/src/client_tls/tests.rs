//! Which host asks for what.

use std::sync::Arc;

use pomerium_certs::client::Demand;
use pomerium_crypto::encoding::base64_encode;

use super::{ClientTrusts, Demands};
use crate::tests::support::settings;

fn authority(name: &str) -> String {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
    base64_encode(certificate.pem().as_bytes())
}

fn trusts(
    global: Option<&str>,
    routes: &[(&str, Option<&str>)],
    previous: Option<&ClientTrusts>,
) -> ClientTrusts {
    let options = global.map_or_else(String::new, |ca| format!("downstream_mtls:\n  ca: {ca}\n"));
    let text: String = routes
        .iter()
        .map(|(from, ca)| {
            let own = ca.map_or_else(String::new, |ca| format!("    tls_downstream_client_ca: {ca}\n"));
            format!(
                "  - from: {from}\n    to: http://up.example.com\n    allow_public_unauthenticated_access: true\n{own}"
            )
        })
        .collect();
    let settings = settings(&options, &text);
    ClientTrusts::build(&settings, previous).unwrap().unwrap()
}

/// How many authorities a demand names.
fn count(demand: Option<&Arc<Demand>>) -> usize {
    demand.map_or(0, |demand| demand.trust().anchors().len())
}

fn asked(demands: &Demands, name: &str) -> usize {
    count(demands.asked(Some(name)))
}

#[test]
fn one_authority_for_all_is_asked_for_everywhere() {
    let trusts = trusts(Some(&authority("g")), &[("https://a.example.com", None)], None);
    let demands = trusts.demands();
    for name in ["a.example.com", "nowhere.test"] {
        assert_eq!((asked(demands, name), count(demands.wanted(name))), (1, 1));
    }
    assert_eq!(count(demands.asked(None)), 1);
    assert!(trusts.misdirected(None, "a.example.com", 0));
}

#[test]
fn a_host_asks_for_what_its_routes_trust() {
    let (one, two) = (authority("one"), authority("two"));
    let routes = [
        ("https://a.example.com", Some(one.as_str())),
        ("https://a.example.com:8443", Some(two.as_str())),
        ("https://open.example.com", None),
        ("https://*.wild.example.com", Some(two.as_str())),
        ("https://*.open.example.com", None),
        ("https://known.wild.example.com", None),
        ("https://port.wild.example.com:8443", None),
        ("https://*.deep.wild.example.com", Some(one.as_str())),
    ];
    let trusts = trusts(None, &routes, None);
    let demands = trusts.demands();
    for (name, expected) in [
        ("a.example.com", 2),
        ("A.EXAMPLE.com.", 2),
        ("open.example.com", 0),
        ("x.open.example.com", 0),
        ("x.wild.example.com", 1),
        // A host of its own, on every port; the other one leaves the usual port to the pattern.
        ("known.wild.example.com", 0),
        ("port.wild.example.com", 1),
        // Two patterns fit: whichever answers, it was asked for.
        ("x.deep.wild.example.com", 2),
        // Nobody knows it: everything.
        ("nowhere.test", 2),
    ] {
        assert_eq!(asked(demands, name), expected, "{name}");
    }
    assert_eq!(count(demands.asked(None)), 2);
    assert_eq!(count(demands.wanted("nowhere.test")), 0, "nothing is there");
    assert_eq!(count(demands.wanted("x.deep.wild.example.com")), 2);
    assert!(trusts.misdirected(None, "a.example.com", 0));
    assert!(!trusts.misdirected(None, "open.example.com", 0));
}

#[test]
fn what_has_not_changed_is_lent() {
    let (global, own) = (authority("g"), authority("own"));
    let routes = [
        ("https://a.example.com", Some(own.as_str())),
        ("https://b.example.com", None),
    ];
    let first = trusts(Some(&global), &routes, None);
    let same = trusts(Some(&global), &routes, Some(&first));
    for name in ["a.example.com", "b.example.com"] {
        let (old, new) = (first.demands().wanted(name), same.demands().wanted(name));
        assert!(Arc::ptr_eq(old.unwrap(), new.unwrap()), "{name}");
    }
    let other = trusts(Some(&authority("g")), &routes, Some(&first));
    for name in ["a.example.com", "b.example.com"] {
        let (old, new) = (first.demands().wanted(name), other.demands().wanted(name));
        assert!(!old.unwrap().same(new.unwrap()), "{name}");
    }
}
