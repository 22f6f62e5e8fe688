//! The destinations of one route and whose turn it is.

use std::sync::Arc;

use parking_lot::Mutex;
use pomerium_config::settings::{Destination, RouteSettings, UpstreamScheme};
use smallvec::SmallVec;

use super::endpoint::{Endpoint, Endpoints, Protocol, is_tls};
use super::tls::{Roots, TlsError};

/// Destinations in file order with their weights.
#[derive(Debug)]
pub struct Cluster {
    /// `upstream-cluster` of the access log.
    pub name: Box<str>,
    members: Vec<(Arc<Endpoint>, i64)>,
    /// Smooth weighted round robin: the running credit of each member. Only touched when there are several.
    credit: Mutex<Vec<i64>>,
}

impl Cluster {
    pub(crate) fn build(
        route: &RouteSettings,
        destinations: &[Destination],
        endpoints: &mut Endpoints,
        from: (&Roots, Option<&Endpoints>),
    ) -> Result<Self, TlsError> {
        let protocol = protocol_of(route, destinations);
        let members = destinations
            .iter()
            .map(|to| {
                Ok((
                    endpoints.intern(route, to, protocol, from)?,
                    i64::from(to.weight.max(1)),
                ))
            })
            .collect::<Result<Vec<_>, TlsError>>()?;
        let credit = Mutex::new(vec![0; members.len()]);
        Ok(Self {
            name: route.cluster.as_str().into(),
            members,
            credit,
        })
    }

    /// The destinations in the order in which this request tries them: the one whose turn it is, then
    /// the others in file order.
    pub fn order(&self) -> SmallVec<[&Arc<Endpoint>; 2]> {
        if let [(only, _)] = self.members.as_slice() {
            return SmallVec::from_iter([only]);
        }
        let first = self.turn();
        let mut order: SmallVec<[&Arc<Endpoint>; 2]> =
            self.members.get(first).map(|(to, _)| to).into_iter().collect();
        order.extend(
            self.members
                .iter()
                .enumerate()
                .filter(|(at, _)| *at != first)
                .map(|(_, (to, _))| to),
        );
        order
    }

    fn turn(&self) -> usize {
        let mut credit = self.credit.lock();
        let total: i64 = self.members.iter().map(|(_, weight)| weight).sum();
        let mut best = 0;
        for (at, (_, weight)) in self.members.iter().enumerate() {
            credit[at] += weight;
            if credit[at] > credit[best] {
                best = at;
            }
        }
        if let Some(chosen) = credit.get_mut(best) {
            *chosen -= total;
        }
        best
    }
}

/// All TLS: by ALPN. All h2c: HTTP/2. Otherwise, and where upgrades are let through: HTTP/1.1
/// (proxy.md 4.9, 6.1).
fn protocol_of(route: &RouteSettings, destinations: &[Destination]) -> Protocol {
    if !route.upgrades.is_empty() || destinations.is_empty() {
        Protocol::Http1
    } else if destinations.iter().all(|to| is_tls(to.scheme)) {
        Protocol::Negotiated
    } else if destinations.iter().all(|to| to.scheme == UpstreamScheme::H2c) {
        Protocol::Http2
    } else {
        Protocol::Http1
    }
}
