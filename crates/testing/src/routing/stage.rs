//! Plays a case: stubs for the upstreams, the program with the case's configuration, one request.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use serde_json::{Map, Value};

use super::case::{Case, Request};
use super::config::Place;
use crate::environment::{Server, write_config};
use crate::{Authority, Client, ClientOptions, RawClient, RawReply, Recorded, ScriptedIdp, Upstream, lease};

/// The client's address in the cases, and what stands for it.
const CLIENT: (&str, Ipv4Addr) = ("203.0.113.9", Ipv4Addr::new(127, 0, 0, 9));
/// An address of an inner network in the cases, and what stands for it.
const INTERNAL: (&str, Ipv4Addr) = ("10.1.2.3", Ipv4Addr::LOCALHOST);

/// What happened, in the case's own names.
#[derive(Debug)]
pub(super) struct Seen {
    /// Which route's upstream got the request, and what it got.
    pub(super) upstream: Option<(usize, Recorded)>,
    pub(super) reply: RawReply,
    /// The access log entry.
    pub(super) log: Value,
}

struct Stub {
    upstream: Upstream,
    /// `host[:port]` in the case.
    stands_for: String,
    /// `host:port` here.
    authority: String,
}

pub(super) async fn play(case: &Case, seed: super::Seed) -> Result<Seen> {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new()?;
    let (port, health) = (lease()?, lease()?);
    let idp = ScriptedIdp::start().await?;
    let (stubs, routes) = stubs(case, &authority).await?;
    let place = Place {
        folder: folder.path(),
        authority: &authority,
        port: port.number(),
        health: health.number(),
        issuer: &idp.issuer(),
    };
    let (config, records) = place.config(case, &routes)?;
    if !records.is_empty() {
        seed(folder.path().join("data"), records).await?;
    }
    write_config(folder.path(), &config)?;
    let server = Server::start(folder.path(), health.number(), &[]).await?;
    let mark = server.output().mark();
    let address = SocketAddr::from(([127, 0, 0, 1], port.number()));
    let reply = ask(&case.request, address).await?;
    let log = server
        .output()
        .wait_json(mark, "the request in the access log", |line| {
            line["message"] == "http-request"
        })
        .await?;
    let upstream = received(&stubs);
    Ok(Seen { upstream, reply, log })
}

/// A stub for each upstream (`to` may be a list), and the routes with the stubs in place of the upstreams.
async fn stubs(case: &Case, authority: &Authority) -> Result<(Vec<(usize, Stub)>, Vec<Map<String, Value>>)> {
    let (mut stubs, mut routes) = (Vec::new(), Vec::new());
    for (index, route) in case.routes.iter().enumerate() {
        let mut route = route.clone();
        if let Some(to) = route.get_mut("to") {
            let urls = match to {
                Value::Array(urls) => urls.iter_mut().collect(),
                one => vec![one],
            };
            for url in urls {
                let given = url.as_str().unwrap_or_default().to_owned();
                // Nobody listens there, and that is the point of the case.
                if given.contains("//127.0.0.1:1") || given.is_empty() {
                    continue;
                }
                let (address, weight) = given
                    .split_once(',')
                    .map_or((&*given, None), |(to, n)| (to, Some(n)));
                let (stub, here) = stub(address, case, authority).await?;
                *url = weight
                    .map_or(here.clone(), |weight| format!("{here},{weight}"))
                    .into();
                stubs.push((index, stub));
            }
        }
        routes.push(route);
    }
    Ok((stubs, routes))
}

async fn stub(to: &str, case: &Case, authority: &Authority) -> Result<(Stub, String)> {
    let (scheme, rest) = to
        .split_once("://")
        .with_context(|| format!("`to` is not a URL: {to}"))?;
    let (stands_for, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let upstream = match scheme {
        "https" => Upstream::start_tls(authority, &["127.0.0.1", "localhost"], true).await?,
        _ => Upstream::start().await?,
    };
    if let Some(canned) = &case.upstream_response {
        let headers: Vec<_> = canned
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        if canned.status != 101 {
            upstream.reply_with(canned.status, &headers, "");
        }
    }
    let host = if stands_for.starts_with("localhost") {
        "localhost"
    } else {
        "127.0.0.1"
    };
    let here = format!("{host}:{}", upstream.address().port());
    let url = format!("{scheme}://{here}{path}");
    Ok((
        Stub {
            upstream,
            stands_for: stands_for.to_owned(),
            authority: here,
        },
        url,
    ))
}

async fn ask(request: &Request, address: SocketAddr) -> Result<RawReply> {
    if request.protocol.as_deref() == Some("h2") {
        return ask_http2(request, address).await;
    }
    let source = match request.client_ip.as_deref() {
        None => CLIENT.1,
        Some(ip) if ip == CLIENT.0 => CLIENT.1,
        Some(ip) if ip == INTERNAL.0 => INTERNAL.1,
        Some(ip) => bail!("no local address stands for the client address {ip}"),
    };
    let (authority, target) = authority_and_target(request)?;
    let mut head = format!("{} {target} HTTP/1.1\r\nHost: {authority}\r\n", request.method);
    for (name, value) in &request.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let source = Some(IpAddr::V4(source));
    let mut client = if request.tls == Some(false) {
        RawClient::connect(address, source).await?
    } else {
        let host = authority
            .split(':')
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase();
        RawClient::connect_tls_trusting_anyone(address, source, &host).await?
    };
    client.send(head).await?;
    client.reply(request.method == "HEAD").await
}

/// The URL's parts exactly as written: a URL parser would tidy the path.
fn authority_and_target(request: &Request) -> Result<(String, String)> {
    if request.method == "CONNECT" {
        return Ok((request.url.clone(), request.url.clone()));
    }
    let (_, rest) = request
        .url
        .split_once("://")
        .with_context(|| format!("not a URL: {}", request.url))?;
    let (authority, target) = rest
        .find(['/', '?', '#'])
        .map_or((rest, "/"), |at| rest.split_at(at));
    Ok((
        request.host.clone().unwrap_or_else(|| authority.to_owned()),
        target.to_owned(),
    ))
}

async fn ask_http2(request: &Request, address: SocketAddr) -> Result<RawReply> {
    let options = ClientOptions {
        trust_anyone: true,
        port: Some(address.port()),
        ..ClientOptions::default()
    };
    let client = Client::new(&options)?;
    let headers: Vec<_> = request
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let method = request.method.parse().context("method")?;
    let reply = client.send(method, &request.url, &headers, Bytes::new()).await?;
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    Ok(RawReply {
        status: reply.status.as_u16(),
        headers: reply
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), text(value)))
            .collect(),
        body: reply.body.to_vec(),
    })
}

/// The request that reached a stub, with the case's names put back.
fn received(stubs: &[(usize, Stub)]) -> Option<(usize, Recorded)> {
    stubs.iter().find_map(|(index, stub)| {
        let mut request = stub.upstream.requests().into_iter().next()?;
        let back = |text: &str| {
            text.replace(&stub.authority, &stub.stands_for)
                .replace(&CLIENT.1.to_string(), CLIENT.0)
                .replace(&INTERNAL.1.to_string(), INTERNAL.0)
        };
        request.host = back(&request.host);
        for (_, value) in &mut request.headers {
            *value = back(value);
        }
        Some((*index, request))
    })
}
