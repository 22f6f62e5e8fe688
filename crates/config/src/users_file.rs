//! The users file of the built-in identity provider, as `pomerium user add` reads and writes it. The
//! program itself reads it with everything else, in `settings`.

use std::fmt::Write as _;
use std::path::Path;

use crate::diagnostic::LoadErrors;
use crate::spec::keys::LOCAL_USER;
use crate::spec::node::{Node, Value};
use crate::spec::{Sink, decode, format};

/// One user of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserEntry {
    /// E-mail address, lower case; the name to sign in with.
    pub email: String,
    /// Display name; may be empty.
    pub name: String,
    /// Groups.
    pub groups: Vec<String>,
    /// Argon2id hash, PHC string.
    pub password_hash: String,
}

/// Why the file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum UsersFileError {
    /// It cannot be opened.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is not a list of users; nothing was changed.
    #[error("{path}: {problem}; mend it by hand, nothing was changed")]
    Content {
        /// The file.
        path: String,
        /// What is wrong.
        problem: String,
    },
}

/// Whether people can sign in with this: something on both sides of an `@`, no blanks, no control characters.
pub fn is_address(email: &str) -> bool {
    let parts = email.rsplit_once('@');
    parts.is_some_and(|(name, domain)| !name.is_empty() && !domain.is_empty())
        && !email.contains(|c: char| c.is_whitespace() || c.is_control())
}

/// Reads the users; a file that does not exist has none.
pub fn read(path: &Path) -> Result<Vec<UserEntry>, UsersFileError> {
    let shown = || path.display().to_string();
    let content = |problem: String| UsersFileError::Content {
        path: shown(),
        problem,
    };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => {
            return Err(UsersFileError::Io {
                path: shown(),
                source,
            });
        }
    };
    let tree = format::parse_yaml(&text)
        .map_err(|error| content(format!("line {}: {}", error.place.line, error.message)))?;
    let items = match tree {
        Node {
            value: Value::Null, ..
        } => return Ok(Vec::new()),
        Node {
            value: Value::List(items),
            ..
        } => items,
        other => {
            return Err(content(format!(
                "expected a list of users, found {}",
                other.kind()
            )));
        }
    };
    let mut sink = Sink::new(Some(path.to_path_buf()));
    let users = items
        .iter()
        .enumerate()
        .map(|(index, item)| entry(index, item, &mut sink))
        .collect();
    if sink.errors.is_empty() {
        return Ok(users);
    }
    let errors = LoadErrors {
        file: sink.file,
        errors: sink.errors,
        warnings: sink.warnings,
        watched_files: Vec::new(),
    };
    Err(content(errors.to_string()))
}

fn entry(index: usize, item: &Node, sink: &mut Sink) -> UserEntry {
    let values = decode::options(LOCAL_USER.iter(), item, &format!("users[{index}]"), sink);
    UserEntry {
        email: values.text("email").trim().to_lowercase(),
        name: values.some_text("name").unwrap_or_default().to_owned(),
        groups: values.texts("groups").to_vec(),
        password_hash: values.text("password_hash").to_owned(),
    }
}

/// The file as text.
pub fn write(users: &[UserEntry]) -> String {
    let mut text =
        String::from("# Users of the built-in identity provider; written by `pomerium user add`.\n");
    if users.is_empty() {
        text.push_str("[]\n");
    }
    for user in users {
        let groups: Vec<String> = user.groups.iter().map(|group| quoted(group)).collect();
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "- email: {}\n  name: {}\n  groups: [{}]\n  password_hash: {}\n",
            quoted(&user.email),
            quoted(&user.name),
            groups.join(", "),
            quoted(&user.password_hash),
        );
    }
    text
}

/// A JSON string is a YAML string.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(email: &str) -> UserEntry {
        UserEntry {
            email: email.into(),
            name: "Duty: \"on call\" # 1".into(),
            groups: vec!["staff".into(), "a, b".into()],
            password_hash: "$argon2id$v=19$m=8,t=1,p=1$c2FsdA$aGFzaA".into(),
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let users = vec![user("user@example.com"), user("admin@example.com")];
        std::fs::write(file.path(), write(&users)).unwrap();
        assert_eq!(read(file.path()).unwrap(), users);
        std::fs::write(file.path(), write(&[])).unwrap();
        assert!(read(file.path()).unwrap().is_empty());
    }

    #[test]
    fn a_missing_file_has_no_users_and_a_wrong_one_is_refused() {
        assert!(read(Path::new("/nonexistent/users.yaml")).unwrap().is_empty());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "email: user@example.com\n").unwrap();
        assert!(
            read(file.path())
                .unwrap_err()
                .to_string()
                .contains("expected a list of users")
        );
    }
}
