//! Model Context Protocol options: form only.

use super::super::Cx;
use super::super::flags;
use crate::spec::go_url;
use crate::spec::values::Values;

pub(super) fn check(values: &Values, cx: &mut Cx<'_>) {
    if !flags::value(values, "mcp") {
        return;
    }
    for name in ["mcp_allowed_client_id_domains", "mcp_allowed_as_metadata_domains"] {
        for (index, _) in values
            .texts(name)
            .iter()
            .enumerate()
            .filter(|(_, domain)| domain.is_empty())
        {
            let message = format!("config: {name}[{index}] cannot be empty");
            cx.sink
                .error(values.place(name), name, message, "remove the empty item");
        }
    }
}

pub(super) fn check_route(route: &Values, cx: &mut Cx<'_>) {
    let Some(mcp) = route.object("mcp") else { return };
    if mcp.object("server").is_none() && mcp.object("client").is_none() {
        let message = "config: mcp must have either server or client set";
        cx.sink.error(
            route.place("mcp"),
            route.key("mcp"),
            message,
            "write `mcp: {server: {}}`",
        );
    }
    let Some(server) = mcp.object("server") else {
        return;
    };
    let name = "authorization_server_url";
    let Some(text) = server.some_text(name) else {
        return;
    };
    let message = match go_url::require(text) {
        Err(error) => format!("config: invalid mcp authorization_server_url: {error}"),
        Ok(url) if url.scheme != "https" => {
            format!(
                "config: mcp authorization_server_url must be https, got {}",
                url.scheme
            )
        }
        Ok(_) => return,
    };
    cx.sink.error(
        server.place(name),
        server.key(name),
        message,
        "write an https URL",
    );
}
