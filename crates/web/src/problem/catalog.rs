//! Every refusal and failure we answer with, and its words. Each says what happened, whose decision it is
//! and what to do next; none blames the reader or shows our insides.

use super::Problem;
use crate::canonical::Refusal;

const ASK_OWNER: &str = "Ask the owner of the application or your administrator for access.";
const NOT_YOU: &str = "Nothing is wrong with your device or your account.";
const AGAIN: &str = "Try again in a moment. If it goes on, send your administrator the request number at the foot of this page.";
const REPORT: &str = "If it goes on, send your administrator the request number at the foot of this page.";

/// Decisions about access.
impl Problem {
    /// Signed in, and the policy says no. `switch_url` starts a sign-in as somebody else.
    pub fn not_allowed(signed_in_as: Option<&str>, switch_url: Option<&str>) -> Self {
        let what = match signed_in_as {
            Some(who) => format!("You are signed in as {who}. This application is not open to you."),
            None => "This application is not open to you.".to_owned(),
        };
        let problem = Self::new(403, "not-allowed", "You may not open this", what)
            .whose("The owner of the application decides who may open it.")
            .decision();
        match switch_url {
            Some(url) => problem
                .next("Ask them for access, or sign in as someone else.")
                .action("Sign in as someone else", url),
            None => problem.next(ASK_OWNER),
        }
    }

    /// Nobody is signed in and the client cannot be sent to a page.
    pub fn sign_in_needed(login_url: &str) -> Self {
        let what = "This application is for people who are signed in.";
        let mut problem = Self::new(401, "sign-in-needed", "Please sign in", what)
            .with_reason("Unauthenticated")
            .next("Sign in and you will come back to where you were.")
            .action("Sign in", login_url)
            .decision();
        problem.login_url = Some(login_url.to_owned());
        problem
    }

    /// The session has shown no device, and the client cannot be sent to a page.
    pub fn device_needed(url: &str) -> Self {
        let what = "This application opens on registered devices only.";
        let mut problem = Self::new(401, "device-needed", "Please show your device", what)
            .with_reason("Unauthenticated")
            .next("Register this device, or show one that you registered; you will come back to where you were.")
            .action("Go on", url)
            .decision();
        problem.login_url = Some(url.to_owned());
        problem
    }

    /// Somebody is signed in, but not recently or strongly enough, and the client cannot be sent to a page.
    pub fn step_up_needed(login_url: &str) -> Self {
        let what = "This application asks for a more recent or stronger sign-in than yours.";
        let mut problem = Self::new(401, "step-up-needed", "Please sign in again", what)
            .with_reason("insufficient_user_authentication")
            .next("Sign in again and you will come back to where you were.")
            .action("Sign in again", login_url)
            .decision();
        problem.login_url = Some(login_url.to_owned());
        problem
    }

    /// The credentials that came with the request are not accepted.
    pub fn bad_credentials() -> Self {
        let what = "The token that came with this request is not accepted.";
        Self::new(403, "bad-credentials", "This token is not accepted", what)
            .whose("It has expired, was withdrawn, or is for another service.")
            .next("Get a new one and try again.")
            .decision()
    }

    /// The device does not meet the route's requirements (450). `other_url` is where another one can be shown.
    pub fn device_not_authorized(other_url: &str) -> Self {
        let what =
            "This application opens on approved devices only, and the one you are using is not among them.";
        Self::new(450, "device-not-allowed", "This device may not open this", what)
            .with_reason(
                "your device fails to meet the requirements necessary to access this page, please contact your administrator for assistance",
            )
            .whose("Your administrator decides which devices are accepted.")
            .next("Ask them to approve this device, or use one that is approved.")
            .decision()
            .action("See your devices", "/.pomerium/#devices")
            .action("Use another device", other_url)
    }

    /// A client certificate is missing or not accepted (495).
    pub fn client_certificate() -> Self {
        let what =
            "This application asks for a certificate on your device, and none that it accepts was sent.";
        Self::new(495, "certificate-needed", "Your device needs a certificate", what)
            .with_reason("a valid client certificate is required to access this page")
            .whose("Your administrator hands out these certificates.")
            .next("If you have one, close the browser, open it again and choose the certificate when asked.")
            .decision()
    }
}

