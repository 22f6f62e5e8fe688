//! The record by dynamic update (RFC 2136), over TCP.

use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode, UpdateMessage as _};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use pomerium_api::clock::Clock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::tsig::{Signer, absolute};
use super::{DnsError, TxtRecord};
use crate::acme::options::DnsUpdate;

/// How long an exchange with the server may take.
const EXCHANGE: Duration = Duration::from_secs(10);
/// How often the record is looked for.
const LOOK: Duration = Duration::from_millis(500);

pub(super) async fn present(
    settings: &DnsUpdate,
    record: &TxtRecord,
    clock: &Arc<dyn Clock>,
) -> Result<(), DnsError> {
    let server = Server::new(settings, clock)?;
    let name = name(&record.fqdn)?;
    let zone = server.zone(&name).await?;
    let ttl = u32::try_from(settings.ttl.as_secs()).unwrap_or(u32::MAX);
    let added = txt(&name, ttl, &record.value);
    server.update(&zone, added).await?;
    server.wait_for(&name, &record.value).await
}

pub(super) async fn clean(
    settings: &DnsUpdate,
    record: &TxtRecord,
    clock: &Arc<dyn Clock>,
) -> Result<(), DnsError> {
    let server = Server::new(settings, clock)?;
    let name = name(&record.fqdn)?;
    let zone = server.zone(&name).await?;
    // Exactly this record: another order may have one of the same name (RFC 2136 section 2.5.4).
    let mut removed = txt(&name, 0, &record.value);
    removed.dns_class = DNSClass::NONE;
    server.update(&zone, removed).await
}

fn name(text: &str) -> Result<Name, DnsError> {
    let name = Name::from_ascii(text).map_err(|_| DnsError::Setting(format!("{text} is no name")))?;
    Ok(absolute(name))
}

fn txt(name: &Name, ttl: u32, value: &str) -> Record {
    Record::from_rdata(name.clone(), ttl, RData::TXT(TXT::new(vec![value.to_owned()])))
}

struct Server<'a> {
    settings: &'a DnsUpdate,
    signer: Option<Signer>,
    clock: &'a Arc<dyn Clock>,
}

impl<'a> Server<'a> {
    fn new(settings: &'a DnsUpdate, clock: &'a Arc<dyn Clock>) -> Result<Self, DnsError> {
        let signer = settings.key.as_ref().map(Signer::new).transpose();
        Ok(Self {
            settings,
            signer: signer.map_err(DnsError::Setting)?,
            clock,
        })
    }

    /// The zone that holds `below`: as configured, else the owner of the SOA record that the server shows for it.
    async fn zone(&self, below: &Name) -> Result<Name, DnsError> {
        if let Some(zone) = &self.settings.zone {
            let zone = name(zone)?;
            if !zone.zone_of(below) {
                return Err(DnsError::Setting(format!("zone {zone} does not hold {below}")));
            }
            return Ok(zone);
        }
        let mut asked = below.clone();
        while asked.num_labels() > 0 {
            let answer = self.ask(&asked, RecordType::SOA).await?;
            let shown = answer.answers.iter().chain(&answer.authorities);
            let soa = shown.filter(|record| record.record_type() == RecordType::SOA);
            if let Some(zone) = soa.map(|record| &record.name).find(|zone| zone.zone_of(below)) {
                return Ok(absolute(zone.clone()));
            }
            asked = asked.base_name();
        }
        Err(self.refused(format!("it shows no zone that holds {below}; set `zone`")))
    }

    async fn update(&self, zone: &Name, record: Record) -> Result<(), DnsError> {
        let mut message = Message::new(random_id(), MessageType::Query, OpCode::Update);
        let mut section = Query::new();
        section
            .set_name(zone.clone())
            .set_query_class(DNSClass::IN)
            .set_query_type(RecordType::SOA);
        message.add_zone(section);
        message.add_update(record);
        let answer = self.exchange(message, self.signer.as_ref()).await?;
        match answer.metadata.response_code {
            ResponseCode::NoError => Ok(()),
            code => Err(self.refused(format!("the update of zone {zone}: {code}"))),
        }
    }

    /// Waits until the server itself shows the record.
    async fn wait_for(&self, name: &Name, value: &str) -> Result<(), DnsError> {
        let limit = self.settings.propagation;
        let shown = async {
            loop {
                let answer = self.ask(name, RecordType::TXT).await?;
                let found = answer.answers.iter().any(|record| match &record.data {
                    RData::TXT(txt) => txt.txt_data.concat() == value.as_bytes(),
                    _ => false,
                });
                if found {
                    return Ok(());
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        match tokio::time::timeout(limit, shown).await {
            Ok(shown) => shown,
            Err(_) => Err(DnsError::NotShown(limit.as_secs())),
        }
    }

    async fn ask(&self, name: &Name, kind: RecordType) -> Result<Message, DnsError> {
        let mut message = Message::new(random_id(), MessageType::Query, OpCode::Query);
        message.add_query(Query::query(name.clone(), kind));
        self.exchange(message, None).await
    }

    async fn exchange(&self, mut message: Message, signer: Option<&Signer>) -> Result<Message, DnsError> {
        let now = || u64::try_from(self.clock.now().as_second()).unwrap_or(0);
        let mac = match signer {
            Some(signer) => Some(signer.sign(&mut message, now()).map_err(DnsError::Setting)?),
            None => None,
        };
        let request = message
            .to_vec()
            .map_err(|error| DnsError::Setting(error.to_string()))?;
        let answer = match tokio::time::timeout(EXCHANGE, self.send(&request)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(self.unreachable(error.to_string())),
            Err(_) => return Err(self.unreachable("it does not answer".into())),
        };
        let read = Message::from_vec(&answer).map_err(|error| self.nonsense(error.to_string()))?;
        if read.metadata.id != message.metadata.id || read.metadata.message_type != MessageType::Response {
            return Err(self.nonsense("it is no answer to the question".into()));
        }
        if let (Some(signer), Some(mac)) = (signer, mac) {
            match signer.verify(&answer, &mac, now()) {
                Ok(()) => {}
                // A server that does not know the key cannot sign; nothing follows from such an answer but the failure.
                Err(reason) if read.metadata.response_code != ResponseCode::NoError => {
                    return Err(self.refused(format!("{}; {reason}", read.metadata.response_code)));
                }
                Err(reason) => return Err(self.nonsense(reason)),
            }
        }
        Ok(read)
    }

    /// One message each way, with its length in front (RFC 1035 section 4.2.2), which also bounds what is read.
    async fn send(&self, request: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(&self.settings.server).await?;
        let length = u16::try_from(request.len()).map_err(std::io::Error::other)?;
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend_from_slice(request);
        stream.write_all(&framed).await?;
        let length = stream.read_u16().await?;
        let mut answer = vec![0; usize::from(length)];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    }

    fn unreachable(&self, reason: String) -> DnsError {
        DnsError::Unreachable {
            server: self.settings.server.clone(),
            reason,
        }
    }

    fn refused(&self, reason: String) -> DnsError {
        DnsError::Refused {
            server: self.settings.server.clone(),
            reason,
        }
    }

    fn nonsense(&self, reason: String) -> DnsError {
        DnsError::Nonsense {
            server: self.settings.server.clone(),
            reason,
        }
    }
}

fn random_id() -> u16 {
    u16::from_be_bytes(pomerium_crypto::random::bytes::<2>())
}
