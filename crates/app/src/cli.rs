//! The command line (spec config.md 1).

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::commands;
use crate::commands::databroker::args::DatabrokerCommand;
use crate::commands::policy::args::PolicyCommand;
use crate::telemetry::log::{self, LogFormat};

/// An identity-aware access proxy that replaces the VPN.
#[derive(Debug, Parser)]
#[command(
    name = "pomerium",
    disable_version_flag = true,
    args_conflicts_with_subcommands = true
)]
struct Cli {
    /// Configuration file (YAML, JSON, TOML or .env); without it only the environment is read
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the version
    #[arg(long)]
    version: bool,
    /// Form of the log
    #[arg(long, value_enum, default_value = "auto", global = true)]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Try it: a working proxy with users, routes and a sample application, on this machine only
    Demo(DemoArgs),
    /// Write a working configuration with fresh secrets
    Init(InitArgs),
    /// Check a configuration and say everything that is wrong with it
    Validate(ValidateArgs),
    /// Print the JSON schema of the configuration file, for editors
    Schema,
    /// Explain, test, replay, format and review policies
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Users of the built-in identity provider
    #[command(subcommand)]
    User(UserCommand),
    /// Sessions of the server that runs on this machine
    #[command(subcommand)]
    Session(SessionCommand),
    /// Backups of the records, checks, and standbys that take over
    #[command(subcommand)]
    Databroker(DatabrokerCommand),
    /// Ask a running Pomerium how it is
    Health(HealthArgs),
}

/// Options of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Folder for the demo's configuration, keys and records [default: <data dir>/demo]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Port of the listener; the next free one is taken if it is in use
    #[arg(long, default_value_t = 8443)]
    pub port: u16,
    /// Make this machine and its browsers trust the demo's certificate authority
    #[arg(long, conflicts_with = "untrust")]
    pub trust: bool,
    /// Undo `--trust`, then stop
    #[arg(long)]
    pub untrust: bool,
}

/// Options of `init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// File to write; it must not exist
    #[arg(default_value = "config.yaml")]
    pub file: PathBuf,
    /// Domain under which the services live
    #[arg(long, default_value = "example.com")]
    pub domain: String,
    /// E-mail address of the first user; asks for nothing else
    #[arg(long, default_value = "admin@example.com")]
    pub admin: String,
}

/// Options of `validate`.
#[derive(Debug, Args)]
pub struct ValidateArgs {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The same, without the option
    #[arg(value_name = "FILE", conflicts_with = "config")]
    pub file: Option<PathBuf>,
}

/// Commands of `user`.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Add a user, or give one a new password; the password is read from standard input
    Add(UserAddArgs),
}

/// Options of `user add`.
#[derive(Debug, Args)]
pub struct UserAddArgs {
    /// E-mail address; the name to sign in with
    pub email: String,
    /// Display name
    #[arg(long, default_value = "")]
    pub name: String,
    /// A group the user is in; may be repeated
    #[arg(long = "group", value_name = "GROUP")]
    pub groups: Vec<String>,
    /// The users file; otherwise `local_idp.users_file` of the configuration
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    pub users_file: Option<PathBuf>,
    /// Configuration that names the users file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Commands of `session`.
#[derive(Debug, Subcommand)]
pub enum SessionCommand {
    /// Print the sessions that are alive, newest first
    List(SessionListArgs),
    /// Let a session see what somebody else sees, until it ends or is told to; it is written to the log, with the reason
    Impersonate(ImpersonateArgs),
}

/// Which server is asked.
#[derive(Debug, Args)]
pub struct WhichServer {
    /// Configuration of the server
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Its data folder; otherwise the configuration says
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    pub data_dir: Option<PathBuf>,
}

/// Options of `session list`.
#[derive(Debug, Args)]
pub struct SessionListArgs {
    /// Only those of this user, by e-mail or user id
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// Which server
    #[command(flatten)]
    pub server: WhichServer,
}

/// Options of `session impersonate`.
#[derive(Debug, Args)]
pub struct ImpersonateArgs {
    /// The session of whoever looks; `session list` shows it
    #[arg(long, value_name = "ID")]
    pub session: String,
    /// The session to look through
    #[arg(long, value_name = "ID", conflicts_with_all = ["as_user", "end"])]
    pub as_session: Option<String>,
    /// Or the one this user used last, by e-mail or user id
    #[arg(long, value_name = "USER", conflicts_with = "end")]
    pub as_user: Option<String>,
    /// Why; it is written to the log
    #[arg(long, value_name = "TEXT", conflicts_with = "end")]
    pub reason: Option<String>,
    /// End it
    #[arg(long)]
    pub end: bool,
    /// Which server
    #[command(flatten)]
    pub server: WhichServer,
}

/// Options of `health`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct HealthArgs {
    /// Something else than one look
    #[command(subcommand)]
    pub command: Option<HealthCommand>,
    /// Address of the health listener
    #[arg(short = 'a', long, default_value = "127.0.0.1:28080")]
    pub health_addr: String,
    /// A check to leave out; may be repeated
    #[arg(short, long, value_name = "CHECK")]
    pub exclude: Vec<String>,
    /// Print every check
    #[arg(short, long)]
    pub verbose: bool,
}

