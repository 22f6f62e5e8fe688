//! What logs may hold (spec config-api.md 3). Which names there are is for whoever writes the logs to say.

use prost_reflect::{DynamicMessage, MessageDescriptor, Value};

/// Names of fields, in the order in which they are told.
#[derive(Debug, Clone, Default)]
pub struct LogFields {
    /// Those the access log may be asked for.
    pub access: Vec<&'static str>,
    /// Those it has when it is asked for none.
    pub access_default: Vec<&'static str>,
    /// Those the authorize log may be asked for.
    pub authorize: Vec<&'static str>,
    /// Those it has when it is asked for none.
    pub authorize_default: Vec<&'static str>,
}

/// The answer to `ListAvailableLogFields`.
pub(super) fn fill(fields: &LogFields, output: MessageDescriptor) -> DynamicMessage {
    let mut answer = DynamicMessage::new(output);
    for (field, names) in [
        ("available_access_log_fields", &fields.access),
        ("available_authorize_log_fields", &fields.authorize),
        ("default_access_log_fields", &fields.access_default),
        ("default_authorize_log_fields", &fields.authorize_default),
    ] {
        let names = names.iter().map(|name| Value::String((*name).to_owned()));
        answer.set_field_by_name(field, Value::List(names.collect()));
    }
    answer
}
