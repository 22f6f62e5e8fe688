//! The listener for other services, and where they are (spec config.md 6).

use std::time::Duration;

use rustls_pki_types::ServerName;

use super::identity::origin;
use super::{Cx, address};
use crate::diagnostic::{Place, Stage};
use crate::settings::{ClusterSettings, GrpcListener, InternalSettings, Origin, RemoteDatabroker, Services};
use crate::spec::values::Values;
use crate::spec::{go_url, services as modes};

const ADDRESS: &str = "grpc_address";
const INSECURE: &str = "grpc_insecure";

pub(super) fn resolve(values: &Values, services: Services, cx: &mut Cx<'_>) -> InternalSettings {
    // Checked in every mode: a file that is shared by all processes has the same errors everywhere.
    let endpoints = databrokers(values, cx);
    let listener = listener(values, services, cx);
    InternalSettings {
        cluster: services
            .databroker
            .then(|| cluster(values, listener.is_some(), cx))
            .flatten(),
        listener,
        databroker: (!services.databroker).then(|| remote(values, services, endpoints, cx)),
        outage_limit: values
            .duration("databroker_outage_limit")
            .unwrap_or(Duration::from_secs(300)),
        certificate_name: services.databroker.then(|| certificate_name(values)).flatten(),
        mutual_tls: values.on("grpc_mutual_tls"),
    }
}

/// One process that runs everything listens only where it is told to: nobody else needs it.
fn listener(values: &Values, services: Services, cx: &mut Cx<'_>) -> Option<GrpcListener> {
    let written = values.text(ADDRESS);
    let wanted = modes::grpc_listener(services) && !written.is_empty();
    if !wanted || (services.all_in_one() && !values.is_set(ADDRESS)) {
        return None;
    }
    if let Err(problem) = address::check(written) {
        let help = "write host:port; an empty host means every address, for instance `:5443`";
        at_start(values.place(ADDRESS), ADDRESS, problem.text, help, cx);
        return None;
    }
    let listener = GrpcListener {
        address: modes::grpc_address(values, services),
        insecure: modes::grpc_insecure(values, services),
    };
    if listener.insecure && !told(values) && !address::is_loopback(&listener.address) {
        let message = format!(
            "records and tokens would cross the network in the clear: {} is open to others and without TLS",
            listener.address
        );
        if services.all_in_one() {
            let help = "set `grpc_insecure: false` to use the server certificates, or listen on 127.0.0.1";
            cx.sink.warn(values.place(ADDRESS), ADDRESS, message, help);
        } else {
            let help = "set `grpc_insecure: false` to use the server certificates (or those of `tls_derive`), listen on \
                        127.0.0.1, or set `grpc_insecure: true` where something else encrypts the way";
            at_start(values.place(ADDRESS), ADDRESS, message, help, cx);
        }
    }
    Some(listener)
}

/// The original loads what is wrong here. It must not start: what services say to each other would be open to others,
/// or would never arrive.
fn at_start(place: Place, key: &str, message: impl Into<String>, help: &str, cx: &mut Cx<'_>) {
    cx.sink.error_at(Stage::ServiceStart, place, key, message, help);
}

/// Plain text was asked for, in so many words.
fn told(values: &Values) -> bool {
    values.bool(INSECURE) == Some(true)
}

