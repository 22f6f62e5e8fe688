//! Changing what is kept (spec config-api.md 3 and 4.3). A change is written only over the record it was made from.

use pomerium_api::described;
use prost_reflect::{DynamicMessage, Value};
use tonic::Status;

use super::entity::Entity;
use super::{Call, GLOBAL_SETTINGS, absent, failed};

/// What callers may not change.
const READ_ONLY: [&str; 3] = ["id", "created_at", "modified_at"];
/// How often a change is made anew because somebody else was faster.
const ATTEMPTS: u32 = 16;

impl Call<'_> {
    pub(super) async fn update(&self, request: DynamicMessage) -> Result<DynamicMessage, Status> {
        let (manager, kind) = (self.manager, self.kind);
        let mut given = kind.given(&request)?;
        let id = match given.id().filter(|id| !id.is_empty()) {
            Some(id) => id,
            None if kind.is_settings() => GLOBAL_SETTINGS.to_owned(),
            None => return Err(Status::invalid_argument("id is required")),
        };
        given.set("id", Value::String(id.clone()));
        let mask = mask(&request);
        for _ in 0..ATTEMPTS {
            let stored = self.stored(&id).await?;
            let (existing, version) = match (&stored, &mask) {
                (Some(record), Some(_)) => (kind.read(record)?, record.version),
                // What cannot be read is written anew.
                (Some(record), None) => {
                    let existing = kind.read(record).unwrap_or_else(|_| self.fresh(&id));
                    (existing, record.version)
                }
                (None, mask) if kind.is_settings() => {
                    refuse_times(mask.as_deref().unwrap_or_default())?;
                    (self.fresh(&id), 0)
                }
                (None, _) => return Err(absent(kind, &id)),
            };
            let mut changed = match &mask {
                Some(mask) => masked(&existing, &given, mask)?,
                None => given.clone(),
            };
            changed.take("created_at", &existing);
            if kind.is_account() {
                changed.set_time("accessed_at", manager.clock.now());
            }
            let mut content = changed.clone();
            content.message_mut().clear_field_by_name("modified_at");
            manager.check(kind, &content)?;
            let written = self.broker.replace(kind.record(changed, &id, version)).await;
            if let Some(written) = written.map_err(failed)? {
                return self.reply(&written);
            }
        }
        Err(Status::aborted(format!(
            "{} {id} is changed by others all the time; try again",
            kind.field
        )))
    }

    /// What begins now.
    fn fresh(&self, id: &str) -> Entity {
        let mut fresh = Entity::empty(self.kind);
        fresh.set("id", Value::String(id.to_owned()));
        if !self.kind.is_account() {
            fresh.set_time("created_at", self.manager.clock.now());
        }
        fresh
    }
}

/// Refuses names of times, or of what is inside them, where there is nothing yet that they could agree with.
fn refuse_times(mask: &[String]) -> Result<(), Status> {
    let meant = |name: &str| mask.iter().any(|path| path.split('.').next() == Some(name));
    match READ_ONLY.iter().find(|name| **name != "id" && meant(name)) {
        None => Ok(()),
        Some(name) => Err(read_only(name)),
    }
}

fn read_only(name: &str) -> Status {
    Status::invalid_argument(format!("{name} is a read-only property"))
}

/// The names of the mask of a request, if it has one.
fn mask(request: &DynamicMessage) -> Option<Vec<String>> {
    if !request.has_field_by_name("update_mask") {
        return None;
    }
    let mask = request.get_field_by_name("update_mask")?;
    let paths = mask.as_message()?.get_field_by_name("paths")?;
    let names = paths.as_list()?.iter().filter_map(Value::as_str);
    Some(names.map(str::to_owned).collect())
}

/// `existing` with what the mask names taken from `given`.
fn masked(existing: &Entity, given: &Entity, mask: &[String]) -> Result<Entity, Status> {
    let mut changed = existing.clone();
    described::patch(changed.message_mut(), given.message(), mask).map_err(failed)?;
    match READ_ONLY.iter().find(|name| !changed.agrees(name, existing)) {
        None => Ok(changed),
        Some(name) => Err(read_only(name)),
    }
}
