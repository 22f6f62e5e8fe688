//! Decoded records, each with its place in the databroker.

use std::sync::atomic::{AtomicU64, Ordering};

use super::parts::{self, Parts};
use crate::databroker::Versions;
use crate::pb;
use crate::records::RecordMessage;

/// A decoded record with the place in the databroker it was read at.
pub trait Entry: Send + Sync + 'static {
    /// The message inside.
    type Message: RecordMessage;
    /// Joins a message with its place.
    fn new(at: Versions, message: Self::Message) -> Self;
    /// Server version of the database and the last version of the record that was seen.
    fn at(&self) -> Versions;
    /// The same, of the version whose message this is: later ones said the same.
    fn said_at(&self) -> Versions;
    /// The message.
    fn message(&self) -> &Self::Message;
    /// Notes that a later version says the same.
    fn confirm(&self, version: u64);
    /// Whether `later` differs from the message in nothing but the moment of the last use.
    fn only_used_since(&self, later: &Self::Message) -> bool;
    /// Takes out of a message what is not to be kept, and says what that was.
    fn narrow(_message: &mut Self::Message, _keep: Parts) -> Parts {
        Parts::NONE
    }
    /// Notes what was left out of the message.
    fn set_left_out(&mut self, _parts: Parts) {}
}

/// The last version of a record that said the same as the entry. It is no part of what the entry says.
#[derive(Debug, Default)]
pub struct Confirmed(AtomicU64);

impl Clone for Confirmed {
    fn clone(&self) -> Self {
        Self(AtomicU64::new(self.0.load(Ordering::Acquire)))
    }
}

impl PartialEq for Confirmed {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

macro_rules! entry {
    ($(#[$doc:meta])* $name:ident, $field:ident, $message:ty $(, used: $used:ident)? $(, narrow: $narrow:path as $parts:ty)?) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            /// The record's version; grows with each change of the record that counts. That it was used is none.
            pub version: u64,
            /// Identity of the database the record was read from.
            pub server_version: u64,
            /// The decoded message. When it was used last is as of `version`.
            pub $field: $message,
            /// The last version that said the same.
            pub confirmed: Confirmed,
            $(
                /// What is not in the message, because nothing here was to read it when the record came.
                pub left_out: $parts,
            )?
        }

        impl Entry for $name {
            type Message = $message;
            fn new(at: Versions, $field: $message) -> Self {
                Self {
                    version: at.latest_record_version,
                    server_version: at.server_version,
                    $field,
                    confirmed: Confirmed::default(),
                    $(left_out: <$parts>::default(),)?
                }
            }
            fn at(&self) -> Versions {
                let confirmed = self.confirmed.0.load(Ordering::Acquire);
                Versions {
                    server_version: self.server_version,
                    latest_record_version: self.version.max(confirmed),
                }
            }
            fn said_at(&self) -> Versions {
                Versions {
                    server_version: self.server_version,
                    latest_record_version: self.version,
                }
            }
            fn message(&self) -> &$message {
                &self.$field
            }
            fn confirm(&self, version: u64) {
                self.confirmed.0.fetch_max(version, Ordering::AcqRel);
            }
            fn only_used_since(&self, later: &$message) -> bool {
                $(
                    if later.$used != self.$field.$used {
                        let mut same = later.clone();
                        same.$used.clone_from(&self.$field.$used);
                        return same == self.$field;
                    }
                )?
                let _ = later;
                false
            }
            $(
                fn narrow(message: &mut $message, keep: Parts) -> Parts {
                    $narrow(message, keep)
                }
                fn set_left_out(&mut self, parts: $parts) {
                    self.left_out = parts;
                }
            )?
        }
    };
}

entry!(
    /// A session as last seen.
    SessionEntry, session, pb::session::Session, used: accessed_at, narrow: parts::narrow as Parts
);
entry!(
    /// A user as last seen.
    UserEntry, user, pb::user::User
);
entry!(
    /// A service account as last seen.
    ServiceAccountEntry, account, pb::user::ServiceAccount, used: accessed_at
);

entry!(
    /// A device credential as last seen.
    CredentialEntry, credential, pb::device::Credential
);
entry!(
    /// The enrollment of a device as last seen.
    EnrollmentEntry, enrollment, pb::device::Enrollment
);
entry!(
    /// A device type as last seen.
    DeviceTypeEntry, device_type, pb::device::Type
);
