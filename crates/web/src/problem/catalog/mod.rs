//! Every refusal and failure we answer with, and its words, by kind. Each says what happened, whose decision it is
//! and what to do next; none blames the reader or shows our insides. Here is what they share.

mod access;
mod failure;
mod request;
mod sign_in;

use super::Problem;

const ASK_OWNER: &str = "Ask the owner of the application or your administrator for access.";
const NOT_YOU: &str = "Nothing is wrong with your device or your account.";
const AGAIN: &str = "Try again in a moment. If it goes on, send your administrator the request number at the foot of this page.";
const REPORT: &str = "If it goes on, send your administrator the request number at the foot of this page.";

impl Problem {
    fn handler(mut self) -> Self {
        self.origin = super::Origin::Handler;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical::Refusal;

    const SOURCES: [&str; 4] = [
        include_str!("access.rs"),
        include_str!("failure.rs"),
        include_str!("request.rs"),
        include_str!("sign_in.rs"),
    ];

    fn all() -> Vec<Problem> {
        vec![
            Problem::not_allowed(Some("user@example.com"), Some("https://a.example.com/x")),
            Problem::not_allowed(None, None),
            Problem::sign_in_needed("https://a.example.com/x"),
            Problem::step_up_needed("https://a.example.com/x"),
            Problem::nobody_to_act_as(),
            Problem::no_sign_in_here(),
            Problem::no_upstream_token(),
            Problem::sign_in_not_enough(&["an one-time code".into()]),
            Problem::bad_credentials(),
            Problem::device_not_authorized("/x"),
            Problem::device_needed("/x"),
            Problem::client_certificate(),
            Problem::client_certificate_refused(),
            Problem::misdirected("app.example.com"),
            Problem::too_many_requests(3),
            Problem::not_found("app.example.com"),
            Problem::route_unknown("app.example.com"),
            Problem::body_too_large(),
            Problem::request_timeout(),
            Problem::upgrade_refused(),
            Problem::method_not_allowed(),
            Problem::forged_form(),
            Problem::upstream_down("no_healthy_upstream", "UH"),
            Problem::upstream_timeout("response_timeout", "UT"),
            Problem::upstream_broken("x"),
            Problem::upstream_overloaded(),
            Problem::undecided(),
            Problem::internal(),
            Problem::login_loop(),
            Problem::provider_clock(),
            Problem::cookie_missing(),
            Problem::sign_in_expired(),
            Problem::sign_in_refused("no"),
            Problem::sign_in_not_accepted(),
            Problem::provider_down(),
            Problem::bad_link(),
            refused(400),
            refused(426),
            refused(431),
        ]
    }

    fn refused(status: u16) -> Problem {
        Problem::refused(&Refusal {
            status,
            detail: "a reason",
            redirect: None,
            close: true,
        })
    }

    /// The table is part of the promise: people search for a code, and scripts match it.
    #[test]
    fn every_code_is_explained_in_the_documentation() {
        let page = include_str!("../../../../../docs/errors.md");
        let source = SOURCES.concat();
        let known: Vec<&str> = all().iter().map(|problem| problem.code).collect();
        for code in &known {
            let row = page
                .lines()
                .find(|line| line.starts_with(&format!("| `{code}` |")));
            let cells = row.map(|row| row.split('|').filter(|cell| !cell.trim().is_empty()).count());
            assert_eq!(cells, Some(4), "{code}: code, status, cause, remedy");
        }
        // A refusal that is missing from `all` would escape the check.
        let quoted = source.split('"').skip(1).step_by(2);
        let codes = quoted
            .filter(|text| text.contains('-') && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'));
        for code in codes {
            assert!(known.contains(&code), "{code} is not in the list of this test");
        }
    }

    #[test]
    fn every_text_speaks_to_people() {
        for problem in all() {
            let page = [&problem.title, &problem.what, &problem.whose, &problem.next]
                .map(|text| text.as_ref())
                .join(" ");
            assert!(
                !problem.title.is_empty() && !problem.what.is_empty(),
                "{}",
                problem.code
            );
            for word in ["Forbidden", "403", "404", "upstream", "null", "error", "FIDO"] {
                assert!(!page.contains(word), "{}: {word}", problem.code);
            }
            assert!(
                problem
                    .code
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'-'),
                "{}",
                problem.code
            );
        }
    }

    #[test]
    fn codes_are_unique_but_for_one_page_in_two_places() {
        let mut codes: Vec<&str> = all().iter().map(|problem| problem.code).collect();
        let count = codes.len();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(
            count - codes.len(),
            2,
            "not-allowed and not-found come in two forms"
        );
    }

    #[test]
    fn wire_texts_of_the_original() {
        assert_eq!(Problem::not_allowed(None, None).reason, "Forbidden");
        assert_eq!(Problem::sign_in_needed("/x").reason, "Unauthenticated");
        assert_eq!(Problem::not_found("h").reason, "Not Found");
        assert_eq!(Problem::route_unknown("h").reason, "h route unknown");
        assert_eq!(Problem::client_certificate().status, 495);
        assert_eq!(Problem::device_needed("/x").reason, "Unauthenticated");
        assert_eq!(Problem::device_not_authorized("/x").status, 450);
    }

    #[test]
    fn a_providers_text_is_tamed() {
        let problem = Problem::sign_in_refused("a\r\nb\u{0}");
        assert!(problem.what.contains("ab"));
        assert!(Problem::sign_in_refused(&"x".repeat(5000)).what.len() < 500);
    }
}
