//! Signing in that did not end as it should.

use super::{AGAIN, NOT_YOU};
use crate::problem::Problem;

/// Signing in.
impl Problem {
    /// The browser came back without a session again and again.
    pub fn login_loop() -> Self {
        let what = "You signed in more than once in a row and we still could not recognise you. We stopped here instead of sending you around again.";
        Self::new(400, "sign-in-loop", "Signing in does not stick", what)
            .whose("The address of this application and the one where you sign in may not fit together; that is for your administrator to check.")
            .next("First delete the cookies of this site in your browser and try once more.")
    }

    /// The sign-in is not as recent or strong as the application asks for; `missing` says what it lacks.
    pub fn sign_in_not_enough(missing: &[String]) -> Self {
        let what = match missing {
            [] => "This application asks for a stronger sign-in than the one you made.".to_owned(),
            missing => format!(
                "This application asks for {}, and your sign-in provider did not give us that.",
                missing.join(", and for ")
            ),
        };
        Self::new(403, "sign-in-not-enough", "This sign-in is not enough", what)
            .whose("The owner of the application decides how recent and how strong a sign-in has to be.")
            .next("Try again and use what is asked for. If your provider does not offer it, ask your administrator.")
            .operator("The policy of the route has the criterion `authentication`; compare it with `auth_time`, `acr` and `amr` in the ID tokens of the provider.")
    }

    /// The provider's answer is over already, or not valid yet.
    pub fn provider_clock() -> Self {
        let what = "The time in the answer of your sign-in provider does not fit the time here, so it was not accepted.";
        Self::new(400, "clock-differs", "The clocks do not agree", what)
            .whose("Nothing is wrong with your account.")
            .next("Try again. If it happens again, ask your administrator to check the clock of this server.")
    }

    /// The browser did not send the cookie that the sign-in had set.
    pub fn cookie_missing() -> Self {
        let what = "Your browser did not keep the cookie that holds the sign-in together.";
        Self::new(400, "cookie-missing", "Your browser lost the sign-in", what)
            .whose("A privacy setting, an extension or a private window can cause this; so can signing in on two tabs.")
            .next("Allow cookies for this site, close other sign-in tabs and try again.")
    }

    /// The sign-in took longer than its state lives.
    pub fn sign_in_expired() -> Self {
        Self::new(
            400,
            "sign-in-expired",
            "The sign-in took too long",
            "For your safety a sign-in has to be finished within a few minutes.",
        )
        .next("Start again.")
    }

    /// The provider said no. `said` is its own text.
    pub fn sign_in_refused(said: &str) -> Self {
        let said: String = said
            .chars()
            .filter(|letter| !letter.is_control())
            .take(300)
            .collect();
        let what = if said.is_empty() {
            "Your sign-in provider did not let you in.".to_owned()
        } else {
            format!("Your sign-in provider did not let you in. It says: “{said}”")
        };
        Self::new(401, "sign-in-refused", "You were not signed in", what)
            .whose("The provider decides this, not this proxy.")
            .next("Try again, or ask your administrator.")
    }

    /// The provider's answer did not pass our checks.
    pub fn sign_in_not_accepted() -> Self {
        let what = "Your sign-in provider answered, but its answer did not pass our checks, so nobody was signed in.";
        Self::new(400, "sign-in-not-accepted", "You were not signed in", what)
            .whose("This proxy decides that: it accepts an answer only if it is certain that it is about you and this sign-in.")
            .next("Try again. If it happens again, send your administrator the request number at the foot of this page.")
    }

    /// The provider cannot be reached.
    pub fn provider_down() -> Self {
        Self::new(
            503,
            "provider-down",
            "Signing in is not possible right now",
            "The service where you sign in is not answering.",
        )
        .whose(NOT_YOU)
        .next(AGAIN)
        .later(30)
    }

    /// A link of ours whose signature or date does not hold.
    pub fn bad_link() -> Self {
        Self::new(
            400,
            "link-not-valid",
            "This link no longer works",
            "It was changed on the way or is too old.",
        )
        .next("Go back to the application and start again.")
    }
}
