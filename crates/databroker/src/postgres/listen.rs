//! How writes of other databrokers become known: the server tells (`LISTEN`), and in case a word is lost, a look every few
//! seconds.

use std::future::poll_fn;
use std::time::Duration;

use deadpool_postgres::Pool;
use tokio::sync::watch;
use tokio_postgres::AsyncMessage;

use super::connect::Target;
use super::read;
use crate::store::Counters;

/// Hears of writes and of reports of services.
const LISTEN: &str = "LISTEN pomerium_rs_change; LISTEN pomerium_rs_service";
/// The name under which reports of services are told.
const SERVICE_CHANNEL: &str = "pomerium_rs_service";
/// Tells of a write.
pub(super) const CHANGED: &str = "NOTIFY pomerium_rs_change";
/// Tells of a report of services.
pub(super) const SERVICES_CHANGED: &str = "NOTIFY pomerium_rs_service";
/// How often to look without being told.
pub(super) const LOOK: Duration = Duration::from_secs(5);
/// First pause after a failure; doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Never ends.
pub(super) async fn run(target: Target, pool: Pool, told: Told) {
    tokio::join!(hear(&target, &told), look(&pool, &told.changed));
}

/// Who is told of what is heard.
#[derive(Clone, Default)]
pub(super) struct Told {
    /// Of writes.
    pub(super) changed: watch::Sender<()>,
    /// Of reports of services.
    pub(super) services: watch::Sender<()>,
}

async fn hear(target: &Target, told: &Told) {
    let mut pause = FIRST_PAUSE;
    loop {
        if let Err(error) = hear_once(target, told, &mut pause).await {
            tracing::warn!(
                error = super::said(&error),
                pause_ms = pause.as_millis(),
                "the word of PostgreSQL about changes is lost; looking every few seconds until it is back"
            );
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Until the connection ends.
async fn hear_once(target: &Target, told: &Told, pause: &mut Duration) -> Result<(), tokio_postgres::Error> {
    let (client, mut connection) = target.connect().await?;
    let words = async {
        while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
            match message? {
                AsyncMessage::Notification(word) if word.channel() == SERVICE_CHANNEL => {
                    told.services.send_replace(());
                }
                AsyncMessage::Notification(_) => {
                    told.changed.send_replace(());
                }
                _ => {}
            }
        }
        Ok(())
    };
    let listen = async {
        let listening = client.batch_execute(LISTEN).await;
        if listening.is_ok() {
            *pause = FIRST_PAUSE;
            // What was written before anybody listened.
            told.changed.send_replace(());
            told.services.send_replace(());
            std::future::pending::<()>().await;
        }
        listening
    };
    tokio::select! {
        ended = words => ended,
        failed = listen => failed,
    }
}

async fn look(pool: &Pool, changed: &watch::Sender<()>) {
    let mut known: Option<Counters> = None;
    loop {
        tokio::time::sleep(LOOK).await;
        let counters = super::in_time(async {
            let connection = pool.get().await.map_err(|error| super::unavailable(&error))?;
            read::counters(&**connection).await
        });
        let counters = counters.await.ok();
        // Without an answer, too: whoever follows is to learn by the next read that the server is gone. A stream that
        // only stays silent would be taken for one without changes.
        if counters.is_none() || known != counters {
            changed.send_replace(());
        }
        known = counters;
    }
}
