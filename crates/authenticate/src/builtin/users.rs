//! The people the built-in provider knows: looked up by e-mail, checked against an Argon2id hash.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use pomerium_config::settings::{LocalUser, Secret};
use pomerium_crypto::{ct, encoding, password};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use uuid::Uuid;

/// Namespace of user ids: a person keeps the id over restarts and machines, as long as the e-mail stays.
const SUBJECTS: Uuid = Uuid::from_u128(0x5b3c_1f0e_9a57_4d0c_8e4b_3f1d_7c52_90aa);

/// A person.
#[derive(Debug)]
pub struct User {
    /// Stable id.
    pub subject: String,
    /// E-mail, lower case.
    pub email: String,
    /// Display name.
    pub name: String,
    /// Group names.
    pub groups: Vec<String>,
    /// Changes with the password, so that what was signed in with the old one ends.
    pub fingerprint: String,
    hash: Secret,
}

/// All users, for one version of the settings.
#[derive(Debug, Default)]
pub struct Users {
    by_email: HashMap<String, Arc<User>>,
    stand_ins: Vec<Secret>,
    seed: RandomState,
}

/// The hash a password is tried against; that of somebody else when the user is not known.
#[derive(Debug, Clone)]
pub struct Candidate {
    hash: Secret,
    known: bool,
}

impl Users {
    /// Takes the users of the settings.
    pub fn new(users: &[LocalUser]) -> Self {
        let all: Vec<User> = users.iter().map(User::new).collect();
        let stand_ins = all.iter().map(|user| user.hash.clone()).collect();
        let by_email = all
            .into_iter()
            .map(|user| (user.email.clone(), Arc::new(user)))
            .collect();
        Self {
            by_email,
            stand_ins,
            seed: RandomState::new(),
        }
    }

    /// What to try a password against. Hashes may differ in cost; so that the time does not tell who exists,
    /// an unknown name always meets the same one of the real hashes, which no password opens for it.
    pub fn candidate(&self, name: &str) -> Candidate {
        if let Some(user) = self.find(name) {
            return Candidate {
                hash: user.hash.clone(),
                known: true,
            };
        }
        #[allow(clippy::cast_possible_truncation, reason = "an index")]
        let pick = self.seed.hash_one(canonical_name(name)) as usize % self.stand_ins.len().max(1);
        let hash = self.stand_ins.get(pick).cloned();
        Candidate {
            hash: hash.unwrap_or_else(|| Secret::new(password::DUMMY.as_bytes())),
            known: false,
        }
    }

    /// The user with this login name, in whatever case it was typed.
    pub fn find(&self, name: &str) -> Option<Arc<User>> {
        self.by_email.get(&canonical_name(name)).cloned()
    }
}

impl User {
    fn new(user: &LocalUser) -> Self {
        let email = canonical_name(&user.email);
        let hash = user.password_hash.clone();
        Self {
            subject: Uuid::new_v5(&SUBJECTS, email.as_bytes()).to_string(),
            name: user.name.clone(),
            groups: user.groups.clone(),
            fingerprint: encoding::base64url_encode(&Sha256::digest(hash.expose())[..12]),
            email,
            hash,
        }
    }

    /// Whether `fingerprint` was taken while the present password was set.
    pub fn has_fingerprint(&self, fingerprint: &str) -> bool {
        ct::eq(self.fingerprint.as_bytes(), fingerprint.as_bytes())
    }
}

/// One subject, one key: limits and look-ups see a name only in this form.
pub fn canonical_name(name: &str) -> String {
    name.trim().to_lowercase()
}

/// Why a password could not be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// More sign-ins wait than are let wait.
    #[error("too many sign-ins at once")]
    Busy,
}

