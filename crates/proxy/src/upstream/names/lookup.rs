//! One question to the hosts file, then to the name servers.
//!
//! The search list is walked here and not by the library, which returns the last answer only: a name that
//! could not be looked up would seem not to exist because one with a suffix does not.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use hickory_resolver::{Hosts, Resolver, TokioResolver};
use parking_lot::Mutex;
use pomerium_config::settings::{DnsFamily, DnsServer, DnsSettings};

/// Time limit of one query, when nothing is configured.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Attempts per question, when nothing is configured.
const TRIES: u32 = 3;
/// Most addresses taken from one answer.
const MOST: usize = 256;
const HOSTS: &str = "/etc/hosts";
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// What is said about a name.
#[derive(Debug)]
pub(super) enum Answer {
    /// Addresses, and how long they hold if that was said.
    Found(Vec<IpAddr>, Option<Duration>),
    /// The name does not exist or has no address of the families asked for.
    Empty,
    /// Nobody could say.
    Failed(io::Error),
}

/// Asks as the settings say.
pub(super) struct Lookup {
    settings: DnsSettings,
    system: Mutex<Option<(Stamps, Arc<Servers>)>>,
}

/// When the files of the system were last written.
type Stamps = [Option<SystemTime>; 2];

struct Servers {
    /// `Err`: there is nobody to ask.
    resolver: Result<TokioResolver, String>,
    search: Vec<Name>,
    ndots: usize,
    hosts: Hosts,
}

impl Lookup {
    pub(super) fn new(settings: DnsSettings) -> Self {
        Self {
            settings,
            system: Mutex::new(None),
        }
    }

    pub(super) fn settings(&self) -> &DnsSettings {
        &self.settings
    }

    /// Asks for the addresses of `host`, of `family`. Must be called on a tokio runtime.
    pub(super) async fn ask(&self, host: &str, family: DnsFamily) -> Answer {
        let servers = self.servers();
        let Ok(mut name) = Name::from_utf8(host) else {
            return Answer::Failed(io::Error::other("the name cannot be asked for"));
        };
        let mut failed = None;
        for name in servers.candidates(&mut name) {
            match ask_one(&servers, &name, family).await {
                Answer::Empty => {}
                Answer::Failed(error) => failed = failed.or(Some(error)),
                found @ Answer::Found(..) => return found,
            }
        }
        failed.map_or(Answer::Empty, Answer::Failed)
    }

    /// The servers, read anew when the files of the system have changed.
    fn servers(&self) -> Arc<Servers> {
        let stamps = [HOSTS, RESOLV_CONF].map(written);
        let mut system = self.system.lock();
        match &*system {
            Some((before, servers)) if *before == stamps => servers.clone(),
            _ => {
                let servers = Arc::new(Servers::read(&self.settings));
                *system = Some((stamps, servers.clone()));
                servers
            }
        }
    }
}

async fn ask_one(servers: &Servers, name: &Name, family: DnsFamily) -> Answer {
    use RecordType::{A, AAAA};
    let (first, second, both) = match family {
        DnsFamily::V4Only => (A, None, false),
        DnsFamily::V6Only => (AAAA, None, false),
        DnsFamily::V4Preferred => (A, Some(AAAA), false),
        DnsFamily::Auto => (AAAA, Some(A), false),
        DnsFamily::All => (A, Some(AAAA), true),
    };
    let answer = servers.query(name, first).await;
    let Some(second) = second else { return answer };
    match answer {
        Answer::Found(..) if !both => answer,
        Answer::Found(..) => join(answer, servers.query(name, second).await),
        Answer::Empty => servers.query(name, second).await,
        Answer::Failed(error) => match servers.query(name, second).await {
            found @ Answer::Found(..) => found,
            _ => Answer::Failed(error),
        },
    }
}

fn written(path: &str) -> Option<SystemTime> {
    Path::new(path).metadata().and_then(|about| about.modified()).ok()
}

/// Both families together. One that cannot be asked takes nothing away from the other.
fn join(first: Answer, second: Answer) -> Answer {
    match (first, second) {
        (Answer::Found(mut addresses, ttl), Answer::Found(more, other)) => {
            addresses.extend(more);
            addresses.truncate(MOST);
            Answer::Found(addresses, ttl.into_iter().chain(other).min())
        }
        (first, _) => first,
    }
}

