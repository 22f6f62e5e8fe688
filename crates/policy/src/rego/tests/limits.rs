//! Scripts that loop, allocate, nest and contradict themselves.

use super::*;

#[test]
fn loops_are_ended() {
    let pairs = "allow { some a, b, c, d; xs[a]; xs[b]; xs[c]; xs[d]; a + b + c + d < 0 }\nxs = numbers.range(1, 2000)";
    assert!(run_failure(pairs).contains("time"), "{}", run_failure(pairs));
    let huge = "allow { count([x | x := numbers.range(1, 30000)[_]; numbers.range(1, 30000)[_] > x]) > 1 }";
    assert!(run_failure(huge).contains("time"));
    let negated = "slow { some a, b, c; xs[a]; xs[b]; xs[c]; a + b + c < 0 }\nxs = numbers.range(1, 2000)\nallow { not slow }";
    assert!(
        run_failure(negated).contains("time"),
        "what takes too long does not count as *not*"
    );
    // The next request finds the script as it was.
    let script = timed(
        "allow { input.http.method == \"GET\" }\nallow { input.http.method == \"POST\"; some a, b, c; numbers.range(1, 9999)[a] + numbers.range(1, 9999)[b] + numbers.range(1, 9999)[c] < 0 }",
    );
    let get = Input::new(None, http(), jiff::Timestamp::UNIX_EPOCH);
    let post = Input::new(
        None,
        HttpInput {
            method: "POST",
            ..http()
        },
        jiff::Timestamp::UNIX_EPOCH,
    );
    for _ in 0..2 {
        assert!(script.run(&post).is_err());
        assert!(script.run(&get).unwrap().allow.value);
    }
}

#[test]
fn calls_that_would_make_large_values_end_the_evaluation() {
    for call in [
        "numbers.range(1, 1000000000)",
        "numbers.range_step(1, 1000000000, 2)",
        "bits.lsh(1, 4000000000)",
        r#"sprintf("%999999999d", [1])"#,
        r#"net.cidr_expand("10.0.0.0/8")"#,
        r#"to_number("1e999999999")"#,
        r#"yaml.unmarshal(concat("", ["a: &a [x]\n", concat("", ["b: [*a, *a]\n" | numbers.range(1, 500)[_]])]))"#,
        r#"json.patch({"a": "0123456789"}, [{"op": "copy", "from": "", "path": "/b"} | numbers.range(1, 30)[_]])"#,
        r#"replace(concat("", ["aaaaaaaaaaaaaaaa" | numbers.range(1, 2000)[_]]), "", concat("", ["b" | numbers.range(1, 1000)[_]]))"#,
    ] {
        let text = format!("allow = x {{ x := {call} }}");
        assert!(
            run_failure(&text).contains("the limit of one call"),
            "{call}: {}",
            run_failure(&text)
        );
    }
}

#[test]
fn values_that_double_end_at_the_limit() {
    let mut text = String::from("s0 = \"0123456789abcdef\"\na0 = [1, 2]\n");
    for step in 1..=40 {
        let last = step - 1;
        text.push_str(&format!(
            "s{step} = concat(\"\", [s{last}, s{last}])\na{step} = array.concat(a{last}, a{last})\n"
        ));
    }
    assert!(run_failure(&format!("{text}allow {{ count(s20) > 0 }}")).contains("the limit of one call"));
    assert!(run_failure(&format!("{text}allow {{ count(a20) > 0 }}")).contains("the limit of one call"));
}

#[test]
fn recursion_is_refused_while_loading() {
    for text in [
        "f(x) = f(x) { true }\nallow { f(1) }",
        "f(x) = g(x) { true }\ng(x) = f(x) { true }\nallow { f(1) }",
        "a { not b }\nb { not a }\nallow { a }",
        "allow { data.pomerium.policy.allow }",
        "allow { data.pomerium.policy[_] }",
        "f(x) = g(x) { true }\ng(x) = x { true }\nh(x) = f(x) { true with g as h }\nallow { h(1) }",
        "import data.pomerium.policy.b as c\nb { c }\nallow { b }",
    ] {
        assert!(problem(text).contains("waits for itself"), "{text}");
    }
    // A name of its own inside a rule is not the rule.
    assert!(allow("user = user { user := input.session.user_id }\nallow { user == \"u1\" }").value);
    assert!(allow("a.x = 1\na.y = a.x\nallow { a.y == 1 }").value);
}

