//! Whom an upstream acts as when it takes our word for it: a Kubernetes API server, by impersonation
//! (spec policy.md 11.4).
//!
//! The names come from an identity provider. Those that a cluster keeps for itself (`system:…`) are never handed
//! on: whoever can choose a group name at the provider would choose `system:masters`.

use http::HeaderValue;
use serde_json::{Map, Value};

/// How names begin that Kubernetes keeps for itself.
const RESERVED: &str = "system:";

/// A person as an upstream is told to act. Made from the claims of the assertion, so that both say the same.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ActAs {
    /// E-mail, else user id. Without one nobody may act: what is sent under the upstream's token alone has all
    /// rights of that token.
    pub user: Option<HeaderValue>,
    /// Each of the groups.
    pub groups: Vec<HeaderValue>,
}

impl ActAs {
    /// Reads the claims of an assertion.
    pub(super) fn of(claims: &Map<String, Value>) -> Self {
        let text = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default();
        let user = [text("email"), text("user")]
            .into_iter()
            .find(|user| !user.is_empty())
            .and_then(name);
        let groups = claims.get("groups").and_then(Value::as_array);
        Self {
            user,
            groups: groups
                .into_iter()
                .flatten()
                .filter_map(|group| name(group.as_str()?))
                .collect(),
        }
    }
}

/// A name that may be handed on and can stand in a header.
fn name(text: &str) -> Option<HeaderValue> {
    // The server reads the value without the blanks around it.
    let text = text.trim();
    if text.is_empty() || text.starts_with(RESERVED) {
        return None;
    }
    HeaderValue::from_bytes(text.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(claims: &Value) -> (Option<String>, Vec<String>) {
        let act_as = ActAs::of(claims.as_object().unwrap());
        let text = |value: &HeaderValue| String::from_utf8(value.as_bytes().to_vec()).unwrap();
        (
            act_as.user.as_ref().map(text),
            act_as.groups.iter().map(text).collect(),
        )
    }

    #[test]
    fn e_mail_then_user_id_then_nobody() {
        let user = |email: &str, user: &str| of(&json!({"email": email, "user": user})).0;
        assert_eq!(user("a@example.com", "id").as_deref(), Some("a@example.com"));
        assert_eq!(user("", "id").as_deref(), Some("id"));
        assert_eq!(user("", ""), None);
        assert_eq!(
            user("system:admin", "id"),
            None,
            "a name that is kept back is not replaced by another"
        );
        assert_eq!(user(" system:admin", ""), None);
        assert_eq!(user("a\nImpersonate-Group: x", "id"), None);
    }

    #[test]
    fn every_group_is_a_value_of_its_own() {
        let groups =
            of(&json!({"groups": ["dev", "a,b", "system:masters", " system:nodes", "", "é", "x\r\ny"]})).1;
        assert_eq!(groups, ["dev", "a,b", "é"]);
    }
}
