//! What the original takes at load and could not run with, or would run with less than was asked for: every load refuses
//! it here as well, under the stage at which it counts.

use pomerium_config::Stage;
use pomerium_config::Stage::{DataPlane, ServiceStart};

use crate::Site;

const KEYS: &str = "shared_secret: AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n\
                    cookie_secret: AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n\
                    authenticate_service_url: https://authenticate.example.com\nidp_provider: local\n";

const NODES: &str = "databroker_cluster_node_id: a\ndatabroker_cluster_nodes:\n\
                     - {id: a, grpc_address: 'https://a.example.com:5443'}\n\
                     - {id: b, grpc_address: 'http://b.example.com:5443'}\n";

fn route(option: &str) -> String {
    format!("routes:\n- from: https://a.example.com\n  to: https://10.1.1.1\n  {option}\n")
}

/// No settings come of it, and this key is why, at this stage.
fn assert_late(config: &str, key: &str, stage: Stage) {
    let found = Site::new().load(&format!("{KEYS}{config}"));
    assert!(found.settings.is_none(), "{config}");
    let stages: Vec<_> = found
        .errors
        .iter()
        .map(|error| (&*error.key, error.stage))
        .collect();
    assert!(stages.contains(&(key, stage)), "{config}: {stages:?}");
    assert!(
        stages.iter().all(|(_, stage)| *stage != Stage::Load),
        "{config}: {stages:?}"
    );
}

#[test]
fn what_services_say_to_each_other_is_never_open_by_mistake() {
    for (config, key) in [
        ("services: authenticate,authorize,proxy\n", "grpc_address"),
        ("services: authenticate,databroker\n", "grpc_address"),
        (
            "services: proxy\ndatabroker_service_url: http://db.example.com:5443\n",
            "databroker_service_url",
        ),
        (
            "services: proxy\ndatabroker_service_urls: [http://db.example.com:5443]\n",
            "databroker_service_urls",
        ),
        ("grpc_address: nonsense\n", "grpc_address"),
        ("grpc_address: 127.0.0.1:99999\n", "grpc_address"),
    ] {
        assert_late(config, key, ServiceStart);
    }
}

#[test]
fn databrokers_of_a_cluster_must_reach_each_other_in_secret() {
    assert_late(NODES, "grpc_address", ServiceStart);
    assert_late(NODES, "databroker_cluster_nodes[1].grpc_address", ServiceStart);
    let postgres =
        "databroker_storage_type: postgres\ndatabroker_storage_connection_string: postgres://db/x\n";
    let config = format!("{NODES}{postgres}");
    assert_late(&config, "databroker_cluster_nodes", ServiceStart);
}

#[test]
fn listeners_and_stores_that_cannot_be() {
    for (config, key) in [
        ("metrics_address: ':99999'\n", "metrics_address"),
        ("health_check_addr: ':99999'\n", "health_check_addr"),
        ("debug_address: ':99999'\n", "debug_address"),
        ("metrics_certificate: bm90IGEgY2VydA==\n", "metrics_certificate"),
        (
            "metrics_certificate_key_file: /no/key\n",
            "metrics_certificate_key_file",
        ),
        ("metrics_client_ca: '!'\n", "metrics_client_ca"),
        ("metrics_client_ca_file: /no/ca\n", "metrics_client_ca_file"),
        (
            "databroker_storage_type: postgres\ndatabroker_storage_connection_string_file: /no/file\n",
            "databroker_storage_connection_string_file",
        ),
    ] {
        assert_late(config, key, ServiceStart);
    }
}

#[test]
fn an_authority_that_is_none_never_counts_as_none_wanted() {
    assert_late("downstream_mtls: {ca: QUFB}\n", "downstream_mtls.ca", DataPlane);
    for name in ["tls_custom_ca", "tls_downstream_client_ca"] {
        let key = format!("routes[0].{name}");
        assert_late(&route(&format!("{name}: QUFB")), &key, DataPlane);
    }
}

#[test]
fn what_cannot_be_decoded_does_not_load() {
    for option in ["tls_custom_ca: '!'", "tls_downstream_client_ca_file: /no/ca"] {
        let found = Site::new().load(&format!("{KEYS}{}", route(option)));
        let error = found.errors.first().unwrap();
        assert_eq!(error.stage, Stage::Load, "{error}");
    }
}

#[test]
fn the_authority_of_a_route_has_a_successor() {
    let found = Site::new().load(&format!("{KEYS}{}", route("tls_downstream_client_ca: QUFB")));
    let told = |name: &str| {
        let message = format!("config: {name} is deprecated");
        found.warnings.iter().find(|warning| warning.message == message)
    };
    let warning = told("tls_downstream_client_ca").unwrap();
    assert_eq!(warning.key, "routes[0].tls_downstream_client_ca");
    assert!(warning.help.contains("`downstream_mtls`"), "{warning}");
    assert!(told("tls_downstream_client_ca_file").is_none());
}

#[test]
fn what_only_tunes_another_program_is_told_when_it_is_set() {
    for (value, told) in [("/dev/null", false), ("/tmp/admin.log", true)] {
        let found = Site::new().load(&format!("{KEYS}envoy_admin_access_log_path: {value}\n"));
        assert!(found.settings.is_some());
        let is_told = found
            .warnings
            .iter()
            .any(|warning| warning.key == "envoy_admin_access_log_path");
        assert_eq!(is_told, told, "{value}");
    }
}
