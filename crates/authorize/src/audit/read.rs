//! Records read back, one line at a time. Logs are written by others, too: a line is a record, something else, or
//! broken, and nothing in it is believed to be short or well-formed.

use std::io::{self, BufRead};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::VERSION;
use super::facts::Facts;

/// Longest line that is read, bytes. Longer ones are broken.
pub const LONGEST: usize = 4 << 20;

/// What a line is.
#[derive(Debug)]
pub enum Line {
    /// A decision.
    Decision(Box<Decision>),
    /// Records are missing here; how many.
    Gap(u64),
    /// The stream begins or ends here, or somebody began or ended to impersonate.
    Mark,
    /// Not a record of this stream: another log, or nothing.
    Other,
    /// A record that cannot be read, and why.
    Broken(String),
}

/// A decision as it was logged.
#[derive(Debug, Clone, Deserialize)]
pub struct Decision {
    /// When.
    pub time: Timestamp,
    /// Request id.
    pub request_id: String,
    /// `allow`, `login`, `device`, `step-up`, `denied` or `error`.
    pub outcome: String,
    /// Status of a refusal.
    #[serde(default)]
    pub status: Option<u16>,
    /// Method.
    pub method: String,
    /// `host[:port]`.
    pub host: String,
    /// Path, still escaped.
    pub path: String,
    /// Address of the client.
    pub source_ip: Option<std::net::IpAddr>,
    /// Who asked.
    #[serde(default)]
    pub user: Option<User>,
    /// The route that answered.
    #[serde(default)]
    pub route: Option<Route>,
    /// Why it could not be judged, for the outcome `error`.
    #[serde(default)]
    pub problem: Option<String>,
    /// The rules that decided.
    #[serde(default)]
    pub rule: String,
    /// The criteria that decided.
    #[serde(default)]
    pub criteria: Vec<String>,
    /// Result of the `allow` rules.
    #[serde(default)]
    pub allow: Value,
    /// Result of the `deny` rules.
    #[serde(default)]
    pub deny: Value,
    /// Results of scripts.
    #[serde(default)]
    pub scripts: Value,
    #[serde(default)]
    pub(super) inputs: Option<Facts>,
}

/// Who asked.
#[derive(Debug, Clone, Deserialize)]
pub struct User {
    /// User id.
    pub id: String,
    /// E-mail; empty when there is none.
    pub email: String,
}

/// A route.
#[derive(Debug, Clone, Deserialize)]
pub struct Route {
    /// Its id.
    pub id: String,
    /// Its name; empty when it has none.
    pub name: String,
}

impl Decision {
    /// Outcome with the status of a refusal: `denied 403`.
    pub fn came_to(&self) -> String {
        match self.status {
            Some(status) => format!("{} {status}", self.outcome),
            None => self.outcome.clone(),
        }
    }

    /// The judgement, as [`pomerium_policy::explain::text`] prints it; `None` when the groups were not logged.
    pub fn tree(&self) -> Option<Value> {
        self.inputs.as_ref()?;
        Some(serde_json::json!({"allow": self.allow, "deny": self.deny, "scripts": self.scripts}))
    }
}

#[derive(Deserialize)]
struct Head {
    kind: Option<String>,
    version: Option<u32>,
    #[serde(default)]
    dropped: u64,
}

/// Says what a line is.
pub fn line(text: &[u8]) -> Line {
    let looks_like_ours = |text: &[u8]| text.starts_with(b"{\"stream\":");
    let head: Head = match serde_json::from_slice(text) {
        Ok(head) => head,
        Err(error) if looks_like_ours(text) => return Line::Broken(error.to_string()),
        Err(_) => return Line::Other,
    };
    let (Some(kind), Some(version)) = (head.kind, head.version) else {
        return Line::Other;
    };
    if !matches!(
        kind.as_str(),
        "decision" | "gap" | "impersonation" | "start" | "stop"
    ) {
        return Line::Other;
    }
    if version != VERSION {
        let problem = format!("it is of version {version}, and this program reads version {VERSION}");
        return Line::Broken(problem);
    }
    match kind.as_str() {
        "decision" => match serde_json::from_slice(text) {
            Ok(decision) => Line::Decision(Box::new(decision)),
            Err(error) => Line::Broken(error.to_string()),
        },
        "gap" => Line::Gap(head.dropped),
        _ => Line::Mark,
    }
}

/// Reads lines, keeping at most one of them in memory.
#[derive(Debug)]
pub struct Lines<R> {
    source: R,
    buffer: Vec<u8>,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    /// Reads from `source`.
    pub fn new(source: R) -> Self {
        Self {
            source,
            buffer: Vec::new(),
            number: 0,
        }
    }

    /// The next line and its number from 1; `None` at the end. Errors when the source cannot be read.
    pub fn next_line(&mut self) -> io::Result<Option<(u64, Line)>> {
        self.buffer.clear();
        let mut too_long = false;
        loop {
            let available = self.source.fill_buf()?;
            if available.is_empty() {
                if self.buffer.is_empty() && !too_long {
                    return Ok(None);
                }
                break;
            }
            let end = available.iter().position(|byte| *byte == b'\n');
            let part = &available[..end.unwrap_or(available.len())];
            let used = part.len() + usize::from(end.is_some());
            if self.buffer.len() + part.len() > LONGEST {
                too_long = true;
            } else if !too_long {
                self.buffer.extend_from_slice(part);
            }
            self.source.consume(used);
            if end.is_some() {
                break;
            }
        }
        self.number += 1;
        let found = if too_long {
            Line::Broken(format!("it is longer than {LONGEST} bytes"))
        } else {
            line(&self.buffer)
        };
        Ok(Some((self.number, found)))
    }
}
