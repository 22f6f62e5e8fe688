//! A policy of ours as Rego that gives the same answers (spec policy.md 2 to 4), for people who move on to scripts and
//! for the test that compares both.
//!
//! What stands in the script is what the criteria mean here: those about a person never hold for nobody, an address
//! with two `@` has no domain, and so on. A criterion that needs what scripts cannot see is an error.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::ppl::{Action, Criterion, Group, Policy};

/// A criterion that cannot be said in Rego.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: `{criterion}` cannot be written in Rego: {why}")]
pub struct Unprintable {
    /// Where it stands in the policy.
    pub place: String,
    /// The criterion.
    pub criterion: String,
    /// Why not.
    pub why: &'static str,
}

/// What all printed scripts begin with.
const PRELUDE: &str = r#"package pomerium.policy

import rego.v1

# Who asks.
signed_in if input.session.id != ""

found(type, id) := record if {
	id != ""
	record := get_databroker_record(type, id)
	is_object(record)
} else := {}

session := found("type.googleapis.com/session.Session", input.session.id)

user := found("type.googleapis.com/user.User", input.session.user_id)

directory_user := get_databroker_record("pomerium.io/DirectoryUser", input.session.user_id)

user_id := input.session.user_id if input.session.user_id != ""

email := directory_user.email if {
	directory_user.email != ""
} else := object.get(user, "email", "")

domain := parts[1] if {
	parts := split(email, "@")
	count(parts) == 2
	parts[0] != ""
	parts[1] != ""
}

claims := object.union(object.get(session, "claims", {}), object.get(user, "claims", {}))

group_ids := object.get(directory_user, "group_ids", []) if {
	is_object(directory_user)
} else := claims.groups

groups_by(field) := [object.get(found("pomerium.io/DirectoryGroup", id), field, "") | some id in group_ids]

credential(type) := found("type.googleapis.com/pomerium.device.Credential", first) if {
	shown := [entry | some entry in object.get(session, "device_credentials", []); entry.type_id == type]
	ids := [object.get(object.get(entry, "Credential", {}), "Id", "") | some entry in shown]
	first := ids[0]
} else := {}

enrollment(credential) := found("type.googleapis.com/pomerium.device.Enrollment", object.get(credential, "enrollment_id", ""))

approved(enrollment) if enrollment.approved_by != ""

# What a criterion comes to: whether it holds, and why.
about_request(passed, pass, fail) := [passed, {true: pass, false: fail}[passed]]

about_person(passed, pass, fail) := about_request(passed, pass, fail) if {
	signed_in
} else := [false, "user-unauthenticated"]

about_device(passed, enrollment) := [true, "device-ok"] if {
	signed_in
	passed
} else := [false, "device-unauthorized"] if {
	signed_in
	enrollment.id != ""
} else := [false, "device-unauthenticated"] if {
	signed_in
} else := [false, "user-unauthenticated"]

# Groups of criteria: the reasons kept are those of the results that have the value of the whole.
turned(results) := [[result[0] == false, result[1]] | some result in results]

reasons(results, value) := {result[1] | some result in results; result[0] == value}

all_of(results) := [true, reasons(results, true)] if {
	every result in results { result[0] }
} else := [false, reasons(results, false)]

one_of(results) := [true, reasons(results, true)] if {
	some holding in results
	holding[0]
} else := [false, reasons(results, false)]

alternatives(groups) := [true, union({group[1] | some group in groups; group[0]})] if {
	some holding in groups
	holding[0]
} else := [false, union({group[1] | some group in groups})]
"#;

/// Writes a policy that compiles as a script.
///
/// Errors with the first criterion that cannot be written.
pub fn print(policy: &Policy) -> Result<String, Unprintable> {
    let mut out = String::from(PRELUDE);
    let mut count = 0;
    let mut groups: [Vec<String>; 2] = Default::default();
    for rule in &policy.rules {
        for group in rule.groups.iter().filter(|group| !group.criteria.is_empty()) {
            let mut results = Vec::new();
            for criterion in &group.criteria {
                count += 1;
                let name = format!("criterion_{count}");
                write_criterion(&mut out, &name, criterion)?;
                results.push(name);
            }
            groups[usize::from(rule.action == Action::Deny)].push(combined(group, &results));
        }
    }
    for (action, groups) in ["allow", "deny"].iter().zip(groups) {
        let _ = write!(out, "\n{action} := alternatives([{}])\n", groups.join(", "));
    }
    Ok(out)
}

