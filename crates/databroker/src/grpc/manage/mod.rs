//! `pomerium.config.ConfigService`: routes, policies, settings, keys and service accounts as records (spec
//! config-api.md 1 to 5).
//!
//! The calls are read from the description of the service: each is a verb and an entity, so that one function for each
//! verb serves all entities. Start at [`Manager::call`]. What routes and policies mean is not known here: a
//! [`Validate`] is told. How calls come in is `dialect`'s.

mod accounts;
mod entity;
mod list;
mod log_fields;
mod operations;
mod order;
#[cfg(test)]
mod tests;
mod update;

use std::sync::Arc;

use pomerium_api::clock::Clock;
use pomerium_api::config_records::message_json;
use pomerium_api::databroker::{Databroker, Error, Record};
use prost_reflect::{DynamicMessage, ReflectMessage, Value};
use tonic::Status;
use tonic::metadata::MetadataMap;
use zeroize::Zeroizing;

use self::entity::{Entity, Kind};
pub use self::log_fields::LogFields;
pub(super) use self::operations::Operation;
use self::operations::{Operations, Verb};
use super::mode::Served;

/// Says what is wrong with a `Route`, `Policy` or `Settings`, given by the name of its message and as JSON
/// (as [`pomerium_api::config_records::to_json`] writes it).
pub type Validate = Arc<dyn Fn(&str, &serde_json::Value) -> Result<(), String> + Send + Sync>;

/// The settings that the program runs on, among those that are kept.
const GLOBAL_SETTINGS: &str = "78408adf-56e4-41d0-af6a-ca1b2d8d2cb6";
/// Kinds whose meaning is looked at before they are kept.
const VALIDATED: [&str; 3] = ["Route", "Policy", "Settings"];

/// The service.
pub struct Manager {
    served: Served,
    validate: Validate,
    clock: Arc<dyn Clock>,
    shared: Option<Zeroizing<[u8; 32]>>,
    version: String,
    log_fields: LogFields,
    operations: Operations,
}

impl Manager {
    /// Over the records of what is `served`; service accounts get tokens signed with `shared`. It says which version this is, and
    /// which fields its logs may hold.
    pub fn new(
        served: Served,
        validate: Validate,
        clock: Arc<dyn Clock>,
        shared: Option<[u8; 32]>,
        (version, log_fields): (String, LogFields),
    ) -> Self {
        Self {
            served,
            validate,
            clock,
            shared: shared.map(Zeroizing::new),
            version,
            log_fields,
            operations: Operations::read(),
        }
    }

    /// The call of that name.
    pub(super) fn operation(&self, name: &str) -> Option<&Operation> {
        self.operations.named(name)
    }

    /// Carries out one call, where its headers say (spec databroker.md 10.4).
    pub(super) async fn call(
        &self,
        operation: &Operation,
        metadata: &MetadataMap,
        request: DynamicMessage,
    ) -> Result<DynamicMessage, Status> {
        let Some(kind) = &operation.kind else {
            return Ok(match operation.verb {
                Verb::LogFields => log_fields::fill(&self.log_fields, operation.output()),
                _ => self.server_info(operation),
            });
        };
        let broker = match operation.is_free() {
            true => self.served.reads(metadata).await?,
            false => self.served.writes(metadata)?,
        };
        let manager = self;
        Call {
            manager,
            broker,
            operation,
            kind,
        }
        .answer(request)
        .await
    }

    fn server_info(&self, operation: &Operation) -> DynamicMessage {
        let mut info = DynamicMessage::new(operation.output());
        if let Some(core) = info
            .descriptor()
            .get_field_by_name("server_type")
            .and_then(|field| {
                Some(
                    field
                        .kind()
                        .as_enum()?
                        .get_value_by_name("SERVER_TYPE_CORE")?
                        .number(),
                )
            })
        {
            info.set_field_by_name("server_type", Value::EnumNumber(core));
        }
        info.set_field_by_name("version", Value::String(self.version.clone()));
        info
    }

    /// Whether an entity may be kept.
    fn check(&self, kind: &Kind, entity: &Entity) -> Result<(), Status> {
        let name = kind.entity.name();
        let invalid = |why: String| Status::invalid_argument(format!("invalid {}: {why}", kind.field));
        // What has no JSON form could never be read back by those who ask for it.
        let json = message_json(entity.message()).map_err(|error| invalid(error.to_string()))?;
        match VALIDATED.contains(&name) {
            true => (self.validate)(name, &json).map_err(invalid),
            false => Ok(()),
        }
    }
}

/// A call about entities, and the databroker that answers it.
struct Call<'c> {
    manager: &'c Manager,
    broker: Arc<dyn Databroker>,
    operation: &'c Operation,
    kind: &'c Kind,
}

