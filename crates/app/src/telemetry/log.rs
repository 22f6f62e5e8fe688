//! The program's own log: JSON lines with the field names of the original (`level`, `time`, `message`),
//! or a readable form on a terminal. The access and authorize logs have a writer of their own in `proxy`.

use std::fmt;
use std::io::IsTerminal;
use std::sync::OnceLock;

use pomerium_config::settings::{LogLevel, LogSettings};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Registry, prelude::*, reload};

/// Form of the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Pretty on a terminal, JSON elsewhere.
    Auto,
    /// One JSON object a line.
    Json,
    /// For reading.
    Pretty,
}

static LEVELS: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();

/// Installs the log; level info until [`set_levels`]. Later calls have no effect.
pub fn install(format: LogFormat) {
    let (filter, handle) = reload::Layer::new(Targets::new().with_default(LevelFilter::INFO));
    let pretty = match format {
        LogFormat::Auto => std::io::stderr().is_terminal(),
        LogFormat::Json => false,
        LogFormat::Pretty => true,
    };
    let output = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .event_format(Lines { pretty });
    if tracing_subscriber::registry()
        .with(filter)
        .with(output)
        .try_init()
        .is_ok()
    {
        let _ = LEVELS.set(handle);
    }
}

/// Changes the levels of the running program.
pub fn set_levels(settings: &LogSettings) {
    if let Some(handle) = LEVELS.get() {
        let _ = handle.reload(targets(settings));
    }
}

/// `log_level` for everything, `proxy_log_level` for the data plane, `otel_log_level` for the trace exporter.
fn targets(settings: &LogSettings) -> Targets {
    Targets::new()
        .with_default(filter(settings.level))
        .with_target("pomerium_proxy", filter(settings.proxy_level))
        .with_target("opentelemetry", filter(settings.otel_level))
        // Every frame of a connection, and every step of a handshake: of no use to whoever looks for a mistake here.
        .with_target("h2", filter(settings.level).min(LevelFilter::INFO))
        .with_target("hyper", filter(settings.level).min(LevelFilter::INFO))
        .with_target("rustls", filter(settings.level).min(LevelFilter::INFO))
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Trace => LevelFilter::TRACE,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Off => LevelFilter::OFF,
    }
}

struct Lines {
    pretty: bool,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = *event.metadata().level();
        if self.pretty {
            fields.pretty(&mut out, level)
        } else {
            fields.json(&mut out, level)
        }
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    rest: Map<String, Value>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        self.put(field, Value::String(text));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, Value::String(value.to_owned()));
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            (name, value) => {
                // `config_file` in the code, `config-file` in the log, as the original prints it.
                self.rest.insert(name.replace('_', "-"), value);
            }
        }
    }

    fn json(self, out: &mut Writer<'_>, level: Level) -> fmt::Result {
        let mut line = Map::new();
        line.insert("level".into(), level_name(level).into());
        // A field `level` stands for a level of the original that the log library does not have.
        line.extend(self.rest);
        line.insert("time".into(), now().into());
        line.insert("message".into(), self.message.into());
        writeln!(out, "{}", Value::Object(line))
    }

    fn pretty(self, out: &mut Writer<'_>, level: Level) -> fmt::Result {
        let time = now();
        let clock = time.get(11..19).unwrap_or(&time);
        write!(
            out,
            "{clock} {:5} {}",
            level_name(level).to_uppercase(),
            printable(&self.message)
        )?;
        for (name, value) in &self.rest {
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), ToOwned::to_owned);
            write!(out, "  {name}={}", printable(&text))?;
        }
        writeln!(out)
    }
}

/// Control characters would let a value forge lines or drive the terminal.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() && c != '\n' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::TRACE => "trace",
        Level::DEBUG => "debug",
        Level::INFO => "info",
        Level::WARN => "warn",
        Level::ERROR => "error",
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "the stamp of a log line is the machine's time"
)]
fn now() -> String {
    jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%S%.3fZ")
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_the_program_have_levels_of_their_own() {
        let settings = LogSettings {
            level: LogLevel::Info,
            proxy_level: LogLevel::Debug,
            otel_level: LogLevel::Off,
            access_fields: Vec::new(),
            authorize_fields: Vec::new(),
        };
        let targets = targets(&settings);
        assert!(targets.would_enable("pomerium_proxy::conn", &Level::DEBUG));
        assert!(!targets.would_enable("pomerium_databroker", &Level::DEBUG));
        assert!(targets.would_enable("pomerium_databroker", &Level::INFO));
        assert!(!targets.would_enable("opentelemetry_sdk", &Level::ERROR));
    }

    #[test]
    fn a_field_can_name_a_level_that_the_library_lacks() {
        let fields = Fields {
            message: "cmd/pomerium".into(),
            rest: Map::from_iter([("level".to_owned(), "fatal".into())]),
        };
        let mut text = String::new();
        fields.json(&mut Writer::new(&mut text), Level::ERROR).unwrap();
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["level"], "fatal");
        assert_eq!(line["message"], "cmd/pomerium");
    }

    #[test]
    fn control_characters_of_values_do_not_reach_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\r"), "a\u{fffd}[2Jb\u{fffd}");
    }
}
