//! Matching one text (spec policy.md 3.1). Every operator of a matcher must hold.

use smallvec::SmallVec;

/// Compiled conditions on a text that is there; a missing text fails before it comes here.
#[derive(Debug, Default)]
pub(crate) struct TextMatcher(pub(super) SmallVec<[TextTest; 1]>);

/// One operator. Right sides that can never equal a text are dropped while compiling.
#[derive(Debug)]
pub(crate) enum TextTest {
    /// Equal; `None` when the right side is not a text: never.
    Is(Option<Box<str>>),
    /// Not equal; `None` when the right side is not a text: always.
    Not(Option<Box<str>>),
    StartsWith(Box<str>),
    EndsWith(Box<str>),
    Contains(Box<str>),
    In(Box<[Box<str>]>),
    NotIn(Box<[Box<str>]>),
}

impl TextMatcher {
    pub(crate) fn matches(&self, left: &str) -> bool {
        self.0.iter().all(|test| test.matches(left))
    }
}

impl TextMatcher {
    /// Whether each operator holds for some text of `lefts`; different operators may hold for different texts.
    pub(crate) fn matches_among(&self, lefts: &[String]) -> bool {
        self.0
            .iter()
            .all(|test| lefts.iter().any(|left| test.matches(left)))
    }
}

impl TextTest {
    pub(super) fn matches(&self, left: &str) -> bool {
        let one_of = |list: &[Box<str>]| list.iter().any(|right| **right == *left);
        match self {
            TextTest::Is(right) => right.as_deref() == Some(left),
            TextTest::Not(right) => right.as_deref() != Some(left),
            TextTest::StartsWith(right) => left.starts_with(&**right),
            TextTest::EndsWith(right) => left.ends_with(&**right),
            TextTest::Contains(right) => left.contains(&**right),
            TextTest::In(list) => one_of(list),
            TextTest::NotIn(list) => !one_of(list),
        }
    }
}