/// Commands of `health`.
#[derive(Debug, Subcommand)]
pub enum HealthCommand {
    /// Follow how a Pomerium is, from anywhere: over its gRPC listener, until it ends
    #[command(alias = "w")]
    Watch(HealthWatchArgs),
}

/// Options of `health watch`.
#[derive(Debug, Args)]
pub struct HealthWatchArgs {
    /// Its gRPC listener (`grpc_address`): host:port without TLS, https://host:port with it
    #[arg(
        short = 'a',
        long,
        alias = "grpc-addr",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:5443"
    )]
    pub addr: String,
    /// The shared secret, in base64; others on this machine see it here, so rather set SHARED_SECRET or give --config
    #[arg(short, long, value_name = "SECRET", conflicts_with = "config")]
    pub shared_secret: Option<String>,
    /// Configuration with the shared secret, and with the authorities that are trusted
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Name that its certificate is for, where that is not the host
    #[arg(long, value_name = "NAME")]
    pub server_name: Option<String>,
}

/// Runs the program; the exit code is 0 only when all went well.
pub fn main() -> ExitCode {
    install_crypto_provider();
    let cli = Cli::parse_from(with_long_config_flag(std::env::args_os()));
    if cli.version {
        commands::print(&version_text());
        return ExitCode::SUCCESS;
    }
    log::install(cli.log_format);
    let result = match cli.command {
        None => commands::run::run(cli.config.as_deref()),
        Some(Command::Demo(args)) => commands::demo::run(&args),
        Some(Command::Init(args)) => commands::init::run(&args),
        Some(Command::Validate(args)) => commands::validate::run(args.config.or(args.file).as_deref()),
        Some(Command::Schema) => commands::schema::run(),
        Some(Command::Policy(command)) => commands::policy::run(&command),
        Some(Command::User(UserCommand::Add(args))) => commands::user::add(&args),
        Some(Command::Session(SessionCommand::List(args))) => commands::session::list(&args),
        Some(Command::Session(SessionCommand::Impersonate(args))) => commands::session::impersonate(&args),
        Some(Command::Databroker(command)) => commands::databroker::run(&command),
        Some(Command::Health(args)) => commands::health::run(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            let error = said_once(&error);
            commands::print_error(&format!("Error: {error}"));
            // A level of the original that the log library does not have (spec config.md 1.1).
            tracing::error!(level = "fatal", %error, "cmd/pomerium");
            ExitCode::FAILURE
        }
    }
}

/// What an error says, from the outermost to its cause; a cause that is in what was said already is not said again.
fn said_once(error: &anyhow::Error) -> String {
    let mut said = String::new();
    for part in error.chain().map(ToString::to_string) {
        if said.is_empty() {
            said = part;
        } else if !said.contains(&part) {
            said.push_str(": ");
            said.push_str(&part);
        }
    }
    said
}

/// One crypto provider for the whole process. A second call changes nothing.
pub fn install_crypto_provider() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

fn version_text() -> String {
    format!(
        "pomerium: {}\nenvoy: none (the data plane is part of this program)",
        crate::VERSION
    )
}

/// `-config FILE` of old unit files still works; it says that `--config` is the name. `-version` works silently.
fn with_long_config_flag(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    args.map(|arg| match arg.to_str() {
        Some("-config") => deprecated("--config".into()),
        Some("-version") => "--version".into(),
        Some(text) if text.starts_with("-config=") => deprecated(format!("-{text}").into()),
        _ => arg,
    })
    .collect()
}

fn deprecated(instead: OsString) -> OsString {
    commands::print_error("Warning: options with one dash are deprecated; write --config.");
    instead
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(args: &[&str]) -> Vec<String> {
        let args = args.iter().map(OsString::from);
        with_long_config_flag(args)
            .into_iter()
            .map(|arg| arg.into_string().unwrap())
            .collect()
    }

    #[test]
    fn a_cause_is_said_once() {
        let missing = || anyhow::anyhow!("not found (os error 2)");
        let error = missing().context("/x: not found (os error 2)").context("backup");
        assert_eq!(said_once(&error), "backup: /x: not found (os error 2)");
        assert_eq!(said_once(&missing().context("/x")), "/x: not found (os error 2)");
    }

    #[test]
    fn the_old_spelling_of_config_is_understood() {
        assert_eq!(
            converted(&["pomerium", "-config", "a.yaml"]),
            ["pomerium", "--config", "a.yaml"]
        );
        assert_eq!(
            converted(&["pomerium", "-config=a.yaml"]),
            ["pomerium", "--config=a.yaml"]
        );
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn the_version_names_both_parts_on_lines_of_their_own() {
        let text = version_text();
        assert!(text.lines().any(|line| line.starts_with("pomerium: ")));
        assert!(text.lines().any(|line| line.starts_with("envoy: ")));
    }
}
