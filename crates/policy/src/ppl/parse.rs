//! Reading a policy from a JSON value (spec policy.md 1). Every error of a policy is found in one go.

use std::fmt::Display;

use serde_json::{Map, Value};

use super::{Action, Criterion, Group, Operator, ParseError, Place, Policy, Rule};
use crate::criteria;
use crate::suggest::nearest;
use crate::value::kind;

/// How every error of form begins, in the words that deployed tools look for.
const PREFIX: &str = "invalid rules in policy: ";

/// Route settings that people look for inside a policy.
const ROUTE_SETTINGS: [&str; 6] = [
    "allowed_users",
    "allowed_domains",
    "allowed_idp_claims",
    "allow_any_authenticated_user",
    "allow_public_unauthenticated_access",
    "cors_allow_preflight",
];

impl Policy {
    /// Reads a policy. The place in errors starts with `policy`.
    ///
    /// Errors with the first thing wrong with its form; [`Policy::parse_all`] tells all of them.
    pub fn parse(value: &Value) -> Result<Policy, ParseError> {
        Self::parse_all(value).map_err(|mut errors| errors.swap_remove(0))
    }

    /// Reads a policy. Errors with everything wrong with its form; the list is never empty.
    pub fn parse_all(value: &Value) -> Result<Policy, Vec<ParseError>> {
        let mut reader = Reader::default();
        let policy = reader.policy(value);
        if reader.errors.is_empty() {
            Ok(policy)
        } else {
            Err(reader.errors)
        }
    }

    /// Reads a policy from JSON text. Errors also when the text is not exactly one JSON document.
    pub fn parse_json(text: &str) -> Result<Policy, ParseError> {
        let value: Value = serde_json::from_str(text).map_err(|error| ParseError {
            place: "policy".into(),
            problem: format!("not JSON ({error})"),
            hint: "give one JSON document, a map or a list of maps".into(),
        })?;
        Self::parse(&value)
    }
}

#[derive(Default)]
struct Reader {
    errors: Vec<ParseError>,
}

impl Reader {
    fn error(&mut self, place: impl Display, problem: impl Into<String>, hint: impl Into<String>) {
        self.errors.push(ParseError {
            place: place.to_string(),
            problem: format!("{PREFIX}{}", problem.into()),
            hint: hint.into(),
        });
    }

    fn policy(&mut self, value: &Value) -> Policy {
        let mut rules = Vec::new();
        match value {
            Value::Object(object) => self.rules(None, object, &mut rules),
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    match item {
                        Value::Object(object) => self.rules(Some(index), object, &mut rules),
                        other => self.error(
                            of_rule(Some(index)),
                            format!("{} cannot be a rule", kind(other)),
                            "a rule is a map such as `allow: {or: [email: user@example.com]}`",
                        ),
                    }
                }
            }
            other => self.error(
                "policy",
                format!("{} cannot be a policy", kind(other)),
                "a policy is a map or a list of maps with the keys `allow` and `deny`",
            ),
        }
        Policy { rules }
    }

    fn rules(&mut self, rule: Option<usize>, object: &Map<String, Value>, rules: &mut Vec<Rule>) {
        for key in object
            .keys()
            .filter(|key| !matches!(key.as_str(), "allow" | "deny"))
        {
            self.error(
                of_rule(rule),
                format!("unsupported action: {key}"),
                action_hint(key),
            );
        }
        for action in [Action::Allow, Action::Deny] {
            let Some(body) = object.get(action.as_str()) else {
                continue;
            };
            match body {
                Value::Object(body) => {
                    let groups = self.groups((rule, action), body);
                    rules.push(Rule { action, groups });
                }
                other => self.error(
                    format_args!("{}.{action}", of_rule(rule)),
                    format!("{} cannot be the body of a rule", kind(other)),
                    format!("write `{action}: {{or: [...]}}` with `and`, `or`, `not` or `nor`"),
                ),
            }
        }
    }

    fn groups(&mut self, (rule, action): (Option<usize>, Action), body: &Map<String, Value>) -> Vec<Group> {
        let known =
            |key: &str| key == "action" || Operator::ALL.iter().any(|operator| operator.as_str() == key);
        for key in body.keys().filter(|key| !known(key)) {
            let place = format!("{}.{action}", of_rule(rule));
            self.error(
                place,
                format!("unsupported conditional \"{key}\""),
                operator_hint(key),
            );
        }
        let mut groups = Vec::new();
        for operator in Operator::ALL {
            let Some(value) = body.get(operator.as_str()) else {
                continue;
            };
            let place = Place::group(rule, action, operator);
            let Value::Array(items) = value else {
                self.error(
                    &place,
                    format!("{} cannot stand under `{operator}`", kind(value)),
                    "an operator takes a list of criteria, each a map with one key",
                );
                continue;
            };
            let criteria = self.criteria(&place, items);
            if !criteria.is_empty() {
                groups.push(Group {
                    operator,
                    criteria,
                    place,
                });
            }
        }
        groups
    }

    fn criteria(&mut self, group: &Place, items: &[Value]) -> Vec<Criterion> {
        let mut criteria = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let place = group.criterion(index);
            match item {
                Value::Object(object) if object.len() == 1 => {
                    for (key, data) in object {
                        let (name, sub_path) = key.split_once('/').unwrap_or((key, ""));
                        criteria.push(Criterion {
                            name: name.to_owned(),
                            sub_path: sub_path.to_owned(),
                            data: data.clone(),
                            place: place.clone(),
                        });
                    }
                }
                Value::Object(object) => {
                    let problem = format!("a criterion has exactly one key, this one has {}", object.len());
                    self.error(
                        &place,
                        problem,
                        "start a list item of its own (`- name: value`) for each",
                    );
                }
                other => {
                    let problem = format!("{} cannot be a criterion", kind(other));
                    self.error(
                        &place,
                        problem,
                        "a criterion is a map with one key, such as `accept: true`",
                    );
                }
            }
        }
        criteria
    }
}

