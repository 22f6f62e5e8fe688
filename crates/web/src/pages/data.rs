//! What an error page says, once more for scripts: a JSON block with the id `POMERIUM_DATA` (proxy.md 7).
//!
//! Browser extensions and monitors of the original read it from there. It is data, never code: no browser runs
//! a block of this type, so the content security policy stays as strict as on every page. It holds nothing that
//! the page or the JSON form of the same answer does not show.

use serde_json::json;

use super::Frame;
use crate::problem::{Origin, Problem};

/// The block's content, fit to stand between its tags.
pub(super) fn of(problem: &Problem, frame: &Frame<'_>) -> String {
    let branding = &frame.site.branding;
    let (flags, text) = match &problem.origin {
        Origin::Proxy { flag, details } => (*flag, details.as_ref()),
        Origin::Decision => ("UAEX", problem.reason.as_ref()),
        Origin::Handler => ("", problem.reason.as_ref()),
    };
    let mut data = json!({
        "page": "Error",
        "requestId": frame.request_id,
        "status": problem.status.to_string(),
        "statusText": text,
        "responseFlags": flags,
        "code": problem.code,
        "primaryColor": branding.primary.to_string(),
        "secondaryColor": branding.secondary.to_string(),
    });
    let optional = [
        ("logoUrl", frame.logo()),
        (
            "faviconUrl",
            branding.favicon_url.as_deref().and_then(super::image),
        ),
        ("errorMessageFirstParagraph", branding.error_paragraph.as_deref()),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            data[name] = value.into();
        }
    }
    if !problem.traces.is_empty() {
        data["policyEvaluationTraces"] = json!(problem.traces);
    }
    inert(&data.to_string())
}

/// JSON in which nothing can end the block or begin another: `<`, `>` and `&` only occur in strings, where
/// an escape says the same.
pub(super) fn inert(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for letter in json.chars() {
        match letter {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::{Branding, Site};
    use super::*;

    #[test]
    fn nothing_ends_the_block_and_everything_reads_back() {
        let hostile = "</script><!--<script>alert(1)//&amp;\u{2028}\"'";
        let site = Site::new(Branding {
            error_paragraph: Some(hostile.into()),
            ..Branding::default()
        });
        let problem = Problem::new(404, "not-found", "Nothing here", "").with_reason(hostile.to_owned());
        let text = of(&problem, &Frame::new(&site, hostile));
        assert!(!text.contains(['<', '>', '&']), "{text}");
        let data: serde_json::Value = serde_json::from_str(&text).unwrap();
        for name in ["requestId", "statusText", "errorMessageFirstParagraph"] {
            assert_eq!(data[name], hostile, "{name}");
        }
    }

    #[test]
    fn it_says_what_the_json_form_says() {
        let site = Site::default();
        let text = of(&Problem::not_found("a.example.com"), &Frame::new(&site, "req-1"));
        let data: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            data,
            json!({
                "page": "Error", "requestId": "req-1", "status": "404", "statusText": "route_not_found",
                "responseFlags": "NR", "code": "not-found", "primaryColor": "#6f43e7", "secondaryColor": "#49aaa1",
            })
        );
    }
}
