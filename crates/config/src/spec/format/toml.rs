//! TOML with positions.

use ::toml::Spanned;
use ::toml::de::{DeTable, DeValue};

use super::super::node::{Entry, Node, Value};
use super::{SyntaxError, at, at_offset};
use crate::diagnostic::Place;

/// Reads a document.
pub(super) fn parse(text: &str) -> Result<Node, SyntaxError> {
    let table = DeTable::parse(text).map_err(|error| {
        let place = error
            .span()
            .map_or_else(|| at(1, 1), |span| at_offset(text, span.start));
        SyntaxError::new(place, error.message().to_owned())
    })?;
    let lines = Lines::new(text);
    let entries = map(table.get_ref(), &lines)?;
    Ok(Node::new(Value::Map(entries), at(1, 1)))
}

/// Byte offsets at which lines begin.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Self {
        let starts = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        Self { text, starts }
    }

    fn place(&self, offset: usize) -> Place {
        let line = self.starts.partition_point(|&start| start <= offset).max(1);
        let start = self.starts[line - 1];
        at(
            line,
            self.text
                .get(start..offset)
                .map_or(0, |text| text.chars().count())
                + 1,
        )
    }
}

fn map(table: &DeTable<'_>, lines: &Lines<'_>) -> Result<Vec<Entry>, SyntaxError> {
    table
        .iter()
        .map(|(key, value)| {
            let place = lines.place(key.span().start);
            Ok(Entry {
                key: key.get_ref().to_string(),
                place,
                node: node(value, lines)?,
            })
        })
        .collect()
}

fn node(value: &Spanned<DeValue<'_>>, lines: &Lines<'_>) -> Result<Node, SyntaxError> {
    let place = lines.place(value.span().start);
    let out_of_range = || SyntaxError::new(place, "this number does not fit in 64 bits");
    let value = match value.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => Value::Int(
            i64::from_str_radix(number.as_str(), number.radix())
                .map_err(|_| out_of_range())?
                .into(),
        ),
        DeValue::Float(number) => Value::Float(number.as_str().parse().map_err(|_| out_of_range())?),
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Datetime(time) => Value::Text(time.to_string()),
        DeValue::Array(items) => Value::List(
            items
                .iter()
                .map(|item| node(item, lines))
                .collect::<Result<_, _>>()?,
        ),
        DeValue::Table(table) => Value::Map(map(table, lines)?),
    };
    Ok(Node::new(value, place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_positions_and_values() {
        let tree = parse("address = ':8445'\nx = 0x1f\n[[routes]]\nfrom = 'https://a'\n").unwrap();
        assert_eq!(tree.get("x").unwrap().value, Value::Int(31));
        let Value::List(routes) = &tree.get("routes").unwrap().value else {
            panic!()
        };
        let from = routes[0].get("from").unwrap();
        assert_eq!((from.place.line, from.place.column), (4, 8));
    }

    #[test]
    fn broken_text_names_its_line() {
        assert_eq!(parse("a = 1\nb = \n").unwrap_err().place.line, 2);
    }
}
