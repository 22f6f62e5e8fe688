//! The keys of an installation: shared secret, cookie secret, signing key (spec config.md 5, 6, 8.3).

use std::path::Path;

use super::{Cx, generated};
use crate::diagnostic::{Place, Stage};
use crate::settings::{DatabrokerSettings, Secret, Secrets, Services};
use crate::spec::base64_std;
use crate::spec::values::Values;

const MAKE_ONE: &str = "make one with `head -c32 /dev/urandom | base64`";

pub(super) fn resolve(
    values: &Values,
    services: Services,
    data_dir: &Path,
    databroker: &DatabrokerSettings,
    cx: &mut Cx<'_>,
) -> Secrets {
    let given = given_shared(values, services, cx);
    let shared = match given {
        Given::Key(key) => key,
        Given::Bad => [0; 32],
        Given::Absent if services.all_in_one() => generate(values, data_dir, databroker, cx),
        Given::Absent => {
            let message = "config: invalid shared secret: empty shared secret";
            let help = format!("every process of a split installation needs the same one: {MAKE_ONE}");
            cx.sink
                .error(values.place("shared_secret"), "shared_secret", message, help);
            [0; 32]
        }
    };
    let cookie = cookie(values, services, &shared, cx);
    Secrets {
        shared: Secret::new(shared),
        cookie: Secret::new(cookie),
        signing_key: signing_key(values, cx).map(Secret::new),
    }
}

enum Given {
    Key([u8; 32]),
    Absent,
    Bad,
}

/// The secret that is configured; the file wins.
fn given_shared(values: &Values, services: Services, cx: &mut Cx<'_>) -> Given {
    let (text, name) = match values.some_text("shared_secret_file") {
        Some(path) => match cx.read_text(path) {
            Ok(text) => (text, "shared_secret_file"),
            Err(message) => {
                let place = values.place("shared_secret_file");
                let message = format!("config: invalid shared secret: {message}");
                cx.sink.error(
                    place,
                    "shared_secret_file",
                    message,
                    "check the path and who may read the file",
                );
                return Given::Bad;
            }
        },
        None => (values.text("shared_secret").to_owned(), "shared_secret"),
    };
    if text.is_empty() {
        return Given::Absent;
    }
    let place = values.place(name);
    if text.trim() != text {
        let message = "config: invalid shared secret: shared secret contains whitespace";
        cx.sink.error(
            place,
            name,
            message,
            "remove spaces and line ends around it; write files with `printf %s`",
        );
        return Given::Bad;
    }
    match base64_std(&text) {
        Ok(bytes) => {
            let complaint = match services {
                Services {
                    authenticate: true, ..
                } => "authenticate: 'SHARED_SECRET' invalid",
                Services { proxy: true, .. } => "proxy: invalid 'SHARED_SECRET'",
                _ => "authorize: bad 'SHARED_SECRET'",
            };
            exactly_32(&bytes, complaint, place, name, cx).map_or(Given::Bad, Given::Key)
        }
        Err(message) => {
            cx.sink.error(
                place,
                name,
                format!("config: invalid shared secret: {message}"),
                MAKE_ONE,
            );
            Given::Bad
        }
    }
}

fn exactly_32(bytes: &[u8], complaint: &str, place: Place, name: &str, cx: &mut Cx<'_>) -> Option<[u8; 32]> {
    if let Ok(key) = <[u8; 32]>::try_from(bytes) {
        return Some(key);
    }
    let message = format!("{complaint}: cryptutil: got {} bytes but want 32", bytes.len());
    cx.sink
        .error_at(Stage::ServiceStart, place, name, message, MAKE_ONE);
    None
}

/// The secret of a process that cannot keep one on disk: the same for all its loads.
fn in_memory() -> [u8; 32] {
    static SECRET: std::sync::OnceLock<[u8; 32]> = std::sync::OnceLock::new();
    *SECRET.get_or_init(pomerium_crypto::random::bytes::<32>)
}

