//! The compiled policy and its evaluation (spec policy.md 2).

mod join;

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use serde_json::Value;

use crate::criteria::{ANY_DEVICE, Test};
use crate::input::Input;
use crate::ppl::{Action, Operator, Place};
use crate::reason::{Reason, ReasonSet};
use crate::rego::Script;

/// A compiled policy: rules of the policy language, and scripts beside them. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Program(Arc<Rules>, Option<Arc<[Script]>>);

#[derive(Debug)]
struct Rules {
    allow: Box<[CompiledGroup]>,
    deny: Box<[CompiledGroup]>,
    deny_all: bool,
}

#[derive(Debug)]
pub(crate) struct CompiledGroup {
    pub(crate) operator: Operator,
    pub(crate) checks: Box<[Check]>,
    pub(crate) place: Place,
}

/// A compiled criterion with what is needed to explain it.
#[derive(Debug)]
pub(crate) struct Check {
    pub(crate) test: Test,
    pub(crate) key: Cow<'static, str>,
    /// As written, in JSON: a tree of it takes many times as much. `None` where the test tells it.
    data: Option<Box<str>>,
    pub(crate) place: Place,
}

impl Check {
    /// A criterion of which `data` was written under `key`.
    pub(crate) fn new(test: Test, key: Cow<'static, str>, data: &Value, place: Place) -> Self {
        let told = test.told().is_some_and(|told| told == *data);
        Self {
            test,
            key,
            data: (!told).then(|| data.to_string().into()),
            place,
        }
    }

    /// What was written.
    pub(crate) fn data(&self) -> Value {
        match &self.data {
            Some(data) => serde_json::from_str(data).unwrap_or_default(),
            None => self.test.told().unwrap_or_default(),
        }
    }
}

/// The result of one action.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdict {
    /// Whether the action applies.
    pub value: bool,
    /// Why it does, or why it does not.
    pub reasons: ReasonSet,
    /// Reasons in the words of custom Rego, sorted, each once. Never there without a script.
    pub other: Option<Arc<[Box<str>]>>,
    /// The type of device a script asks for, for the enrolment.
    pub device_type: Option<Arc<str>>,
}

/// The results of both actions. `deny` beats `allow`; what it means for the client is decided by
/// `pomerium-authorize`, because reasons can override both.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Evaluation {
    /// Result of the `allow` rules.
    pub allow: Verdict,
    /// Result of the `deny` rules.
    pub deny: Verdict,
    /// Why there is no result: nobody may be let in, whatever the verdicts say. Only scripts fail.
    pub failure: Option<Arc<str>>,
}

impl Verdict {
    /// A result with reasons of the policy language only.
    pub fn new(value: bool, reasons: impl Into<ReasonSet>) -> Self {
        Self {
            value,
            reasons: reasons.into(),
            other: None,
            device_type: None,
        }
    }

    /// All reasons by name, sorted.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.reasons.iter().map(Reason::as_str).collect();
        if let Some(other) = &self.other {
            names.extend(other.iter().map(AsRef::as_ref));
            names.sort_unstable();
        }
        names
    }
}

/// What stood in the way of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// The place of the `deny` group that holds, or of the `allow` groups that do not.
    pub rule: String,
    /// Place and name of the criteria that decided, at most [`Denial::MOST`].
    pub criteria: Vec<String>,
}

impl Denial {
    /// How many criteria and groups are named before the rest is counted.
    pub const MOST: usize = 8;
}

impl CompiledGroup {
    /// All criteria are judged, because the reasons of every failed one count.
    pub(crate) fn evaluate(&self, input: &Input<'_>) -> Verdict {
        let results = self.checks.iter().map(|check| {
            let (holds, reason) = check.test.run(input);
            (holds, reason.into())
        });
        combine(self.operator, results)
    }
}