/// Checks passwords away from the request threads, few at a time: each check takes 19 MiB and a core.
#[derive(Debug)]
pub struct PasswordChecker {
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl PasswordChecker {
    /// `parallel` checks at once, `queue` in all.
    pub fn new(parallel: usize, queue: usize) -> Self {
        Self {
            running: Arc::new(Semaphore::new(parallel)),
            waiting: Arc::new(Semaphore::new(queue)),
        }
    }

    /// Whether `password` opens `candidate`.
    pub async fn check(&self, candidate: Candidate, password: String) -> Result<bool, CheckError> {
        self.run(move || {
            let hash = String::from_utf8_lossy(candidate.hash.expose());
            let fits = password::verify(&hash, &password);
            fits && candidate.known
        })
        .await
    }

    /// Place and turn go with the work: a client that hangs up gives neither back before the work is done.
    async fn run(&self, work: impl FnOnce() -> bool + Send + 'static) -> Result<bool, CheckError> {
        let place = self.waiting.clone().try_acquire_owned();
        let place = place.map_err(|_| CheckError::Busy)?;
        let turn = self.running.clone().acquire_owned().await;
        let turn = turn.map_err(|_| CheckError::Busy)?;
        let checked = tokio::task::spawn_blocking(move || {
            let _held = (place, turn);
            work()
        });
        // A panic in the hash code is a "no", never a "yes".
        Ok(checked.await.unwrap_or(false))
    }
}

impl Default for PasswordChecker {
    fn default() -> Self {
        Self::new(2, 64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(email: &str, password: &str) -> LocalUser {
        LocalUser {
            email: email.into(),
            name: "A User".into(),
            groups: vec!["staff".into()],
            password_hash: Secret::new(password::hash(password).unwrap().into_bytes()),
        }
    }

    #[tokio::test]
    async fn only_the_right_password_of_a_known_user_is_right() {
        let users = Users::new(&[user("user@example.com", "correct horse")]);
        let checker = PasswordChecker::default();
        let check =
            async |name: &str, password: &str| checker.check(users.candidate(name), password.into()).await;
        assert!(users.find(" User@Example.com ").is_some());
        assert_eq!(check(" User@Example.com ", "correct horse").await, Ok(true));
        assert_eq!(check("user@example.com", "Correct horse").await, Ok(false));
        assert_eq!(
            check("user@example.com", &"x".repeat(password::MAX_PASSWORD + 1)).await,
            Ok(false)
        );
        assert_eq!(
            check("other@example.com", "correct horse").await,
            Ok(false),
            "meets the hash of the user"
        );
    }

    #[tokio::test]
    async fn a_full_queue_says_so() {
        let checker = PasswordChecker::new(1, 0);
        assert_eq!(
            checker.check(Users::default().candidate("a"), "x".into()).await,
            Err(CheckError::Busy)
        );
    }

    #[tokio::test]
    async fn who_hangs_up_does_not_make_room_for_more() {
        let checker = PasswordChecker::new(1, 1);
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let mut first = Box::pin(checker.run(move || wait.recv().is_err()));
        assert!(futures_util::poll!(&mut first).is_pending());
        drop(first);
        assert_eq!(checker.run(|| true).await, Err(CheckError::Busy));
        drop(done);
        let _turn = checker.running.acquire().await.unwrap();
        assert_eq!(checker.waiting.available_permits(), 1);
    }

    #[test]
    fn unknown_names_meet_a_hash_as_dear_as_the_real_ones() {
        let users = Users::new(&[user("user@example.com", "one"), user("admin@example.com", "two")]);
        let unknown = users.candidate("nobody@example.com");
        assert!(!unknown.known && users.stand_ins.contains(&unknown.hash));
        assert_eq!(
            unknown.hash,
            users.candidate("Nobody@example.com").hash,
            "always the same one"
        );
        assert_eq!(
            Users::default().candidate("nobody@example.com").hash.expose(),
            password::DUMMY.as_bytes()
        );
    }

    #[test]
    fn subjects_follow_the_email_and_fingerprints_the_password() {
        let one = User::new(&user("user@example.com", "one"));
        let two = User::new(&user("User@Example.com", "two"));
        assert_eq!(one.subject, two.subject);
        assert!(!one.has_fingerprint(&two.fingerprint));
        assert!(one.has_fingerprint(&one.fingerprint));
    }
}
