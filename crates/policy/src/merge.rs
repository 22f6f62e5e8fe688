//! The rules that route settings imply, joined with the policy of the route (spec config.md 9.4, policy.md 5).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::ppl::{Action, Criterion, Group, Operator, Place, Policy, Rule};

/// The route settings that grant access.
#[derive(Debug, Clone, Default, PartialEq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "three independent switches of a route"
)]
pub struct RouteRules {
    /// `allow_public_unauthenticated_access`
    pub public: bool,
    /// `cors_allow_preflight`
    pub cors_allow_preflight: bool,
    /// `allow_any_authenticated_user`
    pub any_authenticated_user: bool,
    /// `allowed_domains`
    pub allowed_domains: Vec<String>,
    /// `allowed_idp_claims`, nested maps already flattened to dotted names.
    pub allowed_idp_claims: BTreeMap<String, Vec<Value>>,
    /// `allowed_users`: ids or e-mails.
    pub allowed_users: Vec<String>,
    /// `downstream_mtls` with the enforcement that adds a rule to every route: deny without a valid certificate.
    pub client_certificate: bool,
}

/// One `allow.or` from the settings, then the rules of the embedded policy. Without either, the result is
/// an empty `allow`: nobody gets in.
pub fn merge(rules: &RouteRules, embedded: Option<&Policy>) -> Policy {
    let criteria = implied(rules);
    let mut merged = Vec::new();
    if !criteria.is_empty() || embedded.is_none() {
        let groups = if criteria.is_empty() {
            Vec::new()
        } else {
            vec![Group {
                operator: Operator::Or,
                criteria,
                place: Place::setting("route settings", None),
            }]
        };
        merged.push(Rule {
            action: Action::Allow,
            groups,
        });
    }
    merged.extend(
        embedded
            .into_iter()
            .flat_map(|policy| policy.rules.iter().cloned()),
    );
    if rules.client_certificate {
        merged.push(certificate_rule());
    }
    Policy { rules: merged }
}

/// Denies whoever has no valid client certificate.
fn certificate_rule() -> Rule {
    let place = Place::setting("downstream_mtls.enforcement", None);
    Rule {
        action: Action::Deny,
        groups: vec![Group {
            operator: Operator::Or,
            criteria: vec![Criterion {
                name: "invalid_client_certificate".into(),
                sub_path: String::new(),
                data: json!(true),
                place: place.clone(),
            }],
            place,
        }],
    }
}

fn implied(rules: &RouteRules) -> Vec<Criterion> {
    let mut criteria = Vec::new();
    let mut add = |name: &str, sub_path: &str, data: Value, place: Place| {
        criteria.push(Criterion {
            name: name.to_owned(),
            sub_path: sub_path.to_owned(),
            data,
            place,
        });
    };
    if rules.public {
        add(
            "accept",
            "",
            json!(true),
            Place::setting("allow_public_unauthenticated_access", None),
        );
    }
    if rules.cors_allow_preflight {
        let place = Place::setting("cors_allow_preflight", None);
        add("cors_preflight", "", json!(true), place);
    }
    if rules.any_authenticated_user {
        add(
            "authenticated_user",
            "",
            json!(true),
            Place::setting("allow_any_authenticated_user", None),
        );
    }
    for (index, domain) in rules.allowed_domains.iter().enumerate() {
        add(
            "domain",
            "",
            json!({ "is": domain }),
            Place::setting("allowed_domains", Some(index)),
        );
    }
    for (claim, values) in &rules.allowed_idp_claims {
        for (index, value) in values.iter().enumerate() {
            add(
                "claim",
                claim,
                value.clone(),
                Place::setting(format!("allowed_idp_claims.{claim}"), Some(index)),
            );
        }
    }
    for (index, user) in rules.allowed_users.iter().enumerate() {
        let place = Place::setting("allowed_users", Some(index));
        add("user", "", json!({ "is": user }), place.clone());
        add("email", "", json!({ "is": user }), place);
    }
    criteria
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(rules: &RouteRules, embedded: Option<&Policy>) -> Value {
        serde_json::to_value(merge(rules, embedded)).unwrap()
    }

    #[test]
    fn settings_become_one_or_group_in_order() {
        let rules = RouteRules {
            public: true,
            cors_allow_preflight: true,
            any_authenticated_user: true,
            allowed_domains: vec!["example.com".into()],
            allowed_idp_claims: BTreeMap::from([
                ("z".into(), vec![json!(1)]),
                ("a".into(), vec![json!("x"), json!({"is": "y"})]),
            ]),
            allowed_users: vec!["u1".into()],
            ..RouteRules::default()
        };
        assert_eq!(
            printed(&rules, None),
            json!([{"allow": {"or": [
                {"accept": true}, {"cors_preflight": true}, {"authenticated_user": true},
                {"domain": {"is": "example.com"}},
                {"claim/a": "x"}, {"claim/a": {"is": "y"}}, {"claim/z": 1},
                {"user": {"is": "u1"}}, {"email": {"is": "u1"}}
            ]}}])
        );
    }

    #[test]
    fn an_empty_rule_stays_only_when_there_is_nothing_else() {
        let policy = Policy::parse(&json!({"deny": {"or": [{"accept": true}]}})).unwrap();
        assert_eq!(printed(&RouteRules::default(), None), json!([{"allow": {}}]));
        assert_eq!(
            printed(&RouteRules::default(), Some(&policy)),
            json!([{"deny": {"or": [{"accept": true}]}}])
        );
        let guarded = RouteRules {
            client_certificate: true,
            ..RouteRules::default()
        };
        assert_eq!(
            printed(&guarded, None),
            json!([{"allow": {}}, {"deny": {"or": [{"invalid_client_certificate": true}]}}])
        );
        let public = RouteRules {
            public: true,
            ..RouteRules::default()
        };
        assert_eq!(
            printed(&public, Some(&policy))[1],
            json!({"deny": {"or": [{"accept": true}]}})
        );
    }
}
