//! The `policy` of a route: parsed here, with the positions of mistakes inside it.

use pomerium_policy::ppl::Policy;

use super::node::{Node, Value};
use super::sink::Sink;
use super::values::Val;
use crate::diagnostic::Place;

/// Parses; reports every structural mistake at its own line.
pub(crate) fn decode(node: &Node, path: &str, sink: &mut Sink) -> Option<Val> {
    let tree = match &node.value {
        Value::Text(text) => match super::format::parse_yaml(text) {
            Ok(tree) => tree.into_env_if(node),
            Err(error) => {
                sink.error(
                    node.place,
                    path,
                    format!("policy text: {}", error.message),
                    error.help,
                );
                return None;
            }
        },
        _ => node.clone(),
    };
    match Policy::parse_all(&tree.to_json()) {
        Ok(policy) => Some(Val::Policy(Box::new(policy), tree)),
        Err(mistakes) => {
            for mistake in mistakes {
                let place = locate(&tree, &mistake.place);
                let key = key_path(path, &mistake.place);
                sink.error(place, key, mistake.problem, mistake.hint);
            }
            None
        }
    }
}

/// `policy[0].allow` of a policy at `routes[2].policy` is `routes[2].policy[0].allow`.
pub fn key_path(path: &str, place: &str) -> String {
    match place.strip_prefix("policy") {
        Some(rest) => format!("{path}{rest}"),
        None => path.to_owned(),
    }
}

/// Position of a place such as `policy[0].allow.or[1]`, or of the nearest enclosing part that exists.
pub fn locate(tree: &Node, place: &str) -> Place {
    let mut node = tree;
    let mut at = tree.place;
    let steps = place.strip_prefix("policy").unwrap_or(place);
    for step in steps.split(['.', '[']).filter(|step| !step.is_empty()) {
        let next = match (
            &node.value,
            step.strip_suffix(']')
                .and_then(|index| index.parse::<usize>().ok()),
        ) {
            (Value::List(items), Some(index)) => items.get(index).map(|item| (item.place, item)),
            (Value::Map(_), Some(0)) => Some((node.place, node)),
            (Value::Map(entries), None) => entries
                .iter()
                .find(|entry| entry.key == step)
                .map(|entry| (entry.place, &entry.node)),
            _ => None,
        };
        let Some((place, inner)) = next else { break };
        at = place;
        node = inner;
    }
    at
}

impl Node {
    /// Text of a policy keeps its own lines only inside an environment variable; elsewhere the place of the text.
    fn into_env_if(mut self, outer: &Node) -> Self {
        if let crate::diagnostic::Origin::Env(name) = outer.place.origin {
            return self.into_env(name);
        }
        self.move_to(outer.place);
        self
    }

    fn move_to(&mut self, place: Place) {
        self.place = place;
        match &mut self.value {
            Value::List(items) => items.iter_mut().for_each(|item| item.move_to(place)),
            Value::Map(entries) => {
                for entry in entries {
                    entry.place = place;
                    entry.node.move_to(place);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_line_of_a_mistake() {
        let tree =
            super::super::format::parse_yaml("- allow:\n    or:\n    - accept: true\n    - wrong: 1\n")
                .unwrap();
        assert_eq!(locate(&tree, "policy[0].allow.or[1]").line, 4);
        assert_eq!(locate(&tree, "policy[0].deny").line, 1);
        assert_eq!(
            key_path("routes[2].policy", "policy[0].allow"),
            "routes[2].policy[0].allow"
        );
    }
}
