//! The whole program inside the test: so that records can be written through its databroker while it runs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use pomerium::server::load::Source;
use pomerium::server::{LogOutput, Options, Server, Start};
use pomerium_api::clock::{Clock as _, SystemClock};
use pomerium_api::databroker::Record;
use pomerium_api::json::to_struct;
use pomerium_api::pb::session::Session;
use pomerium_api::pb::user::User;
use pomerium_api::records::{
    DIRECTORY_GROUP, DIRECTORY_USER, struct_record, struct_tombstone, to_proto_time, to_record,
};
use pomerium_testing::{RawClient, RawReply, Upstream, within};
use prost_types::value::Kind;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::payload;

/// The shared secret, 32 bytes.
const SECRET: [u8; 32] = *b"tests only: the shared secret !!";

/// The program, serving plain HTTP.
pub struct Inside {
    /// Runs in this process.
    pub server: Arc<Server>,
    /// Behind every route.
    pub upstream: Upstream,
    folder: TempDir,
    address: SocketAddr,
}

impl Inside {
    /// Starts it with routes of these names and policies, and with further settings.
    pub async fn start(routes: &[(&str, Value)], more: Value) -> Result<Inside> {
        let upstream = Upstream::start().await?;
        let folder = tempfile::tempdir()?;
        let routes = routes.iter().map(|(name, policy)| {
            json!({
                "from": format!("https://{name}.example.com"), "to": upstream.url(),
                "policy": policy, "pass_identity_headers": true, "allow_websockets": true,
            })
        });
        let mut config = json!({
            "address": "127.0.0.1:0", "health_check_addr": format!("127.0.0.1:{}", pomerium_testing::lease()?.number()),
            "insecure_server": true, "databroker_storage_type": "memory", "data_dir": folder.path().join("data"),
            "authenticate_service_url": "https://authenticate.example.com",
            "shared_secret": pomerium_crypto::encoding::base64_encode(&SECRET),
            "idp_provider": "oidc", "idp_provider_url": "https://idp.example.com", "idp_client_id": "proxy",
            "idp_client_secret": "secret", "routes": routes.collect::<Vec<_>>(),
            "authorize_log_fields": ["host", "user", "email", "removed-groups-count"],
        });
        if let (Some(config), Some(more)) = (config.as_object_mut(), more.as_object()) {
            config.extend(more.clone());
        }
        let file = folder.path().join("config.json");
        std::fs::write(&file, config.to_string())?;
        let options = Options {
            source: Source::new(Some(&file), &BTreeMap::new()),
            log_output: LogOutput::File(folder.path().join("log.txt")),
            workers: Some(1),
            start: Start::default(),
        };
        let server = Server::start(options).await?;
        let address = *server.local_addrs().first().context("it listens nowhere")?;
        Ok(Inside {
            server,
            upstream,
            folder,
            address,
        })
    }

    /// Writes records and waits until requests are judged by them.
    pub async fn put(&self, records: Vec<Record>) -> Result<()> {
        let mut changes = self.server.records().changes();
        let reply = self.server.databroker().put(records).await?;
        let last = reply.records.last().map_or(0, |record| record.version);
        within("the records to arrive", async {
            let arrived = || {
                self.server
                    .records()
                    .position()
                    .is_some_and(|at| at.latest_record_version >= last)
            };
            while !arrived() && changes.changed().await.is_ok() {}
        })
        .await
    }

    /// Asks for `/` at `<name>.example.com` with the session or service account `id`, and with further headers.
    pub async fn ask(&self, name: &str, id: Option<&str>, headers: &[(&str, &str)]) -> Result<RawReply> {
        let mut request =
            format!("GET / HTTP/1.1\r\nHost: {name}.example.com\r\nAccept: application/json\r\n");
        if let Some(id) = id {
            let (_, token) = self.door(id);
            request += &format!("X-Pomerium-Authorization: {token}\r\n");
        }
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        let mut client = RawClient::connect(self.address, None).await?;
        client.send(request + "\r\n").await?;
        client.reply(false).await
    }

    /// As [`Self::ask`]; the status alone.
    pub async fn status(&self, name: &str, id: &str) -> Result<u16> {
        Ok(self.ask(name, Some(id), &[]).await?.status)
    }

    /// The address of the listener, and a token for the session or service account `id`.
    pub fn door(&self, id: &str) -> (SocketAddr, String) {
        (
            self.address,
            pomerium_crypto::jwt::hs256_sign(&SECRET, &json!({ "jti": id })),
        )
    }

    /// The claims of the assertion that the application gets.
    pub async fn assertion(&self, name: &str, id: &str) -> Result<Value> {
        let reply = self.ask(name, Some(id), &[]).await?;
        ensure!(reply.status == 200, "{}: {}", reply.status, reply.text());
        let request = self
            .upstream
            .take_requests()
            .pop()
            .context("the application was not asked")?;
        Ok(payload(
            request
                .header("x-pomerium-jwt-assertion")
                .context("no assertion")?,
        ))
    }

    /// Changes the configuration and reads it again.
    pub fn reload(&self, change: impl FnOnce(&mut Value)) -> Result<()> {
        let file = self.folder.path().join("config.json");
        let mut config = serde_json::from_slice(&std::fs::read(&file)?)?;
        change(&mut config);
        std::fs::write(&file, config.to_string())?;
        self.server.reload();
        Ok(())
    }

    /// Stops it and reads the authorize log.
    pub async fn authorize_log(self) -> Result<Vec<Value>> {
        Arc::clone(&self.server).stop().await;
        let text = std::fs::read_to_string(self.folder.path().join("log.txt"))?;
        let lines = text
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<Vec<Value>, _>>()?;
        Ok(lines
            .into_iter()
            .filter(|line| line["message"] == "authorize check")
            .collect())
    }
}

/// A session that lives for a while, with claims as lists.
pub fn session(id: &str, user_id: &str, claims: &Value) -> Session {
    let list = |value: prost_types::Value| match value.kind {
        Some(Kind::ListValue(list)) => list,
        kind => prost_types::ListValue {
            values: vec![prost_types::Value { kind }],
        },
    };
    let claims = to_struct(claims).fields.into_iter();
    let soon = SystemClock.now() + jiff::SignedDuration::from_hours(1);
    Session {
        id: id.into(),
        user_id: user_id.into(),
        issued_at: Some(to_proto_time(SystemClock.now())),
        expires_at: Some(to_proto_time(soon)),
        claims: claims.map(|(name, value)| (name, list(value))).collect(),
        ..Session::default()
    }
}

/// The record of a user.
pub fn user(id: &str, email: &str) -> Record {
    to_record(&User {
        id: id.into(),
        email: email.into(),
        ..User::default()
    })
}

/// What a directory says about a user.
pub fn directory_user(id: &str, groups: &[&str]) -> Record {
    struct_record(DIRECTORY_USER, id, &json!({ "id": id, "group_ids": groups }))
}

/// What a directory says about a group.
pub fn directory_group(id: &str, name: &str) -> Record {
    struct_record(DIRECTORY_GROUP, id, &json!({ "id": id, "name": name }))
}

/// The record of a user of the directory, gone.
pub fn gone_directory_user(id: &str) -> Record {
    struct_tombstone(DIRECTORY_USER, id, SystemClock.now())
}
