//! The id of a route.

use std::fmt;
use std::ops::Deref;

use serde::{Serialize, Serializer};

/// The id of a route: 16 hex digits over from, matcher and action (spec config.md 9.3), or what a record says. Reads as
/// text. The digits stand in place, because there are thousands of routes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RouteId(Form);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Form {
    /// 16 characters of ASCII.
    Short([u8; LENGTH]),
    Long(Box<str>),
}

const LENGTH: usize = 16;

impl From<&str> for RouteId {
    /// One form for each text, so that equal texts are equal ids.
    fn from(text: &str) -> Self {
        match text.as_bytes().try_into() {
            Ok(bytes) if text.is_ascii() => Self(Form::Short(bytes)),
            _ => Self(Form::Long(text.into())),
        }
    }
}

impl Deref for RouteId {
    type Target = str;

    fn deref(&self) -> &str {
        match &self.0 {
            // It is ASCII.
            Form::Short(bytes) => str::from_utf8(bytes).unwrap_or_default(),
            Form::Long(text) => text,
        }
    }
}

impl fmt::Display for RouteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for RouteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl Serialize for RouteId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_as_what_it_was_made_from() {
        for text in ["0123456789abcdef", "", "r", "a longer one than that", "éééééééé"] {
            let id = RouteId::from(text);
            assert_eq!(&*id, text);
            assert_eq!(id.to_string(), text);
            assert_eq!(id, RouteId::from(text));
            assert_eq!(serde_json::to_value(&id).unwrap(), text);
        }
        assert_eq!(size_of::<RouteId>(), 24);
    }
}