impl Program {
    pub(crate) fn new(allow: Vec<CompiledGroup>, deny: Vec<CompiledGroup>) -> Self {
        Self(
            Arc::new(Rules {
                allow: allow.into(),
                deny: deny.into(),
                deny_all: false,
            }),
            None,
        )
    }

    /// The same rules with scripts beside them, instead of those it had.
    #[must_use]
    pub fn with_scripts(self, scripts: Vec<Script>) -> Self {
        Self(self.0, (!scripts.is_empty()).then(|| scripts.into()))
    }

    /// The scripts beside the rules.
    pub fn scripts(&self) -> &[Script] {
        self.1.as_deref().unwrap_or_default()
    }

    /// A program that keeps everybody out: stands in for a policy that cannot be judged.
    pub fn deny_all() -> Self {
        static DENY_ALL: LazyLock<Program> = LazyLock::new(|| {
            Program(
                Arc::new(Rules {
                    allow: Box::default(),
                    deny: Box::default(),
                    deny_all: true,
                }),
                None,
            )
        });
        DENY_ALL.clone()
    }

    /// Judges one request. Does not allocate, except for scripts.
    pub fn evaluate(&self, input: &Input<'_>) -> Evaluation {
        if self.0.deny_all {
            return Evaluation {
                deny: Verdict::new(true, Reason::Reject),
                ..Evaluation::default()
            };
        }
        let evaluation = Evaluation {
            allow: merge(&self.0.allow, input),
            deny: merge(&self.0.deny, input),
            failure: None,
        };
        match &self.1 {
            None => evaluation,
            Some(scripts) => join::with_scripts(evaluation, scripts, input),
        }
    }

    /// What stands in the way of a request that is not let in, for the log. Evaluates again.
    pub fn denial(&self, input: &Input<'_>) -> Denial {
        if self.0.deny_all {
            return Denial {
                rule: "every request is denied".into(),
                criteria: Vec::new(),
            };
        }
        let denying: Vec<_> = self
            .0
            .deny
            .iter()
            .filter(|group| group.evaluate(input).value)
            .collect();
        let scripts = join::stand_in_the_way(self.scripts(), input, !denying.is_empty());
        let (groups, wanted) = if scripts.deny {
            (denying, true)
        } else {
            (self.0.allow.iter().collect(), false)
        };
        if groups.is_empty() && scripts.names.is_empty() {
            return Denial {
                rule: "no allow rule".into(),
                criteria: Vec::new(),
            };
        }
        let criteria = groups.iter().flat_map(|group| group.deciding(input, wanted));
        Denial {
            rule: first_of(
                groups
                    .iter()
                    .map(|group| group.place.to_string())
                    .chain(scripts.names),
            )
            .join(", "),
            criteria: first_of(criteria.map(|check| format!("{} {}", check.place, check.key))),
        }
    }

    /// The key of every criterion, and the claim that it looks at if there is one.
    pub fn criteria(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let groups = self.0.allow.iter().chain(&self.0.deny);
        groups
            .flat_map(|group| &group.checks)
            .map(|check| (&*check.key, check.test.claim()))
    }

    /// The type of device to ask for when the decision is to ask for one, taken from the criteria whose result
    /// decided: of `allow`, else of `deny`, else `any`. Of several types the one that sorts last. Types that the
    /// session has shown already are passed over: asking for them again would lead nowhere. Evaluates again.
    pub fn device_type(&self, input: &Input<'_>) -> &str {
        [&self.0.allow, &self.0.deny]
            .into_iter()
            .find_map(|groups| missing_device(groups, input))
            .unwrap_or(ANY_DEVICE)
    }

    /// The type of device that the rules name, whatever the request: of `allow`, else of `deny`, else `any`.
    pub fn named_device_type(&self) -> &str {
        [&self.0.allow, &self.0.deny]
            .into_iter()
            .find_map(|groups| {
                let checks = groups.iter().flat_map(|group| &group.checks);
                checks.filter_map(|check| check.test.wanted_device()).max()
            })
            .unwrap_or(ANY_DEVICE)
    }

