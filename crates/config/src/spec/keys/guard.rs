//! Typing mistakes: which keys guard access, and which known key an unknown one is near to.

use super::{MTLS, ROUTE, global};

/// Whether a key restricts who gets in: a misspelling of it must never be ignored.
pub fn guards_access(name: &str) -> bool {
    matches!(
        name,
        "policy" | "enforcement" | "bearer_token_format" | "downstream_mtls" | "sub_policies" | "rego"
    ) || name.starts_with("allowed_")
        || name.starts_with("allow_")
        || (name.starts_with("tls_") && name.contains("client"))
        || (name.starts_with("idp_") && name.ends_with("audiences"))
}

/// The access key that an unknown key probably means: same spelling on another level, or at most two typing
/// mistakes away. `siblings` are the names that are valid where the key stands.
pub fn likely_guard(unknown: &str, siblings: &[&'static str], in_mtls: bool) -> Option<&'static str> {
    let unknown = normal(unknown);
    let near = |name: &&'static str| distance(&unknown, name, 2).is_some();
    let own = siblings
        .iter()
        .copied()
        .filter(|name| in_mtls || guards_access(name))
        .find(near);
    let other_level = || {
        let all = global().chain(ROUTE).map(|key| key.name);
        all.filter(|name| name.len() > 5 && guards_access(name))
            .find(near)
    };
    own.or_else(|| narrowing(&unknown, siblings))
        .or_else(other_level)
        .or_else(|| demand_of_certificates(&unknown))
}

/// What narrows a route to some paths: without it the route, and whatever it opens, covers the whole host. These names are
/// short, so that only one mistake in them counts.
fn narrowing(unknown: &str, siblings: &[&'static str]) -> Option<&'static str> {
    let of_a_route = siblings.contains(&"from") && siblings.contains(&"prefix_rewrite");
    let names = ["prefix", "path", "regex"].into_iter();
    let mut near = names.filter(|name| distance(unknown, name, 1).is_some());
    near.next().filter(|_| of_a_route)
}

/// An option of `downstream_mtls` that stands somewhere else. The names of files are short and like many others, so that
/// only one mistake in them counts.
fn demand_of_certificates(unknown: &str) -> Option<&'static str> {
    let named = MTLS.iter().map(|key| key.name).filter(|name| name.len() > 5);
    named
        .filter(|name| distance(unknown, name, if name.len() > 8 { 2 } else { 1 }).is_some())
        .min_by_key(|name| distance(unknown, name, 2))
}

/// The nearest known name, if one is near enough to be worth mentioning.
pub fn nearest(unknown: &str, names: &[&'static str]) -> Option<&'static str> {
    let unknown = normal(unknown);
    let limit = (unknown.len() / 3).clamp(1, 3);
    names
        .iter()
        .filter_map(|name| distance(&unknown, name, limit).map(|steps| (steps, *name)))
        .min()
        .map(|(_, name)| name)
}

fn normal(name: &str) -> String {
    name.trim().to_lowercase().replace(['-', ' '], "_")
}

/// Insertions, deletions, replacements and swaps of neighbours between two names, if at most `limit`.
fn distance(a: &str, b: &str, limit: usize) -> Option<usize> {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len().abs_diff(b.len()) > limit {
        return None;
    }
    let mut before_last = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    Some(last[b.len()]).filter(|&steps| steps <= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_typing_mistakes() {
        assert_eq!(distance("allowed_usres", "allowed_users", 2), Some(1));
        assert_eq!(distance("alowed_users", "allowed_users", 2), Some(1));
        assert_eq!(distance("name", "allowed_users", 2), None);
        assert_eq!(distance("abc", "xyz", 2), None);
    }

    #[test]
    fn misspelled_access_keys_are_found_on_every_level() {
        let route: Vec<_> = ROUTE.iter().map(|key| key.name).collect();
        assert_eq!(likely_guard("allowed-user", &route, false), Some("allowed_users"));
        assert_eq!(likely_guard("polcy", &route, false), Some("policy"));
        assert_eq!(
            likely_guard("allowed_users", &["address"], false),
            Some("allowed_users")
        );
        assert_eq!(likely_guard("whatever", &route, false), None);
        assert_eq!(likely_guard("prefx", &route, false), Some("prefix"));
        assert_eq!(likely_guard("pth", &route, false), Some("path"));
        assert_eq!(likely_guard("prefx", &["prefix"], false), None);
        assert_eq!(likely_guard("ca_fiel", &["ca", "ca_file"], true), Some("ca_file"));
        for (written, meant) in [
            ("enforcement", "enforcement"),
            ("match_subject_alt_names", "match_subject_alt_names"),
            ("match_subject_alt_name", "match_subject_alt_names"),
            ("crl_file", "crl_file"),
            ("ca_files", "ca_file"),
            ("max_verify_deph", "max_verify_depth"),
        ] {
            for siblings in [&["address"][..], &route] {
                assert_eq!(likely_guard(written, siblings, false), Some(meant));
            }
        }
        assert_eq!(likely_guard("cert_file", &["address"], false), None);
    }

    #[test]
    fn suggestions_are_near() {
        assert_eq!(nearest("adress", &["address", "services"]), Some("address"));
        assert_eq!(nearest("no_such_option", &["address", "services"]), None);
    }
}
