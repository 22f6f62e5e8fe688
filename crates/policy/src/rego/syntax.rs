//! Walking a parsed script without recursion, so that no script can be too deep to be looked at.

use std::collections::BTreeSet;

use regorus::unstable::{Expr, Literal, LiteralStmt, Module, Query, Rule, RuleHead, Span};

/// The package of every script; queries start there.
pub(super) const PACKAGE: [&str; 2] = ["pomerium", "policy"];

/// A part of a rule.
#[derive(Clone, Copy)]
pub(super) enum Node<'a> {
    Expr(&'a Expr),
    Statement(&'a LiteralStmt),
    Query(&'a Query),
}

/// All parts of a rule, each with its depth. A reference such as `input.a[x].b` comes as one expression, after
/// it only what stands in its brackets; of a call the name does not come by itself.
pub(super) struct Walk<'a>(Vec<(usize, Node<'a>)>);

impl<'a> Walk<'a> {
    pub(super) fn rule(rule: &'a Rule) -> Self {
        let mut walk = Self(Vec::new());
        match rule {
            Rule::Default { value, args, .. } => {
                walk.expr(1, value);
                args.iter().for_each(|arg| walk.expr(1, arg));
            }
            Rule::Spec { head, bodies, .. } => {
                walk.head(head);
                for body in bodies {
                    if let Some(assign) = &body.assign {
                        walk.expr(1, &assign.value);
                    }
                    walk.0.push((1, Node::Query(&body.query)));
                }
            }
        }
        walk
    }

    pub(super) fn of(expr: &'a Expr) -> Self {
        Self(vec![(1, Node::Expr(expr))])
    }

