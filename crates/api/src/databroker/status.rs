//! Errors of the databroker as gRPC statuses, and back (spec databroker.md 3, 5, 8.1).

use tonic::{Code, Status};

use super::Error;

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let text = match &error {
            Error::Invalid(text)
            | Error::Unsupported(text)
            | Error::Refused(text)
            | Error::Damaged(text)
            | Error::Unavailable(text) => text.clone(),
            // The words that clients of the original know.
            Error::Resync => "invalid server version: these are other records than those known before".into(),
            Error::NotFound => error.to_string(),
        };
        let code = match error {
            Error::NotFound => Code::NotFound,
            Error::Resync => Code::Aborted,
            Error::Invalid(_) => Code::InvalidArgument,
            Error::Unsupported(_) => Code::Unimplemented,
            Error::Refused(_) => Code::Unauthenticated,
            Error::Damaged(_) => Code::DataLoss,
            Error::Unavailable(_) => Code::Unavailable,
        };
        Status::new(code, text)
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let text = status.message().to_owned();
        match status.code() {
            Code::NotFound => Self::NotFound,
            Code::Aborted => Self::Resync,
            Code::InvalidArgument => Self::Invalid(text),
            Code::Unimplemented => Self::Unsupported(text),
            Code::Unauthenticated | Code::PermissionDenied => Self::Refused(text),
            Code::DataLoss => Self::Damaged(text),
            code => Self::Unavailable(match text.is_empty() {
                true => code.description().to_owned(),
                false => text,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_comes_back_as_itself() {
        for error in [
            Error::NotFound,
            Error::Resync,
            Error::Invalid("x".into()),
            Error::Unsupported("x".into()),
            Error::Refused("x".into()),
            Error::Damaged("x".into()),
            Error::Unavailable("x".into()),
        ] {
            assert_eq!(Error::from(Status::from(error.clone())), error);
        }
    }

    #[test]
    fn whatever_else_a_peer_says_is_worth_another_try() {
        // Out of range is what the library says of an answer that is too large: what was asked for may be done.
        for code in [Code::Cancelled, Code::OutOfRange, Code::ResourceExhausted] {
            let status = Status::new(code, "");
            assert!(matches!(Error::from(status), Error::Unavailable(text) if !text.is_empty()));
        }
    }
}
