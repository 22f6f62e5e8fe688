//! The policies of a route: those written into it, and those it names.

use serde_json::{Map, Value};

use super::Policies;
use crate::spec::base64_std;
use crate::spec::format::parse_yaml;
use crate::spec::keys::SUB_POLICY;

/// What the policies of a route say, as options of a route of a file.
#[derive(Default)]
pub(super) struct Found {
    /// For `policy`.
    pub(super) rules: Vec<Value>,
    /// For `sub_policies`.
    pub(super) policies: Vec<Value>,
}

/// Takes the policies out of the message. Denials and permissions of all count, whichever stands first.
///
/// Errors when a policy is missing or cannot be read: what it would deny is not known.
pub(super) fn take(message: &mut Map<String, Value>, known: &Policies) -> Result<Found, String> {
    let mut list = |key: &str| match message.remove(key) {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    };
    let (inline, named, raw) = (list("policies"), list("policy_ids"), list("ppl_policies"));
    let mut found = Found::default();
    for document in &raw {
        let encoded = document.get("raw").and_then(Value::as_str).unwrap_or_default();
        let bytes = base64_std(encoded).map_err(|error| format!("`ppl_policies`: {error}"))?;
        let text = String::from_utf8(bytes).map_err(|_| "`ppl_policies`: it is not UTF-8".to_owned())?;
        found.rules.extend(parsed(&text)?);
    }
    for id in &named {
        let id = id.as_str().unwrap_or_default();
        let policy = known.get(id).ok_or_else(|| {
            format!("there is no policy with the id {id:?}: add it, or remove it from `policy_ids`")
        })?;
        let mut policy = options(policy);
        policy.entry("id").or_insert_with(|| id.into());
        found.policies.push(Value::Object(policy));
    }
    let inline = inline.iter().filter_map(Value::as_object);
    found
        .policies
        .extend(inline.map(|policy| Value::Object(options(policy))));
    Ok(found)
}

/// What a policy says that counts for a route; the rest is for whoever administers it.
fn options(policy: &Map<String, Value>) -> Map<String, Value> {
    let known = |key: &str| SUB_POLICY.iter().any(|known| known.name == key);
    let kept = policy.iter().filter(|(key, _)| known(key));
    kept.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// A document of the policy language: one object of rules, or a list of them.
fn parsed(text: &str) -> Result<Vec<Value>, String> {
    let tree = parse_yaml(text).map_err(|error| format!("`ppl_policies`: {}", error.message))?;
    Ok(match tree.to_json() {
        Value::Array(rules) => rules,
        rule => vec![rule],
    })
}
