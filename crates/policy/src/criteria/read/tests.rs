//! Messages about what cannot work.

use serde_json::json;

use super::*;
use crate::ppl::Policy;

fn error(name: &str, data: &Value) -> String {
    let policy = Policy::parse(&json!({"allow": {"or": [{ name: data }]}})).unwrap();
    Test::read(&policy.rules[0].groups[0].criteria[0])
        .unwrap_err()
        .to_string()
}

#[test]
fn names_that_are_not_known_come_with_a_hint() {
    assert_eq!(
        error("Email", &json!("x")),
        "policy.allow.or[0]: unknown criterion `Email`: did you mean `email`?"
    );
    assert!(error("allowed_groups", &json!("x")).ends_with("`groups` or by `claim/groups`"));
    assert!(error("pomerium_routes", &json!(true)).contains("need no rule"));
    assert!(error("or", &json!([])).contains("operators do not nest"));
    assert!(error("favourite_colour", &json!("red")).contains("the criteria are accept, "));
}

#[test]
fn wrong_data_is_refused_while_loading() {
    assert!(error("email", &json!({"regex": ".*"})).contains("no pattern matching"));
    assert!(error("email", &json!({"starts-with": "a"})).contains("did you mean `starts_with`?"));
    assert!(error("email", &json!({"in": "a"})).contains("`email: in` needs a list, not a string"));
    assert!(error("email", &json!({"not_in": {"a": 1}})).contains("needs a list"));
    assert!(error("email", &json!({"starts_with": 1})).contains("needs a string, not a number"));
    assert!(error("user", &json!(5)).contains("`user: is` needs a string, not a number"));
    assert!(error("domain", &json!({"is": null})).contains("needs a string, not null"));
    assert!(error("claim/role", &json!({"starts_with": "a"})).contains("the operators are has, is, exclude"));
    assert!(
        error("source_ip", &json!("10.0.0.0/33")).contains("`10.0.0.0/33` is no network: prefix too long")
    );
    assert!(error("source_ip", &json!([1])).contains("needs an address or CIDR"));
    assert!(error("source_ip", &json!({})).contains("not a map"));
}

#[test]
fn certificates_are_named_by_forms_that_can_match() {
    let of = |data: Value| error("client_certificate", &data);
    assert!(of(json!("40ec")).contains("needs a map"));
    assert!(of(json!({"subject": "x"})).contains("has no operator `subject`"));
    assert!(of(json!({"fingerprint": "40EC"})).contains("64 lower-case hex digits"));
    assert!(of(json!({"fingerprint": [1]})).contains("needs a string or a list of strings, not a number"));
    assert!(of(json!({"spki_hash": "AAAA"})).contains("base64 of 32 bytes"));
    assert!(of(json!({"san_dns": {"not_in": ["a"]}})).contains("`san_dns.not_in`"));
    assert!(of(json!({"san_dns": {"regex": "a"}})).contains("no pattern matching"));
}

#[test]
fn keys_of_maps_are_checked_too() {
    assert_eq!(
        error("device", &json!({"colour": "red"})),
        "policy.allow.or[0]: `device` has no key `colour`: the keys are is, approved, type"
    );
    assert!(error("device", &json!("dc1")).contains("`device` needs a map such as"));
    assert!(error("device", &json!({"type": 1})).contains("`device: type` needs a string, not a number"));
    assert!(error("groups/colour", &json!("g1")).contains("`groups/name` or `groups/email`"));
    assert!(error("groups", &json!({"starts_with": "g"})).contains("the operators are has, is, exclude"));
    assert!(error("mcp_tool", &json!({"like": "a"})).contains("`mcp_tool` has no operator `like`"));
}

