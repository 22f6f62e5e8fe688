//! The calls, as the description of the service says: which verb, on which entity.

use std::collections::BTreeMap;

use pomerium_api::described::descriptors;
use prost_reflect::{DynamicMessage, MessageDescriptor, MethodDescriptor, Value};

use super::entity::{Entity, Kind};

const SERVICE: &str = "pomerium.config.ConfigService";

/// What a call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Create,
    Get,
    List,
    Update,
    Delete,
    ServerInfo,
    LogFields,
}

/// One call.
pub struct Operation {
    method: MethodDescriptor,
    pub(super) verb: Verb,
    /// What it is about; `None` for calls about the server.
    pub(super) kind: Option<Kind>,
}

/// All calls, by name.
pub(super) struct Operations(BTreeMap<String, Operation>);

impl Operations {
    pub(super) fn read() -> Self {
        let service = descriptors().get_service_by_name(SERVICE);
        let methods = service
            .iter()
            .flat_map(|service| service.methods().collect::<Vec<_>>());
        Self(
            methods
                .filter_map(Operation::read)
                .map(|operation| (operation.method.name().to_owned(), operation))
                .collect(),
        )
    }

    pub(super) fn named(&self, name: &str) -> Option<&Operation> {
        self.0.get(name)
    }

    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = &Operation> {
        self.0.values()
    }
}

impl Operation {
    fn read(method: MethodDescriptor) -> Option<Self> {
        let (verb, kind) = match method.name() {
            "GetServerInfo" => (Verb::ServerInfo, None),
            "ListAvailableLogFields" => (Verb::LogFields, None),
            name => {
                let verbs = [
                    ("Create", Verb::Create),
                    ("Get", Verb::Get),
                    ("List", Verb::List),
                    ("Update", Verb::Update),
                    ("Delete", Verb::Delete),
                ];
                let (verb, rest) = verbs
                    .into_iter()
                    .find_map(|(prefix, verb)| Some((verb, name.strip_prefix(prefix)?)))?;
                let kind = match verb {
                    Verb::List => Kind::of_list(&method.output())?,
                    _ => Kind::named(rest)?,
                };
                (verb, Some(kind))
            }
        };
        Some(Self { method, verb, kind })
    }

    /// Whether it changes nothing, so that it may be called by `GET`.
    pub(in super::super) fn is_free(&self) -> bool {
        matches!(
            self.verb,
            Verb::Get | Verb::List | Verb::ServerInfo | Verb::LogFields
        )
    }

    /// The request.
    pub(in super::super) fn input(&self) -> MessageDescriptor {
        self.method.input()
    }

    /// The response.
    pub(super) fn output(&self) -> MessageDescriptor {
        self.method.output()
    }

    /// A response that holds one entity.
    pub(super) fn answer(&self, kind: &Kind, entity: Entity) -> DynamicMessage {
        let mut answer = DynamicMessage::new(self.output());
        answer.set_field_by_name(&kind.field, Value::Message(entity.into_message()));
        answer
    }

    #[cfg(test)]
    pub(super) fn method(&self) -> &MethodDescriptor {
        &self.method
    }
}
