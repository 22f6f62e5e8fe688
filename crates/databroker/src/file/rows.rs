//! The live records of a type by id, in the order of the ids as text. Ids are compared by their first bytes as long as those
//! differ: looking for one among a million would otherwise follow a pointer at every comparison.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound;

use super::index::Entry;

/// Id → where the record is.
#[derive(Default)]
pub(super) struct Rows(BTreeMap<Id, Entry>);

impl Rows {
    pub(super) fn get(&self, id: &str) -> Option<&Entry> {
        self.0.get(Wanted::new(id).key())
    }

    pub(super) fn contains(&self, id: &str) -> bool {
        self.get(id).is_some()
    }

    /// The entry that was there before.
    pub(super) fn insert(&mut self, id: &str, entry: Entry) -> Option<Entry> {
        match self.0.get_mut(Wanted::new(id).key()) {
            Some(place) => Some(std::mem::replace(place, entry)),
            None => self.0.insert(Id::new(id.into()), entry),
        }
    }

    pub(super) fn remove(&mut self, id: &str) -> Option<Entry> {
        self.0.remove(Wanted::new(id).key())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those behind `id`, or all of them.
    pub(super) fn after(&self, id: Option<&str>) -> impl Iterator<Item = (&str, &Entry)> {
        let wanted = id.map(Wanted::new);
        let from = match &wanted {
            Some(wanted) => Bound::Excluded(wanted.key()),
            None => Bound::Unbounded,
        };
        let rows = self.0.range::<dyn Key, _>((from, Bound::Unbounded));
        rows.map(|(id, entry)| (&*id.text, entry))
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.0.values()
    }
}

impl FromIterator<(Box<str>, Entry)> for Rows {
    /// Made in one piece when they come in order.
    fn from_iter<I: IntoIterator<Item = (Box<str>, Entry)>>(rows: I) -> Self {
        let rows = rows.into_iter();
        Self(rows.map(|(id, entry)| (Id::new(id), entry)).collect())
    }
}

/// An id as it is held.
struct Id {
    head: u64,
    text: Box<str>,
}

impl Id {
    fn new(text: Box<str>) -> Self {
        Self {
            head: head(&text),
            text,
        }
    }
}

/// An id that is looked for.
struct Wanted<'a> {
    head: u64,
    text: &'a str,
}

impl<'a> Wanted<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            head: head(text),
            text,
        }
    }

    fn key(&self) -> &(dyn Key + 'a) {
        self
    }
}

/// The first eight bytes, in an order that no text contradicts: where they are equal the whole text decides.
fn head(text: &str) -> u64 {
    let mut first = [0; 8];
    let length = text.len().min(first.len());
    first[..length].copy_from_slice(&text.as_bytes()[..length]);
    u64::from_be_bytes(first)
}

/// What ids are compared by.
trait Key {
    fn parts(&self) -> (u64, &str);
}

impl Key for Id {
    fn parts(&self) -> (u64, &str) {
        (self.head, &self.text)
    }
}

impl Key for Wanted<'_> {
    fn parts(&self) -> (u64, &str) {
        (self.head, self.text)
    }
}

impl<'a> Borrow<dyn Key + 'a> for Id {
    fn borrow(&self) -> &(dyn Key + 'a) {
        self
    }
}

impl Ord for dyn Key + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        self.parts().cmp(&other.parts())
    }
}

impl PartialOrd for dyn Key + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for dyn Key + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for dyn Key + '_ {}

impl Ord for Id {
    fn cmp(&self, other: &Self) -> Ordering {
        self.parts().cmp(&other.parts())
    }
}

impl PartialOrd for Id {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Id {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Id {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::proptest;

    use super::super::index::Spot;
    use super::*;

    fn entry(version: u64) -> Entry {
        Entry {
            version,
            spot: Spot {
                segment: 1,
                at: 40,
                length: 8,
            },
        }
    }

    proptest! {
        /// Like a tree of texts, whatever they begin with and however short they are.
        #[test]
        fn the_same_as_a_tree_of_texts(ids in vec("[\u{0}ab]{0,11}", 0..40), gone in vec("[\u{0}ab]{0,9}", 0..40)) {
            let mut rows = Rows::default();
            let mut texts = BTreeMap::new();
            for (id, version) in ids.iter().zip(1..) {
                assert_eq!(rows.insert(id, entry(version)), texts.insert(id.clone(), entry(version)));
            }
            for id in &gone {
                assert_eq!(rows.get(id), texts.get(id));
                let behind = texts.range::<str, _>((Bound::Excluded(&**id), Bound::Unbounded));
                assert!(rows.after(Some(id)).eq(behind.map(|(id, entry)| (&**id, entry))));
                assert_eq!(rows.remove(id), texts.remove(id));
            }
            assert!(rows.after(None).eq(texts.iter().map(|(id, entry)| (&**id, entry))));
            assert!((rows.len(), rows.is_empty()) == (texts.len(), texts.is_empty()));
            let again: Rows = texts.iter().map(|(id, entry)| (id.as_str().into(), *entry)).collect();
            assert!(again.after(None).eq(rows.after(None)));
        }
    }
}
