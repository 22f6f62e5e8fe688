//! `pomerium session`: sessions of the running server, and looking through somebody else's.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use pomerium_config::Loader;

use super::{environment, print};
use crate::admin::client;
use crate::admin::protocol::{Answer, Question, SessionLine, Target};
use crate::cli::{ImpersonateArgs, SessionListArgs, WhichServer};

/// Prints the sessions that are alive, newest first.
pub fn list(args: &SessionListArgs) -> anyhow::Result<ExitCode> {
    let question = Question::List {
        user: args.user.clone(),
    };
    let Answer::Sessions(sessions) = client::ask(&data_dir(&args.server)?, &question)? else {
        bail!("the server answered something else");
    };
    for session in &sessions {
        print(&line(session));
    }
    if sessions.is_empty() {
        print("no session is alive");
    }
    Ok(ExitCode::SUCCESS)
}

/// Begins or ends an impersonation. It is written to the log here and by the server.
pub fn impersonate(args: &ImpersonateArgs) -> anyhow::Result<ExitCode> {
    let data_dir = data_dir(&args.server)?;
    let question = question(args)?;
    tracing::warn!(
        session = args.session,
        as_session = args.as_session,
        as_user = args.as_user,
        end = args.end,
        reason = args.reason,
        "session impersonate: asked for"
    );
    let Answer::Done { session, target } = client::ask(&data_dir, &question)? else {
        bail!("the server answered something else");
    };
    let whom = target.as_ref().map_or_else(
        || "somebody whose session is over".to_owned(),
        |target| name(target),
    );
    let text = match args.end {
        true => format!("{} does not impersonate {whom} any more", name(&session)),
        false => format!(
            "{} impersonates {whom} in the session {} until it ends, or until\n  pomerium session impersonate --session {} --end",
            name(&session),
            session.id,
            session.id
        ),
    };
    print(&text);
    tracing::warn!(session = session.id, end = args.end, "session impersonate: done");
    Ok(ExitCode::SUCCESS)
}

fn question(args: &ImpersonateArgs) -> anyhow::Result<Question> {
    let session = args.session.clone();
    if args.end {
        return Ok(Question::End { session });
    }
    let target = match (&args.as_session, &args.as_user) {
        (Some(id), None) => Target::Session(id.clone()),
        (None, Some(user)) => Target::User(user.clone()),
        _ => bail!("say whom to impersonate: --as-session ID or --as-user USER"),
    };
    let reason = args.reason.clone().unwrap_or_default();
    if reason.trim().is_empty() {
        bail!("nobody is impersonated without a reason; say why with --reason");
    }
    Ok(Question::Impersonate {
        session,
        target,
        reason,
    })
}

fn data_dir(which: &WhichServer) -> anyhow::Result<PathBuf> {
    if let Some(folder) = &which.data_dir {
        return Ok(folder.clone());
    }
    let loaded = Loader::new(which.config.as_deref(), &environment())
        .dry_run()
        .load()
        .context("the configuration says where the data folder is; or name it with --data-dir")?;
    Ok(loaded.settings.data_dir)
}

fn name(session: &SessionLine) -> String {
    match session.email.is_empty() {
        true => session.user_id.clone(),
        false => session.email.clone(),
    }
}

fn line(session: &SessionLine) -> String {
    let impersonates = session
        .impersonates
        .as_ref()
        .map(|id| format!("  impersonates {id}"))
        .unwrap_or_default();
    format!(
        "{}  {}  since {}{impersonates}",
        session.id,
        name(session),
        session.issued_at
    )
}
