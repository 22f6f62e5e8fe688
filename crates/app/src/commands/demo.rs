//! `pomerium demo`: a working proxy with users, routes and an application, on this machine only.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use pomerium_api::clock::{Clock, SystemClock};
use pomerium_certs::LocalAuthority;
use pomerium_certs::trust::TrustStores;
use pomerium_identity::ReqwestClient;
use pomerium_proxy::StartError;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::run::runtime;
use super::{print, print_error};
use crate::cli::DemoArgs;
use crate::demo::files::{self, Files};
use crate::demo::plan::{self, Plan, ROUTES, USERS};
use crate::demo::sample::Sample;
use crate::server::load::Source;
use crate::server::{LogOutput, Options, Server, Start};

/// First port tried for the sample application.
const SAMPLE_PORT: u16 = 8480;
/// First port tried for the health listener.
const HEALTH_PORT: u16 = 28080;
/// How often ports are chosen before it is given up.
const TRIES: u32 = 5;

/// Runs the demo until a signal ends it.
pub fn run(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let dir = args.data_dir.clone().map_or_else(default_dir, Ok)?;
    files::private_dir(&dir)?;
    let authority = LocalAuthority::open_or_create(&dir.join("authority"), SystemClock.now().as_second())?;
    if args.untrust {
        return Ok(change_trust(&authority, false));
    }
    if args.trust {
        change_trust(&authority, true);
    }
    again_while_taken(|| runtime()?.block_on(serve(args, dir.clone(), &authority)))?;
    Ok(ExitCode::SUCCESS)
}

/// Ports are chosen before they are bound, so another program may be quicker: then others are chosen. Each try has a
/// runtime of its own, which leaves nothing behind.
fn again_while_taken(mut attempt: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut tries = 1;
    loop {
        match attempt() {
            Err(error) if tries < TRIES && port_was_taken(&error) => tries += 1,
            result => return result,
        }
    }
}

fn port_was_taken(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = match cause.downcast_ref::<StartError>() {
            Some(StartError::Io(error)) => Some(error),
            _ => cause.downcast_ref::<std::io::Error>(),
        };
        io.is_some_and(|error| error.kind() == std::io::ErrorKind::AddrInUse)
    })
}

async fn serve(args: &DemoArgs, dir: PathBuf, authority: &LocalAuthority) -> anyhow::Result<()> {
    let sample_listener = TcpListener::bind(("127.0.0.1", plan::free_port(SAMPLE_PORT)?)).await?;
    let plan = Plan {
        dir,
        port: plan::free_port(args.port)?,
        health_port: plan::free_port(HEALTH_PORT)?,
        sample_port: sample_listener.local_addr()?.port(),
    };
    let secret = files::shared_secret(&plan.dir)?;
    write_files(&plan, &secret, authority)?;
    let stop = CancellationToken::new();
    let sample = Arc::new(Sample {
        http: Arc::new(ReqwestClient::new(authority.ca_pem().as_bytes())?),
        jwks_url: format!("https://127.0.0.1:{}/.well-known/pomerium/jwks.json", plan.port),
        clock: Arc::new(SystemClock),
    });
    tokio::spawn(sample.serve(sample_listener, stop.clone()));
    let options = Options {
        // The demo reads its own file only: what the environment says belongs to something else.
        source: Source::new(Some(&Files::of(&plan.dir).config), &BTreeMap::new()),
        log_output: LogOutput::File(plan.dir.join("access.log")),
        workers: None,
        start: Start::default(),
    };
    let server = Server::start(options).await?;
    print(&welcome(&plan, &secret, authority));
    let result = server.run_until_stopped().await;
    stop.cancel();
    result
}

fn write_files(plan: &Plan, secret: &[u8; 32], authority: &LocalAuthority) -> anyhow::Result<()> {
    let files = Files::of(&plan.dir);
    let (chain, key) = authority.issue_pem(&Plan::hosts(), SystemClock.now().as_second())?;
    files::write_private(&files.certificate, chain.as_bytes())?;
    files::write_private(&files.key, key.as_bytes())?;
    files::write_private(&files.config, files::config(plan, secret)?.as_bytes())
}

fn default_dir() -> anyhow::Result<PathBuf> {
    let base = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
    let base = base.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share")));
    base.map(|base| base.join("pomerium/demo"))
        .context("neither XDG_DATA_HOME nor HOME is set; name a folder with --data-dir")
}

fn change_trust(authority: &LocalAuthority, trust: bool) -> ExitCode {
    let stores = TrustStores::of_this_machine(std::env::var_os("HOME").map(PathBuf::from));
    let actions = if trust {
        stores.trust(authority)
    } else {
        stores.untrust(authority)
    };
    for action in &actions {
        print_error(&action.to_string());
    }
    if trust {
        print_error("Undo with: pomerium demo --untrust");
    }
    let failed = actions
        .iter()
        .any(|action| matches!(action.outcome, pomerium_certs::trust::Outcome::Failed(_)));
    if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn welcome(plan: &Plan, secret: &[u8; 32], authority: &LocalAuthority) -> String {
    let mut lines = vec![
        String::new(),
        "Pomerium is running. Open:".to_owned(),
        String::new(),
    ];
    for route in &ROUTES {
        lines.push(format!("  {:34} {}", plan.url(route.label), route.who));
    }
    lines.extend([String::new(), "Sign in as:".to_owned(), String::new()]);
    for user in &USERS {
        lines.push(format!("  {:34} {}", user.email, plan::password(secret, user)));
    }
    let files = Files::of(&plan.dir);
    lines.extend([
        String::new(),
        format!("Configuration   {}   (copy it as a start)", files.config.display()),
        format!("Access log      {}", plan.dir.join("access.log").display()),
        format!("Authority       {}", authority.ca_path().display()),
        "The browser will warn about the certificate until that authority is trusted: `demo --trust`, undone by `demo --untrust`.".to_owned(),
        "Ctrl-C ends the demo.".to_owned(),
    ]);
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_was_taken_meanwhile_is_chosen_anew_and_nothing_else_is_tried_again() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let mut tries = 0;
        let result = again_while_taken(|| {
            tries += 1;
            let wanted = if tries == 1 {
                address.to_string()
            } else {
                "127.0.0.1:0".to_owned()
            };
            std::net::TcpListener::bind(wanted).context("address: cannot listen")?;
            Ok(())
        });
        assert!(result.is_ok());
        assert_eq!(tries, 2);

        tries = 0;
        let result = again_while_taken(|| {
            tries += 1;
            anyhow::bail!("the disk is full")
        });
        assert!(result.is_err());
        assert_eq!(tries, 1);

        tries = 0;
        let result = again_while_taken(|| {
            tries += 1;
            let socket = std::net::TcpListener::bind(address);
            Ok(socket.map(drop).map_err(StartError::Io)?)
        });
        assert!(result.is_err());
        assert_eq!(tries, TRIES);
    }
}
