//! Service accounts: kept as `user.ServiceAccount`, and given tokens.

use prost_reflect::{DynamicMessage, MessageDescriptor, ReflectMessage};
use serde_json::json;
use tonic::Status;

use super::Manager;
use super::entity::Entity;

/// The message they are kept as.
pub(super) const KEPT: &str = "user.ServiceAccount";
/// What callers call `created_at` is kept as `issued_at`.
const RENAMED: (&str, &str) = ("created_at", "issued_at");

/// The message to be kept of what a caller gave.
pub(super) fn kept(entity: &DynamicMessage, kept: &MessageDescriptor) -> DynamicMessage {
    convert(
        entity,
        kept,
        |name| if name == RENAMED.0 { RENAMED.1 } else { name },
    )
}

/// What callers see of a message that is kept.
pub(super) fn entity(kept: &DynamicMessage, entity: &MessageDescriptor) -> DynamicMessage {
    convert(
        kept,
        entity,
        |name| if name == RENAMED.1 { RENAMED.0 } else { name },
    )
}

fn convert(from: &DynamicMessage, into: &MessageDescriptor, name: impl Fn(&str) -> &str) -> DynamicMessage {
    let mut message = DynamicMessage::new(into.clone());
    for field in from.descriptor().fields().filter(|field| from.has_field(field)) {
        if let Some(target) = into.get_field_by_name(name(field.name())) {
            message.set_field(&target, from.get_field(&field).into_owned());
        }
    }
    message
}

impl Manager {
    /// A token by which an account is known to the proxy (spec config-api.md 3). Those made before stay good.
    pub(super) fn account_token(&self, account: &Entity) -> Result<String, Status> {
        let shared = self
            .shared
            .as_ref()
            .ok_or_else(|| Status::unavailable("no shared key defined"))?;
        let issued = account.seconds("created_at").unwrap_or(0);
        let mut claims = json!({
            "jti": account.id().unwrap_or_default(),
            "sub": super::entity::text(account.message(), "user_id").unwrap_or_default(),
            "iat": issued,
            "nbf": issued,
        });
        if let Some(expires) = account.seconds("expires_at") {
            claims["exp"] = expires.into();
        }
        Ok(pomerium_crypto::jwt::hs256_sign(shared.as_slice(), &claims))
    }
}
