//! What one load leaves for the next: routes that said nothing but what they say, so that a file of many
//! routes is not worked through again when one of them changes.
//!
//! A route is taken over when its own text and everything that it inherits are the same. It is kept only when
//! nothing was found about it and it read no file: both would have to be looked at again.

use std::collections::HashSet;
use std::sync::Arc;

use super::node::{Node, Value};
use crate::settings::{IdpSettings, Origin, RouteSettings, Secret};

/// Routes by what they say, and what they inherited. Kept between loads, so that it should be small.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory {
    /// Sorted.
    routes: Box<[(Key, Arc<RouteSettings>)]>,
    globals: u128,
    inherited: Option<Inherited>,
    fresh: Vec<(Key, Arc<RouteSettings>)>,
    told: HashSet<Key>,
}

/// A fingerprint, without the room that the alignment of a number takes.
type Key = [u8; 16];

/// What routes inherit beside the text of the global options: files and generated secrets stand behind it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Inherited {
    pub url: Origin,
    pub shared: Secret,
    pub idp: Option<Arc<IdpSettings>>,
    /// Every route denies without a valid client certificate.
    pub deny_without_certificate: bool,
    /// Every route denies everybody.
    pub guard_lost: bool,
}

impl Memory {
    /// Begins a load of this tree: other global options make everything else forgotten.
    pub fn begin(&mut self, tree: &Node) {
        let mut hasher = xxhash_rust::xxh3::Xxh3::new();
        if let Value::Map(entries) = &tree.value {
            for entry in entries.iter().filter(|entry| !is_routes(&entry.key)) {
                Node::new(Value::Text(entry.key.clone()), entry.place).feed(&mut hasher);
                entry.node.feed(&mut hasher);
            }
        }
        let globals = hasher.digest128();
        if globals != self.globals {
            *self = Self {
                globals,
                ..Self::default()
            };
        }
    }

    /// What came of a route that says this.
    pub fn recall(&self, fingerprint: u128) -> Option<Arc<RouteSettings>> {
        let key = fingerprint.to_be_bytes();
        let found = self.routes.binary_search_by_key(&key, |(key, _)| *key).ok()?;
        self.routes.get(found).map(|(_, settings)| settings.clone())
    }

    /// Whether routes were taken over that inherited something else than `now`.
    pub fn is_stale(&mut self, now: Inherited) -> bool {
        if self.inherited.as_ref() == Some(&now) {
            return false;
        }
        self.inherited = Some(now);
        !self.routes.is_empty()
    }

    /// The provider that routes inherited last time; sharing it keeps routes the same over loads.
    pub fn idp(&self) -> Option<&Arc<IdpSettings>> {
        self.inherited
            .as_ref()
            .and_then(|inherited| inherited.idp.as_ref())
    }

    /// Remembers a route.
    pub fn learn(&mut self, fingerprint: u128, settings: &Arc<RouteSettings>) {
        self.fresh.push((fingerprint.to_be_bytes(), settings.clone()));
    }

    /// Something was found about a route: it is looked at again next time.
    pub fn tell(&mut self, fingerprint: u128) {
        self.told.insert(fingerprint.to_be_bytes());
    }

    /// Ends a load: what the next one may rely on. A file that could not be read at all changes nothing.
    pub fn end(mut self, was_read: bool) -> Self {
        let (told, mut fresh) = (std::mem::take(&mut self.told), std::mem::take(&mut self.fresh));
        if was_read {
            fresh.retain(|(key, _)| !told.contains(key));
            fresh.sort_unstable_by_key(|(key, _)| *key);
            self.routes = fresh.into();
        }
        self
    }
}

fn is_routes(key: &str) -> bool {
    key.eq_ignore_ascii_case("routes") || key.eq_ignore_ascii_case("policy")
}
