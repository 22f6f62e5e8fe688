//! The identity providers of one version of the settings, by id, and what sign-in asks of them.

use std::sync::Arc;

use pomerium_api::pb::session::Session;
use pomerium_config::settings::{IdpKind, IdpSettings};
use pomerium_identity::records::tokens_of;
use pomerium_identity::{AuthRequest, HttpClient, Identity, OidcConfig, OidcProvider, Pkce};

use crate::builtin::backchannel::LocalBackchannel;
use crate::builtin::provider::LocalProvider;
use crate::login::pending::PendingLogin;
use crate::login::step_up::Wanted;
use crate::options::Options;
use crate::service::Deps;
use crate::{BuildError, Error};

/// One provider.
#[derive(Debug)]
pub(crate) struct Provider {
    /// Its settings.
    pub(crate) settings: Arc<IdpSettings>,
    /// The protocol.
    pub(crate) oidc: Arc<OidcProvider>,
}

/// All providers; the first is the default one.
#[derive(Debug)]
pub(crate) struct Providers {
    all: Vec<Provider>,
    has_default: bool,
}

impl Providers {
    /// Takes the providers of the settings.
    pub(crate) fn new(
        options: &Options,
        local: Option<&Arc<LocalProvider>>,
        deps: &Deps,
    ) -> Result<Self, BuildError> {
        let http: Arc<dyn HttpClient> = match local {
            Some(local) => Arc::new(LocalBackchannel::new(
                local.clone(),
                deps.http.clone(),
                (deps.broker.clone(), deps.clock.clone()),
            )),
            None => deps.http.clone(),
        };
        let all = options.idps().into_iter().map(|settings| {
            let config = OidcConfig {
                id: settings.id.clone(),
                issuer: settings.issuer.clone(),
                client_id: settings.client_id.clone(),
                client_secret: settings.client_secret.expose().to_vec(),
                scopes: settings.scopes.clone(),
                request_params: settings.request_params.clone(),
                redirect_uri: options.authenticate_url("/oauth2/callback"),
            };
            if config.issuer.is_empty() {
                let problem = "its issuer is empty".to_owned();
                return Err(BuildError::Provider {
                    id: config.id,
                    problem,
                });
            }
            let oidc = Arc::new(OidcProvider::new(config, http.clone(), deps.clock.clone()));
            Ok(Provider { settings, oidc })
        });
        Ok(Self {
            all: all.collect::<Result<_, _>>()?,
            has_default: options.idp.is_some(),
        })
    }

    /// The provider with this id.
    pub(crate) fn get(&self, id: &str) -> Option<&Provider> {
        self.all.iter().find(|provider| provider.settings.id == id)
    }

    /// The protocol half of a provider, for whoever refreshes sessions.
    pub(crate) fn oidc(&self, id: &str) -> Option<Arc<OidcProvider>> {
        self.get(id).map(|provider| provider.oidc.clone())
    }

    /// The provider of everything that names none.
    pub(crate) fn default_one(&self) -> Option<&Provider> {
        self.all.first().filter(|_| self.has_default)
    }
}

impl Provider {
    /// Whether this is the built-in one.
    pub(crate) fn is_local(&self) -> bool {
        self.settings.kind == IdpKind::Local
    }

    /// What people call it: the host of its issuer, or that it is ours.
    pub(crate) fn title(&self) -> String {
        if self.is_local() {
            return "Local account".to_owned();
        }
        crate::return_to::authority_of(&self.settings.issuer).unwrap_or_else(|| self.settings.issuer.clone())
    }

    /// Where the browser goes to sign in.
    pub(crate) async fn authorization_url(
        &self,
        state: &str,
        login: &PendingLogin,
        wanted: Option<&Wanted>,
    ) -> Result<String, Error> {
        let pkce = Pkce::from_verifier(login.verifier.clone());
        let with_pkce = self.oidc.uses_pkce().await.map_err(Error::Provider)?;
        let request = AuthRequest {
            state,
            nonce: &login.nonce,
            pkce: with_pkce.then_some(&pkce),
            step_up: wanted.map(Wanted::of_provider),
        };
        self.oidc
            .authorization_url(request)
            .await
            .map_err(Error::Provider)
    }

    /// Who came back. `iss` is that parameter of the answer (RFC 9207).
    pub(crate) async fn identify(
        &self,
        code: &str,
        iss: Option<&str>,
        login: &PendingLogin,
    ) -> Result<Identity, Error> {
        self.oidc
            .check_callback_issuer(iss)
            .await
            .map_err(Error::Provider)?;
        let verifier = self
            .oidc
            .uses_pkce()
            .await
            .map_err(Error::Provider)?
            .then_some(login.verifier.as_str());
        self.oidc
            .exchange(code, verifier, Some(&login.nonce))
            .await
            .map_err(Error::Provider)
    }

    /// Asks the provider to withdraw the tokens of a session that ended. That it cannot is no reason to keep
    /// anybody signed in.
    pub(crate) async fn revoke(&self, session: &Session) {
        let Some(token) = session
            .oauth_token
            .as_ref()
            .filter(|token| !token.access_token.is_empty())
        else {
            return;
        };
        match self.oidc.revoke(&tokens_of(token)).await {
            Ok(()) => {}
            Err(pomerium_identity::IdentityError::NotOffered(_)) => {}
            Err(error) => {
                tracing::warn!(%error, idp = %self.settings.id, "cannot revoke the tokens of a session")
            }
        }
    }

    /// Where the browser signs out at the provider; `None` when it offers no such thing or cannot be asked.
    pub(crate) async fn end_session_url(&self, session: Option<&Session>, after: &str) -> Option<String> {
        let hint = session
            .and_then(|session| session.id_token.as_ref())
            .map(|token| token.raw.as_str());
        match self.oidc.end_session_url(hint, after).await {
            Ok(url) => url,
            Err(error) => {
                tracing::warn!(%error, idp = %self.settings.id, "cannot sign out at the identity provider");
                None
            }
        }
    }
}
