//! A name server on a socket that says what the test wants.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::within;

/// What a name has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Says {
    /// These addresses, for so many seconds.
    Addresses(Vec<IpAddr>, u32),
    /// NXDOMAIN.
    Nothing,
    /// SERVFAIL.
    Failure,
    /// No answer at all.
    Silence,
}

/// One question it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Name, lower case, without the dot at its end.
    pub name: String,
    /// Whether for IPv6 addresses.
    pub v6: bool,
    /// Whether over TCP.
    pub tcp: bool,
    /// Where from.
    pub from: SocketAddr,
}

/// A running name server, UDP and TCP on one port; names it was not told about do not exist.
#[derive(Debug)]
pub struct NameServer {
    address: SocketAddr,
    state: Arc<State>,
    _tasks: [AbortOnDropHandle<()>; 2],
}

#[derive(Debug)]
struct State {
    names: Mutex<HashMap<String, Says>>,
    asked: Mutex<Vec<Asked>>,
    count: watch::Sender<usize>,
}

impl NameServer {
    /// Starts one on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// No port that is free for both.
    pub async fn start() -> Result<NameServer> {
        let tcp = TcpListener::bind("127.0.0.1:0").await?;
        let address = tcp.local_addr()?;
        let udp = UdpSocket::bind(address).await.context("the UDP port is taken")?;
        let state = Arc::new(State {
            names: Mutex::default(),
            asked: Mutex::default(),
            count: watch::Sender::new(0),
        });
        let tasks = [
            AbortOnDropHandle::new(tokio::spawn(over_udp(udp, state.clone()))),
            AbortOnDropHandle::new(tokio::spawn(over_tcp(tcp, state.clone()))),
        ];
        Ok(NameServer {
            address,
            state,
            _tasks: tasks,
        })
    }

    /// Where it listens, as `dns_resolvers` takes it: `udp://…`.
    pub fn udp_url(&self) -> String {
        format!("udp://{}", self.address)
    }

    /// The same, TCP only.
    pub fn tcp_url(&self) -> String {
        format!("tcp://{}", self.address)
    }

    /// From now on, `name` has this.
    pub fn say(&self, name: &str, says: Says) {
        self.state.names.lock().insert(name.to_ascii_lowercase(), says);
    }

    /// From now on, `name` has these addresses for so many seconds.
    pub fn addresses(&self, name: &str, addresses: &[&str], ttl: u32) {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        self.say(name, Says::Addresses(addresses, ttl));
    }

    /// Every question so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.state.asked.lock().clone()
    }

    /// Waits until `more` further questions have come.
    ///
    /// # Errors
    /// They do not come in time.
    pub async fn wait_for_more(&self, more: usize) -> Result<()> {
        let mut count = self.state.count.subscribe();
        let goal = *count.borrow() + more;
        within("questions to the name server", count.wait_for(|now| *now >= goal)).await??;
        Ok(())
    }
}

async fn over_udp(socket: UdpSocket, state: Arc<State>) {
    let mut buffer = [0; 1500];
    while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
        if let Some(answer) = state.answer(&buffer[..length], (false, from)) {
            let _ = socket.send_to(&answer, from).await;
        }
    }
}

async fn over_tcp(listener: TcpListener, state: Arc<State>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((socket, from)) = listener.accept().await {
        connections.spawn(one_connection(socket, from, state.clone()));
    }
}

async fn one_connection(mut socket: TcpStream, from: SocketAddr, state: Arc<State>) {
    while let Ok(length) = socket.read_u16().await {
        let mut question = vec![0; length.into()];
        if socket.read_exact(&mut question).await.is_err() {
            return;
        }
        let Some(answer) = state.answer(&question, (true, from)) else {
            continue;
        };
        let Ok(length) = u16::try_from(answer.len()) else {
            return;
        };
        if socket.write_u16(length).await.is_err() || socket.write_all(&answer).await.is_err() {
            return;
        }
    }
}

impl State {
    /// The answer to one message (RFC 1035 4.1); `None` is silence.
    fn answer(&self, message: &[u8], (tcp, from): (bool, SocketAddr)) -> Option<Vec<u8>> {
        const AAAA: u16 = 28;
        let (name, end) = name_of(message)?;
        let kind = u16::from_be_bytes([*message.get(end)?, *message.get(end + 1)?]);
        self.asked.lock().push(Asked {
            name: name.clone(),
            v6: kind == AAAA,
            tcp,
            from,
        });
        self.count.send_modify(|count| *count += 1);
        let says = self.names.lock().get(&name).cloned().unwrap_or(Says::Nothing);
        let (code, records, ttl) = match says {
            Says::Silence => return None,
            Says::Failure => (2, Vec::new(), 0),
            Says::Nothing => (3, Vec::new(), 0),
            Says::Addresses(addresses, ttl) => (0, addresses, ttl),
        };
        let wanted: Vec<IpAddr> = records
            .into_iter()
            .filter(|address| address.is_ipv6() == (kind == AAAA))
            .collect();
        // Answer, recursion available; one question, the records, nothing else.
        let mut answer = message.get(..2)?.to_vec();
        answer.extend([
            0x81,
            0x80 | code,
            0,
            1,
            0,
            u8::try_from(wanted.len()).ok()?,
            0,
            0,
            0,
            0,
        ]);
        answer.extend(message.get(12..end + 4)?);
        for address in wanted {
            // The name of the question, its kind, the internet class.
            answer.extend([0xc0, 12]);
            answer.extend(kind.to_be_bytes());
            answer.extend([0, 1]);
            answer.extend(ttl.to_be_bytes());
            match address {
                IpAddr::V4(address) => answer.extend([&[0, 4][..], &address.octets()].concat()),
                IpAddr::V6(address) => answer.extend([&[0, 16][..], &address.octets()].concat()),
            }
        }
        Some(answer)
    }
}

/// The name asked for and where it ends.
fn name_of(message: &[u8]) -> Option<(String, usize)> {
    let (mut name, mut at) = (String::new(), 12);
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            return Some((name, at));
        }
        let label = message.get(at..at + length)?;
        if !name.is_empty() {
            name.push('.');
        }
        name.push_str(&String::from_utf8_lossy(label).to_ascii_lowercase());
        at += length;
    }
}
