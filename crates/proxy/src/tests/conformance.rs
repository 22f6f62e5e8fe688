//! The routing cases, against this room with a control plane of straw. The whole program runs them again
//! with the real one.

use std::net::SocketAddr;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use pomerium_certs::{CertStore, catch_all};
use pomerium_config::Loader;

use super::support::*;
use crate::conformance::{Launch, Launcher, Running, redirect_upstreams, run};

struct Straw;

impl Running for Proxy {
    fn address(&self) -> SocketAddr {
        self.addr
    }
    fn flush_log(&self) {
        self.shared.log.flush();
    }
}

impl Launcher for Straw {
    fn launch(&self, launch: Launch) -> BoxFuture<'_, Result<Box<dyn Running>, String>> {
        async move {
            let folder = tempfile::tempdir().unwrap();
            let mut config = launch.config;
            if launch.static_certificate {
                let pair = rcgen::generate_simple_self_signed(["a.example.com".to_owned()]).unwrap();
                let (chain, key) = (folder.path().join("c.pem"), folder.path().join("k.pem"));
                std::fs::write(&chain, pair.cert.pem()).unwrap();
                std::fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
                config["certificate_file"] = chain.to_str().unwrap().into();
                config["certificate_key_file"] = key.to_str().unwrap().into();
            }
            let file = folder.path().join("config.json");
            std::fs::write(&file, config.to_string()).unwrap();
            let loaded = Loader::new(Some(&file), &Default::default()).dry_run().load();
            let loaded = loaded.map_err(|errors| format!("{:?}", errors.errors))?;
            if let Some(refusal) = loaded.refusals.first() {
                return Err(format!("refused: {refusal:?}"));
            }
            let mut settings = loaded.settings;
            redirect_upstreams(&mut settings, &launch.upstreams);
            let certificates = CertStore::new(vec![catch_all(&KEY).unwrap()]);
            let log = (LogLines::default(), Box::new(launch.log) as Box<_>);
            let proxy = Proxy::launch(&settings, Vec::new(), certificates, log, Some(launch.client_ip)).await;
            Ok(Box::new(proxy) as Box<dyn Running>)
        }
        .boxed()
    }
}

/// Cases that need the real control plane, a page of another room, or what is not built yet.
const ELSEWHERE: &[&str] = &[
    // Routes from the databroker.
    "databroker-longer-prefix-first",
    "databroker-path-before-prefix",
    "databroker-regex-priority",
    // The control plane.
    "internal-ping",
    "internal-healthz-unknown-host",
    "internal-healthz-post",
    "internal-well-known",
    // Pages.
    "error-404-star",
    // Tunnels.
    "tcp-connect",
    "tcp-connect-other-port",
    "tcp-get-on-tcp-host",
    "tcp-bastion",
    "tcp-bastion-proxy-host-not-routable",
    "udp-h1",
    "unauthenticated-connect",
];

#[tokio::test]
async fn routing_cases_hold() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/cases/routing.json");
    let file = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let report = run(&file, &Straw).await.unwrap();
    let unexpected: Vec<_> = report
        .failed
        .iter()
        .filter(|(name, _)| !ELSEWHERE.contains(&name.as_str()))
        .collect();
    assert!(
        unexpected.is_empty(),
        "{} passed; {unexpected:#?}; unsure: {:#?}",
        report.passed.len(),
        report.unsure_failed
    );
    let stale: Vec<_> = ELSEWHERE
        .iter()
        .filter(|name| report.passed.iter().any(|passed| passed == *name))
        .collect();
    assert!(stale.is_empty(), "these hold by now: {stale:?}");
}
