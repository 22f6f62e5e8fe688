//! `to`: one URL or several, with weights (spec config.md 9.2).

use std::num::{IntErrorKind, ParseIntError};

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
    let url = endpoint(address).map_err(|message| {
        let help = "write scheme and host, for instance `http://app.internal:8080`";
        (place, message, help.into())
    })?;
    Ok(Upstream {
        text: address.to_owned(),
        url,
        weight,
        place,
    })
}

/// A URL whose host has a name, where its scheme asks for one: `http://:8080` has only a port.
fn endpoint(address: &str) -> Result<GoUrl, String> {
    const NO_NAME: &str = "endpoint hostname must be specified";
    let url = go_url::require(address).map_err(|message| match message.ends_with("valid hostname") {
        true => format!("{message}: {NO_NAME}"),
        false => message,
    })?;
    if url.hostname().is_empty() && !go_url::is_socket(&url.scheme) {
        return Err(format!("{address}: {NO_NAME}"));
    }
    Ok(url)
}

fn parse_weight(text: &str, place: Place) -> Result<u32, Mistake> {
    // A sign is no part of a number here.
    let number = match text.starts_with('+') {
        true => Err("invalid syntax"),
        false => text.parse::<u32>().map_err(|error| reason(&error)),
    };
    match number {
        Ok(0) => {
            let help = "leave the endpoint out, or give it a weight of at least 1";
            Err((
                place,
                "zero load balancing weight not permitted".into(),
                help.into(),
            ))
        }
        Ok(weight) => Ok(weight),
        Err(reason) => {
            let message = format!("weight: strconv.ParseUint: parsing \"{text}\": {reason}");
            let help = "a weight is a whole number; several upstreams are a list: `to: [http://a, http://b]`";
            Err((place, message, help.into()))
        }
    }
}

/// As the original says it.
fn reason(error: &ParseIntError) -> &'static str {
    match error.kind() {
        IntErrorKind::PosOverflow => "value out of range",
        _ => "invalid syntax",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake(text: &str) -> String {
        one(text, Place::default()).unwrap_err().1
    }

    #[test]
    fn a_port_is_no_host() {
        for text in ["http://:8080", "https://", "h2c://:80/path", "localhost:80"] {
            assert!(
                mistake(text).ends_with("endpoint hostname must be specified"),
                "{text}"
            );
        }
        for text in [
            "unix:///run/app.sock",
            "https+unix:///run/app.sock",
            "http://[::1]:80",
        ] {
            assert!(one(text, Place::default()).is_ok(), "{text}");
        }
    }

    #[test]
    fn weights_are_refused_in_the_words_of_the_original() {
        for text in ["abc", "", "-1", "+1", "1.5", " 1"] {
            let expected = format!("weight: strconv.ParseUint: parsing \"{text}\": invalid syntax");
            assert_eq!(mistake(&format!("http://a.example.com,{text}")), expected);
        }
        assert!(mistake("http://a.example.com,4294967296").ends_with("\"4294967296\": value out of range"));
        assert!(mistake("http://a.example.com,0").starts_with("zero load balancing weight"));
    }
}
