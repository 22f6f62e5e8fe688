//! Failures behind or inside the proxy.

use super::{AGAIN, NOT_YOU, REPORT};
use crate::problem::Problem;

/// Failures behind or inside the proxy.
impl Problem {
    /// The application did not answer or its connection broke.
    pub fn upstream_down(details: &'static str, flag: &'static str) -> Self {
        Self::new(
            503,
            "application-down",
            "The application is not answering",
            "The application at this address did not answer. The proxy in front of it is working.",
        )
        .with_reason("Service Unavailable")
        .whose(NOT_YOU)
        .next(AGAIN)
        .operator(match flag {
            "UF" => "The proxy could not connect. Is the program at the route's `to` running, is its port right, and does its certificate hold?",
            "UC" | "UR" => "The connection was closed before there was an answer. The log of the application says why.",
            "UH" => "No destination of the route can be used: its name has no address, or every one failed its health checks.",
            _ => "",
        })
        .local(flag, details)
        .later(5)
    }

    /// The application took too long.
    pub fn upstream_timeout(details: &'static str, flag: &'static str) -> Self {
        Self::new(
            504,
            "application-slow",
            "The application is taking too long",
            "The application was reached, but it did not answer in time.",
        )
        .with_reason("Gateway Timeout")
        .whose(NOT_YOU)
        .next(AGAIN)
        .operator("If this address may take longer, raise `timeout` (the whole answer) or `idle_timeout` (pauses in it) of the route; 0 is off.")
        .local(flag, details)
    }

    /// More requests than the route's rate limit lets through; `wait` seconds until the next one is.
    pub fn too_many_requests(wait: u32) -> Self {
        let mut problem = Self::new(
            429,
            "too-many-requests",
            "Too many requests at once",
            "More requests came from you than this application takes.",
        )
        .with_reason("Too Many Requests")
        .whose("Its owner has set a limit.")
        .next("Wait a moment, then try again.")
        .local("RL", "local_rate_limited");
        problem.retry_after = Some(wait);
        problem
    }

    /// The application sent something that is no answer.
    pub fn upstream_broken(details: &'static str) -> Self {
        Self::new(
            502,
            "application-broken",
            "The application's answer cannot be read",
            "The application answered with something that is not a valid reply.",
        )
        .with_reason("Bad Gateway")
        .whose(NOT_YOU)
        .next(REPORT)
        .operator(
            "Does the application speak the protocol of the route's `to` (http, https, h2c) at this port?",
        )
        .local("UPE", details)
    }

    /// The application acts in the name of people, and this one has no name that may be used.
    pub fn nobody_to_act_as() -> Self {
        let what = "This application acts in the name of the person who asks, and your account has none that it may use.";
        Self::new(403, "nobody-to-act-as", "You may not open this", what)
            .with_reason("Forbidden")
            .whose("Your administrator decides which accounts may use it.")
            .next(REPORT)
            .operator("The route goes to a Kubernetes API server, and the person has neither e-mail nor user id, or one that begins with `system:`.")
            .local("", "nobody_to_act_as")
    }

    /// Somebody would have to sign in, at a host whose name anybody could own.
    pub fn no_sign_in_here() -> Self {
        let what =
            "You would have to sign in here, and this address is not one that people are sent back to.";
        Self::new(403, "no-sign-in-here", "You cannot sign in at this address", what)
            .with_reason("Forbidden")
            .whose("Your administrator decides which addresses this application has.")
            .next(REPORT)
            .operator("The host is known by a pattern only that fits names which anybody can register, such as `*` or `app.*`. Give the route a `from` that ends in a domain of yours.")
            .local("", "no_sign_in_here")
    }

    /// There is no token to show the application.
    pub fn no_upstream_token() -> Self {
        Self::new(
            503,
            "application-credentials",
            "The application cannot be reached",
            "The proxy has no credentials for the application at this address.",
        )
        .with_reason("Service Unavailable")
        .whose(NOT_YOU)
        .next(AGAIN)
        .operator("`kubernetes_service_account_token_file` of the route cannot be read; the log says why.")
        .local("", "no_upstream_token")
        .later(5)
    }

    /// Too much at once for the application.
    pub fn upstream_overloaded() -> Self {
        Self::new(
            503,
            "application-busy",
            "The application is busy",
            "It is serving as many requests as it is allowed to.",
        )
        .with_reason("Service Unavailable")
        .whose(NOT_YOU)
        .next("Try again in a moment.")
        .operator("A limit of `circuit_breaker_thresholds` is reached; the metrics say which.")
        .local("UO", "upstream_reset_before_response_started{overflow}")
        .later(1)
    }

    /// Access could not be decided: no answer is a no.
    pub fn undecided() -> Self {
        Self::new(
            503,
            "access-unknown",
            "Access cannot be checked right now",
            "It could not be found out who may open this, so nobody is let in.",
        )
        .with_reason("Service Unavailable")
        .whose(NOT_YOU)
        .next(AGAIN)
        .decision()
        .later(5)
    }

    /// A fault of ours.
    pub fn internal() -> Self {
        Self::new(
            500,
            "internal",
            "Something went wrong here",
            "The fault is ours, and it has been written down.",
        )
        .next(REPORT)
    }
}
