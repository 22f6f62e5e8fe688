//! What a script may not do, found before it ever runs: call what does not exist or reaches outside, call itself,
//! nest so deep that judging it could exhaust the stack.

use std::collections::{BTreeMap, BTreeSet};

use regorus::unstable::{Expr, Module, Rule, RuleHead, Span};

use super::error::Flaw;
use super::functions;
use super::syntax::{Node, PACKAGE, Walk, defines, imports, locals, path, reference, resolved};
use crate::suggest::nearest;

/// Most rules, and most parts of expressions, of one script.
const MAX_RULES: usize = 2_000;
const MAX_PARTS: usize = 60_000;
/// Deepest nesting of one rule.
const MAX_DEPTH: usize = 64;
/// Deepest nesting of all rules that wait for one another. A level takes up to 8 kB of stack in the builds that
/// take most, and the threads that judge have 2 MB.
const MAX_CHAIN: usize = 160;

/// Size and nesting: everything else presupposes them.
pub(super) fn size(module: &Module) -> Result<(), Flaw> {
    if module.policy.len() > MAX_RULES {
        let problem = format!("it has {} rules; the limit is {MAX_RULES}", module.policy.len());
        return Err(Flaw::whole(problem));
    }
    let mut parts = 0;
    for rule in &module.policy {
        for (depth, _) in Walk::rule(rule) {
            parts += 1;
            if depth > MAX_DEPTH {
                let problem = format!("this rule nests deeper than {MAX_DEPTH} levels; split it");
                return Err(Flaw::at(rule.span(), problem));
            }
            if parts > MAX_PARTS {
                return Err(Flaw::at(
                    rule.span(),
                    format!("the script has more than {MAX_PARTS} parts; shorten it"),
                ));
            }
        }
    }
    Ok(())
}

