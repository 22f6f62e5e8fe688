//! [`Authenticate`]: sign-in for one version of the settings, and which endpoint answers which path.

use std::sync::Arc;

use http::{Method, Request};
use jiff::Timestamp;
use pomerium_api::clock::Clock;
use pomerium_api::databroker::Databroker;
use pomerium_config::settings::{RouteSettings, Settings};
use pomerium_crypto::kdf;
use pomerium_identity::{HttpClient, OidcProvider};
use pomerium_policy::Demand;
use pomerium_web::canonical::CanonicalRequest;
use pomerium_web::pages::{ASSETS_PREFIX, Site};
use pomerium_web::{Body, Response};

use crate::builtin::provider::LocalProvider;
use crate::call::{Call, RequestContext};
use crate::cookie::CookieWriter;
use crate::endpoints::device;
use crate::endpoints::well_known::Keys;
use crate::links::SignIn;
use crate::options::Options;
use crate::providers::Providers;
use crate::sealed::Sealer;
use crate::state::State;
use crate::{BuildError, Error};

/// Whether some route of ours, or the authenticate service, answers to `host[:port]`.
pub type HostCheck = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// What sign-in needs from the rest of the program.
#[derive(Clone)]
pub struct Deps {
    /// Sessions and users.
    pub broker: Arc<dyn Databroker>,
    /// The way to identity providers. [`crate::LocalBackchannel`] is put before it here.
    pub http: Arc<dyn HttpClient>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where people may be sent back to.
    pub hosts: HostCheck,
    /// How pages look.
    pub site: Arc<Site>,
    /// What outlives a reload.
    pub state: Arc<State>,
}

/// The sign-in service, for one version of the settings. Build a new one on reload, with the same
/// [`Deps::state`].
pub struct Authenticate {
    pub(crate) options: Options,
    pub(crate) cookies: CookieWriter,
    pub(crate) deps: Deps,
    pub(crate) providers: Providers,
    pub(crate) local: Option<Arc<LocalProvider>>,
    pub(crate) keys: Keys,
    pub(crate) seal: Sealers,
}

/// One sealer per use.
pub(crate) struct Sealers {
    /// OAuth state.
    pub(crate) state: Sealer,
    /// Logins under way.
    pub(crate) login: Sealer,
    /// Loop breaker.
    pub(crate) rounds: Sealer,
    /// Session ids in sign-out links.
    pub(crate) session: Sealer,
    /// The application a person is on the way to, for the sign-in page of the built-in provider.
    pub(crate) application: Sealer,
    /// Key of form tokens.
    pub(crate) form: [u8; 32],
}

