//! One destination with everything needed to dial it, and the table that keeps its identity over reloads.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderValue;
use pomerium_config::settings::{Destination, RouteSettings, Secret, UpstreamScheme};
use rustls_pki_types::ServerName;

use super::tls::{self, Roots, TlsError};

/// Which HTTP version is spoken to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, known beforehand.
    Http2,
    /// What ALPN says.
    Negotiated,
}

/// Where the socket goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// A host (name or literal, without brackets) and a port.
    Tcp(Box<str>, u16),
    /// The path of a UNIX socket.
    Unix(Box<str>),
}

/// TLS to an endpoint, ready to use.
#[derive(Debug, Clone)]
pub struct TlsTarget {
    /// What it was made from.
    spec: Arc<TlsSpec>,
    pub(super) config: Arc<rustls::ClientConfig>,
    pub(super) server_name: ServerName<'static>,
}

/// A destination of a cluster. Two routes with equal settings share one endpoint and its connections;
/// the same endpoint lives on over a reload that does not change it.
#[derive(Debug)]
pub struct Endpoint {
    /// Names the endpoint within this process.
    pub id: u64,
    /// Where the socket goes.
    pub target: Target,
    /// `host[:port]` as written: the default Host header. `None` for UNIX sockets.
    pub authority: Option<HeaderValue>,
    /// Which HTTP version is spoken.
    pub protocol: Protocol,
    pub(super) tls: Option<Box<TlsTarget>>,
}

impl Endpoint {
    /// The same, for a connection over which HTTP/1.1 is spoken whatever is usual.
    pub(super) fn in_http1(&self) -> Self {
        Self {
            protocol: Protocol::Http1,
            ..self.with_alpn(&[b"http/1.1"])
        }
    }

    /// The same, for connections that offer these protocols in ALPN; for probes, which speak what their
    /// check says.
    pub(super) fn with_alpn(&self, protocols: &[&[u8]]) -> Self {
        let tls = self.tls.as_ref().map(|tls| {
            let mut config = rustls::ClientConfig::clone(&tls.config);
            config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
            Box::new(TlsTarget {
                spec: tls.spec.clone(),
                config: Arc::new(config),
                server_name: tls.server_name.clone(),
            })
        });
        Self {
            id: self.id,
            target: self.target.clone(),
            authority: self.authority.clone(),
            protocol: self.protocol,
            tls,
        }
    }
}

/// Everything that tells one endpoint from another.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct EndpointSpec {
    target: Target,
    authority: Box<str>,
    protocol: Protocol,
    tls: Option<TlsSpec>,
}

/// Everything that tells one client TLS configuration from another.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct TlsSpec {
    pub(super) skip_verify: bool,
    pub(super) server_name: String,
    /// The destination's host: sent as SNI when `server_name` is a pattern.
    pub(super) sni_fallback: String,
    pub(super) custom_ca: Option<Vec<u8>>,
    pub(super) client_chain: Option<(Vec<u8>, Vec<u8>)>,
    pub(super) http2: bool,
}

impl std::fmt::Debug for TlsSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // It holds a key.
        f.debug_struct("TlsSpec")
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

impl EndpointSpec {
    /// The default Host header.
    fn host_header(&self) -> Option<HeaderValue> {
        match self.target {
            Target::Unix(_) => None,
            Target::Tcp(..) => HeaderValue::from_str(&self.authority).ok(),
        }
    }

    /// Whether an endpoint is what this asks for.
    fn is(&self, endpoint: &Endpoint) -> bool {
        self.target == endpoint.target
            && self.protocol == endpoint.protocol
            && self.tls.as_ref() == endpoint.tls.as_ref().map(|tls| &*tls.spec)
            && self.host_header() == endpoint.authority
    }
}

/// Endpoints by what they are, so that equal ones are one. Kept while a snapshot is built.
#[derive(Default)]
pub(crate) struct Endpoints {
    known: HashMap<EndpointSpec, Arc<Endpoint>>,
    tls: HashMap<TlsSpec, Arc<rustls::ClientConfig>>,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl Endpoints {
    /// The endpoint of a destination: the one already here, else one of `before`, else a new one.
    pub(crate) fn intern(
        &mut self,
        route: &RouteSettings,
        destination: &Destination,
        protocol: Protocol,
        roots: &Roots,
        mut before: impl Iterator<Item = Arc<Endpoint>>,
    ) -> Result<Arc<Endpoint>, TlsError> {
        let spec = spec_of(route, destination, protocol);
        if let Some(found) = self.known.get(&spec) {
            return Ok(found.clone());
        }
        let endpoint = match before.find(|endpoint| spec.is(endpoint)) {
            Some(kept) => kept,
            None => Arc::new(Endpoint {
                id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
                target: spec.target.clone(),
                authority: spec.host_header(),
                protocol,
                tls: spec
                    .tls
                    .as_ref()
                    .map(|tls| self.tls_target(tls, roots).map(Box::new))
                    .transpose()?,
            }),
        };
        self.known.insert(spec, endpoint.clone());
        Ok(endpoint)
    }

    fn tls_target(&mut self, spec: &TlsSpec, roots: &Roots) -> Result<TlsTarget, TlsError> {
        let mut shared = spec.clone();
        if !spec.server_name.contains('*') {
            // The name is given with each handshake; configurations differ by it only for patterns.
            shared.server_name.clear();
        }
        shared.sni_fallback.clear();
        let config = match self.tls.get(&shared) {
            Some(config) => config.clone(),
            None => {
                let config = tls::client_config(&shared, roots)?;
                self.tls.insert(shared, config.clone());
                config
            }
        };
        Ok(TlsTarget {
            spec: Arc::new(spec.clone()),
            config,
            server_name: tls::server_name(&spec.server_name, &spec.sni_fallback)?,
        })
    }
}

fn spec_of(route: &RouteSettings, destination: &Destination, protocol: Protocol) -> EndpointSpec {
    let unix = matches!(
        destination.scheme,
        UpstreamScheme::Unix | UpstreamScheme::HttpsUnix
    );
    let host = destination.host();
    let target = if unix {
        Target::Unix(destination.path.clone())
    } else {
        Target::Tcp(host.into(), destination.port)
    };
    let tls = is_tls(destination.scheme).then(|| {
        let settings = &route.upstream_tls;
        let fallback = if host.is_empty() { "localhost" } else { host };
        TlsSpec {
            skip_verify: settings.skip_verify,
            server_name: settings
                .server_name
                .clone()
                .unwrap_or_else(|| fallback.to_owned()),
            sni_fallback: fallback.to_owned(),
            custom_ca: settings.custom_ca.clone(),
            client_chain: settings
                .client_certificate
                .as_ref()
                .map(|(chain, key)| (chain.clone(), Secret::expose(key).to_vec())),
            http2: protocol != Protocol::Http1,
        }
    });
    EndpointSpec {
        target,
        authority: destination.authority.clone(),
        protocol,
        tls,
    }
}

/// Whether a scheme means TLS.
pub(crate) fn is_tls(scheme: UpstreamScheme) -> bool {
    matches!(scheme, UpstreamScheme::Https | UpstreamScheme::HttpsUnix)
}

/// An endpoint that nobody dials.
#[cfg(test)]
pub(super) fn test_endpoint(host: &str, port: u16) -> Endpoint {
    Endpoint {
        id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
        target: Target::Tcp(host.into(), port),
        authority: None,
        protocol: Protocol::Http1,
        tls: None,
    }
}
