//! Signed links between our own hosts (spec authentication.md 2.3 and 4.2): where they are made and checked.

use pomerium_crypto::query::Query;
use pomerium_crypto::signed_url;
use pomerium_policy::Demand;

use crate::call::Call;
use crate::options::Options;
use crate::{Error, login};

/// Where a person goes after all.
pub const REDIRECT_URI: &str = "pomerium_redirect_uri";
/// Provider to sign in with.
pub const IDP_ID: &str = "pomerium_idp_id";
/// More hosts that get the session, comma separated.
pub const ADDITIONAL_HOSTS: &str = "pomerium_additional_hosts";
/// Callback of a programmatic login.
pub const CALLBACK_URI: &str = "pomerium_callback_uri";
/// Marks a programmatic login.
pub const PROGRAMMATIC: &str = "pomerium_programmatic";
/// The sealed session handle.
pub const SESSION_ENCRYPTED: &str = "pomerium_session_encrypted";
/// The handle given to a programmatic client.
pub const JWT: &str = "pomerium_jwt";
/// Seconds since the person proved who they are, at most; ours.
pub const MAX_AGE: &str = "pomerium_max_age";
/// Authentication context classes, any of them, separated by blanks; ours.
pub const ACR_VALUES: &str = "pomerium_acr_values";
/// Authentication methods, all of them, separated by blanks; ours.
pub const AMR: &str = "pomerium_amr";
/// Logins in a row; ours.
pub const ROUND: &str = "pomerium_login_round";
/// Sealed id of the session that is to end; ours.
pub const SESSION: &str = "pomerium_session_ref";

/// What a sign-in link says.
#[derive(Debug, Clone, Default)]
pub struct SignIn<'a> {
    /// Absolute URL to come back to.
    pub redirect_uri: &'a str,
    /// Provider id; the default provider when absent.
    pub idp_id: Option<&'a str>,
    /// `depends_on` of the route.
    pub additional_hosts: &'a [String],
    /// Set for a programmatic login: the callback on the route.
    pub callback_uri: Option<&'a str>,
    /// What the sign-in has to be, where it cannot be just any.
    pub demand: Option<&'a Demand>,
}

impl Options {
    /// The signed address of the sign-in page.
    pub fn sign_in_url(&self, link: &SignIn<'_>, now: i64) -> String {
        let mut query = Query::new();
        query.set(REDIRECT_URI, link.redirect_uri);
        if let Some(id) = link.idp_id.or(self.idp.as_ref().map(|idp| idp.id.as_str())) {
            query.set(IDP_ID, id);
        }
        if !link.additional_hosts.is_empty() {
            query.set(ADDITIONAL_HOSTS, link.additional_hosts.join(","));
        }
        if let Some(callback) = link.callback_uri {
            query.set(CALLBACK_URI, callback).set(PROGRAMMATIC, "true");
        }
        if let Some(demand) = link.demand {
            set_demand(&mut query, demand);
        }
        self.sign(&self.authenticate_url("/.pomerium/sign_in"), &query, now)
    }

    /// Signs `base` with `query`. `base` is made here, from the settings or from a checked URL, so that it can
    /// always be signed; should it not be, the unsigned link leads to an honest refusal.
    pub fn sign(&self, base: &str, query: &Query, now: i64) -> String {
        self.sign_for(base, query, now, signed_url::LIFETIME)
    }

    /// [`Options::sign`] for a link that is good for `seconds`.
    pub fn sign_for(&self, base: &str, query: &Query, now: i64, seconds: i64) -> String {
        let url = if query.is_empty() {
            base.to_owned()
        } else {
            format!("{base}?{}", query.encode())
        };
        signed_url::sign_for(&self.shared, &url, now, seconds).unwrap_or(url)
    }

    /// Checks the signature of the URL that was called.
    pub fn verify_link(&self, call: &Call) -> Result<(), Error> {
        signed_url::verify(&self.shared, &call.url(), call.unix()).map_err(Error::Link)
    }

    /// The round of a login that comes straight from a callback: as counted in a signed link that is not older
    /// than a minute. Zero otherwise.
    pub fn round(&self, call: &Call) -> u8 {
        let count = call
            .query
            .get(ROUND)
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        let issued: i64 = call
            .query
            .get(signed_url::ISSUED)
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        if call.unix() - issued < login::rounds::WINDOW {
            count
        } else {
            0
        }
    }
}

/// Neither class nor method has a blank in it that would survive: a value that has one can never be met anyway.
fn set_demand(query: &mut Query, demand: &Demand) {
    if let Some(max_age) = demand.max_age {
        query.set(MAX_AGE, max_age.to_string());
    }
    for (name, values) in [(ACR_VALUES, &demand.acr), (AMR, &demand.amr)] {
        if !values.is_empty() {
            query.set(name, values.join(" "));
        }
    }
}

/// `url` without the parameters that belong to its signature or to one round of a login.
pub fn unsigned(url: &str) -> (String, Query) {
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let mut query = Query::parse(query);
    for name in [
        signed_url::ISSUED,
        signed_url::EXPIRY,
        signed_url::SIGNATURE,
        ROUND,
    ] {
        query.remove(name);
    }
    (base.to_owned(), query)
}
