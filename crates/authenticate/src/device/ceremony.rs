//! What is checked of an answer (spec authentication.md 16.3). The cryptography is webauthn-rs-core's; our part is
//! which page and which challenge it was for, and what is done with statements that nobody here can check.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;
use webauthn_rs_core::WebauthnCore;
use webauthn_rs_core::error::WebauthnError;
use webauthn_rs_core::proto::{
    AttestationFormat, AttestationMetadata, AuthenticatorAssertionResponseRaw,
    AuthenticatorAttestationResponseRaw, Credential, ParsedAttestation, ParsedAttestationData,
    PublicKeyCredential, RegisterPublicKeyCredential, RegisteredExtensions,
};

use super::answer::Answer;
use super::kind::Kind;
use super::party::Party;
use super::{LIFETIME, cose};

/// Statements that the library cannot check: it leaves TPM statements undone, and the service behind the other is
/// gone. A key with one of them counts as one without a statement. Nothing is lost: no maker of devices is
/// trusted here more than another, and everybody may come without a statement.
const UNCHECKED: [&str; 2] = ["tpm", "android-safetynet"];

/// Byte and bit of the authenticator data that say whether a key may be copied to other devices.
const FLAGS: usize = 32;
const BACKUP_ELIGIBLE: u8 = 0b1000;

/// Why an answer is not accepted. For the log; a person reads less.
#[derive(Debug, thiserror::Error)]
pub enum CeremonyError {
    /// Another act, another page, or a page within a page.
    #[error("the answer is for another page: {0}")]
    OtherPage(&'static str),
    /// The browser says that the key is not in the device itself.
    #[error("the key is not of the wanted kind")]
    Attachment,
    /// The device names somebody else as owner.
    #[error("the key was made for somebody else")]
    OtherOwner,
    /// A key of a kind we do not keep, or a record that holds none.
    #[error("the public key cannot be used")]
    Key,
    /// It does not hold.
    #[error("{0}")]
    Refused(#[from] WebauthnError),
    /// The library no longer takes what we give it.
    #[error("the state of a ceremony cannot be made")]
    State,
}

/// A key that a device made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewKey {
    pub(crate) id: Vec<u8>,
    /// COSE.
    pub(crate) public_key: Vec<u8>,
}

/// A key of a record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KnownKey<'a> {
    pub(crate) id: &'a [u8],
    pub(crate) public_key: &'a [u8],
    /// What its device knows the owner by.
    pub(crate) owner: &'a [u8; 16],
}

impl Party {
    /// Checks that a new key was made for this page. The challenge was checked before.
    pub(crate) fn check_creation(&self, kind: &Kind, answer: &Answer) -> Result<NewKey, CeremonyError> {
        self.check_page("webauthn.create", answer)?;
        check_attachment(kind, answer)?;
        let core = self.core()?;
        let asked = core
            .new_challenge_register_builder(b"-", "-", "-")?
            .user_verification_policy(kind.verification())
            .credential_algorithms(kind.algorithms.clone());
        let (_, state) = core.generate_challenge_register(asked)?;
        let state = with_challenge(&state, &answer.client.challenge)?;
        let response = RegisterPublicKeyCredential {
            id: String::new(),
            raw_id: answer.key_id.clone(),
            response: AuthenticatorAttestationResponseRaw {
                attestation_object: checkable(&answer.attestation_object)?,
                client_data_json: answer.client_json.clone(),
                transports: None,
            },
            type_: "public-key".to_owned(),
            extensions: Default::default(),
        };
        let made = core.register_credential(&response, &state, None)?;
        if made.cred_id != answer.key_id {
            return Err(CeremonyError::Key);
        }
        Ok(NewKey {
            public_key: cose::encode(&made.cred).ok_or(CeremonyError::Key)?,
            id: made.cred_id,
        })
    }

    /// Checks that a key was used for this page. The challenge was checked before.
    pub(crate) fn check_use(
        &self,
        kind: &Kind,
        answer: &Answer,
        key: KnownKey<'_>,
    ) -> Result<(), CeremonyError> {
        self.check_page("webauthn.get", answer)?;
        check_attachment(kind, answer)?;
        // Keys of the oldest devices come without.
        if !answer.user_handle.is_empty() && answer.user_handle != key.owner {
            return Err(CeremonyError::OtherOwner);
        }
        let core = self.core()?;
        let asked = core.new_challenge_authenticate_builder(Vec::new(), Some(kind.verification()))?;
        let (_, state) = core.generate_challenge_authenticate(asked)?;
        let state = with_challenge(&state, &answer.client.challenge)?;
        let response = PublicKeyCredential {
            id: String::new(),
            raw_id: answer.key_id.clone(),
            response: AuthenticatorAssertionResponseRaw {
                authenticator_data: answer.authenticator_data.clone(),
                client_data_json: answer.client_json.clone(),
                signature: answer.signature.clone(),
                user_handle: None,
            },
            extensions: Default::default(),
            type_: "public-key".to_owned(),
        };
        core.authenticate_single_credential(&response, &state, &credential(kind, answer, key)?)?;
        Ok(())
    }