impl std::fmt::Debug for Authenticate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authenticate")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Authenticate {
    /// Builds the service. No provider is asked anything yet.
    pub fn new(settings: &Settings, deps: Deps) -> Result<Arc<Self>, BuildError> {
        let options = Options::new(settings)?;
        let local = LocalProvider::new(settings, deps.state.local.clone()).map(Arc::new);
        let providers = Providers::new(&options, local.as_ref(), &deps)?;
        let sealer = |purpose| Sealer::new(&options.cookie_secret, purpose);
        Ok(Arc::new(Self {
            seal: Sealers {
                state: sealer("pomerium sign-in: state"),
                login: sealer("pomerium sign-in: logins under way"),
                rounds: sealer("pomerium sign-in: rounds"),
                session: Sealer::new(&options.shared, "pomerium sign-out: session"),
                application: sealer("pomerium sign-in: application"),
                form: kdf::derive(&options.cookie_secret, "pomerium sign-in: form token"),
            },
            cookies: CookieWriter::new(&settings.cookie),
            keys: Keys::new(settings.secrets.signing_key.as_ref(), &options.shared)?,
            providers,
            local,
            options,
            deps,
        }))
    }

    /// Answers a request to one of our own paths, on whichever host.
    pub async fn handle(
        self: Arc<Self>,
        request: Request<Body>,
        canonical: Arc<CanonicalRequest>,
        context: RequestContext,
    ) -> Response {
        let read = Call::read(request, canonical.clone(), context, self.deps.clock.now()).await;
        match read {
            Ok(call) => self.answer(call).await,
            Err((error, headers)) => self.refuse_unread(&canonical, &headers, error),
        }
    }

    /// The address a person who wants to open `request` on `route` is sent to for signing in.
    pub fn sign_in_url(&self, request: &CanonicalRequest, route: &RouteSettings) -> String {
        let target = format!(
            "https://{}{}",
            request.authority.as_str(),
            request.path_and_query()
        );
        self.sign_in_link(&target, Some(route), self.deps.clock.now())
    }

    /// The same for somebody who is signed in, but not recently or strongly enough for the policy.
    pub fn step_up_url(&self, request: &CanonicalRequest, route: &RouteSettings, demand: &Demand) -> String {
        let target = format!(
            "https://{}{}",
            request.authority.as_str(),
            request.path_and_query()
        );
        let link = SignIn {
            demand: Some(demand),
            ..sign_in(&target, Some(route))
        };
        self.options.sign_in_url(&link, self.deps.clock.now().as_second())
    }

    /// The provider with this id, as sessions name it; for the refresh of sessions.
    pub fn provider(&self, idp_id: &str) -> Option<Arc<OidcProvider>> {
        self.providers.oidc(idp_id)
    }

    pub(crate) fn sign_in_link(&self, target: &str, route: Option<&RouteSettings>, now: Timestamp) -> String {
        self.options.sign_in_url(&sign_in(target, route), now.as_second())
    }

    async fn answer(&self, mut call: Call) -> Response {
        let result = if self.options.is_authenticate(&call.authority) {
            // Signatures are made over the public name.
            call.authority.clone_from(&self.options.authority);
            self.authenticate_host(&call).await
        } else {
            self.route_host(&call).await
        };
        result.unwrap_or_else(|error| self.refuse(&call, &error))
    }

    /// The router of the authenticate host (spec authentication.md 3.1).
    async fn authenticate_host(&self, call: &Call) -> Result<Response, Error> {
        let path = call.path();
        if let Some(local) = self.local.as_ref().filter(|local| local.owns(path)) {
            return self.local_provider(local, call).await;
        }
        match path {
            "/" | "/.pomerium" => Ok(crate::reply::redirect("/.pomerium/")),
            "/oauth2/callback" => self.oauth_callback(call).await,
            "/.pomerium/" => self.who_am_i_here(call).await,
            "/.pomerium/sign_in" => self.sign_in(call).await,
            "/.pomerium/sign_out" => self.sign_out(call).await,
            "/.pomerium/signed_out" => self.signed_out(call),
            _ => self.any_host(call),
        }
    }

    /// The router of every other host (spec authentication.md 3.2). A host that is not ours is a name that somebody else
    /// may own: no link is signed that leads there, and no session is taken over.
    async fn route_host(&self, call: &Call) -> Result<Response, Error> {
        if !self.is_own(&call.authority) {
            return self.any_host(call);
        }
        match call.path() {
            "/.pomerium" => Ok(crate::reply::redirect("/.pomerium/")),
            "/.pomerium/" => self.who_am_i(call).await,
            "/.pomerium/user" => self.user(call),
            "/.pomerium/jwt" => self.jwt(call),
            "/.pomerium/routes" => self.portal(call),
            "/.pomerium/sign_out" => self.route_sign_out(call),
            device::PATH => self.webauthn(call).await,
            "/.pomerium/callback" | "/.pomerium/callback/" => self.route_callback(call).await,
            "/.pomerium/api/v1/login" => self.programmatic_login(call),
            "/.pomerium/api/v1/routes" => self.portal_json(call),
            _ => self.any_host(call),
        }
    }

    /// What every host answers (spec authentication.md 3.3).
    fn any_host(&self, call: &Call) -> Result<Response, Error> {
        match call.path() {
            device::ENROLLED => self.device_enrolled(call),
            "/ping" | "/healthz" => crate::endpoints::health::answer(call),
            "/robots.txt" => crate::endpoints::health::robots(call),
            "/.well-known/pomerium" | "/.well-known/pomerium/" => self.well_known(call),
            "/.well-known/pomerium/jwks.json" => self.jwks(call),
            path if path.starts_with(ASSETS_PREFIX) => {
                only(call, &[Method::GET, Method::HEAD])?;
                self.deps.site.assets.get(path).ok_or(Error::NotFound)
            }
            _ => Err(Error::UnknownRoute(call.authority.clone())),
        }
    }
}

/// A link to sign in at `route` and come back to `target`.
fn sign_in<'a>(target: &'a str, route: Option<&'a RouteSettings>) -> SignIn<'a> {
    SignIn {
        redirect_uri: target,
        idp_id: route
            .and_then(|route| route.idp.as_ref())
            .map(|idp| idp.id.as_str()),
        additional_hosts: route.map_or(&[], |route| route.depends_on.as_slice()),
        ..SignIn::default()
    }
}

/// Refuses any method but these.
pub(crate) fn only(call: &Call, methods: &[Method]) -> Result<(), Error> {
    if methods.contains(&call.method) {
        Ok(())
    } else {
        Err(Error::Method(methods.to_vec()))
    }
}
