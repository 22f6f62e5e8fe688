//! Policies rearranged, as trees that still know their lines.

use pomerium_policy::ppl::{Operator, Policy};

use crate::spec::node::{Entry, Node, Value};

/// A list with one action an item; what says nothing is left out. The policy is right in form.
pub(super) fn arranged(tree: &Node) -> Node {
    let items: Vec<&Node> = match &tree.value {
        Value::List(items) => items.iter().collect(),
        _ => vec![tree],
    };
    let mut rules = Vec::new();
    for item in items {
        let Value::Map(entries) = &item.value else {
            continue;
        };
        for action in ["allow", "deny"] {
            let found = entries.iter().filter(|entry| entry.key == action);
            rules.extend(found.map(|entry| {
                let rule = Entry {
                    key: entry.key.clone(),
                    place: entry.place,
                    node: body(&entry.node),
                };
                Node::new(Value::Map(vec![rule]), entry.place)
            }));
        }
    }
    Node::new(Value::List(rules), tree.place)
}

fn body(node: &Node) -> Node {
    let Value::Map(entries) = &node.value else {
        return node.clone();
    };
    let operators = Operator::ALL.iter().filter_map(|operator| {
        entries
            .iter()
            .find(|entry| entry.key == operator.as_str() && !is_empty(&entry.node))
            .cloned()
    });
    Node::new(Value::Map(operators.collect()), node.place)
}

fn is_empty(node: &Node) -> bool {
    matches!(&node.value, Value::List(items) if items.is_empty())
}

/// A case file whose policies are rearranged. A policy that is wrong in form stays: that may be what the case is about.
pub(super) fn of_cases(tree: &Node) -> Node {
    let mut tree = tree.clone();
    let Value::Map(entries) = &mut tree.value else {
        return tree;
    };
    let cases = entries.iter_mut().filter(|entry| entry.key == "cases");
    for case in cases.flat_map(|entry| match &mut entry.node.value {
        Value::List(cases) => cases.as_mut_slice(),
        _ => &mut [],
    }) {
        let Value::Map(parts) = &mut case.value else {
            continue;
        };
        for part in parts.iter_mut().filter(|part| part.key == "policy") {
            if Policy::parse_all(&part.node.to_json()).is_ok() {
                part.node = arranged(&part.node);
            }
        }
    }
    tree
}
