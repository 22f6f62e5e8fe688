//! What can go wrong in sign-in, as one type; [`crate::reply`] turns it into a page or a machine-readable body.

use http::{Method, StatusCode};
use pomerium_crypto::signed_url::SignatureError;
use pomerium_web::cookies::CookieError;

use crate::device::refusal::Refusal;
use crate::login::rounds::Cause;
use crate::login::state::StateError;
use crate::login::step_up::NotEnough;

/// Why an instance cannot be built from its settings.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A secret is not 32 bytes long; holds the key's name.
    #[error("{0} must be 32 bytes")]
    Secret(&'static str),
    /// `signing_key` cannot be read.
    #[error("signing_key: {0}")]
    SigningKey(String),
    /// A provider's settings make no sense.
    #[error("identity provider {id}: {problem}")]
    Provider {
        /// Issuer of the provider.
        id: String,
        /// What is wrong.
        problem: String,
    },
}

/// Why an endpoint answers with a refusal.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is nothing at this address.
    #[error("there is nothing at this address")]
    NotFound,
    /// No route answers to this host; holds the host.
    #[error("{0} route unknown")]
    UnknownRoute(String),
    /// The endpoint does not take this method; holds those it takes.
    #[error("this address does not take that kind of request")]
    Method(Vec<Method>),
    /// The request cannot be understood, or asks for what nobody may have.
    #[error("{0}")]
    BadRequest(&'static str),
    /// A signed link is missing its signature, changed, too old or used up.
    #[error("{0}")]
    Link(#[from] SignatureError),
    /// The link was good, but good once.
    #[error("this link was used already")]
    LinkUsed,
    /// Another site sent this request.
    #[error("the request came from another site")]
    CrossSite,
    /// The OAuth state is not acceptable.
    #[error("{0}")]
    State(#[from] StateError),
    /// The provider answered the authorization request with an error; holds its code, cut to plain characters.
    #[error("identity provider: {0}")]
    Refused(String),
    /// The provider cannot be reached or its answer is not acceptable. The text is for the log.
    #[error("the identity provider could not complete the sign-in: {0}")]
    Provider(#[source] pomerium_identity::IdentityError),
    /// Nobody is configured to sign people in.
    #[error("no identity provider is configured here")]
    NoProvider,
    /// The databroker cannot be asked.
    #[error("the session store cannot be reached: {0}")]
    Store(#[from] pomerium_api::databroker::Error),
    /// A device cannot be registered, shown or removed.
    #[error("device: {0}")]
    Device(#[source] Box<Refusal>),
    /// A person asked: they are sent there.
    #[error("sign-in required")]
    SignIn {
        /// Where to sign in.
        login_url: String,
    },
    /// A script or program asked: it is told where a person can sign in.
    #[error("Unauthenticated")]
    LoginNeeded {
        /// Where to sign in.
        login_url: String,
    },
    /// The sign-in is not as recent or strong as a policy asks for.
    #[error("the sign-in is not enough: what is missing is {}", .0.missing().join(", "))]
    NotEnough(Box<NotEnough>),
    /// The sign-in goes round in circles.
    #[error("sign-in does not hold: {0:?}")]
    Loop(Cause, LoopDetails),
    /// A cookie cannot be written.
    #[error("a cookie cannot be written: {0}")]
    Cookie(CookieError),
    /// Ours to explain.
    #[error("internal error: {0}")]
    Internal(&'static str),
}

/// What the loop page can say beside the cause.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoopDetails {
    /// Where the person wanted to go: a URL of ours.
    pub retry: Option<String>,
    /// The host that lost its cookie.
    pub host: String,
    /// `cookie_domain`, where it matters.
    pub cookie_domain: Option<String>,
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Device(Box::new(refusal))
    }
}

impl Error {
    /// The provider refuses the program itself: nobody can sign in until its operator mends that.
    pub(crate) fn is_about_the_client(&self) -> bool {
        matches!(self, Self::Provider(pomerium_identity::IdentityError::Refused { error, .. }) if error == "invalid_client")
    }

    /// The HTTP status (spec authentication.md 18).
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotFound | Self::UnknownRoute(_) => StatusCode::NOT_FOUND,
            Self::NotEnough(_) => StatusCode::FORBIDDEN,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::SignIn { .. } => StatusCode::FOUND,
            Self::LoginNeeded { .. } => StatusCode::UNAUTHORIZED,
            Self::Refused(code) if code == "access_denied" || code == "unauthorized_client" => {
                StatusCode::UNAUTHORIZED
            }
            Self::Device(refusal) => refusal.status(),
            Self::Provider(error) if error.is_temporary() => StatusCode::BAD_GATEWAY,
            Self::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::NoProvider | Self::Cookie(_) | Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::CrossSite
            | Self::BadRequest(_)
            | Self::Link(_)
            | Self::LinkUsed
            | Self::State(_)
            | Self::Refused(_)
            | Self::Provider(_)
            | Self::Loop(..) => StatusCode::BAD_REQUEST,
        }
    }
}
