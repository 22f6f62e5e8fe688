//! `audit`: where audit records go (spec config.md 20).

use std::path::PathBuf;
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue};

use super::{Cx, headers, pem};
use crate::settings::{AuditFile, AuditFsync, AuditHttp, AuditSink, AuditTarget};
use crate::spec::values::Values;

const NAME: &str = "audit";
/// Options of one type only.
const FILE: [&str; 4] = ["path", "rotate_bytes", "keep", "fsync"];
const HTTP: [&str; 7] = [
    "url",
    "headers",
    "bearer_token_file",
    "tls_ca_file",
    "batch_size",
    "batch_interval",
    "timeout",
];
/// Headers that the program sets itself.
const OURS: [&str; 5] = [
    "host",
    "content-type",
    "content-length",
    "transfer-encoding",
    "connection",
];
const QUEUE_BYTES: i64 = 16 << 20;
const ROTATE_BYTES: i64 = 100 << 20;
const KEEP: i64 = 10;
const BATCH_SIZE: i64 = 500;
const SECOND: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn resolve(values: &Values, cx: &mut Cx<'_>) -> Vec<AuditSink> {
    let mut sinks: Vec<AuditSink> = Vec::new();
    for given in values.objects(NAME) {
        let Some(sink) = sink(given, cx) else { continue };
        if sinks.iter().any(|other| same_place(&other.target, &sink.target)) {
            let message = "the same place is there twice";
            cx.sink
                .error(given.place, given.path.clone(), message, "keep one of them");
        }
        sinks.push(sink);
    }
    sinks
}

fn same_place(one: &AuditTarget, other: &AuditTarget) -> bool {
    match (one, other) {
        (AuditTarget::File(one), AuditTarget::File(other)) => one.path == other.path,
        (AuditTarget::Http(one), AuditTarget::Http(other)) => one.url == other.url,
        _ => false,
    }
}

fn sink(given: &Values, cx: &mut Cx<'_>) -> Option<AuditSink> {
    let target = match given.text("type") {
        "file" => {
            foreign(given, &HTTP, "http", cx);
            file(given, cx).map(AuditTarget::File)
        }
        "http" => {
            foreign(given, &FILE, "file", cx);
            http(given, cx).map(AuditTarget::Http)
        }
        other => {
            let message = if other.is_empty() {
                "`type` is missing".to_owned()
            } else {
                format!("unknown type \"{other}\"")
            };
            cx.sink.error(
                given.place("type"),
                given.key("type"),
                message,
                "one of file, http",
            );
            None
        }
    };
    Some(AuditSink {
        target: target?,
        allowed: given.choice("decisions") != Some("denied"),
        inputs: given.bool("inputs").unwrap_or(true),
        queue_bytes: usize::try_from(given.int("queue_bytes").unwrap_or(QUEUE_BYTES)).unwrap_or(usize::MAX),
    })
}

/// Options of the other type are a mistake, not to be ignored.
fn foreign(given: &Values, names: &[&str], kind: &str, cx: &mut Cx<'_>) {
    for name in names.iter().filter(|name| given.is_set(name)) {
        let message = format!("belongs to `type: {kind}`");
        cx.sink.error(
            given.place(name),
            given.key(name),
            message,
            "remove it, or change the type",
        );
    }
}

fn file(given: &Values, cx: &mut Cx<'_>) -> Option<AuditFile> {
    let path = PathBuf::from(given.text("path"));
    if !path.is_absolute() || path.file_name().is_none() {
        let message = "the absolute path of a file is needed";
        let help = "write for instance `path: /var/log/pomerium/audit.log`";
        cx.sink
            .error(given.place("path"), given.key("path"), message, help);
        return None;
    }
    let rotate_bytes = given.int("rotate_bytes").unwrap_or(ROTATE_BYTES);
    Some(AuditFile {
        path,
        rotate_bytes: u64::try_from(rotate_bytes).ok().filter(|bytes| *bytes > 0),
        keep: u32::try_from(given.int("keep").unwrap_or(KEEP)).unwrap_or(u32::MAX),
        fsync: match given.choice("fsync") {
            Some("second") => AuditFsync::Second,
            Some("always") => AuditFsync::Always,
            _ => AuditFsync::Never,
        },
    })
}

fn http(given: &Values, cx: &mut Cx<'_>) -> Option<AuditHttp> {
    let url = url(given, cx);
    let headers = sent_headers(given, cx);
    let ca = pem::file(given, "tls_ca_file", cx)
        .and_then(|bundle| bundle.certificates(given, "config: bad certificates of the receiver:", cx));
    let batch_interval = given.duration("batch_interval").unwrap_or(SECOND);
    let timeout = given.duration("timeout").unwrap_or(TIMEOUT);
    if timeout.is_zero() {
        cx.sink.error(
            given.place("timeout"),
            given.key("timeout"),
            "must be more than zero",
            "write for instance 10s",
        );
    }
    Some(AuditHttp {
        url: url?,
        headers,
        ca,
        batch_size: usize::try_from(given.int("batch_size").unwrap_or(BATCH_SIZE)).unwrap_or(1),
        batch_interval,
        timeout,
    })
}

fn url(given: &Values, cx: &mut Cx<'_>) -> Option<http::Uri> {
    let text = given.text("url");
    let url = text.parse::<http::Uri>().ok().filter(|url| {
        let scheme = url.scheme_str();
        matches!(scheme, Some("https" | "http"))
            && url
                .authority()
                .is_some_and(|authority| !authority.host().is_empty() && !authority.as_str().contains('@'))
    });
    let Some(url) = url else {
        let message = format!("\"{}\" is no address of a receiver", without_credentials(text));
        let help =
            "write for instance `url: https://audit.example.com/records`; credentials go into `headers`";
        cx.sink.error(given.place("url"), given.key("url"), message, help);
        return None;
    };
    if url.scheme_str() == Some("http") && !is_local(url.host().unwrap_or_default()) {
        let message = "records of who opened what travel without encryption";
        cx.sink
            .warn(given.place("url"), given.key("url"), message, "use https");
    }
    Some(url)
}

