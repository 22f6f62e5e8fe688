//! What Envoy is told (`CheckResponse`), written straight into the bytes that leave, behind the prefix of a gRPC message.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use pomerium_api::pb::ext_authz::header_value_option::HeaderAppendAction;

use super::wire::{put, put_always, put_message, put_number};

/// Flag and length before a message.
pub(super) const PREFIX: usize = 5;
/// Room for an answer of usual length: an assertion, a few headers.
const TYPICAL: usize = 2048;
/// gRPC's PERMISSION_DENIED.
const DENIED: u64 = 7;
/// Where Envoy's other filters and its log find what we tell of a request.
const METADATA: &[u8] = b"com.pomerium.route-context";

/// The request may pass, with the changes that `instructions` writes: [`set_headers`] first, then [`remove_header`].
/// `route` and `user` are told to Envoy's other filters.
pub(super) fn allowed(
    instructions: impl FnOnce(&mut Vec<u8>),
    context: Option<(&str, Option<&str>)>,
) -> Bytes {
    framed(|out| {
        put_message(out, 1, |out| put(out, 2, b"OK"));
        put_message(out, 3, instructions);
        if let Some((route, user)) = context {
            put_message(out, 4, |out| metadata(out, route, user));
        }
    })
}

/// The request may not pass, and its client gets this.
pub(super) fn denied(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Bytes {
    framed(|out| {
        put_message(out, 1, |out| {
            put_number(out, 1, DENIED);
            put(out, 2, b"Access Denied");
        });
        put_message(out, 2, |out| {
            put_message(out, 1, |out| put_number(out, 1, status.as_u16().into()));
            for name in headers.keys() {
                set_headers(out, name, headers);
            }
            put(out, 3, body);
        });
    })
}

fn framed(message: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut out = Vec::with_capacity(TYPICAL);
    out.extend_from_slice(&[0; PREFIX]);
    message(&mut out);
    let length = u32::try_from(out.len() - PREFIX).unwrap_or(u32::MAX);
    out[1..PREFIX].copy_from_slice(&length.to_be_bytes());
    out.into()
}

fn metadata(out: &mut Vec<u8>, route: &str, user: Option<&str>) {
    let text = |out: &mut Vec<u8>, key: &[u8], text: &str| {
        field(out, key, |value| put_always(value, 3, text.as_bytes()));
    };
    field(out, METADATA, |value| {
        put_message(value, 5, |out| {
            text(out, b"route_id", route);
            // A boolean, which says no where it stands without being true.
            field(out, b"is_mcp", |value| value.extend_from_slice(&[4 << 3, 0]));
            if let Some(user) = user {
                text(out, b"user_id", user);
            }
        });
    });
}

/// A field of a `google.protobuf.Struct`.
fn field(out: &mut Vec<u8>, key: &[u8], value: impl FnOnce(&mut Vec<u8>)) {
    put_message(out, 1, |out| {
        put(out, 1, key);
        put_message(out, 2, value);
    });
}

/// Sets a header to all its values, over whatever was there.
pub(super) fn set_headers(out: &mut Vec<u8>, name: &HeaderName, from: &HeaderMap) {
    for (index, value) in from.get_all(name).iter().enumerate() {
        put_message(out, 2, |out| option(out, name, value, index > 0));
    }
}

fn option(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue, further: bool) {
    let action = if further {
        HeaderAppendAction::AppendIfExistsOrAdd
    } else {
        HeaderAppendAction::OverwriteIfExistsOrAdd
    };
    put_message(out, 1, |out| {
        put(out, 1, name.as_str().as_bytes());
        // Texts travel as text; what is none has a field of its own.
        let text = std::str::from_utf8(value.as_bytes()).is_ok();
        put(out, if text { 2 } else { 3 }, value.as_bytes());
    });
    put_number(out, 3, action as u64);
    // An empty value is a value.
    put_number(out, 4, 1);
}

/// Removes a header.
pub(super) fn remove_header(out: &mut Vec<u8>, name: &[u8]) {
    put_always(out, 5, name);
}

#[cfg(test)]
mod tests {
    use pomerium_api::pb::ext_authz::check_response::HttpResponse;
    use pomerium_api::pb::ext_authz::{self as pb, CheckResponse};
    use prost::Message as _;

    use super::*;

    fn read(framed: &[u8]) -> CheckResponse {
        let length = u32::from_be_bytes(framed[1..PREFIX].try_into().unwrap()) as usize;
        assert_eq!((framed[0], length), (0, framed.len() - PREFIX));
        let message = CheckResponse::decode(&framed[PREFIX..]).unwrap();
        // Nothing is there that the library would not have written.
        assert_eq!(message.encode_to_vec(), framed[PREFIX..]);
        message
    }

    #[test]
    fn an_ok_is_what_the_library_writes() {
        let mut headers = HeaderMap::new();
        headers.insert("x-long", HeaderValue::from_bytes(&[b'a'; 3_000]).unwrap());
        headers.append("x-two", HeaderValue::from_static("one"));
        headers.append("x-two", HeaderValue::from_static("two"));
        headers.insert("x-raw", HeaderValue::from_bytes(b"a=\xff").unwrap());
        headers.insert("x-empty", HeaderValue::from_static(""));
        let bytes = allowed(
            |out| {
                for name in headers.keys() {
                    set_headers(out, name, &headers);
                }
                remove_header(out, b"x-gone");
            },
            Some(("route", Some("user"))),
        );
        let message = read(&bytes);
        assert_eq!(message.status.unwrap().code, 0);
        let Some(HttpResponse::OkResponse(ok)) = message.http_response else {
            panic!("no OK")
        };
        assert_eq!(ok.headers_to_remove, ["x-gone"]);
        assert_eq!(ok.headers.len(), 5);
        assert!(ok.headers.iter().all(|option| option.keep_empty_value));
        let raw = ok.headers.iter().filter_map(|option| option.header.as_ref());
        let raw: Vec<_> = raw.filter(|header| !header.raw_value.is_empty()).collect();
        assert!(raw.len() == 1 && raw[0].value.is_empty() && *raw[0].raw_value == b"a=\xff"[..]);
        let metadata = message.dynamic_metadata.unwrap();
        let [pb::Field { key, value }] = metadata.fields.as_slice() else {
            panic!("one field")
        };
        assert_eq!(key.as_bytes(), METADATA);
        let Some(pb::value::Kind::StructValue(context)) =
            value.as_ref().and_then(|value| value.kind.as_ref())
        else {
            panic!("no struct")
        };
        let keys: Vec<&str> = context.fields.iter().map(|field| &*field.key).collect();
        assert_eq!(keys, ["route_id", "is_mcp", "user_id"]);
        assert!(read(&allowed(|_| {}, None)).dynamic_metadata.is_none());
    }

    #[test]
    fn a_denial_is_what_the_library_writes() {
        let mut headers = HeaderMap::new();
        headers.insert("location", HeaderValue::from_static("https://auth.example.com/"));
        let message = read(&denied(StatusCode::FOUND, &headers, b"page"));
        assert_eq!(message.status.unwrap().code, 7);
        let Some(HttpResponse::DeniedResponse(denied)) = message.http_response else {
            panic!("no denial")
        };
        assert_eq!((denied.status.unwrap().code, &*denied.body), (302, &b"page"[..]));
        assert_eq!(denied.headers.len(), 1);
    }
}