    fn check_page(&self, act: &str, answer: &Answer) -> Result<(), CeremonyError> {
        if answer.client.kind != act {
            return Err(CeremonyError::OtherPage("another act"));
        }
        if answer.client.origin != self.origin {
            return Err(CeremonyError::OtherPage("another origin"));
        }
        if answer.client.framed {
            return Err(CeremonyError::OtherPage("framed by another site"));
        }
        Ok(())
    }

    fn core(&self) -> Result<WebauthnCore, CeremonyError> {
        let origin = Url::parse(&self.origin).map_err(|_| CeremonyError::OtherPage("no origin"))?;
        let life = Duration::from_secs(LIFETIME.unsigned_abs());
        Ok(WebauthnCore::new_unsafe_experts_only(
            "Pomerium",
            &self.id,
            vec![origin],
            life,
            Some(false),
            Some(false),
        ))
    }
}

/// What a browser says about where the key is. It is not signed: it keeps honest people from the wrong device.
fn check_attachment(kind: &Kind, answer: &Answer) -> Result<(), CeremonyError> {
    match (kind.attachment, answer.attachment.as_deref()) {
        (Some(wanted), Some(said)) if wanted != said => Err(CeremonyError::Attachment),
        _ => Ok(()),
    }
}

/// The object as it is, or without its statement where that cannot be checked.
fn checkable(object: &[u8]) -> Result<Vec<u8>, CeremonyError> {
    let (format, data) = cose::open_statement(object).ok_or(CeremonyError::Key)?;
    Ok(if UNCHECKED.contains(&format.as_str()) {
        cose::without_statement(&data)
    } else {
        object.to_vec()
    })
}

/// The library makes challenges of its own and keeps them; ours are made by `challenge` and kept by nobody. Its
/// state can be written down and read again, which is where ours is put in.
fn with_challenge<S: Serialize + DeserializeOwned>(state: &S, challenge: &[u8]) -> Result<S, CeremonyError> {
    let mut written = serde_json::to_value(state).map_err(|_| CeremonyError::State)?;
    let place = written.get_mut("challenge").ok_or(CeremonyError::State)?;
    *place = pomerium_crypto::encoding::base64url_encode(challenge).into();
    serde_json::from_value(written).map_err(|_| CeremonyError::State)
}

/// The key of a record in the library's own form. What records do not keep is taken as it comes: the counter is
/// not looked at (spec authentication.md 16.3), nor is whether the key may be copied.
fn credential(kind: &Kind, answer: &Answer, key: KnownKey<'_>) -> Result<Credential, CeremonyError> {
    let copied = answer
        .authenticator_data
        .get(FLAGS)
        .is_some_and(|flags| flags & BACKUP_ELIGIBLE != 0);
    Ok(Credential {
        cred_id: key.id.to_vec(),
        cred: cose::decode(key.public_key).ok_or(CeremonyError::Key)?,
        counter: 0,
        transports: None,
        user_verified: false,
        backup_eligible: copied,
        backup_state: copied,
        registration_policy: kind.verification(),
        extensions: RegisteredExtensions::none(),
        attestation: ParsedAttestation {
            data: ParsedAttestationData::None,
            metadata: AttestationMetadata::None,
        },
        attestation_format: AttestationFormat::None,
    })
}

#[cfg(test)]
mod tests {
    use pomerium_crypto::encoding::base64url_encode;
    use serde_json::json;
    use sha2::{Digest, Sha256};

    use super::*;

    /// The key of RFC 8152 appendix C.7.1, with the algorithm that devices name.
    const KEY: &[u8] = b"\xa5\x01\x02\x03\x26\x20\x01\x21\x58\x20\
        \x65\xed\xa5\xa1\x25\x77\xc2\xba\xe8\x29\x43\x7f\xe3\x38\x70\x1a\x10\xaa\xa3\x75\xe1\xbb\x5b\x5d\xe1\x08\xde\x43\x9c\x08\x55\x1d\
        \x22\x58\x20\
        \x1e\x52\xed\x75\x70\x11\x63\xf7\xf9\xe4\x0d\xdf\x9f\x34\x1b\x3d\xc9\xba\x86\x0a\xf7\xe0\xca\x7c\xa7\xe9\xee\xcd\x00\x84\xd1\x9c";
    const ID: &[u8] = b"key";

