//! What the keys of connection strings mean: some are the driver's, some are understood here, some have no counterpart, and
//! whatever else there is are settings of the server.

use std::path::PathBuf;

use super::ConnectError;
use super::text::Pairs;

/// What the driver understands under the same name.
const DRIVERS: [&str; 18] = [
    "application_name",
    "channel_binding",
    "connect_timeout",
    "dbname",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "load_balance_hosts",
    "options",
    "password",
    "port",
    "sslnegotiation",
    "target_session_attrs",
    "tcp_user_timeout",
    "user",
];
/// Taken without effect: of pools and caches of other programs, and of ways to speak that this program does not have.
const IDLE: [&str; 18] = [
    "default_query_exec_mode",
    "description_cache_capacity",
    "gssdelegation",
    "gsslib",
    "krbsrvname",
    "max_protocol_version",
    "min_protocol_version",
    "pool_health_check_period",
    "pool_max_conn_idle_time",
    "pool_max_conn_lifetime",
    "pool_max_conn_lifetime_jitter",
    "pool_min_conns",
    "pool_min_idle_conns",
    "pool_ping_timeout",
    "prefer_simple_protocol",
    "sslcompression",
    "statement_cache_capacity",
    "statement_cache_mode",
];
/// Settings of a session that are this program's own, because its writes rely on them.
const OWN: [&str; 4] = [
    "default_transaction_isolation",
    "idle_in_transaction_session_timeout",
    "lock_timeout",
    "statement_timeout",
];
/// What cannot be done, and what to do instead. To take it without effect would be less safe than was asked for.
const REFUSED: [(&str, &str); 10] = [
    (
        "replication",
        "connections of this program are not for replication; remove it",
    ),
    (
        "require_auth",
        "the way of signing in cannot be chosen here; let pg_hba.conf of the server decide, and remove it",
    ),
    (
        "requirepeer",
        "the owner of the server is not looked at; use sslmode=verify-full, or remove it",
    ),
    ("requiressl", "write sslmode=require"),
    ("scram_client_key", "write the password"),
    ("scram_server_key", "write the password"),
    (
        "service",
        "service files are not read (nor is PGSERVICE); write what the service stands for",
    ),
    (
        "servicefile",
        "service files are not read; write what the service stands for",
    ),
    (
        "sslcrl",
        "revocation lists are not looked at; trust an authority of its own (sslrootcert), or remove it",
    ),
    (
        "sslcrldir",
        "revocation lists are not looked at; trust an authority of its own (sslrootcert), or remove it",
    ),
];
/// Versions of TLS, the earliest first.
const VERSIONS: [&str; 4] = ["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"];

/// What the driver does not know of a connection string.
#[derive(Default)]
pub(super) struct Extra {
    pub(super) mode: Option<String>,
    pub(super) root: Option<PathBuf>,
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    pub(super) connections: Option<String>,
    /// What to be called where `application_name` is silent.
    pub(super) application: Option<String>,
    /// The server is not told its name in the handshake.
    pub(super) nameless: bool,
    /// TLS 1.2 is not spoken.
    pub(super) without_tls12: bool,
    /// TLS 1.3 is not spoken.
    pub(super) without_tls13: bool,
}

/// Sorts them: what is left is the driver's, with the server's settings among its `options`.
pub(super) fn sort(pairs: Pairs) -> Result<(Pairs, Extra), ConnectError> {
    let mut extra = Extra::default();
    let mut left = Pairs::new();
    let mut settings = String::new();
    for (key, value) in pairs {
        if let Some((key, instead)) = REFUSED.iter().find(|(name, _)| *name == key) {
            return Err(ConnectError::Refused { key, instead });
        }
        if DRIVERS.contains(&key.as_str()) {
            left.insert(key, value);
        } else if IDLE.contains(&key.as_str()) || OWN.contains(&key.as_str()) {
            tracing::debug!(
                key,
                "PostgreSQL: this key of the connection string has no effect here"
            );
        } else if let Some(value) = extra.take(&key, value, &mut left)? {
            settings.push_str(&format!(" -c {key}={}", escaped(&value)));
        }
    }
    if left
        .get("target_session_attrs")
        .is_some_and(|wanted| wanted == "primary")
    {
        left.insert("target_session_attrs".into(), "read-write".into());
    }
    if !settings.is_empty() {
        left.entry("options".into()).or_default().push_str(&settings);
    }
    Ok((left, extra))
}

