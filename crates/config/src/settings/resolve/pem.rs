//! PEM bundles that an option holds as base64, or that its `_file` twin names (spec config.md 5).

use super::{Cx, certificates, files};
use crate::diagnostic::Stage;
use crate::settings::{CertificatePair, Secret};
use crate::spec::base64_std;
use crate::spec::values::Values;

const HELP: &str = "PEM is expected; inline it is base64 of that";

/// When it shows that a bundle cannot be used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stages {
    /// Its bytes cannot be had: the file cannot be read, or the text is no base64.
    pub reading: Stage,
    /// They are no certificates.
    pub content: Stage,
}

const AT_LOAD: Stages = Stages {
    reading: Stage::Load,
    content: Stage::Load,
};

/// The original decodes the bundle at load, and parses it when it builds what uses it.
pub(super) const PARSED_WHEN_USED: Stages = Stages {
    reading: Stage::Load,
    content: Stage::DataPlane,
};

/// The original does not look at the bundle before it listens.
pub(super) const READ_AT_START: Stages = Stages {
    reading: Stage::ServiceStart,
    content: Stage::ServiceStart,
};

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

/// One of the two forms; the inline one wins.
pub(super) fn given(
    values: &Values,
    (text, path): (&'static str, &'static str),
    cx: &mut Cx<'_>,
) -> Option<Given> {
    inline(values, text).or_else(|| file(values, path, cx))
}

/// A certificate and its key, each in one of its two forms; none when neither was written. What cannot be used is
/// reported behind `complaint`.
pub(super) fn pair(
    values: &Values,
    certificate: (&'static str, &'static str),
    key: (&'static str, &'static str),
    complaint: &str,
    cx: &mut Cx<'_>,
) -> Option<CertificatePair> {
    let (certificate, key) = (given(values, certificate, cx), given(values, key, cx));
    let name = certificate.as_ref().or(key.as_ref())?.name;
    let pair = match (certificate, key) {
        (Some(certificate), Some(key)) => certificate
            .bytes
            .and_then(|chain| Ok((chain, key.bytes?)))
            .and_then(|(chain, key)| certificates::check(&chain, &key).map(|()| (chain, key)))
            .map_err(|problem| (Stage::Load, problem)),
        // The original loads one without the other, and goes on without TLS.
        _ => Err((
            Stage::ServiceStart,
            "certificate and key are both needed".to_owned(),
        )),
    };
    match pair {
        Ok((chain, key)) => Some(CertificatePair {
            origin: values
                .some_text(name)
                .filter(|_| name.ends_with("_file"))
                .map_or_else(|| values.key(name), str::to_owned),
            of_record: false,
            chain,
            key: Secret::new(key),
        }),
        Err((stage, problem)) => {
            let message = format!("{complaint} {problem}");
            let help = "a certificate and its key in PEM; inline they are base64 of that";
            cx.sink
                .error_at(stage, values.place(name), values.key(name), message, help);
            None
        }
    }
}

impl Given {
    /// Whether it came from a file.
    pub fn is_file(&self) -> bool {
        self.name.ends_with("_file")
    }

    /// A bundle with at least one certificate. What cannot be used is reported behind `complaint`: a list of
    /// trust anchors that is empty by mistake must never count as none wanted.
    pub fn certificates(self, values: &Values, complaint: &str, cx: &mut Cx<'_>) -> Option<Vec<u8>> {
        self.certificates_at(AT_LOAD, values, complaint, cx)
    }

    /// As [`Self::certificates`], for bundles that the original looks at later than we do.
    pub fn certificates_at(
        self,
        stages: Stages,
        values: &Values,
        complaint: &str,
        cx: &mut Cx<'_>,
    ) -> Option<Vec<u8>> {
        let checked = |pem: Vec<u8>| match files::certificates_problem(&pem) {
            None => Ok(pem),
            Some(problem) => Err((stages.content, problem)),
        };
        let name = self.name;
        let bytes = self.bytes.map_err(|problem| (stages.reading, problem));
        match bytes.and_then(checked) {
            Ok(pem) => Some(pem),
            Err((stage, problem)) => {
                let message = format!("{complaint} {problem}");
                cx.sink
                    .error_at(stage, values.place(name), values.key(name), message, HELP);
                None
            }
        }
    }
}
