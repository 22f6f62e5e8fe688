//! The policies of a route in one: those written into it, and those it names.

use serde_json::{Map, Value, json};

use super::Policies;
use crate::spec::base64_std;
use crate::spec::format::parse_yaml;

/// What the policies of a route say.
#[derive(Default)]
pub(super) struct Merged {
    /// In the policy language.
    pub(super) rules: Vec<Value>,
    /// In Rego: name and script.
    pub(super) scripts: Vec<Value>,
}

/// Takes the policies out of the message and joins their rules, as if they stood in one `policy`. Denials
/// and permissions of all count, whichever stands first.
///
/// Errors when a policy is missing or cannot be read: what it would deny is not known.
pub(super) fn merge(message: &mut Map<String, Value>, known: &Policies) -> Result<Option<Merged>, String> {
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
    let mut merged = Merged::default();
    for document in &raw {
        let encoded = document.get("raw").and_then(Value::as_str).unwrap_or_default();
        let bytes = base64_std(encoded).map_err(|error| format!("`ppl_policies`: {error}"))?;
        let text = String::from_utf8(bytes).map_err(|_| "`ppl_policies`: it is not UTF-8".to_owned())?;
        merged.rules.extend(parsed(&text, "`ppl_policies`")?);
    }
    for id in &named {
        let id = id.as_str().unwrap_or_default();
        let policy = known.get(id).ok_or_else(|| {
            format!("there is no policy with the id {id:?}: add it, or remove it from `policy_ids`")
        })?;
        add(&mut merged, policy)?;
    }
    for policy in inline.iter().filter_map(Value::as_object) {
        add(&mut merged, policy)?;
    }
    Ok(Some(merged))
}

/// Adds one policy: its lists, then its scripts, or its source when it has none. The source of one that has both is
/// what the scripts were made from.
fn add(merged: &mut Merged, policy: &Map<String, Value>) -> Result<(), String> {
    let name = ["name", "id"]
        .iter()
        .find_map(|key| policy.get(*key)?.as_str())
        .unwrap_or("without a name");
    let label = format!("policy {name}");
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
    if !allowed.is_empty() {
        merged.rules.push(json!({"allow": {"or": allowed}}));
    }
    let scripts = texts("rego");
    if !scripts.is_empty() {
        let named = scripts
            .into_iter()
            .map(|script| json!({"name": label, "script": script}));
        merged.scripts.extend(named);
        return Ok(());
    }
    if let Some(source) = policy
        .get("source_ppl")
        .and_then(Value::as_str)
        .filter(|text| !text.is_empty())
    {
        merged.rules.extend(parsed(source, &label)?);
    }
    Ok(())
}

/// A document of the policy language: one object of rules, or a list of them.
fn parsed(text: &str, label: &str) -> Result<Vec<Value>, String> {
    let tree = parse_yaml(text).map_err(|error| format!("{label}: {}", error.message))?;
    Ok(match tree.to_json() {
        Value::Array(rules) => rules,
        rule => vec![rule],
    })
}
