//! `not f(input.x)` when there is no `input.x`: in the language what a call is given is looked up before the
//! negation, so that nothing there means that the body does not hold; the engine takes it for *the call does not hold*,
//! so that the negation does. An `allow` would let in whoever it knows nothing about. So what is given to a negated call
//! gets a statement of its own before it, as the compiler of the original does.

use std::ops::Range;

use regorus::unstable::{AssignOp, BoolOp, Expr, Literal, LiteralStmt, Module, Span};

use super::keywords::RESERVED;
use super::syntax::{Node, Walk};

/// The text with the innermost of such statements written anew; `None` when there are none.
pub(super) fn rewritten(module: &Module, text: &str, count: &mut usize) -> Option<String> {
    let mut edits: Vec<(Range<usize>, String)> = Vec::new();
    for rule in &module.policy {
        for (_, node) in Walk::rule(rule) {
            let Node::Statement(statement) = node else {
                continue;
            };
            let given = given(statement);
            let inner = given.iter().flat_map(|expr| Walk::of(expr));
            let later = inner
                .into_iter()
                .any(|(_, node)| matches!(node, Node::Statement(inner) if !self::given(inner).is_empty()));
            if !given.is_empty() && !later {
                rewrite(statement, &given, text, count, &mut edits);
            }
        }
    }
    if edits.is_empty() {
        return None;
    }
    edits.sort_by_key(|(range, _)| (range.start, range.end));
    let mut out = String::with_capacity(text.len() + 64 * edits.len());
    let mut at = 0;
    for (range, new) in edits {
        out.push_str(text.get(at..range.start)?);
        out.push_str(&new);
        at = range.end;
    }
    out.push_str(text.get(at..)?);
    Some(out)
}

fn rewrite(
    statement: &LiteralStmt,
    given: &[&Expr],
    text: &str,
    count: &mut usize,
    edits: &mut Vec<(Range<usize>, String)>,
) {
    let with = match (statement.with_mods.first(), statement.with_mods.last()) {
        (Some(first), Some(last)) => {
            let range = range(&first.span, text).start..range(last.r#as.span(), text).end;
            format!(" {}", text.get(range).unwrap_or(""))
        }
        _ => String::new(),
    };
    let start = range(&statement.span, text).start;
    // A body without braces holds one statement only.
    let bare = text.get(..start).unwrap_or("").trim_end().ends_with("if");
    let mut before = String::from(if bare { "{ " } else { "" });
    for expr in given {
        *count += 1;
        let name = format!("{RESERVED}{count}");
        let range = range(expr.span(), text);
        let source = text.get(range.clone()).unwrap_or("");
        before.push_str(&format!("{name} := {source}{with}; "));
        edits.push((range, name));
    }
    edits.push((start..start, before));
    if bare {
        let end = statement.with_mods.last().map_or_else(
            || range(&statement.span, text).end,
            |with| range(with.r#as.span(), text).end,
        );
        edits.push((end..end, " }".to_owned()));
    }
}

/// What is given to a negated call and has to be there.
fn given(statement: &LiteralStmt) -> Vec<&Expr> {
    let Literal::NotExpr { expr, .. } = &statement.literal else {
        return Vec::new();
    };
    match expr.as_ref() {
        Expr::Call { params, .. } => params
            .iter()
            .map(AsRef::as_ref)
            .filter(|expr| can_lack(expr))
            .collect(),
        // Of an equation only what is computed comes first; a missing side makes it not hold.
        Expr::BoolExpr {
            op: BoolOp::Eq,
            lhs,
            rhs,
            ..
        }
        | Expr::AssignExpr {
            op: AssignOp::Eq,
            lhs,
            rhs,
            ..
        } => [lhs, rhs]
            .into_iter()
            .map(AsRef::as_ref)
            .filter(|expr| is_computed(expr))
            .collect(),
        Expr::BoolExpr { lhs, rhs, .. }
        | Expr::ArithExpr { lhs, rhs, .. }
        | Expr::BinExpr { lhs, rhs, .. } => [lhs, rhs]
            .into_iter()
            .map(AsRef::as_ref)
            .filter(|expr| can_lack(expr))
            .collect(),
        Expr::Membership {
            key,
            value,
            collection,
            ..
        } => {
            let parts = key.iter().chain([value, collection]);
            parts.map(AsRef::as_ref).filter(|expr| can_lack(expr)).collect()
        }
        Expr::UnaryExpr { expr, .. } if can_lack(expr) => vec![expr.as_ref()],
        _ => Vec::new(),
    }
}

fn can_lack(expr: &Expr) -> bool {
    match expr {
        Expr::Var { span, .. } => !span.text().starts_with(RESERVED),
        Expr::ArrayCompr { .. } | Expr::SetCompr { .. } | Expr::ObjectCompr { .. } => false,
        _ => Walk::of(expr).any(|(_, node)| refers(node)),
    }
}

fn refers(node: Node<'_>) -> bool {
    matches!(
        node,
        Node::Expr(Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. } | Expr::Call { .. })
    )
}

fn is_computed(expr: &Expr) -> bool {
    !matches!(
        expr,
        Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. }
    ) && can_lack(expr)
}

/// Where an expression stands. The engine leaves out the quotes around texts.
fn range(span: &Span, text: &str) -> Range<usize> {
    let at = |position: u32| usize::try_from(position).unwrap_or(usize::MAX).min(text.len());
    let quote = |position: usize| matches!(text.as_bytes().get(position), Some(b'"' | b'`'));
    let (mut start, mut end) = (at(span.start), at(span.end));
    if start > 0 && quote(start - 1) {
        start -= 1;
    }
    if quote(end) {
        end += 1;
    }
    start..end
}
