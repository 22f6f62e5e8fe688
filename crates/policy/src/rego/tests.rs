//! Scripts as people and attackers write them.

use std::borrow::Cow;
use std::net::IpAddr;

use serde_json::json;

use super::*;
use crate::input::{Group, GroupSource, Groups, HeaderLookup, HttpInput, NoHeaders, RecordLookup, Subject};
use crate::ppl::Policy;
use crate::{ClientCertificate, Program, Reason};

mod functions;
mod limits;
mod print;
mod semantics;

pub(super) fn http<'a>() -> HttpInput<'a> {
    HttpInput {
        method: "GET",
        path: "/a b",
        raw_path: "/a%20b",
        query: "q=1",
        host: "app.example.com:8443",
        headers: &NoHeaders,
        client_ip: "203.0.113.7".parse().ok(),
        client_certificate: ClientCertificate::default(),
    }
}

pub(super) fn subject() -> Subject {
    Subject {
        session_id: "s1".into(),
        user_id: "u1".into(),
        email: "user@example.com".into(),
        claims: [("role".to_owned(), vec![json!("admin")])].into(),
        groups: Groups {
            source: GroupSource::Directory,
            all: vec![Group {
                id: "g1".into(),
                name: "Operators".into(),
                email: String::new(),
            }],
        },
        ..Subject::default()
    }
}

/// As it runs in the program: with a limit on its time.
fn timed(text: &str) -> Script {
    Script::compile("test", text, &ScriptData::default()).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// What it says must not depend on how busy the machine is.
pub(super) fn script(text: &str) -> Script {
    let mut script = timed(text);
    let compiled = Arc::get_mut(&mut script.0).expect("it is new");
    compiled.engine.set_execution_timer_config(ExecutionTimerConfig {
        limit: Duration::from_secs(3600),
        ..TIMER
    });
    script
}

pub(super) fn problem(text: &str) -> String {
    match Script::compile("test", text, &ScriptData::default()) {
        Ok(_) => panic!("it loads: {text}"),
        Err(error) => error.to_string(),
    }
}

/// The result of `allow` for somebody who is signed in.
pub(super) fn allow(text: &str) -> Verdict {
    let subject = subject();
    let input = Input::new(
        Some(&subject),
        http(),
        jiff::Timestamp::from_second(1_700_000_000).unwrap(),
    );
    script(text)
        .run(&input)
        .unwrap_or_else(|error| panic!("{error}\n{text}"))
        .allow
}

fn run_failure(text: &str) -> String {
    let input = Input::new(None, http(), jiff::Timestamp::UNIX_EPOCH);
    timed(text).run(&input).expect_err(text)
}

#[test]
fn the_input_is_that_of_the_original() {
    for condition in [
        r#"input.http.method == "GET""#,
        r#"input.http.host == "app.example.com:8443""#,
        r#"input.http.hostname == "app.example.com""#,
        r#"input.http.path == "/a b""#,
        r#"input.http.raw_path == "/a%20b""#,
        r#"input.http.raw_query == "q=1""#,
        r#"input.http.url == "https://app.example.com:8443/a%20b?q=1""#,
        r#"input.http.ip == "203.0.113.7""#,
        r#"input.http["method"] == "GET""#,
        "input.http.client_certificate.presented == false",
        "not input.http.client_certificate.leaf",
        r#"input.session.id == "s1"; input.session.user_id == "u1""#,
        "input.is_valid_client_certificate",
        r#"input.ssh.username == ""; input.ssh.publickey == null"#,
        "input.mcp == {}",
        "count(input) == 5; count(input.http) == 10",
        r#"some name; input[name].method == "GET""#,
        r#"data.google_cloud_serverless_authentication_service_account == """#,
        "data.jwt_claim_headers == {}",
        "time.now_ns() == 1700000000000000000",
    ] {
        assert!(allow(&format!("allow {{ {condition} }}")).value, "{condition}");
    }
}

struct Shouting;

impl HeaderLookup for Shouting {
    fn get(&self, _name: &str) -> Option<Cow<'_, str>> {
        None
    }

    fn each(&self, show: &mut dyn FnMut(&str, &str)) {
        show("x-team", "red,blue");
    }
}

