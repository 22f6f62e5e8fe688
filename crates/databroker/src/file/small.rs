//! What is not many, and kept in memory whole: options, leases, services.

use std::collections::BTreeMap;

use jiff::Timestamp;
use pomerium_api::databroker::Options;
use prost::Message;

use super::op::{self, GARBLED, Op};
use crate::apply::Lease;
use crate::store::Registered;

/// What is not many.
#[derive(Default, Clone)]
pub(super) struct Small {
    pub(super) options: BTreeMap<String, Options>,
    pub(super) leases: BTreeMap<String, Lease>,
    /// By kind and address: until when.
    pub(super) services: BTreeMap<(i32, String), Timestamp>,
}

impl Small {
    pub(super) fn registered(&self, after: Timestamp) -> Vec<Registered> {
        let known = self.services.iter().filter(|(_, expires)| **expires > after);
        known
            .map(|((kind, endpoint), expires)| Registered {
                kind: *kind,
                endpoint: endpoint.clone(),
                expires: *expires,
            })
            .collect()
    }

    /// As operations.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        for (record_type, options) in &self.options {
            op::options(out, record_type, Some(&options.encode_to_vec()));
        }
        for (name, lease) in &self.leases {
            op::lease(out, name, &lease.id, lease.expires);
        }
        for service in self.registered(Timestamp::MIN) {
            op::service(out, &service);
        }
    }

    /// Carries out an operation, if it is one of these.
    pub(super) fn step(&mut self, op: &Op<'_>) -> Result<(), &'static str> {
        match *op {
            Op::Options { record_type, value } => match value {
                Some(value) => {
                    let options = Options::decode(value).map_err(|_| GARBLED)?;
                    self.options.insert(record_type.to_owned(), options);
                }
                None => drop(self.options.remove(record_type)),
            },
            Op::Lease { name, id, expires } => {
                let (id, expires) = (id.to_owned(), time(expires));
                self.leases.insert(name.to_owned(), Lease { id, expires });
            }
            Op::Service {
                kind,
                endpoint,
                expires,
            } => {
                let key = (kind, endpoint.to_owned());
                match expires {
                    Some(expires) => drop(self.services.insert(key, time(expires))),
                    None => drop(self.services.remove(&key)),
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// From µs since 1970; what lies outside the calendar is the nearest time within it.
pub(super) fn time(micros: i64) -> Timestamp {
    let nearest = match micros.is_negative() {
        true => Timestamp::MIN,
        false => Timestamp::MAX,
    };
    Timestamp::from_microsecond(micros).unwrap_or(nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_the_calendar_come_back() {
        for end in [Timestamp::MIN, Timestamp::MAX] {
            assert_eq!(time(end.as_microsecond()).as_second(), end.as_second());
        }
        assert_eq!(time(i64::MAX), Timestamp::MAX);
        assert_eq!(time(i64::MIN), Timestamp::MIN);
        assert_eq!(time(1), Timestamp::from_microsecond(1).unwrap());
    }
}
