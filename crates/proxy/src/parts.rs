//! What a configuration reads of sessions, beyond what every decision looks at: tokens are kept only where something
//! shows them to somebody.

use http::HeaderName;
use pomerium_api::synced::Parts;
use pomerium_authorize::template::Template;
use pomerium_config::settings::{AuthorizeField, Settings};
use pomerium_policy::Depends;

use crate::route::{self, Route};

/// What requests under `settings` may read, known before anything is built from them. The same as
/// [`Snapshot::session_parts`](crate::Snapshot::session_parts) of what is.
pub fn session_parts(settings: &Settings) -> Parts {
    let routes = settings.routes.iter().map(|settings| {
        let templates = route::templates(settings);
        of_route(&templates, settings.policy.depends())
    });
    routes.fold(of_log(&settings.log.authorize_fields), Parts::and)
}

/// What the requests of `routes` read, and the log with these fields.
pub(crate) fn of_all<'a>(routes: impl IntoIterator<Item = &'a Route>, log: &[AuthorizeField]) -> Parts {
    let routes = routes.into_iter().map(|route| route.session_parts);
    routes.fold(of_log(log), Parts::and)
}

/// What a route with these headers reads, whose policy depends on `depends`.
pub(crate) fn of_route(templates: &[(HeaderName, Template)], depends: Depends) -> Parts {
    let policy = if depends.sessions {
        Parts::RECORD
    } else {
        Parts::NONE
    };
    let shown = templates.iter().map(|(_, template)| template.session_parts());
    shown.fold(policy, Parts::and)
}

fn of_log(fields: &[AuthorizeField]) -> Parts {
    let token =
        |field: &AuthorizeField| matches!(field, AuthorizeField::IdToken | AuthorizeField::IdTokenClaims);
    if fields.iter().any(token) {
        Parts::ID_TOKEN
    } else {
        Parts::NONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Snapshot;
    use crate::tests::support::settings;

    fn parts(extra: &str, routes: &str) -> Parts {
        let settings = settings(extra, routes);
        let early = session_parts(&settings);
        let built = Snapshot::build(&settings, None).unwrap().session_parts();
        assert_eq!(early, built);
        built
    }

    fn route(more: &str) -> String {
        format!("- from: https://a.example.com\n  to: http://127.0.0.1:1\n  {more}\n")
    }

    #[test]
    fn tokens_are_kept_for_whom_they_are_shown_to() {
        let header = |value: &str| route(&format!("set_request_headers: {{X-Token: '{value}'}}"));
        assert_eq!(parts("", &header("${pomerium.jwt} plain")), Parts::NONE);
        assert_eq!(
            parts("", &header("Bearer ${pomerium.access_token}")),
            Parts::ACCESS_TOKEN
        );
        assert_eq!(parts("", &header("$pomerium.id_token")), Parts::ID_TOKEN);
        assert_eq!(
            parts("authorize_log_fields: [request-id, id-token-claims]", &route("")),
            Parts::ID_TOKEN
        );
        assert_eq!(
            parts("authorize_log_fields: [request-id, user]", &route("")),
            Parts::NONE
        );
    }

    #[test]
    fn whole_records_are_kept_for_policies_that_ask_for_them() {
        let policy = |kind: &str| {
            route(&format!(
                "policy: [{{allow: {{and: [{{record: {{type: {kind}, by: user.id, exists: true}}}}]}}}}]"
            ))
        };
        assert_eq!(
            parts("", &policy("type.googleapis.com/session.Session")),
            Parts::RECORD
        );
        assert_eq!(parts("", &policy("example.com/Thing")), Parts::NONE);
    }
}