#[test]
fn nesting_is_bounded_before_it_costs_stack() {
    let deep = |open: &str, close: &str, count: usize| {
        format!(
            "allow = x {{ x := {}1{} }}",
            open.repeat(count),
            close.repeat(count)
        )
    };
    for text in [
        deep("[", "]", 31),
        deep("[", "]", 5_000),
        deep("{", "}", 5_000),
        deep("(", ")", 5_000),
        deep("f(", ")", 5_000),
        deep("-", "", 5_000),
    ] {
        let _ = Script::compile("test", &text, &ScriptData::default());
    }
    let sum = format!("allow {{ {} > 0 }}", vec!["1"; 7_000].join("+"));
    assert!(problem(&sum).contains("nests deeper"), "{}", problem(&sum));
    let mut chain = String::from("r0 = 1\n");
    for step in 1..1_000 {
        chain.push_str(&format!("r{step} = r{}\n", step - 1));
    }
    assert!(problem(&format!("{chain}allow {{ r999 == 1 }}")).contains("shorten the chain"));
}

/// The longest chain that loads, on the stack of the threads that judge, in the build that takes most.
#[test]
fn what_loads_fits_on_the_stack() {
    let mut chain = String::from("f0(x) = x { true }\n");
    let mut accepted = None;
    for step in 1..100 {
        chain.push_str(&format!(
            "f{step}(x) = y {{ every z in [x] {{ z == x }}; y := [[[[[[[[f{last}(x)]]]]]]]] }}\n",
            last = step - 1
        ));
        let text = format!("import future.keywords\n{chain}allow {{ f{step}(1) }}");
        match Script::compile("test", &text, &ScriptData::default()) {
            Ok(script) => accepted = Some(script),
            Err(error) => {
                assert!(error.problem.contains("shorten the chain"), "{error}");
                break;
            }
        }
    }
    let script = accepted.unwrap();
    let judge = move || {
        let input = Input::new(None, http(), jiff::Timestamp::UNIX_EPOCH);
        script.run(&input).is_ok()
    };
    let thread = std::thread::Builder::new()
        .stack_size(1024 * 1024)
        .spawn(judge)
        .unwrap();
    thread.join().unwrap();
}

#[test]
fn large_scripts_are_refused_unread() {
    let large = format!("allow = true\n{}", "# a line of a comment\n".repeat(50_000));
    assert!(large.len() > 1_000_000);
    assert!(
        problem(&large).contains("bytes; the limit is 262144"),
        "{}",
        problem(&large)
    );
    let rules = "a = 1\n".repeat(3_000);
    assert!(problem(&rules).contains("the limit is 2000"));
    let dense = format!(
        "allow {{ x := [{}]; x == 1 }}",
        "1,1,1,1,1,1,1,1,1,1,\n".repeat(7_000).trim_end_matches(",\n")
    );
    assert!(
        problem(&dense).contains("limit") || problem(&dense).contains("parts"),
        "{}",
        problem(&dense)
    );
}

/// Without a clock: an engine that goes back and tries again would never come to an end.
#[test]
fn patterns_cost_their_length() {
    let evil = r#"allow { regex.match(`^(([a-z])+.)+[A-Z]([a-z])+$`, concat("", ["a" | numbers.range(1, 5000)[_]])) }"#;
    assert!(!allow(evil).value);
    let large = r#"allow { regex.match(`((a{0,100}){0,100}){0,100}`, "a") }"#;
    let input = Input::new(None, http(), jiff::Timestamp::UNIX_EPOCH);
    let failure = script(large).run(&input).expect_err(large);
    assert!(!failure.contains("time"), "{failure}");
    let glob = r#"allow { glob.match("{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}*", [], "aaaaaaaa") }"#;
    assert!(allow(glob).value);
}

#[test]
fn contradictions_are_failures() {
    assert!(run_failure("allow = true { true }\nallow = false { true }").contains("conflict"));
    assert!(run_failure("f(x) = 1 { true }\nf(x) = 2 { true }\nallow { f(1) == 1 }").contains("output"));
}
