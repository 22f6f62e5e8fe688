//! Password hashes: Argon2id in PHC string form.
//!
//! One check takes about 19 MiB and some tens of milliseconds: callers limit how many run at once.

use argon2::password_hash::phc::{Output, PasswordHash};
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};

use crate::random;

/// Longest password looked at, in bytes.
pub const MAX_PASSWORD: usize = 1024;

/// Memory in KiB, passes, lanes (OWASP's smallest Argon2id setting: fits small machines).
const COST: (u32, u32, u32) = (19_456, 2, 1);
/// The most a stored hash may ask for: whoever writes the hash must not be able to exhaust the machine.
const COST_LIMIT: (u32, u32, u32) = (262_144, 10, 4);

/// A hash that no known password fits. Checking against it when the user is unknown takes the same time as
/// checking a real one, so that the time does not tell who exists.
pub const DUMMY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$DspSl04mN2SfR51Ag5HbTg$OScCEMcPll0Onqa+CuQByYqCxq+MCKpcV0bal3CXvDY";

/// Why a password cannot be hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// Empty.
    #[error("the password is empty")]
    Empty,
    /// Longer than [`MAX_PASSWORD`].
    #[error("the password is longer than {MAX_PASSWORD} bytes")]
    TooLong,
    /// The hash function refused; not expected.
    #[error("the password could not be hashed")]
    Failed,
}

/// Hashes a new password with a fresh salt.
///
/// # Errors
/// When it is empty or longer than [`MAX_PASSWORD`] bytes.
///
/// # Panics
/// When the operating system has no randomness; see [`random::bytes`].
pub fn hash(password: &str) -> Result<String, HashError> {
    match password.len() {
        0 => return Err(HashError::Empty),
        1..=MAX_PASSWORD => {}
        _ => return Err(HashError::TooLong),
    }
    let params = Params::new(COST.0, COST.1, COST.2, None).map_err(|_| HashError::Failed)?;
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_with_salt(password.as_bytes(), &random::bytes::<16>())
        .map(|hash| hash.to_string())
        .map_err(|_| HashError::Failed)
}

/// Whether `phc` is an Argon2id hash this build accepts: well-formed and within the cost limits
/// (256 MiB, 10 passes, 4 lanes).
#[must_use]
pub fn is_acceptable(phc: &str) -> bool {
    parse(phc).is_some()
}

/// Whether `password` is the one `phc` was made from. A hash that is malformed, of another kind or over the
/// cost limits fits nothing.
#[must_use]
pub fn verify(phc: &str, password: &str) -> bool {
    password.len() <= MAX_PASSWORD
        && parse(phc).is_some_and(|hash| {
            Argon2::default()
                .verify_password(password.as_bytes(), &hash)
                .is_ok()
        })
}

fn parse(phc: &str) -> Option<PasswordHash> {
    let hash = PasswordHash::new(phc).ok()?;
    let params = Params::try_from(&hash).ok()?;
    let fits =
        params.m_cost() <= COST_LIMIT.0 && params.t_cost() <= COST_LIMIT.1 && params.p_cost() <= COST_LIMIT.2;
    // Fewer than 16 bytes of output could be found by trying passwords that merely collide.
    let complete = hash.salt.is_some() && hash.hash.as_ref().map_or(0, Output::len) >= 16;
    let argon2id = hash.algorithm.as_str() == "argon2id" && hash.version == Some(0x13);
    (fits && complete && argon2id).then_some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fits_only_the_password_it_was_made_from() {
        let phc = hash("correct horse").unwrap();
        assert!(phc.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{phc}");
        assert!(verify(&phc, "correct horse"));
        assert!(!verify(&phc, "correct horse "));
        assert!(!verify(&phc, ""));
        assert_ne!(phc, hash("correct horse").unwrap(), "each has its own salt");
    }

    #[test]
    fn refuses_empty_and_endless_passwords() {
        assert_eq!(hash(""), Err(HashError::Empty));
        assert_eq!(hash(&"x".repeat(MAX_PASSWORD + 1)), Err(HashError::TooLong));
    }

    /// Made by OpenSSL's Argon2, through Python's `cryptography`.
    #[test]
    fn knows_hashes_made_elsewhere() {
        assert!(verify(
            "$argon2id$v=19$m=8192,t=2,p=1$GSMbefgkoT+7GkvbB8Br2A$erL9yM6UmvJJriKIPgL0Mi9SnTEQtTNkIpLdC0xS9FQ",
            "swordfish"
        ));
    }

    #[test]
    fn the_dummy_costs_what_a_real_one_costs_and_fits_nothing() {
        assert!(is_acceptable(DUMMY));
        assert!(DUMMY.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert!(!verify(DUMMY, "password"));
    }

    #[test]
    fn costs_kinds_and_shapes_are_limited() {
        let good = hash("p").unwrap();
        assert!(is_acceptable(&good));
        for (from, to) in [
            ("m=19456", "m=4194304"),
            ("t=2", "t=1000"),
            ("p=1", "p=64"),
            ("argon2id", "argon2i"),
            ("argon2id", "scrypt"),
            ("v=19", "v=16"),
        ] {
            assert!(!is_acceptable(&good.replacen(from, to, 1)), "{to}");
        }
        let no_output = good.rsplit_once('$').unwrap().0;
        assert!(!is_acceptable(no_output));
        assert!(!verify(no_output, "p"));
        assert!(!verify("", ""));
    }
}
