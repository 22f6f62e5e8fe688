//! What goes wrong with a request that may pass, and what is said of it (spec proxy.md 7).

use pomerium_web::canonical::Refusal;
use pomerium_web::problem;

use crate::body::Expired;
use crate::headers::upstream_identity::Missing;
use crate::live::ENDED;
use crate::upstream::UpstreamError;

const BROKEN: &str = "upstream_reset_before_response_started{protocol_error}";
pub(super) const OVERFLOW: &str = "upstream_reset_before_response_started{overflow}";

/// Why a request is not served. Each has its status, flag and details (spec proxy.md 7) in
/// [`Problem::describe`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Problem {
    /// No route answers.
    NoRoute,
    /// The rewriting of the route makes no path.
    BadRewrite,
    /// The upstream acts for people, and this one has no name for it.
    NobodyToActAs,
    /// There is no token to show the upstream.
    NoUpstreamToken,
    /// The host asks for a client certificate that this connection was not asked for.
    Misdirected,
    /// The route does not let this upgrade through.
    Upgrade,
    /// An upgrade with a body.
    UpgradeBody,
    /// The upstream switched protocols unasked, or to another one.
    UnaskedSwitch,
    /// Access cannot be decided.
    Unjudged,
    /// The route is gone, or the client has lost it, before there was an answer.
    Ended,
    /// The control plane broke.
    ControlFailed,
    /// A limit ran out while we waited for the client.
    ClientSlow(&'static str),
    /// A limit ran out while we waited for the upstream.
    UpstreamSlow(&'static str),
    /// The upstream did not answer.
    Down(&'static str, &'static str),
    /// The upstream's answer cannot be read.
    Broken,
    /// The request broke off.
    RequestBody,
    /// More requests than the rate limit lets through; seconds to wait.
    TooOften(u32),
}

impl Problem {
    /// An upstream that gave no answer.
    pub(crate) fn upstream(error: &UpstreamError) -> Self {
        tracing::debug!(%error, "an upstream gave no answer");
        match error {
            UpstreamError::NoHost => Self::Down("no_healthy_upstream", "UH"),
            UpstreamError::NoAddress { .. } => Self::Down("no_healthy_upstream", "DF"),
            UpstreamError::Overflow(_) => Self::Down(OVERFLOW, "UO"),
            UpstreamError::Connect(_) => {
                Self::Down("upstream_reset_before_response_started{connection_failure}", "UF")
            }
            UpstreamError::ConnectTimeout => {
                Self::Down("upstream_reset_before_response_started{connection_timeout}", "UF")
            }
            UpstreamError::Closed => Self::Down(
                "upstream_reset_before_response_started{connection_termination}",
                "UC",
            ),
            UpstreamError::Reset => Self::Down("upstream_reset_before_response_started{remote_reset}", "UR"),
            UpstreamError::Protocol(_) => Self::Broken,
            UpstreamError::RequestBody => Self::RequestBody,
        }
    }

    /// An upstream that cannot be told who asks.
    pub(crate) fn missing(what: Missing) -> Self {
        match what {
            Missing::Person => Self::NobodyToActAs,
            Missing::Token => Self::NoUpstreamToken,
        }
    }

    /// A rate limit that lets the next request through after `wait`.
    pub(crate) fn too_often(wait: std::time::Duration) -> Self {
        Self::TooOften(pomerium_web::rate::retry_after(wait))
    }

    /// A limit that ran out before there was an answer. `received`: the request is here whole.
    pub(crate) fn expired(expired: Expired, received: bool) -> Self {
        let owed_by_client = match expired {
            Expired::Request => true,
            Expired::Response => false,
            Expired::Total | Expired::Idle => !received,
        };
        if owed_by_client {
            Self::ClientSlow(expired.details())
        } else {
            Self::UpstreamSlow(expired.details())
        }
    }

    pub(super) fn describe(self, host: &str) -> problem::Problem {
        use problem::Problem as Words;
        match self {
            Self::NoRoute => Words::not_found(host),
            Self::Misdirected => Words::misdirected(host),
            Self::BadRewrite => Words::upstream_broken("path_rewrite_invalid"),
            Self::Upgrade => Words::upgrade_refused(),
            Self::UpgradeBody => Words::refused(&Refusal {
                status: 400,
                detail: "an upgrade cannot carry a body",
                redirect: None,
                close: true,
            }),
            Self::UnaskedSwitch | Self::Broken => Words::upstream_broken(BROKEN),
            Self::NobodyToActAs => Words::nobody_to_act_as(),
            Self::NoUpstreamToken => Words::no_upstream_token(),
            Self::Unjudged => Words::undecided(),
            Self::Ended => Words::not_allowed(None, None),
            Self::ControlFailed => Words::internal().local("", "control_plane_failed"),
            Self::ClientSlow(details) => Words::request_timeout().local("DT", details),
            Self::UpstreamSlow(details) => Words::upstream_timeout(details, flag(details)),
            Self::Down(OVERFLOW, _) => Words::upstream_overloaded(),
            Self::Down(details, flag) => Words::upstream_down(details, flag),
            Self::TooOften(wait) => Words::too_many_requests(wait),
            Self::RequestBody => Words::refused(&Refusal {
                status: 400,
                detail: "its body broke off",
                redirect: None,
                close: true,
            }),
        }
    }

    pub(super) fn details(self) -> &'static str {
        match self {
            Self::NoRoute => "route_not_found",
            Self::BadRewrite => "path_rewrite_invalid",
            Self::Misdirected => "misdirected_request",
            Self::Upgrade => "upgrade_failed",
            Self::UpgradeBody => "upgrade_with_a_body",
            Self::UnaskedSwitch | Self::Broken => BROKEN,
            Self::NobodyToActAs => "nobody_to_act_as",
            Self::NoUpstreamToken => "no_upstream_token",
            Self::Unjudged => "ext_authz_error",
            Self::Ended => ENDED,
            Self::ControlFailed => "control_plane_failed",
            Self::ClientSlow(details) | Self::UpstreamSlow(details) | Self::Down(details, _) => details,
            Self::RequestBody => "downstream_remote_disconnect",
            Self::TooOften(_) => "local_rate_limited",
        }
    }

    /// Whether the connection ends after the answer: what follows on it cannot be trusted, or is not
    /// wanted.
    pub(super) fn closes(self) -> bool {
        matches!(
            self,
            Self::Misdirected
                | Self::Upgrade
                | Self::UpgradeBody
                | Self::ClientSlow(_)
                | Self::RequestBody
                | Self::Ended
        )
    }
}

fn flag(details: &str) -> &'static str {
    match details {
        "stream_idle_timeout" => "SI",
        "max_duration_timeout" => "DT",
        _ => "UT",
    }
}
