//! What went wrong, in the reader's words and in the wire's: one value that every form of reply is made of.
//!
//! The catalogue of refusals and their texts is in `catalog`; the forms are in [`crate::error_reply`].

mod catalog;

use std::borrow::Cow;

use http::StatusCode;

use crate::pages::href;

/// Text that is usually fixed.
pub type Text = Cow<'static, str>;

/// A refusal or failure.
#[derive(Debug, Clone)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// A stable code for documents and searches, such as `not-allowed`.
    pub code: &'static str,
    /// The text programs see (`Forbidden`); wire-visible, kept equal to the original's (policy.md 8.3).
    pub reason: Text,
    /// The heading of the page.
    pub title: Text,
    /// What happened.
    pub what: Text,
    /// Whose decision or fault it is; may be empty.
    pub whose: Text,
    /// What to do next; may be empty.
    pub next: Text,
    /// Where the administrator looks for the cause; may be empty.
    pub operator: Text,
    /// Links; the first is the main one.
    pub actions: Vec<Action>,
    /// What the rules said, where the route or the reader's role allows telling.
    pub details: Vec<Detail>,
    /// What the policies that the console keeps said, where the route allows telling.
    pub traces: Vec<PolicyTrace>,
    /// Where a program can send its user to sign in.
    pub login_url: Option<String>,
    /// Seconds until trying again makes sense.
    pub retry_after: Option<u32>,
    /// Who answers: it decides the shape of machine-readable replies.
    pub origin: Origin,
}

/// Who made the reply.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Origin {
    /// The authorization decision (policy.md 9).
    #[default]
    Decision,
    /// The data plane itself (proxy.md 7).
    Proxy {
        /// The flag of the access log, such as `UF`.
        flag: &'static str,
        /// The response code details, such as `no_healthy_upstream`.
        details: Text,
    },
    /// A page or API of ours (authentication.md 18).
    Handler,
}

/// A link with a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// What it says.
    pub label: Text,
    /// Where it leads; shown only when [`href`] accepts it.
    pub url: String,
}

impl Action {
    /// A link.
    pub fn new(label: impl Into<Text>, url: impl Into<String>) -> Self {
        Self {
            label: label.into(),
            url: url.into(),
        }
    }

    /// The address, if it may stand on a page.
    pub fn href(&self) -> Option<&str> {
        href(&self.url)
    }
}

/// What one rule said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detail {
    /// The rule or policy.
    pub name: String,
    /// What it came to.
    pub outcome: Outcome,
    /// Why, may be empty.
    pub text: String,
    /// The way out, may be empty.
    pub remedy: String,
}

/// What one policy among those of a route said (spec policy.md 9).
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PolicyTrace {
    /// Its id; may be empty.
    pub id: String,
    /// What it is about, in its author's words: Markdown, never HTML. May be empty.
    pub explanation: String,
    /// The way out, likewise.
    pub remediation: String,
    /// Its rules allow.
    pub allow: bool,
    /// Its rules deny.
    pub deny: bool,
}

impl PolicyTrace {
    /// What it came to.
    pub fn outcome(&self) -> Outcome {
        match (self.deny, self.allow) {
            (true, _) => Outcome::Denies,
            (false, true) => Outcome::Allows,
            (false, false) => Outcome::NotMet,
        }
    }
}

/// What a rule came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It allows.
    Allows,
    /// It denies.
    Denies,
    /// It does not hold.
    NotMet,
}

impl Problem {
    /// A problem in free words; [`Origin::Handler`].
    pub fn new(status: u16, code: &'static str, title: impl Into<Text>, what: impl Into<Text>) -> Self {
        let standard = StatusCode::from_u16(status)
            .ok()
            .and_then(|status| status.canonical_reason());
        Self {
            status,
            code,
            reason: standard.unwrap_or("Error").into(),
            title: title.into(),
            what: what.into(),
            whose: "".into(),
            next: "".into(),
            operator: "".into(),
            actions: Vec::new(),
            details: Vec::new(),
            traces: Vec::new(),
            login_url: None,
            retry_after: None,
            origin: Origin::Handler,
        }
    }

    /// The text that programs see.
    #[must_use]
    pub fn with_reason(mut self, reason: impl Into<Text>) -> Self {
        self.reason = reason.into();
        self
    }

    /// Whose decision it is.
    #[must_use]
    pub fn whose(mut self, whose: impl Into<Text>) -> Self {
        self.whose = whose.into();
        self
    }

    /// What to do next.
    #[must_use]
    pub fn next(mut self, next: impl Into<Text>) -> Self {
        self.next = next.into();
        self
    }

    /// Where the administrator looks.
    #[must_use]
    pub fn operator(mut self, operator: impl Into<Text>) -> Self {
        self.operator = operator.into();
        self
    }

    /// When trying again makes sense, seconds from now.
    #[must_use]
    pub fn later(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Flag and details of the access log, for failures of the data plane.
    pub fn log_entry(&self) -> Option<(&'static str, &str)> {
        match &self.origin {
            Origin::Proxy { flag, details } if self.status >= 500 => Some((flag, details)),
            _ => None,
        }
    }

    /// One more link.
    #[must_use]
    pub fn action(mut self, label: impl Into<Text>, url: impl Into<String>) -> Self {
        self.actions.push(Action::new(label, url));
        self
    }

    /// A link that makes the same request again.
    #[must_use]
    pub fn retry(self, url: impl Into<String>) -> Self {
        self.action("Try again", url)
    }

    /// What the rules said.
    #[must_use]
    pub fn with_details(mut self, details: Vec<Detail>) -> Self {
        self.details = details;
        self
    }

    /// What each policy said.
    #[must_use]
    pub fn with_traces(mut self, traces: Vec<PolicyTrace>) -> Self {
        self.traces = traces;
        self
    }

    /// The data plane answers, with this flag and these details.
    #[must_use]
    pub fn local(mut self, flag: &'static str, details: impl Into<Text>) -> Self {
        self.origin = Origin::Proxy {
            flag,
            details: details.into(),
        };
        self
    }

    /// The decision answers.
    #[must_use]
    pub fn decision(mut self) -> Self {
        self.origin = Origin::Decision;
        self
    }

    /// The status; 450 and 495 are none of the registered ones and still valid.
    pub fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}
