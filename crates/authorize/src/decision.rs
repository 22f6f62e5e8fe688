//! What an evaluation means for the client (spec policy.md 8.1 to 8.3).

use std::sync::Arc;

use pomerium_policy::explain::Tree;
use pomerium_policy::{Denial, Evaluation, Input, Program, Reason, ReasonSet, Verdict};

/// What is done with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Let it through.
    Allow,
    /// Nobody is signed in, and that stands in the way: to the login, or 401 where a redirect makes no sense.
    Login,
    /// The session has shown no device of the type the policy wants: to the enrolment, or 401 where a redirect
    /// makes no sense.
    Device,
    /// Somebody is signed in, but not recently or strongly enough for the policy: to a fresh login, or 401 where a
    /// redirect makes no sense.
    StepUp,
    /// Refused.
    Denied {
        /// 403, 404, 450 or 495.
        status: u16,
        /// Wire-visible reason text.
        text: &'static str,
    },
}

impl Outcome {
    /// For logs: `allow`, `login`, `device`, `step-up` or `denied`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Outcome::Allow => "allow",
            Outcome::Login => "login",
            Outcome::Device => "device",
            Outcome::StepUp => "step-up",
            Outcome::Denied { .. } => "denied",
        }
    }

    /// 403.
    pub const FORBIDDEN: Outcome = Outcome::Denied {
        status: 403,
        text: "Forbidden",
    };
    /// 495: no client certificate, or none that is valid here.
    pub const CLIENT_CERTIFICATE: Outcome = Outcome::Denied {
        status: 495,
        text: "a valid client certificate is required to access this page",
    };
    /// 450: the device the session has shown does not meet the policy.
    pub const DEVICE: Outcome = Outcome::Denied {
        status: 450,
        text: "your device fails to meet the requirements necessary to access this page, please contact your administrator for assistance",
    };
    /// 503: the policy could not be judged, so nobody is let in.
    pub const FAILED: Outcome = Outcome::Denied {
        status: 503,
        text: "Service Unavailable",
    };
    /// 404.
    pub const NOT_FOUND: Outcome = Outcome::Denied {
        status: 404,
        text: "Not Found",
    };
}

/// A judged request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What is done.
    pub outcome: Outcome,
    /// Raw result of the `allow` rules.
    pub allow: Verdict,
    /// Raw result of the `deny` rules.
    pub deny: Verdict,
    /// Why the policy could not be judged.
    pub failure: Option<Arc<str>>,
}

/// Judges a request by the program of its route.
pub fn check(program: &Program, input: &Input<'_>) -> Decision {
    Decision::from(program.evaluate(input)).on_path(input.http.raw_path)
}

/// The steps of asking for a device; exact matches.
const DEVICE_PATHS: [&str; 2] = ["/.pomerium/device-enrolled", "/.pomerium/webauthn"];

impl Decision {
    /// The same for a path: who is on the way to show a device is not sent there again (spec policy.md 8.5).
    #[must_use]
    pub fn on_path(self, raw_path: &str) -> Self {
        match self.outcome {
            Outcome::Device if DEVICE_PATHS.contains(&raw_path) => Self {
                outcome: Outcome::Allow,
                ..self
            },
            _ => self,
        }
    }
}

impl From<Evaluation> for Decision {
    /// The first that fits: reasons come before values, so that a rule which needs to know who somebody is
    /// asks them to sign in before anything is decided. A missing certificate comes before even that: signing in
    /// would not help.
    fn from(evaluation: Evaluation) -> Self {
        let Evaluation { allow, deny, failure } = evaluation;
        let wanted = |reason| allow.reasons.union(deny.reasons).contains(reason);
        let outcome = if failure.is_some() {
            Outcome::FAILED
        } else if lacks_certificate(deny.reasons) {
            Outcome::CLIENT_CERTIFICATE
        } else if wanted(Reason::UserUnauthenticated) {
            Outcome::Login
        } else if wanted(Reason::AuthenticationRequired) {
            Outcome::StepUp
        } else if wanted(Reason::DeviceUnauthenticated) {
            Outcome::Device
        } else if deny.value {
            denied(deny.reasons)
        } else if allow.value {
            Outcome::Allow
        } else {
            denied(allow.reasons)
        };
        Decision {
            outcome,
            allow,
            deny,
            failure,
        }
    }
}

impl Decision {
    /// What it comes to, for logs: as [`Outcome::as_str`], or `error` when the policy could not be judged.
    pub fn came_to(&self) -> &'static str {
        match self.failure {
            Some(_) => "error",
            None => self.outcome.as_str(),
        }
    }
}

/// The rules and criteria that led to a decision: of an explained judgement, those that count for its outcome.
pub fn grounds(tree: &Tree, decision: &Decision) -> Denial {
    let wanted = match decision.outcome {
        Outcome::Login => Reason::UserUnauthenticated.into(),
        Outcome::StepUp => Reason::AuthenticationRequired.into(),
        Outcome::Device => Reason::DeviceUnauthenticated.into(),
        Outcome::CLIENT_CERTIFICATE => {
            ReasonSet::from(Reason::ClientCertificateRequired).union(Reason::InvalidClientCertificate.into())
        }
        Outcome::Allow | Outcome::Denied { .. } => return tree.grounds(),
    };
    tree.because_of(wanted)
}

fn lacks_certificate(reasons: ReasonSet) -> bool {
    reasons.contains(Reason::ClientCertificateRequired) || reasons.contains(Reason::InvalidClientCertificate)
}