impl Servers {
    fn read(settings: &DnsSettings) -> Self {
        let (config, mut options, unreadable) = match read_system_conf() {
            Ok((config, options)) => (config, options, None),
            Err(error) => (ResolverConfig::default(), ResolverOpts::default(), Some(error)),
        };
        let (domain, search, system) = config.into_parts();
        let search = search.into_iter().chain(domain).collect();
        let ndots = options.ndots;
        options.timeout = settings.query_timeout.unwrap_or(TIMEOUT);
        options.attempts = settings.query_tries.unwrap_or(TRIES).saturating_sub(1) as usize;
        options.use_hosts_file = ResolveHosts::Never;
        // What is remembered, and for how long, is not decided here.
        options.cache_size = 0;
        let resolver = match (settings.servers.as_slice(), unreadable) {
            ([], Some(error)) => Err(format!(
                "{RESOLV_CONF}: {error}; name servers can be given with dns_resolvers"
            )),
            ([], None) => build(system, options, settings.use_tcp),
            (own, _) => build(own.iter().map(server).collect(), options, settings.use_tcp),
        };
        Self {
            resolver,
            search,
            ndots,
            hosts: Hosts::from_system().unwrap_or_default(),
        }
    }

    /// The names to ask for, in order (resolv.conf(5): `search`, `ndots`).
    fn candidates(&self, name: &mut Name) -> Vec<Name> {
        if name.is_fqdn() {
            return vec![name.clone()];
        }
        let plain_first = usize::from(name.num_labels()) > self.ndots;
        let suffixed = self
            .search
            .iter()
            .filter_map(|suffix| name.clone().append_domain(suffix).ok());
        let mut names: Vec<Name> = suffixed.collect();
        name.set_fqdn(true);
        names.insert(if plain_first { 0 } else { names.len() }, name.clone());
        names
    }

    async fn query(&self, name: &Name, kind: RecordType) -> Answer {
        if let Some(lookup) = self.hosts.lookup_static_host(&Query::query(name.clone(), kind)) {
            let addresses = lookup.answers().iter().filter_map(|record| record.data.ip_addr());
            return Answer::Found(addresses.take(MOST).collect(), None);
        }
        let resolver = match &self.resolver {
            Ok(resolver) => resolver,
            Err(error) => return Answer::Failed(io::Error::other(error.clone())),
        };
        match resolver.lookup(name.clone(), kind).await {
            Ok(lookup) => {
                let records = lookup.answers();
                let addresses = records.iter().filter(|record| record.record_type() == kind);
                let addresses: Vec<_> = addresses
                    .filter_map(|record| record.data.ip_addr())
                    .take(MOST)
                    .collect();
                let ttl = records
                    .iter()
                    .map(|record| record.ttl)
                    .min()
                    .filter(|ttl| *ttl > 0);
                if addresses.is_empty() {
                    return Answer::Empty;
                }
                Answer::Found(addresses, ttl.map(|seconds| Duration::from_secs(seconds.into())))
            }
            Err(error) if error.is_no_records_found() => Answer::Empty,
            Err(error) => Answer::Failed(io::Error::other(error)),
        }
    }
}

fn server(server: &DnsServer) -> NameServerConfig {
    let mut connections = if server.tcp {
        vec![ConnectionConfig::tcp()]
    } else {
        vec![ConnectionConfig::udp(), ConnectionConfig::tcp()]
    };
    for connection in &mut connections {
        connection.port = server.address.port();
    }
    NameServerConfig::new(server.address.ip(), true, connections)
}

/// `tcp`: nothing is asked over UDP.
fn build(servers: Vec<NameServerConfig>, options: ResolverOpts, tcp: bool) -> Result<TokioResolver, String> {
    let mut servers = servers;
    if tcp {
        for server in &mut servers {
            let port = server
                .connections
                .first()
                .map_or(53, |connection| connection.port);
            let mut connection = ConnectionConfig::tcp();
            connection.port = port;
            server.connections = vec![connection];
        }
    }
    Resolver::builder_with_config(
        ResolverConfig::from_parts(None, Vec::new(), servers),
        TokioRuntimeProvider::default(),
    )
    .with_options(options)
    .build()
    .map_err(|error| error.to_string())
}
