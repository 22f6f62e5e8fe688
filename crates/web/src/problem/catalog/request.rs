//! Requests that are not served as they are.

use crate::canonical::Refusal;
use crate::problem::Problem;

/// Requests that are not served as they are.
impl Problem {
    /// The connection was opened for another host, which asks for other client certificates (421). Browsers
    /// open a new one by themselves.
    pub fn misdirected(host: &str) -> Self {
        let what = format!(
            "This connection was opened for another address, and {host} asks devices for something else."
        );
        Self::new(421, "wrong-connection", "Please load this page again", what)
            .with_reason("Misdirected Request")
            .next("Load the page again. A program that keeps connections has to open one for this address.")
            .local("", "misdirected_request")
    }

    /// No route for this host and path.
    pub fn not_found(host: &str) -> Self {
        let what = format!("There is nothing at this address on {host}.");
        Self::new(404, "not-found", "Nothing here", what)
            .with_reason("Not Found")
            .next("Check the address. If a link brought you here, tell whoever made it.")
            .local("NR", "route_not_found")
    }

    /// A path below `/.pomerium/` that no page of ours has.
    pub fn route_unknown(host: &str) -> Self {
        Self::not_found(host)
            .with_reason(format!("{host} route unknown"))
            .handler()
    }

    /// The request could be read in two ways or breaks a limit.
    pub fn refused(refusal: &Refusal) -> Self {
        let (code, title) = match refusal.status {
            426 => ("old-http", "This client is too old"),
            431 => ("headers-too-large", "The request is too large"),
            _ => ("bad-request", "This request cannot be read safely"),
        };
        let problem = Self::new(
            refusal.status,
            code,
            title,
            format!("The proxy refused it: {}.", refusal.detail),
        );
        let problem = if refusal.status == 431 {
            problem.next("Delete the cookies of this site in your browser and try again.")
        } else {
            problem.next("Check the address. If a program sent this, its request has to change.")
        };
        problem.handler()
    }

    /// The body is larger than a policy or the proxy reads.
    pub fn body_too_large() -> Self {
        Self::new(
            413,
            "body-too-large",
            "This is too large to send",
            "The request is larger than is accepted here.",
        )
        .next("Send less at once.")
        .local("DPE", "request_payload_too_large")
    }

    /// The request did not arrive in time.
    pub fn request_timeout() -> Self {
        Self::new(
            408,
            "request-timeout",
            "The request took too long",
            "It did not arrive completely in time.",
        )
        .next("Check your connection and try again.")
        .local("DT", "request_overall_timeout")
    }

    /// An upgrade the route does not allow.
    pub fn upgrade_refused() -> Self {
        let what = "This application is not set up for live connections of this kind.";
        Self::new(403, "upgrade-not-allowed", "This connection is not allowed", what)
            .with_reason("Forbidden")
            .whose("The administrator decides which kinds are allowed.")
            .local("", "upgrade_failed")
    }

    /// A method that a page of ours does not take.
    pub fn method_not_allowed() -> Self {
        Self::new(
            405,
            "method-not-allowed",
            "Not like this",
            "This address does not take requests of this kind.",
        )
    }

    /// A form that another site made the browser send, or that was open too long.
    pub fn forged_form() -> Self {
        let what = "This form was not sent from our page, or it was open for too long.";
        Self::new(400, "form-expired", "Please send it again", what)
            .next("Go back, load the page again and repeat what you did.")
    }
}
