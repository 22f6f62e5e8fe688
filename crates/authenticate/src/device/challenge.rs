//! What a device signs: a value that only we can make, for one session, host, device type and act, for a quarter
//! of an hour (spec authentication.md 16.2). Nothing is kept until it comes back.
//!
//! It has the layout of every secure token; its key is made for what it is bound to, so that a challenge of another
//! session, or the token of an enrollment link, is simply not one of ours here.

use pomerium_crypto::secure_token::{self, TokenError};
use pomerium_crypto::{kdf, mac};

use super::LIFETIME;

/// What the device is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// Make a key.
    Register,
    /// Use a key it has.
    Authenticate,
}

/// What a challenge is good for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Binding<'a> {
    pub(crate) act: Act,
    pub(crate) session_id: &'a str,
    /// `host[:port]` of the page.
    pub(crate) authority: &'a str,
    /// Device type.
    pub(crate) type_id: &'a str,
}

impl Binding<'_> {
    /// Lengths stand in front, so that no two bindings run together.
    fn key(&self, shared: &[u8; 32]) -> [u8; 32] {
        let own = kdf::derive(shared, "pomerium device: challenge");
        let act = match self.act {
            Act::Register => "register",
            Act::Authenticate => "authenticate",
        };
        let mut message = Vec::new();
        for part in [act, self.session_id, self.authority, self.type_id] {
            message.extend_from_slice(&(part.len() as u64).to_be_bytes());
            message.extend_from_slice(part.as_bytes());
        }
        mac::hmac_sha256(&own, &message)
    }

    /// A new challenge.
    pub(crate) fn challenge(&self, shared: &[u8; 32], random: &[u8; 16], now_ms: i64) -> Vec<u8> {
        secure_token::seal(&self.key(shared), random, now_ms + LIFETIME * 1000).to_vec()
    }

    /// Checks a challenge that came back.
    pub(crate) fn check(&self, shared: &[u8; 32], challenge: &[u8], now_ms: i64) -> Result<(), TokenError> {
        secure_token::open(&self.key(shared), challenge, now_ms).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARED: [u8; 32] = [7; 32];
    const BINDING: Binding<'static> = Binding {
        act: Act::Register,
        session_id: "session-1",
        authority: "app.example.com",
        type_id: "any",
    };

    #[test]
    fn a_challenge_is_good_for_what_it_was_made_for_and_no_longer_than_its_life() {
        let challenge = BINDING.challenge(&SHARED, &[1; 16], 5_000);
        let end = 5_000 + LIFETIME * 1000;
        assert_eq!(BINDING.check(&SHARED, &challenge, end), Ok(()));
        assert_eq!(
            BINDING.check(&SHARED, &challenge, end + 1),
            Err(TokenError::Expired)
        );
        let others = [
            Binding {
                act: Act::Authenticate,
                ..BINDING
            },
            Binding {
                session_id: "session-2",
                ..BINDING
            },
            Binding {
                authority: "app.example.com:8443",
                ..BINDING
            },
            Binding {
                type_id: "enclave_only",
                ..BINDING
            },
            Binding {
                session_id: "session-1app",
                authority: ".example.com",
                ..BINDING
            },
        ];
        for other in others {
            assert_eq!(
                other.check(&SHARED, &challenge, 5_000),
                Err(TokenError::Mismatch),
                "{other:?}"
            );
        }
        assert_eq!(
            BINDING.check(&[8; 32], &challenge, 5_000),
            Err(TokenError::Mismatch)
        );
        let mut changed = challenge;
        changed[20] ^= 1;
        assert_eq!(BINDING.check(&SHARED, &changed, 5_000), Err(TokenError::Mismatch));
        let link = secure_token::seal(&SHARED, &[1; 16], end);
        assert_eq!(
            BINDING.check(&SHARED, &link, 5_000),
            Err(TokenError::Mismatch),
            "an enrollment link"
        );
    }
}
