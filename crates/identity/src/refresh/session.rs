//! What is done for one session: new tokens, user info, or its end.

use std::collections::HashMap;
use std::sync::Arc;

use pomerium_api::databroker::{Databroker, Error, Record};
use pomerium_api::pb::session::{OAuthToken, Session};
use pomerium_api::pb::user::User;
use pomerium_api::records::{RecordMessage, from_proto_time, from_record, to_record, to_tombstone};
use prost_types::ListValue;
use serde_json::{Map, Value};

use super::schedule::{Outcome, Task};
use super::{Matter, Providers, RefreshDeps};
use crate::claims::{AUTHENTICATION, PROTOCOL, flatten_claims, text, tidy};
use crate::records::{id_token_record, oauth_token, sign_in_claims, stored_claims};
use crate::{IdentityError, OidcProvider, Refreshed, UserInfo};

/// Those who write a record at the same moment try again this often.
const ATTEMPTS: usize = 8;

/// Why a task stopped.
enum Stop {
    /// The databroker failed.
    Later(String),
    /// The provider did not do what it was asked. If it said no, the session ends.
    Provider(Matter, IdentityError),
    /// The session is no more.
    Gone,
}

impl Stop {
    /// Why it may work later; `None` if it will not.
    fn for_now(&self) -> Option<String> {
        match self {
            Self::Later(reason) => Some(reason.clone()),
            Self::Provider(_, error) if error.is_temporary() => Some(error.to_string()),
            Self::Provider(..) | Self::Gone => None,
        }
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound => Self::Gone,
            error => Self::Later(error.to_string()),
        }
    }
}

/// Carries out one task. Never more than one per session at a time.
pub(super) async fn carry_out(deps: Arc<RefreshDeps>, id: String, task: Task) -> Outcome {
    let work = Work { deps: &deps, id: &id };
    let stop = match work.start(task).await {
        Ok(outcome) => return outcome,
        Err(stop) => stop,
    };
    if matches!(stop, Stop::Gone) {
        deps.unwritten.forget(&id);
    }
    work.tell(&stop);
    match (stop.for_now(), stop) {
        (Some(reason), _) => {
            tracing::warn!(session_id = id, ?task, reason, "session kept; will try again");
            Outcome::Retry
        }
        (None, Stop::Provider(_, error)) => {
            tracing::info!(session_id = id, ?task, %error, "session ends: the identity provider says no");
            work.delete().await
        }
        (None, _) => Outcome::Gone,
    }
}

struct Work<'a> {
    deps: &'a RefreshDeps,
    id: &'a str,
}