fn denied(reasons: ReasonSet) -> Outcome {
    if reasons.contains(Reason::DeviceUnauthorized) {
        Outcome::DEVICE
    } else if reasons.contains(Reason::RouteNotFound) {
        Outcome::NOT_FOUND
    } else if lacks_certificate(reasons) {
        Outcome::CLIENT_CERTIFICATE
    } else {
        Outcome::FORBIDDEN
    }
}

/// The decision about a request that no route answers to.
pub fn route_not_found() -> Decision {
    Evaluation {
        deny: Verdict::new(true, Reason::RouteNotFound),
        ..Evaluation::default()
    }
    .into()
}

/// Pomerium's own paths that make sense only for somebody who is signed in; exact matches.
const LOGIN_PATHS: [&str; 8] = [
    "/.pomerium/api/v1/routes",
    "/.pomerium/jwt",
    "/.pomerium/mcp/authorize",
    "/.pomerium/mcp/connect",
    "/.pomerium/mcp/routes",
    "/.pomerium/routes",
    "/.pomerium/user",
    "/.pomerium/webauthn",
];

/// Whether a path of Pomerium's own needs a login.
pub fn needs_login(path: &str) -> bool {
    LOGIN_PATHS.contains(&path)
}

/// The decision about a path of Pomerium's own, which no policy judges.
pub fn check_internal(path: &str, signed_in: bool) -> Decision {
    let allow = if signed_in || !needs_login(path) {
        Verdict::new(true, Reason::PomeriumRoute)
    } else {
        Verdict::new(false, Reason::UserUnauthenticated)
    };
    Evaluation {
        allow,
        ..Evaluation::default()
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(allow: (bool, &[Reason]), deny: (bool, &[Reason])) -> Outcome {
        let verdict = |(value, reasons): (bool, &[Reason])| {
            Verdict::new(value, reasons.iter().copied().collect::<ReasonSet>())
        };
        Decision::from(Evaluation {
            allow: verdict(allow),
            deny: verdict(deny),
            failure: None,
        })
        .outcome
    }

    #[test]
    fn the_first_that_fits_decides() {
        use Reason::{Accept, EmailOk, HttpMethodOk, Reject, UserUnauthenticated};
        assert_eq!(decide((true, &[Accept]), (false, &[])), Outcome::Allow);
        assert_eq!(
            decide((true, &[Accept]), (false, &[UserUnauthenticated])),
            Outcome::Login
        );
        assert_eq!(
            decide((false, &[UserUnauthenticated]), (true, &[HttpMethodOk])),
            Outcome::Login
        );
        assert_eq!(
            decide((true, &[UserUnauthenticated]), (false, &[])),
            Outcome::Login
        );
        assert_eq!(decide((true, &[Accept]), (true, &[EmailOk])), Outcome::FORBIDDEN);
        for reason in [
            Reason::ClientCertificateRequired,
            Reason::InvalidClientCertificate,
        ] {
            assert_eq!(
                decide((false, &[UserUnauthenticated]), (true, &[reason])),
                Outcome::CLIENT_CERTIFICATE
            );
            assert_eq!(
                decide((true, &[Accept]), (false, &[reason])),
                Outcome::CLIENT_CERTIFICATE,
                "the reason counts, whatever the value"
            );
            assert_eq!(
                decide((false, &[reason]), (false, &[])),
                Outcome::CLIENT_CERTIFICATE
            );
        }
        assert_eq!(decide((false, &[Reject]), (false, &[])), Outcome::FORBIDDEN);
        assert_eq!(decide((false, &[]), (false, &[])), Outcome::FORBIDDEN);
    }

    #[test]
    fn what_could_not_be_judged_is_denied_whatever_came_of_it() {
        let decision = Decision::from(Evaluation {
            allow: Verdict::new(true, Reason::UserUnauthenticated),
            failure: Some("policy X: out of time".into()),
            ..Evaluation::default()
        });
        assert_eq!(decision.outcome, Outcome::FAILED);
        assert_eq!(decision.failure.as_deref(), Some("policy X: out of time"));
    }

    #[test]
    fn asking_for_a_device_does_not_ask_again() {
        let asked = Decision::from(Evaluation {
            allow: Verdict::new(false, Reason::DeviceUnauthenticated),
            ..Evaluation::default()
        });
        let on = |path| asked.clone().on_path(path).outcome;
        assert_eq!(on("/"), Outcome::Device);
        assert_eq!(on("/.pomerium/webauthn"), Outcome::Allow);
        assert_eq!(on("/.pomerium/device-enrolled"), Outcome::Allow);
        for other in ["/.pomerium/webauthn/", "/.pomerium/webauth%6e", "/.pomerium/user"] {
            assert_eq!(on(other), Outcome::Device, "{other}");
        }
        let refused = Decision::from(Evaluation::default()).on_path("/.pomerium/webauthn");
        assert_eq!(refused.outcome, Outcome::FORBIDDEN);
    }

    #[test]
    fn no_route_is_404() {
        assert_eq!(route_not_found().outcome, Outcome::NOT_FOUND);
    }

    #[test]
    fn own_paths_are_open_unless_they_need_somebody() {
        assert_eq!(check_internal("/.pomerium/", false).outcome, Outcome::Allow);
        assert_eq!(check_internal("/.pomerium/user", false).outcome, Outcome::Login);
        assert_eq!(check_internal("/.pomerium/user", true).outcome, Outcome::Allow);
        assert_eq!(check_internal("/.pomerium/user/", false).outcome, Outcome::Allow);
    }
}
