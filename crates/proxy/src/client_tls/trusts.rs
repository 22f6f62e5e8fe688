//! What a configuration says about client certificates, compiled.

use std::collections::HashMap;
use std::sync::Arc;

use pomerium_certs::client::{Anchors, ClientTrust, NameKind, RevocationLists, Rules, TrustError, Verdict};
use pomerium_config::settings::{DownstreamMtls, Enforcement, RouteSettings, SanKind, Settings};
use pomerium_policy::{CertificateTrust, ClientCertificate};

use super::{ClientTls, Demands};

/// The authorities of all routes.
#[derive(Debug)]
pub(crate) struct ClientTrusts {
    global: Option<Arc<ClientTrust>>,
    /// Those of routes with an authority of their own, by its PEM.
    own: HashMap<Box<[u8]>, Arc<ClientTrust>, foldhash::fast::RandomState>,
    demands: Arc<Demands>,
}

impl ClientTrusts {
    /// Compiles them; `None` when no authority is configured anywhere. `previous` lends what has not changed, with
    /// the verdicts it remembers.
    ///
    /// Errors name the key: half a trust is none.
    pub(crate) fn build(settings: &Settings, previous: Option<&Self>) -> Result<Option<Self>, TrustError> {
        let mtls = settings.downstream_mtls.as_ref();
        let mut global = None;
        if let Some(pem) = mtls.and_then(|mtls| mtls.ca.as_deref()) {
            global = Some(Anchors::read("downstream_mtls.ca", pem)?);
        }
        let mut own = HashMap::<Box<[u8]>, Anchors, foldhash::fast::RandomState>::default();
        for route in &settings.routes {
            if let Some(pem) = route.downstream_ca.as_deref()
                && !own.contains_key(pem)
            {
                let origin = format!("route {}: tls_downstream_client_ca", route.from);
                own.insert(pem.into(), Anchors::read(&origin, pem)?);
            }
        }
        let every = global
            .iter()
            .chain(own.values())
            .cloned()
            .reduce(|all, anchors| all.union(&anchors));
        let Some(every) = every else {
            if mtls.is_some() {
                tracing::warn!(
                    "downstream_mtls: no authority is configured, so no client is asked for a certificate; set `ca` or `ca_file`"
                );
            }
            return Ok(None);
        };
        if settings.listener.insecure {
            tracing::warn!(
                "downstream_mtls: with insecure_server no client certificate can arrive, and every route that demands one refuses everybody"
            );
        }
        let rules = rules(mtls, &every)?;
        let build = |anchors: Anchors| match previous {
            Some(previous) => previous.lend(ClientTrust::new(anchors, Arc::clone(&rules))),
            None => Arc::new(ClientTrust::new(anchors, Arc::clone(&rules))),
        };
        let global = global.map(&build);
        let own: HashMap<_, _, _> = own
            .into_iter()
            .map(|(pem, anchors)| (pem, build(anchors)))
            .collect();
        let previous = previous.map(|previous| &*previous.demands);
        let demands = Demands::build(settings, (global.as_ref(), &own), (every, rules), previous);
        Ok(Some(Self {
            global,
            own,
            demands: Arc::new(demands),
        }))
    }

    /// A trust of ours that is the same.
    fn lend(&self, wanted: ClientTrust) -> Arc<ClientTrust> {
        let known = self.global.iter().chain(self.own.values());
        known
            .into_iter()
            .find(|trust| trust.id() == wanted.id())
            .cloned()
            .unwrap_or_else(|| Arc::new(wanted))
    }

    /// Which host asks for what.
    pub(crate) fn demands(&self) -> &Arc<Demands> {
        &self.demands
    }

    /// The authorities of a route: its own, which stand in the place of the global ones, or those.
    fn of(&self, route: &RouteSettings) -> Option<&Arc<ClientTrust>> {
        match &route.downstream_ca {
            // One that is not known is not trusted; it was compiled with the routes of this snapshot.
            Some(pem) => self.own.get(pem.as_slice()),
            None => self.global.as_ref(),
        }
    }

