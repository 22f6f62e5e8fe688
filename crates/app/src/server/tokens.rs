//! Tokens that upstreams are shown: those in files, which a cluster replaces under us, and those of Google
//! (spec policy.md 11.5). Requests read them from memory; tasks of the control runtime keep them fresh.

use std::collections::HashMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use arc_swap::{ArcSwap, ArcSwapOption};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::HeaderValue;
use pomerium_api::clock::Clock;
use pomerium_config::settings::{GoogleAccount, KubernetesToken, Settings};
use pomerium_crypto::jwt::SigningKey;
use pomerium_identity::ReqwestClient;
use pomerium_identity::google::{GoogleSource, GoogleTokens, KeptToken, METADATA_HOST};
use pomerium_proxy::UpstreamTokens;
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

/// How often a file is read. A cluster replaces a token long before it is over.
const AGAIN: Duration = Duration::from_secs(10);
/// Longest token, bytes.
const LONGEST: u64 = 64 * 1024;
/// Where the metadata server is, as Google's own programs read it.
const METADATA_VARIABLE: &str = "GCE_METADATA_HOST";

/// All tokens of the routes in force.
pub struct Tokens {
    clock: Arc<dyn Clock>,
    runtime: Handle,
    files: ArcSwap<HashMap<PathBuf, Arc<Fresh<TokenFile>>>>,
    google: ArcSwap<Google>,
}

#[derive(Default)]
struct Google {
    /// Who asks: a change makes every token a new one.
    account: Option<GoogleAccount>,
    tokens: HashMap<String, Arc<Fresh<KeptToken>>>,
}

/// A token and the task that keeps it fresh, which ends with it.
struct Fresh<T> {
    token: Arc<T>,
    _task: AbortOnDropHandle<()>,
}

impl Tokens {
    /// None yet. `runtime` is where they are kept fresh.
    pub fn new(clock: Arc<dyn Clock>, runtime: Handle) -> Arc<Self> {
        Arc::new(Self {
            clock,
            runtime,
            files: ArcSwap::default(),
            google: ArcSwap::default(),
        })
    }

    /// Gets what the routes of `settings` need, beside what there is: before they are served. Files are read at
    /// once. Errors when Google cannot be asked at all.
    pub fn extend(&self, settings: &Settings) -> anyhow::Result<()> {
        let mut files = HashMap::clone(&self.files.load());
        for path in token_files(settings) {
            let fresh = files
                .entry(path.to_owned())
                .or_insert_with(|| self.fresh(TokenFile::new(path), TokenFile::run));
            fresh.token.read();
        }
        self.files.store(Arc::new(files));
        let old = self.google.load_full();
        let kept = old.account == settings.google_account;
        let mut google = Google {
            account: settings.google_account.clone(),
            tokens: if kept { old.tokens.clone() } else { HashMap::new() },
        };
        let mut source = None;
        for audience in audiences(settings) {
            if google.tokens.contains_key(audience) {
                continue;
            }
            let source = match &source {
                Some(source) => source,
                None => source.insert(self.source(settings)?),
            };
            let token = KeptToken::new(audience.to_owned(), Arc::clone(source));
            google
                .tokens
                .insert(audience.to_owned(), self.fresh(token, KeptToken::run));
        }
        self.google.store(Arc::new(google));
        Ok(())
    }

    /// Forgets what the routes of `settings`, which are in force now, do not need.
    pub fn retain(&self, settings: &Settings) {
        let mut files = HashMap::clone(&self.files.load());
        files.retain(|path, _| token_files(settings).any(|wanted| wanted == path));
        self.files.store(Arc::new(files));
        let mut google = Google {
            account: settings.google_account.clone(),
            tokens: self.google.load().tokens.clone(),
        };
        google
            .tokens
            .retain(|audience, _| audiences(settings).any(|wanted| wanted == audience));
        self.google.store(Arc::new(google));
    }

