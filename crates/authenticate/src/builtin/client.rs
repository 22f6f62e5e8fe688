//! Who may ask the built-in provider to sign people in: the clients that the settings name, nobody else.

use http::HeaderMap;
use http::header::AUTHORIZATION;
use pomerium_config::settings::Secret;
use pomerium_crypto::query::Query;
use pomerium_crypto::{ct, encoding};

/// One OAuth client.
#[derive(Debug, Clone)]
pub struct Client {
    /// Client id.
    pub id: String,
    /// Client secret.
    pub secret: Secret,
    /// Where codes may be sent; compared byte by byte.
    pub redirect_uris: Vec<String>,
    /// Where people may be sent after signing out; compared byte by byte.
    pub post_logout_uris: Vec<String>,
}

/// All clients.
#[derive(Debug, Default)]
pub struct Clients(Vec<Client>);

impl Clients {
    /// Takes the clients; of two with the same id the first stays.
    pub fn new(clients: impl IntoIterator<Item = Client>) -> Self {
        let mut kept: Vec<Client> = Vec::new();
        for client in clients {
            if kept.iter().all(|known| known.id != client.id) {
                kept.push(client);
            }
        }
        Self(kept)
    }

    /// The client with this id.
    pub fn find(&self, id: &str) -> Option<&Client> {
        self.0.iter().find(|client| client.id == id)
    }

    /// The client that proves itself by HTTP Basic or by form parameters (RFC 6749 2.3.1), by one of the two
    /// only. The secret is compared in full and in constant time.
    pub fn authenticate(&self, headers: &HeaderMap, form: &Query) -> Option<&Client> {
        let (id, secret) = match (basic(headers), form.get("client_secret")) {
            (Some(_), Some(_)) => return None,
            (Some(pair), None) => pair,
            (None, Some(secret)) => (form.get("client_id")?.to_owned(), secret.to_owned()),
            (None, None) => return None,
        };
        let client = self.find(&id)?;
        ct::eq(client.secret.expose(), secret.as_bytes()).then_some(client)
    }
}

/// User and password of HTTP Basic, form-decoded as OAuth wants them.
fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(encoding::base64_decode(token.trim()).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    Some((form_decoded(id)?, form_decoded(secret)?))
}

fn form_decoded(text: &str) -> Option<String> {
    Query::parse(&format!("v={text}")).get("v").map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clients() -> Clients {
        Clients::new([Client {
            id: "pomerium".into(),
            secret: Secret::new(*b"s+e c:ret"),
            redirect_uris: vec![],
            post_logout_uris: vec![],
        }])
    }

    fn with_basic(text: &str) -> HeaderMap {
        let value = format!("Basic {}", encoding::base64_encode(text.as_bytes()));
        HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())])
    }

    #[test]
    fn basic_and_form_credentials() {
        let clients = clients();
        let form = Query::parse("client_id=pomerium&client_secret=s%2Be+c%3Aret");
        assert!(clients.authenticate(&HeaderMap::new(), &form).is_some());
        assert!(
            clients
                .authenticate(&with_basic("pomerium:s%2Be+c%3Aret"), &Query::parse(""))
                .is_some()
        );
    }

    #[test]
    fn anything_else_is_refused() {
        let clients = clients();
        let none = HeaderMap::new();
        for form in [
            "",
            "client_id=pomerium",
            "client_id=pomerium&client_secret=",
            "client_id=pomerium&client_secret=s%2Be+c%3Are",
            "client_id=pomerium&client_secret=s%2Be+c%3Arett",
            "client_id=other&client_secret=s%2Be+c%3Aret",
            "client_secret=s%2Be+c%3Aret",
        ] {
            assert!(
                clients.authenticate(&none, &Query::parse(form)).is_none(),
                "{form}"
            );
        }
        for text in [
            "pomerium",
            "pomerium:",
            "pomerium:no",
            ":s%2Be+c%3Aret",
            "Pomerium:s%2Be+c%3Aret",
        ] {
            assert!(
                clients
                    .authenticate(&with_basic(text), &Query::parse(""))
                    .is_none(),
                "{text}"
            );
        }
        let both = Query::parse("client_id=pomerium&client_secret=s%2Be+c%3Aret");
        assert!(
            clients
                .authenticate(&with_basic("pomerium:s%2Be+c%3Aret"), &both)
                .is_none()
        );
    }
}
