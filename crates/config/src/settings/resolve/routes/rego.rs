//! The scripts of a route (`rego`, a key of ours; policies of records have theirs here, too), compiled.

use pomerium_policy::{Script, ScriptData};

use super::super::Cx;
use crate::diagnostic::{Place, Stage};
use crate::spec::node::{Node, Value};
use crate::spec::values::Values;

/// Most scripts of one route.
pub(super) const MOST: usize = 64;

/// What scripts see of the settings.
pub(super) fn data(global: &Values) -> ScriptData {
    ScriptData {
        jwt_claim_headers: global.pairs("jwt_claims_headers").iter().cloned().collect(),
    }
}

/// Compiles them. `None` when one is wrong, which is reported: what it would deny is not known.
pub(super) fn scripts(route: &Values, data: &ScriptData, cx: &mut Cx<'_>) -> Option<Vec<Script>> {
    let Some(node) = route.free("rego") else {
        return Some(Vec::new());
    };
    let key = route.key("rego");
    let single = std::slice::from_ref(node);
    let (items, many) = match &node.value {
        Value::List(items) => (items.as_slice(), true),
        _ => (single, false),
    };
    if items.len() > MOST {
        let message = format!("{} scripts; the limit is {MOST}", items.len());
        cx.sink.error(node.place, key, message, "join some of them");
        return None;
    }
    let mut compiled = Vec::new();
    let mut whole = true;
    for (index, item) in items.iter().enumerate() {
        let key = if many {
            format!("{key}[{index}]")
        } else {
            key.clone()
        };
        match one(item, &key, data, cx) {
            Some(script) => compiled.push(script),
            None => whole = false,
        }
    }
    whole.then_some(compiled)
}

fn one(item: &Node, key: &str, data: &ScriptData, cx: &mut Cx<'_>) -> Option<Script> {
    let Some((name, text)) = parts(item) else {
        let message = format!("expected a script, found {}", item.kind());
        let help = "write the script as a text (`rego: |` and the lines below it), or as `name` and `script`";
        cx.sink.error(item.place, key, message, help);
        return None;
    };
    compile(name, text, (item.place, key), data, cx)
}

/// One script; what is wrong with it is reported at its place and key.
pub(super) fn compile(
    name: Option<&str>,
    text: &str,
    (at, key): (Place, &str),
    data: &ScriptData,
    cx: &mut Cx<'_>,
) -> Option<Script> {
    match Script::compile(name.unwrap_or(key), text, data) {
        Ok(script) => Some(script),
        Err(error) => {
            let place = match error.line {
                0 => String::new(),
                line => format!("line {line}, column {} of the script: ", error.column),
            };
            let name = name.map_or_else(String::new, |name| format!("{name}: "));
            let message = format!("{name}{place}{}", error.problem);
            cx.sink.error_at(Stage::ServiceStart, at, key, message, "");
            None
        }
    }
}

/// Name and text.
fn parts(item: &Node) -> Option<(Option<&str>, &str)> {
    let text = |node: &Node| matches!(node.value, Value::Text(_));
    match &item.value {
        Value::Text(script) => Some((None, script)),
        Value::Map(entries)
            if entries
                .iter()
                .all(|entry| ["name", "script"].contains(&entry.key.as_str()) && text(&entry.node)) =>
        {
            let of = |key: &str| match item.get(key).map(|node| &node.value) {
                Some(Value::Text(text)) => Some(text.as_str()),
                _ => None,
            };
            Some((of("name"), of("script")?))
        }
        _ => None,
    }
}
