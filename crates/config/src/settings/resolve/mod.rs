//! From decoded options to settings: one file per section. Every step reports into the sink and goes on with
//! something harmless, so that one load finds every problem; settings count only when no error was reported.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Settings;
use crate::diagnostic::Step;
use crate::records::{RecordProblem, Records};
use crate::spec::memory::Inherited;
use crate::spec::source::Environment;
use crate::spec::values::Values;
use crate::spec::{Sink, services};

mod address;
mod audit;
mod autocert;
mod balance;
mod certificate_folder;
mod certificates;
mod checks;
mod decision;
mod dns;
mod files;
mod flags;
pub(crate) mod generated;
mod google;
mod headers;
mod http;
mod identity;
mod internal;
mod local_users;
mod log;
mod metrics;
mod mtls;
mod pem;
mod rate_limit;
mod refusals;
mod routes;
mod secrets;
mod storage;
mod tracing;

pub use log::{LogFieldNames, log_field_names};
pub use storage::default_data_dir;

pub(crate) use flags::value as flag;

/// What a resolve step works with.
pub(crate) struct Cx<'a> {
    /// Problems go here.
    pub sink: Sink,
    /// The environment.
    pub env: &'a Environment,
    /// Files that were read and are to be watched.
    pub watched: Vec<PathBuf>,
    /// Nothing is written to disk.
    pub dry_run: bool,
    /// Policies are looked at as in a review.
    pub review: bool,
    /// Routes and certificates that come from records.
    pub records: &'a Records,
    /// Which of them are left out.
    pub record_problems: Vec<RecordProblem>,
    /// A record that says which certificates clients need is left out: what it demands is not known, so nobody is let in.
    pub guard_lost: bool,
    /// The services of a program that runs.
    pub running: Option<super::Services>,
    /// Routes were taken over that inherit something else now: nothing of this load counts.
    pub stale: bool,
}

impl Cx<'_> {
    /// Looks at a route, unless the last load did; what is found is looked for again next time.
    fn of_new_route(&mut self, route: &Values, look: impl FnOnce(&mut Self)) {
        if route.known.is_some() {
            return;
        }
        let before = self.sink.count();
        let step = std::mem::replace(&mut self.sink.step, Step::Route);
        look(self);
        self.sink.step = step;
        if self.sink.count() != before {
            self.sink.memory.tell(route.fingerprint);
        }
    }

    /// Lends the sink to readers that share it.
    fn shared_sink<T>(&mut self, read: impl FnOnce(&RefCell<Sink>) -> T) -> T {
        let sink = RefCell::new(std::mem::take(&mut self.sink));
        let found = read(&sink);
        self.sink = sink.into_inner();
        found
    }
}

/// Resolves everything.
pub(crate) fn resolve(values: &Values, path: Option<&Path>, cx: &mut Cx<'_>) -> Settings {
    cx.sink.step = Step::Validate;
    cx.watched.extend(path.map(Path::to_path_buf));
    let services = resolve_services(values, cx);
    let runtime_flags = flags::resolve(values, cx);
    checks::run(values, cx);
    let data_dir = storage::data_dir(values, cx);
    let databroker = storage::resolve(values, &data_dir, cx);
    let secrets = secrets::resolve(values, services, &data_dir, &databroker, cx);
    let at_rest = storage::at_rest(values, &secrets, cx);
    let (certificates, extra_roots) = certificates::resolve(values, cx);
    let listener = http::listener(values, cx);
    let internal = internal::resolve(values, services, cx);
    let authenticate = identity::resolve(values, &secrets, &data_dir, cx);
    let response_headers = headers::global(values, cx);
    let cookie = identity::cookies(values, cx);
    let tls_derive = internal::tls_derive(values, cx);
    let fallback = certificates.is_empty() || tls_derive.is_some();
    let rate_limit = rate_limit::resolve(values, cx);
    let downstream_mtls = mtls::resolve(values, cx);
    let deny_without_certificate = mtls::denies_by_default(values, downstream_mtls.as_ref(), cx.records);
    cx.stale = cx.sink.memory.is_stale(Inherited {
        deny_without_certificate,
        guard_lost: cx.guard_lost,
        url: authenticate.url.clone(),
        shared: secrets.shared.clone(),
        idp: authenticate.idp.clone().map(Arc::new),
    });
    cx.sink.step = Step::Route;
    let routes = routes::resolve(
        values,
        (services, &runtime_flags),
        &authenticate,
        &secrets,
        (rate_limit, deny_without_certificate),
        cx,
    );
    cx.sink.step = Step::Validate;
    let alone = certificates.is_empty();
    let autocert = autocert::resolve(
        values,
        &data_dir,
        &routes,
        (alone, is_shared(services, &databroker)),
        cx,
    );
    let metrics = metrics::resolve(values, cx);
    let decision = decision::resolve(values, services, cx);
    let dns = dns::resolve(values, cx);
    let geoip_database = values.some_text("geoip_database").map(PathBuf::from);
    cx.watched.extend(geoip_database.clone());
    let upstream_bind = dns::bind(values, cx);
    refusals::run(values, services, &authenticate, &routes, cx);
    let mut watched_files = std::mem::take(&mut cx.watched);
    watched_files.sort();
    watched_files.dedup();
    Settings {
        services,
        data_dir,
        listener,
        certificates,
        fallback_certificate: fallback,
        tls_derive,
        downstream_mtls,
        autocert,
        decision,
        rate_limit,
        dns,
        upstream_bind,
        extra_roots,
        timeouts: http::timeouts(values, cx),
        http: http::settings(values, cx),
        secrets,
        authenticate,
        cookie,
        identity_headers: headers::claims(values, cx),
        geoip_database,
        groups_claim: values.text("groups_claim").trim().to_owned(),
        google_account: google::account(values, cx),
        response_headers,
        log: log::resolve(values, cx),
        metrics,
        audit: audit::resolve(values, cx),
        tracing: tracing::resolve(values, cx),
        health_address: address::checked(
            values,
            "health_check_addr",
            "config : invalid health_check_addr :",
            cx,
        ),
        systemd_disabled: values.on("health_check_systemd_disabled"),
        databroker,
        at_rest,
        internal,
        branding: identity::branding(values, cx),
        runtime_flags,
        installation_id: values.text("installation_id").to_owned(),
        routes,
        watched_files,
    }
}

/// Whether other processes may have the same records.
fn is_shared(services: super::Services, databroker: &super::DatabrokerSettings) -> bool {
    use super::DatabrokerSettings::{File, Memory};
    !services.all_in_one() || !matches!(databroker, Memory | File(_))
}

/// What this process runs. A running one goes on with what it has: half of its parts would follow another set.
fn resolve_services(values: &Values, cx: &mut Cx<'_>) -> super::Services {
    match services::parse(values.text("services")) {
        Ok(services) => match cx.running {
            Some(running) if running != services => {
                let message = "this change takes effect at the next start";
                let help = "restart the program, or undo the change";
                cx.sink.warn(values.place("services"), "services", message, help);
                running
            }
            _ => services,
        },
        Err(message) => {
            let help = "one or more of all, authenticate, authorize, databroker, proxy";
            cx.sink.error(values.place("services"), "services", message, help);
            super::Services::ALL
        }
    }
}