impl Work<'_> {
    async fn start(&self, task: Task) -> Result<Outcome, Stop> {
        let (_, session) = self.read().await?;
        let now = self.deps.clock.now();
        let expires_at = session.expires_at.as_ref().and_then(from_proto_time);
        if task == Task::Expire || expires_at.is_some_and(|at| at.as_second() > 0 && at <= now) {
            return Ok(match expires_at {
                Some(at) if at > now => Outcome::Done,
                _ => self.delete().await,
            });
        }
        if session.refresh_disabled {
            return Ok(Outcome::Done);
        }
        let Some(provider) = self.provider(&session) else {
            tracing::info!(
                session_id = self.id,
                idp_id = session.idp_id,
                "session ends: its provider is not configured"
            );
            return Ok(self.delete().await);
        };
        if task == Task::Refresh {
            return self.refresh(&provider, session).await;
        }
        match self.update_userinfo(&provider, &session).await {
            // The access token may have ended early; whether the person is still welcome, a refresh tells.
            Err(Stop::Provider(_, IdentityError::Refused { .. })) if has_refresh_token(&session) => {
                self.refresh(&provider, session).await
            }
            other => other,
        }
    }

    fn provider(&self, session: &Session) -> Option<Arc<OidcProvider>> {
        let providers: &Providers = &self.deps.providers;
        providers(&session.idp_id)
    }

    async fn refresh(&self, provider: &OidcProvider, session: Session) -> Result<Outcome, Stop> {
        let Some(tokens) = session.oauth_token.as_ref() else {
            return Ok(Outcome::Pointless);
        };
        if tokens.refresh_token.is_empty() {
            return Ok(Outcome::Pointless);
        }
        let subject = subject_of(&session);
        let refreshed = match self.deps.unwritten.take(self.id, &tokens.refresh_token) {
            Some(owed) => owed,
            None => {
                let refreshed = provider.refresh(&tokens.refresh_token, &subject).await;
                let refreshed = refreshed.map_err(|error| Stop::Provider(Matter::Session, error))?;
                self.deps.observer.succeeded(Matter::Session);
                refreshed
            }
        };
        // At once: a provider that rotates refresh tokens has just made the old one worthless.
        let kept = self.update(|session| take_tokens(session, &refreshed)).await;
        match &kept {
            Ok(_) => {}
            // Signed out meanwhile. The new tokens are not to outlive that.
            Err(Stop::Gone) => {
                if let Err(error) = provider.revoke(&refreshed.tokens).await {
                    tracing::debug!(%error, "tokens of a session signed out could not be revoked");
                }
            }
            Err(_) => {
                let unwritten = &self.deps.unwritten;
                unwritten.keep(self.id, &tokens.refresh_token, refreshed);
            }
        }
        let session = kept?;
        let updated = self.update_userinfo(provider, &session).await;
        updated.or_else(|stop| {
            // The tokens are new; user info has a turn of its own.
            let Some(reason) = stop.for_now() else {
                return Err(stop);
            };
            self.tell(&stop);
            tracing::warn!(session_id = self.id, reason, "tokens refreshed, user info not");
            Ok(Outcome::Done)
        })
    }

    /// Tells the observer what the provider did not do.
    fn tell(&self, stop: &Stop) {
        if let Stop::Provider(matter, error) = stop {
            self.deps.observer.failed(*matter, error);
        }
    }

    async fn update_userinfo(&self, provider: &OidcProvider, session: &Session) -> Result<Outcome, Stop> {
        let Some(tokens) = session.oauth_token.as_ref() else {
            return Ok(Outcome::Pointless);
        };
        let userinfo = match provider
            .userinfo(&tokens.access_token, &subject_of(session))
            .await
        {
            // It may just have ended. Where we know that it has not, the no is about the person.
            Err(IdentityError::Refused { .. })
                if tokens.refresh_token.is_empty() && !self.is_known_to_live(tokens) =>
            {
                return Ok(Outcome::Pointless);
            }
            other => other.map_err(|error| Stop::Provider(Matter::User, error))?,
        };
        if userinfo.is_some() {
            self.deps.observer.succeeded(Matter::User);
        }
        let claims = Claims::new(provider, session, userinfo.as_ref());
        let session = self.update(|session| claims.apply(&mut session.claims)).await?;
        self.update_user(&session.user_id, &claims).await?;
        Ok(if userinfo.is_none() && tokens.refresh_token.is_empty() {
            Outcome::Pointless
        } else {
            Outcome::Done
        })
    }

    fn is_known_to_live(&self, tokens: &OAuthToken) -> bool {
        let end = tokens.expires_at.as_ref().and_then(from_proto_time);
        end.is_some_and(|end| end > self.deps.clock.now())
    }

    async fn read(&self) -> Result<(Record, Session), Stop> {
        let record = self.deps.broker.get(Session::TYPE, self.id).await?;
        let session = from_record(&record)?;
        Ok((record, session))
    }

    async fn update(&self, edit: impl Fn(&mut Session)) -> Result<Session, Stop> {
        update(&*self.deps.broker, self.id, edit).await
    }

    /// A user who was deleted does not come back by this.
    async fn update_user(&self, id: &str, claims: &Claims) -> Result<(), Stop> {
        let updated = update(&*self.deps.broker, id, |user: &mut User| {
            claims.apply(&mut user.claims);
            if let Some(name) = &claims.name {
                user.name.clone_from(name);
            }
            if let Some(email) = &claims.email {
                user.email.clone_from(email);
            }
        });
        match updated.await {
            Ok(_) | Err(Stop::Gone) => Ok(()),
            Err(stop) => Err(stop),
        }
    }

    async fn delete(&self) -> Outcome {
        let deleted = async {
            let (_, session) = self.read().await?;
            let tombstone = to_tombstone(&session, self.deps.clock.now());
            self.deps.broker.put(vec![tombstone]).await?;
            Ok::<_, Stop>(())
        };
        match deleted.await {
            Ok(()) | Err(Stop::Gone) => Outcome::Gone,
            Err(Stop::Later(reason)) => {
                tracing::error!(
                    session_id = self.id,
                    reason,
                    "session could not be deleted; will try again"
                );
                Outcome::Retry
            }
            Err(Stop::Provider(..)) => Outcome::Retry,
        }
    }
}

