//! Configuration from records of the databroker: read at the start, followed while the program runs.

use std::sync::{Arc, Weak};

use pomerium_api::config_records;
use pomerium_api::databroker::Record;
use pomerium_api::synced::SyncedRecords;
use pomerium_authenticate::State;
use pomerium_config::Text;
use pomerium_config::records::{Document, RecordProblem, Records};
use pomerium_config::settings::{RouteSettings, Settings};
use pomerium_proxy::BuildError;
use tokio::sync::watch;

use super::core::Core;
use super::generation::Generation;
use super::load::Source;
use super::{Server, reload};

/// The health check of configuration from records.
pub const CHECK: &str = "config.databroker.build";

/// The configuration records as they are now; none before all of them have been read once.
pub fn read(records: &SyncedRecords) -> Records {
    if !records.ready() {
        return Records::default();
    }
    Records::read(records.config_records().iter().map(|record| document(record)))
}

/// The first generation: the configuration with what the records say, which can be read only now. Where
/// the two cannot be built together it is the configuration alone, and why: no record can keep the program
/// from starting.
pub fn first(
    settings: Settings,
    source: &Source,
    core: &Core,
    state: &Arc<State>,
) -> anyhow::Result<(Generation, Option<String>)> {
    let records = read(&core.records);
    let mut fault = None;
    if !records.is_empty() {
        match joined(&settings, &records, source, core, state) {
            Ok(generation) => return Ok((generation, None)),
            Err(error) => fault = Some(format!("{error:#}")),
        }
    }
    if let Some(error) = &fault {
        tracing::error!(
            error,
            "databroker: failed to build new config; only the local configuration is in force"
        );
    }
    Ok((Generation::build(settings, core, Arc::clone(state), None)?, fault))
}

fn joined(
    settings: &Settings,
    records: &Records,
    source: &Source,
    core: &Core,
    state: &Arc<State>,
) -> anyhow::Result<Generation> {
    let (generation, problems) = build(records.clone(), (source, Text::InForce), |mut next| {
        reload::keep_keys(settings, &mut next)?;
        Generation::build(next, core, Arc::clone(state), None)
    })?;
    report(core, &problems);
    Ok(generation)
}

/// Loads the configuration with the records and builds what it is made for. A route of a record that only the data plane
/// finds wrong is closed, and the rest built without it: one bad record must not take every change down.
pub(super) fn build(
    mut records: Records,
    (source, text): (&Source, Text),
    build: impl Fn(Settings) -> anyhow::Result<Generation>,
) -> anyhow::Result<(Generation, Vec<RecordProblem>)> {
    loop {
        let (settings, mut problems) = source.load_with(text, &records)?;
        let routes = settings.routes.clone();
        match build(settings) {
            Ok(next) => {
                problems.extend(next.certificates.problems.iter().cloned());
                return Ok((next, problems));
            }
            Err(error) => close_culprit(error, &routes, &mut records)?,
        }
    }
}

/// Errors when it is no route of a record, or one that is closed already.
fn close_culprit(
    error: anyhow::Error,
    routes: &[Arc<RouteSettings>],
    records: &mut Records,
) -> anyhow::Result<()> {
    let Some(BuildError::Route { id, source }) = error.downcast_ref::<BuildError>() else {
        return Err(error);
    };
    let culprit = routes.iter().find(|route| *route.id == **id);
    let record = culprit.and_then(|route| route.record.as_deref());
    match record {
        Some(record) if records.refuse_route(record, source.to_string()) => Ok(()),
        _ => Err(error),
    }
}

