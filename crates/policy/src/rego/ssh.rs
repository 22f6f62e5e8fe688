//! `ssh_verify_user_cert`: the check of the criterion `ssh_ca`, for scripts.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use regorus::Value;

use super::functions::{Context, Ours};
use crate::ssh::{CertificateCheck, PublicKey, check_user_certificate};

/// Principal, certificate, authorities; the keys in wire format, in base64.
pub(super) const VERIFY: Ours = ("ssh_verify_user_cert", 3, verify);

fn verify(context: &Context, given: &[Value]) -> Value {
    let [Value::String(principal), presented, authorities] = given else {
        return Value::Undefined;
    };
    let listed: Vec<&Value> = match authorities {
        Value::Array(items) => items.iter().collect(),
        Value::Set(items) => items.iter().collect(),
        _ => return Value::Undefined,
    };
    // One that cannot be read is a mistake of the policy, and one that nobody signed is the client's.
    let authorities: Option<Vec<PublicKey>> = listed
        .into_iter()
        .map(|authority| PublicKey::from_wire(&wire(authority)?))
        .collect();
    let Some(authorities) = authorities else {
        return Value::Undefined;
    };
    let check = CertificateCheck {
        principal,
        now: context.now,
        address: context.address,
    };
    let holds = wire(presented).is_some_and(|key| check_user_certificate(&key, &authorities, check).is_ok());
    Value::Bool(holds)
}

fn wire(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::String(text) => STANDARD.decode(text.as_bytes()).ok(),
        _ => None,
    }
}
