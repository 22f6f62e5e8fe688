//! `autocert_dns`: how DNS-01 challenges are answered.

use std::path::PathBuf;
use std::time::Duration;

use super::Cx;
use crate::settings::{AutocertDns, Secret};
use crate::spec::base64_std;
use crate::spec::values::Values;

const NAME: &str = "autocert_dns";
const RFC2136: [&str; 7] = [
    "server",
    "zone",
    "key_name",
    "algorithm",
    "secret",
    "secret_file",
    "ttl",
];
const EXEC: [&str; 3] = ["program", "args", "timeout"];
const ALGORITHMS: [&str; 3] = ["hmac-sha256", "hmac-sha384", "hmac-sha512"];
const TTL: Duration = Duration::from_secs(60);
const PROPAGATION: Duration = Duration::from_secs(60);
const TIMEOUT: Duration = Duration::from_secs(120);

pub(super) fn resolve(values: &Values, cx: &mut Cx<'_>) -> Option<AutocertDns> {
    let dns = values.object(NAME).filter(|dns| !dns.is_empty())?;
    match dns.text("provider") {
        "rfc2136" => {
            foreign(dns, &EXEC, "exec", cx);
            rfc2136(dns, cx)
        }
        "exec" => {
            foreign(dns, &RFC2136, "rfc2136", cx);
            exec(dns, cx)
        }
        other => {
            let message = if other.is_empty() {
                "`provider` is missing".to_owned()
            } else {
                format!("unknown provider \"{other}\"")
            };
            let help = "one of rfc2136, exec; a program can serve any other provider";
            cx.sink
                .error(dns.place("provider"), dns.key("provider"), message, help);
            None
        }
    }
}

/// Options of the other provider are a mistake, not to be ignored.
fn foreign(dns: &Values, names: &[&str], provider: &str, cx: &mut Cx<'_>) {
    for name in names.iter().filter(|name| dns.is_set(name)) {
        let message = format!("belongs to `provider: {provider}`");
        cx.sink.error(
            dns.place(name),
            dns.key(name),
            message,
            "remove it, or change the provider",
        );
    }
}

fn rfc2136(dns: &Values, cx: &mut Cx<'_>) -> Option<AutocertDns> {
    let server = server(dns, cx);
    let algorithm = algorithm(dns, cx);
    let secret = secret(dns, cx);
    let key_name = dns
        .some_text("key_name")
        .map(|name| name.trim_end_matches('.').to_owned());
    if key_name.is_some() != (dns.some_text("secret").is_some() || dns.some_text("secret_file").is_some()) {
        let message = "`key_name` and `secret` (or `secret_file`) are both needed, or neither";
        let help = "the key is that of the DNS server, for instance from tsig-keygen";
        cx.sink.error(dns.place, dns.path.clone(), message, help);
    }
    Some(AutocertDns::Rfc2136 {
        server: server?,
        zone: dns
            .some_text("zone")
            .map(|zone| zone.trim_end_matches('.').to_lowercase()),
        key_name,
        algorithm,
        secret,
        ttl: dns.duration("ttl").unwrap_or(TTL),
        propagation: dns.duration("propagation").unwrap_or(PROPAGATION),
    })
}

/// `host:port`; the port of DNS where none is given.
fn server(dns: &Values, cx: &mut Cx<'_>) -> Option<String> {
    let given = dns.text("server");
    let with_port = super::super::address::with_port(given, 53);
    match super::super::address::check(&with_port) {
        Ok(()) if !given.is_empty() && !given.starts_with(':') => Some(with_port),
        _ => {
            let message = format!("\"{given}\" is no address of a server");
            let help = "write host:port of the primary name server, for instance 192.0.2.53:53";
            cx.sink
                .error(dns.place("server"), dns.key("server"), message, help);
            None
        }
    }
}

fn algorithm(dns: &Values, cx: &mut Cx<'_>) -> String {
    let given = dns.text("algorithm").trim_end_matches('.').to_lowercase();
    if given.is_empty() {
        return ALGORITHMS[0].to_owned();
    }
    if !ALGORITHMS.contains(&given.as_str()) {
        let message = format!("unknown algorithm \"{given}\"");
        let help = format!("one of {}", ALGORITHMS.join(", "));
        cx.sink
            .error(dns.place("algorithm"), dns.key("algorithm"), message, help);
    }
    given
}

/// Base64 of the key, here or in a file.
fn secret(dns: &Values, cx: &mut Cx<'_>) -> Option<Secret> {
    let (inline, file) = ("secret", "secret_file");
    if dns.some_text(inline).is_some() && dns.some_text(file).is_some() {
        let message = "cannot set both secret and secret_file";
        cx.sink
            .error(dns.place(file), dns.key(file), message, "keep one of them");
        return None;
    }
    let (name, text) = match (dns.some_text(inline), dns.some_text(file)) {
        (Some(text), _) => (inline, Ok(text.to_owned())),
        (None, Some(path)) => (file, cx.read_text(path)),
        (None, None) => return None,
    };
    let decoded = text.and_then(|text| base64_std(text.trim()));
    match decoded {
        Ok(key) if !key.is_empty() => Some(Secret::new(key)),
        Ok(_) => {
            cx.sink
                .error(dns.place(name), dns.key(name), "the key is empty", "");
            None
        }
        Err(problem) => {
            let help = "the key as the DNS server has it, base64";
            cx.sink.error(dns.place(name), dns.key(name), problem, help);
            None
        }
    }
}

fn exec(dns: &Values, cx: &mut Cx<'_>) -> Option<AutocertDns> {
    let program = PathBuf::from(dns.text("program"));
    if !program.is_absolute() {
        let message = "the absolute path of a program is needed";
        let help = "write for instance `program: /usr/local/bin/dns-hook`";
        cx.sink
            .error(dns.place("program"), dns.key("program"), message, help);
        return None;
    }
    if let Some(problem) = not_runnable(&program) {
        let message = format!("{}: {problem}", program.display());
        let help = "check the path and the right to execute it";
        cx.sink
            .error(dns.place("program"), dns.key("program"), message, help);
    }
    let timeout = dns.duration("timeout").unwrap_or(TIMEOUT);
    if timeout.is_zero() {
        let help = "write for instance 2m";
        cx.sink.error(
            dns.place("timeout"),
            dns.key("timeout"),
            "must be more than zero",
            help,
        );
    }
    Some(AutocertDns::Exec {
        program,
        args: dns.texts("args").to_vec(),
        timeout,
        propagation: dns.duration("propagation").unwrap_or(PROPAGATION),
    })
}

fn not_runnable(program: &std::path::Path) -> Option<String> {
    match std::fs::metadata(program) {
        Err(error) => Some(error.to_string()),
        Ok(metadata) if !metadata.is_file() => Some("it is no file".into()),
        Ok(_) => rustix::fs::access(program, rustix::fs::Access::EXEC_OK)
            .err()
            .map(|error| error.to_string()),
    }
}
