//! What a connection string leaves open: the variables of libpq, and the file of passwords.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::ConnectError;
use super::text::Pairs;

/// Variables, and the keys that they stand for.
const VARIABLES: [(&str, &str); 19] = [
    ("PGAPPNAME", "application_name"),
    ("PGCHANNELBINDING", "channel_binding"),
    ("PGCONNECT_TIMEOUT", "connect_timeout"),
    ("PGDATABASE", "dbname"),
    ("PGHOST", "host"),
    ("PGHOSTADDR", "hostaddr"),
    ("PGOPTIONS", "options"),
    ("PGPASSFILE", "passfile"),
    ("PGPASSWORD", "password"),
    ("PGPORT", "port"),
    ("PGSERVICE", "service"),
    ("PGSSLCERT", "sslcert"),
    ("PGSSLCRL", "sslcrl"),
    ("PGSSLKEY", "sslkey"),
    ("PGSSLMODE", "sslmode"),
    ("PGSSLROOTCERT", "sslrootcert"),
    ("PGSSLSNI", "sslsni"),
    ("PGTARGETSESSIONATTRS", "target_session_attrs"),
    ("PGUSER", "user"),
];
/// Folders that sockets are in by default: in files of passwords they are `localhost`.
const SOCKETS: [&str; 3] = ["/var/run/postgresql", "/run/postgresql", "/tmp"];

/// The environment of a process.
pub(super) type Environment = BTreeMap<String, String>;

/// Fills in what `pairs` are silent about.
pub(super) fn complete(pairs: &mut Pairs, environment: &Environment) -> Result<(), ConnectError> {
    let placed = pairs.contains_key("host") || pairs.contains_key("hostaddr");
    for (variable, key) in VARIABLES {
        let place = matches!(key, "host" | "hostaddr");
        if let Some(value) = environment.get(variable).filter(|value| !value.is_empty())
            && !(place && placed)
        {
            pairs.entry(key.to_owned()).or_insert_with(|| value.clone());
        }
    }
    if pairs.contains_key("password") {
        return Ok(());
    }
    let named = pairs.get("passfile").map(PathBuf::from);
    let usual = || Some(Path::new(environment.get("HOME")?).join(".pgpass"));
    if let Some(path) = named.or_else(usual)
        && let Some(text) = private(&path)
        && let Some(password) = password(&text, pairs, environment, &path)?
    {
        pairs.insert("password".to_owned(), password);
    }
    Ok(())
}

/// The file of passwords, if there is one that nobody else can read; as libpq, one that others can read is not looked at.
fn private(path: &Path) -> Option<String> {
    let about = std::fs::metadata(path).ok()?;
    if !about.is_file() {
        tracing::warn!(path = %path.display(), "PostgreSQL: the file of passwords is not looked at, because it is no plain file");
        return None;
    }
    if about.mode() & 0o077 != 0 {
        tracing::warn!(
            path = %path.display(),
            "PostgreSQL: the file of passwords is not looked at, because others have access to it; set its mode to 0600"
        );
        return None;
    }
    let read = std::fs::read_to_string(path);
    read.inspect_err(|error| {
        tracing::warn!(path = %path.display(), %error, "PostgreSQL: the file of passwords cannot be read");
    })
    .ok()
}

/// The password for every host of `pairs` that has one.
fn password(
    text: &str,
    pairs: &Pairs,
    environment: &Environment,
    path: &Path,
) -> Result<Option<String>, ConnectError> {
    let get = |key: &str| pairs.get(key).map(String::as_str);
    let system = || ["USER", "LOGNAME"].iter().find_map(|name| environment.get(*name));
    let user = get("user")
        .or_else(|| system().map(String::as_str))
        .unwrap_or_default();
    let database = get("dbname").unwrap_or(user);
    let hosts = get("host").or_else(|| get("hostaddr")).unwrap_or_default();
    let ports: Vec<&str> = get("port").unwrap_or_default().split(',').collect();
    let found = hosts.split(',').enumerate().filter_map(|(at, host)| {
        let host = if SOCKETS.contains(&host) {
            "localhost"
        } else {
            host
        };
        let port = ports.get(at).or(ports.first()).filter(|port| !port.is_empty());
        let wanted = [host, port.unwrap_or(&"5432"), database, user];
        text.lines().find_map(|line| fits(line, wanted))
    });
    let mut found: Vec<String> = found.collect();
    found.dedup();
    match found.len() {
        0 | 1 => Ok(found.pop()),
        _ => Err(ConnectError::Passwords(path.to_owned())),
    }
}

