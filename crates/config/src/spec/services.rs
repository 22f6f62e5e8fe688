//! Service modes and what follows from them (spec config.md 6).

use super::values::Values;
use crate::settings::Services;

/// The services of `services`; the error is the original's text.
pub fn parse(text: &str) -> Result<Services, String> {
    let mut services = Services::NONE;
    for item in text.split(',') {
        match item.trim().to_lowercase().as_str() {
            "all" => services = Services::ALL,
            "authenticate" => services.authenticate = true,
            "authorize" => services.authorize = true,
            "databroker" | "cache" => services.databroker = true,
            "proxy" => services.proxy = true,
            _ => return Err(format!("config: {text} is an invalid service type")),
        }
    }
    Ok(services)
}

/// Whether this process listens for people.
pub fn main_listener(services: Services) -> bool {
    services.authenticate || services.proxy
}

/// Whether this process listens for other services.
pub fn grpc_listener(services: Services) -> bool {
    services.authorize || services.databroker
}

/// Where it listens for other services.
pub fn grpc_address(values: &Values, services: Services) -> String {
    let address = values.text("grpc_address");
    if address == ":443" && main_listener(services) {
        return format!(":{}", alternate_port(values));
    }
    address.to_owned()
}

/// Whether that listener is without TLS.
pub fn grpc_insecure(values: &Values, services: Services) -> bool {
    values
        .bool("grpc_insecure")
        .unwrap_or_else(|| main_listener(services))
}

/// URLs of a service: `<name>_url`, then `<name>_urls`, else the local default.
pub fn service_urls(values: &Values, name: &str) -> Vec<String> {
    let single = values.text(&format!("{name}_url")).to_owned();
    let several = values.texts(&format!("{name}_urls"));
    let urls: Vec<String> = std::iter::once(single)
        .chain(several.iter().cloned())
        .filter(|url| !url.is_empty())
        .collect();
    if urls.is_empty() {
        vec![format!("http://127.0.0.1:{}", alternate_port(values))]
    } else {
        urls
    }
}

/// 5443, or 5444 where the main listener has taken that.
fn alternate_port(values: &Values) -> u16 {
    let port = values
        .text("address")
        .rsplit(':')
        .next()
        .unwrap_or_default()
        .to_owned();
    if port == "5443" { 5444 } else { 5443 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        assert!(parse("all").unwrap().all_in_one());
        assert!(
            parse(" Proxy, Authorize ,cache,AUTHENTICATE")
                .unwrap()
                .all_in_one()
        );
        assert!(!parse("proxy").unwrap().all_in_one());
        assert!(
            parse("blue")
                .unwrap_err()
                .contains("blue is an invalid service type")
        );
        assert!(parse("").is_err());
    }
}