fn without_credentials(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => format!("{}…{}", &url[..scheme + 3], &url[at..]),
        _ => url.to_owned(),
    }
}

fn is_local(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost"
        || bare
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn sent_headers(given: &Values, cx: &mut Cx<'_>) -> Vec<(HeaderName, HeaderValue)> {
    let mut sent = Vec::new();
    let wrong = |name: &str, message: String, help: &str, cx: &mut Cx<'_>| {
        cx.sink.error(given.place(name), given.key(name), message, help);
    };
    for (name, value) in given.pairs("headers") {
        match (headers::header_name(name), HeaderValue::from_str(value)) {
            (Ok(name), Ok(_)) if OURS.contains(&name.as_str()) => {
                let message = format!("the header {name} is set by the program");
                wrong("headers", message, "remove it", cx);
            }
            (Ok(name), Ok(mut value)) => {
                value.set_sensitive(true);
                sent.push((name, value));
            }
            (Err(message), _) => wrong("headers", message, "", cx),
            // The value is not repeated: it may be a secret.
            (_, Err(_)) => wrong(
                "headers",
                format!("header {name}: the value is not valid"),
                "",
                cx,
            ),
        }
    }
    let Some(path) = given.some_text("bearer_token_file") else {
        return sent;
    };
    let name = "bearer_token_file";
    match cx.read_text(path).map(|text| format!("Bearer {}", text.trim())) {
        Ok(text) if text.len() > "Bearer ".len() => match HeaderValue::from_str(&text) {
            Ok(mut value) => {
                value.set_sensitive(true);
                sent.push((AUTHORIZATION, value));
            }
            Err(_) => wrong(name, "the token is not valid in a header".into(), "", cx),
        },
        Ok(_) => wrong(name, "the token is empty".into(), "", cx),
        Err(problem) => wrong(name, problem, "", cx),
    }
    sent
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::Loader;

    fn load(audit: &str) -> Result<Vec<AuditSink>, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.yaml");
        std::fs::write(
            &file,
            format!("data_dir: {}\naudit:\n{audit}", dir.path().display()),
        )
        .unwrap();
        let loaded = Loader::new(Some(&file), &BTreeMap::new()).dry_run().load();
        let loaded = loaded.map_err(|errors| errors.to_string())?;
        assert!(loaded.refusals.is_empty(), "{:?}", loaded.refusals);
        Ok(loaded.settings.audit)
    }

    #[test]
    fn a_file_with_its_defaults() {
        let sinks = load("- type: file\n  path: /var/log/audit.log\n").unwrap();
        let expected = AuditFile {
            path: "/var/log/audit.log".into(),
            rotate_bytes: Some(100 << 20),
            keep: 10,
            fsync: AuditFsync::Never,
        };
        assert_eq!(sinks[0].target, AuditTarget::File(expected));
        assert!(sinks[0].allowed && sinks[0].inputs);
        let sinks = load(
            "- {type: file, path: /a, rotate_bytes: 0, keep: 0, fsync: always, decisions: denied, inputs: false}\n",
        )
        .unwrap();
        let AuditTarget::File(file) = &sinks[0].target else {
            panic!()
        };
        assert_eq!(
            (file.rotate_bytes, file.keep, file.fsync),
            (None, 0, AuditFsync::Always)
        );
        assert!(!sinks[0].allowed && !sinks[0].inputs);
    }

    #[test]
    fn a_receiver_whose_secrets_do_not_print() {
        let sinks = load(
            "- type: http\n  url: https://audit.example.com/in\n  headers: {X-Key: hidden-key}\n  batch_size: 10\n",
        )
        .unwrap();
        let AuditTarget::Http(http) = &sinks[0].target else {
            panic!()
        };
        assert_eq!((http.batch_size, http.timeout), (10, TIMEOUT));
        assert_eq!(http.headers[0].1.as_bytes(), b"hidden-key");
        assert!(!format!("{sinks:?}").contains("hidden-key"));
    }

    #[test]
    fn mistakes_are_named() {
        for (audit, message) in [
            ("- {path: /a}\n", "`type` is missing"),
            ("- {type: syslog}\n", "unknown type \"syslog\""),
            ("- {type: file, path: audit.log}\n", "absolute path"),
            (
                "- {type: file, path: /a, url: https://b.example.com}\n",
                "belongs to `type: http`",
            ),
            ("- {type: file, path: /a}\n- {type: file, path: /a}\n", "twice"),
            (
                "- {type: http, url: ftp://a.example.com}\n",
                "no address of a receiver",
            ),
            (
                "- {type: http, url: https://a.example.com, timeout: 0s}\n",
                "more than zero",
            ),
            (
                "- {type: http, url: https://a.example.com, batch_size: 0}\n",
                "batch_size",
            ),
            (
                "- {type: http, url: https://a.example.com, headers: {Content-Type: x}}\n",
                "set by the program",
            ),
            (
                "- {type: http, url: https://a.example.com, bearer_token_file: /nowhere}\n",
                "/nowhere",
            ),
            ("- {type: file, path: /a, fsync: sometimes}\n", "sometimes"),
            ("- {type: file, path: /a, fsnc: always}\n", "fsync"),
        ] {
            let error = load(audit).unwrap_err();
            assert!(error.contains(message), "{audit}: {error}");
        }
        let error = load("- {type: http, url: 'https://user:hunter2@a.example.com'}\n").unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