/// The place of a rule.
fn of_rule(rule: Option<usize>) -> String {
    rule.map_or_else(|| "policy".to_owned(), |index| format!("policy[{index}]"))
}

fn action_hint(key: &str) -> String {
    if ROUTE_SETTINGS.contains(&key) {
        return format!("`{key}` is a key of the route, beside `policy`");
    }
    if let Some(operator) = Operator::ALL.iter().find(|operator| operator.as_str() == key) {
        return format!("put `{operator}` under `allow` or `deny`");
    }
    if let Some(name) = criteria::nearest_name(key.split('/').next().unwrap_or(key)) {
        return format!("if the criterion `{name}` is meant, write `allow: {{or: [{name}: ...]}}`");
    }
    match nearest(key, ["allow", "deny"]) {
        Some(action) => format!("did you mean `{action}`? (lower case)"),
        None => "the actions are `allow` and `deny`".into(),
    }
}

fn operator_hint(key: &str) -> String {
    if let Some(operator) = nearest(key, Operator::ALL.iter().map(|operator| operator.as_str())) {
        return format!("did you mean `{operator}`? (lower case)");
    }
    if let Some(name) = criteria::nearest_name(key.split('/').next().unwrap_or(key)) {
        return format!("criteria stand in a list under an operator: `or: [{name}: ...]`");
    }
    "the operators are `and`, `or`, `not` and `nor`".into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn error(value: &Value) -> String {
        Policy::parse(value).unwrap_err().to_string()
    }

    #[test]
    fn splits_keys_at_the_first_slash_and_remembers_places() {
        let policy =
            Policy::parse(&json!([{"allow": {"or": [{"claim/a/b.c": 1}], "and": [{"claim/": 2}]}}])).unwrap();
        let groups = &policy.rules[0].groups;
        assert_eq!(
            (groups[0].operator, groups[1].operator),
            (Operator::And, Operator::Or)
        );
        assert_eq!(groups[0].criteria[0].key(), "claim");
        assert_eq!(groups[1].criteria[0].sub_path, "a/b.c");
        assert_eq!(groups[1].criteria[0].place.to_string(), "policy[0].allow.or[0]");
        assert_eq!(groups[1].place.to_string(), "policy[0].allow.or");
    }

    #[test]
    fn every_error_is_told_with_its_place() {
        let value = json!([{"allow": {"or": ["accept", {}], "xor": []}}, 3, {"permit": {}}]);
        let errors = Policy::parse_all(&value).unwrap_err();
        let places: Vec<_> = errors.iter().map(|error| error.place.as_str()).collect();
        assert_eq!(
            places,
            [
                "policy[0].allow",
                "policy[0].allow.or[0]",
                "policy[0].allow.or[1]",
                "policy[1]",
                "policy[2]"
            ]
        );
    }

    #[test]
    fn errors_name_the_likely_intention() {
        assert_eq!(
            error(&json!({"allowed_users": ["user@example.com"]})),
            "policy: invalid rules in policy: unsupported action: allowed_users: `allowed_users` is a key of the route, \
             beside `policy`"
        );
        assert!(error(&json!({"allow": {"maybe": []}})).starts_with(
            "policy.allow: invalid rules in policy: unsupported conditional \"maybe\": the operators are "
        ));
        assert!(error(&json!({"Allow": {}})).ends_with("did you mean `allow`? (lower case)"));
        assert!(error(&json!({"or": []})).ends_with("put `or` under `allow` or `deny`"));
        assert!(error(&json!({"email": "x"})).contains("the criterion `email`"));
        assert!(error(&json!({"allow": {"domain": "x"}})).contains("`or: [domain: ...]`"));
        assert!(error(&json!({"allow": {"AND": []}})).contains("did you mean `and`"));
        assert!(error(&json!({"allow": {"or": {"accept": true}}})).contains("takes a list"));
        assert!(error(&json!({"allow": {"or": [{"accept": 1, "reject": 1}]}})).contains("has 2"));
    }

    #[test]
    fn text_must_be_one_document() {
        assert!(Policy::parse_json("").is_err());
        assert!(Policy::parse_json("{} {}").is_err());
        assert_eq!(Policy::parse_json("[]").unwrap(), Policy::default());
    }
}
