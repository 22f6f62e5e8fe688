//! Where the engine and the language could differ.

use super::*;

#[test]
fn both_dialects_are_read() {
    assert!(allow("allow = true { input.http.method == \"GET\" }").value);
    assert!(allow("import rego.v1\nallow if input.http.method == \"GET\"").value);
    assert!(allow("package pomerium.policy\nimport rego.v1\n\nallow if {\n  some x in [\"GET\"]\n  x == input.http.method\n}").value);
    assert!(allow("default allow = false\nallow { true }").value);
    assert!(!allow("default allow = true\nallow = false { true }").value);
    assert!(allow("allow = false { input.http.method == \"PUT\" } else = true { true }").value);
    assert!(allow("import input.http as request\nallow { request.method == \"GET\" }").value);
    assert!(!allow("other = true").value);
}

#[test]
fn errors_of_built_ins_are_undefined() {
    assert!(!allow("allow { to_number(\"x\") == 1 }").value);
    assert!(allow("allow { not to_number(\"x\") }").value);
    assert!(!allow("allow { startswith(1, \"a\") }").value);
}

/// What is not there does not make a negated call hold (spec policy.md 7).
#[test]
fn a_negated_call_needs_what_it_is_given() {
    for (condition, holds) in [
        ("not startswith(input.nope, \"a\")", false),
        ("not startswith(input.http.method, \"X\")", true),
        ("not startswith(input.http.method, \"G\")", false),
        ("not input.nope != \"a\"", false),
        ("not input.nope == \"a\"", true),
        ("not input.nope", true),
        ("not count(input.nope) == 0", false),
        ("not input.nope < 5", false),
        ("not (input.nope < 5)", false),
        ("not startswith(concat(\"\", [input.nope]), \"a\")", false),
        (
            "x := \"k\"; not startswith(input.http[x], \"a\") with input as {\"http\": {\"k\": \"b\"}}",
            true,
        ),
        ("not startswith(input.a, \"x\") with input.a as \"y\"", true),
        ("not startswith(input.a, \"x\") with input.b as \"y\"", false),
        ("count([1 | not startswith(input.nope, \"a\")]) == 0", true),
        ("not contains(lower(input.nope), \"a\")", false),
        (
            "not startswith(\"abc\", \"x\"); input.http.method == \"GET\"",
            true,
        ),
        ("not f(input.nope)", false),
        ("not email", true),
        ("not startswith(email, \"a\")", false),
        ("x := \"abc\"; not startswith(x, \"b\")", true),
        ("not endswith(\"x\", [y | y := input.nope][0])", false),
        (
            "not count([y | y := input.list[_]; not startswith(y, \"a\")]) == 0",
            false,
        ),
    ] {
        let text = format!("f(x) {{ x == 1 }}\nemail = input.nope.email\nallow {{ {condition} }}");
        assert_eq!(allow(&text).value, holds, "{condition}");
    }
    let bare = "import rego.v1\nallow if not startswith(input.nope, \"a\")\ndeny if not startswith(input.http.method, \"X\")";
    let input = Input::new(None, http(), jiff::Timestamp::UNIX_EPOCH);
    let outcome = script(bare).run(&input).unwrap();
    assert!(!outcome.allow.value && outcome.deny.value);
    let member = "import rego.v1\nallow if { not input.nope in [\"a\"] }\ndeny if { not input.http.method in [\"PUT\"] }";
    let outcome = script(member).run(&input).unwrap();
    assert!(!outcome.allow.value && outcome.deny.value);
}

#[test]
fn prints_do_not_disturb() {
    assert!(allow("allow { print(\"who\", input.nope, input.session); true }").value);
}

#[test]
fn time_is_that_of_the_request_in_zones_that_are_named() {
    assert!(allow("allow { time.weekday(time.now_ns()) == \"Tuesday\" }").value);
    assert!(allow("allow { time.clock([time.now_ns(), \"Europe/Berlin\"]) == [23, 13, 20] }").value);
    assert!(!allow("allow { time.clock([time.now_ns(), \"Local\"]) }").value);
    assert!(allow("allow { time.now_ns() == 5 with time.now_ns as 5 }").value);
}
