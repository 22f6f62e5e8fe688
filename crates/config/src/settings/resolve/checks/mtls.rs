//! Client certificates (spec config.md 8.10): form only.

use super::super::Cx;
use crate::spec::base64_std;
use crate::spec::node::{Node, Value};
use crate::spec::values::Values;

const PREFIX: &str = "config: bad downstream mTLS settings:";
const SAN_TYPES: [&str; 5] = ["dns", "email", "ip_address", "uri", "user_principal_name"];

pub(super) fn check(values: &Values, cx: &mut Cx<'_>) {
    let Some(mtls) = values.object("downstream_mtls") else {
        return;
    };
    for (inline, file, label) in [("ca", "ca_file", "CA"), ("crl", "crl_file", "CRL")] {
        let (text, path) = (mtls.some_text(inline), mtls.some_text(file));
        if text.is_some() && path.is_some() {
            let message = format!("{PREFIX} cannot set both {inline} and {file}");
            cx.sink
                .error(mtls.place(file), mtls.key(file), message, "keep one of them");
            continue;
        }
        let pem = text
            .map(|text| (inline, base64_std(text)))
            .or_else(|| path.map(|path| (file, cx.read(path))));
        let problem = match pem {
            Some((name, Err(message))) => Some((name, message)),
            Some((name, Ok(pem))) if inline == "crl" => crl_problem(&pem).map(|message| (name, message)),
            _ => None,
        };
        if let Some((name, message)) = problem {
            let what = if name == file {
                format!("{label} file")
            } else {
                label.to_owned()
            };
            let message = format!("{PREFIX} {what}: {message}");
            cx.sink.error(
                mtls.place(name),
                mtls.key(name),
                message,
                "PEM is expected; inline it is base64 of that",
            );
        }
    }
    if let Some(node) = mtls.free("match_subject_alt_names") {
        names(node, &mtls.key("match_subject_alt_names"), cx);
    }
}

fn crl_problem(pem: &[u8]) -> Option<String> {
    use x509_parser::prelude::FromDer as _;
    let mut rest = pem;
    while !rest.iter().all(u8::is_ascii_whitespace) {
        let Ok((after, block)) = x509_parser::pem::parse_x509_pem(rest) else {
            return Some("trailing data that is not PEM".into());
        };
        if x509_parser::revocation_list::CertificateRevocationList::from_der(&block.contents).is_err() {
            return Some("a block is no X.509 revocation list".into());
        }
        rest = after;
    }
    None
}

fn names(node: &Node, key: &str, cx: &mut Cx<'_>) {
    let Value::List(items) = &node.value else {
        cx.sink.error(
            node.place,
            key,
            format!("expected a list, found {}", node.kind()),
            "",
        );
        return;
    };
    for item in items {
        let problem = match &item.value {
            Value::Map(entries) if entries.len() == 1 => matcher_problem(&entries[0].key, &entries[0].node),
            _ => Some("unsupported SAN matcher format".into()),
        };
        if let Some(problem) = problem {
            let help = format!("one `type: pattern` per item; types are {}", SAN_TYPES.join(", "));
            cx.sink
                .error(item.place, key, format!("{PREFIX} {problem}"), help);
        }
    }
}

fn matcher_problem(name: &str, pattern: &Node) -> Option<String> {
    if !SAN_TYPES.contains(&name.to_lowercase().as_str()) {
        return Some(format!("unknown SAN type: {name}"));
    }
    match &pattern.value {
        Value::Text(text) => regex::Regex::new(text)
            .err()
            .map(|_| format!("couldn't parse pattern \"{text}\"")),
        _ => Some("unsupported SAN matcher format".into()),
    }
}
