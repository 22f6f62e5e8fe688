//! Which services a process runs, and how those of several processes reach each other.

use std::time::Duration;

use super::Origin;

/// The set of services of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Services {
    /// Signs people in.
    pub authenticate: bool,
    /// Judges requests.
    pub authorize: bool,
    /// Keeps records.
    pub databroker: bool,
    /// Forwards requests.
    pub proxy: bool,
}

impl Services {
    /// All four.
    pub const ALL: Self = Self {
        authenticate: true,
        authorize: true,
        databroker: true,
        proxy: true,
    };
    /// None of them.
    pub const NONE: Self = Self {
        authenticate: false,
        authorize: false,
        databroker: false,
        proxy: false,
    };

    /// Whether this process runs all four.
    pub fn all_in_one(self) -> bool {
        self.authenticate && self.authorize && self.databroker && self.proxy
    }

    /// Whether this process serves people, so that it has the main listener.
    pub fn serve_people(self) -> bool {
        self.authenticate || self.proxy
    }
}

/// Connections between services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InternalSettings {
    /// The listener for other services and for tools.
    pub listener: Option<GrpcListener>,
    /// The databroker of another process; `None` where this process keeps the records.
    pub databroker: Option<RemoteDatabroker>,
    /// The group of databrokers this one belongs to.
    pub cluster: Option<ClusterSettings>,
    /// How long people stay signed in while the records cannot be reached.
    pub outage_limit: Duration,
    /// The name that certificates of databrokers are for, where this process keeps the records: `override_certificate_name`,
    /// else `tls_derive`; otherwise the host of their address.
    pub certificate_name: Option<String>,
    /// `grpc_mutual_tls`: services show each other certificates.
    pub mutual_tls: bool,
}

/// Databrokers, each with a store of its own, of which one leads and the others follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterSettings {
    /// Name of this one.
    pub id: String,
    /// Where the one that leads is; `None` when this one does.
    pub leader: Option<Origin>,
    /// Where the others are.
    pub others: Vec<Origin>,
    /// Name the certificates of all of them are for, where that is not the host: `override_certificate_name`, else
    /// `tls_derive`.
    pub server_name: Option<String>,
}

/// The listener for other services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrpcListener {
    /// `host:port`; an empty host means every address.
    pub address: String,
    /// Without TLS.
    pub insecure: bool,
}

/// Where the databroker of this installation is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteDatabroker {
    /// One or more that share their records.
    pub endpoints: Vec<Origin>,
    /// Name its certificate has to be for, where that is not the host (`override_certificate_name`).
    pub server_name: Option<String>,
}
