//! How names of upstreams are looked up, and from where upstreams are dialled (spec config.md 8.12, 8.16).

use std::net::{IpAddr, SocketAddr};

use super::Cx;
use crate::diagnostic::Stage;
use crate::settings::{DnsFamily, DnsServer, DnsSettings, UpstreamBind};
use crate::spec::go_url::GoUrl;
use crate::spec::values::Values;

const FAMILIES: [(&str, DnsFamily); 5] = [
    ("AUTO", DnsFamily::Auto),
    ("V4_ONLY", DnsFamily::V4Only),
    ("V6_ONLY", DnsFamily::V6Only),
    ("V4_PREFERRED", DnsFamily::V4Preferred),
    ("ALL", DnsFamily::All),
];

pub(super) fn resolve(values: &Values, cx: &mut Cx<'_>) -> DnsSettings {
    let defaults = DnsSettings::default();
    let number = |name| values.int(name).and_then(|number| u32::try_from(number).ok());
    DnsSettings {
        family: family(values, cx),
        refresh_rate: refresh(values, "dns_refresh_rate", cx).unwrap_or(defaults.refresh_rate),
        failure_refresh_rate: refresh(values, "dns_failure_refresh_rate", cx),
        query_timeout: query_timeout(values, cx),
        query_tries: number("dns_query_tries").filter(|tries| *tries != 0),
        udp_max_queries: number("dns_udp_max_queries").unwrap_or(defaults.udp_max_queries),
        use_tcp: values.on("dns_use_tcp"),
        servers: servers(values, cx),
    }
}

fn family(values: &Values, cx: &mut Cx<'_>) -> DnsFamily {
    let name = "dns_lookup_family";
    let Some(given) = values.some_text(name) else {
        return DnsFamily::default();
    };
    if let Some((_, family)) = FAMILIES.iter().find(|(known, _)| *known == given) {
        return *family;
    }
    let known = FAMILIES.map(|(name, _)| name).join(", ");
    let message = format!("config: unknown dns_lookup_family: known families are: {known}: {given}");
    cx.sink
        .error(values.place(name), name, message, "write it in upper case");
    DnsFamily::default()
}

fn refresh(values: &Values, name: &str, cx: &mut Cx<'_>) -> Option<std::time::Duration> {
    if values.nanoseconds(name)? < 1_000_000 {
        let message = format!("config: {name} must be at least 1ms");
        cx.sink
            .error(values.place(name), name, message, "write for instance 5s");
    }
    values.duration(name)
}

/// Zero is the resolver's own.
fn query_timeout(values: &Values, cx: &mut Cx<'_>) -> Option<std::time::Duration> {
    let name = "dns_query_timeout";
    if values.nanoseconds(name)? < 0 {
        let message = "config: dns_query_timeout must be positive";
        cx.sink
            .error(values.place(name), name, message, "write for instance 5s");
    }
    values.duration(name).filter(|timeout| !timeout.is_zero())
}

/// Told at the stage where upstreams are built, as in the original.
fn servers(values: &Values, cx: &mut Cx<'_>) -> Vec<DnsServer> {
    let name = "dns_resolvers";
    let mut servers = Vec::new();
    for text in values.texts(name) {
        match server(text.trim()) {
            Ok(server) => servers.push(server),
            Err(problem) => {
                let message = format!("\"{text}\": {problem}");
                let help = "write udp://192.0.2.53:53 or tcp://[2001:db8::53]:53";
                cx.sink
                    .error_at(Stage::DataPlane, values.place(name), name, message, help);
            }
        }
    }
    servers
}

fn server(text: &str) -> Result<DnsServer, String> {
    let url = GoUrl::parse(text)?;
    let tcp = match url.scheme.as_str() {
        "udp" => false,
        "tcp" => true,
        other => return Err(format!("unsupported url scheme \"{other}\"")),
    };
    let address: IpAddr = url
        .hostname()
        .parse()
        .map_err(|_| "a name server must include an IP address".to_owned())?;
    let port = match url.port() {
        "" => 53,
        port => port
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| format!("\"{port}\" is no port"))?,
    };
    if !matches!(url.path.as_str(), "" | "/") {
        return Err("a name server has no path".into());
    }
    Ok(DnsServer {
        address: SocketAddr::new(address, port),
        tcp,
    })
}

/// The local end of upstream connections.
pub(super) fn bind(values: &Values, cx: &mut Cx<'_>) -> UpstreamBind {
    let name = "envoy_bind_config_source_address";
    let source = values.some_text(name).and_then(|text| {
        let parsed = text.trim().parse().ok();
        if parsed.is_none() {
            let message = format!("\"{text}\" is no IP address");
            let help = "write an address of this machine, without a port";
            cx.sink
                .error_at(Stage::DataPlane, values.place(name), name, message, help);
        }
        parsed
    });
    UpstreamBind {
        source,
        freebind: values.on("envoy_bind_config_freebind"),
    }
}