fn document(record: &Record) -> Document {
    let kind = record.r#type.strip_prefix(config_records::PREFIX);
    Document {
        kind: kind.unwrap_or(&record.r#type).to_owned(),
        id: record.id.clone(),
        message: config_records::to_json(record).map_err(|error| error.to_string()),
    }
}

/// Says which records are left out. The rest is in force, so this process stays ready: one bad record must
/// not take every route down.
pub fn report(core: &Core, problems: &[RecordProblem]) {
    for problem in problems {
        tracing::error!(
            record = problem.record,
            record_type = problem.kind(),
            record_id = problem.id(),
            field = problem.field,
            error = problem.message,
            "databroker: a configuration record cannot be used"
        );
    }
    let newest = core
        .records
        .config_records()
        .iter()
        .map(|record| record.version)
        .max();
    core.process.records(newest.unwrap_or(0), problems.len());
}

/// Reloads whenever a configuration record changes, for as long as the server runs. `changes` was taken
/// before the records were first read.
pub fn follow(server: &Arc<Server>, changes: watch::Receiver<u64>) {
    tokio::spawn(reload_on(
        Arc::downgrade(server),
        changes,
        server.core.stop.clone(),
    ));
}

async fn reload_on(
    server: Weak<Server>,
    mut changes: watch::Receiver<u64>,
    stop: tokio_util::sync::CancellationToken,
) {
    loop {
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = stop.cancelled() => return,
        }
        let Some(server) = server.upgrade() else { return };
        tracing::info!("databroker: configuration records changed, reconfiguring...");
        if tokio::task::spawn_blocking(move || server.reload_records())
            .await
            .is_err()
        {
            tracing::error!("databroker: reading the configuration records failed half-way");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use pomerium_api::databroker::Record;
    use pomerium_config::settings::Action;
    use serde_json::json;

    use super::super::{LogOutput, Options};
    use super::*;

    /// An address that nobody listened on a moment ago.
    fn free_address() -> String {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    }

    fn config(folder: &std::path::Path) -> serde_json::Value {
        json!({
            "address": "127.0.0.1:0", "health_check_addr": free_address(), "insecure_server": true,
            "databroker_storage_type": "memory", "data_dir": folder.join("data"),
            "routes": [{
                "from": "https://file.example.com", "allow_public_unauthenticated_access": true,
                "response": {"status": 200},
            }],
        })
    }

    async fn start(folder: &std::path::Path, config: &serde_json::Value) -> Arc<Server> {
        let file = folder.join("config.json");
        std::fs::write(&file, config.to_string()).unwrap();
        let options = Options {
            source: Source::new(Some(&file), &BTreeMap::new()),
            log_output: LogOutput::File(folder.join("log.txt")),
            workers: Some(1),
            start: super::super::Start::default(),
        };
        Server::start(options).await.unwrap()
    }

    fn route(id: &str, mut more: serde_json::Value) -> Record {
        more["from"] = format!("https://{id}.example.com").into();
        config_records::from_json("Route", id, &more).unwrap()
    }

    async fn until(server: &Server, what: impl Fn(&[String]) -> bool) {
        let seen = || -> Vec<String> {
            server
                .settings()
                .routes
                .iter()
                .map(|route| route.from.to_string())
                .collect()
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), async {
            while !what(&seen()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        assert!(waited.await.is_ok(), "{:?}", seen());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_record_comes_changes_and_goes_without_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let server = start(folder.path(), &config(folder.path())).await;
        let open = json!({"allow_public_unauthenticated_access": true, "response": {"status": 201}});
        let broker = Arc::clone(&server.core.broker.handle);
        broker.put(vec![route("one", open.clone())]).await.unwrap();
        let one = "https://one.example.com".to_owned();
        until(&server, |seen| seen.contains(&one)).await;
        assert_eq!(&*server.settings().routes[0].from, "https://file.example.com");
        assert_eq!(&*server.settings().routes[1].id, "one");

        // A bad one is said to be bad; its place lets nobody in, and the others stay.
        let bad = route("two", json!({"to": ["gopher://x"], "prefix": "/a"}));
        broker.put(vec![bad]).await.unwrap();
        let two = "https://two.example.com".to_owned();
        until(&server, |seen| seen.contains(&one) && seen.contains(&two)).await;
        let settings = server.settings();
        let closed = settings.routes.iter().find(|route| *route.from == *two).unwrap();
        assert!(matches!(closed.action, Action::Respond { status: 503, .. }));
        assert!(
            closed.policy.needs_identity() || !closed.policy.is_empty(),
            "nobody may"
        );
        assert_eq!(server.core.process.record_errors.get(), 1);
        assert!(server.core.health.reported()[CHECK].error.is_none());

        // What only the data plane can find wrong is closed as well, and nothing else.
        let mut unfit = open.clone();
        unfit["to"] = json!(["http://up.example.com"]);
        unfit["host_rewrite"] = "a\u{1}b".into();
        unfit.as_object_mut().unwrap().remove("response");
        let four = "https://four.example.com".to_owned();
        broker
            .put(vec![route("three", unfit), route("four", open.clone())])
            .await
            .unwrap();
        until(&server, |seen| seen.contains(&one) && seen.contains(&four)).await;
        let settings = server.settings();
        let action = |id: &str| {
            let found = settings.routes.iter().find(|route| &*route.id == id);
            found.unwrap().action.clone()
        };
        assert!(matches!(action("three"), Action::Respond { status: 503, .. }));
        assert!(matches!(action("four"), Action::Respond { status: 201, .. }));
        assert_eq!(server.core.process.record_errors.get(), 2);
        assert!(server.core.health.reported()[CHECK].error.is_none());
        let mut mended = route("three", open.clone());
        mended.deleted_at = Some(pomerium_api::records::to_proto_time(server.core.clock.now()));
        broker.put(vec![mended]).await.unwrap();

        let mut gone = route("one", open);
        gone.deleted_at = Some(pomerium_api::records::to_proto_time(server.core.clock.now()));
        broker
            .put(vec![
                gone,
                route(
                    "two",
                    json!({"response": {"status": 204}, "allow_public_unauthenticated_access": true}),
                ),
            ])
            .await
            .unwrap();
        until(&server, |seen| !seen.contains(&one)).await;
        assert_eq!(server.core.process.record_errors.get(), 0);
        assert!(server.core.process.record_version.get() >= 6);
        server.stop().await;
    }

    /// Whatever a file says by now, a record comes over what is in force of it: neither does half a file hold the record
    /// up, nor does a file slip in that nobody has asked to be read.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_record_comes_over_the_file_that_is_in_force() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.json");
        let mut config = config(folder.path());
        config["runtime_flags"] = json!({"config_hot_reload": false});
        let server = start(folder.path(), &config).await;
        let broker = Arc::clone(&server.core.broker.handle);
        let open = json!({"allow_public_unauthenticated_access": true, "response": {"status": 201}});
        let [local, other] = ["file", "other"].map(|host| format!("https://{host}.example.com"));
        let mut changed = config.clone();
        changed["routes"][0]["from"] = other.clone().into();
        for (id, text) in [("one", changed.to_string()), ("two", "{\"routes\": [".to_owned())] {
            std::fs::write(&file, text).unwrap();
            broker.put(vec![route(id, open.clone())]).await.unwrap();
            let from = format!("https://{id}.example.com");
            until(&server, |seen| seen.contains(&from)).await;
            assert_eq!(*server.settings().routes[0].from, *local);
        }
        std::fs::write(&file, changed.to_string()).unwrap();
        server.reload();
        broker.put(vec![route("three", open)]).await.unwrap();
        until(&server, |seen| {
            seen.contains(&"https://three.example.com".to_owned())
        })
        .await;
        assert_eq!(*server.settings().routes[0].from, *other);
        server.stop().await;
    }
}
