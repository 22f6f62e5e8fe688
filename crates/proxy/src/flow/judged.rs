//! What a judgement of a request can be.

use std::sync::Arc;

use jiff::Timestamp;
use pomerium_authorize::{IdentityHeaders, Principal};
use pomerium_policy::{Demand, Said};

use crate::headers::upstream_identity::Missing;

/// The outcome for a request to a route.
pub(crate) enum Judged {
    Allowed(Allowed),
    Refused(Refused),
}

impl Judged {
    /// Who asked, when it was somebody.
    pub(crate) fn principal(&self) -> Option<&Principal> {
        match self {
            Self::Allowed(allowed) => allowed.principal.as_deref(),
            Self::Refused(Refused::Denied(denied)) => denied.principal.as_deref(),
            Self::Refused(Refused::Device(wanted)) => wanted.principal.as_deref(),
            Self::Refused(Refused::StepUp(step_up)) => step_up.principal.as_deref(),
            Self::Refused(Refused::Upstream(_, principal)) => principal.as_deref(),
            Self::Refused(Refused::Login | Refused::Unjudged) => None,
        }
    }
}

/// What is known about an allowed request.
pub(crate) struct Allowed {
    pub(crate) principal: Option<Arc<Principal>>,
    pub(crate) identity: Option<Arc<IdentityHeaders>>,
    pub(crate) now: Timestamp,
}

/// Why a request is not allowed.
pub(crate) enum Refused {
    /// Nobody is signed in, and somebody must be.
    Login,
    /// Their session has shown no device of the type that the policy wants.
    Device(DeviceWanted),
    /// Somebody is signed in, but not recently or strongly enough.
    StepUp(StepUp),
    /// Somebody may not, or nobody may.
    Denied(Denied),
    /// They may, and the upstream cannot be told so.
    Upstream(Missing, Option<Arc<Principal>>),
    /// It could not be judged.
    Unjudged,
}

/// A device is wanted before the policy can say more.
pub(crate) struct DeviceWanted {
    /// Who asked.
    pub(crate) principal: Option<Arc<Principal>>,
    /// Of which type.
    pub(crate) device_type: String,
}

/// What is asked of a sign-in, and of whom.
pub(crate) struct StepUp {
    /// Who asked.
    pub(crate) principal: Option<Arc<Principal>>,
    /// What the policy asks for.
    pub(crate) demand: Demand,
}

/// A refusal by the policy.
pub(crate) struct Denied {
    /// 403, 404, 450, or 495 for want of a client certificate.
    pub(crate) status: u16,
    /// Who asked.
    pub(crate) principal: Option<Arc<Principal>>,
    /// What stood in the way, for routes that tell.
    pub(crate) told: Option<Told>,
}

/// What people are told about a refusal.
pub(crate) struct Told {
    /// The rule and the criteria that stood in the way.
    pub(crate) rule: (String, Vec<String>),
    /// What each policy of the console said by itself, in the order of `told_policies` of the route.
    pub(crate) said: Vec<Said>,
}
