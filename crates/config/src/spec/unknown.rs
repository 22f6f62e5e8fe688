//! Keys that are not in the table: removed ones and misspelled access keys are errors, the rest is reported
//! and ignored (spec config.md 3.1).

use super::keys::{self, Key, REMOVED, ROUTE};
use super::node::Entry;
use super::sink::Sink;
use crate::diagnostic::Sort;

/// Reports a key that its level does not know.
pub(super) fn report(
    siblings: impl Iterator<Item = &'static Key>,
    entry: &Entry,
    path: &str,
    sink: &mut Sink,
) {
    let name = entry.key.to_lowercase();
    let full = if path.is_empty() {
        name.clone()
    } else {
        format!("{path}.{name}")
    };
    let in_route = is_route(path);
    if let Some(removed) = REMOVED
        .iter()
        .find(|key| key.name == name && (path.is_empty() || key.route && in_route))
    {
        let message = "some configuration options are no longer supported, please check logs for details: \
                       config option was removed";
        sink.error(entry.place, full, message, removed.replacement);
        sink.last_error_is(Sort::RemovedKey);
        return;
    }
    let siblings: Vec<&'static str> = siblings.map(|key| key.name).collect();
    if let Some(likely) = keys::likely_guard(&name, &siblings, is_strict(path)) {
        let here = siblings.contains(&likely);
        let message = if likely == name {
            "unknown config option in this place: it guards access and must not be ignored".to_owned()
        } else {
            format!("unknown config option, probably `{likely}`: it guards access and must not be ignored")
        };
        let help = if here {
            format!("write `{likely}`, or remove the key")
        } else if ROUTE.iter().any(|key| key.name == likely) {
            format!("`{likely}` is an option of a route: move it into an entry of `routes`")
        } else if keys::MTLS.iter().any(|key| key.name == likely) {
            format!("`{likely}` is an option of `downstream_mtls`: write `downstream_mtls: {{{likely}: …}}`")
        } else {
            format!("`{likely}` belongs to the top level of the file")
        };
        sink.error(entry.place, full, message, help);
        sink.last_error_is(Sort::UnknownKey);
        return;
    }
    let help = match keys::nearest(&name, &siblings) {
        Some(near) => format!("did you mean `{near}`?"),
        None => elsewhere(&name, in_route),
    };
    sink.warn(
        entry.place,
        without_indexes(&full),
        "unknown config option: it is ignored",
        help,
    );
    sink.last_warning_is(Sort::UnknownKey);
}

/// A key that is right, but on another level.
fn elsewhere(name: &str, in_route: bool) -> String {
    if !in_route && ROUTE.iter().any(|key| key.name == name) {
        return format!("`{name}` is an option of a route: move it into an entry of `routes`");
    }
    if !in_route && keys::BRANDING.iter().any(|key| key.name == name) {
        return format!("write it under `branding`: `branding: {{{name}: …}}`");
    }
    if name == "headers" {
        return "use `set_response_headers`".into();
    }
    if in_route && keys::find_global(name).is_some() {
        return format!("`{name}` belongs to the top level of the file");
    }
    "remove the key".into()
}

/// Levels in which every key counts for access or for the proof of it.
fn is_strict(path: &str) -> bool {
    path == "downstream_mtls" || path.starts_with("audit[")
}

fn is_route(path: &str) -> bool {
    (path.starts_with("routes[") || path.starts_with("policy[")) && path.ends_with(']')
}

/// `routes[3].foo` is reported as `routes.foo`.
fn without_indexes(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut inside = false;
    for c in path.chars() {
        match c {
            '[' => inside = true,
            ']' => inside = false,
            _ if !inside => out.push(c),
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_dropped() {
        assert_eq!(without_indexes("routes[3].foo"), "routes.foo");
        assert!(is_route("routes[3]") && !is_route("routes[3].redirect"));
    }
}
