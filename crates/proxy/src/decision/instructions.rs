//! What a proxy has to change about a request before it forwards it: the difference between the headers it has
//! received and those that our own proxy would send.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use pomerium_api::pb::ext_authz::{Entry, HeaderValueOption};
use pomerium_api::pb::ext_authz::{HeaderValue as Pair, OkHttpResponse};
use pomerium_web::canonical::{ManagedHeaders, Meaning};

use super::plan::Reading;

const OVERWRITE: i32 =
    pomerium_api::pb::ext_authz::header_value_option::HeaderAppendAction::OverwriteIfExistsOrAdd as i32;
const APPEND: i32 =
    pomerium_api::pb::ext_authz::header_value_option::HeaderAppendAction::AppendIfExistsOrAdd as i32;

/// The instructions that turn `received` into `wanted`. What is the proxy's own (its hop, what it says about the
/// client) is left to it.
pub(super) fn between(received: &[Entry], wanted: &HeaderMap, reading: &Reading) -> OkHttpResponse {
    let managed = &reading.rules.managed;
    let mut headers = Vec::new();
    for name in wanted.keys() {
        if is_the_proxys(managed, name.as_str()) || is_unchanged(received, wanted, name) {
            continue;
        }
        set(&mut headers, name, wanted);
    }
    let gone = |name: &&[u8]| {
        let text = std::str::from_utf8(name).unwrap_or_default();
        !text.starts_with(':') && !is_the_proxys(managed, text) && !wanted.contains_key(text)
    };
    let received = received.iter().map(|entry| &*entry.key).filter(gone);
    let unset = reading.identity.iter().filter(|name| !wanted.contains_key(*name));
    // Always, seen or not: the proxy may have been told to keep some headers from us.
    let always = unset
        .map(|name| Bytes::copy_from_slice(name.as_str().as_bytes()))
        .chain(reading.twins.iter().cloned());
    let mut headers_to_remove: Vec<Bytes> = always.collect();
    for name in received {
        if !headers_to_remove.iter().any(|known| known == name) {
            headers_to_remove.push(Bytes::copy_from_slice(name));
        }
    }
    OkHttpResponse {
        headers,
        headers_to_remove,
    }
}

/// Twins of the proxy's headers are nobody's: they go.
fn is_the_proxys(managed: &ManagedHeaders, name: &str) -> bool {
    !name.contains('_') && managed.meaning(name) == Meaning::Proxy
}

fn is_unchanged(received: &[Entry], wanted: &HeaderMap, name: &HeaderName) -> bool {
    let mut wanted = wanted.get_all(name).iter();
    let mut received = received
        .iter()
        .filter(|entry| entry.key.len() == name.as_str().len() && entry.key == name.as_str().as_bytes());
    loop {
        match (wanted.next(), received.next()) {
            (None, None) => return true,
            (Some(wanted), Some(received)) if received.value == wanted.as_bytes() => {}
            _ => return false,
        }
    }
}

/// Sets a header, over whatever was there.
pub(super) fn set(options: &mut Vec<HeaderValueOption>, name: &HeaderName, from: &HeaderMap) {
    for (index, value) in from.get_all(name).iter().enumerate() {
        options.push(option(name, value, index > 0));
    }
}

fn option(name: &HeaderName, value: &HeaderValue, further: bool) -> HeaderValueOption {
    let bytes = Bytes::copy_from_slice(value.as_bytes());
    let text = std::str::from_utf8(value.as_bytes()).is_ok();
    // Texts travel as text; what is none has a field of its own.
    let (value, raw_value) = if text {
        (bytes, Bytes::new())
    } else {
        (Bytes::new(), bytes)
    };
    HeaderValueOption {
        header: Some(Pair {
            key: Bytes::copy_from_slice(name.as_str().as_bytes()),
            value,
            raw_value,
        }),
        append_action: if further { APPEND } else { OVERWRITE },
        keep_empty_value: true,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use pomerium_config::settings::DecisionSettings;
    use pomerium_web::canonical::Rules;

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

    fn entries(list: &[(&'static str, &'static str)]) -> Vec<Entry> {
        let entry = |(key, value): &(&'static str, &'static str)| Entry {
            key: Bytes::from_static(key.as_bytes()),
            value: Bytes::from_static(value.as_bytes()),
        };
        list.iter().map(entry).collect()
    }

    pub(crate) fn map(list: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in list {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        map
    }

    fn told(made: &OkHttpResponse) -> (Vec<(String, String, bool)>, Vec<String>) {
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        let set = made.headers.iter().map(|option| {
            let header = option.header.as_ref().unwrap();
            (
                text(&header.key),
                text(&header.value),
                option.append_action == APPEND,
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
