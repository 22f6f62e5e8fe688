//! The text of connection strings: URIs, or keywords and values, as libpq reads them. What the keys mean is in `keys`.
//!
//! No message repeats any of the text: it may hold a password.

use std::collections::BTreeMap;

use super::ConnectError;

/// Keys and values. Where a key is written twice, the last counts.
pub(super) type Pairs = BTreeMap<String, String>;

/// What a connection string says.
pub(super) fn read(connection: &str) -> Result<Pairs, ConnectError> {
    let connection = connection.trim();
    let read = match connection.split_once("://") {
        Some((scheme, rest)) if is_scheme(scheme) => uri(rest),
        _ => keywords(connection),
    };
    let mut pairs = read.map_err(|why| ConnectError::Unreadable(why.to_owned()))?;
    // As Go programs write it.
    if let Some(database) = pairs.remove("database") {
        pairs.entry("dbname".to_owned()).or_insert(database);
    }
    Ok(pairs)
}

/// The same as keywords and values, for the driver.
pub(super) fn written<'a>(pairs: impl IntoIterator<Item = (&'a String, &'a String)>) -> String {
    let quoted = |value: &str| value.replace('\\', "\\\\").replace('\'', "\\'");
    let pairs = pairs
        .into_iter()
        .map(|(key, value)| format!("{key}='{}'", quoted(value)));
    pairs.collect::<Vec<_>>().join(" ")
}

fn is_scheme(scheme: &str) -> bool {
    ["postgres", "postgresql"]
        .iter()
        .any(|known| scheme.eq_ignore_ascii_case(known))
}

/// `user:password@host:port,host:port/database?key=value&key=value`, every part of it optional.
fn uri(rest: &str) -> Result<Pairs, &'static str> {
    let mut pairs = Pairs::new();
    let (credentials, rest) = credentials(rest);
    if let Some(credentials) = credentials {
        let (user, password) = match credentials.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (credentials, None),
        };
        put(&mut pairs, "user", percent(user));
        put(&mut pairs, "password", percent(password.unwrap_or_default()));
    }
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (hosts, database) = place.split_once('/').unwrap_or((place, ""));
    let (hosts, ports): (Vec<String>, Vec<&str>) = hosts.split(',').map(host_and_port).unzip();
    put(&mut pairs, "host", hosts.join(","));
    if ports.iter().any(|port| !port.is_empty()) {
        put(&mut pairs, "port", ports.join(","));
    }
    put(&mut pairs, "dbname", percent(database));
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').ok_or("a part behind the `?` has no `=`")?;
        pairs.insert(word(&percent(key))?, percent(value));
    }
    Ok(pairs)
}

/// What stands before the `@`, and the rest. An `@` in the query is none of that kind; in a password it may stand as it is.
fn credentials(rest: &str) -> (Option<&str>, &str) {
    let Some(first) = rest.find('@') else {
        return (None, rest);
    };
    let query = rest.find('?').unwrap_or(rest.len());
    if query < first && rest[query..first].contains('=') {
        return (None, rest);
    }
    let hosts = rest[first..].find(['/', '?']).map_or(rest.len(), |at| first + at);
    let last = rest[..hosts].rfind('@').unwrap_or(first);
    (Some(&rest[..last]), &rest[last + 1..])
}

/// A host, without the brackets of an IPv6 address, and its port if it has one.
fn host_and_port(text: &str) -> (String, &str) {
    if let Some((host, rest)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (host.to_owned(), rest.strip_prefix(':').unwrap_or(rest));
    }
    let (host, port) = text.split_once(':').unwrap_or((text, ""));
    (percent(host), port)
}

fn put(pairs: &mut Pairs, key: &str, value: String) {
    if !value.is_empty() {
        pairs.insert(key.to_owned(), value);
    }
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

/// `key = 'value'` pairs.
fn keywords(connection: &str) -> Result<Pairs, &'static str> {
    let mut pairs = Pairs::new();
    let mut rest = connection;
    while !rest.is_empty() {
        let (key, after) = rest
            .split_once('=')
            .ok_or("a word has no `=` and value behind it")?;
        let (value, after) = value(after.trim_start())?;
        pairs.insert(word(key.trim())?, value);
        rest = after.trim_start();
    }
    Ok(pairs)
}

/// A key.
fn word(key: &str) -> Result<String, &'static str> {
    let letter = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.' | '-');
    match !key.is_empty() && key.chars().all(letter) {
        true => Ok(key.to_owned()),
        false => Err("what stands before a `=` is no key"),
    }
}

/// A value, quoted or not, and what follows it.
fn value(text: &str) -> Result<(String, &str), &'static str> {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut letters = text.char_indices().skip(usize::from(quoted));
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => value.extend(letters.next().map(|(_, next)| next)),
            '\'' if quoted => return Ok((value, &text[at + 1..])),
            _ if !quoted && letter.is_whitespace() => return Ok((value, &text[at..])),
            _ => value.push(letter),
        }
    }
    match quoted {
        true => Err("a quoted value does not end"),
        false => Ok((value, "")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(connection: &str, expected: &[(&str, &str)]) {
        let expected: Pairs = expected
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        assert_eq!(read(connection).unwrap(), expected, "{connection}");
    }

    #[test]
    fn uris_are_read() {
        same(
            "postgres://u:p%40%2F@db.example.com:5432/x?sslmode=verify-full&sslrootcert=%2Fca.pem&a=b",
            &[
                ("user", "u"),
                ("password", "p@/"),
                ("host", "db.example.com"),
                ("port", "5432"),
                ("dbname", "x"),
                ("sslmode", "verify-full"),
                ("sslrootcert", "/ca.pem"),
                ("a", "b"),
            ],
        );
        same(
            "PostgreSQL://u@a,[::1]:5433,c/x",
            &[
                ("user", "u"),
                ("host", "a,::1,c"),
                ("port", ",5433,"),
                ("dbname", "x"),
            ],
        );
        same("postgres://", &[]);
        same(
            "postgres:///x?host=/run/pg&user=a@b",
            &[("dbname", "x"), ("host", "/run/pg"), ("user", "a@b")],
        );
        same("postgres://%2Frun%2Fpg/", &[("host", "/run/pg")]);
        for password in ["p/w", "p?w", "p@w", "p=w=="] {
            same(
                &format!("postgres://u:{password}@h/x"),
                &[
                    ("user", "u"),
                    ("password", password),
                    ("host", "h"),
                    ("dbname", "x"),
                ],
            );
        }
    }

    #[test]
    fn keywords_are_read_and_written() {
        let text = "host=/run/pg user = 'a b' password='it\\'s \\\\' sslmode=require database=x empty=''";
        let expected = [
            ("host", "/run/pg"),
            ("user", "a b"),
            ("password", "it's \\"),
            ("sslmode", "require"),
            ("dbname", "x"),
            ("empty", ""),
        ];
        same(text, &expected);
        same(&written(&read(text).unwrap()), &expected);
    }

    #[test]
    fn what_cannot_be_read_is_not_repeated() {
        for wrong in [
            "hunter2",
            "host=x hunter2",
            "host=x hunter2 user=y",
            "password='hunter2",
            "=hunter2",
            "postgres://h/x?hunter2",
            "mysql://u:hunter2@h/x?a=b",
        ] {
            let error = read(wrong).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
