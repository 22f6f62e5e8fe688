//! Matching a list of values (spec policy.md 3.2). Every operator of a matcher must hold.

use serde_json::Value;
use smallvec::SmallVec;

use crate::value::equal;

/// Compiled conditions on a list; a missing claim is an empty list.
#[derive(Debug, Default)]
pub(crate) struct ListMatcher(pub(super) SmallVec<[ListTest; 1]>);

/// One operator.
#[derive(Debug)]
pub(crate) enum ListTest {
    /// Some element equals the value.
    Has(Value),
    /// There is one element, and it equals the value.
    Is(Value),
    /// No element equals the value.
    Exclude(Value),
}

impl ListMatcher {
    pub(crate) fn matches(&self, left: &[Value]) -> bool {
        self.0.iter().all(|test| match test {
            ListTest::Has(right) => left.iter().any(|left| equal(left, right)),
            ListTest::Is(right) => matches!(left, [only] if equal(only, right)),
            ListTest::Exclude(right) => !left.iter().any(|left| equal(left, right)),
        })
    }
}
