//! Which key holds what: the file layout of certmagic, so that an `autocert_dir` of the original keeps working.

use crate::storage::safe;

/// The component that names an authority: host and path of its directory.
pub(crate) fn authority(directory: &str) -> String {
    let rest = directory.split_once("://").map_or(directory, |(_, rest)| rest);
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let path = path.replace(['/', '\\'], "-");
    let path = path.trim_matches('-');
    if path.is_empty() {
        safe(host)
    } else {
        safe(&format!("{host}-{path}"))
    }
}

/// The folder of the account with this contact.
fn account_folder(directory: &str, email: &str) -> String {
    let user = if email.trim().is_empty() { "default" } else { email };
    format!("acme/{}/users/{}", authority(directory), safe(user))
}

/// The file name of an account: the part of the address before the `@`.
fn account_name(email: &str, fallback: &str) -> String {
    let email = email.trim();
    let user = match email.find('@') {
        Some(0) => &email[1..],
        Some(at) => &email[..at],
        None => email,
    };
    match safe(user) {
        name if name.is_empty() => match email {
            "" => "default".to_owned(),
            _ => fallback.to_owned(),
        },
        name => name,
    }
}

/// What the authority says about the account.
pub(crate) fn account_registration(directory: &str, email: &str) -> String {
    let folder = account_folder(directory, email);
    format!("{folder}/{}.json", account_name(email, "registration"))
}

/// The account's key.
pub(crate) fn account_key(directory: &str, email: &str) -> String {
    let folder = account_folder(directory, email);
    format!("{folder}/{}.key", account_name(email, "private"))
}

/// Chain, key and metadata of a certificate: `.crt`, `.key`, `.json`.
pub(crate) fn certificate(directory: &str, name: &str, kind: &str) -> String {
    let name = safe(name);
    format!("certificates/{}/{name}/{name}.{kind}", authority(directory))
}

/// The staple of a chain.
pub(crate) fn staple(first_name: &str, chain_pem: &[u8]) -> String {
    format!("ocsp/{}-{:x}", safe(first_name), fnv32a(chain_pem))
}

/// FNV-1a; only a name for a file.
fn fnv32a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_of_certmagic() {
        let production = "https://acme-v02.api.letsencrypt.org/directory";
        assert_eq!(authority(production), "acme-v02.api.letsencrypt.org-directory");
        assert_eq!(authority("https://ca.example.com"), "ca.example.com");
        assert_eq!(authority("https://127.0.0.1:14000/dir"), "127.0.0.1-14000-dir");
        assert_eq!(
            authority("https://ca.example.com/acme/acme/directory"),
            "ca.example.com-acme-acme-directory"
        );
        assert_eq!(
            certificate(production, "*.Example.com", "crt"),
            "certificates/acme-v02.api.letsencrypt.org-directory/wildcard_.example.com/wildcard_.example.com.crt"
        );
        assert_eq!(
            account_key(production, ""),
            "acme/acme-v02.api.letsencrypt.org-directory/users/default/default.key"
        );
        assert_eq!(
            account_registration(production, "Ops@example.com"),
            "acme/acme-v02.api.letsencrypt.org-directory/users/ops@example.com/ops.json"
        );
        assert_eq!(fnv32a(b"a"), 0xe40c_292c);
    }
}
