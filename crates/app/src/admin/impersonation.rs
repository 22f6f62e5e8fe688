//! Impersonation (spec policy.md 19): a session gets the eyes of another one, until it ends or is told to.
//!
//! Only the session record of whoever looks is changed; policies, identity headers and step-up then see the other
//! person, while the log names both. It is written down here as well, in the stream of the authorize log, whatever
//! the log level, with the reason.

use std::sync::Arc;

use jiff::Timestamp;
use pomerium_api::clock::Clock;
use pomerium_api::databroker::{Databroker, Error, Query, Record};
use pomerium_api::pb::session::Session;
use pomerium_api::pb::user::User;
use pomerium_api::records::{RecordMessage, from_proto_time, from_record, to_record};
use pomerium_authenticate::session_is_alive;
use pomerium_authorize::audit::{Impersonation, Operator, SessionOf};
use pomerium_proxy::LogSink;
use serde_json::json;

use super::protocol::{Answer, Question, SessionLine, Target};
use crate::audit::Audit;

/// Records read at a time.
const PAGE: u64 = 500;
/// Sessions that are looked at, at most.
const MOST: u64 = 100_000;
/// Longest reason, characters.
const LONGEST_REASON: usize = 500;

/// Who asks, as the operating system says.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    /// User id.
    pub uid: u32,
    /// Process id, where it is told.
    pub pid: Option<i32>,
}

/// Why something is not done.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The store does not answer.
    #[error("the session store does not answer: {0}")]
    Store(#[from] Error),
    /// It makes no sense, and why.
    #[error("{0}")]
    Because(String),
}

fn because<T>(why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Because(why.into()))
}

/// Answers questions.
pub struct Sessions {
    broker: Arc<dyn Databroker>,
    clock: Arc<dyn Clock>,
    log: LogSink,
    audit: Arc<Audit>,
}

/// A session that counts, with the version it was read at.
struct Known {
    record: Record,
    session: Session,
}

impl Sessions {
    /// Over the records of `broker`; what is done is written to `log` and to the audit stream.
    pub fn new(
        broker: Arc<dyn Databroker>,
        clock: Arc<dyn Clock>,
        (log, audit): (LogSink, Arc<Audit>),
    ) -> Self {
        Self {
            broker,
            clock,
            log,
            audit,
        }
    }

    /// Answers one question.
    pub async fn answer(&self, question: Question, caller: Caller) -> Answer {
        let answer = match question {
            Question::List { user } => self.list(user.as_deref()).await,
            Question::Impersonate {
                session,
                target,
                reason,
            } => self.begin(&session, target, &reason, caller).await,
            Question::End { session } => self.end(&session, caller).await,
        };
        answer.unwrap_or_else(|refusal| {
            tracing::warn!(%refusal, uid = caller.uid, "admin: a question was refused");
            Answer::Refused(refusal.to_string())
        })
    }

    async fn list(&self, user: Option<&str>) -> Result<Answer, Refusal> {
        let mut lines = Vec::new();
        for known in self.alive(user).await? {
            lines.push(self.line(&known.session).await?);
        }
        lines.sort_by(|one, two| two.issued_at.cmp(&one.issued_at));
        Ok(Answer::Sessions(lines))
    }

    async fn begin(&self, id: &str, target: Target, reason: &str, caller: Caller) -> Result<Answer, Refusal> {
        let reason = reason.trim();
        if reason.is_empty() {
            return because("nobody is impersonated without a reason; say why with --reason");
        }
        if reason.chars().count() > LONGEST_REASON || reason.chars().any(is_unseen) {
            return because("the reason must be one line of at most 500 characters");
        }
        let own = self.find(id).await?;
        if impersonated(&own.session).is_some() {
            return because("this session impersonates somebody already; end that first with --end");
        }
        let target = match target {
            Target::Session(id) => self.find(&id).await?,
            Target::User(user) => self.latest(&user).await?,
        };
        if target.session.id == own.session.id {
            return because("a session cannot impersonate itself");
        }
        if impersonated(&target.session).is_some() {
            return because("the other session impersonates somebody itself; nobody looks through two");
        }
        let changed = self.set(own, Some(target.session.id.clone())).await?;
        let (session, target) = (self.line(&changed).await?, self.line(&target.session).await?);
        self.write_down(true, (&session, Some(&target)), reason, caller);
        Ok(Answer::Done {
            session: Box::new(session),
            target: Some(Box::new(target)),
        })
    }

    async fn end(&self, id: &str, caller: Caller) -> Result<Answer, Refusal> {
        let own = self.find(id).await?;
        let Some(target) = impersonated(&own.session).map(str::to_owned) else {
            return because("this session impersonates nobody");
        };
        let changed = self.set(own, None).await?;
        let session = self.line(&changed).await?;
        // The other session may be over by now.
        let target = match self.read::<Session>(&target).await? {
            Some((_, target)) => Some(self.line(&target).await?),
            None => None,
        };
        self.write_down(false, (&session, target.as_ref()), "", caller);
        Ok(Answer::Done {
            session: Box::new(session),
            target: target.map(Box::new),
        })
    }

