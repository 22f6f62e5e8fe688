//! Errors that programs can tell apart: a `google.rpc.ErrorInfo` in the details of a status (spec databroker.md 8.1), and
//! such details in the form of a list.

use prost::Message;
use prost_types::Any;
use tonic::{Code, Status};

/// Whose reasons they are.
const DOMAIN: &str = "pomerium.com";

/// A status with a reason, which its message begins with.
pub(super) fn reason(code: Code, reason: &str, text: &str) -> Status {
    with_reason(code, reason, &format!("{reason}: {text}"))
}

/// A status with a reason that its message does not repeat.
pub(super) fn with_reason(code: Code, reason: &str, message: &str) -> Status {
    let info = ErrorInfo {
        reason: reason.to_owned(),
        domain: DOMAIN.to_owned(),
    };
    let details = RpcStatus {
        code: code as i32,
        message: message.to_owned(),
        details: vec![Any {
            type_url: "type.googleapis.com/google.rpc.ErrorInfo".to_owned(),
            value: info.encode_to_vec(),
        }],
    };
    Status::with_details(code, message, details.encode_to_vec().into())
}

/// What a status carries besides code and message; nothing when it cannot be read.
pub(super) fn details(status: &Status) -> Vec<Any> {
    RpcStatus::decode(status.details()).map_or(Vec::new(), |status| status.details)
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.rpc.ErrorInfo`, without its metadata.
#[derive(Clone, PartialEq, Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, tag = "2")]
    domain: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_come_back_as_they_were_given() {
        let status = with_reason(Code::Unauthenticated, "MISSING_JWT", "unauthenticated");
        assert_eq!(status.message(), "unauthenticated");
        let found = details(&status);
        assert_eq!(found.len(), 1);
        let info = ErrorInfo::decode(found[0].value.as_slice()).unwrap();
        assert_eq!(
            (info.reason.as_str(), info.domain.as_str()),
            ("MISSING_JWT", DOMAIN)
        );
        assert!(details(&Status::not_found("x")).is_empty());
        let broken = Status::with_details(Code::Internal, "x", vec![0xff, 1].into());
        assert!(details(&broken).is_empty());
    }
}
