//! Live records that cannot be read, as far as that was noticed: which they are is remembered, so that people can be told
//! without everything being read once more.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use pomerium_api::databroker::Error;

use crate::store::{Key, Store};

#[cfg(test)]
mod tests;

/// More than these are not remembered.
const MOST: usize = 200;

/// What was noticed.
#[derive(Default)]
pub(crate) struct Damage(Mutex<BTreeSet<Key>>);

impl Damage {
    /// Remembers a record; whether that is news.
    pub(crate) fn note(&self, record_type: &str, id: &str) -> bool {
        let mut known = self.0.lock();
        known.len() < MOST && known.insert((record_type.to_owned(), id.to_owned()))
    }

    /// Those of which it is still so: some may have been written again or deleted since.
    pub(crate) async fn still(&self, store: &impl Store) -> Vec<Key> {
        let known: Vec<Key> = self.0.lock().iter().cloned().collect();
        let mut known = known.into_iter();
        let mut still = Vec::new();
        while let Some(key) = known.next() {
            match store.get(&key.0, &key.1).await {
                Ok(_) => {
                    self.0.lock().remove(&key);
                }
                Err(Error::Damaged(_)) => still.push(key),
                // A store that cannot be asked is not asked for each of them.
                Err(_) => {
                    still.push(key);
                    still.extend(known.by_ref());
                }
            }
        }
        still
    }
}