/// Made once and kept in the data folder; kept in memory only where nothing can be written.
fn generate(values: &Values, data_dir: &Path, databroker: &DatabrokerSettings, cx: &mut Cx<'_>) -> [u8; 32] {
    let store = match databroker {
        DatabrokerSettings::File(dir) => Some(dir.as_path()),
        DatabrokerSettings::Memory | DatabrokerSettings::Postgres(_) => None,
    };
    let found = if cx.dry_run {
        generated::read(data_dir).and_then(|secret| match secret {
            Some(secret) => Ok(secret),
            None => generated::refuse_orphans(data_dir, store).map(|()| in_memory()),
        })
    } else if store.is_none() && !super::storage::writable(data_dir) {
        let message = format!(
            "the shared secret is made anew at each start: {} cannot be written",
            data_dir.display()
        );
        let help =
            "sessions end with a restart; make the folder writable, or set `data_dir` or `shared_secret`";
        cx.sink
            .warn(values.place("shared_secret"), "shared_secret", message, help);
        Ok(in_memory())
    } else {
        generated::read_or_create(data_dir, store)
    };
    found.unwrap_or_else(|error| {
        let help = match &error {
            generated::GeneratedError::TooOpen { path, .. } => format!("run `chmod 600 {}`", path.display()),
            generated::GeneratedError::Damaged(_) => {
                "restore the file from a backup, or set `shared_secret`".to_owned()
            }
            generated::GeneratedError::Orphaned { store, .. } => format!(
                "restore the secret from a backup or set it as `shared_secret`; or remove {} to begin anew, \
                 which signs everybody out",
                store.display()
            ),
            generated::GeneratedError::Io { .. } => {
                "make the data folder writable, or set `data_dir` or `shared_secret`".to_owned()
            }
        };
        cx.sink.error(
            values.place("shared_secret"),
            "shared_secret",
            error.to_string(),
            help,
        );
        [0; 32]
    })
}

/// The cookie secret; derived from the shared one where the original would make a random one.
fn cookie(values: &Values, services: Services, shared: &[u8; 32], cx: &mut Cx<'_>) -> [u8; 32] {
    let (complaint, needed) = match services {
        Services {
            authenticate: true, ..
        } => ("authenticate: 'COOKIE_SECRET' invalid", true),
        Services { proxy: true, .. } => ("proxy: invalid 'COOKIE_SECRET'", true),
        _ => ("", false),
    };
    let (text, name) = match values.some_text("cookie_secret_file") {
        Some(path) => match cx.read_text(path) {
            Ok(text) => (text, "cookie_secret_file"),
            Err(message) => {
                let place = values.place("cookie_secret_file");
                let message = format!("{complaint}: {message}");
                cx.sink.error_at(
                    Stage::ServiceStart,
                    place,
                    "cookie_secret_file",
                    message,
                    "check the path",
                );
                return [0; 32];
            }
        },
        None => (values.text("cookie_secret").to_owned(), "cookie_secret"),
    };
    let place = values.place(name);
    if text.is_empty() {
        if needed && !services.all_in_one() {
            let message = format!("{complaint}: empty cookie secret");
            cx.sink
                .error_at(Stage::ServiceStart, place, name, message, MAKE_ONE);
        }
        return pomerium_crypto::kdf::derive(shared, "cookie-secret");
    }
    if !needed {
        return pomerium_crypto::kdf::derive(shared, "cookie-secret");
    }
    match base64_std(&text) {
        Ok(bytes) => exactly_32(&bytes, complaint, place, name, cx).unwrap_or_default(),
        Err(message) => {
            let message = format!("{complaint}: {message}");
            cx.sink
                .error_at(Stage::ServiceStart, place, name, message, MAKE_ONE);
            [0; 32]
        }
    }
}

/// PEM of the signing key: the file wins, white space is cut, base64 is decoded.
fn signing_key(values: &Values, cx: &mut Cx<'_>) -> Option<Vec<u8>> {
    let (text, name) = match values.some_text("signing_key_file") {
        Some(path) => match cx.read_text(path) {
            Ok(text) => (text, "signing_key_file"),
            Err(message) => {
                let place = values.place("signing_key_file");
                let message = format!("invalid signing key: {message}");
                cx.sink.error_at(
                    Stage::ServiceStart,
                    place,
                    "signing_key_file",
                    message,
                    "check the path",
                );
                return None;
            }
        },
        None => (values.text("signing_key").to_owned(), "signing_key"),
    };
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    let pem = base64_std(text).unwrap_or_else(|_| text.as_bytes().to_vec());
    if let Err(error) = pomerium_crypto::jwt::SigningKey::from_pem(&pem) {
        let help = "an EC P-256 or RSA private key as PEM: `openssl ecparam -genkey -name prime256v1 -noout`";
        let message = format!("invalid signing key: {error}");
        cx.sink
            .error_at(Stage::ServiceStart, values.place(name), name, message, help);
    }
    Some(pem)
}
