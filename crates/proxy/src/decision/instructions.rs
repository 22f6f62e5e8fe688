//! What a proxy has to change about a request before it forwards it: the difference between the headers it has
//! received and those that our own proxy would send.

use http::{HeaderMap, HeaderName};
use pomerium_web::canonical::{ManagedHeaders, Meaning};
use smallvec::{SmallVec, smallvec};

use super::plan::Reading;
use super::question::Field;
use super::response::{remove_header, set_headers};

/// Writes the instructions that turn `received` into `wanted`. What is the proxy's own (its hop, what it says about the
/// client) is left to it.
pub(super) fn between(out: &mut Vec<u8>, received: &[Field<'_>], wanted: &HeaderMap, reading: &Reading) {
    let managed = &reading.rules.managed;
    // Those that are there afterwards as well, with this value or another.
    let mut stays: SmallVec<[bool; 32]> = smallvec![false; received.len()];
    for name in wanted.keys() {
        if !is_unchanged(received, &mut stays, wanted, name) && !is_the_proxys(managed, name.as_str()) {
            set_headers(out, name, wanted);
        }
    }
    let gone = |name: &&[u8]| {
        let text = std::str::from_utf8(name).unwrap_or_default();
        !text.starts_with(':') && !is_the_proxys(managed, text) && !wanted.contains_key(text)
    };
    let received = received.iter().zip(&stays).filter(|(_, stays)| !**stays);
    let received = received.map(|(field, _)| field.key).filter(gone);
    let unset = reading.identity.iter().filter(|name| !wanted.contains_key(*name));
    // Always, seen or not: the proxy may have been told to keep some headers from us.
    let always = unset
        .map(|name| name.as_str().as_bytes())
        .chain(reading.twins.iter().map(|name| &**name));
    let mut removed: SmallVec<[&[u8]; 24]> = always.collect();
    for name in received {
        if !removed.contains(&name) {
            removed.push(name);
        }
    }
    for name in removed {
        remove_header(out, name);
    }
}

/// Twins of the proxy's headers are nobody's: they go.
fn is_the_proxys(managed: &ManagedHeaders, name: &str) -> bool {
    !name.contains('_') && managed.meaning(name) == Meaning::Proxy
}

/// Whether a header stays as it is; `stays` notes where it was received.
fn is_unchanged(received: &[Field<'_>], stays: &mut [bool], wanted: &HeaderMap, name: &HeaderName) -> bool {
    let name_bytes = name.as_str().as_bytes();
    let mut wanted = wanted.get_all(name).iter();
    let mut same = true;
    for (field, stays) in received.iter().zip(stays) {
        if field.key == name_bytes {
            *stays = true;
            same &= wanted
                .next()
                .is_some_and(|wanted| field.value == wanted.as_bytes());
        }
    }
    same && wanted.next().is_none()
}

#[cfg(test)]
pub(super) mod tests {
    use http::HeaderValue;
    use pomerium_api::pb::ext_authz::OkHttpResponse;
    use pomerium_api::pb::ext_authz::header_value_option::HeaderAppendAction;
    use pomerium_config::settings::DecisionSettings;
    use pomerium_web::canonical::Rules;
    use prost::Message as _;

    use super::super::plan::DecisionPlan;
    use super::*;

    pub(crate) fn plan() -> DecisionPlan {
        let settings = DecisionSettings {
            address: String::new(),
            trusted_peers: Vec::new(),
            forward_auth: true,
            ext_authz: true,
            tls: None,
        };
        let claims: pomerium_authorize::ClaimHeaders =
            vec![(HeaderName::from_static("x-email"), "email".to_owned())].into();
        let rules = Rules {
            managed: ManagedHeaders::new(["x-email"]),
            ..Rules::default()
        };
        DecisionPlan::build(&settings, &rules, &claims, None).unwrap()
    }

    fn entries(list: &[(&'static str, &'static str)]) -> Vec<Field<'static>> {
        let entry = |(key, value): &(&'static str, &'static str)| Field {
            key: key.as_bytes(),
            value: value.as_bytes(),
        };
        list.iter().map(entry).collect()
    }

    fn between(received: &[Field<'_>], wanted: &HeaderMap, reading: &Reading) -> OkHttpResponse {
        let mut out = Vec::new();
        super::between(&mut out, received, wanted, reading);
        OkHttpResponse::decode(&*out).unwrap()
    }

    pub(crate) fn map(list: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in list {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        map
    }

    fn told(made: &OkHttpResponse) -> (Vec<(String, String, bool)>, Vec<String>) {
        let text = |bytes: &bytes::Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        let set = made.headers.iter().map(|option| {
            let header = option.header.as_ref().unwrap();
            (
                text(&header.key),
                text(&header.value),
                option.append_action == HeaderAppendAction::AppendIfExistsOrAdd as i32,
            )
        });
        let mut set: Vec<_> = set.collect();
        set.sort();
        let mut removed: Vec<_> = made.headers_to_remove.iter().map(text).collect();
        removed.sort();
        (set, removed)
    }

    #[test]
    fn only_differences_are_told_and_identity_is_always_cleared() {
        let received = entries(&[
            (":path", "/"),
            ("accept", "*/*"),
            ("cookie", "a=1; _pomerium=x"),
            ("x-pomerium-authorization", "x"),
            ("x_email", "admin@example.com"),
            ("x-forwarded-for", "192.0.2.1"),
            ("connection", "keep-alive"),
        ]);
        let wanted = map(&[
            ("accept", "*/*"),
            ("cookie", "a=1"),
            ("x-email", "user@example.com"),
            ("x-forwarded-for", "192.0.2.1,127.0.0.1"),
            ("x-envoy-external-address", "192.0.2.1"),
            ("host", "app.example.com"),
        ]);
        let (set, removed) = told(&between(&received, &wanted, &plan().reading));
        assert_eq!(
            set,
            [
                ("cookie".into(), "a=1".into(), false),
                ("x-email".into(), "user@example.com".into(), false)
            ]
        );
        assert_eq!(
            removed,
            [
                "x-pomerium-authorization",
                "x-pomerium-jwt-assertion",
                "x-pomerium-jwt-assertion-for",
                "x_email",
                "x_pomerium_jwt_assertion",
                "x_pomerium_jwt_assertion_for",
            ]
        );
    }

    #[test]
    fn several_values_replace_what_was_there() {
        let wanted = map(&[("impersonate-group", "a"), ("impersonate-group", "b")]);
        let (set, _) = told(&between(
            &entries(&[("impersonate-group", "x")]),
            &wanted,
            &plan().reading,
        ));
        assert_eq!(
            set,
            [
                ("impersonate-group".into(), "a".into(), false),
                ("impersonate-group".into(), "b".into(), true)
            ]
        );
        let same = entries(&[("impersonate-group", "a"), ("impersonate-group", "b")]);
        assert!(told(&between(&same, &wanted, &plan().reading)).0.is_empty());
    }

    #[test]
    fn a_value_that_is_no_text_goes_raw() {
        let mut wanted = HeaderMap::new();
        wanted.insert("cookie", HeaderValue::from_bytes(b"a=\xff").unwrap());
        let made = between(&[], &wanted, &plan().reading);
        let header = made.headers[0].header.as_ref().unwrap();
        assert!(header.value.is_empty() && *header.raw_value == b"a=\xff"[..]);
    }
}
