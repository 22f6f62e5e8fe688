//! Keys as people write them: lines of `authorized_keys`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::key::PublicKey;

/// Why a text is no public key. Tells what to do; never repeats the text, which may be a private key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyProblem {
    /// Nothing there.
    #[error("it holds no key: give a line such as `ssh-ed25519 AAAA…`")]
    Empty,
    /// A private key.
    #[error("this is a private key: remove it from the policy, and give the line of its `.pub` file")]
    Private,
    /// Another text form.
    #[error("this is a key in another form: give its line as `ssh-keygen -i -f FILE` prints it")]
    OtherForm,
    /// Not the form of a line.
    #[error("it is not of the form `ssh-ed25519 AAAA… comment`")]
    NotALine,
    /// Broken base64.
    #[error("the part after the key type is not base64: was it cut off or wrapped?")]
    NotBase64,
    /// The key itself is odd.
    #[error("the key is broken, or of a type that is not accepted (RSA, ECDSA and Ed25519 are)")]
    NotAKey,
    /// Two types.
    #[error("the key type at the start is not the type of the key")]
    OtherType,
}

impl PublicKey {
    /// Reads the first key of a text in the form of `authorized_keys`; its options and comment do not count, nor do
    /// empty lines and comments before it.
    ///
    /// Errors with what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, KeyProblem> {
        if text.contains("PRIVATE KEY-----") {
            return Err(KeyProblem::Private);
        }
        let mut lines = text.lines().map(str::trim);
        let line = lines
            .find(|line| !line.is_empty() && !line.starts_with('#'))
            .ok_or(KeyProblem::Empty)?;
        if line.starts_with("----") {
            return Err(KeyProblem::OtherForm);
        }
        let (kind, blob) = split(line).ok_or(KeyProblem::NotALine)?;
        let blob = STANDARD.decode(blob).map_err(|_| KeyProblem::NotBase64)?;
        let key = PublicKey::from_wire(&blob).ok_or(KeyProblem::NotAKey)?;
        if key.kind() == kind {
            Ok(key)
        } else {
            Err(KeyProblem::OtherType)
        }
    }
}

/// Type and base64 of a line, behind options if there are some.
fn split(line: &str) -> Option<(&str, &str)> {
    let first = line.split([' ', '\t']).next()?;
    let line = if looks_like_kind(first) {
        line
    } else {
        after_options(line)?
    };
    let (kind, rest) = line.split_once([' ', '\t'])?;
    let blob = rest.trim_start().split([' ', '\t']).next()?;
    (looks_like_kind(kind) && !blob.is_empty()).then_some((kind, blob))
}

fn looks_like_kind(word: &str) -> bool {
    ["ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-"]
        .iter()
        .any(|start| word.starts_with(start))
        && !word.contains(['=', '"', ','])
}

/// What follows the first blank outside of quotes.
fn after_options(line: &str) -> Option<&str> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, letter) in line.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ' ' | '\t' if !quoted => return Some(line[at..].trim_start()),
            _ => {}
        }
    }
    None
}
