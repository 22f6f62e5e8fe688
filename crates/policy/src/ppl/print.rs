//! A policy back as JSON: a list of one-key maps (spec policy.md 1).

use serde::Serialize;
use serde::ser::{SerializeMap, SerializeSeq, Serializer};

use super::{Criterion, Group, Policy, Rule};

impl Serialize for Policy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.rules.len()))?;
        for rule in &self.rules {
            list.serialize_element(&PrintedRule(rule))?;
        }
        list.end()
    }
}

struct PrintedRule<'a>(&'a Rule);

impl Serialize for PrintedRule<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(self.0.action.as_str(), &Body(&self.0.groups))?;
        map.end()
    }
}

struct Body<'a>(&'a [Group]);

impl Serialize for Body<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for group in self.0.iter().filter(|group| !group.criteria.is_empty()) {
            map.serialize_entry(group.operator.as_str(), &group.criteria)?;
        }
        map.end()
    }
}

impl Serialize for Criterion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(&self.key(), &self.data)?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn prints_what_it_read() {
        let source = json!({
            "deny": {"nor": [{"http_path": {"is": "/a"}}]},
            "allow": {"action": "x", "not": [], "and": [{"claim/a/b": [1]}, {"email": "user@example.com"}]}
        });
        let policy = Policy::parse(&source).unwrap();
        let printed = serde_json::to_value(&policy).unwrap();
        let expected: Value = json!([
            {"allow": {"and": [{"claim/a/b": [1]}, {"email": "user@example.com"}]}},
            {"deny": {"nor": [{"http_path": {"is": "/a"}}]}}
        ]);
        assert_eq!(printed, expected);
        assert_eq!(Policy::parse(&printed).unwrap(), policy);
    }
}
