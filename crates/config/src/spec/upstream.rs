//! `to`: one URL or several, with weights (spec config.md 9.2).

use super::go_url::{self, GoUrl};
use super::node::{Node, Value};
use super::scalar;
use crate::diagnostic::Place;

/// One endpoint, checked in form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// As written, without the weight.
    pub text: String,
    /// Parts.
    pub url: GoUrl,
    /// Weight, if weights are used.
    pub weight: Option<u32>,
    /// Where.
    pub place: Place,
}

/// A mistake in one of the items.
pub(super) type Mistake = (Place, String, String);

/// Reads all items; every mistake is reported.
pub(super) fn parse(node: &Node) -> Result<Vec<Upstream>, Vec<Mistake>> {
    let items = match &node.value {
        Value::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    let mut upstreams = Vec::with_capacity(items.len());
    let mut mistakes = Vec::new();
    for item in items {
        let text = scalar::text(item).map_err(|message| (item.place, message, String::new()));
        match text.and_then(|text| one(&text, item.place)) {
            Ok(upstream) => upstreams.push(upstream),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    if items.is_empty() {
        let help = "name at least one upstream, for instance `to: http://127.0.0.1:8080`";
        mistakes.push((node.place, "url list is empty".into(), help.into()));
    }
    let weighted = upstreams
        .iter()
        .filter(|upstream| upstream.weight.is_some())
        .count();
    if mistakes.is_empty() && weighted != 0 && weighted != upstreams.len() {
        let message =
            "either no weights should be provided, or all endpoints must have non-zero weight specified";
        mistakes.push((
            node.place,
            message.into(),
            "write `URL,weight` for each, or for none".into(),
        ));
    }
    if mistakes.is_empty() {
        Ok(upstreams)
    } else {
        Err(mistakes)
    }
}

fn one(text: &str, place: Place) -> Result<Upstream, Mistake> {
    let (address, weight) = match text.split_once(',') {
        Some((address, weight)) => (address, Some(parse_weight(weight, place)?)),
        None => (text, None),
    };
    let url = go_url::require(address).map_err(|message| {
        let message = if message.ends_with("valid hostname") {
            format!("{message}: endpoint hostname must be specified")
        } else {
            message
        };
        (
            place,
            message,
            "write scheme and host, for instance `http://app.internal:8080`".into(),
        )
    })?;
    Ok(Upstream {
        text: address.to_owned(),
        url,
        weight,
        place,
    })
}

fn parse_weight(text: &str, place: Place) -> Result<u32, Mistake> {
    match text.parse::<u32>() {
        Ok(0) => {
            let help = "leave the endpoint out, or give it a weight of at least 1";
            Err((
                place,
                "zero load balancing weight not permitted".into(),
                help.into(),
            ))
        }
        Ok(weight) => Ok(weight),
        Err(_) => {
            let message = format!("weight \"{text}\": invalid syntax, a whole number is expected");
            let help = "several upstreams are a list: `to: [http://a, http://b]`";
            Err((place, message, help.into()))
        }
    }
}
