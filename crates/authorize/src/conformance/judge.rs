//! Sends one case through the real code and compares.

use http::request::Parts;
use pomerium_policy::ppl::{ParseError, Policy};
use pomerium_policy::{
    CertificateTrust, ClientCertificate, CompileError, HttpInput, Input, McpInput, Program, ReasonSet,
    RouteRules, SshInput, merge,
};
use serde_json::{Value, json};

use super::Certificates;
use super::case::{self, Case, Expect, Http, RouteOfCase, Stage};
use super::records::{CaseRecords, Outside};
use super::{CaseOutcome, Edge, Explained, Reply};
use crate::decision::{Decision, check, grounds};
use crate::headers::Headers;

/// Why there is no program.
enum Refused {
    Parse(ParseError),
    Compile(CompileError),
    /// The case itself is wrong.
    Case(String),
}

pub(super) fn judge(case: &Case, edge: &dyn Edge, certificates: &Certificates) -> CaseOutcome {
    let program = match compile(case, edge) {
        Ok(program) => program,
        Err(refused) => return judge_refusal(&refused, case.expect.error),
    };
    if let Some(stage) = case.expect.error {
        return CaseOutcome::Fail(vec![format!(
            "expected an error at {stage:?}, the policy was accepted"
        )]);
    }
    match decide(case, &program, edge, certificates) {
        Ok((decision, reply)) => compare(&case.expect, &decision, &reply),
        Err(problem) => CaseOutcome::Fail(vec![problem]),
    }
}

fn compile(case: &Case, edge: &dyn Edge) -> Result<Program, Refused> {
    if let Some(RouteOfCase::Named(name)) = &case.route {
        return of_route(case, name, edge);
    }
    let source = match (&case.policy, &case.policy_yaml) {
        (Some(_), Some(_)) => return Err(Refused::Case("both policy and policy_yaml".into())),
        (policy, None) => policy.clone(),
        (None, Some(yaml)) => Some(edge.yaml(yaml).map_err(Refused::Case)?),
    };
    let embedded = source
        .as_ref()
        .map(Policy::parse)
        .transpose()
        .map_err(Refused::Parse)?;
    let mut rules = match &case.route {
        Some(RouteOfCase::Settings(route)) => route.rules(),
        _ => RouteRules::default(),
    };
    rules.client_certificate = case.input.default_client_certificate_rule;
    Program::compile(&merge(&rules, embedded.as_ref())).map_err(Refused::Compile)
}

/// The policy of a route of the configuration, as it is: the case adds nothing to it.
fn of_route(case: &Case, name: &str, edge: &dyn Edge) -> Result<Program, Refused> {
    if case.policy.is_some() || case.policy_yaml.is_some() {
        let problem = "a policy beside the name of a route: the policy is that of the route";
        return Err(Refused::Case(problem.into()));
    }
    edge.route(name).map_err(Refused::Case)
}

/// Judges the input of a case and tells how.
pub(super) fn explain(
    case: &Case,
    edge: &dyn Edge,
    certificates: &Certificates,
) -> Result<Explained, String> {
    let program = compile(case, edge).map_err(|refused| match refused {
        Refused::Parse(error) => error.to_string(),
        Refused::Compile(error) => error.to_string(),
        Refused::Case(problem) => problem,
    })?;
    with_input(case, edge, certificates, |input, request| {
        let decision = check(&program, input);
        let tree = program.explain(input);
        Explained {
            grounds: grounds(&tree, &decision),
            reply: edge.reply(&decision, request, input.mcp.is_some()),
            decision,
            tree,
        }
    })
}

fn judge_refusal(refused: &Refused, expected: Option<Stage>) -> CaseOutcome {
    let (message, fits) = match refused {
        Refused::Case(problem) => (problem.clone(), false),
        Refused::Parse(error) => (error.to_string(), expected == Some(Stage::Parse)),
        Refused::Compile(error) => (
            error.to_string(),
            matches!(expected, Some(Stage::Generate | Stage::Compile)),
        ),
    };
    if fits {
        CaseOutcome::Pass
    } else {
        CaseOutcome::Fail(vec![format!("expected {expected:?}, refused with: {message}")])
    }
}

/// The moment of a case that names none: 2026-08-01.
const UNLESS_SAID: jiff::Timestamp = jiff::Timestamp::constant(1_785_542_400, 0);

/// The client certificate of a case. A route without an authority asks for none.
fn certificate<'a>(case: &Case, known: &'a Certificates) -> Result<ClientCertificate<'a>, String> {
    let Some(tls) = &case.input.tls else {
        return Ok(ClientCertificate {
            trust: match case.input.client_ca_configured {
                true => CertificateTrust::Rejected,
                false => CertificateTrust::NoAuthority,
            },
            ..ClientCertificate::default()
        });
    };
    let leaf = |name: &String| known.get(name).ok_or_else(|| format!("no certificate {name:?}"));
    Ok(ClientCertificate {
        presented: tls.presented,
        leaf: tls.leaf.as_ref().map(leaf).transpose()?,
        trust: match (case.input.client_ca_configured, tls.valid) {
            (false, _) => CertificateTrust::NoAuthority,
            (true, Some(true)) => CertificateTrust::Verified,
            (true, _) => CertificateTrust::Rejected,
        },
    })
}