fn combined(group: &Group, results: &[String]) -> String {
    use crate::ppl::Operator::{And, Nor, Not, Or};
    let results = format!("[{}]", results.join(", "));
    match group.operator {
        And => format!("all_of({results})"),
        Or => format!("one_of({results})"),
        Not => format!("all_of(turned({results}))"),
        Nor => format!("one_of(turned({results}))"),
    }
}

/// What a criterion looks at, when it holds, and how its reasons begin.
enum Form {
    Request(Vec<String>, &'static str),
    Person(Vec<String>, &'static str),
    Device(String, Vec<String>),
    Fixed(String),
}

fn write_criterion(out: &mut String, name: &str, criterion: &Criterion) -> Result<(), Unprintable> {
    let _ = write!(
        out,
        "\n# {}: {}\n",
        criterion.place,
        criterion.key().escape_debug()
    );
    let (body, result) = match form(name, criterion)? {
        Form::Fixed(text) => {
            out.push_str(&text);
            return Ok(());
        }
        Form::Request(body, reason) => (
            body,
            format!("about_request({name}_holds, \"{reason}-ok\", \"{reason}-unauthorized\")"),
        ),
        Form::Person(body, reason) => (
            body,
            format!("about_person({name}_holds, \"{reason}-ok\", \"{reason}-unauthorized\")"),
        ),
        Form::Device(kind, body) => (
            body,
            format!("about_device({name}_holds, enrollment(credential({kind})))"),
        ),
    };
    let _ = write!(out, "default {name}_holds := false\n\n{name}_holds if {{\n");
    for line in body {
        let _ = writeln!(out, "\t{line}");
    }
    let _ = write!(out, "}}\n\n{name} := {result}\n");
    Ok(())
}

fn form(name: &str, criterion: &Criterion) -> Result<Form, Unprintable> {
    let text = |left: &str| texts(left, &criterion.data);
    Ok(match criterion.name.as_str() {
        "accept" => Form::Fixed(format!("{name} := [true, \"accept\"]\n")),
        "reject" => Form::Fixed(format!("{name} := [false, \"reject\"]\n")),
        "authenticated_user" => Form::Person(vec!["user_id".into()], "user"),
        "user" => Form::Person(text("user_id"), "user"),
        "email" => Form::Person(text("email"), "email"),
        "domain" => Form::Person(text("domain"), "domain"),
        "claim" => {
            let left = format!("object.get(claims, {}, [])", json!(criterion.sub_path));
            Form::Person(lists(&left, &criterion.data), "claim")
        }
        "groups" => match criterion.sub_path.as_str() {
            "" | "id" => Form::Person(lists("group_ids", &criterion.data), "groups"),
            field => Form::Person(
                lists(&format!("groups_by({})", json!(field)), &criterion.data),
                "groups",
            ),
        },
        "device" => device(&criterion.data),
        "http_method" => Form::Request(text("input.http.method"), "http-method"),
        "http_path" => Form::Request(text("input.http.path"), "http-path"),
        "ssh_username" => Form::Request(text("input.ssh.username"), "ssh-username"),
        "ssh_username_matches_email" => {
            let body = [
                "parts := split(email, \"@\")",
                "parts[0] != \"\"",
                "input.ssh.username == parts[0]",
            ];
            Form::Person(body.map(str::to_owned).to_vec(), "ssh-username")
        }
        "ssh_username_matches_claim" => {
            let values = format!("object.get(claims, {}, [])", criterion.data);
            let body = vec![
                "input.ssh.username != \"\"".into(),
                format!("input.ssh.username in {values}"),
            ];
            Form::Person(body, "ssh-username")
        }
        "source_ip" => Form::Request(addresses(&criterion.data), "source-ip"),
        "cors_preflight" => Form::Fixed(preflight(name)),
        "invalid_client_certificate" => Form::Fixed(invalid_certificate(name)),
        "mcp_tool" => Form::Fixed(mcp_tool(name, &text("tool"))),
        _ => {
            return Err(Unprintable {
                place: criterion.place.to_string(),
                criterion: criterion.key(),
                why: "it looks at what scripts do not see; keep it in the policy, beside the script",
            });
        }
    })
}

/// Every operator on one text; `left` alone fails when it is not there.
fn texts(left: &str, data: &Value) -> Vec<String> {
    let test = |operator: &str, right: &Value| match operator {
        "not" => format!("left != {right}"),
        "starts_with" => format!("startswith(left, {right})"),
        "ends_with" => format!("endswith(left, {right})"),
        "contains" => format!("contains(left, {right})"),
        "in" => format!("left in {right}"),
        "not_in" => format!("not left in {right}"),
        _ => format!("left == {right}"),
    };
    operators(left, data, "is", test)
}

/// The same for a list.
fn lists(left: &str, data: &Value) -> Vec<String> {
    let test = |operator: &str, right: &Value| match operator {
        "is" => format!("left == [{right}]"),
        "exclude" => format!("not {right} in left"),
        _ => format!("{right} in left"),
    };
    operators(left, data, "has", test)
}

fn operators(left: &str, data: &Value, usual: &str, test: impl Fn(&str, &Value) -> String) -> Vec<String> {
    let mut body = vec![format!("left := {left}")];
    match data {
        Value::Object(operators) => {
            body.extend(operators.iter().map(|(operator, right)| test(operator, right)))
        }
        single => body.push(test(usual, single)),
    }
    body
}

fn device(data: &Value) -> Form {
    let kind = data.get("type").cloned().unwrap_or_else(|| json!("any"));
    let mut body = vec![format!("shown := credential({kind})")];
    if data.get("type").is_some() {
        body.push("shown.id != \"\"".into());
    }
    if let Some(id) = data.get("is") {
        body.push(format!("shown.id == {id}"));
    }
    if let Some(wanted) = data.get("approved") {
        let falsy =
            [json!(null), json!(false), json!(0), json!("")].contains(wanted) || wanted.as_f64() == Some(0.0);
        body.push(format!(
            "{}approved(enrollment(shown))",
            if falsy { "not " } else { "" }
        ));
    }
    Form::Device(kind.to_string(), body)
}

fn addresses(data: &Value) -> Vec<String> {
    let items = match data {
        Value::Array(items) => items.as_slice(),
        single => std::slice::from_ref(single),
    };
    let networks = items
        .iter()
        .filter_map(Value::as_str)
        .filter_map(crate::criteria::network_text)
        .map(Value::from);
    let networks = Value::Array(networks.collect());
    vec![
        format!("some network in {networks}"),
        "net.cidr_contains(network, input.http.ip)".into(),
    ]
}

fn preflight(name: &str) -> String {
    format!(
        r#"{name} := [true, "cors-request"] if {{
	input.http.method == "OPTIONS"
	input.http.headers["Access-Control-Request-Method"] != ""
	input.http.headers.Origin != ""
}} else := [false, "non-cors-request"]
"#
    )
}

fn invalid_certificate(name: &str) -> String {
    format!(
        r#"{name} := [false, "valid-client-certificate"] if {{
	input.is_valid_client_certificate
}} else := [true, "client-certificate-required"] if {{
	not input.http.client_certificate.presented
}} else := [true, "invalid-client-certificate"]
"#
    )
}

fn mcp_tool(name: &str, body: &[String]) -> String {
    format!(
        r#"{name} := [false, "mcp-not-a-tool-call"] if {{
	object.get(input.mcp, "method", "") != "tools/call"
}} else := [true, "mcp-tool-match"] if {{
	tool := object.get(object.get(input.mcp, "tool_call", {{}}), "name", "")
	{}
}} else := [false, "mcp-tool-no-match"]
"#,
        body.join("\n\t")
    )
}
