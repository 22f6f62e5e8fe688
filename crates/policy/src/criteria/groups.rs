//! Groups of a person, by id, name or e-mail.

use super::list::ListMatcher;
use super::read;
use crate::compile::CompileError;
use crate::input::{Group, GroupSource, Subject};
use crate::ppl::Criterion;

/// What groups are compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GroupField {
    Id,
    Name,
    Email,
}

/// Compiled conditions on groups.
#[derive(Debug)]
pub(crate) struct GroupsMatcher {
    field: GroupField,
    list: ListMatcher,
}

impl GroupsMatcher {
    pub(super) fn read(criterion: &Criterion) -> Result<Self, CompileError> {
        let field = match criterion.sub_path.as_str() {
            "" | "id" => GroupField::Id,
            "name" => GroupField::Name,
            "email" => GroupField::Email,
            _ => {
                return Err(CompileError::UnknownCriterion {
                    place: criterion.place.to_string(),
                    name: criterion.key(),
                    hint: "groups are compared by id (`groups`), `groups/name` or `groups/email`".into(),
                });
            }
        };
        let list = read::list(criterion)?;
        Ok(Self { field, list })
    }

    /// Somebody of whom no groups are known meets no condition, not even a negated one.
    pub(super) fn matches(&self, subject: &Subject) -> bool {
        subject.groups.source != GroupSource::Unknown
            && self
                .list
                .matches_texts(&subject.groups.all, |group| self.field.of(group))
    }

    pub(super) fn values<'s>(&self, subject: &'s Subject) -> Vec<&'s str> {
        let all = subject.groups.all.iter();
        all.map(|group| self.field.of(group)).collect()
    }
}

impl GroupField {
    fn of(self, group: &Group) -> &str {
        match self {
            GroupField::Id => &group.id,
            GroupField::Name => &group.name,
            GroupField::Email => &group.email,
        }
    }
}
