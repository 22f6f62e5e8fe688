//! What the services say to each other: record types, the [`databroker::Databroker`] trait with its
//! clients, and the clock. Start at [`databroker`]. No decisions are made here.

pub mod clock;
pub mod config_records;
pub mod databroker;
pub mod described;
pub mod json;
pub mod records;
pub mod synced;

/// Messages generated from `proto/` (field numbers of the original: spec databroker.md 2).
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod pb {
    /// Package `session`.
    pub mod session {
        include!(concat!(env!("OUT_DIR"), "/session.rs"));
    }
    /// Package `user`.
    pub mod user {
        include!(concat!(env!("OUT_DIR"), "/user.rs"));
    }
    /// Package `pomerium.device`.
    pub mod device {
        include!(concat!(env!("OUT_DIR"), "/pomerium.device.rs"));
    }
    /// Package `envoy.service.auth.v3`.
    pub mod ext_authz {
        include!(concat!(env!("OUT_DIR"), "/envoy.service.auth.v3.rs"));
    }
    /// What lies under `pomerium`.
    pub mod pomerium {
        /// Package `pomerium.internal`.
        pub mod internal {
            include!(concat!(env!("OUT_DIR"), "/pomerium.internal.rs"));
        }
        /// Package `pomerium.events`.
        pub mod events {
            include!(concat!(env!("OUT_DIR"), "/pomerium.events.rs"));
        }
    }
    /// Package `registry`.
    pub mod registry {
        include!(concat!(env!("OUT_DIR"), "/registry.rs"));
    }
    /// Package `health`.
    pub mod health {
        include!(concat!(env!("OUT_DIR"), "/health.rs"));
    }
    /// Package `grpc.health.v1`.
    pub mod grpc_health {
        include!(concat!(env!("OUT_DIR"), "/grpc.health.v1.rs"));
    }
    /// Package `databroker`.
    pub mod databroker {
        include!(concat!(env!("OUT_DIR"), "/databroker.rs"));
    }
}
