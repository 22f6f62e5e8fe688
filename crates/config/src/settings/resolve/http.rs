//! Listeners, timeouts, and how requests are read.

use ipnet::IpNet;

use super::{Cx, address};
use crate::settings::{
    Codec, EscapedSlashAction, HttpSettings, ListenerSettings, Timeouts, UnderscoreAction,
};
use crate::spec::values::Values;

pub(super) fn listener(values: &Values, cx: &mut Cx<'_>) -> ListenerSettings {
    let insecure = values.on("insecure_server");
    let redirect = values
        .text("http_redirect_addr")
        .trim_matches(['"', '\''])
        .to_owned();
    if !redirect.is_empty() && address::check(&redirect).is_err() {
        let message = format!("\"{redirect}\" is no address");
        cx.sink.warn(
            values.place("http_redirect_addr"),
            "http_redirect_addr",
            message,
            "write host:port, such as `:80`",
        );
    }
    ListenerSettings {
        address: address::with_port(values.text("address"), if insecure { 80 } else { 443 }),
        insecure,
        codec: codec(values),
        proxy_protocol: values.on("use_proxy_protocol"),
        redirect_address: Some(redirect).filter(|address| !address.is_empty()),
        http3_port: values
            .int("http3_advertise_port")
            .and_then(|port| u16::try_from(port).ok()),
    }
}

pub(crate) fn codec(values: &Values) -> Codec {
    match values.choice("codec_type") {
        Some("http1") => Codec::Http1,
        Some("http2") => Codec::Http2,
        Some("http3") => Codec::Http3,
        _ => Codec::Auto,
    }
}

pub(super) fn timeouts(values: &Values, cx: &mut Cx<'_>) -> Timeouts {
    for name in [
        "timeout_read",
        "timeout_write",
        "timeout_idle",
        "default_upstream_timeout",
    ] {
        not_negative(values, name, cx);
    }
    let off_when_zero = |name| values.duration(name).filter(|duration| !duration.is_zero());
    Timeouts {
        read: off_when_zero("timeout_read"),
        write: off_when_zero("timeout_write"),
        idle: off_when_zero("timeout_idle"),
    }
}

/// Zero switches a limit off; less than that is a mistake.
pub(super) fn not_negative(values: &Values, name: &str, cx: &mut Cx<'_>) {
    if values.nanoseconds(name).is_some_and(|nanos| nanos < 0) {
        let help = "write a duration such as 30s; 0s is off";
        cx.sink
            .error(values.place(name), values.key(name), "must not be negative", help);
    }
}

pub(super) fn settings(values: &Values, cx: &mut Cx<'_>) -> HttpSettings {
    HttpSettings {
        underscores: match values.choice("headers_with_underscores_action") {
            Some("allow") => UnderscoreAction::Allow,
            Some("drop_header") => UnderscoreAction::Drop,
            _ => UnderscoreAction::Reject,
        },
        merge_slashes: values.on("merge_slashes"),
        normalize_path: values.on("normalize_path"),
        escaped_slashes: match values.choice("path_with_escaped_slashes_action") {
            Some("keep_unchanged") => EscapedSlashAction::Keep,
            Some("unescape_and_redirect") => EscapedSlashAction::UnescapeAndRedirect,
            Some("unescape_and_forward") => EscapedSlashAction::UnescapeAndForward,
            _ => EscapedSlashAction::Reject,
        },
        skip_xff_append: values.on("skip_xff_append"),
        xff_trusted_hops: values
            .int("xff_num_trusted_hops")
            .and_then(|n| u32::try_from(n).ok())
            .unwrap_or(0),
        trusted_proxies: trusted_proxies(values, cx),
    }
}

fn trusted_proxies(values: &Values, cx: &mut Cx<'_>) -> Vec<IpNet> {
    networks(values, "trusted_proxies", cx)
}

/// A list of networks; what is none is reported.
pub(super) fn networks(values: &Values, name: &'static str, cx: &mut Cx<'_>) -> Vec<IpNet> {
    let mut networks = Vec::new();
    for text in values.texts(name) {
        let text = text.trim();
        match text
            .parse::<IpNet>()
            .or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from))
        {
            Ok(network) => networks.push(network),
            Err(_) => {
                let message = format!("\"{text}\" is no network");
                let help = "write an address or a network such as 10.0.0.0/8";
                cx.sink.error(values.place(name), values.key(name), message, help);
            }
        }
    }
    networks
}
