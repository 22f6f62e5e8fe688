//! Routes of records: after those of the file, in an order of their own, each judged by itself.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::sync::Arc;

use pomerium_policy::Program;

use super::super::{Cx, refusals};
use super::{Inherited, one};
use crate::records::{RecordProblem, RouteRecord};
use crate::settings::{RouteKind, RouteSettings};
use crate::spec::keys::ROUTE;
use crate::spec::node::{Entry, Node, Value};
use crate::spec::values::Values;
use crate::spec::{Sink, decode};

/// What a route keeps when it cannot be used: its place in the table.
const PLACE: [&str; 5] = ["from", "name", "prefix", "path", "regex"];

/// Adds the routes of the records, sorted (spec proxy.md 4.1). One whose id is taken is dropped.
pub(super) fn append(routes: &mut Vec<Arc<RouteSettings>>, inherited: &Inherited<'_>, cx: &mut Cx<'_>) {
    let records = cx.records;
    let mut added: Vec<(Order, RouteSettings)> = records
        .routes
        .iter()
        .filter_map(|record| read(record, inherited, cx))
        .collect();
    added.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut taken: HashSet<Box<str>> = routes.iter().map(|route| route.id.clone()).collect();
    for (_, route) in added {
        if taken.insert(route.id.clone()) {
            routes.push(Arc::new(route));
        } else {
            tracing::debug!(
                id = route.id,
                from = route.from,
                "a route of a record has an id that is taken"
            );
        }
    }
}

/// One route; what is wrong with it is noted. A route that cannot be used keeps its place and lets nobody
/// in: left out, its requests would fall to a route of a wider pattern, which may be open to more people.
fn read(record: &RouteRecord, inherited: &Inherited<'_>, cx: &mut Cx<'_>) -> Option<(Order, RouteSettings)> {
    let label = &record.record;
    let (values, route, found) = judged(&record.node, label, inherited, cx);
    let mut problems = record.faults.clone();
    problems.extend(faults(&found, label));
    cx.sink.warnings.extend(found.warnings);
    let settings = if problems.is_empty() {
        route
    } else {
        let noted = problems.into_iter().map(|message| RecordProblem {
            record: label.clone(),
            message,
        });
        cx.record_problems.extend(noted);
        closed(&record.node, label, inherited, cx)
    };
    let mut settings = settings?;
    if let Some(id) = &record.id {
        settings.id = id.as_str().into();
    }
    Some((Order::of(&values, &settings.id), settings))
}

/// Decodes and resolves a route with a sink of its own.
fn judged(
    node: &Node,
    label: &str,
    inherited: &Inherited<'_>,
    cx: &mut Cx<'_>,
) -> (Values, Option<RouteSettings>, Sink) {
    let outer = std::mem::take(&mut cx.sink);
    let values = decode::options(ROUTE.iter(), node, label, &mut cx.sink);
    let route = one(&values, inherited, cx);
    if let Some(route) = &route {
        let signs_in = inherited.authenticate.idp.is_some();
        refusals::of_record(&values, route, inherited.global, signs_in, cx);
    }
    (values, route, std::mem::replace(&mut cx.sink, outer))
}

/// Errors and refusals in one line each.
fn faults(found: &Sink, label: &str) -> Vec<String> {
    let line = |key: &str, message: &str, help: &str| {
        let key = key.strip_prefix(label).unwrap_or(key).trim_start_matches('.');
        let parts = [key, message, help].into_iter().filter(|part| !part.is_empty());
        parts.collect::<Vec<_>>().join(": ")
    };
    let errors = found.errors.iter();
    let refusals = found.refusals.iter();
    errors
        .map(|error| line(&error.key, &error.message, &error.help))
        .chain(refusals.map(|refusal| line(&refusal.key, &refusal.why, &refusal.help)))
        .collect()
}

/// The same place in the table, open to nobody; `None` when even the place cannot be read.
fn closed(node: &Node, label: &str, inherited: &Inherited<'_>, cx: &mut Cx<'_>) -> Option<RouteSettings> {
    let entry = |key: &str, node: Node| Entry {
        key: key.to_owned(),
        place: node.place,
        node,
    };
    let place = node.place;
    let kept = PLACE
        .iter()
        .filter_map(|key| Some(entry(key, node.get(key)?.clone())));
    let status = entry("status", Node::new(Value::Int(503), place));
    let answer = entry("response", Node::new(Value::Map(vec![status]), place));
    let node = Node::new(Value::Map(kept.chain([answer]).collect()), place);
    let outer = std::mem::take(&mut cx.sink);
    let values = decode::options(ROUTE.iter(), &node, label, &mut cx.sink);
    let route = one(&values, inherited, cx).map(|route| RouteSettings {
        policy: Program::deny_all(),
        ..route
    });
    let found = std::mem::replace(&mut cx.sink, outer);
    route.filter(|route| found.errors.is_empty() && route.kind == RouteKind::Http)
}

/// Where a route of a record stands among the others: longer paths and prefixes before their beginnings.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Order {
    from: String,
    path: Reverse<String>,
    /// Unset after every number.
    regex_priority: Reverse<Option<i64>>,
    regex: Reverse<String>,
    prefix: Reverse<String>,
    id: String,
}

impl Order {
    fn of(route: &Values, id: &str) -> Self {
        let text = |name: &str| route.text(name).to_owned();
        Self {
            from: text("from"),
            path: Reverse(text("path")),
            regex_priority: Reverse(
                route
                    .is_set("regex_priority_order")
                    .then(|| route.int("regex_priority_order"))
                    .flatten(),
            ),
            regex: Reverse(text("regex")),
            prefix: Reverse(text("prefix")),
            id: id.to_owned(),
        }
    }
}