    /// A new key with a statement of `format` that says nothing.
    fn made(format: &str, flags: u8) -> Answer {
        let mut data = Sha256::digest(b"example.com").to_vec();
        data.push(flags | 0b100_0000);
        data.extend_from_slice(&[0; 4 + 16]);
        data.extend_from_slice(&[0, 3]);
        data.extend_from_slice(ID);
        data.extend_from_slice(KEY);
        let mut object = b"\xa3\x63fmt".to_vec();
        object.push(if format.len() < 24 { 0x60 } else { 0x78 } | u8::try_from(format.len() % 24).unwrap());
        object.extend_from_slice(format.as_bytes());
        object.extend_from_slice(b"\x67attStmt\xa0\x68authData\x58");
        object.push(u8::try_from(data.len()).unwrap());
        object.extend_from_slice(&data);
        let client =
            json!({ "type": "webauthn.create", "challenge": "AAEC", "origin": "https://app.example.com" });
        let answer = json!({
            "rawId": base64url_encode(ID), "type": "public-key",
            "response": {
                "clientDataJSON": base64url_encode(client.to_string().as_bytes()),
                "attestationObject": base64url_encode(&object),
            },
        });
        Answer::read(&answer.to_string()).unwrap()
    }

    fn check(answer: &Answer) -> Result<NewKey, CeremonyError> {
        Party::at("app.example.com").check_creation(&Kind::built_in("any"), answer)
    }

    #[test]
    fn a_key_is_kept_as_its_device_wrote_it() {
        let key = check(&made("none", 0b1)).unwrap();
        assert_eq!((key.id.as_slice(), key.public_key.as_slice()), (ID, KEY));
        assert!(check(&made("none", 0)).is_err(), "nobody was there");
    }

    #[test]
    fn a_statement_holds_or_is_one_that_nobody_checks() {
        for format in UNCHECKED {
            assert_eq!(check(&made(format, 0b1)).unwrap().public_key, KEY, "{format}");
        }
        for format in ["packed", "fido-u2f", "apple", "android-key", "of-tomorrow", ""] {
            assert!(check(&made(format, 0b1)).is_err(), "{format}");
        }
    }

    #[test]
    fn what_is_wanted_of_the_person_is_checked() {
        use pomerium_api::pb::device::web_authn_options::AuthenticatorSelectionCriteria;
        use pomerium_api::pb::device::{Type, WebAuthnOptions, r#type};
        let record = |alg: i64| Type {
            id: "strict".into(),
            specifier: Some(r#type::Specifier::Webauthn(r#type::WebAuthn {
                options: Some(WebAuthnOptions {
                    authenticator_selection: Some(AuthenticatorSelectionCriteria {
                        user_verification: Some(2),
                        ..AuthenticatorSelectionCriteria::default()
                    }),
                    pub_key_cred_params: vec![
                        pomerium_api::pb::device::web_authn_options::PublicKeyCredentialParameters {
                            alg,
                            r#type: 0,
                        },
                    ],
                    ..WebAuthnOptions::default()
                }),
            })),
            ..Type::default()
        };
        let strict = Kind::of_record(&record(-7));
        let party = Party::at("app.example.com");
        assert!(
            party.check_creation(&strict, &made("none", 0b1)).is_err(),
            "no fingerprint, no PIN"
        );
        assert!(party.check_creation(&strict, &made("none", 0b101)).is_ok());
        let rsa = Kind::of_record(&record(-257));
        assert!(
            party.check_creation(&rsa, &made("none", 0b101)).is_err(),
            "another algorithm than asked for"
        );
        assert!(Kind::of_record(&record(-65_535)).algorithms.is_empty(), "SHA-1");
    }

    #[test]
    fn the_usual_algorithms_are_asked_for() {
        let asked = Kind::built_in("any").creation(
            &Party::at("app.example.com"),
            super::super::kind::Entity {
                id: &[1; 16],
                name: "n",
                display_name: "d",
            },
            b"challenge",
        );
        assert_eq!(
            asked["pubKeyCredParams"],
            json!([{ "type": "public-key", "alg": -7 }, { "type": "public-key", "alg": -257 }])
        );
        assert_eq!(asked["rp"], json!({ "name": "Pomerium", "id": "example.com" }));
        assert_eq!(asked["timeout"], 900_000);
        assert_eq!(asked["attestation"], "direct");
    }
}
