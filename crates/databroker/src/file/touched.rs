//! The live records of a type, as far as a commit touched them.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::apply::behind;

/// A record that was written in this commit: where it is in the frame.
pub(super) struct Written {
    pub(super) version: u64,
    pub(super) place: Range<usize>,
}

#[derive(Default)]
pub(super) struct Touched {
    /// `None` is gone.
    pub(super) rows: BTreeMap<String, Option<Written>>,
    /// How many more there are than before.
    pub(super) more: i64,
    /// Version → id of those written.
    order: BTreeMap<u64, String>,
    /// Those before this version were looked at for the oldest and are touched: that does not change.
    passed: u64,
}

impl Touched {
    /// What became of a record; `was_there` before this commit.
    pub(super) fn note(&mut self, id: &str, written: Option<Written>, was_there: bool) {
        let version = written.as_ref().map(|written| written.version);
        self.more += i64::from(version.is_some());
        match self.rows.insert(id.to_owned(), written) {
            None => self.more -= i64::from(was_there),
            Some(None) => {}
            Some(Some(before)) => {
                self.more -= 1;
                // While a copy is made, another record may have its place.
                if self.order.get(&before.version).is_some_and(|owner| owner == id) {
                    self.order.remove(&before.version);
                }
            }
        }
        if let Some(version) = version {
            self.order.insert(version, id.to_owned());
        }
    }

    /// Version and id of the record that was written longest ago, of those after a version: of these and of those by version
    /// there were before.
    pub(super) fn oldest(
        &mut self,
        before: Option<&BTreeMap<u64, Box<str>>>,
        after: Option<u64>,
    ) -> Option<(u64, String)> {
        let untouched = before.and_then(|before| {
            let from = after.map_or(0, |after| after.saturating_add(1)).max(self.passed);
            let mut rest = before.range(from..);
            let found = rest.find(|(_, id)| !self.rows.contains_key(&***id));
            // What was left out because of `after` may be asked for again.
            if from == self.passed {
                self.passed = found.map_or(u64::MAX, |(version, _)| *version);
            }
            found.map(|(version, id)| (*version, id.to_string()))
        });
        let written = self.order.range(behind(after)).next();
        let written = written.map(|(version, id)| (*version, id.clone()));
        untouched.into_iter().chain(written).min()
    }
}
