//! PEM bundles that an option holds as base64, or that its `_file` twin names (spec config.md 5).

use super::{Cx, files};
use crate::spec::base64_std;
use crate::spec::values::Values;

const HELP: &str = "PEM is expected; inline it is base64 of that";

/// What was given, under the name of the option that gave it.
pub(super) struct Given {
    /// The option.
    pub name: &'static str,
    /// Its bytes, or why there are none.
    pub bytes: Result<Vec<u8>, String>,
}

/// The inline form.
pub(super) fn inline(values: &Values, name: &'static str) -> Option<Given> {
    let bytes = base64_std(values.some_text(name)?);
    Some(Given { name, bytes })
}

/// The named file; it is watched from now on.
pub(super) fn file(values: &Values, name: &'static str, cx: &mut Cx<'_>) -> Option<Given> {
    let bytes = cx.read(values.some_text(name)?);
    Some(Given { name, bytes })
}

/// Of the two forms at most one may be set; both are reported.
pub(super) fn exclusive(
    values: &Values,
    (text, path): (&'static str, &'static str),
    both: &str,
    cx: &mut Cx<'_>,
) -> Option<Given> {
    if values.some_text(text).is_some() && values.some_text(path).is_some() {
        let message = both.to_owned();
        cx.sink
            .error(values.place(path), values.key(path), message, "keep one of them");
        return None;
    }
    inline(values, text).or_else(|| file(values, path, cx))
}

impl Given {
    /// Whether it came from a file.
    pub fn is_file(&self) -> bool {
        self.name.ends_with("_file")
    }

    /// A bundle with at least one certificate. What cannot be used is reported behind `complaint`: a list of
    /// trust anchors that is empty by mistake must never count as none wanted.
    pub fn certificates(self, values: &Values, complaint: &str, cx: &mut Cx<'_>) -> Option<Vec<u8>> {
        let checked = |pem: Vec<u8>| match files::certificates_problem(&pem) {
            None => Ok(pem),
            Some(problem) => Err(problem),
        };
        let name = self.name;
        match self.bytes.and_then(checked) {
            Ok(pem) => Some(pem),
            Err(problem) => {
                let message = format!("{complaint} {problem}");
                cx.sink.error(values.place(name), values.key(name), message, HELP);
                None
            }
        }
    }
}