impl Call<'_> {
    async fn answer(&self, request: DynamicMessage) -> Result<DynamicMessage, Status> {
        match self.operation.verb {
            Verb::Create => self.create(request).await,
            Verb::Get if self.kind.is_settings() => self.get_settings(request).await,
            Verb::Get => self.get(request).await,
            Verb::List => self.list(request).await,
            Verb::Update => self.update(request).await,
            Verb::Delete => self.delete(request).await,
            Verb::ServerInfo | Verb::LogFields => Err(Status::internal("a call about no entity")),
        }
    }

    async fn create(&self, request: DynamicMessage) -> Result<DynamicMessage, Status> {
        let kind = self.kind;
        let mut entity = kind.given(&request)?;
        let id = match entity.id() {
            Some(id) if !(id.is_empty() && kind.is_account()) => id,
            _ => uuid::Builder::from_random_bytes(pomerium_crypto::random::bytes())
                .into_uuid()
                .to_string(),
        };
        entity.set("id", Value::String(id.clone()));
        if !kind.is_account() {
            entity.set_time("created_at", self.manager.clock.now());
        }
        self.manager.check(kind, &entity)?;
        match self.broker.replace(kind.record(entity, &id, 0)).await {
            Ok(Some(stored)) => self.reply(&stored),
            Ok(None) => Err(Status::already_exists(format!(
                "{} {id} already exists",
                kind.field
            ))),
            Err(error) => Err(failed(error)),
        }
    }

    async fn get(&self, request: DynamicMessage) -> Result<DynamicMessage, Status> {
        let kind = self.kind;
        let id = required_id(&request)?;
        match self.stored(&id).await? {
            Some(record) => self.reply(&record),
            None => Err(absent(kind, &id)),
        }
    }

    /// The settings in force, empty if nobody set any; of others nothing is known.
    async fn get_settings(&self, request: DynamicMessage) -> Result<DynamicMessage, Status> {
        let kind = self.kind;
        let other = |name: &str| request.has_field_by_name(name);
        let id = entity::text(&request, "id");
        if other("cluster_id") || other("namespace_id") || id.is_some_and(|id| id != GLOBAL_SETTINGS) {
            return Err(Status::not_found("there are only the global settings"));
        }
        match self.stored(GLOBAL_SETTINGS).await? {
            Some(record) => self.reply(&record),
            None => {
                let mut empty = Entity::empty(kind);
                empty.set("id", Value::String(GLOBAL_SETTINGS.into()));
                Ok(self.operation.answer(kind, empty))
            }
        }
    }

    /// What is not there needs no deletion.
    async fn delete(&self, request: DynamicMessage) -> Result<DynamicMessage, Status> {
        let kind = self.kind;
        let deletion = Record {
            r#type: kind.record_type(),
            id: required_id(&request)?,
            deleted_at: Some(pomerium_api::records::to_proto_time(self.manager.clock.now())),
            ..Record::default()
        };
        self.broker.put(vec![deletion]).await.map_err(failed)?;
        Ok(DynamicMessage::new(self.operation.output()))
    }

    async fn stored(&self, id: &str) -> Result<Option<Record>, Status> {
        match self.broker.get(&self.kind.record_type(), id).await {
            Ok(record) => Ok(Some(record)),
            Err(Error::NotFound) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// What a call on one entity answers: the entity as it is kept, and for changes of service accounts a new token.
    fn reply(&self, stored: &Record) -> Result<DynamicMessage, Status> {
        let Self {
            manager,
            operation,
            kind,
            ..
        } = self;
        let entity = kind.read(stored)?;
        let token = match operation.verb {
            Verb::Create | Verb::Update if kind.is_account() => Some(manager.account_token(&entity)?),
            _ => None,
        };
        let mut answer = operation.answer(kind, entity);
        if let Some(token) = token {
            answer.set_field_by_name("jwt", Value::String(token));
        }
        Ok(answer)
    }
}

fn required_id(request: &DynamicMessage) -> Result<String, Status> {
    entity::text(request, "id")
        .filter(|id| !id.is_empty())
        .ok_or_else(|| Status::invalid_argument("id is required"))
}

fn absent(kind: &Kind, id: &str) -> Status {
    Status::not_found(format!("{} {id} not found", kind.field))
}

/// What the databroker says, in the codes of this service.
fn failed(error: Error) -> Status {
    match error {
        Error::Invalid(what) => Status::invalid_argument(what),
        Error::Unavailable(what) => Status::unavailable(what),
        error => Status::internal(error.to_string()),
    }
}
