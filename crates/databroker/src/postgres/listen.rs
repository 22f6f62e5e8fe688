//! How writes of other databrokers become known: the server tells (`LISTEN`), and in case a word is lost, a look every few
//! seconds.

use std::future::poll_fn;
use std::time::Duration;

use deadpool_postgres::Pool;
use tokio::sync::watch;
use tokio_postgres::AsyncMessage;

use super::connect::Target;
use super::read;

/// The name under which writes are told.
pub(super) const CHANNEL: &str = "pomerium_rs_change";
/// How often to look without being told.
const LOOK: Duration = Duration::from_secs(5);
/// First pause after a failure; doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Never ends.
pub(super) async fn run(target: Target, pool: Pool, changed: watch::Sender<()>) {
    tokio::join!(hear(&target, &changed), look(&pool, &changed));
}

async fn hear(target: &Target, changed: &watch::Sender<()>) {
    let mut pause = FIRST_PAUSE;
    loop {
        if let Err(error) = hear_once(target, changed, &mut pause).await {
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
async fn hear_once(
    target: &Target,
    changed: &watch::Sender<()>,
    pause: &mut Duration,
) -> Result<(), tokio_postgres::Error> {
    let (client, mut connection) = target.connect().await?;
    let words = async {
        while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notification(_) = message? {
                changed.send_replace(());
            }
        }
        Ok(())
    };
    let listen = async {
        let listening = client.batch_execute(&format!("LISTEN {CHANNEL}")).await;
        if listening.is_ok() {
            *pause = FIRST_PAUSE;
            // What was written before anybody listened.
            changed.send_replace(());
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
    let mut known = None;
    loop {
        tokio::time::sleep(LOOK).await;
        let Ok(connection) = pool.get().await else {
            continue;
        };
        let Ok(counters) = read::counters(&**connection).await else {
            continue;
        };
        if known.replace(counters) != Some(counters) {
            changed.send_replace(());
        }
    }
}
