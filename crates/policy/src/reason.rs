//! Why a criterion held or failed: the wire-visible names (spec policy.md 4), as a set of bits.

use std::fmt;

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Why a criterion held or failed. Variants stand in the order of their names, so that the
        /// bits of a [`ReasonSet`] come out sorted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Reason {
            $($(#[$doc])* $variant,)*
        }

        impl Reason {
            /// Every reason, sorted by name.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant,)*];

            /// The name in logs and answers.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Reason::$variant => $name,)*
                }
            }

            /// The reason of this name.
            pub fn named(name: &str) -> Option<Reason> {
                match name {
                    $($name => Some(Reason::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

reasons! {
    /// `accept` always holds.
    Accept = "accept",
    /// The sign-in is recent and strong enough.
    AuthenticationOk = "authentication-ok",
    /// The sign-in is too old or too weak; leads to a fresh one.
    AuthenticationRequired = "authentication-required",
    /// The claim matched.
    ClaimOk = "claim-ok",
    /// The claim did not match.
    ClaimUnauthorized = "claim-unauthorized",
    /// The client certificate matched.
    ClientCertificateOk = "client-certificate-ok",
    /// No client certificate was presented, and one must be.
    ClientCertificateRequired = "client-certificate-required",
    /// The client certificate did not match.
    ClientCertificateUnauthorized = "client-certificate-unauthorized",
    /// A CORS preflight.
    CorsRequest = "cors-request",
    /// The moment lies between the dates.
    DateOk = "date-ok",
    /// The moment lies outside the dates.
    DateUnauthorized = "date-unauthorized",
    /// The day is listed.
    DayOfWeekOk = "day-of-week-ok",
    /// The day is not listed.
    DayOfWeekUnauthorized = "day-of-week-unauthorized",
    /// The device meets the conditions.
    DeviceOk = "device-ok",
    /// The session has shown no such device; leads to the enrolment.
    DeviceUnauthenticated = "device-unauthenticated",
    /// The device does not meet the conditions.
    DeviceUnauthorized = "device-unauthorized",
    /// The e-mail domain matched.
    DomainOk = "domain-ok",
    /// The e-mail domain did not match.
    DomainUnauthorized = "domain-unauthorized",
    /// The e-mail matched.
    EmailOk = "email-ok",
    /// The e-mail did not match.
    EmailUnauthorized = "email-unauthorized",
    /// The groups matched.
    GroupsOk = "groups-ok",
    /// The groups did not match.
    GroupsUnauthorized = "groups-unauthorized",
    /// The method matched.
    HttpMethodOk = "http-method-ok",
    /// The method did not match.
    HttpMethodUnauthorized = "http-method-unauthorized",
    /// The path matched.
    HttpPathOk = "http-path-ok",
    /// The path did not match.
    HttpPathUnauthorized = "http-path-unauthorized",
    /// A client certificate was presented that is not valid for the route.
    InvalidClientCertificate = "invalid-client-certificate",
    /// Not a call of an MCP tool.
    McpNotAToolCall = "mcp-not-a-tool-call",
    /// The MCP tool matched.
    McpToolMatch = "mcp-tool-match",
    /// The MCP tool did not match.
    McpToolNoMatch = "mcp-tool-no-match",
    /// Not a CORS preflight.
    NonCorsRequest = "non-cors-request",
    /// A path of Pomerium's own, which no policy judges.
    PomeriumRoute = "pomerium-route",
    /// The record matched.
    RecordOk = "record-ok",
    /// The record did not match, or there is none.
    RecordUnauthorized = "record-unauthorized",
    /// `reject` never holds.
    Reject = "reject",
    /// No route answers to the request.
    RouteNotFound = "route-not-found",
    /// The client address is in a listed network.
    SourceIpOk = "source-ip-ok",
    /// The client address is in no listed network.
    SourceIpUnauthorized = "source-ip-unauthorized",
    /// The SSH key is listed, or signed by a listed authority.
    SshPublickeyOk = "ssh-publickey-ok",
    /// The SSH key is not.
    SshPublickeyUnauthorized = "ssh-publickey-unauthorized",
    /// The SSH user name matched.
    SshUsernameOk = "ssh-username-ok",
    /// The SSH user name did not match.
    SshUsernameUnauthorized = "ssh-username-unauthorized",
    /// The time of the day lies between the limits.
    TimeOfDayOk = "time-of-day-ok",
    /// The time of the day lies outside the limits.
    TimeOfDayUnauthorized = "time-of-day-unauthorized",
    /// The user matched.
    UserOk = "user-ok",
    /// Nobody is signed in; leads to the login.
    UserUnauthenticated = "user-unauthenticated",
    /// The user did not match.
    UserUnauthorized = "user-unauthorized",
    /// The client certificate is valid, or none is asked for.
    ValidClientCertificate = "valid-client-certificate",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for Reason {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A set of reasons: one word, no allocation.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct ReasonSet(u64);

impl ReasonSet {
    /// No reasons.
    pub const EMPTY: ReasonSet = ReasonSet(0);

    /// The set of one reason.
    pub const fn of(reason: Reason) -> Self {
        Self(1 << reason as u8)
    }

    /// Whether `reason` is in the set.
    pub const fn contains(self, reason: Reason) -> bool {
        self.0 & (1 << reason as u8) != 0
    }

    /// The reasons of either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The reasons, sorted by name.
    pub fn iter(self) -> impl Iterator<Item = Reason> {
        Reason::ALL
            .iter()
            .copied()
            .filter(move |reason| self.contains(*reason))
    }

    /// The names, sorted.
    pub fn names(self) -> Vec<&'static str> {
        self.iter().map(Reason::as_str).collect()
    }
}

impl From<Reason> for ReasonSet {
    fn from(reason: Reason) -> Self {
        Self::of(reason)
    }
}

impl FromIterator<Reason> for ReasonSet {
    fn from_iter<I: IntoIterator<Item = Reason>>(reasons: I) -> Self {
        reasons
            .into_iter()
            .fold(Self::EMPTY, |set, reason| set.union(reason.into()))
    }
}

impl fmt::Debug for ReasonSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Reason::as_str)).finish()
    }
}

impl serde::Serialize for ReasonSet {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

const _: () = assert!(Reason::ALL.len() <= 64, "a ReasonSet is one word");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_stand_in_the_order_of_their_names() {
        assert!(
            Reason::ALL
                .windows(2)
                .all(|pair| pair[0].as_str() < pair[1].as_str())
        );
    }

    #[test]
    fn a_set_holds_what_was_put_in_and_prints_it_sorted() {
        let set: ReasonSet = [Reason::UserOk, Reason::Accept, Reason::EmailOk]
            .into_iter()
            .collect();
        assert_eq!(set.names(), ["accept", "email-ok", "user-ok"]);
        assert!(!set.contains(Reason::Reject));
        assert_eq!(
            serde_json::to_string(&set).unwrap(),
            r#"["accept","email-ok","user-ok"]"#
        );
    }
}