/// The first of the nodes leads, unless another one is named. What is wrong with the nodes themselves is said elsewhere.
fn cluster(values: &Values, listens: bool, cx: &mut Cx<'_>) -> Option<ClusterSettings> {
    let nodes = values.objects("databroker_cluster_nodes");
    let id = values.some_text("databroker_cluster_node_id")?;
    let leader_id = values
        .some_text("databroker_cluster_leader_id")
        .or_else(|| nodes.first().map(|node| node.text("id")))?;
    let name = "databroker_cluster_nodes";
    if values.text("databroker_storage_type") == "postgres" {
        let message = "nodes of a cluster each have a store of their own; databrokers that share a PostgreSQL database need \
                       no cluster, all of them are active";
        let help = "remove the `databroker_cluster_` keys";
        at_start(values.place(name), name, message, help, cx);
        return None;
    }
    let leader = nodes.iter().find(|node| node.text("id") == leader_id)?;
    let url = go_url::require(leader.text("grpc_address")).ok()?;
    let address = origin(&url);
    let leads = leader_id == id;
    if leads && !listens {
        let message = "this node leads, and the others cannot reach it";
        let help = "set `grpc_address`, for instance to `:5443`";
        at_start(values.place(ADDRESS), ADDRESS, message, help, cx);
    }
    let mut others = Vec::new();
    for node in nodes.iter().filter(|node| node.text("id") != id) {
        let Ok(url) = go_url::require(node.text("grpc_address")) else {
            continue;
        };
        let other = origin(&url);
        let exposed = other.scheme == "http" && !address::is_loopback(&other.authority());
        if exposed && !told(values) {
            let message = format!(
                "records and tokens would cross the network in the clear to {}",
                other.url()
            );
            let help = "use https, or set `grpc_insecure: true` where something else encrypts the way";
            let (place, key) = (node.place("grpc_address"), node.key("grpc_address"));
            at_start(place, &key, message, help, cx);
        }
        others.push(other);
    }
    Some(ClusterSettings {
        id: id.to_owned(),
        leader: (!leads).then_some(address),
        others,
        server_name: certificate_name(values),
    })
}

/// The name that databrokers have certificates for, where it is not the host of their address.
fn certificate_name(values: &Values) -> Option<String> {
    values
        .some_text("override_certificate_name")
        .or_else(|| values.some_text("tls_derive"))
        .map(str::to_lowercase)
}

/// `tls_derive`: one name that a certificate can be for.
pub(super) fn tls_derive(values: &Values, cx: &mut Cx<'_>) -> Option<String> {
    let name = "tls_derive";
    let domain = values.some_text(name)?.to_lowercase();
    let concrete = domain.strip_prefix("*.").unwrap_or(&domain);
    if ServerName::try_from(concrete).is_err() {
        let message = format!("no certificate can be made for {domain:?}");
        let help = "write one domain, for instance databroker.internal.example.com";
        cx.sink.error(values.place(name), name, message, help);
        return None;
    }
    Some(domain)
}

fn databrokers(values: &Values, cx: &mut Cx<'_>) -> Vec<Origin> {
    let mut found = Vec::new();
    for text in modes::service_urls(values, "databroker_service") {
        match go_url::require(&text) {
            Ok(url) if matches!(url.scheme.as_str(), "http" | "https") => found.push(origin(&url)),
            Ok(url) => bad(
                values,
                &format!("the scheme {} is neither http nor https", url.scheme),
                cx,
            ),
            Err(message) => bad(values, &message, cx),
        }
    }
    found
}

fn bad(values: &Values, message: &str, cx: &mut Cx<'_>) {
    let name = given(values);
    let help = "write scheme, host and port, for instance https://databroker.example.com:5443";
    cx.sink.error(
        values.place(name),
        name,
        format!("config: bad databroker-url: {message}"),
        help,
    );
}

/// The key that a databroker's address was written under.
fn given(values: &Values) -> &'static str {
    if values.some_text("databroker_service_url").is_some() {
        "databroker_service_url"
    } else {
        "databroker_service_urls"
    }
}

fn remote(values: &Values, services: Services, endpoints: Vec<Origin>, cx: &mut Cx<'_>) -> RemoteDatabroker {
    for endpoint in &endpoints {
        let exposed = endpoint.scheme == "http" && !address::is_loopback(&endpoint.authority());
        if exposed && !told(values) {
            let message = format!(
                "records and tokens would cross the network in the clear to {}",
                endpoint.url()
            );
            let help = "use https, or set `grpc_insecure: true` where something else encrypts the way";
            let name = given(values);
            at_start(values.place(name), name, message, help, cx);
        }
    }
    if (services.serve_people() || services.authorize) && values.is_set("databroker_storage_type") {
        let name = "databroker_storage_type";
        let message = "has no effect: this process keeps no records";
        cx.sink.warn(
            values.place(name),
            name,
            message,
            "the databroker's own configuration counts",
        );
    }
    RemoteDatabroker {
        endpoints,
        server_name: values
            .some_text("override_certificate_name")
            .map(str::to_lowercase),
    }
}
