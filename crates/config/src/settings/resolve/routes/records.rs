//! Routes of records: after those of the file, in an order of their own, each judged by itself.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::sync::Arc;

use pomerium_policy::Program;

use super::super::{Cx, refusals};
use super::{Inherited, one};
use crate::records::{Fault, RouteRecord};
use crate::settings::{RouteId, RouteKind, RouteSettings};
use crate::spec::keys::ROUTE;
use crate::spec::node::{Entry, Node, Value};
use crate::spec::values::Values;
use crate::spec::{Sink, decode};

/// What a route keeps when it cannot be used: its place in the table.
const PLACE: [&str; 5] = ["from", "name", "prefix", "path", "regex"];

/// Adds the routes of the records, sorted (spec proxy.md 4.1). Of two with one id the first one stays: that of the file,
/// then in the order of the records.
pub(super) fn append(routes: &mut Vec<Arc<RouteSettings>>, inherited: &Inherited<'_>, cx: &mut Cx<'_>) {
    let records = cx.records;
    if records.routes.is_empty() {
        return;
    }
    let mut taken: HashSet<RouteId> = routes.iter().map(|route| route.id.clone()).collect();
    let mut added: Vec<(Order, RouteSettings)> = Vec::with_capacity(records.routes.len());
    for record in &records.routes {
        let Some((order, route)) = read(record, inherited, cx) else {
            continue;
        };
        if taken.insert(route.id.clone()) {
            added.push((order, route));
        } else {
            let (id, from) = (&route.id, &route.from);
            tracing::debug!(%id, from, "a route of a record has an id that is taken");
        }
    }
    added.sort_by(|(a, _), (b, _)| a.cmp(b));
    routes.extend(added.into_iter().map(|(_, route)| Arc::new(route)));
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
        let noted = problems.into_iter().map(|fault| fault.of_record(label));
        cx.record_problems.extend(noted);
        closed(&record.node, label, inherited, cx)
    };
    let mut settings = settings?;
    settings.record = Some(label.as_str().into());
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
        let sign_in = (inherited.services, inherited.authenticate);
        refusals::of_record(&values, route, inherited.global, sign_in, cx);
    }
    (values, route, std::mem::replace(&mut cx.sink, outer))
}

/// Errors and refusals, under the names of fields.
fn faults(found: &Sink, label: &str) -> Vec<Fault> {
    let mut faults = found.faults();
    for fault in &mut faults {
        let field = fault.field.strip_prefix(label).unwrap_or(&fault.field);
        fault.field = field.trim_start_matches('.').to_owned();
    }
    faults
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
