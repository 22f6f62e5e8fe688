//! The input document (spec policy.md 6.1), of which only what a script refers to is made.

use std::fmt::Write as _;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use regorus::Value;

use super::uses::Uses;
use super::value::object;
use crate::certificate::CertificateTrust;
use crate::input::{HttpInput, Input};

/// The name of a field, made once.
macro_rules! name {
    ($name:literal) => {{
        static NAME: LazyLock<Value> = LazyLock::new(|| Value::from($name));
        NAME.clone()
    }};
}

pub(super) fn document(input: &Input<'_>, uses: Uses) -> Value {
    let mut fields = Vec::with_capacity(5);
    fields.push((name!("http"), http(input, uses)));
    if uses.any(Uses::SESSION) {
        let id = input.subject.map_or("", |subject| subject.session_id.as_str());
        let user = input.subject.map_or("", |subject| subject.user_id.as_str());
        let session = object([
            (name!("id"), Value::from(id)),
            (name!("user_id"), Value::from(user)),
        ]);
        fields.push((name!("session"), session));
    }
    if uses.any(Uses::VALID) {
        let valid = input.http.client_certificate.trust != CertificateTrust::Rejected;
        fields.push((name!("is_valid_client_certificate"), Value::Bool(valid)));
    }
    if uses.any(Uses::SSH) {
        fields.push((name!("ssh"), ssh(input)));
    }
    if uses.any(Uses::MCP) {
        fields.push((name!("mcp"), mcp(input)));
    }
    object(fields)
}

fn http(input: &Input<'_>, uses: Uses) -> Value {
    let http = &input.http;
    let mut fields = Vec::with_capacity(10);
    let mut add = |of: Uses, name: fn() -> Value, value: &dyn Fn() -> Value| {
        if uses.any(of) {
            fields.push((name(), value()));
        }
    };
    add(Uses::METHOD, || name!("method"), &|| Value::from(http.method));
    add(Uses::HOST, || name!("host"), &|| Value::from(http.host));
    add(Uses::HOSTNAME, || name!("hostname"), &|| {
        Value::from(hostname(http.host))
    });
    add(Uses::PATH, || name!("path"), &|| Value::from(http.path));
    add(Uses::RAW_PATH, || name!("raw_path"), &|| {
        Value::from(http.raw_path)
    });
    add(Uses::RAW_QUERY, || name!("raw_query"), &|| {
        Value::from(http.query)
    });
    add(Uses::URL, || name!("url"), &|| Value::from(url(input)));
    add(Uses::HEADERS, || name!("headers"), &|| headers(http));
    add(Uses::CERTIFICATE, || name!("client_certificate"), &|| {
        certificate(http)
    });
    add(Uses::IP, || name!("ip"), &|| {
        let address = http.client_ip.map(|address| address.to_canonical().to_string());
        Value::from(address.unwrap_or_default())
    });
    object(fields)
}

/// The host without its port; an address in brackets without them.
fn hostname(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or("");
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

fn headers(http: &HttpInput<'_>) -> Value {
    let mut fields = Vec::with_capacity(24);
    http.headers
        .each(&mut |name, value| fields.push((Value::from(canonical(name)), Value::from(value))));
    object(fields)
}

/// `x-request-id` is `X-Request-Id`; names that begin with `:` stay as they are.
fn canonical(name: &str) -> String {
    let mut start = !name.starts_with(':');
    name.chars()
        .map(|letter| {
            let shown = if start {
                letter.to_ascii_uppercase()
            } else {
                letter.to_ascii_lowercase()
            };
            start = letter == '-' && !name.starts_with(':');
            shown
        })
        .collect()
}

fn certificate(http: &HttpInput<'_>) -> Value {
    let certificate = &http.client_certificate;
    let mut fields = vec![(name!("presented"), Value::Bool(certificate.presented))];
    if let Some(leaf) = certificate.leaf {
        fields.push((name!("leaf"), Value::from(leaf.pem.as_str())));
        if !leaf.intermediates.is_empty() {
            fields.push((name!("intermediates"), Value::from(leaf.intermediates.as_str())));
        }
    }
    object(fields)
}

fn ssh(input: &Input<'_>) -> Value {
    let (user, key) = match &input.ssh {
        Some(ssh) if ssh.public_key.is_empty() => (ssh.username, Value::Null),
        Some(ssh) => (ssh.username, Value::from(STANDARD.encode(ssh.public_key))),
        None => ("", Value::Null),
    };
    object([(name!("username"), Value::from(user)), (name!("publickey"), key)])
}

fn mcp(input: &Input<'_>) -> Value {
    let Some(mcp) = &input.mcp else { return object([]) };
    let mut fields = vec![(name!("method"), Value::from(mcp.method))];
    if let Some(tool) = mcp.tool {
        fields.push((name!("tool_call"), object([(name!("name"), Value::from(tool))])));
    }
    object(fields)
}

/// `scheme://host/path?query`: without the port that is usual for the scheme, the query sorted by name.
fn url(input: &Input<'_>) -> String {
    let http = &input.http;
    let port = if input.scheme == "https" { ":443" } else { ":80" };
    let host = http.host.strip_suffix(port).unwrap_or(http.host);
    let mut url = format!("{}://{host}{}", input.scheme, http.raw_path);
    let mut pairs: Vec<(String, String)> = http.query.split('&').filter_map(pair).collect();
    pairs.sort_by(|(one, _), (other, _)| one.cmp(other));
    for (index, (name, value)) in pairs.iter().enumerate() {
        url.push(if index == 0 { '?' } else { '&' });
        escape(&mut url, name);
        url.push('=');
        escape(&mut url, value);
    }
    url
}

/// A pair of a query; what cannot be read is left out.
fn pair(text: &str) -> Option<(String, String)> {
    if text.is_empty() || text.contains(';') {
        return None;
    }
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    Some((unescape(name)?, unescape(value)?))
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            other => other,
        });
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn escape(out: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            other => {
                let _ = write!(out, "%{other:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::NoHeaders;

    #[test]
    fn names_and_hosts_are_written_as_in_the_original() {
        assert_eq!(canonical("x-request-id"), "X-Request-Id");
        assert_eq!(canonical(":authority"), ":authority");
        assert_eq!(hostname("app.example.com:8443"), "app.example.com");
        assert_eq!(hostname("[2001:db8::1]:8443"), "2001:db8::1");
        assert_eq!(hostname("app.example.com"), "app.example.com");
    }

    #[test]
    fn a_query_is_sorted_and_written_anew() {
        let http = HttpInput {
            method: "GET",
            path: "/a b",
            raw_path: "/a%20b",
            query: "z=1&a=%2f+x&a=0&bad=%zz&c;d&e",
            host: "app.example.com:443",
            headers: &NoHeaders,
            client_ip: None,
            client_certificate: crate::ClientCertificate::default(),
        };
        let input = Input::new(None, http, jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(url(&input), "https://app.example.com/a%20b?a=%2F+x&a=0&e=&z=1");
        let plain = Input {
            scheme: "http",
            ..input
        };
        assert!(url(&plain).starts_with("http://app.example.com:443/"));
    }
}