/// The password of a line `host:port:database:user:password` that is for what is wanted. `*` is for anything.
fn fits(line: &str, wanted: [&str; 4]) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let mut rest = line;
    for wanted in wanted {
        let (written, after) = part(rest);
        let anything = rest.starts_with("*:");
        rest = after?;
        if !anything && written != wanted {
            return None;
        }
    }
    Some(part(rest).0).filter(|password| !password.is_empty())
}

/// Up to the next `:`, with `\:` and `\\` as what they stand for; and what follows it.
fn part(text: &str) -> (String, Option<&str>) {
    let mut part = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => part.extend(letters.next().map(|(_, next)| next)),
            ':' => return (part, Some(&text[at + 1..])),
            _ => part.push(letter),
        }
    }
    (part, None)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::super::text::read;
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        variables.iter().map(owned).collect()
    }

    fn completed(connection: &str, variables: &[(&str, &str)]) -> Result<Pairs, ConnectError> {
        let mut pairs = read(connection)?;
        complete(&mut pairs, &environment(variables))?;
        Ok(pairs)
    }

    #[test]
    fn variables_fill_in_what_is_not_written() {
        let all = [
            ("PGHOST", "from-environment"),
            ("PGPORT", "5433"),
            ("PGUSER", "u"),
            ("PGPASSWORD", "p"),
            ("PGSSLMODE", ""),
        ];
        let pairs = completed("dbname=x user=written", &all).unwrap();
        assert_eq!(pairs["host"], "from-environment");
        assert_eq!(
            (pairs["port"].as_str(), pairs["user"].as_str()),
            ("5433", "written")
        );
        assert!(!pairs.contains_key("sslmode"), "one that is empty says nothing");
        let pairs = completed("hostaddr=127.0.0.1", &all).unwrap();
        assert!(!pairs.contains_key("host"), "the place is written");
    }

    #[test]
    fn the_file_of_passwords_is_read_unless_others_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("passwords");
        let text = "# a note\nother:*:*:*:no\ndb:5432:x:u:a\\:b\\\\c\n*:*:*:v:for v\nlocalhost:*:x:u:by socket\ntwo:*:*:*:second\n";
        fs::write(&path, text).unwrap();
        let name = path.display().to_string();
        let of = |connection: &str| completed(connection, &[("PGPASSFILE", &name)]);
        let password = |connection: &str| of(connection).unwrap().get("password").cloned();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert_eq!(password("host=db dbname=x user=u"), None);
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(password("host=db dbname=x user=u").as_deref(), Some("a:b\\c"));
        assert_eq!(
            password("host=db dbname=x user=u password=own").as_deref(),
            Some("own")
        );
        assert_eq!(password("host=db port=5433 dbname=x user=u"), None);
        assert_eq!(password("host=db dbname=x user=v").as_deref(), Some("for v"));
        assert_eq!(
            password("host=/tmp dbname=x user=u").as_deref(),
            Some("by socket")
        );
        assert_eq!(
            password("host=db,nobody dbname=x user=u").as_deref(),
            Some("a:b\\c")
        );
        let error = of("host=db,two dbname=x user=u").unwrap_err().to_string();
        assert!(
            error.contains("different passwords") && error.contains(&name),
            "{error}"
        );
        assert!(!error.contains("second"), "{error}");
        let home = [("HOME", folder.path().to_str().unwrap())];
        fs::rename(&path, folder.path().join(".pgpass")).unwrap();
        let pairs = completed("host=db dbname=x user=u", &home).unwrap();
        assert_eq!(pairs["password"], "a:b\\c");
    }
}
