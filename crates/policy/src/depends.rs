//! What a policy looks at beyond the request and the person: when a judgement may come to something else although
//! neither has changed. For those who go on for long, and are judged again.

use crate::criteria::Test;
use crate::input::SESSION;
use crate::ppl::Action;
use crate::program::Program;

/// What a judgement depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Depends {
    /// The moment.
    pub time: bool,
    /// Records that are looked up while judging, such as external data.
    pub records: bool,
    /// The headers of the request.
    pub headers: bool,
    /// Records of sessions as they are, with all that is in them. That of the person is known without it.
    pub sessions: bool,
}

impl Depends {
    fn and(self, other: Self) -> Self {
        Self {
            time: self.time || other.time,
            records: self.records || other.records,
            headers: self.headers || other.headers,
            sessions: self.sessions || other.sessions,
        }
    }
}

impl Program {
    /// What its judgement depends on.
    pub fn depends(&self) -> Depends {
        let groups = self.groups(Action::Allow).iter().chain(self.groups(Action::Deny));
        let rules = groups
            .flat_map(|group| &group.checks)
            .map(|check| check.test.depends());
        let scripts = self.scripts().iter().map(crate::Script::depends);
        rules.chain(scripts).fold(Depends::default(), Depends::and)
    }
}

impl Test {
    fn depends(&self) -> Depends {
        let (time, records, headers) = match self {
            // A record may have an end of its own.
            Test::Record(_) => (true, true, false),
            // A login may become too old.
            Test::Authentication(_)
            | Test::Date(_)
            | Test::DayOfWeek(_)
            | Test::TimeOfDay(_)
            | Test::SshCa(_) => (true, false, false),
            Test::ClientCertificate(_) | Test::InvalidClientCertificate => (true, false, false),
            Test::CorsPreflight => (false, false, true),
            Test::Accept
            | Test::Reject
            | Test::AuthenticatedUser
            | Test::User(_)
            | Test::Email(_)
            | Test::Domain(_)
            | Test::Claim(..)
            | Test::Groups(_)
            | Test::Device(_)
            | Test::HttpMethod(_)
            | Test::HttpPath(_)
            | Test::SourceIp(_)
            | Test::McpTool(_)
            | Test::SshUsername(_)
            | Test::SshUsernameMatchesEmail
            | Test::SshUsernameMatchesClaim(_)
            | Test::SshPublicKey(_) => (false, false, false),
        };
        let sessions = matches!(self, Test::Record(matcher) if matcher.kind() == SESSION);
        Depends {
            time,
            records,
            headers,
            sessions,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ppl::Policy;
    use crate::{Script, ScriptData};

    fn of(policy: &serde_json::Value, scripts: &[&str]) -> Depends {
        let scripts = scripts
            .iter()
            .map(|text| Script::compile("test", text, &ScriptData::default()).unwrap());
        let policy = Policy::parse(policy).unwrap();
        Program::compile(&policy)
            .unwrap()
            .with_scripts(scripts.collect())
            .depends()
    }

    #[test]
    fn rules_and_scripts_say_what_they_depend_on() {
        let nothing = Depends::default();
        let time = Depends {
            time: true,
            ..nothing
        };
        let rule = |criterion: serde_json::Value| of(&json!({"deny": {"not": [criterion]}}), &[]);
        assert_eq!(rule(json!({"groups": {"has": "g"}})), nothing);
        assert_eq!(rule(json!({"authentication": {"max_age": "1h"}})), time);
        assert_eq!(rule(json!({"date": {"before": "2030-01-01"}})), time);
        assert_eq!(rule(json!({"day_of_week": "mon-fri"})), time);
        let record = json!({"record": {"type": "example.com/X", "exists": true}});
        assert_eq!(
            rule(record),
            Depends {
                records: true,
                ..time
            }
        );
        let script = |text: &str| of(&json!([]), &[text]);
        assert_eq!(script("allow { input.http.method == \"GET\" }"), nothing);
        assert_eq!(script("allow { time.now_ns() > 5 }"), time);
        assert_eq!(
            script("allow { input.http.headers[\"X-Team\"] == \"red\" }"),
            Depends {
                headers: true,
                ..nothing
            }
        );
        assert!(script("allow { input[x].method == \"GET\" }").headers);
        assert_eq!(
            script("allow { get_databroker_record(\"example.com/X\", \"a\") != null }"),
            Depends {
                records: true,
                ..time
            }
        );
    }

    #[test]
    fn who_reads_sessions_as_they_are_says_so() {
        const SESSIONS: &str = "type.googleapis.com/session.Session";
        let record = |kind: &str| json!({"record": {"type": kind, "by": "user.id", "exists": true}});
        let rule = |kind: &str| of(&json!({"deny": {"not": [record(kind)]}}), &[]).sessions;
        assert!(rule(SESSIONS) && !rule("type.googleapis.com/user.User"));
        let script = |kind: &str| {
            let text = format!("allow {{ get_databroker_record({kind}, \"a\") != null }}");
            of(&json!([]), &[&text]).sessions
        };
        assert!(script(&format!("\"{SESSIONS}\"")) && !script("\"example.com/X\""));
        assert!(script("input.http.path"), "any kind may be asked for");
        assert!(!of(&json!([]), &["allow { input.session.id != \"\" }"]).sessions);
    }
}