/// Reads, edits and writes back, again if someone else wrote in between. Writes nothing when the edit
/// changes nothing.
async fn update<M: RecordMessage + PartialEq>(
    broker: &dyn Databroker,
    id: &str,
    edit: impl Fn(&mut M),
) -> Result<M, Stop> {
    for _ in 0..ATTEMPTS {
        let record = broker.get(M::TYPE, id).await?;
        let before: M = from_record(&record)?;
        let mut after = before.clone();
        edit(&mut after);
        if after == before {
            return Ok(after);
        }
        let edited = Record {
            version: record.version,
            ..to_record(&after)
        };
        if broker.replace(edited).await?.is_some() {
            return Ok(after);
        }
    }
    Err(Stop::Later(format!("record {id} is written all the time")))
}

/// An ID token that was not renewed is kept for sign-out and its claims, but no longer counts the time:
/// it would have the session refreshed again and again.
fn take_tokens(session: &mut Session, refreshed: &Refreshed) {
    let end = session.expires_at.as_ref().and_then(from_proto_time);
    session.oauth_token = Some(oauth_token(&refreshed.tokens, end));
    match (&refreshed.id_token, session.id_token.as_mut()) {
        (Some(new), _) => session.id_token = Some(id_token_record(new)),
        (None, Some(old)) => old.expires_at = None,
        (None, None) => {}
    }
}

fn has_refresh_token(session: &Session) -> bool {
    session
        .oauth_token
        .as_ref()
        .is_some_and(|tokens| !tokens.refresh_token.is_empty())
}

/// Who the session is about, as the provider names them.
fn subject_of(session: &Session) -> String {
    let token = session
        .id_token
        .as_ref()
        .map(|token| token.subject.clone())
        .filter(|subject| !subject.is_empty());
    token
        .or_else(|| flat_text(&session.claims, "sub"))
        .unwrap_or_else(|| session.user_id.clone())
}

fn flat_text(claims: &HashMap<String, ListValue>, name: &str) -> Option<String> {
    match claims.get(name)?.values.first()?.kind.as_ref()? {
        prost_types::value::Kind::StringValue(text) => Some(text.clone()),
        _ => None,
    }
}

/// What the provider says now.
struct Claims {
    flat: HashMap<String, ListValue>,
    /// Whether this is all there is, so that what is missing is to go.
    whole: bool,
    name: Option<String>,
    email: Option<String>,
}

impl Claims {
    /// The stored ID token and user info together are all the claims; without the token only those of user
    /// info are known.
    fn new(provider: &OidcProvider, session: &Session, userinfo: Option<&UserInfo>) -> Self {
        let base = session
            .id_token
            .as_ref()
            .and_then(|token| stored_claims(&token.raw));
        let whole = base.is_some();
        let all: Map<String, Value> = match (base, userinfo) {
            (Some(base), userinfo) => provider.join_claims(&base, userinfo),
            (None, Some(userinfo)) => {
                let mut claims = userinfo.claims.clone();
                claims.retain(|name, _| {
                    !PROTOCOL.contains(&name.as_str()) && !AUTHENTICATION.contains(&name.as_str())
                });
                tidy(&mut claims);
                claims
            }
            (None, None) => Map::new(),
        };
        let known = |name| {
            text(&all, name)
                .map(str::to_owned)
                .or_else(|| whole.then(String::new))
        };
        Self {
            flat: flatten_claims(&all),
            whole,
            name: known("name"),
            email: known("email"),
        }
    }

    fn apply(&self, claims: &mut HashMap<String, ListValue>) {
        let mut next = self.flat.clone();
        if self.whole {
            // A token of a refresh says nothing new about the sign-in; see `sign_in_claims`.
            next.retain(|name, _| !AUTHENTICATION.contains(&name.as_str()));
            next.extend(sign_in_claims(claims).map(|(name, value)| (name.clone(), value.clone())));
            *claims = next;
        } else {
            claims.extend(next);
        }
    }
}
