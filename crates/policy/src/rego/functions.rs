//! The built-in functions: those of the engine, those it may not have, those that are bounded, and those of Pomerium.

use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;
use regorus::unstable::{BUILTINS, Expr, Ref, Span};
use regorus::{Engine, Source, Value};

use super::records::Records;
use super::size;

/// Functions of Pomerium, with the number of their arguments.
pub(super) const OURS: [(&str, u8); 3] = [
    ("get_databroker_record", 2),
    ("get_google_cloud_serverless_headers", 2),
    ("time.now_ns", 0),
];

/// Functions that reach outside of the request, and what to do instead.
const REFUSED: [(&str, &str); 7] = [
    (
        "http.send",
        "a decision waits for nobody; keep what it needs in records and read them with `get_databroker_record`",
    ),
    (
        "net.lookup_ip_addr",
        "a decision waits for nobody; compare addresses with `net.cidr_contains`",
    ),
    ("opa.runtime", "policies do not see the machine they run on"),
    (
        "rand.intn",
        "the same request has to be judged the same each time",
    ),
    (
        "uuid.rfc4122",
        "the same request has to be judged the same each time",
    ),
    (
        "ssh_verify_user_cert",
        "it is not built yet; use the criterion `ssh_ca` of the policy language",
    ),
    (
        "graph.reachable_paths",
        "its work grows without bound; use `graph.reachable`",
    ),
];

/// Why a function cannot be used.
pub(super) fn refused(name: &str) -> Option<&'static str> {
    REFUSED
        .iter()
        .find(|(refused, _)| *refused == name)
        .map(|(_, why)| *why)
}

/// How many arguments a function takes; `None` when there is none of this name.
pub(super) fn arity(name: &str) -> Option<usize> {
    let ours = OURS
        .iter()
        .find(|(ours, _)| *ours == name)
        .map(|(_, count)| *count);
    ours.or_else(|| BUILTINS.get(name).map(|(_, count)| *count))
        .map(usize::from)
}

/// What the functions of one evaluation look at.
pub(super) struct Context {
    pub(super) now: jiff::Timestamp,
    pub(super) records: Records,
}

/// Where the functions of one engine find it.
pub(super) type Slot = Arc<Mutex<Option<Context>>>;

/// Gives an engine the functions of Pomerium, which look into `slot`.
pub(super) fn add_ours(engine: &mut Engine, slot: &Slot) -> anyhow::Result<()> {
    let mut add = |name: &str, function: fn(&Context, &[Value]) -> Value| {
        let slot = Arc::clone(slot);
        let count = OURS
            .iter()
            .find(|(ours, _)| *ours == name)
            .map_or(0, |(_, count)| *count);
        let call = move |arguments: Vec<Value>| match &*slot.lock() {
            Some(context) => Ok(function(context, &arguments)),
            None => Err(anyhow::anyhow!("called outside of an evaluation")),
        };
        engine.add_extension(name.to_owned(), count, Box::new(call))
    };
    add("time.now_ns", |context, _| {
        Value::from(context.now.as_nanosecond())
    })?;
    add("get_databroker_record", |context, arguments| match arguments {
        [Value::String(kind), Value::String(id)] => context.records.get(kind, id, context.now),
        _ => Value::Undefined,
    })?;
    add(
        "get_google_cloud_serverless_headers",
        |context, arguments| match arguments {
            [Value::String(account), Value::String(audience)] => {
                context.records.serverless(account, audience)
            }
            _ => Value::Undefined,
        },
    )
}

/// Gives an engine what needs nothing of the request: bounds, and refusals of what loading has refused already.
pub(super) fn add_bounds(engine: &mut Engine) -> anyhow::Result<()> {
    for (name, why) in REFUSED {
        let Some((_, count)) = BUILTINS.get(name) else {
            continue;
        };
        let refuse = move |_: Vec<Value>| Err(anyhow::anyhow!("`{name}` cannot be used: {why}"));
        engine.add_extension(name.to_owned(), *count, Box::new(refuse))?;
    }
    for (name, cost) in size::BOUNDED {
        let Some((function, count)) = BUILTINS.get(name) else {
            continue;
        };
        let call = move |arguments: Vec<Value>| {
            if cost(&arguments) > size::MOST {
                anyhow::bail!(
                    "`{name}` would make a value of more than {} kB; the limit of one call",
                    size::MOST / 1024
                );
            }
            // Errors of built-in functions are undefined, unless they are about limits.
            match function(&PLACE.0, &PLACE.1, &arguments, false) {
                Err(error) if error.downcast_ref::<regorus::LimitError>().is_none() => Ok(Value::Undefined),
                other => other,
            }
        };
        engine.add_extension((*name).to_owned(), *count, Box::new(call))?;
    }
    for name in [
        "time.clock",
        "time.date",
        "time.weekday",
        "time.format",
        "time.add_date",
        "time.diff",
    ] {
        let Some((function, count)) = BUILTINS.get(name) else {
            continue;
        };
        let call = move |arguments: Vec<Value>| {
            if arguments.iter().any(names_the_machine) {
                return Ok(Value::Undefined);
            }
            Ok(function(&PLACE.0, &PLACE.1, &arguments, false).unwrap_or(Value::Undefined))
        };
        engine.add_extension(name.to_owned(), *count, Box::new(call))?;
    }
    Ok(())
}

/// Whether a moment is given in the zone of the machine, which is none of a policy's business.
fn names_the_machine(moment: &Value) -> bool {
    let local = |zone: &Value| matches!(zone, Value::String(zone) if **zone == *"Local");
    matches!(moment, Value::Array(parts) if parts.iter().any(local))
}

/// Built-in functions want to know where they are called, for errors that nobody sees.
static PLACE: LazyLock<(Span, Vec<Ref<Expr>>)> = LazyLock::new(|| {
    let source =
        Source::from_contents("built-in".into(), String::new()).expect("an empty text is short enough");
    let span = Span {
        source,
        line: 1,
        col: 1,
        start: 0,
        end: 0,
    };
    let expr = || {
        Ref::new(Expr::Null {
            span: span.clone(),
            value: Value::Null,
            eidx: 0,
        })
    };
    (span.clone(), (0..8).map(|_| expr()).collect())
});
