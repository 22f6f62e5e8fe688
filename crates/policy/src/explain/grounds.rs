//! What decided: the rules and the criteria that a log names.

use super::{CriterionTree, GroupTree, Tree};
use crate::program::{Denial, first_of};
use crate::reason::ReasonSet;

impl Tree {
    /// The groups, criteria and scripts that decided: of `deny` when it applies, else of `allow`.
    pub fn grounds(&self) -> Denial {
        let failed = self.scripts.iter().any(|script| script.failure.is_some());
        let (action, denies) = if self.deny.value || failed {
            (&self.deny, true)
        } else {
            (&self.allow, false)
        };
        let wanted = denies || action.value;
        let groups = action.groups.iter().filter(|group| group.value == wanted);
        let deciding = |group: &GroupTree| {
            let inverted = group.operator.inverts();
            let criteria = group.criteria.iter();
            criteria
                .filter(move |criterion| (criterion.holds != inverted) == wanted)
                .map(name)
                .collect::<Vec<_>>()
        };
        let scripts = self.scripts.iter().filter(|script| match (denies, action.value) {
            (true, _) => script.deny || script.failure.is_some(),
            (false, wanted) => script.allow == wanted,
        });
        let scripts = scripts.map(|script| format!("Rego policy {}", script.name));
        let mut denial = named(groups.map(|group| (group, deciding(group))));
        denial.criteria = first_of(denial.criteria.into_iter().chain(scripts));
        if denial.rule.is_empty() {
            denial.rule = match (denies, denial.criteria.is_empty()) {
                (true, true) => "every request is denied".into(),
                (false, true) => "no allow rule".into(),
                (_, false) => denial.criteria.join(", "),
            };
        }
        denial
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
