//! Policy documents and case files in their canonical form: one rule a list item, operators in the order and, or, not,
//! nor, two spaces a level. Comments stay with what they stand at; what cannot be kept is an error, never dropped.
//!
//! Start at [`tidy`]. A configuration is not touched: it has more in it than policies.

mod comments;
mod policies;
mod write;

use std::fmt;

use pomerium_policy::ppl::Policy;

use crate::spec::format::{parse_json, parse_yaml};
use crate::spec::node::{Node, Value};
use crate::spec::policy::locate;

/// How a document is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// YAML.
    Yaml,
    /// JSON.
    Json,
}

/// Why a document is left as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Untidy {
    /// Line from 1; 0 when unknown.
    pub line: u32,
    /// What is wrong.
    pub problem: String,
}

impl fmt::Display for Untidy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.problem),
            line => write!(f, "line {line}: {}", self.problem),
        }
    }
}

impl Untidy {
    fn whole(problem: impl Into<String>) -> Vec<Self> {
        vec![Self {
            line: 0,
            problem: problem.into(),
        }]
    }
}

/// The canonical form of a policy document or a case file.
///
/// Errors with everything that is wrong with it, or with what could not be kept.
pub fn tidy(text: &str, form: Form) -> Result<String, Vec<Untidy>> {
    let tree = read(text, form)?;
    let wanted = arranged(&tree)?;
    let out = match form {
        Form::Json => write::json(&wanted),
        Form::Yaml => {
            let comments = comments::read(text).map_err(Untidy::whole)?;
            write::yaml(&wanted, &comments)
        }
    };
    check(text, &wanted, &out, form)?;
    Ok(out)
}

/// A policy document as a policy, for tools that look at one.
///
/// Errors with everything that is wrong with its form.
pub fn policy(text: &str, form: Form) -> Result<(Policy, impl Fn(&str) -> u32), Vec<Untidy>> {
    let tree = read(text, form)?;
    let policy = parsed(&tree)?;
    Ok((policy, move |place: &str| locate(&tree, place).line))
}

fn read(text: &str, form: Form) -> Result<Node, Vec<Untidy>> {
    let tree = match form {
        Form::Yaml => parse_yaml(text),
        Form::Json => parse_json(text),
    };
    tree.map_err(|error| {
        vec![Untidy {
            line: error.place.line,
            problem: error.message,
        }]
    })
}

fn arranged(tree: &Node) -> Result<Node, Vec<Untidy>> {
    let Value::Map(entries) = &tree.value else {
        parsed(tree)?;
        return Ok(policies::arranged(tree));
    };
    let has = |key: &str| entries.iter().any(|entry| entry.key == key);
    if has("cases") {
        return Ok(policies::of_cases(tree));
    }
    if has("routes") || has("policy") {
        return Err(Untidy::whole(
            "this is a configuration; policy documents and case files are formatted, configurations stay as they are",
        ));
    }
    parsed(tree)?;
    Ok(policies::arranged(tree))
}

fn parsed(tree: &Node) -> Result<Policy, Vec<Untidy>> {
    Policy::parse_all(&tree.to_json()).map_err(|mistakes| {
        let told = |mistake: pomerium_policy::ppl::ParseError| Untidy {
            line: locate(tree, &mistake.place).line,
            problem: mistake.to_string(),
        };
        mistakes.into_iter().map(told).collect()
    })
}

