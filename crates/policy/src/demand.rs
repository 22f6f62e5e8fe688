//! What a policy asks of a sign-in: how recent, how strong. Carried to the identity provider when the one that is
//! there falls short (step-up), and compared with the one that came back.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::criteria::Test;
use crate::input::{Authentication, Input};
use crate::ppl::{Action, Operator};
use crate::program::{Check, CompiledGroup, Program};

/// What a sign-in has to be. The empty one asks for nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demand {
    /// Seconds since the person proved who they are, at most.
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<u64>,
    /// Authentication context classes of which it must be one; any when empty.
    #[serde(rename = "c", default, skip_serializing_if = "Vec::is_empty")]
    pub acr: Vec<String>,
    /// Methods all of which must have been used.
    #[serde(rename = "r", default, skip_serializing_if = "Vec::is_empty")]
    pub amr: Vec<String>,
}

/// Which parts of a demand a sign-in does not meet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unmet {
    /// It is too old, or nobody says how old it is.
    pub age: bool,
    /// Its class is none of those asked for.
    pub acr: bool,
    /// A method is missing.
    pub amr: bool,
}

impl Unmet {
    /// Whether anything is missing.
    pub fn any(self) -> bool {
        self.age || self.acr || self.amr
    }
}

impl Demand {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What `how` lacks at `now`. `leeway` is added to the age that is allowed: for the way here, and for clocks
    /// that differ. A time further ahead than `leeway` and a minute is no time.
    pub fn unmet(&self, how: &Authentication, now: Timestamp, leeway: SignedDuration) -> Unmet {
        let recent = |max_age: u64| {
            let allowed = SignedDuration::from_secs(i64::try_from(max_age).unwrap_or(i64::MAX));
            how.at.is_some_and(|at| {
                let age = now.duration_since(at);
                age <= allowed.saturating_add(leeway) && age >= -SignedDuration::from_secs(60)
            })
        };
        Unmet {
            age: !self.max_age.is_none_or(recent),
            acr: !self.acr.is_empty() && !self.acr.contains(&how.acr),
            amr: !self.amr.iter().all(|method| how.amr.contains(method)),
        }
    }

    /// Both demands as one: the shorter age, the classes that do for both, every method. Classes that exclude each
    /// other cannot be asked for together; those of `self` stay.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.max_age = match (self.max_age, other.max_age) {
            (Some(one), Some(two)) => Some(one.min(two)),
            (one, two) => one.or(two),
        };
        if self.acr.is_empty() {
            self.acr = other.acr;
        } else if !other.acr.is_empty() {
            let both: Vec<String> = self
                .acr
                .iter()
                .filter(|acr| other.acr.contains(acr))
                .cloned()
                .collect();
            if !both.is_empty() {
                self.acr = both;
            }
        }
        for method in other.amr {
            if !self.amr.contains(&method) {
                self.amr.push(method);
            }
        }
        self
    }
}

impl Program {
    /// What a sign-in has to be that falls short now. Evaluates again; for the way of a refused request.
    ///
    /// Everything that a `deny` rule asks for; and what the `allow` rules ask for by the nearest way: that of
    /// alternatives which lacks nothing but the sign-in, else the first that lacks it.
    pub fn demand(&self, input: &Input<'_>) -> Demand {
        let denying = self.groups(Action::Deny).iter().flat_map(|group| &group.checks);
        let denying = denying
            .filter_map(|check| lacking(check, input))
            .fold(Demand::default(), Demand::and);
        let ways = || {
            self.groups(Action::Allow)
                .iter()
                .filter_map(|group| way(group, input))
        };
        let nearest = ways()
            .find(|(_, alone)| *alone)
            .or_else(|| ways().next())
            .map(|(demand, _)| demand);
        denying.and(nearest.unwrap_or_default())
    }
}

/// What a group asks for, and whether that is all it lacks.
fn way(group: &CompiledGroup, input: &Input<'_>) -> Option<(Demand, bool)> {
    let lacking = |check: &Check| lacking(check, input);
    match group.operator {
        // One of them is enough.
        Operator::Or | Operator::Nor => Some((group.checks.iter().find_map(lacking)?, true)),
        Operator::And | Operator::Not => {
            let demand = group.checks.iter().filter_map(lacking).reduce(Demand::and)?;
            let alone = group
                .checks
                .iter()
                .all(|check| lacking(check).is_some() || check.test.run(input).0 != group.operator.inverts());
            Some((demand, alone))
        }
    }
}

/// What a criterion asks for, when it fails for want of it.
fn lacking(check: &Check, input: &Input<'_>) -> Option<Demand> {
    let demand = demand_of(&check.test)?;
    (!check.test.run(input).0).then_some(demand)
}

fn demand_of(test: &Test) -> Option<Demand> {
    match test {
        Test::Authentication(matcher) => Some(matcher.demand().clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(max_age: Option<u64>, acr: &[&str], amr: &[&str]) -> Demand {
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        Demand {
            max_age,
            acr: owned(acr),
            amr: owned(amr),
        }
    }

    fn now() -> Timestamp {
        "2026-03-01T12:00:00Z".parse().unwrap()
    }

    fn how(age: i64, acr: &str, amr: &[&str]) -> Authentication {
        Authentication {
            at: Some(now() - SignedDuration::from_secs(age)),
            acr: acr.into(),
            amr: amr.iter().map(|text| (*text).to_owned()).collect(),
        }
    }

    #[test]
    fn every_part_counts() {
        let wants = demand(Some(300), &["gold", "silver"], &["pwd", "otp"]);
        let unmet = |how: &Authentication| wants.unmet(how, now(), SignedDuration::from_secs(5));
        assert!(!unmet(&how(305, "silver", &["otp", "pwd", "user"])).any());
        assert!(unmet(&how(306, "silver", &["otp", "pwd"])).age);
        assert!(unmet(&how(-61, "silver", &["otp", "pwd"])).age, "from the future");
        assert!(unmet(&how(0, "", &["otp", "pwd"])).acr);
        assert!(unmet(&how(0, "Gold", &["otp", "pwd"])).acr);
        assert!(unmet(&how(0, "gold", &["otp"])).amr);
        let unknown = unmet(&Authentication::default());
        assert!(
            unknown.age && unknown.acr && unknown.amr,
            "what is not known is not met"
        );
        assert!(
            !Demand::default()
                .unmet(&Authentication::default(), now(), SignedDuration::ZERO)
                .any()
        );
    }

    #[test]
    fn together_they_ask_for_the_stricter() {
        let one = demand(Some(300), &["a", "b"], &["pwd"]);
        assert_eq!(
            one.clone().and(demand(Some(60), &["b", "c"], &["otp", "pwd"])),
            demand(Some(60), &["b"], &["pwd", "otp"])
        );
        assert_eq!(one.clone().and(Demand::default()), one);
        assert_eq!(Demand::default().and(one.clone()), one);
        assert_eq!(one.and(demand(None, &["x"], &[])).acr, ["a", "b"]);
    }
}
