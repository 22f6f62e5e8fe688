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
        self.0.iter().all(|test| test.matches(left, equal))
    }

    /// The same for a list of texts. An empty text stands for one that is not known: it equals nothing.
    pub(crate) fn matches_texts<T>(&self, left: &[T], text: impl Fn(&T) -> &str) -> bool {
        let equal = |left: &T, right: &Value| {
            let left = text(left);
            !left.is_empty() && right.as_str() == Some(left)
        };
        self.0.iter().all(|test| test.matches(left, equal))
    }
}

impl ListTest {
    pub(super) fn matches<T>(&self, left: &[T], equal: impl Fn(&T, &Value) -> bool) -> bool {
        match self {
            ListTest::Has(right) => left.iter().any(|left| equal(left, right)),
            ListTest::Is(right) => matches!(left, [only] if equal(only, right)),
            ListTest::Exclude(right) => !left.iter().any(|left| equal(left, right)),
        }
    }
}