/// What was written must say what was read.
fn check(text: &str, wanted: &Node, out: &str, form: Form) -> Result<(), Vec<Untidy>> {
    let again = read(out, form).map_err(|_| Untidy::whole("its canonical form could not be written"))?;
    if again.to_json() != wanted.to_json() {
        return Err(Untidy::whole("its canonical form would say something else"));
    }
    if form == Form::Json {
        return Ok(());
    }
    let sorted = |text: &str| -> Result<Vec<String>, Vec<Untidy>> {
        let comments = comments::read(text).map_err(Untidy::whole)?;
        let mut texts: Vec<String> = comments.into_iter().map(|comment| comment.text).collect();
        texts.sort_unstable();
        Ok(texts)
    };
    if sorted(text)? != sorted(out)? {
        return Err(Untidy::whole(
            "a comment in it would be lost; move it to a line of its own",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn yaml(text: &str) -> String {
        let out = tidy(text, Form::Yaml).unwrap();
        assert_eq!(
            tidy(&out, Form::Yaml).unwrap(),
            out,
            "a canonical form stays as it is"
        );
        out
    }

    #[test]
    fn one_rule_a_list_item_and_operators_in_order() {
        let text = "deny: {or: [http_path: {starts_with: /admin}]}\nallow:\n  or: []\n  action: x\n  not:\n  - email: 'a@example.com'\n  and: [{domain: example.com}, {claim/level: 3}]\n";
        assert_eq!(
            yaml(text),
            "- allow:\n    and:\n      - domain: example.com\n      - claim/level: 3\n    not:\n      - email: a@example.com\n- deny:\n    or:\n      - http_path:\n          starts_with: /admin\n"
        );
    }

    #[test]
    fn comments_stay_with_what_they_stand_at() {
        let text = "# The wiki\n\nallow: # everybody here\n  or:\n  # staff\n  - {domain: example.com} # all of them\n  - email:\n      in:\n      - a@example.com # the owner\n      # and a friend\n      - b@example.net\n# the end\n";
        assert_eq!(
            yaml(text),
            "# The wiki\n- allow: # everybody here\n    or:\n      # staff\n      - domain: example.com # all of them\n      - email:\n          in:\n            - a@example.com # the owner\n            # and a friend\n            - b@example.net\n# the end\n"
        );
    }

    #[test]
    fn texts_that_look_like_something_else_keep_their_quotes() {
        let text = "allow:\n  or:\n  - claim/a: '3'\n  - claim/b: 'true'\n  - claim/c: 'null'\n  - claim/d: ''\n  - claim/e: \"a: b #c\"\n  - claim/f: '2020-01-02'\n  - claim/g: 'x\n\n      y'\n  - source_ip: 2001:db8::/32\n  - claim/h: 1.5\n  - claim/i: null\n  - claim/j: ' lead'\n  - claim/k: '~'\n  - claim/l: \"\\u202e\"\n";
        let out = yaml(text);
        assert!(
            out.contains("claim/a: \"3\"") && out.contains("source_ip: 2001:db8::/32"),
            "{out}"
        );
    }

    #[test]
    fn case_files_keep_their_order_and_their_wrong_policies() {
        let text = r#"{"cases":[{"name":"b","policy":{"deny":{"or":[{"accept":true}]},"allow":{}},"expect":{"deny":true}},{"name":"a","policy":7,"expect":{"error":"parse"}}]}"#;
        let out = tidy(text, Form::Json).unwrap();
        assert!(
            out.starts_with("{\n  \"cases\": [\n    {\n      \"name\": \"b\",\n      \"policy\": [\n"),
            "{out}"
        );
        assert!(out.find("allow").unwrap() < out.find("\"deny\": {").unwrap());
        assert_eq!(tidy(&out, Form::Json).unwrap(), out);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let errors = tidy("allow:\n  or:\n  - 7\n  nand: []\n", Form::Yaml).unwrap_err();
        let lines: Vec<u32> = errors.iter().map(|error| error.line).collect();
        assert_eq!(lines.len(), 2, "{errors:?}");
        assert!(lines.contains(&3));
        assert!(
            tidy("routes: []\n", Form::Yaml).unwrap_err()[0]
                .problem
                .contains("configuration")
        );
    }

    #[test]
    fn an_empty_policy_stays_one() {
        assert_eq!(yaml("{}"), "[]\n");
        assert_eq!(yaml("- allow: {}\n"), "- allow: {}\n");
    }
}
