//! Users of the built-in identity provider: those of the config and those of `users_file`. Where both have a user, the
//! file counts: `pomerium user add` writes it, also to change a password that the config holds.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::Cx;
use crate::diagnostic::{Origin, Place};
use crate::settings::{LocalIdpSettings, LocalUser, Secret};
use crate::spec::decode;
use crate::spec::format;
use crate::spec::keys::LOCAL_USER;
use crate::spec::node::{Node, Value};
use crate::spec::values::Values;
use crate::users_file::is_address;

/// File in the data folder when none is named.
const DEFAULT_FILE: &str = "users.yaml";
const MAKE_HASH: &str = "`pomerium user add` asks for a password and writes the entry";

pub(super) fn resolve(values: &Values, data_dir: &Path, cx: &mut Cx<'_>) -> LocalIdpSettings {
    if values.text("idp_provider") != "local" {
        return LocalIdpSettings::default();
    }
    let given = values.object("local_idp");
    let mut users = Vec::new();
    let mut seen = HashSet::new();
    for entry in given.map_or(&[][..], |given| given.objects("users")) {
        add(entry, &mut users, &mut seen, cx);
    }
    let named = given.and_then(|given| given.some_text("users_file"));
    let path = named.map_or_else(|| data_dir.join(DEFAULT_FILE), PathBuf::from);
    if path.exists() {
        let mut written = Vec::new();
        read_file(&path, &mut written, cx);
        users.retain(|user| !written.iter().any(|newer| newer.email == user.email));
        users.append(&mut written);
    } else {
        cx.watched.push(path.clone());
        if let (Some(given), Some(_)) = (given, named) {
            let place = given.place("users_file");
            let message = format!("{} does not exist yet", path.display());
            cx.sink.warn(place, "local_idp.users_file", message, MAKE_HASH);
        }
    }
    LocalIdpSettings {
        users,
        users_file: Some(path),
    }
}

/// A YAML list of users; positions in messages are those of this file.
fn read_file(path: &Path, users: &mut Vec<LocalUser>, cx: &mut Cx<'_>) {
    let mut seen = HashSet::new();
    let config_file = cx.sink.file.replace(path.to_path_buf());
    let text = cx.read_text(&path.to_string_lossy());
    let tree = text.and_then(|text| {
        format::parse_yaml(&text).map_err(|error| format!("line {}: {}", error.place.line, error.message))
    });
    match tree {
        Ok(Node {
            value: Value::Null, ..
        }) => {}
        Ok(Node {
            value: Value::List(items),
            ..
        }) => {
            for (index, item) in items.iter().enumerate() {
                let path = format!("users[{index}]");
                let entry = decode::options(LOCAL_USER.iter(), item, &path, &mut cx.sink);
                add(&entry, users, &mut seen, cx);
            }
        }
        Ok(other) => {
            let message = format!("expected a list of users, found {}", other.kind());
            cx.sink.error(other.place, "", message, MAKE_HASH);
        }
        Err(message) => {
            let place = Place {
                origin: Origin::File,
                ..Place::default()
            };
            cx.sink.error(place, "", message, MAKE_HASH);
        }
    }
    cx.sink.file = config_file;
}

fn add(entry: &Values, users: &mut Vec<LocalUser>, seen: &mut HashSet<String>, cx: &mut Cx<'_>) {
    let email = entry.text("email").trim().to_lowercase();
    let hash = entry.text("password_hash");
    let mut wrong = |name: &str, message: String, help: &str| {
        cx.sink.error(entry.place(name), entry.key(name), message, help);
    };
    if !is_address(&email) {
        wrong(
            "email",
            format!("\"{email}\" is no e-mail address"),
            "people sign in with it",
        );
        return;
    }
    if !hash.starts_with("$argon2id$") {
        wrong(
            "password_hash",
            "expected an Argon2id hash ($argon2id$…)".into(),
            MAKE_HASH,
        );
        return;
    }
    if !seen.insert(email.clone()) {
        wrong(
            "email",
            format!("the user {email} is there twice"),
            "keep one of them",
        );
        return;
    }
    users.push(LocalUser {
        name: entry.some_text("name").unwrap_or(&email).to_owned(),
        groups: entry.texts("groups").to_vec(),
        password_hash: Secret::new(hash.as_bytes()),
        email,
    });
}
