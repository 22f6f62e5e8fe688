//! The audit stream.

use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

/// One place that audit records go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditSink {
    /// Where.
    pub target: AuditTarget,
    /// Requests that were let in are recorded, too.
    pub allowed: bool,
    /// Records hold the inputs of every criterion.
    pub inputs: bool,
    /// Bytes that may wait in memory.
    pub queue_bytes: usize,
}

/// Where audit records go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditTarget {
    /// A file.
    File(AuditFile),
    /// A receiver of batches.
    Http(AuditHttp),
}

/// A file that records are appended to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditFile {
    /// Absolute path.
    pub path: PathBuf,
    /// Size from which on a new file is begun; `None` leaves that to others.
    pub rotate_bytes: Option<u64>,
    /// How many old files are kept: `<path>.1` is the newest.
    pub keep: u32,
    /// When records are forced to disk.
    pub fsync: AuditFsync,
}

/// When records are forced to disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditFsync {
    /// When the system wants: what was written survives the program, not a crash of the machine.
    Never,
    /// At most a second after they were written.
    Second,
    /// With every write.
    Always,
}

/// A receiver of batches over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditHttp {
    /// Where batches are posted to.
    pub url: http::Uri,
    /// Headers of every batch; values that are secrets do not print.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Trust anchors (PEM) beside those of the system.
    pub ca: Option<Vec<u8>>,
    /// Most records in a batch.
    pub batch_size: usize,
    /// How long records are gathered.
    pub batch_interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
}
