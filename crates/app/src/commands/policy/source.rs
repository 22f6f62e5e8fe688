//! Files that commands read: configurations and their routes, documents in YAML or JSON.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use pomerium_config::settings::Settings;
use pomerium_config::tidy::Form;
use pomerium_config::{Diagnostic, Loader};
use pomerium_proxy::router::Match;
use pomerium_proxy::{Route, Snapshot};
use serde_json::Value;

use super::super::environment;

/// Largest document, bytes.
const LARGEST: u64 = 64 << 20;

/// The routes of a configuration.
pub struct Routes {
    /// Everything else of it.
    pub settings: Settings,
    /// What deserves a look.
    pub warnings: Vec<Diagnostic>,
    snapshot: Snapshot,
}

/// A route that was asked for.
pub struct Found<'a> {
    /// The route.
    pub route: &'a Arc<Route>,
    /// `host[:port]` and path, when an address was given.
    pub address: Option<(String, String)>,
}

impl Routes {
    /// Loads a configuration as the program would, and writes nothing.
    ///
    /// Errors with everything that is wrong with it, and with what this version cannot do: a policy that cannot be
    /// judged must not be told as one that can.
    pub fn load(config: &Path, review: bool) -> anyhow::Result<Self> {
        let mut loader = Loader::new(Some(config), &environment()).dry_run();
        if review {
            loader = loader.review();
        }
        let loaded = loader.load()?;
        let refused: Vec<String> = loaded.refusals.iter().map(ToString::to_string).collect();
        if !refused.is_empty() {
            bail!("the configuration could not be started:\n{}", refused.join("\n"));
        }
        let snapshot = Snapshot::build(&loaded.settings, None)?;
        Ok(Self {
            settings: loaded.settings,
            warnings: loaded.warnings,
            snapshot,
        })
    }

    /// The route with this name, id or `from`, or the one that answers at an address.
    ///
    /// Errors when there is none, or more than one.
    pub fn find(&self, wanted: &str) -> Result<Found<'_>, String> {
        let routes = &self.snapshot.routes;
        let named: Vec<&Arc<Route>> = routes
            .iter()
            .filter(|route| {
                let settings = &route.settings;
                let own: [&str; 3] = [&settings.name, &settings.id, &settings.from];
                own.contains(&wanted)
            })
            .collect();
        match named.as_slice() {
            [one] => Ok(Found {
                route: one,
                address: None,
            }),
            [] => self.at(wanted),
            several => {
                let ids: Vec<&str> = several.iter().map(|route| &*route.settings.id).collect();
                Err(format!(
                    "{} routes are called {wanted:?}; name one by its id ({}) or give the address of a page",
                    several.len(),
                    ids.join(", ")
                ))
            }
        }
    }

    fn at(&self, address: &str) -> Result<Found<'_>, String> {
        let uri = address
            .contains("://")
            .then(|| address.parse::<http::Uri>().ok())
            .flatten();
        let found = uri.as_ref().and_then(|uri| {
            let host = uri.authority()?.as_str().to_lowercase();
            let path = if uri.path().is_empty() { "/" } else { uri.path() };
            match self.answering(&host, path) {
                Answering::Route(route) => Some(Found {
                    route,
                    address: Some((
                        host,
                        uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
                    )),
                }),
                Answering::Own | Answering::Nothing => None,
            }
        });
        found.ok_or_else(|| {
            let known = self.snapshot.routes.iter().map(|route| {
                let settings = &route.settings;
                if settings.name.is_empty() {
                    settings.from.to_string()
                } else {
                    settings.name.to_string()
                }
            });
            let known: Vec<String> = known.take(20).collect();
            format!(
                "no route is called {address:?} or answers at it; there are: {}",
                known.join(", ")
            )
        })
    }

    /// What answers at an address.
    pub fn answering(&self, host: &str, path: &str) -> Answering<'_> {
        match self.snapshot.table.find(host, path) {
            Match::Route(index) => self
                .snapshot
                .routes
                .get(index)
                .map_or(Answering::Nothing, Answering::Route),
            Match::Internal(..) => Answering::Own,
            Match::None => Answering::Nothing,
        }
    }
}

/// What answers at an address.
#[derive(Debug)]
pub enum Answering<'a> {
    /// A route.
    Route(&'a Arc<Route>),
    /// Pomerium itself.
    Own,
    /// Nothing.
    Nothing,
}

/// How a file is written, by its name.
pub fn form(path: &Path) -> Form {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some(extension) if extension.eq_ignore_ascii_case("json") => Form::Json,
        _ => Form::Yaml,
    }
}

/// The text of a file; `-` is standard input.
pub fn text(path: &Path) -> anyhow::Result<String> {
    let cannot = || format!("{} cannot be read", path.display());
    let source: Box<dyn std::io::Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path).with_context(cannot)?)
    };
    let mut text = String::new();
    source
        .take(LARGEST + 1)
        .read_to_string(&mut text)
        .with_context(cannot)?;
    if text.len() as u64 > LARGEST {
        bail!("{} is larger than {} MiB", path.display(), LARGEST >> 20);
    }
    Ok(text)
}

/// A document as JSON.
pub fn document(path: &Path) -> anyhow::Result<Value> {
    let text = text(path)?;
    match form(path) {
        Form::Json => serde_json::from_str(&text).with_context(|| path.display().to_string()),
        Form::Yaml => match pomerium_config::spec::format::parse_yaml(&text) {
            Ok(node) => Ok(node.to_json()),
            Err(error) => bail!("{}:{}: {}", path.display(), error.place.line, error.message),
        },
    }
}
