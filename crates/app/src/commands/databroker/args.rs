//! Options of `pomerium databroker`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Commands of `databroker`.
#[derive(Debug, Subcommand)]
pub enum DatabrokerCommand {
    /// Write every record to a new, sealed file; the databroker may run meanwhile
    Backup(BackupArgs),
    /// Put the records of a backup into a store that has none
    Restore(RestoreArgs),
    /// Read a backup, or the store, to its end: checksums, readability, how many records of each type
    Check(CheckArgs),
    /// Write what other tools (curl, grpcurl) show a databroker that wants certificates (grpc_mutual_tls)
    Certificate(CertificateArgs),
    /// Make the copy that a standby holds a database of its own, because its leader is gone
    Promote(PromoteArgs),
}

/// Options of `databroker certificate`.
#[derive(Debug, Args)]
pub struct CertificateArgs {
    /// The folder for client.pem, client-key.pem and ca.pem; it is made if it is not there
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Which databroker; without a configuration, the secret of SHARED_SECRET counts
    #[command(flatten)]
    pub which: Which,
}

/// Options of `databroker promote`.
#[derive(Debug, Args)]
pub struct PromoteArgs {
    /// Promote though the leader still answers; what it takes from here on is lost
    #[arg(long)]
    pub force: bool,
    /// Which databroker
    #[command(flatten)]
    pub which: Which,
}

/// Which databroker.
#[derive(Debug, Args)]
pub struct Which {
    /// Its configuration
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// The key of backups.
#[derive(Debug, Args)]
pub struct Secret {
    /// File with the secret the backup is sealed with, base64 of 32 bytes; otherwise the shared secret of the
    /// configuration
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
}

/// Options of `databroker backup`.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// The file to write; it must not exist
    pub file: PathBuf,
    /// Ask the databroker that runs here, for instance https://databroker.example.com:5443
    #[arg(long, value_name = "URL")]
    pub from: Option<String>,
    /// The key
    #[command(flatten)]
    pub secret: Secret,
    /// Which databroker
    #[command(flatten)]
    pub which: Which,
}

/// Options of `databroker restore`.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The backup
    pub file: PathBuf,
    /// Folder (an absolute path, or one with ./) or PostgreSQL connection string of another store than that of the
    /// configuration
    #[arg(long, value_name = "STORE")]
    pub into: Option<String>,
    /// The key
    #[command(flatten)]
    pub secret: Secret,
    /// Which databroker
    #[command(flatten)]
    pub which: Which,
}

/// Options of `databroker check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// A backup; without it the store of the configuration is checked
    pub file: Option<PathBuf>,
    /// The key
    #[command(flatten)]
    pub secret: Secret,
    /// Which databroker
    #[command(flatten)]
    pub which: Which,
}
