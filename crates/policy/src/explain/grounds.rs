//! What decided: the rules and the criteria that a log names.

use super::{CriterionTree, GroupTree, Tree};
use crate::program::{Denial, first_of};
use crate::reason::ReasonSet;

impl Tree {
    /// The groups and criteria that decided: of `deny` when it applies, else of `allow`.
    pub fn grounds(&self) -> Denial {
        let action = if self.deny.value { &self.deny } else { &self.allow };
        if action.groups.is_empty() {
            return Denial {
                rule: "no allow rule".into(),
                criteria: Vec::new(),
            };
        }
        let groups = action.groups.iter().filter(|group| group.value == action.value);
        let deciding = |group: &GroupTree| {
            let inverted = group.operator.inverts();
            let wanted = action.value;
            let criteria = group.criteria.iter();
            criteria
                .filter(move |criterion| (criterion.holds != inverted) == wanted)
                .map(name)
                .collect::<Vec<_>>()
        };
        named(groups.map(|group| (group, deciding(group))))
    }

    /// The groups and criteria that gave one of `reasons`: what sends somebody to the login, for instance.
    pub fn because_of(&self, reasons: ReasonSet) -> Denial {
        let all = self.allow.groups.iter().chain(&self.deny.groups);
        let given = all.filter_map(|group| {
            let criteria = group.criteria.iter();
            let criteria: Vec<_> = criteria
                .filter(|criterion| reasons.contains(criterion.reason))
                .map(name)
                .collect();
            (!criteria.is_empty()).then_some((group, criteria))
        });
        named(given)
    }
}

fn name(criterion: &CriterionTree) -> String {
    format!("{} {}", criterion.place, criterion.criterion)
}

fn named<'a>(groups: impl Iterator<Item = (&'a GroupTree, Vec<String>)>) -> Denial {
    let (places, criteria): (Vec<_>, Vec<_>) = groups
        .map(|(group, criteria)| (group.place.clone(), criteria))
        .unzip();
    Denial {
        rule: first_of(places.into_iter()).join(", "),
        criteria: first_of(criteria.into_iter().flatten()),
    }
}