fn decide(
    case: &Case,
    program: &Program,
    edge: &dyn Edge,
    certificates: &Certificates,
) -> Result<(Decision, Reply), String> {
    with_input(case, edge, certificates, |input, request| {
        let decision = check(program, input);
        let reply = edge.reply(&decision, request, input.mcp.is_some());
        (decision, reply)
    })
}

/// Runs `judge` over the input of a case.
fn with_input<T>(
    case: &Case,
    edge: &dyn Edge,
    certificates: &Certificates,
    judge: impl FnOnce(&Input<'_>, &Parts) -> T,
) -> Result<T, String> {
    let records = CaseRecords::new(&case.input);
    let principal = records.principal(&case.input);
    let request = request(&case.input.http)?;
    let raw_path = request.uri.path();
    let path = edge.decoded_path(raw_path);
    let http = HttpInput {
        method: request.method.as_str(),
        path: &path,
        raw_path,
        query: request.uri.query().unwrap_or_default(),
        host: &case.input.http.host,
        headers: &Headers(&request.headers),
        client_ip: case.input.http.ip,
        client_certificate: certificate(case, certificates)?,
    };
    let now = case.input.time.unwrap_or(UNLESS_SAID);
    let ssh_key = ssh_key(case)?;
    let outside = Outside::new(&case.input);
    let input = Input {
        ssh: case.input.ssh.as_ref().map(|ssh| SshInput {
            username: &ssh.username,
            public_key: &ssh_key,
        }),
        mcp: case.input.mcp.as_ref().and_then(mcp),
        records: &outside,
        ..Input::new(principal.as_ref().map(|principal| &principal.subject), http, now)
    };
    Ok(judge(&input, &request))
}

fn ssh_key(case: &Case) -> Result<Vec<u8>, String> {
    let text = case.input.ssh.as_ref().and_then(|ssh| ssh.publickey.as_deref());
    pomerium_crypto::encoding::base64_decode(text.unwrap_or_default())
        .map_err(|error| format!("the SSH key of the case is not base64: {error}"))
}

fn mcp(mcp: &case::Mcp) -> Option<McpInput<'_>> {
    let call = mcp.tool_call.as_ref();
    Some(McpInput {
        method: mcp.method()?,
        tool: call.and_then(|call| call.name.as_deref()),
    })
}

fn request(http: &Http) -> Result<Parts, String> {
    let uri = format!("https://{}{}", http.host, http.path);
    let mut builder = http::Request::builder().method(http.method.as_str()).uri(uri);
    for (name, value) in &http.headers {
        builder = builder.header(name, value);
    }
    let request = builder
        .body(())
        .map_err(|error| format!("the request of the case cannot be built: {error}"))?;
    Ok(request.into_parts().0)
}

fn compare(expect: &Expect, decision: &Decision, reply: &Reply) -> CaseOutcome {
    let mut differences = Vec::new();
    let mut differ = |what: &str, expected: Option<Value>, found: Value| {
        if let Some(expected) = expected
            && expected != found
        {
            differences.push(format!("{what}: expected {expected}, found {found}"));
        }
    };
    let names = |set: ReasonSet| json!(set.names());
    let sorted = |reasons: &Option<Vec<String>>| {
        reasons.clone().map(|mut names| {
            names.sort();
            json!(names)
        })
    };
    let (allow, deny) = (&decision.allow, &decision.deny);
    differ("allow", expect.allow.map(Value::from), allow.value.into());
    differ("deny", expect.deny.map(Value::from), deny.value.into());
    differ(
        "reasons",
        sorted(&expect.reasons),
        names(allow.reasons.union(deny.reasons)),
    );
    differ(
        "allow_reasons",
        sorted(&expect.allow_reasons),
        names(allow.reasons),
    );
    differ("deny_reasons", sorted(&expect.deny_reasons), names(deny.reasons));
    differ(
        "http_status",
        expect.http_status.map(Value::from),
        reply.status.into(),
    );
    differ(
        "upstream",
        expect.upstream.map(Value::from),
        reply.upstream.into(),
    );
    // A redirect that is not expected is a difference, too.
    if expect.http_status.is_some() {
        differ("redirect", Some(json!(expect.redirect)), json!(reply.redirect));
    }
    if differences.is_empty() {
        CaseOutcome::Pass
    } else {
        CaseOutcome::Fail(differences)
    }
}