/// Names: the package, the heads of the rules, what is called and what is referred to.
pub(super) fn names(module: &Module) -> Result<(), Flaw> {
    let package = path(&module.package.refr)
        .map(|(names, _)| names)
        .unwrap_or_default();
    if package != PACKAGE {
        let problem = format!(
            "the package has to be `pomerium.policy`, not `{}`",
            package.join(".")
        );
        return Err(Flaw::at(&module.package.span, problem));
    }
    for rule in &module.policy {
        head(rule)?;
    }
    let own = functions_of(module);
    let imports = imports(module);
    for rule in &module.policy {
        for (_, node) in Walk::rule(rule) {
            let Node::Expr(expr) = node else { continue };
            match expr {
                Expr::Call { fcn, params, .. } => {
                    let Some((names, true)) = path(fcn) else {
                        return Err(Flaw::at(
                            start(fcn),
                            "functions are called by a name that stands in the text",
                        ));
                    };
                    call(&resolved(&names, &imports), params.len(), &own)
                        .map_err(|problem| Flaw::at(start(fcn), problem))?;
                }
                Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. } => {
                    if let Some((names, _)) = path(expr) {
                        data(&resolved(&names, &imports))
                            .map_err(|problem| Flaw::at(start(expr), problem))?;
                    }
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Where an expression begins; the engine places a reference at its last step.
fn start(expr: &Expr) -> &Span {
    reference(expr).0.span()
}

fn head(rule: &Rule) -> Result<(), Flaw> {
    let (names, span) = defines(rule);
    if matches!(names.as_slice(), ["input" | "data", ..]) {
        return Err(Flaw::at(span, format!("no rule may be called `{}`", names[0])));
    }
    match rule {
        // The original refuses it, too; most likely a keyword was forgotten.
        Rule::Spec {
            head: RuleHead::Compr { assign: None, .. },
            bodies,
            ..
        } if bodies.is_empty() => {
            let problem = "a rule needs a value or a body: `name = value` or `name { … }`";
            Err(Flaw::at(span, problem))
        }
        Rule::Spec {
            head: RuleHead::Func { .. },
            ..
        } if matches!(names.as_slice(), ["allow" | "deny"]) => Err(Flaw::at(
            span,
            format!("`{}` has to be a rule, not a function", names[0]),
        )),
        _ => Ok(()),
    }
}

/// Functions of the script, with the number of their arguments.
fn functions_of(module: &Module) -> BTreeMap<Vec<&str>, usize> {
    let mut found = BTreeMap::new();
    for rule in &module.policy {
        let args = match rule.as_ref() {
            Rule::Spec {
                head: RuleHead::Func { args, .. },
                ..
            } => args,
            Rule::Default { args, .. } if !args.is_empty() => args,
            _ => continue,
        };
        found.insert(defines(rule).0, args.len());
    }
    found
}

fn call(names: &[&str], given: usize, own: &BTreeMap<Vec<&str>, usize>) -> Result<(), String> {
    let name = names.join(".");
    let local = match names {
        ["data", package @ ..] => package.strip_prefix(&PACKAGE),
        names => Some(names),
    };
    let wanted = if let Some(count) = local.and_then(|local| own.get(local)) {
        *count
    } else if name == "print" {
        return Ok(());
    } else if let Some(why) = functions::refused(&name) {
        return Err(format!("`{name}` cannot be used: {why}"));
    } else if let Some(count) = functions::arity(&name) {
        count
    } else {
        let hint = nearest(&name, functions::names()).map_or_else(
            || "the list of built-in functions is in the guide on Rego".to_owned(),
            |near| format!("did you mean `{near}`?"),
        );
        return Err(format!("there is no function `{name}`: {hint}"));
    };
    if name == "walk" && given != 2 {
        return Err("`walk` is written with two arguments here: `walk(x, [path, value])`".into());
    }
    // One more takes the result: `count(x, n)` is `n = count(x)`.
    if given == wanted || given == wanted + 1 {
        return Ok(());
    }
    Err(format!("`{name}` takes {wanted} arguments, not {given}"))
}

/// Documents of the original that are not there: told while loading, because a reference to nothing is undefined
/// and a rule that waits for it never holds.
fn data(names: &[&str]) -> Result<(), String> {
    match names {
        ["data", "signing_key", ..] => Err("the signing key is not shown to policies".into()),
        ["data", "route_policies", ..] => {
            Err("the policies of other routes are not shown to policies".into())
        }
        ["data"] | ["data", "pomerium"] => {
            Err("refer to what is needed in `data` by its name; a rule cannot look at all of them".into())
        }
        _ => Ok(()),
    }
}

/// Rules that wait for themselves, and chains of rules that are too deep together.
pub(super) fn chains(module: &Module) -> Result<(), Flaw> {
    let imports = imports(module);
    let heads: Vec<Vec<&str>> = module.policy.iter().map(|rule| defines(rule).0).collect();
    let waits: Vec<BTreeSet<usize>> = module
        .policy
        .iter()
        .map(|rule| waits_for(rule, &heads, &imports))
        .collect();
    let depths: Vec<usize> = module
        .policy
        .iter()
        .map(|rule| Walk::rule(rule).map(|(depth, _)| depth).max().unwrap_or(0))
        .collect();
    // Rules are finished when all they wait for are; what never finishes waits for itself.
    let mut total: Vec<Option<usize>> = vec![None; heads.len()];
    loop {
        let mut progress = false;
        for index in 0..heads.len() {
            if total[index].is_some() {
                continue;
            }
            let below: Option<usize> = waits[index]
                .iter()
                .try_fold(0, |deepest, other| total[*other].map(|depth| deepest.max(depth)));
            if let Some(below) = below {
                let depth = below + depths[index];
                if depth > MAX_CHAIN {
                    let problem = format!(
                        "this rule and those it waits for nest deeper than {MAX_CHAIN} levels together; shorten the chain"
                    );
                    return Err(Flaw::at(module.policy[index].span(), problem));
                }
                total[index] = Some(depth);
                progress = true;
            }
        }
        if !progress {
            break;
        }
    }
    match total.iter().position(Option::is_none) {
        None => Ok(()),
        Some(index) => {
            let problem = format!(
                "`{}` waits for itself; rules and functions cannot be recursive",
                heads[index].join(".")
            );
            Err(Flaw::at(module.policy[index].span(), problem))
        }
    }
}

/// Which rules a rule refers to, by position. A name that is declared inside the rule hides a rule of that name,
/// but not a function.
fn waits_for(rule: &Rule, heads: &[Vec<&str>], imports: &[(&str, Vec<&str>)]) -> BTreeSet<usize> {
    let hidden = locals(rule);
    let mut found = BTreeSet::new();
    let mut refer = |names: &[&str]| {
        let names = resolved(names, imports);
        let local = match names.as_slice() {
            ["data", rest @ ..] => match rest.strip_prefix(&PACKAGE) {
                Some(local) => local,
                None => return,
            },
            names => names,
        };
        let fits = |head: &Vec<&str>| head.iter().zip(local).all(|(head, name)| head == name);
        found.extend(
            heads
                .iter()
                .enumerate()
                .filter(|(_, head)| fits(head))
                .map(|(index, _)| index),
        );
    };
    for (_, node) in Walk::rule(rule) {
        let Node::Expr(expr) = node else { continue };
        let names = match expr {
            Expr::Call { fcn, .. } => path(fcn),
            Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. } => {
                path(expr).filter(|(names, _)| !hidden.contains(names[0]))
            }
            _ => None,
        };
        if let Some((names, _)) = names {
            refer(&names);
        }
    }
    found
}