    fn fresh<T, F>(&self, token: Arc<T>, run: impl FnOnce(Arc<T>) -> F) -> Arc<Fresh<T>>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let task = self.runtime.spawn(run(Arc::clone(&token)));
        Arc::new(Fresh {
            token,
            _task: AbortOnDropHandle::new(task),
        })
    }

    fn source(&self, settings: &Settings) -> anyhow::Result<Arc<GoogleTokens>> {
        let http = ReqwestClient::new(&settings.extra_roots).context("certificate_authority")?;
        let (source, http) = match &settings.google_account {
            Some(account) => {
                let key = SigningKey::from_pem(account.key.expose())
                    .context("google_cloud_serverless_authentication_service_account")?;
                let source = GoogleSource::Account {
                    email: account.email.clone(),
                    key_id: account.key_id.clone(),
                    key: Box::new(key),
                    token_uri: account.token_uri.clone(),
                };
                (source, http)
            }
            None => {
                let host = std::env::var(METADATA_VARIABLE)
                    .ok()
                    .filter(|host| !host.is_empty());
                let host = host.unwrap_or_else(|| METADATA_HOST.to_owned());
                (GoogleSource::Metadata(host), http.direct())
            }
        };
        Ok(Arc::new(GoogleTokens::new(
            source,
            Arc::new(http),
            Arc::clone(&self.clock),
        )))
    }
}

impl UpstreamTokens for Tokens {
    fn of_file(&self, path: &Path) -> Option<HeaderValue> {
        self.files.load().get(path)?.token.bearer()
    }

    fn google(&self, audience: &str) -> Option<HeaderValue> {
        self.google
            .load()
            .tokens
            .get(audience)?
            .token
            .bearer(self.clock.now())
    }

    fn google_tried<'a>(&'a self, audience: &'a str) -> BoxFuture<'a, ()> {
        let fresh = self.google.load().tokens.get(audience).cloned();
        async move {
            if let Some(fresh) = fresh {
                fresh.token.tried().await;
            }
        }
        .boxed()
    }
}

fn token_files(settings: &Settings) -> impl Iterator<Item = &Path> {
    settings
        .routes
        .iter()
        .filter_map(|route| match &route.kubernetes_token {
            Some(KubernetesToken::File(path)) => Some(path.as_path()),
            _ => None,
        })
}

fn audiences(settings: &Settings) -> impl Iterator<Item = &str> {
    settings
        .routes
        .iter()
        .filter_map(|route| route.google_audience.as_deref())
}

/// A token in a file. The last good one counts: a file that is being replaced is no reason to stop.
struct TokenFile {
    path: PathBuf,
    held: ArcSwapOption<HeaderValue>,
    /// What the last reading said, so that a lasting problem is told once.
    problem: ArcSwapOption<String>,
}

impl TokenFile {
    fn new(path: &Path) -> Arc<Self> {
        Arc::new(Self {
            path: path.to_owned(),
            held: ArcSwapOption::empty(),
            problem: ArcSwapOption::empty(),
        })
    }

    fn bearer(&self) -> Option<HeaderValue> {
        self.held.load().as_deref().cloned()
    }

    async fn run(self: Arc<Self>) {
        loop {
            tokio::time::sleep(AGAIN).await;
            let file = Arc::clone(&self);
            if tokio::task::spawn_blocking(move || file.read()).await.is_err() {
                return;
            }
        }
    }

    fn read(&self) {
        match read_bearer(&self.path) {
            Ok(bearer) => {
                self.problem.store(None);
                if self.held.load().as_deref() != Some(&bearer) {
                    self.held.store(Some(Arc::new(bearer)));
                }
            }
            Err(problem) => {
                let known = self.problem.load();
                if known.as_deref() != Some(&problem) {
                    tracing::error!(path = %self.path.display(), problem, "kubernetes_service_account_token_file: the token cannot be read");
                    self.problem.store(Some(Arc::new(problem)));
                }
            }
        }
    }
}

fn read_bearer(path: &Path) -> Result<HeaderValue, String> {
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let mut text = String::new();
    file.take(LONGEST + 1)
        .read_to_string(&mut text)
        .map_err(|error| error.to_string())?;
    let token = text.trim();
    if token.is_empty() {
        return Err("it is empty".into());
    }
    if text.len() as u64 > LONGEST || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("it holds no token".into());
    }
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|error| error.to_string())?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_good_token_counts_and_a_new_one_replaces_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let file = TokenFile::new(&path);
        let text = |file: &TokenFile| file.bearer().map(|value| value.to_str().unwrap().to_owned());
        file.read();
        assert_eq!(text(&file), None);
        for (content, expected) in [
            ("one\n", "Bearer one"),
            ("", "Bearer one"),
            ("a\nb", "Bearer one"),
            ("two", "Bearer two"),
        ] {
            std::fs::write(&path, content).unwrap();
            file.read();
            assert_eq!(text(&file).as_deref(), Some(expected), "{content:?}");
        }
        std::fs::remove_file(&path).unwrap();
        file.read();
        assert_eq!(text(&file).as_deref(), Some("Bearer two"));
        assert!(file.bearer().unwrap().is_sensitive());
    }
}
