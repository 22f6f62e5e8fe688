//! Decisions about access: who may not, and what is asked of them.

use super::ASK_OWNER;
use crate::problem::Problem;

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

    /// A client certificate came and is not accepted (495).
    pub fn client_certificate_refused() -> Self {
        let what = "The certificate that this device sent is not accepted here.";
        Self::new(495, "certificate-refused", "This certificate is not accepted", what)
            .with_reason("a valid client certificate is required to access this page")
            .whose("It has ended, was withdrawn, or was made by somebody this application does not trust.")
            .next("Close the browser, open it again and choose another certificate, or ask your administrator for a new one.")
            .decision()
    }
}
