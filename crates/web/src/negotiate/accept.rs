//! The `Accept` header, in the two dialects that clients of the original rely on.

use super::ClientKind;

/// The media ranges of an `Accept` header, best first.
#[derive(Debug, Clone, PartialEq)]
pub struct Accept<'a> {
    ranges: Vec<Range<'a>>,
}

#[derive(Debug, Clone, PartialEq)]
struct Range<'a> {
    kind: &'a str,
    subtype: &'a str,
    parameters: usize,
    weight: f64,
}

/// The header is not a list of media ranges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Accept is malformed")]
pub struct AcceptError;

impl<'a> Accept<'a> {
    /// Reads the header (policy.md 8.6): weight is `q` (none or 0 counts as 1), a little more for a more
    /// precise range and for each parameter.
    ///
    /// # Errors
    /// An empty element, `*/x`, a missing slash, a `q` that is no number.
    pub fn parse(header: &'a str) -> Result<Self, AcceptError> {
        let mut ranges = header
            .split(',')
            .map(Range::parse)
            .collect::<Result<Vec<_>, _>>()?;
        ranges.sort_by(|a, b| b.weight.total_cmp(&a.weight));
        Ok(Self { ranges })
    }

    /// The index of the candidate that the client prefers: for each range, best first, the first candidate
    /// that it covers. A range with parameters covers none.
    pub fn most_acceptable(&self, candidates: &[&str]) -> Option<usize> {
        self.ranges
            .iter()
            .find_map(|range| candidates.iter().position(|candidate| range.covers(candidate)))
    }
}

impl<'a> Range<'a> {
    fn parse(element: &'a str) -> Result<Self, AcceptError> {
        let mut parts = element.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let (kind, subtype) = media.split_once('/').ok_or(AcceptError)?;
        let is_token = |text: &str| !text.is_empty() && !text.contains([' ', '/', '\t']);
        if !is_token(kind) || !is_token(subtype) || (kind == "*" && subtype != "*") {
            return Err(AcceptError);
        }
        let (mut quality, mut parameters) = (1.0, 0);
        for parameter in parts {
            let (name, value) = parameter.split_once('=').ok_or(AcceptError)?;
            if name.trim().eq_ignore_ascii_case("q") {
                quality = value
                    .trim()
                    .parse::<f64>()
                    .ok()
                    .filter(|q| q.is_finite())
                    .ok_or(AcceptError)?;
            } else {
                parameters += 1;
            }
        }
        let precision = match (kind, subtype) {
            ("*", _) => 0.0,
            (_, "*") => 0.000_01,
            _ => 0.000_02,
        };
        let quality = if quality == 0.0 { 1.0 } else { quality };
        #[allow(clippy::cast_precision_loss, reason = "a handful of parameters")]
        let weight = quality + precision + 0.000_1 * parameters as f64;
        Ok(Self {
            kind,
            subtype,
            parameters,
            weight,
        })
    }

    fn covers(&self, candidate: &str) -> bool {
        let Some((kind, subtype)) = candidate.split_once('/') else {
            return false;
        };
        let same = |own: &str, other: &str| own == "*" || own.eq_ignore_ascii_case(other);
        self.parameters == 0 && same(self.kind, kind) && same(self.subtype, subtype)
    }
}

/// The rule of replies made by the proxy (proxy.md 7): split at `,`, nothing trimmed, by `q` and then by
/// position; the first that is HTML, plain text or JSON. HTML when nothing fits.
pub(super) fn first_by_quality(header: &str) -> ClientKind {
    let mut ranges: Vec<(f64, &str)> = header
        .split(',')
        .map(|range| (quality(range), media(range)))
        .collect();
    ranges.sort_by(|a, b| b.0.total_cmp(&a.0));
    let known = |media: &str| match media {
        "text/html" | "text/*" => Some(ClientKind::Html),
        "text/plain" => Some(ClientKind::Plain),
        "application/json" | "application/*" => Some(ClientKind::Json),
        _ => None,
    };
    ranges
        .iter()
        .find_map(|(_, media)| known(media))
        .unwrap_or(ClientKind::Html)
}

fn media(range: &str) -> &str {
    range.split(';').next().unwrap_or(range)
}

fn quality(range: &str) -> f64 {
    let after = range.split_once("q=").map(|(_, after)| after);
    after
        .and_then(|text| text.split(';').next()?.trim().parse().ok())
        .unwrap_or(1.0)
}
