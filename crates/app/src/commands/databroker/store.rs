//! What the commands work on: the store of a databroker that does not run, a database, or a databroker that runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use pomerium_api::clock::SystemClock;
use pomerium_api::databroker::Databroker;
use pomerium_config::Loader;
use pomerium_config::settings::{DatabrokerSettings, Origin, RemoteDatabroker, Settings};
use pomerium_databroker::{FileStore, OpenError, PostgresStore, Server};

use super::args::Which;
use crate::commands::environment;
use crate::server::remote::Way;
use crate::server::{core, store};

/// How long a leader that is to be replaced has to show that it is there.
const STILL_THERE: Duration = Duration::from_secs(3);

/// Why there is nothing to open.
const IN_MEMORY: &str = "the records of this configuration are in the memory of the process that runs";

/// A store that is open here.
pub enum Opened {
    /// A file.
    File(FileStore),
    /// A database.
    Postgres(PostgresStore),
}

/// The configuration; nothing is made by reading it.
pub fn settings(which: &Which) -> anyhow::Result<Settings> {
    let loaded = Loader::new(which.config.as_deref(), &environment())
        .dry_run()
        .load()
        .context("the configuration says where the records are, and which secret they are sealed with (--config FILE)")?;
    Ok(loaded.settings)
}

/// The databroker whose records are wanted.
pub async fn databroker(settings: &Settings, from: Option<&str>) -> anyhow::Result<Arc<dyn Databroker>> {
    if let Some(url) = from {
        return running(settings, vec![parse(url)?]);
    }
    if let Some(remote) = &settings.internal.databroker {
        return running(settings, remote.endpoints.clone());
    }
    if matches!(settings.databroker, DatabrokerSettings::Memory) {
        if settings.internal.listener.is_none() {
            bail!("{IN_MEMORY}, which tools cannot ask: set grpc_address (for instance 127.0.0.1:5443)");
        }
        return ask_the_one_that_runs(settings);
    }
    let opened = match existing(settings, "ask it with --from").await {
        Err(error) if is_in_use(&error) => return ask_the_one_that_runs(settings),
        opened => opened?,
    };
    let clock = Arc::new(SystemClock);
    Ok(match opened {
        Opened::File(store) => Arc::new(Server::new(store, clock)),
        Opened::Postgres(store) => Arc::new(Server::new(store, clock)),
    })
}

fn ask_the_one_that_runs(settings: &Settings) -> anyhow::Result<Arc<dyn Databroker>> {
    let Some(listener) = &settings.internal.listener else {
        bail!(
            "the store is in use by a Pomerium that tools cannot ask: set grpc_address (for instance 127.0.0.1:5443), \
             or stop it first"
        );
    };
    let (host, port) = listener
        .address
        .rsplit_once(':')
        .context("grpc_address names no port")?;
    let host = match host {
        "" | "0.0.0.0" | "[::]" => "127.0.0.1",
        host => host,
    };
    let scheme = if listener.insecure { "http" } else { "https" };
    running(settings, vec![parse(&format!("{scheme}://{host}:{port}"))?])
}

fn running(settings: &Settings, endpoints: Vec<Origin>) -> anyhow::Result<Arc<dyn Databroker>> {
    let shared = core::secret(settings.secrets.shared.expose(), "shared_secret")?;
    let remote = RemoteDatabroker {
        endpoints,
        server_name: server_name(settings),
    };
    let way = Way::of_tool(&remote, settings, shared, Arc::new(SystemClock))?;
    Ok(Arc::new(way.client()))
}

/// The name that certificates of databrokers of this configuration are for, where that is not their host.
pub fn server_name(settings: &Settings) -> Option<String> {
    match &settings.internal.databroker {
        Some(known) => known.server_name.clone(),
        None => settings.internal.certificate_name.clone(),
    }
}

/// The node that leads, where this one follows.
pub fn leader(settings: &Settings) -> Option<&Origin> {
    settings.internal.cluster.as_ref()?.leader.as_ref()
}

/// Whether a databroker is there and answers.
pub async fn answers(settings: &Settings, place: &Origin) -> anyhow::Result<bool> {
    let broker = running(settings, vec![place.clone()])?;
    let answer = tokio::time::timeout(STILL_THERE, broker.versions()).await;
    Ok(matches!(answer, Ok(Ok(_))))
}

/// The address of a databroker: `scheme://host:port`.
pub fn parse(url: &str) -> anyhow::Result<Origin> {
    let wrong =
        || format!("{url:?} is no address of a databroker; write scheme://host:port with http or https");
    let (scheme, rest) = url.split_once("://").with_context(wrong)?;
    if !matches!(scheme, "http" | "https") {
        bail!(wrong());
    }
    let authority = rest.trim_end_matches('/');
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse().ok().with_context(wrong)?)),
        _ => (authority, None),
    };
    if host.is_empty() || host.contains(['/', '@', '?']) {
        bail!(wrong());
    }
    let host = host.trim_matches(['[', ']']).to_lowercase();
    Ok(Origin {
        scheme: scheme.to_owned(),
        host,
        port,
    })
}

/// The store of the configuration, if there is one; `instead` is what to do where that is memory.
pub async fn existing(settings: &Settings, instead: &str) -> anyhow::Result<Opened> {
    if let DatabrokerSettings::File(folder) = &settings.databroker
        && !FileStore::is_in(folder)
    {
        bail!("there is no store in {}", folder.display());
    }
    open(settings, &settings.databroker, instead).await
}

/// Where a backup is to be restored.
pub async fn target(settings: &Settings, into: Option<&str>) -> anyhow::Result<Opened> {
    match into {
        None => open(settings, &settings.databroker, "name a store with --into").await,
        Some(text) => match DatabrokerSettings::at(text).context("--into")? {
            DatabrokerSettings::Memory => bail!(
                "--into: records in memory would be gone when this command ends; name a folder or a database"
            ),
            place => open(settings, &place, "").await,
        },
    }
}

async fn open(settings: &Settings, store: &DatabrokerSettings, instead: &str) -> anyhow::Result<Opened> {
    match store {
        DatabrokerSettings::File(folder) => file(settings, folder),
        DatabrokerSettings::Postgres(connection) => {
            let connection = std::str::from_utf8(connection.expose())
                .context("the connection string of PostgreSQL is no text")?;
            postgres(settings, connection).await
        }
        DatabrokerSettings::Memory => bail!("{IN_MEMORY}; {instead}"),
    }
}

fn file(settings: &Settings, folder: &Path) -> anyhow::Result<Opened> {
    let folder: PathBuf = folder.to_owned();
    Ok(Opened::File(FileStore::open(
        &folder,
        &store::at_rest(settings)?,
    )?))
}

async fn postgres(settings: &Settings, connection: &str) -> anyhow::Result<Opened> {
    let keys = store::at_rest(settings)?;
    let store = PostgresStore::open_with(connection, &environment(), &keys).await?;
    Ok(Opened::Postgres(store))
}

fn is_in_use(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<OpenError>(), Some(OpenError::InUse { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_databrokers_are_understood_or_refused() {
        let origin = parse("https://Databroker.example.com:5443/").unwrap();
        assert_eq!(
            (origin.scheme.as_str(), origin.host.as_str(), origin.port),
            ("https", "databroker.example.com", Some(5443))
        );
        assert_eq!(parse("http://[::1]:80").unwrap().host, "::1");
        assert_eq!(parse("http://[::1]").unwrap().port, None);
        for wrong in [
            "",
            "x",
            "ftp://x",
            "https://",
            "https://user@x",
            "https://x/y",
            "https://x:y",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
