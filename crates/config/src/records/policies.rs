//! The policies of a route in one: those written into it, and those it names.

use serde_json::{Map, Value, json};

use super::Policies;
use crate::spec::base64_std;
use crate::spec::format::parse_yaml;

/// Takes the policies out of the message and joins their rules, as if they stood in one `policy`. Denials
/// and permissions of all count, whichever stands first.
///
/// Errors when a policy is missing or cannot be read: what it would deny is not known.
pub(super) fn merge(message: &mut Map<String, Value>, known: &Policies) -> Result<Option<Value>, String> {
    let list = |value: Option<Value>| match value {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    };
    let inline = list(message.remove("policies"));
    let named = list(message.remove("policy_ids"));
    let raw = list(message.remove("ppl_policies"));
    if inline.is_empty() && named.is_empty() && raw.is_empty() {
        return Ok(None);
    }
    let mut rules = Vec::new();
    for document in &raw {
        let encoded = document.get("raw").and_then(Value::as_str).unwrap_or_default();
        let bytes = base64_std(encoded).map_err(|error| format!("`ppl_policies`: {error}"))?;
        let text = String::from_utf8(bytes).map_err(|_| "`ppl_policies`: it is not UTF-8".to_owned())?;
        rules.extend(parsed(&text, "`ppl_policies`")?);
    }
    for id in &named {
        let id = id.as_str().unwrap_or_default();
        let policy = known.get(id).ok_or_else(|| {
            format!("there is no policy with the id {id:?}: add it, or remove it from `policy_ids`")
        })?;
        rules.extend(rules_of(policy)?);
    }
    for policy in inline.iter().filter_map(Value::as_object) {
        rules.extend(rules_of(policy)?);
    }
    Ok(Some(Value::Array(rules)))
}

/// The rules of one policy: its lists, then its source.
fn rules_of(policy: &Map<String, Value>) -> Result<Vec<Value>, String> {
    let name = ["name", "id"]
        .iter()
        .find_map(|key| policy.get(*key)?.as_str())
        .unwrap_or("without a name");
    let label = format!("policy {name}");
    if policy
        .get("rego")
        .and_then(Value::as_array)
        .is_some_and(|rego| !rego.is_empty())
    {
        return Err(format!(
            "{label}: rules in Rego are not built yet; write them in the policy language"
        ));
    }
    let texts = |key: &str| {
        policy
            .get(key)
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let mut allowed = Vec::new();
    for domain in texts("allowed_domains") {
        allowed.push(json!({"domain": {"is": domain}}));
    }
    for user in texts("allowed_users") {
        allowed.push(json!({"user": {"is": user}}));
        allowed.push(json!({"email": {"is": user}}));
    }
    for (claim, values) in policy
        .get("allowed_idp_claims")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        for value in values.as_array().into_iter().flatten() {
            let criterion = format!("claim/{claim}");
            allowed.push(json!({criterion: value}));
        }
    }
    let mut rules = Vec::new();
    if !allowed.is_empty() {
        rules.push(json!({"allow": {"or": allowed}}));
    }
    if let Some(source) = policy
        .get("source_ppl")
        .and_then(Value::as_str)
        .filter(|text| !text.is_empty())
    {
        rules.extend(parsed(source, &label)?);
    }
    Ok(rules)
}

/// A document of the policy language: one object of rules, or a list of them.
fn parsed(text: &str, label: &str) -> Result<Vec<Value>, String> {
    let tree = parse_yaml(text).map_err(|error| format!("{label}: {}", error.message))?;
    Ok(match tree.to_json() {
        Value::Array(rules) => rules,
        rule => vec![rule],
    })
}
