//! Which parts of the input a script refers to: only those are built.

use regorus::unstable::{Expr, Module};

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
    pub(super) const HTTP: Uses = Uses((1 << 10) - 1);
    const INPUT: Uses = Uses((1 << 14) - 1);

    pub(super) const fn any(self, of: Uses) -> bool {
        self.0 & of.0 != 0
    }

    pub(super) fn of(module: &Module) -> Self {
        let imports = imports(module);
        let mut uses = Self::default();
        let mut add = |names: &[&str]| {
            let found = part(&resolved(names, &imports));
            uses.0 |= found.0;
        };
        for rule in &module.policy {
            for (_, node) in Walk::rule(rule) {
                let Node::Expr(expr) = node else { continue };
                let names = match expr {
                    Expr::Call { fcn, .. } => path(fcn),
                    Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. } => path(expr),
                    _ => None,
                };
                if let Some((names, _)) = names {
                    add(&names);
                }
            }
        }
        uses
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
