//! `sub_policies` of a route: policies with names of their own, from the file or from `Policy` records. All of them count
//! as if their rules stood in the route's `policy` and their scripts in its `rego`; on routes with `show_error_details`
//! each is also kept by itself, so that people can be told what it said.

use pomerium_policy::ppl::Policy;
use pomerium_policy::{Part, Program, Script, ScriptData, merge};

use super::super::Cx;
use super::{access, rego};
use crate::spec::node::{Node, Value};
use crate::spec::policy;
use crate::spec::values::{Val, Values};

/// Most policies of one route.
const MOST: usize = 256;

/// Longest explanation or remediation, in bytes.
const MAX_WORDS: usize = 16 * 1024;

/// One policy.
pub(super) struct Sub {
    id: String,
    explanation: String,
    remediation: String,
    /// Its lists and its source.
    pub(super) rules: Policy,
    pub(super) scripts: Vec<Script>,
}

impl Sub {
    /// The policy by itself. `None` when it cannot be judged, which is reported where all rules are compiled.
    pub(super) fn told(self) -> Option<Part> {
        let program = Program::compile(&self.rules).ok()?.with_scripts(self.scripts);
        Some(Part {
            id: self.id,
            explanation: self.explanation,
            remediation: self.remediation,
            program,
        })
    }
}

/// Whether one of them is written in Rego.
pub(super) fn any_script(route: &Values) -> bool {
    let policies = route.objects("sub_policies");
    policies.iter().any(|policy| !policy.texts("rego").is_empty())
}

/// Reads them. `None` when one is wrong, which is reported: what it would deny is not known.
pub(super) fn read(route: &Values, data: &ScriptData, cx: &mut Cx<'_>) -> Option<Vec<Sub>> {
    let policies = route.objects("sub_policies");
    let scripts: usize = policies.iter().map(|policy| policy.texts("rego").len()).sum();
    for (count, most, what) in [
        (policies.len(), MOST, "policies"),
        (scripts, rego::MOST, "scripts"),
    ] {
        if count > most {
            let message = format!("{count} {what}; the limit is {most}");
            let place = route.place("sub_policies");
            cx.sink
                .error(place, route.key("sub_policies"), message, "join some of them");
            return None;
        }
    }
    // All of them, so that every mistake is reported.
    let read: Vec<Option<Sub>> = policies
        .iter()
        .enumerate()
        .map(|(index, policy)| one(policy, index, data, cx))
        .collect();
    read.into_iter().collect()
}

fn one(values: &Values, index: usize, data: &ScriptData, cx: &mut Cx<'_>) -> Option<Sub> {
    let words = ["explanation", "remediation"].map(|key| words(values, key, cx));
    let scripts = scripts(values, data, cx);
    let source = source(values, cx);
    let [explanation, remediation] = words;
    let source = source?;
    let place = format!("sub_policies[{index}]");
    let rules = merge(&access::lists(values), source.as_ref()).placed(|at| {
        match (at.strip_prefix("policy"), at.starts_with("allowed_")) {
            (Some(rest), _) => format!("{place}.source_ppl{rest}"),
            (None, true) => format!("{place}.{at}"),
            (None, false) => place.clone(),
        }
    });
    Some(Sub {
        id: values.text("id").to_owned(),
        explanation: explanation?,
        remediation: remediation?,
        rules,
        scripts: scripts?,
    })
}

fn words(values: &Values, key: &str, cx: &mut Cx<'_>) -> Option<String> {
    let text = values.text(key);
    if text.len() > MAX_WORDS {
        let message = format!("{} bytes; the limit is {MAX_WORDS}", text.len());
        let help = "say it in fewer words, and link to a page that says more";
        cx.sink.error(values.place(key), values.key(key), message, help);
        return None;
    }
    Some(text.to_owned())
}

fn scripts(values: &Values, data: &ScriptData, cx: &mut Cx<'_>) -> Option<Vec<Script>> {
    let name = ["name", "id"].iter().find_map(|key| values.some_text(key));
    let label = name.map(|name| format!("policy {name}"));
    let place = values.place("rego");
    let compiled: Vec<Option<Script>> = values
        .texts("rego")
        .iter()
        .enumerate()
        .map(|(index, text)| {
            let key = format!("{}[{index}]", values.key("rego"));
            rego::compile(label.as_deref(), text, (place, &key), data, cx)
        })
        .collect();
    compiled.into_iter().collect()
}

/// The source in the policy language. That of a policy with scripts is what they were made from, and not read.
fn source(values: &Values, cx: &mut Cx<'_>) -> Option<Option<Policy>> {
    let Some(text) = values
        .some_text("source_ppl")
        .filter(|_| values.texts("rego").is_empty())
    else {
        return Some(None);
    };
    let node = Node::new(Value::Text(text.to_owned()), values.place("source_ppl"));
    match policy::decode(&node, &values.key("source_ppl"), &mut cx.sink) {
        Some(Val::Policy(policy, _)) => Some(Some(*policy)),
        _ => None,
    }
}
