//! Public keys.

use super::wire::Reader;

/// What stands at the end of the name of a certificate type.
const CERTIFICATE: &str = "-cert-v01@openssh.com";

/// A public key, or a certificate, whose form is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    blob: Box<[u8]>,
    kind: Box<str>,
}

impl PublicKey {
    /// Reads a key or a certificate in wire format. `None` when it is odd in form or of a kind that is not known.
    pub fn from_wire(blob: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(blob)?;
        let kind = reader.text()?;
        match kind.strip_suffix(CERTIFICATE) {
            Some(_) => {
                super::certificate::Certificate::read(blob)?;
            }
            None => {
                Material::read(kind, &mut reader).filter(|_| reader.is_empty())?;
            }
        }
        Some(Self {
            blob: blob.into(),
            kind: kind.into(),
        })
    }

    /// The wire format: what keys are compared by.
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// Name of the type, such as `ssh-ed25519`.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Whether it is a certificate.
    pub fn is_certificate(&self) -> bool {
        self.kind.ends_with(CERTIFICATE)
    }
}

/// Name of the type of the key inside a certificate of type `kind`. `None` when `kind` is none of a certificate.
pub(super) fn certified_kind(kind: &str) -> Option<&'static str> {
    Some(match kind.strip_suffix(CERTIFICATE)? {
        "ssh-rsa" => "ssh-rsa",
        "ssh-ed25519" => "ssh-ed25519",
        "ecdsa-sha2-nistp256" => "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384" => "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521" => "ecdsa-sha2-nistp521",
        // Security keys carry the domain once, behind the suffix.
        "sk-ssh-ed25519" => "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256" => "sk-ecdsa-sha2-nistp256@openssh.com",
        _ => return None,
    })
}

/// An elliptic curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    /// Bytes of a coordinate.
    pub(super) const fn size(self) -> usize {
        match self {
            Curve::P256 => 32,
            Curve::P384 => 48,
            Curve::P521 => 66,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Curve::P256 => "nistp256",
            Curve::P384 => "nistp384",
            Curve::P521 => "nistp521",
        }
    }
}

/// What a key is made of.
#[derive(Debug, Clone, Copy)]
pub(super) enum Material<'a> {
    Ed25519(&'a [u8]),
    Rsa {
        exponent: &'a [u8],
        modulus: &'a [u8],
    },
    Ecdsa(Curve, &'a [u8]),
    /// In a security key; signs with the name of its application.
    SkEd25519(&'a [u8], &'a [u8]),
    SkEcdsa(&'a [u8], &'a [u8]),
}

impl<'a> Material<'a> {
    /// Reads what follows the name of the type. DSA is not among the types: nothing should trust it.
    pub(super) fn read(kind: &str, reader: &mut Reader<'a>) -> Option<Self> {
        Some(match kind {
            "ssh-ed25519" => Self::Ed25519(ed25519(reader)?),
            "ssh-rsa" => Self::Rsa {
                exponent: reader.positive()?,
                modulus: reader.positive()?,
            },
            "ecdsa-sha2-nistp256" => Self::Ecdsa(Curve::P256, point(reader, Curve::P256)?),
            "ecdsa-sha2-nistp384" => Self::Ecdsa(Curve::P384, point(reader, Curve::P384)?),
            "ecdsa-sha2-nistp521" => Self::Ecdsa(Curve::P521, point(reader, Curve::P521)?),
            "sk-ssh-ed25519@openssh.com" => Self::SkEd25519(ed25519(reader)?, reader.string()?),
            "sk-ecdsa-sha2-nistp256@openssh.com" => {
                Self::SkEcdsa(point(reader, Curve::P256)?, reader.string()?)
            }
            _ => return None,
        })
    }

    /// Reads a whole key; never a certificate.
    pub(super) fn of_blob(blob: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(blob)?;
        let kind = reader.text()?;
        Self::read(kind, &mut reader).filter(|_| reader.is_empty())
    }
}

fn ed25519<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    reader.string().filter(|key| key.len() == 32)
}

/// A point that is not compressed, on the curve that the type names.
fn point<'a>(reader: &mut Reader<'a>, curve: Curve) -> Option<&'a [u8]> {
    if reader.text()? != curve.name() {
        return None;
    }
    reader
        .string()
        .filter(|point| point.len() == 1 + 2 * curve.size() && point[0] == 4)
}
