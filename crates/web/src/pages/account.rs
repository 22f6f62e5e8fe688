//! Who am I: the session and what is known about the person. Never a token.

use askama::Template;
use http::StatusCode;
use jiff::Timestamp;

use super::{Forms, Frame, Texts, href, image, render};
use crate::Response;

/// A claim and its values, as text.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Its name.
    pub name: String,
    /// Its values.
    pub values: Vec<ClaimValue>,
}

/// One value of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimValue {
    /// As it stands.
    Text(String),
    /// A moment, shown as the other times of the page are.
    Moment(Timestamp),
}

impl From<&str> for ClaimValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// A group and how we know.
#[derive(Debug, Clone)]
pub struct Group {
    /// Its id, or its name where the source has no other.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Where it came from, in words: "claim `groups`", "directory".
    pub source: String,
}

/// The devices of a person.
#[derive(Debug, Clone, Default)]
pub struct Devices {
    /// In the order they were registered.
    pub list: Vec<Device>,
    /// Where the form that removes one is posted, where that can be done.
    pub remove_url: Option<String>,
}

/// A device that somebody registered.
#[derive(Debug, Clone, Default)]
pub struct Device {
    /// Its id.
    pub id: String,
    /// The device type, as people read it.
    pub kind: String,
    /// When it was registered.
    pub since: Option<Timestamp>,
    /// The browser it was registered with, as that names itself; may be empty.
    pub browser: String,
    /// Whether an administrator approved it.
    pub approved: bool,
    /// Whether this session has shown it.
    pub here: bool,
}

/// The session as its owner sees it.
#[derive(Debug, Clone, Default)]
pub struct SessionFacts {
    /// When it began.
    pub since: Option<Timestamp>,
    /// When it ends at the latest.
    pub until: Option<Timestamp>,
    /// The provider's title.
    pub provider: Option<String>,
    /// The address the sign-in came from.
    pub from: Option<String>,
    /// Session id.
    pub id: String,
    /// User id.
    pub user_id: String,
}

/// The page's content. Without a session it says so.
#[derive(Debug, Clone, Default)]
pub struct UserInfo<'a> {
    /// The session; none for somebody who is not signed in.
    pub session: Option<SessionFacts>,
    /// Full name, may be empty.
    pub name: &'a str,
    /// E-mail, may be empty.
    pub email: &'a str,
    /// Picture address; shown when it is one that may load.
    pub picture: Option<&'a str>,
    /// An administrator is acting as this person.
    pub impersonated: bool,
    /// Groups, in the order to show.
    pub groups: Vec<Group>,
    /// Claims, in the order to show; names that carry tokens are left out by [`super::user_info`].
    pub claims: Vec<Claim>,
    /// Registered devices; none where they are not known.
    pub devices: Option<Devices>,
    /// Where signing out starts.
    pub sign_out_url: &'a str,
    /// Where signing in starts, when there is such a place.
    pub sign_in_url: Option<&'a str>,
}

#[derive(Template)]
#[template(path = "account.html")]
struct Page<'a> {
    frame: &'a Frame<'a>,
    t: &'a Texts,
    page: &'a UserInfo<'a>,
    claims: Vec<&'a Claim>,
    picture: Option<&'a str>,
    sign_in: Option<&'a str>,
    sign_out: &'a str,
}

/// Claims whose value would let somebody act for the user.
const SECRET_CLAIMS: [&str; 8] = [
    "access_token",
    "refresh_token",
    "id_token",
    "at_hash",
    "c_hash",
    "s_hash",
    "nonce",
    "jti",
];

pub(super) fn page(page: &UserInfo<'_>, frame: &Frame<'_>) -> Response {
    let claims = page
        .claims
        .iter()
        .filter(|claim| !is_secret(&claim.name))
        .collect();
    let picture = page.picture.and_then(image);
    let sign_in = page.sign_in_url.and_then(href);
    let sign_out = href(page.sign_out_url).unwrap_or("/.pomerium/sign_out");
    let page = Page {
        frame,
        t: &frame.site.texts,
        page,
        claims,
        picture,
        sign_in,
        sign_out,
    };
    render(&page, StatusCode::OK, Forms::Here)
}

/// Claims of nested objects come as `outer.inner`: the last part names the value.
fn is_secret(claim: &str) -> bool {
    let name = claim.rsplit('.').next().unwrap_or(claim);
    SECRET_CLAIMS.contains(&name)
}

impl Page<'_> {
    /// The heading: name, else e-mail, else user id.
    fn title(&self) -> &str {
        let id = self.page.session.as_ref().map_or("", |session| &session.user_id);
        [self.page.name, self.page.email, id]
            .into_iter()
            .find(|text| !text.is_empty())
            .unwrap_or(self.t.account)
    }

    fn initial(&self) -> String {
        initial(self.title())
    }

    /// The line under the heading, unless it says the same.
    fn subtitle(&self) -> Option<&str> {
        (!self.page.email.is_empty() && self.title() != self.page.email).then_some(self.page.email)
    }
}

/// The first letter, as a stand-in for a picture.
pub(super) fn initial(name: &str) -> String {
    name.trim()
        .chars()
        .next()
        .map(|letter| letter.to_uppercase().collect())
        .unwrap_or_default()
}

/// A time for people without scripts; the module turns it into theirs.
pub(super) fn in_words(at: &Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::is_secret;

    #[test]
    fn tokens_are_secret_however_deep_they_lie() {
        for claim in ["access_token", "tokens.refresh_token", "a.b.id_token"] {
            assert!(is_secret(claim), "{claim}");
        }
        for claim in ["email", "access_token.type", "token"] {
            assert!(!is_secret(claim), "{claim}");
        }
    }
}
