//! Where records are kept, as one text: a folder, or a connection string of PostgreSQL.

use std::path::{Path, PathBuf};

use super::{DatabrokerSettings, Secret};

/// Every text that begins so, up to its `=`, holds keywords and values for PostgreSQL.
const KEYWORDS: [&str; 28] = [
    "application_name",
    "channel_binding",
    "client_encoding",
    "connect_timeout",
    "database",
    "dbname",
    "fallback_application_name",
    "gssencmode",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "load_balance_hosts",
    "options",
    "passfile",
    "password",
    "port",
    "search_path",
    "service",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "sslsni",
    "target_session_attrs",
    "tcp_user_timeout",
    "user",
];

/// Why a text is no place for records. The text is never repeated: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorePlaceError {
    /// Nothing is written.
    #[error("the place of a store is empty; write a folder or a connection string of PostgreSQL")]
    Empty,
    /// A URL of something that records cannot be kept in.
    #[error(
        "records cannot be kept at {0}://; write a folder, file:///folder or postgres://user@host/database"
    )]
    Scheme(String),
    /// Neither a path nor a connection string.
    #[error(
        "the place of a store is neither a folder nor a connection string of PostgreSQL; write a folder as an absolute path or \
         with ./ before it, a database as postgres://user@host/database or as keyword=value pairs (host=… user=… dbname=…)"
    )]
    Neither,
}

impl DatabrokerSettings {
    /// The place that `text` names.
    ///
    /// # Errors
    /// [`StorePlaceError`], for whatever could be meant in more than one way.
    pub fn at(text: &str) -> Result<Self, StorePlaceError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(StorePlaceError::Empty);
        }
        if is_path(text) {
            return Ok(Self::File(PathBuf::from(text)));
        }
        if let Some((scheme, rest)) = url(text) {
            return match scheme.as_str() {
                "postgres" | "postgresql" => Ok(Self::Postgres(Secret::new(text.as_bytes()))),
                "memory" => Ok(Self::Memory),
                "file" if is_path(rest) => Ok(Self::File(PathBuf::from(rest))),
                "file" => Err(StorePlaceError::Neither),
                _ => Err(StorePlaceError::Scheme(scheme)),
            };
        }
        match text.split_once('=') {
            Some((key, _)) if KEYWORDS.contains(&key.trim()) => {
                Ok(Self::Postgres(Secret::new(text.as_bytes())))
            }
            _ => Err(StorePlaceError::Neither),
        }
    }
}

/// Written in a way that only a path is.
fn is_path(text: &str) -> bool {
    let relative = |text: &str| text.starts_with("./") || text.starts_with("../");
    Path::new(text).is_absolute() || relative(text) || matches!(text, "." | "..")
}

/// The scheme, in lower case, and what follows its `://`.
fn url(text: &str) -> Option<(String, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let letters = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '+' | '-' | '.');
    (!scheme.is_empty() && scheme.chars().all(letters)).then(|| (scheme.to_ascii_lowercase(), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_means_one_thing() {
        let folder = |path: &str| Ok(DatabrokerSettings::File(PathBuf::from(path)));
        for (text, expected) in [
            ("/var/lib/x", folder("/var/lib/x")),
            (" /a=b/c ", folder("/a=b/c")),
            ("./x", folder("./x")),
            ("../x", folder("../x")),
            (".", folder(".")),
            ("file:///p", folder("/p")),
            ("FILE:///p", folder("/p")),
            ("memory://", Ok(DatabrokerSettings::Memory)),
            ("", Err(StorePlaceError::Empty)),
            (" ", Err(StorePlaceError::Empty)),
            ("x", Err(StorePlaceError::Neither)),
            ("file://p", Err(StorePlaceError::Neither)),
            ("://x", Err(StorePlaceError::Neither)),
            ("colour=red", Err(StorePlaceError::Neither)),
            (
                "mysql://u:hunter2@db/x",
                Err(StorePlaceError::Scheme("mysql".into())),
            ),
        ] {
            assert_eq!(DatabrokerSettings::at(text), expected, "{text}");
        }
        for database in [
            "postgres://u@h/x",
            "POSTGRES://u@h/x",
            "postgresql://u@h/x",
            "host=127.0.0.1 port=1 user=x",
            "user = x",
            "password=postgres://x host=y",
        ] {
            let place = DatabrokerSettings::at(database);
            assert_eq!(
                place,
                Ok(DatabrokerSettings::Postgres(Secret::new(database.as_bytes())))
            );
        }
    }

    #[test]
    fn no_message_has_the_password() {
        for text in [
            "mysql://u:hunter2@h/x",
            "hunter2",
            "secret=hunter2",
            "file://hunter2",
        ] {
            let error = DatabrokerSettings::at(text).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
