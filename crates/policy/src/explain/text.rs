//! An explained judgement for people. Works on the JSON form of a [`Tree`](super::Tree), so that one that was read
//! from a log prints like one that was just made.

use std::fmt::Write as _;

use serde_json::Value;

/// The judgement, one line for each group and criterion. Values of requests are shown as JSON, in which nothing can
/// end a line or move a cursor.
pub fn text(tree: &Value) -> String {
    let mut out = String::new();
    for action in ["allow", "deny"] {
        write_action(&mut out, action, &tree[action]);
    }
    for script in tree["scripts"].as_array().into_iter().flatten() {
        write_script(&mut out, script);
    }
    out
}

fn write_action(out: &mut String, name: &str, action: &Value) {
    let _ = writeln!(out, "{name}: {}", verdict(action));
    let groups = action["groups"].as_array();
    if groups.is_none_or(Vec::is_empty) {
        let _ = writeln!(out, "  no rule");
    }
    for group in groups.into_iter().flatten() {
        let (place, meaning) = (word(&group["place"]), word(&group["meaning"]));
        let _ = writeln!(out, "  {place} ({meaning}): {}", verdict(group));
        for criterion in group["criteria"].as_array().into_iter().flatten() {
            write_criterion(out, criterion);
        }
    }
}

fn write_script(out: &mut String, script: &Value) {
    let said = match script["failure"].as_str() {
        Some(_) => format!("failed: {}", word(&script["failure"])),
        None => format!("allow {}, deny {}", yes(&script["allow"]), yes(&script["deny"])),
    };
    let reasons: Vec<String> = script["reasons"]
        .as_array()
        .into_iter()
        .flatten()
        .map(word)
        .collect();
    let why = if reasons.is_empty() {
        String::new()
    } else {
        format!(" ({})", reasons.join(", "))
    };
    let _ = writeln!(out, "Rego policy {}: {said}{why}", word(&script["name"]));
}

fn yes(value: &Value) -> &'static str {
    if *value == true { "yes" } else { "no" }
}

fn write_criterion(out: &mut String, criterion: &Value) {
    let mark = if criterion["holds"] == true { "+" } else { "-" };
    let name = word(&criterion["criterion"]);
    let _ = write!(out, "    {mark} {name}: {}", shown(&criterion["wants"]));
    if !criterion["found"].is_null() {
        let _ = write!(out, "; found {}", shown(&criterion["found"]));
    }
    let _ = writeln!(out, "; {}", word(&criterion["reason"]));
}

fn verdict(of: &Value) -> String {
    let value = if of["value"] == true { "yes" } else { "no" };
    let reasons = ["reasons", "other_reasons"].into_iter();
    let reasons = reasons.filter_map(|key| of[key].as_array()).flatten();
    let reasons: Vec<String> = reasons.map(word).collect();
    if reasons.is_empty() {
        value.to_owned()
    } else {
        format!("{value} ({})", reasons.join(", "))
    }
}

/// A name of ours, without quotes. Records can be written by anybody: what is no name is shown as JSON.
fn word(value: &Value) -> String {
    match value.as_str() {
        Some(text) if text.chars().all(|c| c.is_ascii_graphic() || c == ' ') => text.to_owned(),
        _ => shown(value),
    }
}

fn shown(value: &Value) -> String {
    let mut out = String::new();
    for c in value.to_string().chars() {
        if c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
        {
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ppl::Policy;
    use crate::{HttpInput, Input, NoHeaders, Program, Reason, Subject};

    fn input<'a>(subject: Option<&'a Subject>, path: &'a str) -> Input<'a> {
        let http = HttpInput {
            method: "GET",
            path,
            raw_path: path,
            query: "",
            host: "app.example.com",
            headers: &NoHeaders,
            client_ip: None,
            client_certificate: crate::ClientCertificate::default(),
        };
        Input::new(subject, http, jiff::Timestamp::UNIX_EPOCH)
    }

    fn program(policy: &Value) -> Program {
        Program::compile(&Policy::parse(policy).unwrap()).unwrap()
    }

    #[test]
    fn says_what_was_wanted_what_was_found_and_what_came_of_it() {
        let program = program(&json!({
            "allow": {"and": [{"domain": "example.com"}, {"http_path": {"starts_with": "/a"}}]}
        }));
        let subject = Subject {
            email: "u@example.net".into(),
            ..Subject::default()
        };
        let tree = program.explain(&input(Some(&subject), "/a\u{202e}\n"));
        assert_eq!(
            text(&serde_json::to_value(&tree).unwrap()),
            "allow: no (domain-unauthorized)\n\
             \x20 policy.allow.and (all of these hold): no (domain-unauthorized)\n\
             \x20   - domain: \"example.com\"; found \"example.net\"; domain-unauthorized\n\
             \x20   + http_path: {\"starts_with\":\"/a\"}; found \"/a\\u202e\\n\"; http-path-ok\n\
             deny: no\n\
             \x20 no rule\n"
        );
        assert_eq!(tree.grounds().criteria, ["policy.allow.and[0] domain"]);
    }

    #[test]
    fn the_grounds_are_those_of_the_side_that_decided() {
        let program = program(&json!({
            "allow": {"or": [{"accept": true}, {"user": "u1"}]},
            "deny": {"not": [{"http_method": "POST"}]}
        }));
        let tree = program.explain(&input(None, "/"));
        let grounds = tree.grounds();
        assert_eq!(
            (grounds.rule.as_str(), grounds.criteria),
            (
                "policy.deny.not",
                vec!["policy.deny.not[0] http_method".to_owned()]
            )
        );
        let login = tree.because_of(Reason::UserUnauthenticated.into());
        assert_eq!(login.criteria, ["policy.allow.or[1] user"]);
    }

    #[test]
    fn refusals_have_the_grounds_that_the_log_names() {
        let program = program(&json!({"allow": {"or": [{"user": "u1"}, {"http_method": "POST"}]}}));
        let subject = Subject::default();
        let input = input(Some(&subject), "/");
        assert_eq!(program.explain(&input).grounds(), program.denial(&input));
    }
}
