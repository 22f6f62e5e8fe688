//! Connection strings: URIs, or keywords and values. The driver reads them; what it does not know is taken out before.

use std::path::PathBuf;

/// What the driver does not know of a connection string.
#[derive(Default)]
pub(super) struct Extra {
    pub(super) mode: Option<String>,
    pub(super) root: Option<PathBuf>,
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    pub(super) connections: Option<String>,
}

impl Extra {
    /// Takes a key out of the string if it is one the driver does not know.
    fn take(&mut self, key: &str, value: &str) -> bool {
        let value = value.to_owned();
        match key {
            "sslmode" => self.mode = Some(value),
            "sslrootcert" => self.root = Some(value.into()),
            "sslcert" => self.certificate = Some(value.into()),
            "sslkey" => self.key = Some(value.into()),
            "pool_max_conns" => self.connections = Some(value),
            // Of the pool of the original, without a counterpart here.
            "pool_min_conns"
            | "pool_max_conn_lifetime"
            | "pool_max_conn_idle_time"
            | "pool_health_check_period"
            | "pool_max_conn_lifetime_jitter" => {}
            _ => return false,
        }
        true
    }
}

/// The string without the keys that are ours to understand.
pub(super) fn without(connection: &str, extra: &mut Extra) -> String {
    if let Some((base, query)) = connection.split_once('?')
        && (connection.starts_with("postgres://") || connection.starts_with("postgresql://"))
    {
        let decode = |text: &str| percent(text);
        let kept: Vec<&str> = query
            .split('&')
            .filter(|pair| {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                !extra.take(&decode(key), &decode(value))
            })
            .collect();
        return match kept.is_empty() {
            true => base.to_owned(),
            false => format!("{base}?{}", kept.join("&")),
        };
    }
    if connection.starts_with("postgres://") || connection.starts_with("postgresql://") {
        return connection.to_owned();
    }
    pairs(connection)
        .into_iter()
        .filter(|(key, value, _)| !extra.take(key, value))
        .map(|(_, _, text)| text)
        .collect::<Vec<_>>()
        .join(" ")
}

/// `%2F` as `/`; anything odd stays as it is.
fn percent(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let pair = text.get(at + 1..at + 3).filter(|_| *byte == b'%');
        if let Some(value) = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            out.push(value);
            at += 3;
        } else {
            out.push(*byte);
            at += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// `key = 'value'` pairs: key, value, and the text as it stands.
fn pairs(connection: &str) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    let mut rest = connection;
    while let Some((key, after)) = rest.split_once('=') {
        let after = after.trim_start();
        let (value, length) = value(after);
        let key = key.trim().to_owned();
        found.push((key.clone(), value, format!("{key}={}", &after[..length])));
        rest = after[length..].trim_start();
    }
    if !rest.trim().is_empty() {
        found.push((rest.trim().to_owned(), String::new(), rest.trim().to_owned()));
    }
    found
}

/// A value, quoted or not, and how many bytes of the text it takes.
fn value(text: &str) -> (String, usize) {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut letters = text.char_indices().skip(usize::from(quoted));
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => value.extend(letters.next().map(|(_, next)| next)),
            '\'' if quoted => return (value, at + 1),
            _ if !quoted && letter.is_whitespace() => return (value, at),
            _ => value.push(letter),
        }
    }
    (value, text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(connection: &str) -> (String, Extra) {
        let mut extra = Extra::default();
        (without(connection, &mut extra), extra)
    }

    #[test]
    fn both_styles_are_read_and_what_the_driver_does_not_know_is_taken_out() {
        let (rest, extra) = split(
            "postgres://u:p@db.example.com:5432/x?sslmode=verify-full&sslrootcert=%2Fca.pem&pool_max_conns=3&a=b",
        );
        assert_eq!(rest, "postgres://u:p@db.example.com:5432/x?a=b");
        assert_eq!(extra.mode.as_deref(), Some("verify-full"));
        assert_eq!(extra.root, Some("/ca.pem".into()));
        assert_eq!(extra.connections.as_deref(), Some("3"));
        let (rest, extra) = split("host=/run/pg user = 'a b' password='it\\'s' sslmode=require dbname=x");
        assert_eq!(rest, "host=/run/pg user='a b' password='it\\'s' dbname=x");
        assert_eq!(extra.mode.as_deref(), Some("require"));
        assert_eq!(split("postgresql://h/x?sslmode=disable").0, "postgresql://h/x");
    }
}
