//! What is known of a part beside its state, as keys and values.

use std::collections::{BTreeMap, HashMap};

use serde::{Serialize, Serializer};

/// Attributes of a check. In answers they are a list of objects with `Key` and `Value`, sorted by key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes(BTreeMap<&'static str, &'static str>);

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Attribute {
    key: &'static str,
    value: &'static str,
}

impl Attributes {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sets one, in the place of an earlier value.
    pub fn set(&mut self, key: &'static str, value: &'static str) {
        self.0.insert(key, value);
    }

    /// As messages carry them.
    pub fn to_map(&self) -> HashMap<String, String> {
        let each = self.0.iter();
        each.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }
}

impl Serialize for Attributes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let each = self.0.iter().map(|(&key, &value)| Attribute { key, value });
        serializer.collect_seq(each)
    }
}
