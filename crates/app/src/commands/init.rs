//! `pomerium init`: a working configuration with fresh secrets.

use std::process::ExitCode;

use anyhow::bail;
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
    let password = random::base64url(12);
    write_private(&args.file, config(args, &password)?.as_bytes())?;
    let (file, domain) = (args.file.display(), &args.domain);
    print(&format!(
        "Wrote {file}.\n\n\
         Sign in as   {admin}\n\
         Password     {password}   (shown once; change it with `pomerium user add`)\n\n\
         Next:\n\
         1. Point authenticate.{domain} and app.{domain} to this machine.\n\
         2. Put your certificate into {file} (the key names are there); without one a generated one is used.\n\
         3. Set `to` of the route to your application.\n\
         4. pomerium validate {file} && pomerium --config {file}",
        admin = args.admin,
    ));
    Ok(ExitCode::SUCCESS)
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
