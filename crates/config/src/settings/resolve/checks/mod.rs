//! Load checks of options whose effect is not built: they must be right in form all the same, so that a file
//! that loads in the original loads here, and one that does not is refused with the same words.

use super::{Cx, address};
use crate::spec::go_url;
use crate::spec::values::Values;

mod bearer;
mod mcp;
mod ssh;

pub(super) fn run(values: &Values, cx: &mut Cx<'_>) {
    policy_file(values, cx);
    debug_address(values, cx);
    databroker(values, cx);
    ssh::check(values, cx);
    bearer::check(values, cx);
    mcp::check(values, cx);
    for route in values.objects("policy").iter().chain(values.objects("routes")) {
        cx.of_new_route(route, |cx| {
            kubernetes(route, cx);
            mcp::check_route(route, cx);
            bearer::check_route(values, route, cx);
        });
    }
}

fn policy_file(values: &Values, cx: &mut Cx<'_>) {
    if values.some_text("policy_file").is_some() {
        let message = "config: policy file setting is deprecated";
        cx.sink.error(
            values.place("policy_file"),
            "policy_file",
            message,
            "write the routes under `routes`",
        );
    }
}

fn debug_address(values: &Values, cx: &mut Cx<'_>) {
    if values.is_set("debug_address") {
        address::checked(values, "debug_address", "config: invalid debug_address:", cx);
    }
}

fn kubernetes(route: &Values, cx: &mut Cx<'_>) {
    let name = "kubernetes_service_account_token";
    let file = "kubernetes_service_account_token_file";
    if route.some_text(name).is_some() && route.some_text(file).is_some() {
        let message = format!("config: specified both `{name}` and `{file}`");
        cx.sink
            .error(route.place(file), route.key(file), message, "keep one of them");
    }
}

fn databroker(values: &Values, cx: &mut Cx<'_>) {
    let urls = values
        .texts("databroker_service_urls")
        .iter()
        .map(|url| ("databroker_service_urls", url.as_str()));
    let single = values
        .some_text("databroker_service_url")
        .map(|url| ("databroker_service_url", url));
    let internal = values
        .some_text("databroker_internal_service_url")
        .map(|url| ("databroker_internal_service_url", url));
    for (name, url) in single.into_iter().chain(urls).chain(internal) {
        if let Err(error) = go_url::require(url) {
            let label = if name.contains("internal") {
                "databroker internal service"
            } else {
                "databroker service"
            };
            let message = format!("config: bad {label} url {url}: {error}");
            cx.sink
                .error(values.place(name), name, message, "write scheme and host");
        }
    }
    cluster(values, cx);
}

fn cluster(values: &Values, cx: &mut Cx<'_>) {
    let nodes = values.objects("databroker_cluster_nodes");
    for node in nodes {
        if let Err(error) = go_url::require(node.text("grpc_address")) {
            let message = format!("config: invalid databroker cluster node grpc address: {error}");
            cx.sink.error(
                node.place("grpc_address"),
                node.key("grpc_address"),
                message,
                "write scheme and host",
            );
        }
        if let Some(raft) = node.some_text("raft_address")
            && let Err(error) = address::check(raft)
        {
            let message = format!(
                "config: invalid databroker cluster node raft address: {}",
                error.text
            );
            cx.sink.error_at(
                error.stage,
                node.place("raft_address"),
                node.key("raft_address"),
                message,
                "write host:port",
            );
        }
    }
    let known = |id: &str| nodes.iter().any(|node| node.text("id") == id);
    for (name, complaint) in [
        (
            "databroker_cluster_node_id",
            "config: invalid databroker cluster node id: node not found in cluster nodes",
        ),
        (
            "databroker_cluster_leader_id",
            "config: invalid databroker cluster leader id: leader not found in cluster nodes",
        ),
    ] {
        if values.is_set(name) && !known(values.text(name)) {
            cx.sink.error(
                values.place(name),
                name,
                complaint,
                "name one of databroker_cluster_nodes",
            );
        }
    }
}
