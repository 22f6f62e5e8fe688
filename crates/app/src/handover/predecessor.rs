//! The process that this one takes over from: its sockets, its store, its place as main process.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use pomerium_api::databroker::Databroker;
use pomerium_config::settings::Settings;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::activation::setting;
use super::channel::{self, Body};
use super::passing::{self, Label};
use super::{Sockets, relay};

/// Set for a process whose standard input leads to the one before it.
pub const VARIABLE: &str = "POMERIUM_TAKE_OVER";
/// How long the old process may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// The process before this one, still serving.
#[derive(Debug)]
pub struct Predecessor {
    stream: UnixStream,
    sockets: Vec<(Label, std::net::TcpListener)>,
}

impl Predecessor {
    /// The process that started this one to take over; `None` for an ordinary start.
    ///
    /// Errors when its sockets do not come.
    pub fn from_environment() -> anyhow::Result<Option<Self>> {
        if std::env::var_os(VARIABLE).is_none() {
            return Ok(None);
        }
        let input = std::io::stdin().as_fd().try_clone_to_owned()?;
        let mut stream = UnixStream::from(input);
        stream.set_read_timeout(Some(PATIENCE))?;
        let sockets = passing::receive(&mut stream).with_context(|| {
            format!("{VARIABLE} is set, but no sockets come over standard input; it is not for use by hand")
        })?;
        Ok(Some(Self { stream, sockets }))
    }

    /// Splits it into the sockets that these settings have a use for, and the conversation about the rest.
    /// A socket whose address has changed meanwhile is not taken: the new address is bound instead.
    pub fn meet(self, settings: &Settings) -> anyhow::Result<(Sockets, Conversation)> {
        let mut sockets = Sockets::default();
        for (label, socket) in self.sockets {
            if setting(label.what, settings) == Some(label.setting.as_str()) {
                sockets.of(label.what).push(socket);
            }
        }
        self.stream.set_read_timeout(None)?;
        self.stream.set_nonblocking(true)?;
        let stream = tokio::net::UnixStream::from_std(self.stream)?;
        let (reader, writer) = stream.into_split();
        Ok((sockets, Conversation { reader, writer }))
    }
}

/// What is said to the old process, in this order.
#[derive(Debug)]
pub struct Conversation {
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
}

impl Conversation {
    /// Asks for the store. The old process serves on, and writes nothing from here on.
    pub async fn ask_for_store(&mut self) -> anyhow::Result<()> {
        tracing::info!("taking over: asking the running process for the store");
        self.ask(Body::StoreWanted(true), &Body::StoreFree(true)).await
    }

    /// Says that this process serves. Once the old one has made it the main process, its last writes are
    /// carried out here.
    pub async fn ready(mut self, broker: Arc<dyn Databroker>) -> anyhow::Result<()> {
        self.ask(Body::Ready(true), &Body::Taken(true)).await?;
        tracing::info!("taking over: this process is the main one now");
        tokio::spawn(relay::serve(self.reader, self.writer, broker));
        Ok(())
    }

    async fn ask(&mut self, question: Body, wanted: &Body) -> anyhow::Result<()> {
        channel::write(&mut self.writer, 0, question).await?;
        let answer = tokio::time::timeout(PATIENCE, channel::read(&mut self.reader)).await;
        match answer.context("the process before this one does not answer")?? {
            Some(frame) if frame.body.as_ref() == Some(wanted) => Ok(()),
            Some(frame) => bail!("the process before this one answers {frame:?}"),
            None => bail!("the process before this one has ended"),
        }
    }
}
