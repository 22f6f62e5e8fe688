//! How recently and how strongly somebody signed in. What falls short leads to a fresh sign-in.

use jiff::SignedDuration;
use serde_json::Value;

use super::read;
use crate::compile::CompileError;
use crate::demand::Demand;
use crate::duration;
use crate::input::Input;
use crate::ppl::Criterion;
use crate::reason::Reason;

/// Compiled conditions on a sign-in; every one that is given must hold.
#[derive(Debug)]
pub(crate) struct AuthenticationMatcher(Demand);

impl AuthenticationMatcher {
    pub(super) fn read(criterion: &Criterion) -> Result<Self, CompileError> {
        read::no_sub_path(criterion)?;
        let mut demand = Demand::default();
        for (key, data) in read::map(criterion, "a map such as `{max_age: 15m}`")? {
            match key.as_str() {
                "max_age" => demand.max_age = Some(max_age(criterion, data)?),
                "acr" => demand.acr = texts(criterion, key, data)?,
                "amr" => demand.amr = texts(criterion, key, data)?,
                _ => return Err(read::unknown_key(criterion, key, &["max_age", "acr", "amr"])),
            }
        }
        if demand.is_empty() {
            return Err(read::incomplete(criterion, "`max_age`, `acr` or `amr`"));
        }
        Ok(Self(demand))
    }

    /// What a sign-in has to be.
    pub(crate) fn demand(&self) -> &Demand {
        &self.0
    }

    pub(super) fn run(&self, input: &Input<'_>) -> (bool, Reason) {
        let Some(subject) = input.subject else {
            return (false, Reason::UserUnauthenticated);
        };
        let unmet = self
            .0
            .unmet(&subject.authentication, input.now, SignedDuration::ZERO);
        if unmet.any() {
            (false, Reason::AuthenticationRequired)
        } else {
            (true, Reason::AuthenticationOk)
        }
    }
}

/// Whole seconds.
fn max_age(criterion: &Criterion, data: &Value) -> Result<u64, CompileError> {
    let text = read::string(criterion, "max_age", data)?;
    let bad = |problem: &str| read::bad_value(criterion, "max_age", text, problem);
    let nanos = duration::parse(text).map_err(|problem| bad(&format!("{problem}: write `15m` or `8h`")))?;
    let seconds = u64::try_from(nanos / 1_000_000_000).unwrap_or(0);
    if seconds == 0 {
        return Err(bad(
            "nothing is that recent: give a second at least, such as `15m`",
        ));
    }
    Ok(seconds)
}

/// One text or several. An empty one would match a sign-in of which nothing is known.
fn texts(criterion: &Criterion, key: &str, data: &Value) -> Result<Vec<String>, CompileError> {
    let texts = read::strings(criterion, key, data)?;
    if texts.is_empty() || texts.iter().any(|text| text.is_empty()) {
        return Err(read::bad_value(
            criterion,
            key,
            "",
            "give at least one value, and no empty one",
        ));
    }
    Ok(texts.into_iter().map(str::to_owned).collect())
}
