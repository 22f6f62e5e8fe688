//! A policy as alternatives: each is a list of conditions that hold together, and one alternative is enough. `or` and
//! `nor` make one of each criterion, `and` and `not` one of all.

use super::compare::{Condition, Truth};
use super::{Lint, Warning, warn};
use crate::ppl::{Action, Operator, Place, Policy};

/// How many pairs of alternatives are compared before it is left.
const MOST_PAIRS: usize = 2_000_000;

/// One way in, or out.
struct Alternative<'a> {
    place: &'a Place,
    conditions: Vec<Condition<'a>>,
}

impl<'a> Alternative<'a> {
    /// Whether it can never hold; why not.
    fn impossible(&self) -> Option<String> {
        if let Some(never) = self
            .conditions
            .iter()
            .find(|condition| condition.truth() == Truth::Never)
        {
            return Some(format!("{never} never holds"));
        }
        for (index, one) in self.conditions.iter().enumerate() {
            for other in &self.conditions[index + 1..] {
                if one.excludes(other) {
                    return Some(format!("{one} and {other} never hold together"));
                }
            }
        }
        None
    }

    /// Whether it holds for everybody and everything.
    fn always(&self) -> bool {
        self.conditions
            .iter()
            .all(|condition| condition.truth() == Truth::Always)
    }

    /// Whether it holds wherever `other` does.
    fn covers(&self, other: &Self) -> bool {
        self.conditions.iter().all(|weaker| {
            weaker.truth() == Truth::Always
                || other.conditions.iter().any(|stronger| stronger.implies(weaker))
        })
    }
}

/// The alternatives of an action, in the order of the policy.
fn of(policy: &Policy, action: Action) -> Vec<Alternative<'_>> {
    let mut all = Vec::new();
    let rules = policy.rules.iter().filter(|rule| rule.action == action);
    for group in rules.flat_map(|rule| &rule.groups) {
        let negated = group.operator.inverts();
        let conditions = group
            .criteria
            .iter()
            .map(|criterion| Condition { criterion, negated });
        match group.operator {
            Operator::And | Operator::Not => all.push(Alternative {
                place: &group.place,
                conditions: conditions.collect(),
            }),
            Operator::Or | Operator::Nor => all.extend(conditions.map(|condition| Alternative {
                place: &condition.criterion.place,
                conditions: vec![condition],
            })),
        }
    }
    all
}

/// A criterion that never holds on its own is deliberate: `reject`.
fn is_deliberate(alternative: &Alternative<'_>) -> bool {
    matches!(alternative.conditions.as_slice(), [only] if only.criterion.name == "reject")
}

/// Alternatives that can never hold.
pub(super) fn impossible(policy: &Policy, warnings: &mut Vec<Warning>) {
    for action in [Action::Allow, Action::Deny] {
        for alternative in of(policy, action) {
            if let Some(why) = alternative.impossible().filter(|_| !is_deliberate(&alternative)) {
                let meaning = format!("this never applies: {why}");
                warn(warnings, Lint::Impossible, alternative.place, meaning);
            }
        }
    }
}

/// Alternatives that change nothing, and those that let everybody in.
pub(super) fn compare_all(policy: &Policy, warnings: &mut Vec<Warning>) {
    let possible = |action| -> Vec<Alternative<'_>> {
        let all = of(policy, action).into_iter();
        all.filter(|alternative| alternative.impossible().is_none())
            .collect()
    };
    let (allow, deny) = (possible(Action::Allow), possible(Action::Deny));
    let pairs = allow.len() * (allow.len() + deny.len()) + deny.len() * deny.len();
    if pairs > MOST_PAIRS {
        let meaning = "there are too many criteria to compare each with each: rules that change nothing are not looked for";
        warn(warnings, Lint::TooMany, "policy", meaning);
        return;
    }
    public(&allow, warnings);
    for alternative in &allow {
        if let Some(denial) = deny.iter().find(|denial| denial.covers(alternative)) {
            let meaning = format!(
                "this never lets anybody in: {} keeps out everybody it is for",
                denial.place
            );
            warn(warnings, Lint::Impossible, alternative.place, meaning);
        }
    }
    shadowed(&allow, warnings);
    shadowed(&deny, warnings);
}

/// The switch of a route says it in so many words already.
fn public(allow: &[Alternative<'_>], warnings: &mut Vec<Warning>) {
    let open = allow
        .iter()
        .find(|alternative| alternative.always() && alternative.place.is_in_policy());
    if let Some(open) = open {
        let meaning = "this lets everybody in, without a sign-in; what `deny` says still counts";
        warn(warnings, Lint::Public, open.place, meaning);
    }
}

/// Of two that cover each other the first one stays.
fn shadowed(all: &[Alternative<'_>], warnings: &mut Vec<Warning>) {
    for (index, alternative) in all.iter().enumerate() {
        let cover = all.iter().enumerate().find(|(at, cover)| {
            *at != index && cover.covers(alternative) && (*at < index || !alternative.covers(cover))
        });
        if let Some((_, cover)) = cover {
            let meaning = format!(
                "this changes nothing: {} holds wherever this does; remove one of them",
                cover.place
            );
            warn(warnings, Lint::Shadowed, alternative.place, meaning);
        }
    }
}
