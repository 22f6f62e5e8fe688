//! What Envoy asks (`CheckRequest`), borrowed from the bytes that came: a check is judged in less time than building its
//! message would take. As everywhere in protocol buffers the last of several values counts, and parts of a message that come
//! twice are put together.

use smallvec::SmallVec;

use super::wire::{Malformed, Reader, Value};

/// A question about an HTTP request.
#[derive(Debug, Default)]
pub(super) struct Question<'a> {
    /// Where the request comes from; absent when nothing is said about it.
    pub(super) source: Option<Source<'a>>,
    /// The request; absent when it is about something else.
    pub(super) http: Option<Http<'a>>,
    /// What the route of the proxy says besides.
    pub(super) extensions: SmallVec<[Field<'a>; 4]>,
}

/// Where a request comes from.
#[derive(Debug, Default)]
pub(super) struct Source<'a> {
    /// The address, as text; absent for anything that is no socket.
    pub(super) address: Option<&'a str>,
    /// PEM, percent-encoded.
    pub(super) certificate: &'a str,
}

/// A request.
#[derive(Debug, Default)]
pub(super) struct Http<'a> {
    pub(super) method: &'a [u8],
    pub(super) path: &'a [u8],
    pub(super) host: &'a [u8],
    pub(super) scheme: &'a [u8],
    /// Pseudo-headers among them.
    pub(super) headers: Fields<'a>,
    /// In place of `headers`, for values that are no text.
    pub(super) mapped: Fields<'a>,
}

/// As many as a browser sends, without an allocation.
pub(super) type Fields<'a> = SmallVec<[Field<'a>; 24]>;

/// A name and a value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Field<'a> {
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
}

impl<'a> Question<'a> {
    /// Reads a message.
    pub(super) fn read(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut question = Self::default();
        each(message, |field, value| {
            if field == 1 {
                each(value.bytes()?, |field, value| question.attribute(field, value))?;
            }
            Ok(())
        })?;
        Ok(question)
    }

