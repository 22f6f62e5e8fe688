//! Device types: what a browser is asked for (spec authentication.md 16.2). Two are built in, others are records.

use pomerium_api::pb::device::web_authn_options::{
    AttestationConveyancePreference as Attestation, AuthenticatorAttachment as Attachment,
    ResidentKeyRequirement as ResidentKey, UserVerificationRequirement as Verification,
};
use pomerium_api::pb::device::{Type, WebAuthnOptions, r#type};
use pomerium_crypto::encoding::base64url_encode;
use serde_json::{Value, json};
use webauthn_rs_core::proto::{COSEAlgorithm, UserVerificationPolicy};

use super::LIFETIME;
use super::party::Party;

/// The type of policies and links that name none.
pub(crate) const ANY: &str = "any";
const ENCLAVE_ONLY: &str = "enclave_only";

/// Longest id of a type, bytes.
const MAX_ID: usize = 256;

/// A device type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) id: String,
    pub(crate) name: String,
    attestation: &'static str,
    /// `platform`: the device itself; `cross-platform`: a key that goes from device to device.
    pub(crate) attachment: Option<&'static str>,
    require_resident_key: Option<bool>,
    resident_key: Option<&'static str>,
    user_verification: &'static str,
    pub(crate) algorithms: Vec<COSEAlgorithm>,
}

/// The person a key is made for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entity<'a> {
    pub(crate) id: &'a [u8; 16],
    pub(crate) name: &'a str,
    pub(crate) display_name: &'a str,
}

impl Kind {
    /// The type without a record: one of the two that are built in, or `any` under another id.
    pub(crate) fn built_in(id: &str) -> Self {
        let any = Self {
            id: id.to_owned(),
            name: "Any".to_owned(),
            attestation: "direct",
            attachment: None,
            require_resident_key: None,
            resident_key: None,
            user_verification: "preferred",
            algorithms: supported(&[]),
        };
        match id {
            ENCLAVE_ONLY => Self {
                name: "Secure Enclave Only".to_owned(),
                require_resident_key: Some(true),
                attachment: Some("platform"),
                ..any
            },
            ANY => any,
            other => Self {
                name: other.to_owned(),
                ..any
            },
        }
    }

    /// The type of a record.
    pub(crate) fn of_record(record: &Type) -> Self {
        let Some(r#type::Specifier::Webauthn(r#type::WebAuthn {
            options: Some(options),
        })) = &record.specifier
        else {
            return Self {
                name: named(record),
                ..Self::built_in(&record.id)
            };
        };
        let selection = options.authenticator_selection.unwrap_or_default();
        Self {
            id: record.id.clone(),
            name: named(record),
            attestation: match options
                .attestation
                .and_then(|value| Attestation::try_from(value).ok())
            {
                Some(Attestation::Indirect) => "indirect",
                Some(Attestation::Direct) => "direct",
                Some(Attestation::Enterprise) => "enterprise",
                Some(Attestation::None) | None => "none",
            },
            attachment: selection
                .authenticator_attachment
                .and_then(|value| Attachment::try_from(value).ok())
                .map(|value| match value {
                    Attachment::Platform => "platform",
                    Attachment::CrossPlatform => "cross-platform",
                }),
            require_resident_key: selection.require_resident_key,
            resident_key: selection
                .resident_key_requirement
                .and_then(|value| ResidentKey::try_from(value).ok())
                .map(|value| match value {
                    ResidentKey::ResidentKeyDiscouraged => "discouraged",
                    ResidentKey::ResidentKeyPreferred => "preferred",
                    ResidentKey::ResidentKeyRequired => "required",
                }),
            user_verification: match selection
                .user_verification
                .and_then(|value| Verification::try_from(value).ok())
            {
                Some(Verification::UserVerificationDiscouraged) => "discouraged",
                Some(Verification::UserVerificationRequired) => "required",
                Some(Verification::UserVerificationPreferred) | None => "preferred",
            },
            algorithms: algorithms(options),
        }
    }

    /// Whether an id can name a type.
    pub(crate) fn is_id(id: &str) -> bool {
        !id.is_empty() && id.len() <= MAX_ID && !id.chars().any(char::is_control)
    }

    /// What the device has to see of its owner.
    pub(crate) fn verification(&self) -> UserVerificationPolicy {
        match self.user_verification {
            "required" => UserVerificationPolicy::Required,
            "discouraged" => UserVerificationPolicy::Discouraged_DO_NOT_USE,
            _ => UserVerificationPolicy::Preferred,
        }
    }

    /// What a browser is given to make a key.
    pub(crate) fn creation(&self, party: &Party, person: Entity<'_>, challenge: &[u8]) -> Value {
        let mut selection = json!({ "userVerification": self.user_verification });
        if let Some(attachment) = self.attachment {
            selection["authenticatorAttachment"] = attachment.into();
        }
        if let Some(required) = self.require_resident_key {
            selection["requireResidentKey"] = required.into();
        }
        if let Some(resident_key) = self.resident_key {
            selection["residentKey"] = resident_key.into();
        }
        let algorithms = self.algorithms.iter();
        let algorithms = algorithms.map(|alg| json!({ "type": "public-key", "alg": *alg as i64 }));
        json!({
            "rp": { "name": "Pomerium", "id": party.id },
            "user": {
                "id": base64url_encode(person.id),
                "name": person.name,
                "displayName": person.display_name,
            },
            "challenge": base64url_encode(challenge),
            "pubKeyCredParams": algorithms.collect::<Vec<_>>(),
            "timeout": LIFETIME * 1000,
            "authenticatorSelection": selection,
            "attestation": self.attestation,
        })
    }

    /// What a browser is given to use one of the keys `known`.
    pub(crate) fn request<'a>(
        &self,
        party: &Party,
        known: impl Iterator<Item = &'a [u8]>,
        challenge: &[u8],
    ) -> Value {
        let allowed = known.map(|id| json!({ "type": "public-key", "id": base64url_encode(id) }));
        json!({
            "challenge": base64url_encode(challenge),
            "rpId": party.id,
            "timeout": LIFETIME * 1000,
            "userVerification": self.user_verification,
            "allowCredentials": allowed.collect::<Vec<_>>(),
        })
    }
}

fn named(record: &Type) -> String {
    [&record.name, &record.id]
        .into_iter()
        .find(|name| !name.is_empty())
        .cloned()
        .unwrap_or_default()
}

fn algorithms(options: &WebAuthnOptions) -> Vec<COSEAlgorithm> {
    let wanted: Vec<i64> = options
        .pub_key_cred_params
        .iter()
        .map(|param| param.alg)
        .collect();
    supported(&wanted)
}

/// The algorithms among `wanted` whose signatures are checked here; the usual ones when nothing is wanted. RS1,
/// which the original offers as well, signs a SHA-1 hash: nobody is asked for that here.
fn supported(wanted: &[i64]) -> Vec<COSEAlgorithm> {
    const ALL: [COSEAlgorithm; 4] = [
        COSEAlgorithm::ES256,
        COSEAlgorithm::RS256,
        COSEAlgorithm::ES384,
        COSEAlgorithm::ES521,
    ];
    if wanted.is_empty() {
        return vec![COSEAlgorithm::ES256, COSEAlgorithm::RS256];
    }
    ALL.into_iter()
        .filter(|alg| wanted.contains(&(*alg as i64)))
        .collect()
}