    /// Changes that one field, unless the record has changed since it was read.
    async fn set(&self, known: Known, target: Option<String>) -> Result<Session, Refusal> {
        let session = Session {
            impersonate_session_id: target,
            ..known.session
        };
        let record = Record {
            version: known.record.version,
            ..to_record(&session)
        };
        match self.broker.replace(record).await? {
            Some(_) => Ok(session),
            None => because("the session changed at this very moment; try again"),
        }
    }

    async fn read<M: RecordMessage>(&self, id: &str) -> Result<Option<(Record, M)>, Error> {
        match self.broker.get(M::TYPE, id).await {
            Ok(record) => {
                let message = from_record(&record)?;
                Ok(Some((record, message)))
            }
            Err(Error::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn find(&self, id: &str) -> Result<Known, Refusal> {
        let Some((record, session)) = self.read::<Session>(id).await? else {
            return because(format!(
                "there is no session \"{id}\"; `pomerium session list` shows those there are"
            ));
        };
        if !session_is_alive(&session, self.clock.now()) {
            return because(format!("the session \"{id}\" is over"));
        }
        Ok(Known { record, session })
    }

    /// The session that a user used last.
    async fn latest(&self, user: &str) -> Result<Known, Refusal> {
        let last = |known: &Known| {
            let at = known.session.accessed_at.as_ref();
            at.or(known.session.issued_at.as_ref()).map(|at| at.seconds)
        };
        let sessions = self.alive(Some(user)).await?.into_iter();
        match sessions
            .filter(|known| impersonated(&known.session).is_none())
            .max_by_key(last)
        {
            Some(known) => Ok(known),
            None => because(format!(
                "\"{user}\" has no session; whoever is impersonated must be signed in"
            )),
        }
    }

    /// Sessions that count now; of one user (id or e-mail) where one is named.
    async fn alive(&self, user: Option<&str>) -> Result<Vec<Known>, Error> {
        let now = self.clock.now();
        let mut found = Vec::new();
        let mut offset = 0;
        while offset < MOST {
            let page = self
                .broker
                .query(Query::page(Session::TYPE, offset, PAGE))
                .await?;
            let read = page.records.len() as u64;
            for record in page.records {
                let session: Session = from_record(&record)?;
                if !session_is_alive(&session, now) || !self.is_of(&session, user).await? {
                    continue;
                }
                found.push(Known { record, session });
            }
            offset += read;
            if read < PAGE {
                break;
            }
        }
        Ok(found)
    }

    async fn is_of(&self, session: &Session, user: Option<&str>) -> Result<bool, Error> {
        let Some(user) = user else { return Ok(true) };
        if session.user_id == user {
            return Ok(true);
        }
        Ok(user.contains('@') && self.email(&session.user_id).await?.eq_ignore_ascii_case(user))
    }

    async fn email(&self, user_id: &str) -> Result<String, Error> {
        let user = self.read::<User>(user_id).await?;
        Ok(user.map(|(_, user)| user.email).unwrap_or_default())
    }

    async fn line(&self, session: &Session) -> Result<SessionLine, Error> {
        let time = |at: Option<Timestamp>| at.map(|at| at.to_string()).unwrap_or_default();
        let [issued, accessed, expires] = [&session.issued_at, &session.accessed_at, &session.expires_at]
            .map(|at| at.as_ref().filter(|at| at.seconds > 0).and_then(from_proto_time));
        Ok(SessionLine {
            id: session.id.clone(),
            user_id: session.user_id.clone(),
            email: self.email(&session.user_id).await?,
            issued_at: time(issued),
            accessed_at: time(accessed),
            expires_at: time(expires),
            impersonates: impersonated(session).map(str::to_owned),
        })
    }

    /// To the audit stream, the stream of the authorize log, and the program's own.
    fn write_down(
        &self,
        began: bool,
        (session, target): (&SessionLine, Option<&SessionLine>),
        reason: &str,
        caller: Caller,
    ) {
        let now = self.clock.now();
        let message = if began {
            "impersonation began"
        } else {
            "impersonation ended"
        };
        self.audit.impersonation(&Impersonation {
            now,
            began,
            session: audited(session),
            target: target.map(audited),
            reason,
            by: Operator {
                uid: caller.uid,
                pid: caller.pid,
            },
        });
        let line = json!({
            "level": "warn", "service": "authorize", "message": message, "time": now.to_string(),
            "session-id": session.id, "user": session.user_id, "email": session.email,
            "impersonate-session-id": target.map(|target| &target.id),
            "impersonate-user-id": target.map(|target| &target.user_id),
            "impersonate-email": target.map(|target| &target.email),
            "reason": reason, "by-uid": caller.uid, "by-pid": caller.pid,
        });
        tracing::warn!(
            session = session.id,
            target = target.map(|target| target.id.as_str()),
            reason,
            uid = caller.uid,
            "admin: {message}"
        );
        self.log.line(|buffer| {
            buffer.extend_from_slice(line.to_string().as_bytes());
            buffer.push(b'\n');
        });
    }
}

fn audited(line: &SessionLine) -> SessionOf<'_> {
    SessionOf {
        id: &line.id,
        user_id: &line.user_id,
        email: &line.email,
    }
}

/// Characters that end a line, move a cursor or turn the reading direction.
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn impersonated(session: &Session) -> Option<&str> {
    session
        .impersonate_session_id
        .as_deref()
        .filter(|id| !id.is_empty())
}