    fn attribute(&mut self, field: u32, value: Value<'a>) -> Result<(), Malformed> {
        match field {
            1 => {
                let source = self.source.get_or_insert_default();
                each(value.bytes()?, |field, value| source.part(field, value))
            }
            4 => each(value.bytes()?, |field, value| match field {
                2 => {
                    let http = self.http.get_or_insert_default();
                    each(value.bytes()?, |field, value| http.part(field, value))
                }
                _ => Ok(()),
            }),
            10 => {
                self.extensions.push(Field::read(value)?);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl<'a> Source<'a> {
    fn part(&mut self, field: u32, value: Value<'a>) -> Result<(), Malformed> {
        match field {
            1 => each(value.bytes()?, |field, value| match field {
                1 => {
                    self.address.get_or_insert_default();
                    each(value.bytes()?, |field, value| self.socket(field, value))
                }
                2 => {
                    self.address = None;
                    value.bytes().map(drop)
                }
                _ => Ok(()),
            }),
            5 => {
                self.certificate = value.text()?;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn socket(&mut self, field: u32, value: Value<'a>) -> Result<(), Malformed> {
        if field == 2 {
            self.address = Some(value.text()?);
        }
        Ok(())
    }
}

impl<'a> Http<'a> {
    fn part(&mut self, field: u32, value: Value<'a>) -> Result<(), Malformed> {
        match field {
            2 => self.method = value.bytes()?,
            3 => self.headers.push(Field::read(value)?),
            4 => self.path = value.bytes()?,
            5 => self.host = value.bytes()?,
            6 => self.scheme = value.bytes()?,
            13 => each(value.bytes()?, |field, value| {
                if field == 1 {
                    self.mapped.push(Field::raw(value)?);
                }
                Ok(())
            })?,
            _ => {}
        }
        Ok(())
    }
}

impl<'a> Field<'a> {
    /// An entry of a map.
    fn read(entry: Value<'a>) -> Result<Self, Malformed> {
        let mut read = Self::default();
        each(entry.bytes()?, |field, value| {
            match field {
                1 => read.key = value.bytes()?,
                2 => read.value = value.bytes()?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(read)
    }

    /// A header whose value may be no text, and then stands in another place.
    fn raw(header: Value<'a>) -> Result<Self, Malformed> {
        let (mut read, mut raw) = (Self::default(), &b""[..]);
        each(header.bytes()?, |field, value| {
            match field {
                1 => read.key = value.bytes()?,
                2 => read.value = value.bytes()?,
                3 => raw = value.bytes()?,
                _ => {}
            }
            Ok(())
        })?;
        if !raw.is_empty() {
            read.value = raw;
        }
        Ok(read)
    }
}

fn each<'a>(
    message: &'a [u8],
    mut visit: impl FnMut(u32, Value<'a>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let mut reader = Reader::new(message);
    while let Some((field, value)) = reader.next()? {
        visit(field, value)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use pomerium_api::pb::ext_authz::{self as pb, CheckRequest, address, attribute_context};
    use prost::Message as _;

    use super::*;

    fn entry(key: &'static str, value: &'static str) -> pb::Entry {
        pb::Entry {
            key: key.into(),
            value: value.into(),
        }
    }

    fn message(mapped: bool) -> CheckRequest {
        let socket = pb::SocketAddress {
            address: "192.0.2.7".into(),
            port_value: 50_000,
        };
        let header = |key: &'static str, value: &'static [u8], raw_value: &'static [u8]| pb::HeaderValue {
            key: key.into(),
            value: value.into(),
            raw_value: raw_value.into(),
        };
        let map = pb::HeaderMap {
            headers: vec![header("accept", b"*/*", b""), header("x-raw", b"", b"\xff")],
        };
        let http = attribute_context::HttpRequest {
            id: "1".into(),
            method: "GET".into(),
            headers: vec![
                entry(":method", "GET"),
                entry("accept", "*/*"),
                entry("cookie", "a=1"),
            ],
            path: "/a?b=c".into(),
            host: "app.example.com".into(),
            scheme: "https".into(),
            header_map: mapped.then_some(map),
        };
        CheckRequest {
            attributes: Some(pb::AttributeContext {
                source: Some(attribute_context::Peer {
                    address: Some(pb::Address {
                        address: Some(address::Address::SocketAddress(socket)),
                    }),
                    certificate: "-----BEGIN".into(),
                }),
                request: Some(attribute_context::Request { http: Some(http) }),
                context_extensions: vec![entry("route_id", "1"), entry("internal", "true")],
            }),
        }
    }

    fn fields<'a>(entries: impl IntoIterator<Item = &'a pb::Entry>) -> Vec<Field<'a>> {
        let fields = entries.into_iter().map(|entry| Field {
            key: &entry.key,
            value: &entry.value,
        });
        fields.collect()
    }

    /// Both say the same.
    fn agree(ours: &Question<'_>, theirs: &CheckRequest) -> bool {
        let Some(attributes) = &theirs.attributes else {
            return ours.source.is_none() && ours.http.is_none() && ours.extensions.is_empty();
        };
        let source = match (&ours.source, &attributes.source) {
            (Some(ours), Some(theirs)) => {
                let address = theirs
                    .address
                    .as_ref()
                    .and_then(|address| address.address.as_ref());
                let address = match address {
                    Some(address::Address::SocketAddress(socket)) => Some(socket.address.as_str()),
                    _ => None,
                };
                (ours.address, ours.certificate) == (address, theirs.certificate.as_str())
            }
            (ours, theirs) => ours.is_none() && theirs.is_none(),
        };
        let http = attributes
            .request
            .as_ref()
            .and_then(|request| request.http.as_ref());
        let http = match (&ours.http, http) {
            (Some(ours), Some(theirs)) => {
                let map = theirs.header_map.iter().flat_map(|map| &map.headers);
                let map = map.map(|header| Field {
                    key: &header.key,
                    value: if header.raw_value.is_empty() {
                        &header.value
                    } else {
                        &header.raw_value
                    },
                });
                (ours.method, ours.path) == (&*theirs.method, &*theirs.path)
                    && (ours.host, ours.scheme) == (&*theirs.host, &*theirs.scheme)
                    && ours.headers.to_vec() == fields(&theirs.headers)
                    && ours.mapped.to_vec() == map.collect::<Vec<_>>()
            }
            (ours, theirs) => ours.is_none() && theirs.is_none(),
        };
        source && http && ours.extensions.to_vec() == fields(&attributes.context_extensions)
    }

    #[test]
    fn it_reads_what_the_library_reads() {
        for mapped in [false, true] {
            let asked = message(mapped);
            let bytes = asked.encode_to_vec();
            assert!(agree(&Question::read(&bytes).unwrap(), &asked));
            // Said twice: lists grow, everything else is the last.
            let twice = [&bytes[..], &message(!mapped).encode_to_vec()].concat();
            let both = CheckRequest::decode(&*twice).unwrap();
            assert!(agree(&Question::read(&twice).unwrap(), &both));
        }
        assert!(agree(&Question::read(b"").unwrap(), &CheckRequest::default()));
    }

    /// Where a message is changed in any one bit, or cut short, it is refused or means what it means to the library.
    #[test]
    fn it_never_reads_anything_else() {
        let bytes = message(true).encode_to_vec();
        let mut read = 0;
        for length in 0..bytes.len() {
            let ours = Question::read(&bytes[..length]);
            let theirs = CheckRequest::decode(&bytes[..length]);
            assert_eq!(ours.is_ok(), theirs.is_ok(), "{length}");
        }
        for (place, bit) in (0..bytes.len()).flat_map(|place| (0..8).map(move |bit| (place, bit))) {
            let mut changed = bytes.clone();
            changed[place] ^= 1 << bit;
            if let Ok(ours) = Question::read(&changed) {
                // Parts that are not looked at may be no text.
                if let Ok(theirs) = CheckRequest::decode(&*changed) {
                    assert!(agree(&ours, &theirs), "{place} {bit}");
                    read += 1;
                }
            }
        }
        assert!(read > bytes.len());
    }
}
