//! Where a part of a policy stands, in the words that people are told.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZero;

use super::{Action, Operator};

/// A place in a policy, or the route setting that stands for one. Small: a compiled policy keeps one for each of its
/// parts, and there are thousands of policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// `policy[0].allow.or[1]`
    Policy {
        /// Which rule, counted from 1; `None` where the policy is a single map.
        rule: Option<NonZero<u32>>,
        /// Under which action.
        action: Action,
        /// Under which operator.
        operator: Operator,
        /// Which criterion, counted from 1; `None` is the group.
        criterion: Option<NonZero<u32>>,
    },
    /// `allowed_users[2]`
    Setting(Box<Setting>),
}

/// A setting of a route that implies rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its name, or what all of them are called.
    pub name: Cow<'static, str>,
    /// Which of its items, counted from 0.
    pub item: Option<usize>,
}

impl Place {
    /// The place of a group of criteria; `rule` is counted from 0.
    pub(super) fn group(rule: Option<usize>, action: Action, operator: Operator) -> Self {
        Self::Policy {
            rule: rule.and_then(number),
            action,
            operator,
            criterion: None,
        }
    }

    /// The place of a criterion of this group, counted from 0.
    pub(super) fn criterion(&self, index: usize) -> Self {
        let mut place = self.clone();
        if let Self::Policy { criterion, .. } = &mut place {
            *criterion = number(index);
        }
        place
    }

    /// The place of a setting.
    pub fn setting(name: impl Into<Cow<'static, str>>, item: Option<usize>) -> Self {
        Self::Setting(Box::new(Setting {
            name: name.into(),
            item,
        }))
    }

    /// Whether it stands in a policy, and is no setting.
    pub(super) fn is_in_policy(&self) -> bool {
        matches!(self, Self::Policy { .. })
    }
}

/// Counted from 1.
fn number(index: usize) -> Option<NonZero<u32>> {
    NonZero::new(u32::try_from(index).unwrap_or(u32::MAX).saturating_add(1))
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let item = |f: &mut fmt::Formatter<'_>, number: &Option<NonZero<u32>>| match number {
            Some(number) => write!(f, "[{}]", number.get() - 1),
            None => Ok(()),
        };
        match self {
            Self::Policy {
                rule,
                action,
                operator,
                criterion,
            } => {
                f.write_str("policy")?;
                item(f, rule)?;
                write!(f, ".{action}.{operator}")?;
                item(f, criterion)
            }
            Self::Setting(setting) => {
                f.write_str(&setting.name)?;
                setting.item.map_or(Ok(()), |index| write!(f, "[{index}]"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_read_as_people_write_them() {
        let group = Place::group(Some(0), Action::Allow, Operator::Or);
        assert_eq!(group.to_string(), "policy[0].allow.or");
        assert_eq!(group.criterion(1).to_string(), "policy[0].allow.or[1]");
        let single = Place::group(None, Action::Deny, Operator::Nor);
        assert_eq!(single.criterion(0).to_string(), "policy.deny.nor[0]");
        assert_eq!(
            Place::setting("route settings", None).to_string(),
            "route settings"
        );
        assert_eq!(
            Place::setting("allowed_users", Some(2)).to_string(),
            "allowed_users[2]"
        );
    }
}
