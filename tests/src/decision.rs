//! Questions to the listener for other proxies, byte for byte, from this machine as a trusted peer.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use bytes::Bytes;
use pomerium_api::pb::ext_authz::check_response::HttpResponse;
use pomerium_api::pb::ext_authz::{CheckRequest, CheckResponse};
pub use pomerium_testing::ext_authz::{CHECK, Called, http, question};
use pomerium_testing::{EnvironmentBuilder, Port, RawClient, RawReply, ScriptedIdp, ext_authz, lease};
use prost::Message as _;
use serde_json::json;

use crate::{Stage, scripted_with};

/// The program with the four routes and a listener for proxies; somebody is signed in.
pub struct DecisionStage {
    /// Program, application, provider.
    pub stage: Stage<ScriptedIdp>,
    /// `_pomerium=…` of that somebody, for `app.example.com`.
    pub cookie: String,
    port: Port,
}

impl DecisionStage {
    /// Starts it; `trusted_peers` is 127.0.0.1 and nobody else.
    pub async fn start() -> Result<DecisionStage> {
        Self::start_with(|builder| builder).await
    }

    /// As [`DecisionStage::start`], with more settings.
    pub async fn start_with(
        change: impl FnOnce(EnvironmentBuilder) -> EnvironmentBuilder,
    ) -> Result<DecisionStage> {
        let port = lease()?;
        let listener =
            json!({ "address": format!("127.0.0.1:{}", port.number()), "trusted_peers": ["127.0.0.1"] });
        let stage = scripted_with(|builder| change(builder.set("decision_listener", listener))).await?;
        let client = stage.signed_in().await?;
        let cookie = client
            .cookie(&stage.env.url("app", "/"), "_pomerium")
            .context("no session")?;
        Ok(DecisionStage {
            stage,
            cookie: format!("_pomerium={cookie}"),
            port,
        })
    }

    /// Where proxies ask.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port.number()))
    }

    /// The host of a route with its port.
    pub fn host(&self, name: &str) -> String {
        self.stage.env.authority_of(name)
    }

    /// Sends a head as it is, and reads the answer.
    pub async fn raw(&self, head: &[u8]) -> Result<RawReply> {
        let mut client = RawClient::connect(self.address(), None).await?;
        client.send(head).await?;
        client.reply(false).await
    }

    /// A question at `path` with these headers and no others.
    pub async fn ask(&self, path: &str, headers: &[(&str, &str)]) -> Result<RawReply> {
        let mut head = format!("GET {path} HTTP/1.1\r\nHost: decision\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        self.raw(head.as_bytes()).await
    }

    /// Calls `Check` with a message.
    pub async fn check(&self, message: &CheckRequest) -> Result<CheckResponse> {
        self.check_bytes(&message.encode_to_vec()).await
    }

    /// Calls `Check` with bytes that may be no message.
    pub async fn check_bytes(&self, message: &[u8]) -> Result<CheckResponse> {
        ext_authz::check(self.address(), message).await
    }

    /// Calls a method with bytes that may be no message.
    pub async fn call(&self, method: &str, message: &[u8]) -> Result<Called> {
        ext_authz::call(self.address(), method, message).await
    }
}

/// The status of a denial; none for an OK, and for an answer that is neither.
pub fn denial(response: &CheckResponse) -> Option<i32> {
    let denied = response.status.as_ref().is_some_and(|status| status.code != 0);
    match &response.http_response {
        Some(HttpResponse::DeniedResponse(answer)) if denied => {
            answer.status.as_ref().map(|status| status.code)
        }
        _ => None,
    }
}

/// Headers that are set, and names that are removed.
pub type Instructions = (Vec<(String, String)>, Vec<String>);

/// What an OK sets and removes, as text.
pub fn instructions(response: &CheckResponse) -> Option<Instructions> {
    let ok = response.status.as_ref().is_some_and(|status| status.code == 0);
    let Some(HttpResponse::OkResponse(answer)) = response.http_response.as_ref().filter(|_| ok) else {
        return None;
    };
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let set = answer.headers.iter().filter_map(|option| option.header.as_ref());
    Some((
        set.map(|header| (text(&header.key), text(&header.value)))
            .collect(),
        answer.headers_to_remove.iter().map(text).collect(),
    ))
}