#[test]
fn times_are_read_strictly() {
    assert!(error("date", &json!({"afer": "2026-01-01"})).contains("did you mean `after`?"));
    assert!(error("date", &json!({})).contains("needs `after`, `before` or both"));
    assert!(error("date", &json!({"after": "1 May"})).contains("`1 May`: not a date: write `2026-01-31`"));
    assert!(error("date", &json!({"after": 20260101})).contains("needs a string, not a number"));
    let unused = json!({"after": "2026-01-31T08:00:00Z", "timezone": "UTC"});
    assert!(error("date", &unused).contains("has no effect"));
    assert!(error("date/x", &json!({"after": "2026-01-01"})).contains("write `date` without"));
    assert!(error("day_of_week", &json!("tues")).contains("`tues`: not days"));
    assert!(error("day_of_week", &json!(1)).contains("needs days such as"));
    assert!(error("day_of_week", &json!({"is": "mon", "zone": "UTC"})).contains("has no key `zone`"));
    assert!(error("day_of_week", &json!({"timezone": "UTC"})).contains("needs `is`"));
    assert!(error("time_of_day", &json!({"after": "8:00"})).contains("needs `timezone`"));
    assert!(error("time_of_day", &json!({"timezone": "UTC"})).contains("needs `after`, `before`"));
    assert!(
        error("time_of_day", &json!({"timezone": "Mars/Base", "after": "8:00"}))
            .contains("`Mars/Base`: not the name of a time zone")
    );
    assert!(
        error("time_of_day", &json!({"timezone": "UTC", "after": "25:00"})).contains("`25:00`: not a time")
    );
}

#[test]
fn records_say_what_they_are_compared_by() {
    let of = |data: Value| error("record", &data);
    assert!(of(json!("geoip")).contains("needs a map such as"));
    assert!(of(json!({"field": "country", "is": "FR"})).contains("needs `type`"));
    assert!(of(json!({"type": "geoip", "is": "FR"})).contains("needs `field`"));
    assert!(of(json!({"type": "geoip", "field": "country"})).contains("needs a condition"));
    assert!(of(json!({"type": "", "exists": true})).contains("not an empty text"));
    assert!(of(json!({"type": "geoip", "exists": "yes"})).contains("needs true or false"));
    assert!(of(json!({"type": "t", "field": "f", ">": true})).contains("needs a number or a string"));
    assert!(
        of(json!({"type": "t", "field": "f", "startswith": "a"})).contains("did you mean `starts_with`?")
    );
    assert!(of(json!({"type": "t", "exists": true, "by": "user.name"})).contains("write one of `user.id`"));
    assert!(of(json!({"type": "t", "field": "f", "in": "a"})).contains("`record: in` needs a list"));
}

#[test]
fn a_sign_in_is_judged_by_something() {
    let of = |data: Value| error("authentication", &data);
    assert!(of(json!({})).contains("needs `max_age`, `acr` or `amr`"));
    assert!(of(json!({"max_age": "15"})).contains("missing unit"));
    assert!(of(json!({"max_age": "0"})).contains("nothing is that recent"));
    assert!(of(json!({"max_age": 15})).contains("needs a string, not a number"));
    assert!(of(json!({"acr": []})).contains("give at least one value"));
    assert!(of(json!({"amr": ["mfa", ""]})).contains("no empty one"));
    assert!(of(json!({"age": "1h"})).contains("the keys are max_age, acr, amr"));
}

#[test]
fn keys_of_ssh_are_read_strictly() {
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJSLYqqPbhEQ/pmgvUuKE9QcculRZbdXgrYGcER372s2";
    let of = |data: Value| error("ssh_publickey", &data);
    assert!(of(json!(7)).contains("needs a string or a list of strings"));
    assert!(of(json!("")).contains("it holds no key"));
    assert!(
        of(json!(&key[..60])).contains("`ssh-ed25519 AAAAC3NzaC1l…`"),
        "{}",
        of(json!(&key[..60]))
    );
    assert!(of(json!("/etc/ssh/key.pub")).contains("not of the form"));
    assert!(of(json!(key.replacen("ed25519", "rsa", 1))).contains("is not the type of the key"));
    let private = of(json!("-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n"));
    assert!(private.contains("this is a private key") && !private.contains("c2VjcmV0"));
    assert!(of(json!("---- BEGIN SSH2 PUBLIC KEY ----\n")).contains("ssh-keygen -i"));
    assert!(error("ssh_username_matches_claim", &json!({})).contains("needs a string"));
    assert!(error("ssh_username", &json!({"regex": "a"})).contains("no pattern matching"));
    assert!(error("ssh_username_matches_mail", &json!(true)).contains("did you mean"));
}
