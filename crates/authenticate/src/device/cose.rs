//! The two binary forms that records and devices share: a public key (COSE, RFC 9052 section 7) and the
//! statement that comes with a new key.

use serde_cbor_2::Value;
use webauthn_rs_core::proto::{COSEKey, COSEKeyType, ECDSACurve};

/// A key as devices write it, so that records read the same whoever wrote them. `None` for a kind of key that is
/// never accepted.
pub(super) fn encode(key: &COSEKey) -> Option<Vec<u8>> {
    let algorithm = key.type_ as i64;
    let mut out = Vec::new();
    match &key.key {
        COSEKeyType::EC_EC2(point) => {
            let curve = match point.curve {
                ECDSACurve::SECP256R1 => 1,
                ECDSACurve::SECP384R1 => 2,
                ECDSACurve::SECP521R1 => 3,
            };
            out.push(0xa5);
            pair(&mut out, 1, 2);
            pair(&mut out, 3, algorithm);
            pair(&mut out, -1, curve);
            named_bytes(&mut out, -2, &point.x);
            named_bytes(&mut out, -3, &point.y);
        }
        COSEKeyType::RSA(rsa) => {
            out.push(0xa4);
            pair(&mut out, 1, 3);
            pair(&mut out, 3, algorithm);
            named_bytes(&mut out, -1, &rsa.n);
            named_bytes(&mut out, -2, &rsa.e);
        }
        COSEKeyType::EC_OKP(_) => return None,
    }
    Some(out)
}

/// A key of a record.
pub(super) fn decode(bytes: &[u8]) -> Option<COSEKey> {
    let value: Value = serde_cbor_2::from_slice(bytes).ok()?;
    COSEKey::try_from(&value).ok()
}

/// The format of the statement in an attestation object, and what the device itself said beside it.
pub(super) fn open_statement(object: &[u8]) -> Option<(String, Vec<u8>)> {
    let Value::Map(map) = serde_cbor_2::from_slice(object).ok()? else {
        return None;
    };
    let field = |name: &str| map.get(&Value::Text(name.to_owned()));
    match (field("fmt")?, field("authData")?) {
        (Value::Text(format), Value::Bytes(data)) => Some((format.clone(), data.clone())),
        _ => None,
    }
}

/// An attestation object with the same key and no statement.
pub(super) fn without_statement(data: &[u8]) -> Vec<u8> {
    let mut out = vec![0xa3];
    for (name, value) in [("fmt", Some("none")), ("attStmt", None)] {
        text(&mut out, name);
        match value {
            Some(value) => text(&mut out, value),
            None => out.push(0xa0),
        }
    }
    text(&mut out, "authData");
    head(&mut out, 2, data.len() as u64);
    out.extend_from_slice(data);
    out
}

fn pair(out: &mut Vec<u8>, name: i64, value: i64) {
    integer(out, name);
    integer(out, value);
}

fn named_bytes(out: &mut Vec<u8>, name: i64, value: &[u8]) {
    integer(out, name);
    head(out, 2, value.len() as u64);
    out.extend_from_slice(value);
}

fn text(out: &mut Vec<u8>, value: &str) {
    head(out, 3, value.len() as u64);
    out.extend_from_slice(value.as_bytes());
}

fn integer(out: &mut Vec<u8>, value: i64) {
    match u64::try_from(value) {
        Ok(value) => head(out, 0, value),
        Err(_) => head(out, 1, value.unsigned_abs() - 1),
    }
}

/// The head of a CBOR item in its shortest form (RFC 8949 section 3).
fn head(out: &mut Vec<u8>, major: u8, value: u64) {
    let major = major << 5;
    match value {
        0..=23 => out.push(major | value.to_be_bytes()[7]),
        24..=0xff => out.extend_from_slice(&[major | 24, value.to_be_bytes()[7]]),
        0x100..=0xffff => {
            out.push(major | 25);
            out.extend_from_slice(&value.to_be_bytes()[6..]);
        }
        _ => {
            out.push(major | 26);
            out.extend_from_slice(&value.to_be_bytes()[4..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key of RFC 8152 appendix C.7.1, with the algorithm that devices name.
    #[test]
    fn a_key_survives_byte_for_byte() {
        let hex = |text: &str| {
            let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
            (0..text.len()).step_by(2).map(digit).collect::<Vec<u8>>()
        };
        let key = hex(concat!(
            "a5010203262001215820",
            "65eda5a12577c2bae829437fe338701a10aaa375e1bb5b5de108de439c08551d",
            "225820",
            "1e52ed75701163f7f9e40ddf9f341b3dc9ba860af7e0ca7ca7e9eecd0084d19c",
        ));
        assert_eq!(encode(&decode(&key).unwrap()).unwrap(), key);
        for wrong in [&key[1..], &key[..key.len() - 1], b"", b"\xa0"] {
            assert!(decode(wrong).is_none());
        }
        let mut off_curve = key;
        off_curve[40] ^= 1;
        assert!(decode(&off_curve).is_none());
    }

    #[test]
    fn a_statement_is_taken_away_and_the_rest_stays() {
        for length in [0, 37, 200, 300, 70_000] {
            let data = vec![7; length];
            let object = without_statement(&data);
            assert_eq!(open_statement(&object), Some(("none".to_owned(), data)));
        }
        for wrong in [&b""[..], b"\xa0", b"\x00", b"\xa1\x63fmt\x00"] {
            assert_eq!(open_statement(wrong), None);
        }
    }
}
