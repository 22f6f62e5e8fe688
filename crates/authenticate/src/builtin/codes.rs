//! Authorization codes: good once, for a minute, and bound to all they were given for.
//!
//! A code is what it stands for, sealed: any replica can open one that another has given. That it was used is a record
//! in the databroker, so that it is good once for all replicas together, and so is that it was used again, which ends
//! what the first use gave. Nothing but a digest of the code is kept.

use pomerium_api::databroker::{Databroker, Error};
use serde::{Deserialize, Serialize};

use super::pkce;
use super::provider::LONGEST;
use crate::once::{Once, Withdrawn};
use crate::sealed::Sealer;

/// Seconds from the sign-in page to the token endpoint.
pub const LIFETIME: i64 = 60;
const CAPACITY: usize = 10_000;
/// No code of ours is longer, in bytes.
const LONGEST_CODE: usize = 8 * 1024;

/// What a code stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Names this grant in the tokens it leads to; random.
    pub id: String,
    /// Client the code was given to.
    pub client_id: String,
    /// Exactly the redirect URI of the authorization request.
    pub redirect_uri: String,
    /// S256 challenge.
    pub code_challenge: String,
    /// Echoed in the ID token.
    pub nonce: Option<String>,
    /// Scopes, as asked for.
    pub scope: String,
    /// Who signed in: e-mail, lower case.
    pub email: String,
    /// Fingerprint of their password then.
    pub fingerprint: String,
    /// When the password was typed, Unix seconds.
    pub auth_time: i64,
}

/// What the token endpoint was shown beside the code; the client is authenticated already.
#[derive(Debug, Clone, Copy)]
pub struct Redemption<'a> {
    /// The authenticated client.
    pub client_id: &'a str,
    /// `redirect_uri` parameter.
    pub redirect_uri: &'a str,
    /// `code_verifier` parameter.
    pub code_verifier: &'a str,
}

/// A code, opened.
#[derive(Serialize, Deserialize)]
struct Code {
    grant: Grant,
    expires: i64,
}

/// A new code for `grant`.
pub fn issue(sealer: &Sealer, grant: Grant, now: i64) -> String {
    let expires = now + LIFETIME;
    sealer.seal(&Code { grant, expires })
}

/// The codes that were used.
#[derive(Debug)]
pub struct UsedCodes {
    used: Once,
    withdrawn: Withdrawn,
}

impl Default for UsedCodes {
    fn default() -> Self {
        Self {
            used: Once::new("code", LIFETIME, CAPACITY),
            withdrawn: Withdrawn::new("grant", LONGEST, CAPACITY),
        }
    }
}

impl UsedCodes {
    /// Exchanges a code. `None` when it is none of ours, expired, used, or was given for something else; which of
    /// these is nobody's business. Any attempt uses the code up, and a second use ends what the first gave
    /// (RFC 6749 4.1.2).
    ///
    /// Errors when the databroker cannot say whether it was used.
    pub(crate) async fn redeem(
        &self,
        broker: &dyn Databroker,
        (sealer, code): (&Sealer, &str),
        shown: Redemption<'_>,
        now: i64,
    ) -> Result<Option<Grant>, Error> {
        if code.len() > LONGEST_CODE {
            return Ok(None);
        }
        let Some(Code { grant, expires }) = sealer.open(code) else {
            return Ok(None);
        };
        // By what it stands for: the text of a code can be written in more ways than one.
        if !self.used.claim(broker, &grant.id, now).await? {
            self.withdrawn.add(broker, &grant.id, now).await?;
            return Ok(None);
        }
        let ok = now < expires
            && grant.client_id == shown.client_id
            && grant.redirect_uri == shown.redirect_uri
            && pkce::matches(&grant.code_challenge, shown.code_verifier);
        Ok(ok.then_some(grant))
    }

    /// Whether the tokens of this grant were withdrawn because its code was used twice.
    ///
    /// Errors when the databroker cannot say.
    pub(crate) async fn is_withdrawn(&self, broker: &dyn Databroker, grant_id: &str) -> Result<bool, Error> {
        self.withdrawn.holds(broker, grant_id).await
    }
}
