//! Who asks the device, and for whom: the domain that its key belongs to, the page that asks, the person.

use std::net::IpAddr;

use uuid::Uuid;

use crate::options::host_of;

/// Namespace of the ids that devices know people by (spec authentication.md 16.2).
const PEOPLE: Uuid = Uuid::from_u128(0x2929_d3f7_f0b0_478f_9dd5_970d_51eb_3859);

/// The page that asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Party {
    /// The domain that keys belong to: the registrable one, so that a device serves every route below it.
    pub(crate) id: String,
    /// Where the page is. Nothing but this page asks for its answer, so no other origin is accepted, not even one
    /// of the same domain: what lives on another host there need not be ours.
    pub(crate) origin: String,
}

impl Party {
    /// The page at `authority`, `host[:port]`.
    pub(crate) fn at(authority: &str) -> Self {
        let authority = authority.strip_suffix(":443").unwrap_or(authority);
        Self {
            id: registrable(host_of(authority)).to_owned(),
            origin: format!("https://{authority}"),
        }
    }
}

/// The domain somebody can register, by the public suffix list; the host itself where there is none.
fn registrable(host: &str) -> &str {
    if host.parse::<IpAddr>().is_ok() {
        return host;
    }
    psl::domain_str(host).unwrap_or(host)
}

/// What devices know a person by: no name, no address, the same on every host.
pub(crate) fn person_id(user_id: &str) -> [u8; 16] {
    Uuid::new_v5(&PEOPLE, user_id.as_bytes()).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_belong_to_the_domain_somebody_can_register() {
        for (authority, id, origin) in [
            ("app.example.com", "example.com", "https://app.example.com"),
            ("a.b.example.com:443", "example.com", "https://a.b.example.com"),
            (
                "app.example.com:8443",
                "example.com",
                "https://app.example.com:8443",
            ),
            ("example.com", "example.com", "https://example.com"),
            ("app.example.co.uk", "example.co.uk", "https://app.example.co.uk"),
            ("team.github.io", "team.github.io", "https://team.github.io"),
            (
                "wiki.corp.internal",
                "corp.internal",
                "https://wiki.corp.internal",
            ),
            ("localhost", "localhost", "https://localhost"),
            ("192.0.2.1:8443", "192.0.2.1", "https://192.0.2.1:8443"),
            ("[2001:db8::1]", "2001:db8::1", "https://[2001:db8::1]"),
        ] {
            let party = Party::at(authority);
            assert_eq!((party.id.as_str(), party.origin.as_str()), (id, origin));
        }
        for suffix in ["co.uk", "com", "github.io"] {
            assert_eq!(Party::at(suffix).id, suffix, "nobody can register it");
        }
    }

    /// A value of the reference implementation.
    #[test]
    fn people_have_the_ids_that_existing_records_name() {
        assert_eq!(
            Uuid::from_bytes(person_id("user1")).to_string(),
            "13897ebc-5db3-56bc-bc6f-d479137ca5c3"
        );
    }
}
