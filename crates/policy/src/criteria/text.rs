//! Matching one text (spec policy.md 3.1). Every operator of a matcher must hold.

use serde_json::{Value, json};

/// Compiled conditions on a text that is there; a missing text fails before it comes here.
#[derive(Debug)]
pub(crate) struct TextMatcher(Tests);

/// Nearly always one: there are thousands of policies, and this is most of what they keep.
#[derive(Debug)]
enum Tests {
    One(TextTest),
    Many(Box<[TextTest]>),
}

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

impl From<TextTest> for TextMatcher {
    fn from(test: TextTest) -> Self {
        Self(Tests::One(test))
    }
}

impl FromIterator<TextTest> for TextMatcher {
    fn from_iter<I: IntoIterator<Item = TextTest>>(tests: I) -> Self {
        let mut tests: Vec<_> = tests.into_iter().collect();
        match tests.pop() {
            Some(only) if tests.is_empty() => only.into(),
            last => {
                tests.extend(last);
                Self(Tests::Many(tests.into()))
            }
        }
    }
}

impl TextMatcher {
    fn tests(&self) -> &[TextTest] {
        match &self.0 {
            Tests::One(test) => std::slice::from_ref(test),
            Tests::Many(tests) => tests,
        }
    }

    pub(crate) fn matches(&self, left: &str) -> bool {
        self.tests().iter().all(|test| test.matches(left))
    }

    /// Whether each operator holds for some text of `lefts`; different operators may hold for different texts.
    pub(crate) fn matches_among(&self, lefts: &[String]) -> bool {
        self.tests()
            .iter()
            .all(|test| lefts.iter().any(|left| test.matches(left)))
    }

    /// What was written, if this test tells all of it: a single operator. The caller compares; a word with another
    /// meaning of the same kind may have been written.
    pub(crate) fn told(&self) -> Option<Value> {
        let Tests::One(test) = &self.0 else { return None };
        Some(match test {
            TextTest::Is(right) => json!({"is": right.as_deref()?}),
            TextTest::Not(right) => json!({"not": right.as_deref()?}),
            TextTest::StartsWith(right) => json!({"starts_with": right}),
            TextTest::EndsWith(right) => json!({"ends_with": right}),
            TextTest::Contains(right) => json!({"contains": right}),
            TextTest::In(list) => json!({"in": list}),
            TextTest::NotIn(list) => json!({"not_in": list}),
        })
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
