//! When and how somebody signed in, by the claims that the ID token of their sign-in left in the session.

use jiff::Timestamp;
use pomerium_api::pb::session::Session;
use pomerium_policy::{Authentication, Claims};
use serde_json::Value;

use crate::claims::json_claims;

/// How the person of a session signed in.
pub fn authentication(session: &Session) -> Authentication {
    of_claims(&json_claims(&session.claims))
}

/// The same from claims that were read already.
///
/// A provider that does not say when (`auth_time`) is not believed to have asked anybody for anything: it may have
/// let the browser through on a sign-in of last month, so the beginning of our session says nothing about it.
pub(crate) fn of_claims(claims: &Claims) -> Authentication {
    let values = |name: &str| claims.get(name).map(Vec::as_slice).unwrap_or_default();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Authentication {
        at: values("auth_time").first().and_then(seconds),
        acr: values("acr").first().and_then(text).unwrap_or_default(),
        amr: values("amr").iter().filter_map(text).collect(),
    }
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "whole seconds; the cast saturates, and what is out of range is refused"
)]
fn seconds(value: &Value) -> Option<Timestamp> {
    let seconds = match value {
        Value::Number(number) => number.as_f64()? as i64,
        Value::String(text) => text.parse().ok()?,
        _ => return None,
    };
    Timestamp::from_second(seconds)
        .ok()
        .filter(|at| at.as_second() > 0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_said_is_not_known() {
        let claims = |pairs: &[(&str, Value)]| -> Claims {
            pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), vec![value.clone()]))
                .collect()
        };
        assert_eq!(of_claims(&claims(&[])), Authentication::default());
        for bad in [
            json!("yesterday"),
            json!(true),
            json!(null),
            json!(0),
            json!(-5),
            json!([1]),
        ] {
            assert_eq!(of_claims(&claims(&[("auth_time", bad)])).at, None);
        }
        let known = of_claims(&claims(&[
            ("auth_time", json!(1_700_000_000)),
            ("acr", json!("gold")),
        ]));
        assert_eq!(known.at.map(Timestamp::as_second), Some(1_700_000_000));
        assert_eq!(known.acr, "gold");
    }
}
