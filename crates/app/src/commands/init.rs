//! `pomerium init`: a working configuration with fresh secrets.

use std::process::ExitCode;

use anyhow::bail;
use pomerium_config::users_file::is_address;
use pomerium_crypto::{encoding, password, random};

use super::print;
use crate::cli::InitArgs;
use crate::demo::files::write_private;

/// Writes the file and prints what to do next.
pub fn run(args: &InitArgs) -> anyhow::Result<ExitCode> {
    if args.file.exists() {
        bail!(
            "{} exists; name another file, or remove it first",
            args.file.display()
        );
    }
    check(args)?;
    let password = random::base64url(12);
    write_private(&args.file, config(args, &password)?.as_bytes())?;
    let (file, domain) = (args.file.display(), &args.domain);
    print(&format!(
        "Wrote {file}.\n\n\
         Sign in as   {admin}\n\
         Password     {password}   (shown once; change it with `pomerium user add {admin} --config {file}`)\n\n\
         Next:\n\
         1. Point authenticate.{domain} and app.{domain} to this machine.\n\
         2. Put your certificate into {file} (the key names are there); without one a generated one is used.\n\
         3. Set `to` of the route to your application.\n\
         4. pomerium validate {file} && pomerium --config {file}",
        admin = args.admin,
    ));
    Ok(ExitCode::SUCCESS)
}

/// Both go into the file as they are, so they must be what they are said to be.
fn check(args: &InitArgs) -> anyhow::Result<()> {
    let plain = |text: &str, more: &str| {
        text.chars()
            .all(|c| c.is_ascii_alphanumeric() || more.contains(c))
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
    };
    if !plain(&args.domain, "-.") {
        bail!(
            "--domain: \"{}\" is no domain; write one such as example.com",
            args.domain
        );
    }
    if !is_address(&args.admin) || !plain(&args.admin, "-._+@") {
        bail!("--admin: \"{}\" is no e-mail address", args.admin);
    }
    Ok(())
}

fn config(args: &InitArgs, password: &str) -> anyhow::Result<String> {
    let InitArgs { domain, admin, .. } = args;
    Ok(format!(
        "# Pomerium configuration. `pomerium validate` checks it, `pomerium schema` helps your editor.\n\
         address: ':443'\n\
         http_redirect_addr: ':80'\n\
         authenticate_service_url: https://authenticate.{domain}\n\
         \n\
         # Made for this installation. Whoever has them can forge sessions: keep this file private.\n\
         shared_secret: {shared}\n\
         cookie_secret: {cookie}\n\
         \n\
         # A certificate that names authenticate.{domain} and every host below.\n\
         # certificate_file: /etc/pomerium/tls.crt\n\
         # certificate_key_file: /etc/pomerium/tls.key\n\
         \n\
         # Users of the built-in identity provider. To use your own instead:\n\
         #   idp_provider: oidc, idp_provider_url, idp_client_id, idp_client_secret\n\
         idp_provider: local\n\
         local_idp:\n\
         \x20 users:\n\
         \x20 - email: {admin}\n\
         \x20   name: Administrator\n\
         \x20   groups: [admins]\n\
         \x20   password_hash: {hash}\n\
         \n\
         routes:\n\
         - from: https://app.{domain}\n\
         \x20 to: http://127.0.0.1:8080\n\
         \x20 pass_identity_headers: true\n\
         \x20 policy:\n\
         \x20 - allow:\n\
         \x20     or:\n\
         \x20     - email: {admin}\n\
         \x20     - claim/groups: admins\n",
        shared = encoding::base64_encode(&random::bytes::<32>()),
        cookie = encoding::base64_encode(&random::bytes::<32>()),
        hash = password::hash(password)?,
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use pomerium_config::Loader;

    use super::*;

    fn args(dir: &std::path::Path, domain: &str, admin: &str) -> InitArgs {
        InitArgs {
            file: dir.join("config.yaml"),
            domain: domain.into(),
            admin: admin.into(),
        }
    }

    #[test]
    fn what_it_writes_can_be_started_and_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let args = args(dir.path(), "example.com", "admin@example.com");
        assert_eq!(run(&args).unwrap(), ExitCode::SUCCESS);
        let mode = std::fs::metadata(&args.file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let loaded = Loader::new(Some(&args.file), &BTreeMap::new())
            .dry_run()
            .load()
            .unwrap();
        assert!(loaded.refusals.is_empty() && loaded.warnings.is_empty());
        assert!(run(&args).is_err(), "a file that is there stays");
    }

    #[test]
    fn what_would_break_the_file_is_refused_and_nothing_is_written() {
        let dir = tempfile::tempdir().unwrap();
        for (domain, admin) in [
            ("bad domain", "admin@example.com"),
            ("", "admin@example.com"),
            ("example.com\nroutes: []", "admin@example.com"),
            ("example.com", "admin"),
            ("example.com", "@example.com"),
            ("example.com", "a@example.com\n    groups: [x]"),
            ("example.com", "'a'@example.com"),
        ] {
            let args = args(dir.path(), domain, admin);
            assert!(run(&args).is_err(), "{domain:?} {admin:?}");
            assert!(!args.file.exists());
        }
    }
}
