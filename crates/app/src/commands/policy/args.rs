//! What can be typed after `pomerium policy`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Commands of `policy`.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Tell how a request is judged, criterion by criterion: an imagined one, or one of the audit log
    Explain(Box<ExplainArgs>),
    /// Run policy cases that are kept beside the configuration
    Test(TestArgs),
    /// Tell which requests of an audit log another configuration would judge otherwise
    Replay(ReplayArgs),
    /// Write policy documents and case files in their canonical form
    Fmt(FmtArgs),
    /// Review policies: rules that surprise, never hold, change nothing or let everybody in
    Lint(LintArgs),
}

/// Options of `policy explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// A route by its name, id or `from`; or the address of a page, such as https://wiki.example.com/admin
    #[arg(long, value_name = "ROUTE")]
    pub route: Option<String>,
    /// Take the request from a case file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["request", "user", "email"])]
    pub case: Option<PathBuf>,
    /// Which case of the file, when there are several
    #[arg(long, value_name = "NAME", requires = "case")]
    pub name: Option<String>,
    /// A request of the audit log, by its id (it is on the error page and in every log line)
    #[arg(long, value_name = "ID")]
    pub request: Option<String>,
    /// The audit log; otherwise the files that the configuration names under `audit`
    #[arg(long, value_name = "FILE", requires = "request")]
    pub log: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Who asks and for what
    #[command(flatten)]
    pub imagined: Imagined,
}

/// An imagined request.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "The imagined request (without --user and --email nobody is signed in)")]
pub struct Imagined {
    /// User id
    #[arg(long, value_name = "ID")]
    pub user: Option<String>,
    /// E-mail address of the user
    #[arg(long, value_name = "ADDRESS")]
    pub email: Option<String>,
    /// A claim, NAME=VALUE; may be repeated; a VALUE that is JSON is taken as such
    #[arg(long = "claim", value_name = "NAME=VALUE")]
    pub claims: Vec<String>,
    /// Id of a group of the directory; may be repeated
    #[arg(long = "group", value_name = "ID")]
    pub groups: Vec<String>,
    /// A device of this type (such as any) has been shown by the session
    #[arg(long, value_name = "TYPE")]
    pub device: Option<String>,
    /// Id of the device credential
    #[arg(long, value_name = "ID", requires = "device", default_value = "device")]
    pub device_id: String,
    /// Who approved the device
    #[arg(long, value_name = "WHO", requires = "device")]
    pub device_approved_by: Option<String>,
    /// A service account asks; --user is its user id
    #[arg(long, requires = "user")]
    pub service_account: bool,
    /// Method
    #[arg(long, default_value = "GET")]
    pub method: String,
    /// Path, with a query if it has one
    #[arg(long, default_value = "/")]
    pub path: String,
    /// Address of the client
    #[arg(long, default_value = "203.0.113.7")]
    pub ip: std::net::IpAddr,
    /// A header, `Name: value`; may be repeated
    #[arg(long = "header", value_name = "HEADER")]
    pub headers: Vec<String>,
    /// When; now unless set
    #[arg(long, value_name = "RFC 3339")]
    pub time: Option<jiff::Timestamp>,
    /// The client certificate, PEM
    #[arg(long, value_name = "FILE")]
    pub certificate: Option<PathBuf>,
    /// The certificate is not valid for the route
    #[arg(long, requires = "certificate")]
    pub certificate_invalid: bool,
}

/// Options of `policy test`.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// Case files, YAML or JSON
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The configuration whose routes the cases name
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Only cases whose name contains this
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub filter: String,
    /// Explain every case that fails
    #[arg(short, long)]
    pub verbose: bool,
}

/// Options of `policy replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Audit logs, oldest first; `-` is standard input
    #[arg(required = true, value_name = "LOG")]
    pub logs: Vec<PathBuf>,
    /// The configuration to judge by
    #[arg(long, value_name = "FILE", required = true)]
    pub config: PathBuf,
    /// Most requests that are printed; all are counted
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: u64,
    /// Print one JSON object for each request that differs, and one at the end
    #[arg(long)]
    pub json: bool,
}

/// Options of `policy fmt`.
#[derive(Debug, Args)]
pub struct FmtArgs {
    /// Policy documents and case files, YAML or JSON; `-` reads YAML from standard input and prints
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Write nothing; fail when a file is not in its canonical form
    #[arg(long)]
    pub check: bool,
}

/// Options of `policy lint`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct LintArgs {
    /// Policy documents, YAML or JSON
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// A configuration, whose routes are reviewed
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Advice that is not wanted; may be repeated
    #[arg(long = "allow", value_name = "NAME", value_parser = lint_names())]
    pub allow: Vec<String>,
}

fn lint_names() -> clap::builder::PossibleValuesParser {
    clap::builder::PossibleValuesParser::new(
        pomerium_policy::ppl::Lint::ALL.map(pomerium_policy::ppl::Lint::as_str),
    )
}
