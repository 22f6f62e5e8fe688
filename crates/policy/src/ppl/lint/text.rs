//! The texts that a matcher accepts (spec policy.md 3.1), as far as they can be told.

use serde_json::Value;

/// The conditions of a matcher, all of which hold for an accepted text.
pub(super) struct TextSet<'a>(Vec<Op<'a>>);

enum Op<'a> {
    /// `is` and `in`.
    OneOf(Vec<&'a str>),
    /// `not` and `not_in`.
    NoneOf(Vec<&'a str>),
    StartsWith(&'a str),
    EndsWith(&'a str),
    Contains(&'a str),
}

impl<'a> TextSet<'a> {
    /// Reads a matcher; `None` when it has parts that are not understood.
    pub(super) fn read(data: &'a Value) -> Option<Self> {
        match data {
            Value::Object(operators) => operators
                .iter()
                .map(|(operator, right)| Op::read(operator, right))
                .collect::<Option<_>>()
                .map(Self),
            plain => Some(Self(vec![Op::read("is", plain)?])),
        }
    }

    pub(super) fn accepts(&self, text: &str) -> bool {
        self.0.iter().all(|op| op.accepts(text))
    }

    /// Every text that is accepted, when they can be counted.
    pub(super) fn candidates(&self) -> Option<Vec<&'a str>> {
        let listed = self.0.iter().find_map(|op| match op {
            Op::OneOf(texts) => Some(texts),
            _ => None,
        })?;
        let accepted = listed.iter().copied().filter(|text| self.accepts(text));
        Some(accepted.collect())
    }

    /// Whether no text is accepted.
    pub(super) fn is_empty(&self) -> bool {
        match self.candidates() {
            Some(texts) => texts.is_empty(),
            None => self.disjoint(self),
        }
    }

    /// Whether no text is accepted by both.
    pub(super) fn disjoint(&self, other: &Self) -> bool {
        if let Some(texts) = self.candidates() {
            return texts.iter().all(|text| !other.accepts(text));
        }
        if let Some(texts) = other.candidates() {
            return texts.iter().all(|text| !self.accepts(text));
        }
        let clash = |one: &Op<'_>, two: &Op<'_>| match (one, two) {
            (Op::StartsWith(a), Op::StartsWith(b)) => !a.starts_with(b) && !b.starts_with(a),
            (Op::EndsWith(a), Op::EndsWith(b)) => !a.ends_with(b) && !b.ends_with(a),
            _ => false,
        };
        self.0.iter().any(|one| other.0.iter().any(|two| clash(one, two)))
    }

    /// Whether every accepted text is accepted by `outer`, too.
    pub(super) fn within(&self, outer: &Self) -> bool {
        match self.candidates() {
            Some(texts) => texts.iter().all(|text| outer.accepts(text)),
            None => outer
                .0
                .iter()
                .all(|weaker| self.0.iter().any(|stronger| stronger.implies(weaker))),
        }
    }
}

impl<'a> Op<'a> {
    fn read(operator: &str, right: &'a Value) -> Option<Self> {
        let texts = || -> Option<Vec<&'a str>> {
            // What is no text never equals one.
            Some(right.as_array()?.iter().filter_map(Value::as_str).collect())
        };
        Some(match operator {
            "is" => Op::OneOf(right.as_str().into_iter().collect()),
            "not" => Op::NoneOf(right.as_str().into_iter().collect()),
            "in" => Op::OneOf(texts()?),
            "not_in" => Op::NoneOf(texts()?),
            "starts_with" => Op::StartsWith(right.as_str()?),
            "ends_with" => Op::EndsWith(right.as_str()?),
            "contains" => Op::Contains(right.as_str()?),
            _ => return None,
        })
    }

    fn accepts(&self, text: &str) -> bool {
        match self {
            Op::OneOf(texts) => texts.contains(&text),
            Op::NoneOf(texts) => !texts.contains(&text),
            Op::StartsWith(part) => text.starts_with(part),
            Op::EndsWith(part) => text.ends_with(part),
            Op::Contains(part) => text.contains(part),
        }
    }

    fn implies(&self, weaker: &Self) -> bool {
        match (self, weaker) {
            (Op::NoneOf(more), Op::NoneOf(fewer)) => fewer.iter().all(|text| more.contains(text)),
            (Op::StartsWith(long), Op::StartsWith(short)) => long.starts_with(short),
            (Op::EndsWith(long), Op::EndsWith(short)) => long.ends_with(short),
            (Op::StartsWith(long) | Op::EndsWith(long) | Op::Contains(long), Op::Contains(short)) => {
                long.contains(short)
            }
            _ => false,
        }
    }
}
