//! The built-in functions: those of the engine, those it may not have, those that are bounded, those it lacks, and those of
//! Pomerium.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;
use regorus::unstable::{BUILTINS, Expr, Ref, Span};
use regorus::{Engine, Source, Value};

use super::records::Records;
use super::{digests, jwt, size, ssh};

/// A function that looks at the request: name, number of arguments, what it does. Undefined stands for an error, as with
/// every built-in function.
pub(super) type Ours = (&'static str, u8, fn(&Context, &[Value]) -> Value);

/// A function that looks at nothing but what it is given.
pub(super) type Pure = (&'static str, u8, fn(&[Value]) -> Value);

/// Functions of Pomerium, and those of the language that need the request.
const OURS: [Ours; 4] = [
    ("time.now_ns", 0, |context, _| {
        Value::from(context.now.as_nanosecond())
    }),
    ("get_databroker_record", 2, |context, given| match given {
        [Value::String(kind), Value::String(id)] => context.records.get(kind, id, context.now),
        _ => Value::Undefined,
    }),
    ssh::VERIFY,
    jwt::DECODE_VERIFY,
];

/// Functions of the language that the engine lacks.
fn pure() -> impl Iterator<Item = &'static Pure> {
    digests::FUNCTIONS.iter().chain(jwt::FUNCTIONS)
}

const DETERMINED: &str = "the same request has to be judged the same each time";
const BROKEN: &str = "MD5 is broken; use SHA-256";
const SIGNS: &str = "a policy holds no keys and signs nothing";
const FOREIGN: &str = "it is not part of this engine";

/// Functions of the language that cannot be used, and why, or what to do instead.
const REFUSED: [(&str, &str); 25] = [
    (
        "http.send",
        "a decision waits for nobody; keep what it needs in records and read them with `get_databroker_record`",
    ),
    (
        "net.lookup_ip_addr",
        "a decision waits for nobody; compare addresses with `net.cidr_contains`",
    ),
    (
        "get_google_cloud_serverless_headers",
        "a script sets no headers, and would see a token that is for the upstream; set `enable_google_cloud_serverless_authentication` on the route",
    ),
    ("opa.runtime", "policies do not see the machine they run on"),
    ("rand.intn", DETERMINED),
    ("uuid.rfc4122", DETERMINED),
    (
        "graph.reachable_paths",
        "its work grows without bound; use `graph.reachable`",
    ),
    ("crypto.md5", BROKEN),
    ("crypto.hmac.md5", BROKEN),
    ("crypto.parse_private_keys", SIGNS),
    ("crypto.x509.parse_rsa_private_key", SIGNS),
    ("crypto.x509.parse_keypair", SIGNS),
    ("crypto.x509.parse_certificate_request", FOREIGN),
    (
        "crypto.x509.parse_certificates",
        "it is not part of this engine; use the criterion `client_certificate` of the policy language",
    ),
    (
        "crypto.x509.parse_and_verify_certificates",
        "it is not part of this engine; use `input.is_valid_client_certificate`",
    ),
    (
        "crypto.x509.parse_and_verify_certificates_with_options",
        "it is not part of this engine; use `input.is_valid_client_certificate`",
    ),
    ("io.jwt.encode_sign", SIGNS),
    ("io.jwt.encode_sign_raw", SIGNS),
    ("providers.aws.sign_req", SIGNS),
    (
        "json.match_schema",
        "patterns of schemas can take time without bound; check the fields that count",
    ),
    (
        "json.verify_schema",
        "patterns of schemas can take time without bound; check the fields that count",
    ),
    ("regex.globs_match", FOREIGN),
    ("graphql.parse", FOREIGN),
    ("graphql.is_valid", FOREIGN),
    ("rego.parse_module", FOREIGN),
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
    let ours = OURS.iter().map(|(name, count, _)| (*name, *count));
    let mut known = ours.chain(pure().map(|(name, count, _)| (*name, *count)));
    let ours = known.find(|(ours, _)| *ours == name).map(|(_, count)| count);
    ours.or_else(|| BUILTINS.get(name).map(|(_, count)| *count))
        .map(usize::from)
}

/// All that can be called.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let ours = OURS.iter().map(|(name, ..)| *name);
    BUILTINS
        .keys()
        .copied()
        .filter(|name| refused(name).is_none())
        .chain(ours)
        .chain(pure().map(|(name, ..)| *name))
}

/// What the functions of one evaluation look at.
pub(super) struct Context {
    pub(super) now: jiff::Timestamp,
    /// Where the request comes from.
    pub(super) address: Option<IpAddr>,
    pub(super) records: Records,
}

/// Where the functions of one engine find it.
pub(super) type Slot = Arc<Mutex<Option<Context>>>;

/// Gives an engine the functions that look at the request, in `slot`.
pub(super) fn add_ours(engine: &mut Engine, slot: &Slot) -> anyhow::Result<()> {
    for (name, count, function) in OURS {
        let slot = Arc::clone(slot);
        let call = move |arguments: Vec<Value>| match &*slot.lock() {
            Some(context) => Ok(function(context, &arguments)),
            None => Err(anyhow::anyhow!("called outside of an evaluation")),
        };
        engine.add_extension(name.to_owned(), count, Box::new(call))?;
    }
    Ok(())
}

/// Gives an engine what needs nothing of the request: functions it lacks, bounds, and refusals of what loading has
/// refused already.
pub(super) fn add_bounds(engine: &mut Engine) -> anyhow::Result<()> {
    for &(name, count, function) in pure() {
        let call = move |arguments: Vec<Value>| Ok(function(&arguments));
        engine.add_extension(name.to_owned(), count, Box::new(call))?;
    }
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
