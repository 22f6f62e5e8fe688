//! The TLS settings of a listener: one for each demand, chosen by the name in the handshake.

use std::sync::Arc;

use pomerium_certs::client::Demand;
use pomerium_certs::{Alpn, CertStore, server_config_asking};
use rustls::ServerConfig;

use super::Demands;

/// TLS settings for one set of demands. Each has ticket keys of its own and lives as long as its demand does not
/// change: a session begun under other authorities, rules or lists is never continued.
#[derive(Debug)]
pub struct TlsConfigs {
    alpn: Alpn,
    plain: Arc<ServerConfig>,
    asking: Vec<(Arc<Demand>, Arc<ServerConfig>)>,
    demands: Option<Arc<Demands>>,
}

/// The settings for one handshake.
#[derive(Debug, Clone)]
pub struct Choice {
    /// What goes into the handshake.
    pub config: Arc<ServerConfig>,
    /// What it asks for.
    pub demand: Option<Arc<Demand>>,
}

impl TlsConfigs {
    /// Makes them. `previous` lends what has not changed, with its ticket keys.
    ///
    /// Errors when the cryptographic library cannot set up; not expected.
    pub(crate) fn build(
        store: &Arc<CertStore>,
        alpn: Alpn,
        demands: Option<&Arc<Demands>>,
        previous: Option<&Self>,
    ) -> Result<Self, rustls::Error> {
        let previous = previous.filter(|previous| previous.alpn == alpn);
        let plain = match previous {
            Some(previous) => Arc::clone(&previous.plain),
            None => Arc::new(server_config_asking(Arc::clone(store), alpn, None)?),
        };
        let mut asking: Vec<(Arc<Demand>, Arc<ServerConfig>)> = Vec::new();
        for demand in demands.iter().flat_map(|demands| demands.all()) {
            if asking.iter().any(|(known, _)| known.same(demand)) {
                continue;
            }
            let known = previous.and_then(|previous| previous.find(demand));
            let config = match known {
                Some(known) => Arc::clone(known),
                None => Arc::new(server_config_asking(Arc::clone(store), alpn, Some(demand))?),
            };
            asking.push((Arc::clone(demand), config));
        }
        Ok(Self {
            alpn,
            plain,
            asking,
            demands: demands.cloned(),
        })
    }

    fn find(&self, demand: &Demand) -> Option<&Arc<ServerConfig>> {
        let mut asking = self.asking.iter();
        asking
            .find(|(known, _)| known.same(demand))
            .map(|(_, config)| config)
    }

    /// The settings for a handshake that names `server_name`.
    pub fn choose(&self, server_name: Option<&str>) -> Choice {
        let demand = self
            .demands
            .as_ref()
            .and_then(|demands| demands.asked(server_name));
        self.with(demand)
    }

    /// The settings for a handshake whose name is not known before they are chosen, as with QUIC: it asks for all there
    /// are where every host asks, otherwise for nothing. Hosts that ask more send their requests back.
    pub fn nameless(&self) -> Choice {
        let demands = self.demands.as_ref().filter(|demands| demands.asks_everyone());
        self.with(demands.map(|demands| demands.widest()))
    }

    fn with(&self, demand: Option<&Arc<Demand>>) -> Choice {
        let asking = demand.and_then(|demand| Some((demand, self.find(demand)?)));
        match asking {
            Some((demand, config)) => Choice {
                config: Arc::clone(config),
                demand: Some(Arc::clone(demand)),
            },
            // Whoever was not asked is sent back by every host that asks.
            None => Choice {
                config: Arc::clone(&self.plain),
                demand: None,
            },
        }
    }

    /// The settings when no host asks for a certificate: nothing has to be read before they are chosen.
    pub fn uniform(&self) -> Option<&Arc<ServerConfig>> {
        self.demands.is_none().then_some(&self.plain)
    }
}