impl Extra {
    /// Takes a key that is understood here; gives the value back if it is none.
    fn take(&mut self, key: &str, value: String, left: &mut Pairs) -> Result<Option<String>, ConnectError> {
        match key {
            "sslmode" => self.mode = Some(value),
            "sslrootcert" => self.root = Some(value.into()),
            "sslcert" => self.certificate = Some(value.into()),
            "sslkey" => self.key = Some(value.into()),
            // An encrypted key is told when it is read. The file of passwords was read before.
            "sslpassword" | "passfile" => {}
            "pool_max_conns" => self.connections = Some(value),
            "fallback_application_name" => self.application = Some(value),
            "keepalives_count" => drop(left.insert("keepalives_retries".into(), value)),
            "sslsni" => self.nameless = one_of("sslsni", &value, &["1", "0"])? == 1,
            "ssl_min_protocol_version" => {
                self.without_tls12 = one_of("ssl_min_protocol_version", &value, &VERSIONS)? == 3;
            }
            "ssl_max_protocol_version" => {
                let known = &VERSIONS[2..];
                self.without_tls13 = one_of("ssl_max_protocol_version", &value, known)? == 0;
            }
            "sslcertmode" => drop(one_of("sslcertmode", &value, &["allow"])?),
            "gssencmode" => drop(one_of("gssencmode", &value, &["disable", "prefer"])?),
            "client_encoding" => drop(one_of("client_encoding", &value, &["UTF8", "UTF-8", "auto"])?),
            _ => return Ok(Some(value)),
        }
        Ok(None)
    }
}

/// Which of those that are known a value is.
fn one_of(key: &'static str, value: &str, known: &[&str]) -> Result<usize, ConnectError> {
    let found = known.iter().position(|name| name.eq_ignore_ascii_case(value));
    found.ok_or_else(|| ConnectError::Value {
        key,
        value: value.to_owned(),
        known: known.join(", "),
    })
}

/// As one word of `options`.
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for letter in value.chars() {
        if letter == '\\' || letter.is_whitespace() {
            text.push('\\');
        }
        text.push(letter);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::text::read;
    use super::*;

    fn sorted(connection: &str) -> (Pairs, Extra) {
        sort(read(connection).unwrap()).unwrap()
    }

    #[test]
    fn what_the_driver_does_not_know_is_taken_out() {
        let (left, extra) = sorted(
            "host=h user=u sslmode=require sslrootcert=/ca.pem pool_max_conns=3 fallback_application_name=x sslsni=0 \
             keepalives_count=4 ssl_min_protocol_version=TLSv1.3 target_session_attrs=primary passfile=/p",
        );
        let keys: Vec<&str> = left.keys().map(String::as_str).collect();
        assert_eq!(
            keys,
            ["host", "keepalives_retries", "target_session_attrs", "user"]
        );
        assert_eq!(left["target_session_attrs"], "read-write");
        assert_eq!(extra.mode.as_deref(), Some("require"));
        assert_eq!(extra.root, Some("/ca.pem".into()));
        assert_eq!(extra.connections.as_deref(), Some("3"));
        assert_eq!(extra.application.as_deref(), Some("x"));
        assert!(extra.nameless && extra.without_tls12 && !extra.without_tls13);
    }

    #[test]
    fn keys_of_other_programs_have_no_effect() {
        for key in IDLE.into_iter().chain(OWN) {
            let (left, _) = sorted(&format!("host=h {key}=1"));
            assert_eq!(left.len(), 1, "{key}");
        }
        let (left, _) = sorted("host=h gssencmode=prefer client_encoding=utf8 sslpassword=x");
        assert_eq!(left.len(), 1);
    }

    #[test]
    fn whatever_else_there_is_is_told_to_the_server() {
        let (left, _) = sorted(r#"host=h options='-c a=b' search_path='x, "y' timezone='a\\b'"#);
        assert_eq!(
            left["options"],
            r#"-c a=b -c search_path=x,\ "y -c timezone=a\\b"#
        );
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        for (connection, part) in [
            ("host=h sslcrl=/x", "sslcrl: revocation lists are not looked at"),
            ("host=h service=x", "write what the service stands for"),
            ("host=h gssencmode=require", "gssencmode cannot be `require`"),
            ("host=h client_encoding=latin1", "one of UTF8"),
            ("host=h ssl_max_protocol_version=TLSv1.1", "TLSv1.2, TLSv1.3"),
        ] {
            let error = sort(read(connection).unwrap()).err().unwrap().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
