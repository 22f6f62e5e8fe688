//! Devices: has the session shown one of the wanted type, and does it meet the conditions (spec policy.md 4)?

use serde_json::Value;

use super::read;
use crate::compile::CompileError;
use crate::input::{Device, Input, Subject};
use crate::ppl::Criterion;
use crate::reason::Reason;

/// The type when a policy names none.
pub(crate) const ANY: &str = "any";

/// Compiled conditions on a device; every one that is given must hold.
#[derive(Debug, Default)]
pub(crate) struct DeviceMatcher {
    kind: Option<Box<str>>,
    is: Option<Box<str>>,
    approved: Option<bool>,
}

impl DeviceMatcher {
    pub(super) fn read(criterion: &Criterion) -> Result<Self, CompileError> {
        let mut matcher = Self::default();
        for (key, data) in read::map(criterion, "a map such as `{type: enclave_only}`")? {
            match key.as_str() {
                "is" => matcher.is = Some(read::string(criterion, key, data)?.into()),
                "type" => matcher.kind = Some(read::string(criterion, key, data)?.into()),
                "approved" => matcher.approved = Some(truthy(data)),
                _ => return Err(read::unknown_key(criterion, key, &["is", "approved", "type"])),
            }
        }
        Ok(matcher)
    }

    /// The type of device that is looked for.
    pub(crate) fn wanted(&self) -> &str {
        self.kind.as_deref().unwrap_or(ANY)
    }

    /// The device of the wanted type that the session showed first.
    pub(super) fn shown<'s>(&self, subject: &'s Subject) -> Option<&'s Device> {
        subject
            .devices
            .iter()
            .find(|device| device.type_id == self.wanted())
    }

    /// The conditions come first: `approved: false` holds for somebody who has shown no device at all.
    pub(super) fn run(&self, input: &Input<'_>) -> (bool, Reason) {
        let Some(subject) = input.subject else {
            return (false, Reason::UserUnauthenticated);
        };
        let device = self.shown(subject);
        let credential = device.and_then(|device| device.credential_id.as_deref());
        // Without a credential record nothing leads to an enrollment.
        let enrollment = device
            .filter(|device| device.credential_id.is_some())
            .and_then(|device| device.approved_by.as_deref());
        let approved = enrollment.is_some_and(|approved_by| !approved_by.is_empty());
        let holds = self.approved.is_none_or(|wanted| wanted == approved)
            && self.is.as_deref().is_none_or(|id| credential == Some(id))
            && (self.kind.is_none() || credential.is_some());
        match (holds, enrollment) {
            (true, _) => (true, Reason::DeviceOk),
            (false, Some(_)) => (false, Reason::DeviceUnauthorized),
            (false, None) => (false, Reason::DeviceUnauthenticated),
        }
    }
}

/// Everything but false, nothing and zero asks for approval: what is unclear asks for more.
fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    }
}