    /// Whether any criterion asks who somebody is. Without one, nobody is ever sent to sign in because of this policy.
    pub fn needs_identity(&self) -> bool {
        let mut groups = self.0.allow.iter().chain(&self.0.deny);
        self.scripts().iter().any(Script::needs_identity)
            || groups.any(|group| group.checks.iter().any(|check| check.test.needs_identity()))
    }

    /// Whether any criterion looks at the client certificate. Without one, nothing has to be verified.
    pub fn needs_certificate(&self) -> bool {
        let mut groups = self.0.allow.iter().chain(&self.0.deny);
        self.scripts().iter().any(Script::needs_certificate)
            || groups.any(|group| group.checks.iter().any(|check| check.test.needs_certificate()))
    }

    /// Whether there is no rule at all: nobody is let in, most likely because one was forgotten.
    pub fn is_empty(&self) -> bool {
        !self.0.deny_all && self.0.allow.is_empty() && self.0.deny.is_empty() && self.scripts().is_empty()
    }

    pub(crate) fn groups(&self, action: Action) -> &[CompiledGroup] {
        match action {
            Action::Allow => &self.0.allow,
            Action::Deny => &self.0.deny,
        }
    }
}

impl CompiledGroup {
    /// The criteria whose results, after inversion, are `wanted`.
    fn deciding<'p>(&'p self, input: &Input<'_>, wanted: bool) -> impl Iterator<Item = &'p Check> {
        let inverted = self.operator.inverts();
        self.checks
            .iter()
            .filter(move |check| (check.test.run(input).0 != inverted) == wanted)
    }
}

impl Operator {
    /// Whether each criterion is turned round before the results are combined.
    pub(crate) fn inverts(self) -> bool {
        matches!(self, Operator::Not | Operator::Nor)
    }
}

/// The first few, and a word about the rest.
pub(crate) fn first_of(items: impl Iterator<Item = String>) -> Vec<String> {
    let mut items: Vec<String> = items.collect();
    let more = items.len().saturating_sub(Denial::MOST);
    items.truncate(Denial::MOST);
    if more > 0 {
        items.push(format!("and {more} more"));
    }
    items
}

/// The device type that is not there, among the criteria whose results count.
fn missing_device<'p>(groups: &'p [CompiledGroup], input: &Input<'_>) -> Option<&'p str> {
    let whole = merge(groups, input).value;
    let deciding = groups.iter().filter(|group| group.evaluate(input).value == whole);
    let missing = deciding
        .flat_map(|group| group.deciding(input, whole))
        .filter(|check| check.test.run(input).1 == Reason::DeviceUnauthenticated);
    missing.filter_map(|check| check.test.wanted_device()).max()
}

/// The groups of one action are alternatives. Without groups: false, without reasons.
fn merge(groups: &[CompiledGroup], input: &Input<'_>) -> Verdict {
    combine(
        Operator::Or,
        groups.iter().map(|group| {
            let verdict = group.evaluate(input);
            (verdict.value, verdict.reasons)
        }),
    )
}

/// Combines results. The reasons kept are those of the results that have the value of the whole; turning a
/// result round does not rename its reasons (spec policy.md 2).
fn combine(operator: Operator, results: impl Iterator<Item = (bool, ReasonSet)>) -> Verdict {
    let inverted = operator.inverts();
    let [mut holding, mut failing] = [ReasonSet::EMPTY; 2];
    let [mut any_holds, mut any_fails] = [false; 2];
    for (value, reasons) in results {
        if value == inverted {
            any_fails = true;
            failing = failing.union(reasons);
        } else {
            any_holds = true;
            holding = holding.union(reasons);
        }
    }
    let value = match operator {
        Operator::And | Operator::Not => !any_fails,
        Operator::Or | Operator::Nor => any_holds,
    };
    Verdict::new(value, if value { holding } else { failing })
}