#[test]
fn headers_have_their_canonical_names() {
    let http = HttpInput {
        headers: &Shouting,
        ..http()
    };
    let input = Input::new(None, http, jiff::Timestamp::UNIX_EPOCH);
    let script = script(r#"allow { input.http.headers["X-Team"] == "red,blue" }"#);
    assert!(script.run(&input).unwrap().allow.value);
}

#[test]
fn an_anonymous_request_has_empty_ids() {
    let input = Input::new(None, http(), jiff::Timestamp::UNIX_EPOCH);
    let script = script(r#"allow = [false, ["user-unauthenticated"]] { input.session.id == "" }"#);
    let allow = script.run(&input).unwrap().allow;
    assert_eq!(
        (allow.value, allow.reasons),
        (false, Reason::UserUnauthenticated.into())
    );
    assert!(script.needs_identity());
}

#[derive(Clone)]
struct Vault;

impl RecordLookup for Vault {
    fn by_id(&self, kind: &str, id: &str) -> Option<Arc<serde_json::Value>> {
        let record = match (kind, id) {
            ("example.com/Asset", "a1") => json!({"id": "a1", "owner": "u1", "level": 3, "share": 0.5}),
            ("example.com/Asset", "old") => json!({"id": "old", "expires_at": {"seconds": 1_600_000_000}}),
            ("example.com/Asset", "late") => json!({"id": "late", "expires_at": "2021-01-01T00:00:00Z"}),
            _ => return None,
        };
        Some(Arc::new(record))
    }

    fn has_networks(&self, _kind: &str) -> bool {
        false
    }

    fn by_address(&self, kind: &str, address: IpAddr) -> Option<Arc<serde_json::Value>> {
        let known = kind == "example.com/Site" && address.to_string() == "203.0.113.7";
        known.then(|| Arc::new(json!({"id": "hq"})))
    }

    fn owned(&self) -> Arc<dyn RecordLookup> {
        Arc::new(self.clone())
    }
}

#[test]
fn records_are_found_by_id_and_by_address() {
    let subject = subject();
    let now = jiff::Timestamp::from_second(1_700_000_000).unwrap();
    let input = Input {
        records: &Vault,
        ..Input::new(Some(&subject), http(), now)
    };
    for condition in [
        r#"get_databroker_record("example.com/Asset", "a1") == {"id": "a1", "owner": "u1", "level": 3, "share": 0.5}"#,
        r#"get_databroker_record("example.com/Asset", "a2") == null"#,
        r#"get_databroker_record("example.com/Asset", "old") == null"#,
        r#"get_databroker_record("example.com/Asset", "late") == null"#,
        r#"get_databroker_record("example.com/Site", input.http.ip).id == "hq""#,
        r#"get_databroker_record("type.googleapis.com/session.Session", input.session.id).claims.role == ["admin"]"#,
        r#"get_databroker_record("type.googleapis.com/user.User", input.session.user_id).email == "user@example.com""#,
        r#"get_databroker_record("pomerium.io/DirectoryUser", "u1").group_ids == ["g1"]"#,
        r#"get_databroker_record("pomerium.io/DirectoryGroup", "g1").name == "Operators""#,
        r#"get_databroker_record("pomerium.io/DirectoryUser", "u2") == null"#,
        // Of the person only those kinds are made that can be asked for: also where the name is not in the call.
        r#"kind := "pomerium.io/DirectoryUser"; get_databroker_record(kind, "u1").group_ids == ["g1"]"#,
        r#"kinds := ["pomerium.io/DirectoryGroup"]; get_databroker_record(kinds[_], "g1").name == "Operators""#,
        r#"get_databroker_record(concat("/", ["pomerium.io", "DirectoryGroup"]), "g1").name == "Operators""#,
        r#"get_databroker_record(`pomerium.io/DirectoryGroup`, "g1").name == "Operators""#,
    ] {
        let script = script(&format!("allow {{ {condition} }}"));
        assert!(script.run(&input).unwrap().allow.value, "{condition}");
    }
}

#[test]
fn mistakes_are_told_with_their_place() {
    assert_eq!(
        problem("allow = true {\n  nofunction(1)\n}"),
        "test: line 2, column 3: there is no function `nofunction`: the list of built-in functions is in the guide on Rego"
    );
    assert!(
        problem("package pomerium.policy\n\nallow {\n  startwith(1, 2) }")
            .contains("line 4, column 3: there is no function `startwith`: did you mean `startswith`?")
    );
    assert!(problem("allow {").starts_with("test: line 1"));
    assert!(
        problem("package other\nallow = true")
            .contains("the package has to be `pomerium.policy`, not `other`")
    );
    assert!(
        problem("allow { x == 1 }").contains("line 1, column 9: use of undefined variable `x` is unsafe")
    );
    assert!(problem("allow if { true }").contains("import rego.v1"));
    assert!(problem("allow").contains("needs a value or a body"));
    assert!(problem("allow { startswith(\"a\") }").contains("takes 2 arguments, not 1"));
    assert!(problem("f(x) = x { true }\nallow { f(1, 2, 3) }").contains("takes 1 arguments, not 3"));
    assert!(problem("allow(x) { x }").contains("has to be a rule"));
    assert!(problem("input = 1").contains("no rule may be called"));
    assert!(problem("allow { walk(input)[_] }").contains("two arguments"));
}

#[test]
fn what_reaches_outside_is_refused_while_loading() {
    for (call, why) in [
        (
            r#"http.send({"method": "GET", "url": "https://example.com"})"#,
            "a decision waits for nobody",
        ),
        ("opa.runtime().env", "do not see the machine"),
        (r#"net.lookup_ip_addr("example.com")"#, "waits for nobody"),
        (r#"rand.intn("x", 10)"#, "judged the same"),
        (r#"uuid.rfc4122("x")"#, "judged the same"),
        (
            r#"get_google_cloud_serverless_headers("", "https://run.example.com")"#,
            "a script sets no headers",
        ),
        (r#"crypto.md5("x")"#, "MD5 is broken"),
        (r#"crypto.hmac.md5("x", "k")"#, "MD5 is broken"),
        (r#"io.jwt.encode_sign({}, {}, {})"#, "signs nothing"),
        (r#"json.match_schema({}, {})"#, "without bound"),
        (r#"crypto.x509.parse_certificates("x")"#, "client_certificate"),
        ("data.signing_key", "signing key is not shown"),
        ("data.route_policies", "not shown"),
        ("data", "by its name"),
        ("data[\"signing_key\"]", "signing key is not shown"),
    ] {
        let text = problem(&format!("allow = x {{ x := {call} }}"));
        assert!(text.contains(why), "{call}: {text}");
    }
    let mocked = "f(x) = x { true }\nallow { f(1) with f as rand.intn }";
    assert!(Script::compile("test", mocked, &ScriptData::default()).is_err());
}

#[test]
fn programs_hold_rules_and_scripts() {
    let rules = Policy::parse(&json!({"allow": {"or": [{"email": "other@example.com"}]}})).unwrap();
    let program = |scripts: &[&str]| {
        let scripts = scripts.iter().map(|text| script(text)).collect();
        Program::compile(&rules).unwrap().with_scripts(scripts)
    };
    let subject = subject();
    let input = Input::new(Some(&subject), http(), jiff::Timestamp::UNIX_EPOCH);
    let one = program(&[r#"allow = [true, ["on the list"]]"#]).evaluate(&input);
    assert_eq!((one.allow.value, one.allow.names()), (true, vec!["on the list"]));
    let none = program(&[
        r#"allow = [false, ["too late", "claim-unauthorized"]]"#,
        "deny = [false, {\"fine\"}]",
    ])
    .evaluate(&input);
    assert_eq!(
        none.allow.names(),
        ["claim-unauthorized", "email-unauthorized", "too late"]
    );
    assert_eq!((none.deny.value, none.deny.names()), (false, vec!["fine"]));
    let denied = program(&["deny = [true, [\"never\"]]", "allow = true"]);
    let evaluation = denied.evaluate(&input);
    assert!(evaluation.allow.value && evaluation.deny.value);
    assert_eq!(denied.denial(&input).rule, "Rego policy test");
    let failed = program(&["allow = true", "deny { true }\ndeny = 5 { true }"]).evaluate(&input);
    assert!(
        !failed.allow.value
            && failed
                .failure
                .unwrap()
                .contains("the Rego policy test failed: line")
    );
    assert!(!program(&["allow = true"]).is_empty());
    let closed = Program::deny_all().with_scripts(vec![script("allow = true")]);
    assert!(closed.evaluate(&input).deny.value);
}

#[test]
fn an_engine_forgets_the_request_before() {
    let script = script(
        r#"allow { get_databroker_record("type.googleapis.com/user.User", "u1").email == "user@example.com" }"#,
    );
    let subject = subject();
    let known = Input::new(Some(&subject), http(), jiff::Timestamp::UNIX_EPOCH);
    let unknown = Input::new(None, http(), jiff::Timestamp::UNIX_EPOCH);
    for _ in 0..3 {
        assert!(script.run(&known).unwrap().allow.value);
        assert!(!script.run(&unknown).unwrap().allow.value);
    }
}
