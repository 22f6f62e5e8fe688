//! `certificates_dir`: pairs of files in a folder and in the folders right below it, as certbot, mkcert and
//! Kubernetes lay them out.
//!
//! Every key must have its certificate and every certificate its key. Entries whose names begin with a dot are
//! left alone: Kubernetes keeps the versions of a mounted secret there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::Cx;
use crate::settings::CertificatePair;
use crate::spec::values::Values;

const NAME: &str = "certificates_dir";
/// Entries of one folder, so that the wrong folder is noticed and not read.
const MOST: usize = 10_000;
/// The layout of certbot, whose other files are parts of these.
const CERTBOT: (&str, &str) = ("fullchain.pem", "privkey.pem");

/// The pairs in the order of their paths.
pub(super) fn resolve(values: &Values, cx: &mut Cx<'_>) -> Vec<CertificatePair> {
    let Some(folder) = values.some_text(NAME) else {
        return Vec::new();
    };
    let mut pairs = Vec::new();
    let mut problems = Vec::new();
    walk(Path::new(folder), true, &mut pairs, &mut problems, cx);
    let mut found = Vec::new();
    for (chain, key) in pairs {
        match super::certificates::from_files(&chain.to_string_lossy(), &key.to_string_lossy(), cx) {
            Ok(pair) => found.push(pair),
            Err(problem) => problems.push(format!("{}: {problem}", chain.display())),
        }
    }
    if found.is_empty() && problems.is_empty() {
        let help = "put NAME.crt and NAME.key there; they are served as soon as they are";
        cx.sink.warn(
            values.place(NAME),
            NAME,
            format!("{folder} holds no certificate"),
            help,
        );
    }
    let help = "a pair is NAME.crt or NAME.pem with NAME.key, NAME.pem with NAME-key.pem, fullchain.pem with \
                privkey.pem, or one NAME.pem with both in it";
    for problem in problems {
        cx.sink.error(values.place(NAME), NAME, problem, help);
    }
    found
}

/// Collects the pairs of `folder`, which is watched from now on.
fn walk(
    folder: &Path,
    below: bool,
    pairs: &mut Vec<(PathBuf, PathBuf)>,
    problems: &mut Vec<String>,
    cx: &mut Cx<'_>,
) {
    cx.watched.push(folder.to_owned());
    let names = match names(folder) {
        Ok(names) => names,
        Err(problem) => return problems.push(problem),
    };
    let mut used = BTreeSet::new();
    for name in &names {
        match pair(name, &names) {
            Some(Ok((chain, key))) => {
                pairs.push((folder.join(&chain), folder.join(&key)));
                used.extend([chain, key]);
            }
            Some(Err(problem)) => problems.push(format!("{}: {problem}", folder.join(name).display())),
            None => {}
        }
    }
    for name in names.iter().filter(|name| below && !used.contains(*name)) {
        let path = folder.join(name);
        if path.is_dir() {
            walk(&path, false, pairs, problems, cx);
        }
    }
}

fn names(folder: &Path) -> Result<BTreeSet<String>, String> {
    let describe = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(folder).map_err(describe)? {
        let name = entry.map_err(describe)?.file_name();
        if let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) {
            names.insert(name.to_owned());
        }
        if names.len() > MOST {
            return Err(format!("{}: more than {MOST} entries", folder.display()));
        }
    }
    Ok(names)
}

/// The pair that the certificate `name` is part of; `None` for what is no certificate. A key without one is a
/// problem as well.
fn pair(name: &str, names: &BTreeSet<String>) -> Option<Result<(String, String), &'static str>> {
    let both = |chain: &str, key: String| Some(Ok((chain.to_owned(), key)));
    let certbot = names.contains(CERTBOT.0) && names.contains(CERTBOT.1);
    if let Some(stem) = name.strip_suffix(".key") {
        let known = [".crt", ".pem"]
            .iter()
            .any(|end| names.contains(&format!("{stem}{end}")));
        return (!known).then_some(Err("a key without its certificate"));
    }
    if let Some(stem) = name.strip_suffix("-key.pem") {
        let known = names.contains(&format!("{stem}.pem"));
        return (!known).then_some(Err("a key without its certificate"));
    }
    let stem = name.strip_suffix(".crt").or_else(|| name.strip_suffix(".pem"))?;
    let key = format!("{stem}.key");
    if names.contains(&key) {
        return both(name, key);
    }
    if name.ends_with(".crt") {
        return Some(Err("a certificate without its key"));
    }
    let key = format!("{stem}-key.pem");
    if names.contains(&key) {
        return both(name, key);
    }
    match (certbot, name == CERTBOT.0) {
        (true, true) => both(name, CERTBOT.1.to_owned()),
        (true, false) => None,
        (false, _) => both(name, name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(names: &[&str]) -> Vec<String> {
        let all: BTreeSet<String> = names.iter().map(ToString::to_string).collect();
        let found = all.iter().filter_map(|name| pair(name, &all));
        let text = |pair: Result<(String, String), &str>| match pair {
            Ok((chain, key)) => format!("{chain} {key}"),
            Err(problem) => problem.to_owned(),
        };
        found.map(text).collect()
    }

    #[test]
    fn layouts_that_people_have() {
        assert_eq!(pairs(&["tls.crt", "tls.key", "ca.txt"]), ["tls.crt tls.key"]);
        assert_eq!(pairs(&["a.pem", "a-key.pem"]), ["a.pem a-key.pem"]);
        assert_eq!(pairs(&["a.pem", "a.key"]), ["a.pem a.key"]);
        assert_eq!(pairs(&["both.pem"]), ["both.pem both.pem"]);
        let certbot = ["README", "cert.pem", "chain.pem", "fullchain.pem", "privkey.pem"];
        assert_eq!(pairs(&certbot), ["fullchain.pem privkey.pem"]);
    }

    #[test]
    fn halves_are_told() {
        assert_eq!(pairs(&["a.crt"]), ["a certificate without its key"]);
        assert_eq!(pairs(&["a.key"]), ["a key without its certificate"]);
        assert_eq!(pairs(&["a-key.pem"]), ["a key without its certificate"]);
    }
}
