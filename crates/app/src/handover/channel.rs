//! Messages between the old process and the new one, and the questions the old one still has for the store.

use std::io;

use pomerium_api::databroker::Record;
use pomerium_api::pb::databroker::{PatchRequest, QueryRequest, ReleaseLeaseRequest, SetOptionsRequest};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

/// The longest message: the largest batch of records that is written at once.
const LONGEST: u32 = 64 * 1024 * 1024;

/// One message.
#[derive(Clone, PartialEq, Message)]
pub struct Frame {
    /// Joins an answer to its question; 0 for messages without.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// What it says.
    #[prost(oneof = "Body", tags = "2, 3, 4, 5, 10, 11, 12, 13, 14, 15, 16, 17, 20, 21")]
    pub body: Option<Body>,
}

/// What a message says.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Body {
    /// New to old: give up the store.
    #[prost(bool, tag = "2")]
    StoreWanted(bool),
    /// Old to new: the store is closed.
    #[prost(bool, tag = "3")]
    StoreFree(bool),
    /// New to old: I serve.
    #[prost(bool, tag = "4")]
    Ready(bool),
    /// Old to new: you are the main process now.
    #[prost(bool, tag = "5")]
    Taken(bool),
    /// A record is asked for.
    #[prost(message, tag = "10")]
    Get(Key),
    /// Records are to be written.
    #[prost(message, tag = "11")]
    Put(Records),
    /// A record is to be replaced.
    #[prost(message, tag = "12")]
    Replace(Record),
    /// A page is asked for.
    #[prost(message, tag = "13")]
    Query(QueryRequest),
    /// The versions are asked for.
    #[prost(bool, tag = "14")]
    Versions(bool),
    /// Fields of records are to be written.
    #[prost(message, tag = "15")]
    Patch(PatchRequest),
    /// How records of a type are to be kept.
    #[prost(message, tag = "16")]
    SetOptions(SetOptionsRequest),
    /// A lease is given back.
    #[prost(message, tag = "17")]
    Release(ReleaseLeaseRequest),
    /// The answer of all these.
    #[prost(message, tag = "20")]
    Answer(Records),
    /// The answer when it failed.
    #[prost(message, tag = "21")]
    Failed(Failed),
}

/// Names a record.
#[derive(Clone, PartialEq, Message)]
pub struct Key {
    /// Type of the record.
    #[prost(string, tag = "1")]
    pub record_type: String,
    /// Its id.
    #[prost(string, tag = "2")]
    pub id: String,
}

/// Records with where the database stands.
#[derive(Clone, PartialEq, Message)]
pub struct Records {
    /// The records.
    #[prost(message, repeated, tag = "1")]
    pub records: Vec<Record>,
    /// Which database.
    #[prost(uint64, tag = "2")]
    pub server_version: u64,
    /// Its last version.
    #[prost(uint64, tag = "3")]
    pub latest: u64,
    /// How many records there are in all.
    #[prost(uint64, tag = "4")]
    pub total: u64,
}

/// Why a question has no answer.
#[derive(Clone, PartialEq, Message)]
pub struct Failed {
    /// The record does not exist.
    #[prost(bool, tag = "1")]
    pub not_found: bool,
    /// What the store says.
    #[prost(string, tag = "2")]
    pub text: String,
}

/// Reads one message; `None` at the end.
pub async fn read(from: &mut OwnedReadHalf) -> io::Result<Option<Frame>> {
    let length = match from.read_u32().await {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    if length > LONGEST {
        return Err(io::Error::other("a message of the hand-over is too long"));
    }
    let mut bytes = vec![0; length as usize];
    from.read_exact(&mut bytes).await?;
    Frame::decode(&bytes[..]).map(Some).map_err(io::Error::other)
}

/// Writes one message.
pub async fn write(to: &mut OwnedWriteHalf, id: u64, body: Body) -> io::Result<()> {
    let bytes = Frame { id, body: Some(body) }.encode_to_vec();
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    to.write_u32(length).await?;
    to.write_all(&bytes).await
}
