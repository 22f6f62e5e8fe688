//! Somebody who is signed in and goes on asking, whatever happens behind the proxies.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use parking_lot::Mutex;
use pomerium_testing::{Environment, within};
use tokio::task::JoinHandle;

use crate::apart::Apart;

/// Connections that ask all the time, over every proxy.
const ASKERS: usize = 4;

/// What was answered instead of 200, and after how many requests of the same connection.
type Refused = Arc<Mutex<Vec<String>>>;

/// Requests of somebody who is signed in, until it is stopped.
pub struct Asking {
    stop: Arc<AtomicBool>,
    refused: Refused,
    tasks: Vec<JoinHandle<Result<u64>>>,
}

impl Asking {
    /// Over keep-alive connections to every proxy, each of which has let the person through once before.
    pub async fn start(apart: &Apart, cookie: &str) -> Result<Self> {
        let (stop, refused) = (Arc::<AtomicBool>::default(), Refused::default());
        let mut tasks = Vec::new();
        for number in 0..ASKERS {
            let proxy = &apart.proxies[number % apart.proxies.len()];
            tasks.push(ask(proxy, cookie, &stop, &refused).await?);
        }
        Ok(Self { stop, refused, tasks })
    }

    /// How many requests there were, and what was answered to those that did not get 200.
    pub async fn stop(self) -> Result<(u64, Vec<String>)> {
        self.stop.store(true, Ordering::Relaxed);
        let mut asked = 0;
        for task in self.tasks {
            asked += task.await??;
        }
        let refused = std::mem::take(&mut *self.refused.lock());
        Ok((asked, refused))
    }
}

async fn ask(
    proxy: &Environment,
    cookie: &str,
    stop: &Arc<AtomicBool>,
    refused: &Refused,
) -> Result<JoinHandle<Result<u64>>> {
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {}\r\nAccept: application/json\r\nCookie: _pomerium={cookie}\r\n\r\n",
        proxy.authority_of("app")
    );
    let mut client = proxy.raw("app").await?;
    let (stop, refused) = (Arc::clone(stop), Arc::clone(refused));
    within("the proxy to know the person", async {
        loop {
            client.send(&request).await?;
            if client.reply(false).await?.status == 200 {
                return anyhow::Ok(());
            }
        }
    })
    .await??;
    Ok(tokio::spawn(async move {
        let mut asked = 0;
        while !stop.load(Ordering::Relaxed) {
            client.send(&request).await?;
            let reply = client.reply(false).await?;
            asked += 1;
            if reply.status != 200 {
                let what = format!("{} to request {asked}: {}", reply.status, reply.text());
                refused.lock().push(what);
            }
        }
        Ok(asked)
    }))
}
