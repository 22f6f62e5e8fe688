//! Which parts of the input a script refers to: only those are built.

use regorus::unstable::{Expr, Module};

use super::records;
use super::syntax::{Node, Walk, imports, path, resolved};

/// Parts of the input, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Uses(u32);

impl Uses {
    pub(super) const METHOD: Uses = Uses(1);
    pub(super) const HOST: Uses = Uses(1 << 1);
    pub(super) const HOSTNAME: Uses = Uses(1 << 2);
    pub(super) const PATH: Uses = Uses(1 << 3);
    pub(super) const RAW_PATH: Uses = Uses(1 << 4);
    pub(super) const RAW_QUERY: Uses = Uses(1 << 5);
    pub(super) const URL: Uses = Uses(1 << 6);
    pub(super) const HEADERS: Uses = Uses(1 << 7);
    pub(super) const CERTIFICATE: Uses = Uses(1 << 8);
    pub(super) const IP: Uses = Uses(1 << 9);
    pub(super) const SSH: Uses = Uses(1 << 10);
    pub(super) const MCP: Uses = Uses(1 << 11);
    pub(super) const SESSION: Uses = Uses(1 << 12);
    pub(super) const VALID: Uses = Uses(1 << 13);
    /// Asks for records.
    pub(super) const RECORDS: Uses = Uses(1 << 14);
    /// Looks at the moment.
    pub(super) const TIME: Uses = Uses(1 << 15);
    /// Kinds of records that it asks for by name, or might ask for.
    pub(super) const SESSIONS: Uses = Uses(1 << 16);
    pub(super) const USERS: Uses = Uses(1 << 17);
    pub(super) const DIRECTORY_USERS: Uses = Uses(1 << 18);
    pub(super) const DIRECTORY_GROUPS: Uses = Uses(1 << 19);
    pub(super) const CREDENTIALS: Uses = Uses(1 << 20);
    pub(super) const ENROLLMENTS: Uses = Uses(1 << 21);
    const KINDS: Uses = Uses(0b11_1111 << 16);
    pub(super) const HTTP: Uses = Uses((1 << 10) - 1);
    const INPUT: Uses = Uses((1 << 14) - 1);

    pub(super) const fn any(self, of: Uses) -> bool {
        self.0 & of.0 != 0
    }

    pub(super) fn of(module: &Module) -> Self {
        let imports = imports(module);
        let mut uses = Self::default();
        let mut add = |names: &[&str], kind: Option<&str>| {
            let found = part(&resolved(names, &imports));
            uses.0 |= found.0;
            if found.any(Self::RECORDS) {
                uses.0 |= kind.map_or(Self::KINDS, records::kind).0;
            }
        };
        for rule in &module.policy {
            for (_, node) in Walk::rule(rule) {
                let Node::Expr(expr) = node else { continue };
                let (names, kind) = match expr {
                    Expr::Call { fcn, params, .. } => (path(fcn), params.first().and_then(|kind| text(kind))),
                    Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. } => (path(expr), None),
                    _ => continue,
                };
                if let Some((names, _)) = names {
                    add(&names, kind);
                }
            }
        }
        uses
    }
}

/// A text that stands in the script as it is.
fn text(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::String { value, .. } | Expr::RawString { value, .. } => match value {
            regorus::Value::String(text) => Some(text),
            _ => None,
        },
        _ => None,
    }
}

fn part(names: &[&str]) -> Uses {
    match names {
        ["get_databroker_record"] => Uses::RECORDS,
        // Dates of tokens and certificates.
        ["time", "now_ns"] | ["io", "jwt", "decode_verify"] | ["ssh_verify_user_cert"] => Uses::TIME,
        ["input"] => Uses::INPUT,
        ["input", "session", ..] => Uses::SESSION,
        ["input", "ssh", ..] => Uses::SSH,
        ["input", "mcp", ..] => Uses::MCP,
        ["input", "is_valid_client_certificate", ..] => Uses::VALID,
        ["input", "http"] => Uses::HTTP,
        ["input", "http", name, ..] => match *name {
            "method" => Uses::METHOD,
            "host" => Uses::HOST,
            "hostname" => Uses::HOSTNAME,
            "path" => Uses::PATH,
            "raw_path" => Uses::RAW_PATH,
            "raw_query" => Uses::RAW_QUERY,
            "url" => Uses::URL,
            "headers" => Uses::HEADERS,
            "client_certificate" => Uses::CERTIFICATE,
            "ip" => Uses::IP,
            _ => Uses::default(),
        },
        _ => Uses::default(),
    }
}
