//! `health.HealthNotifier` (spec databroker.md 16.5): how the parts of this process are, as a stream. The parts
//! themselves are told by a [`HealthTable`].

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use pomerium_api::pb::health::health_notifier_server::HealthNotifier;
use pomerium_api::pb::health::{
    ComponentStatus, HealthMessage, HealthStatus, HealthStreamRequest, OverallStatus,
};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

/// How long changes are gathered before they are told.
const BATCH: Duration = Duration::from_secs(15);
/// How often the state is told when nothing changes.
const AGAIN: Duration = Duration::from_secs(90);

/// How the parts of a process are.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// Everything that was reported, by name.
    pub components: HashMap<String, ComponentStatus>,
    /// The names that must be reported, running and without error.
    pub required: Vec<String>,
    /// Those that do their work in spite of their error.
    pub in_service: Vec<String>,
}

/// Knows how the parts of this process are.
pub trait HealthTable: Send + Sync + 'static {
    /// The present state.
    fn state(&self) -> State;
    /// Changes with the state; its value has no meaning. Streams end with it.
    fn changes(&self) -> watch::Receiver<u64>;
}

/// The service.
pub(super) struct Notifier(Arc<dyn HealthTable>);

impl Notifier {
    pub(super) fn new(table: Arc<dyn HealthTable>) -> Self {
        Self(table)
    }
}

#[tonic::async_trait]
impl HealthNotifier for Notifier {
    type SyncHealthStream = Pin<Box<dyn Stream<Item = Result<HealthMessage, Status>> + Send>>;

    async fn sync_health(
        &self,
        _: Request<HealthStreamRequest>,
    ) -> Result<Response<Self::SyncHealthStream>, Status> {
        let table = Arc::clone(&self.0);
        let mut changes = table.changes();
        changes.mark_unchanged();
        let first = message(table.state());
        let later = stream::unfold((table, changes), |(table, mut changes)| async {
            tokio::select! {
                changed = changes.changed() => {
                    changed.ok()?;
                    tokio::time::sleep(BATCH).await;
                }
                () = tokio::time::sleep(AGAIN) => {}
            }
            changes.mark_unchanged();
            let message = message(table.state());
            Some((Ok(message), (table, changes)))
        });
        Ok(Response::new(stream::iter([Ok(first)]).chain(later).boxed()))
    }
}

fn message(state: State) -> HealthMessage {
    let State {
        components,
        mut required,
        ..
    } = state;
    required.sort_unstable();
    let (overall, overall_err) = judge(&components, &required);
    HealthMessage {
        overall_status: overall.into(),
        overall_err,
        statuses: components,
        required,
    }
}

fn judge(
    components: &HashMap<String, ComponentStatus>,
    required: &[String],
) -> (OverallStatus, Option<String>) {
    let started = |name: &&String| {
        components
            .get(*name)
            .is_some_and(|part| part.status() != HealthStatus::Unknown)
    };
    let missing: Vec<&str> = required
        .iter()
        .filter(|name| !started(name))
        .map(String::as_str)
        .collect();
    if !missing.is_empty() {
        let (count, names) = (missing.len(), missing.join(","));
        let problem = format!("{count} component(s) not started: {names}");
        return (OverallStatus::Starting, Some(problem));
    }
    let parts = || {
        required
            .iter()
            .filter_map(|name| Some((name, components.get(name)?)))
    };
    let terminating = parts().any(|(_, part)| part.status() == HealthStatus::Terminating);
    let overall = match terminating {
        true => OverallStatus::Terminating,
        false => OverallStatus::Running,
    };
    let unhealthy: Vec<&str> = parts()
        .filter(|(_, part)| part.err.is_some())
        .map(|(name, _)| name.as_str())
        .collect();
    let problem = (!unhealthy.is_empty()).then(|| {
        let (count, names) = (unhealthy.len(), unhealthy.join(","));
        format!("{count} component(s) not healthy: {names}")
    });
    (overall, problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(status: HealthStatus, err: Option<&str>) -> ComponentStatus {
        ComponentStatus {
            status: status.into(),
            err: err.map(str::to_owned),
            ..ComponentStatus::default()
        }
    }

    #[test]
    fn the_whole_is_judged_by_what_is_required() {
        use HealthStatus::{Running, Terminating, Unknown};
        let table = |parts: &[(&str, ComponentStatus)]| {
            let components = parts
                .iter()
                .map(|(name, part)| ((*name).to_owned(), part.clone()));
            let required = vec!["b".to_owned(), "a".to_owned()];
            let message = message(State {
                components: components.collect(),
                required,
                in_service: Vec::new(),
            });
            assert_eq!(message.required, ["a", "b"]);
            (message.overall_status(), message.overall_err)
        };
        let running = part(Running, None);
        assert_eq!(
            table(&[]),
            (
                OverallStatus::Starting,
                Some("2 component(s) not started: a,b".into())
            )
        );
        assert_eq!(
            table(&[("a", running.clone()), ("b", part(Unknown, Some("x")))]).0,
            OverallStatus::Starting
        );
        assert_eq!(
            table(&[
                ("a", running.clone()),
                ("b", running.clone()),
                ("c", part(Running, Some("x")))
            ]),
            (OverallStatus::Running, None)
        );
        assert_eq!(
            table(&[("a", part(Running, Some("disk full"))), ("b", running.clone())]),
            (
                OverallStatus::Running,
                Some("1 component(s) not healthy: a".into())
            )
        );
        assert_eq!(
            table(&[("a", running), ("b", part(Terminating, None))]).0,
            OverallStatus::Terminating
        );
    }
}
