//! Why a device step does not work, and what a person reads about it.

use http::StatusCode;
use pomerium_crypto::secure_token::TokenError;
use pomerium_web::problem::Problem;

use super::ceremony::CeremonyError;

/// Why a device is not registered, not recognised or not removed.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// A service account has no devices.
    #[error("only a person who is signed in has devices")]
    NoPerson,
    /// An administrator looks through somebody else's eyes.
    #[error("devices cannot be changed while acting as somebody else")]
    Impersonated,
    /// What came is no answer of a browser.
    #[error("the answer of the browser cannot be read")]
    Unreadable,
    /// The challenge is not one of this session, page and type, or too old.
    #[error("challenge: {0}")]
    Challenge(TokenError),
    /// The answer came before.
    #[error("the answer was used already")]
    Used,
    /// The answer does not hold.
    #[error("{0}")]
    Ceremony(#[from] CeremonyError),
    /// The key is none that this person may use for this type.
    #[error("the key is not one of this person's devices of this type")]
    Unknown,
    /// The key belongs to somebody else, now or before.
    #[error("the key belongs to somebody else")]
    Taken,
    /// The same key is being registered at this moment.
    #[error("the key is being registered at this moment")]
    Busy,
    /// The person has as many devices as are kept.
    #[error("the person has too many devices")]
    TooMany,
    /// The link that an administrator made is not for this.
    #[error("enrollment link: {0}")]
    Link(#[from] LinkError),
    /// No algorithm of the type is one that is checked here.
    #[error(
        "device type {0}: none of its pub_key_cred_params can be used (ES256 -7, RS256 -257, ES384 -35 and ES512 -36 can)"
    )]
    Type(String),
}

/// Why an enrollment link is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Not one of ours, or too old.
    #[error("{0}")]
    Token(#[from] TokenError),
    /// The administrator took it back.
    #[error("its enrollment is gone")]
    Gone,
    /// It was made for somebody else.
    #[error("it is for another person")]
    OtherPerson,
    /// It was made for another type.
    #[error("it is for another device type")]
    OtherType,
    /// It is good once.
    #[error("it was used already")]
    Used,
}

impl Refusal {
    /// The status (spec authentication.md 16.4).
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::NoPerson | Self::Impersonated | Self::Unknown | Self::Taken | Self::Link(_) => {
                StatusCode::FORBIDDEN
            }
            Self::Unreadable | Self::Challenge(_) | Self::Used | Self::Ceremony(_) => StatusCode::BAD_REQUEST,
            Self::Busy | Self::TooMany => StatusCode::CONFLICT,
            Self::Type(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// What a person reads. `again` begins anew.
    pub(crate) fn problem(&self, again: Option<String>) -> Problem {
        let status = self.status().as_u16();
        let new = |code, title, what: &'static str| Problem::new(status, code, title, what);
        let again = |problem: Problem| match again {
            Some(url) => problem.retry(url),
            None => problem,
        };
        match self {
            Self::NoPerson => new(
                "device-no-person",
                "Devices belong to people",
                "This session is not one of a person who signed in, so that no device can be registered for it.",
            ),
            Self::Impersonated => new(
                "device-impersonated",
                "Not while you act as somebody else",
                "You are acting as another person. Their devices are theirs to change.",
            )
            .next("Stop acting as them first."),
            Self::Challenge(TokenError::Expired) | Self::Used => again(
                new(
                    "device-too-late",
                    "That took too long",
                    "This page was open for too long, or was sent twice.",
                )
                .next("Begin again; it takes a moment."),
            ),
            Self::Unreadable | Self::Challenge(_) | Self::Ceremony(_) => again(
                new(
                    "device-not-recognised",
                    "This device could not be checked",
                    "What your browser told us about this device does not hold.",
                )
                .whose("Nothing was stored.")
                .next("Try again. If it goes on, try another browser or another device."),
            ),
            Self::Unknown => again(
                new("device-unknown", "We do not know this device", "It is not one of your registered devices.")
                    .next("Try again with a device that you registered, or register this one."),
            ),
            Self::Taken => new(
                "device-taken",
                "This device belongs to another account",
                "Its key was registered for another account, and a key never moves from one account to another.",
            )
            .next("Use another device, or ask your administrator."),
            Self::Busy => again(
                new("device-busy", "Please try again", "This device is being registered at this moment.")
                    .next("Wait a moment, then try again."),
            ),
            Self::TooMany => new(
                "device-too-many",
                "You have too many devices",
                "You have registered as many devices as one account may have.",
            )
            .next("Remove one that you no longer use, then try again.")
            .action("See your devices", "/.pomerium/#devices"),
            Self::Link(error) => link_problem(new, error),
            Self::Type(_) => new(
                "device-type",
                "This kind of device is not set up",
                "What this application asks of devices cannot be done here.",
            )
            .whose("Your administrator sets this up; the log of the proxy says what is wrong."),
        }
    }
}

fn link_problem(
    new: impl Fn(&'static str, &'static str, &'static str) -> Problem,
    error: &LinkError,
) -> Problem {
    let what = match error {
        LinkError::Used => "This link has registered a device already. It is good for one.",
        LinkError::OtherPerson => "This link was made for another person.",
        LinkError::Token(TokenError::Expired) => "This link is too old.",
        LinkError::OtherType | LinkError::Gone | LinkError::Token(_) => {
            "This link is not valid, or was taken back."
        }
    };
    new("device-link", "This link cannot be used", what)
        .whose("Your administrator makes these links.")
        .next("Ask them for a new one.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_says_what_to_do_in_plain_words() {
        let all = [
            Refusal::NoPerson,
            Refusal::Impersonated,
            Refusal::Unreadable,
            Refusal::Challenge(TokenError::Expired),
            Refusal::Challenge(TokenError::Mismatch),
            Refusal::Used,
            Refusal::Ceremony(CeremonyError::OtherOwner),
            Refusal::Unknown,
            Refusal::Taken,
            Refusal::Busy,
            Refusal::TooMany,
            Refusal::Link(LinkError::Used),
            Refusal::Type("x".into()),
        ];
        for refusal in all {
            let problem = refusal.problem(None);
            let text = format!(
                "{} {} {} {}",
                problem.title, problem.what, problem.whose, problem.next
            );
            for jargon in [
                "WebAuthn",
                "FIDO",
                "attestation",
                "credential",
                "challenge",
                "token",
            ] {
                assert!(!text.contains(jargon), "{refusal:?}: {text}");
            }
            assert_eq!(problem.status, refusal.status().as_u16());
        }
    }
}