/// Requests that are not served as they are.
impl Problem {
    /// A client certificate came and is not accepted (495).
    pub fn client_certificate_refused() -> Self {
        let what = "The certificate that this device sent is not accepted here.";
        Self::new(495, "certificate-refused", "This certificate is not accepted", what)
            .with_reason("a valid client certificate is required to access this page")
            .whose("It has ended, was withdrawn, or was made by somebody this application does not trust.")
            .next("Close the browser, open it again and choose another certificate, or ask your administrator for a new one.")
            .decision()
    }

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
            "The service that knows who is signed in is not answering, so nobody is let in.",
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

impl Problem {
    fn handler(mut self) -> Self {
        self.origin = super::Origin::Handler;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Problem> {
        vec![
            Problem::not_allowed(Some("user@example.com"), Some("https://a.example.com/x")),
            Problem::not_allowed(None, None),
            Problem::sign_in_needed("https://a.example.com/x"),
            Problem::step_up_needed("https://a.example.com/x"),
            Problem::nobody_to_act_as(),
            Problem::no_upstream_token(),
            Problem::sign_in_not_enough(&["an one-time code".into()]),
            Problem::bad_credentials(),
            Problem::device_not_authorized("/x"),
            Problem::device_needed("/x"),
            Problem::client_certificate(),
            Problem::client_certificate_refused(),
            Problem::misdirected("app.example.com"),
            Problem::too_many_requests(3),
            Problem::not_found("app.example.com"),
            Problem::route_unknown("app.example.com"),
            Problem::body_too_large(),
            Problem::request_timeout(),
            Problem::upgrade_refused(),
            Problem::method_not_allowed(),
            Problem::forged_form(),
            Problem::upstream_down("no_healthy_upstream", "UH"),
            Problem::upstream_timeout("response_timeout", "UT"),
            Problem::upstream_broken("x"),
            Problem::upstream_overloaded(),
            Problem::undecided(),
            Problem::internal(),
            Problem::login_loop(),
            Problem::provider_clock(),
            Problem::cookie_missing(),
            Problem::sign_in_expired(),
            Problem::sign_in_refused("no"),
            Problem::sign_in_not_accepted(),
            Problem::provider_down(),
            Problem::bad_link(),
            refused(400),
            refused(426),
            refused(431),
        ]
    }

    fn refused(status: u16) -> Problem {
        Problem::refused(&Refusal {
            status,
            detail: "a reason",
            redirect: None,
            close: true,
        })
    }

    /// The table is part of the promise: people search for a code, and scripts match it.
    #[test]
    fn every_code_is_explained_in_the_documentation() {
        let page = include_str!("../../../../docs/errors.md");
        let source = include_str!("catalog.rs").split("#[cfg(test)]").next().unwrap();
        let known: Vec<&str> = all().iter().map(|problem| problem.code).collect();
        for code in &known {
            let row = page
                .lines()
                .find(|line| line.starts_with(&format!("| `{code}` |")));
            let cells = row.map(|row| row.split('|').filter(|cell| !cell.trim().is_empty()).count());
            assert_eq!(cells, Some(4), "{code}: code, status, cause, remedy");
        }
        // A refusal that is missing from `all` would escape the check.
        let quoted = source.split('"').skip(1).step_by(2);
        let codes = quoted
            .filter(|text| text.contains('-') && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'));
        for code in codes {
            assert!(known.contains(&code), "{code} is not in the list of this test");
        }
    }

    #[test]
    fn every_text_speaks_to_people() {
        for problem in all() {
            let page = [&problem.title, &problem.what, &problem.whose, &problem.next]
                .map(|text| text.as_ref())
                .join(" ");
            assert!(
                !problem.title.is_empty() && !problem.what.is_empty(),
                "{}",
                problem.code
            );
            for word in ["Forbidden", "403", "404", "upstream", "null", "error", "FIDO"] {
                assert!(!page.contains(word), "{}: {word}", problem.code);
            }
            assert!(
                problem
                    .code
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'-'),
                "{}",
                problem.code
            );
        }
    }

    #[test]
    fn codes_are_unique_but_for_one_page_in_two_places() {
        let mut codes: Vec<&str> = all().iter().map(|problem| problem.code).collect();
        let count = codes.len();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(
            count - codes.len(),
            2,
            "not-allowed and not-found come in two forms"
        );
    }

    #[test]
    fn wire_texts_of_the_original() {
        assert_eq!(Problem::not_allowed(None, None).reason, "Forbidden");
        assert_eq!(Problem::sign_in_needed("/x").reason, "Unauthenticated");
        assert_eq!(Problem::not_found("h").reason, "Not Found");
        assert_eq!(Problem::route_unknown("h").reason, "h route unknown");
        assert_eq!(Problem::client_certificate().status, 495);
        assert_eq!(Problem::device_needed("/x").reason, "Unauthenticated");
        assert_eq!(Problem::device_not_authorized("/x").status, 450);
    }

    #[test]
    fn a_providers_text_is_tamed() {
        let problem = Problem::sign_in_refused("a\r\nb\u{0}");
        assert!(problem.what.contains("ab"));
        assert!(Problem::sign_in_refused(&"x".repeat(5000)).what.len() < 500);
    }
}