    fn head(&mut self, head: &'a RuleHead) {
        let indexes = |walk: &mut Self, refr: &'a Expr| {
            let (_, steps) = reference(refr);
            steps
                .iter()
                .filter_map(Step::dynamic)
                .for_each(|index| walk.expr(1, index));
        };
        match head {
            RuleHead::Compr { refr, assign, .. } => {
                indexes(self, refr);
                if let Some(assign) = assign {
                    self.expr(1, &assign.value);
                }
            }
            RuleHead::Set { refr, key, .. } => {
                indexes(self, refr);
                if let Some(key) = key {
                    self.expr(1, key);
                }
            }
            RuleHead::Func { args, assign, .. } => {
                args.iter().for_each(|arg| self.expr(1, arg));
                if let Some(assign) = assign {
                    self.expr(1, &assign.value);
                }
            }
        }
    }

    fn expr(&mut self, depth: usize, expr: &'a Expr) {
        self.0.push((depth, Node::Expr(expr)));
    }

    fn query(&mut self, depth: usize, query: &'a Query) {
        self.0.push((depth, Node::Query(query)));
    }

    fn open_statement(&mut self, depth: usize, statement: &'a LiteralStmt) {
        match &statement.literal {
            Literal::SomeVars { .. } => {}
            Literal::SomeIn {
                key,
                value,
                collection,
                ..
            } => {
                if let Some(key) = key {
                    self.expr(depth, key);
                }
                self.expr(depth, value);
                self.expr(depth, collection);
            }
            Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => self.expr(depth, expr),
            Literal::Every { domain, query, .. } => {
                self.expr(depth, domain);
                self.query(depth, query);
            }
        }
        for with in &statement.with_mods {
            self.expr(depth, &with.refr);
            self.expr(depth, &with.r#as);
        }
    }

    fn open_expr(&mut self, depth: usize, expr: &'a Expr) {
        match expr {
            Expr::String { .. }
            | Expr::RawString { .. }
            | Expr::Number { .. }
            | Expr::Bool { .. }
            | Expr::Null { .. }
            | Expr::Var { .. } => {}
            Expr::Array { items, .. } | Expr::Set { items, .. } => {
                items.iter().for_each(|item| self.expr(depth, item));
            }
            Expr::Object { fields, .. } => {
                for (_, key, value) in fields {
                    self.expr(depth, key);
                    self.expr(depth, value);
                }
            }
            Expr::ArrayCompr { term, query, .. } | Expr::SetCompr { term, query, .. } => {
                self.expr(depth, term);
                self.query(depth, query);
            }
            Expr::ObjectCompr {
                key, value, query, ..
            } => {
                self.expr(depth, key);
                self.expr(depth, value);
                self.query(depth, query);
            }
            Expr::Call { params, .. } => params.iter().for_each(|param| self.expr(depth, param)),
            Expr::UnaryExpr { expr, .. } => self.expr(depth, expr),
            Expr::RefDot { .. } | Expr::RefBrack { .. } => {
                let (root, steps) = reference(expr);
                if !matches!(root, Expr::Var { .. }) {
                    self.expr(depth, root);
                }
                for index in steps.iter().filter_map(Step::dynamic) {
                    self.expr(depth, index);
                }
            }
            Expr::BinExpr { lhs, rhs, .. }
            | Expr::BoolExpr { lhs, rhs, .. }
            | Expr::ArithExpr { lhs, rhs, .. }
            | Expr::AssignExpr { lhs, rhs, .. } => {
                self.expr(depth, lhs);
                self.expr(depth, rhs);
            }
            Expr::Membership {
                key,
                value,
                collection,
                ..
            } => {
                if let Some(key) = key {
                    self.expr(depth, key);
                }
                self.expr(depth, value);
                self.expr(depth, collection);
            }
        }
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = (usize, Node<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (depth, node) = self.0.pop()?;
        match node {
            Node::Query(query) => {
                let statements = query
                    .stmts
                    .iter()
                    .map(|statement| (depth + 1, Node::Statement(statement)));
                self.0.extend(statements);
            }
            Node::Statement(statement) => self.open_statement(depth + 1, statement),
            Node::Expr(expr) => self.open_expr(depth + 1, expr),
        }
        Some((depth, node))
    }
}

/// A step of a reference.
pub(super) enum Step<'a> {
    /// A name that stands in the text: `.name`, `["name"]`.
    Name(&'a str),
    /// Anything else in brackets.
    Index(&'a Expr),
}

impl<'a> Step<'a> {
    fn dynamic(&self) -> Option<&'a Expr> {
        match self {
            Step::Name(_) => None,
            Step::Index(index) => Some(*index),
        }
    }
}

/// What a reference starts from, and its steps. An expression that is no reference has no steps.
pub(super) fn reference(expr: &Expr) -> (&Expr, Vec<Step<'_>>) {
    let mut steps = Vec::new();
    let mut at = expr;
    loop {
        match at {
            Expr::RefDot { refr, field, .. } => {
                steps.push(Step::Name(field.0.text()));
                at = refr;
            }
            Expr::RefBrack { refr, index, .. } => {
                steps.push(match index.as_ref() {
                    Expr::String {
                        value: regorus::Value::String(name),
                        ..
                    } => Step::Name(name),
                    other => Step::Index(other),
                });
                at = refr;
            }
            root => {
                steps.reverse();
                return (root, steps);
            }
        }
    }
}

/// The names a reference starts with, as far as they stand in the text, and whether that is all of it.
/// `None` when it does not start from a variable.
pub(super) fn path(expr: &Expr) -> Option<(Vec<&str>, bool)> {
    let (root, steps) = reference(expr);
    let Expr::Var { span, .. } = root else { return None };
    let mut names = vec![span.text()];
    for step in &steps {
        match step {
            Step::Name(name) => names.push(name),
            Step::Index(_) => return Some((names, false)),
        }
    }
    Some((names, true))
}

/// The static path of what a rule defines, and the place of its head.
pub(super) fn defines(rule: &Rule) -> (Vec<&str>, &Span) {
    let refr = match rule {
        Rule::Default { refr, .. } => refr,
        Rule::Spec { head, .. } => match head {
            RuleHead::Compr { refr, .. } | RuleHead::Set { refr, .. } | RuleHead::Func { refr, .. } => refr,
        },
    };
    let names = path(refr).map(|(names, _)| names).unwrap_or_default();
    (names, refr.span())
}

/// The names that are declared inside a rule: arguments, `some`, `:=`, `every`. They hide rules of that name.
pub(super) fn locals(rule: &Rule) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    if let Rule::Spec {
        head: RuleHead::Func { args, .. },
        ..
    } = rule
    {
        args.iter().for_each(|arg| variables(arg, &mut names));
    }
    for (_, node) in Walk::rule(rule) {
        match node {
            Node::Statement(statement) => match &statement.literal {
                Literal::SomeVars { vars, .. } => names.extend(vars.iter().map(Span::text)),
                Literal::SomeIn { key, value, .. } => {
                    variables(value, &mut names);
                    if let Some(key) = key {
                        variables(key, &mut names);
                    }
                }
                Literal::Every { key, value, .. } => {
                    names.insert(value.text());
                    names.extend(key.as_ref().map(Span::text));
                }
                Literal::Expr { .. } | Literal::NotExpr { .. } => {}
            },
            Node::Expr(Expr::AssignExpr {
                op: regorus::unstable::AssignOp::ColEq,
                lhs,
                ..
            }) => {
                variables(lhs, &mut names);
            }
            _ => {}
        }
    }
    names
}

fn variables<'a>(expr: &'a Expr, names: &mut BTreeSet<&'a str>) {
    for (_, node) in Walk::of(expr) {
        if let Node::Expr(Expr::Var { span, .. }) = node {
            names.insert(span.text());
        }
    }
}

/// The imports of a module: the name it is known by here, and what it stands for.
pub(super) fn imports(module: &Module) -> Vec<(&str, Vec<&str>)> {
    module
        .imports
        .iter()
        .filter_map(|import| {
            let (names, _) = path(&import.refr)?;
            let alias = import
                .r#as
                .as_ref()
                .map_or_else(|| names.last().copied(), |alias| Some(alias.text()))?;
            Some((alias, names))
        })
        .collect()
}

/// A path with its import put in.
pub(super) fn resolved<'a>(names: &[&'a str], imports: &[(&'a str, Vec<&'a str>)]) -> Vec<&'a str> {
    let target = names
        .first()
        .and_then(|first| imports.iter().find(|(alias, _)| alias == first));
    match target {
        Some((_, target)) => target.iter().chain(&names[1..]).copied().collect(),
        None => names.to_vec(),
    }
}
