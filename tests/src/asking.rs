//! Somebody who is signed in and goes on asking, whatever happens behind the proxies.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::Result;
use pomerium_testing::Environment;
use tokio::task::JoinHandle;

use crate::apart::Apart;

/// Connections that ask all the time, over every proxy.
const ASKERS: usize = 4;

/// Requests of somebody who is signed in, until it is stopped.
pub struct Asking {
    stop: Arc<AtomicBool>,
    failed: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<Result<u64>>>,
}

impl Asking {
    /// Over keep-alive connections to every proxy.
    pub async fn start(apart: &Apart, cookie: &str) -> Result<Self> {
        let (stop, failed) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let mut tasks = Vec::new();
        for number in 0..ASKERS {
            let proxy = &apart.proxies[number % apart.proxies.len()];
            tasks.push(ask(proxy, cookie, &stop, &failed).await?);
        }
        Ok(Self { stop, failed, tasks })
    }

    /// How many requests there were, and how many were not answered with 200.
    pub async fn stop(self) -> Result<(u64, u64)> {
        self.stop.store(true, Ordering::Relaxed);
        let mut asked = 0;
        for task in self.tasks {
            asked += task.await??;
        }
        Ok((asked, self.failed.load(Ordering::Relaxed)))
    }
}

async fn ask(
    proxy: &Environment,
    cookie: &str,
    stop: &Arc<AtomicBool>,
    failed: &Arc<AtomicU64>,
) -> Result<JoinHandle<Result<u64>>> {
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {}\r\nAccept: application/json\r\nCookie: _pomerium={cookie}\r\n\r\n",
        proxy.authority_of("app")
    );
    let mut client = proxy.raw("app").await?;
    let (stop, failed) = (Arc::clone(stop), Arc::clone(failed));
    Ok(tokio::spawn(async move {
        let mut asked = 0;
        while !stop.load(Ordering::Relaxed) {
            client.send(&request).await?;
            let reply = client.reply(false).await?;
            asked += 1;
            if reply.status != 200 {
                failed.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(asked)
    }))
}