    /// How the certificate of a connection stands for `route` at `now` (unix seconds).
    pub(crate) fn judge<'a>(
        &self,
        client: Option<&'a ClientTls>,
        route: &RouteSettings,
        now: i64,
    ) -> ClientCertificate<'a> {
        let chain = client.and_then(|client| client.chain.as_ref());
        let trust = match (self.of(route), chain) {
            (None, _) if route.downstream_ca.is_none() => CertificateTrust::NoAuthority,
            (Some(trust), Some(chain)) if trust.verify(chain, now) == Verdict::Valid => {
                CertificateTrust::Verified
            }
            _ => CertificateTrust::Rejected,
        };
        ClientCertificate {
            presented: chain.is_some(),
            leaf: client.and_then(|client| client.facts.as_ref()),
            trust,
        }
    }

    /// Why the certificate does not count for `route`, for the log.
    pub(crate) fn flaw(
        &self,
        client: Option<&ClientTls>,
        route: &RouteSettings,
        now: i64,
    ) -> Option<pomerium_certs::client::Flaw> {
        match self.of(route)?.verify(client?.chain.as_ref()?, now) {
            Verdict::Valid => None,
            Verdict::Invalid(flaw) => Some(flaw),
        }
    }

    /// Whether a request for `host` has to come over another connection: this one was not asked for what that host
    /// asks for, or (where the handshake judges) has not shown it.
    pub(crate) fn misdirected(&self, client: Option<&ClientTls>, host: &str, now: i64) -> bool {
        let Some(wanted) = self.demands.wanted(host) else {
            return false;
        };
        let Some(client) = client else { return true };
        if !Arc::ptr_eq(&client.demand, wanted) && !client.demand.covers(wanted) {
            return true;
        }
        self.rejects(Some(client), host, now)
    }

    /// The same over HTTP/3, where a client that shows nothing is sent back as well: browsers show certificates over TCP
    /// only, and what is not shown there may still be shown here.
    pub(crate) fn misdirected_over_quic(&self, client: Option<&ClientTls>, host: &str, now: i64) -> bool {
        let shown = client.is_some_and(|client| client.chain.is_some());
        (!shown && self.asks(host)) || self.misdirected(client, host, now)
    }

    /// Whether `host` asks for a certificate.
    pub(crate) fn asks(&self, host: &str) -> bool {
        self.demands.wanted(host).is_some()
    }

    /// Whether a handshake for `host` would fail now with what this connection has shown.
    pub(crate) fn rejects(&self, client: Option<&ClientTls>, host: &str, now: i64) -> bool {
        let Some(wanted) = self.demands.wanted(host).filter(|wanted| wanted.is_strict()) else {
            return false;
        };
        let chain = client.and_then(|client| client.chain.as_ref());
        !chain.is_some_and(|chain| wanted.trust().verify(chain, now) == Verdict::Valid)
    }
}

/// What holds for every authority.
fn rules(mtls: Option<&DownstreamMtls>, every: &Anchors) -> Result<Arc<Rules>, TrustError> {
    let lists = match mtls.and_then(|mtls| mtls.crl.as_deref()) {
        Some(pem) => RevocationLists::read(pem)?,
        None => RevocationLists::default(),
    };
    for issuer in lists.check(every)? {
        tracing::warn!(
            issuer,
            "downstream_mtls.crl: a revocation list of an authority that is not in downstream_mtls.ca; it counts only for an intermediate of that name that clients send along"
        );
    }
    let names: Vec<_> = mtls
        .iter()
        .flat_map(|mtls| &mtls.san)
        .map(|san| (kind(san.kind), san.pattern.clone()))
        .collect();
    let depth = mtls.map_or(1, |mtls| mtls.max_verify_depth);
    let dates = mtls.is_some_and(|mtls| mtls.enforcement == Enforcement::RejectConnection);
    Ok(Arc::new(Rules::new(lists, &names, depth, dates)?))
}

fn kind(kind: SanKind) -> NameKind {
    match kind {
        SanKind::Dns => NameKind::Dns,
        SanKind::Email => NameKind::Email,
        SanKind::IpAddress => NameKind::IpAddress,
        SanKind::Uri => NameKind::Uri,
        SanKind::UserPrincipalName => NameKind::UserPrincipalName,
    }
}
