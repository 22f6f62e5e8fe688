//! Step-up: a policy asks for a fresher or stronger sign-in than the one that is there (RFC 9470).
//!
//! The demand travels inside a signed link to `/.pomerium/sign_in` and from there inside the sealed login state, so
//! that nobody on the way can weaken it. What came back is compared with it by the ID token of that very sign-in. A
//! provider that let the browser through as it was is asked once more, to have the person sign in whatever session
//! it has; after that a page says what is missing. Whether it is enough is judged by the policy in the end: a link
//! without a demand, or with a lesser one, gains nobody anything.

use jiff::{SignedDuration, Timestamp};
use pomerium_api::pb::session::Session;
use pomerium_authorize::authentication;
use pomerium_identity::claims::flatten_claims;
use pomerium_identity::{IdToken, StepUp};
use pomerium_policy::{Authentication, Demand, Unmet};

use super::rounds;
use crate::Error;
use crate::call::Call;
use crate::links::{ACR_VALUES, AMR, MAX_AGE};

/// How far the clock of a provider may be off, and how long the way back from it may take.
const LEEWAY: SignedDuration = SignedDuration::from_secs(60);
/// Classes and methods that a link may name.
const MOST: usize = 32;
/// Times the provider is asked for one step-up.
pub(crate) const TRIES: u8 = 2;

/// A demand on its way through one login.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Wanted {
    /// What is asked for.
    #[serde(rename = "d")]
    pub demand: Demand,
    /// Which try this is, from 0. From the second on the person must sign in anew.
    #[serde(rename = "t")]
    pub try_number: u8,
}

impl Wanted {
    /// The first try.
    pub(crate) fn first(demand: &Demand) -> Self {
        Self {
            demand: demand.clone(),
            try_number: 0,
        }
    }

    /// What the provider is asked for.
    pub(crate) fn of_provider(&self) -> StepUp<'_> {
        StepUp {
            max_age: self.demand.max_age,
            acr: &self.demand.acr,
            login: self.try_number > 0,
        }
    }
}

/// A sign-in that is not what was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotEnough {
    /// What was asked for.
    pub demand: Demand,
    /// What it lacks; everything when the provider said at once that it cannot do it.
    pub unmet: Unmet,
    /// Whether the provider said when the person signed in.
    pub tells_time: bool,
}

impl NotEnough {
    /// The provider said that it cannot do it.
    pub(crate) fn refused(demand: &Demand) -> Self {
        Self {
            demand: demand.clone(),
            unmet: Unmet {
                age: demand.max_age.is_some(),
                acr: !demand.acr.is_empty(),
                amr: !demand.amr.is_empty(),
            },
            tells_time: true,
        }
    }

    /// What is missing, in a sentence each.
    pub fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        if self.unmet.age {
            let age = age(self.demand.max_age.unwrap_or_default());
            missing.push(match self.tells_time {
                true => format!("a sign-in no older than {age}"),
                false => format!(
                    "a sign-in no older than {age} (your sign-in provider does not say when you signed in)"
                ),
            });
        }
        if self.unmet.acr {
            missing.push(format!("a sign-in of the class {}", self.demand.acr.join(" or ")));
        }
        if self.unmet.amr {
            missing.push(format!("a sign-in with {}", self.demand.amr.join(" and ")));
        }
        missing
    }
}

fn age(seconds: u64) -> String {
    match seconds {
        s if s >= 3600 && s.is_multiple_of(3600) => format!("{} h", s / 3600),
        s if s >= 60 && s.is_multiple_of(60) => format!("{} min", s / 60),
        s => format!("{s} s"),
    }
}

/// The demand of a link whose signature was checked.
pub(crate) fn demand_of(call: &Call) -> Result<Option<Demand>, Error> {
    let list = |name| -> Result<Vec<String>, Error> {
        let items: Vec<String> = call
            .single(name)?
            .unwrap_or_default()
            .split(' ')
            .filter(|item| !item.is_empty())
            .map(str::to_owned)
            .collect();
        match items.len() > MOST {
            true => Err(Error::BadRequest("the link asks for too much at once")),
            false => Ok(items),
        }
    };
    let max_age = call
        .single(MAX_AGE)?
        .map(|text| {
            text.parse()
                .map_err(|_| Error::BadRequest("an age cannot be read"))
        })
        .transpose()?;
    let demand = Demand {
        max_age,
        acr: list(ACR_VALUES)?,
        amr: list(AMR)?,
    };
    Ok((!demand.is_empty()).then_some(demand))
}

/// Whether a session that is there does for a link. `round`: the link comes straight from a login, which was
/// compared with the demand; then the time of the way here does not count.
pub(crate) fn does(session: &Session, demand: &Demand, round: u8, now: Timestamp) -> bool {
    let leeway = match round {
        0 => SignedDuration::ZERO,
        _ => SignedDuration::from_secs(rounds::WINDOW).saturating_add(LEEWAY),
    };
    !demand.unmet(&authentication(session), now, leeway).any()
}

/// Compares a new sign-in with what was asked for.
pub(crate) fn check(token: &IdToken, demand: &Demand, now: Timestamp) -> Result<(), NotEnough> {
    let how = said_by(token);
    let unmet = demand.unmet(&how, now, LEEWAY);
    match unmet.any() {
        false => Ok(()),
        true => Err(NotEnough {
            demand: demand.clone(),
            unmet,
            tells_time: how.at.is_some(),
        }),
    }
}

/// Of the ID token alone: user info is no proof of a sign-in.
fn said_by(token: &IdToken) -> Authentication {
    authentication(&Session {
        claims: flatten_claims(&token.claims),
        ..Session::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said_in_words() {
        let demand = Demand {
            max_age: Some(300),
            acr: vec!["gold".into(), "silver".into()],
            amr: vec!["pwd".into(), "otp".into()],
        };
        let all = NotEnough::refused(&demand).missing();
        assert_eq!(
            all,
            [
                "a sign-in no older than 5 min",
                "a sign-in of the class gold or silver",
                "a sign-in with pwd and otp"
            ]
        );
        let silent = NotEnough {
            unmet: Unmet {
                age: true,
                ..Unmet::default()
            },
            tells_time: false,
            demand,
        };
        assert!(silent.missing()[0].contains("does not say when"));
        assert_eq!((age(7200), age(90)), ("2 h".to_owned(), "90 s".to_owned()));
    }
}
