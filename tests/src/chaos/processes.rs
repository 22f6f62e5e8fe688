//! An installation whose databrokers are killed while records are written, people sign in, and others who are
//! signed in go on asking.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use pomerium_api::databroker::remote::Remote;
use pomerium_api::databroker::{Databroker, Versions};
use pomerium_testing::{Client, Environment, PATIENCE, Postgres, within};
use tokio::sync::watch;

use super::{KIND, Random, no_gaps, record};
use crate::apart::{Apart, with};
use crate::asking::Asking;
use crate::tool;

/// Writers at a time.
const WRITERS: usize = 3;
/// People who sign in while a databroker dies.
const NEWCOMERS: usize = 2;
/// Of those who have signed in, so many are asked about after each death.
const REMEMBERED: usize = 12;
/// A databroker dies within so many milliseconds of the first record that was acknowledged.
const LIFE: u64 = 400;

/// Something that happens once.
type Flag = watch::Sender<bool>;

/// Where the records are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// One databroker over the file store.
    File,
    /// Two databrokers over one PostgreSQL.
    Postgres,
}

/// What happened.
#[derive(Debug, Default, Clone, Copy)]
pub struct Outcome {
    /// Databrokers that were killed.
    pub kills: u64,
    /// Records that were acknowledged.
    pub writes: u64,
    /// Sign-ins that came to their end.
    pub sign_ins: u64,
    /// Requests of those who were signed in.
    pub requests: u64,
}

/// An installation under way.
pub struct Installation {
    apart: Apart,
    postgres: Option<Postgres>,
    asking: Asking,
    people: Vec<Client>,
    at: Option<Versions>,
    round: u64,
    outcome: Outcome,
}

impl Installation {
    /// Starts it.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start(over: Over) -> Result<Self> {
        let quiet = with("log_level", "info");
        let (postgres, apart) = match over {
            Over::File => (None, Apart::start(&quiet).await?),
            Over::Postgres => {
                let postgres = Postgres::start()?;
                let apart = Apart::over_postgres(&postgres.connection("postgres"), &quiet).await?;
                (Some(postgres), apart)
            }
        };
        let client = apart.signed_in().await?;
        let cookie = client.cookie(&apart.url(0, "app", "/"), "_pomerium");
        let asking = Asking::start(&apart, &cookie.context("no session cookie")?).await?;
        Ok(Self {
            apart,
            postgres,
            asking,
            people: vec![client],
            at: None,
            round: 0,
            outcome: Outcome::default(),
        })
    }

    /// One death.
    ///
    /// # Errors
    /// Something that was acknowledged is lost, versions have gaps, or somebody who signed in does not pass.
    pub async fn round(&mut self, random: &mut Random) -> Result<()> {
        self.round += 1;
        let clients = self.clients()?;
        if self.at.is_none() {
            self.at = Some(clients[0].versions().await?);
        }
        let newcomers = (0..NEWCOMERS)
            .map(|_| self.apart.client())
            .collect::<Result<Vec<_>>>()?;
        let second = self.postgres.is_some() && random.below(2) == 1;
        let victim = match second {
            true => self.apart.second.as_ref().context("the second")?.process_id()?,
            false => self.apart.databroker.process_id()?,
        };
        let life = random.pause(LIFE);
        let round = self.round;
        let (begun, dead) = (Flag::new(false), Flag::new(false));
        let writing = join_all((0..WRITERS).map(|writer| {
            let client = &clients[writer % clients.len()];
            let (begun, dead) = (&begun, &dead);
            async move { write(client, &format!("{round}.{writer}"), begun, dead).await }
        }));
        let signing_in = join_all(newcomers.iter().map(|client| self.apart.sign_in(client)));
        let killing = async {
            let mut first = begun.subscribe();
            // Should there never be one, the records say so.
            let _ = tokio::time::timeout(PATIENCE, first.wait_for(|begun| *begun)).await;
            tokio::time::sleep(life).await;
            let killed = tokio::process::Command::new("kill")
                .args(["-KILL", &victim.to_string()])
                .status()
                .await;
            dead.send_replace(true);
            killed
        };
        let (acknowledged, signed_in, killed) = tokio::join!(writing, signing_in, killing);
        ensure!(killed?.success(), "the databroker had ended by itself");
        self.outcome.kills += 1;
        let victim = self.victim(second)?;
        victim.kill().await?;
        victim.start_again().await?;
        for (client, reply) in newcomers.into_iter().zip(signed_in) {
            if reply.is_ok_and(|reply| reply.status == 200) {
                self.outcome.sign_ins += 1;
                self.people.push(client);
            }
        }
        let acknowledged: Vec<_> = acknowledged.into_iter().flatten().collect();
        ensure!(!acknowledged.is_empty(), "no record was acknowledged");
        self.outcome.writes += acknowledged.len() as u64;
        self.check(&acknowledged).await
    }

    /// Ends it.
    ///
    /// # Errors
    /// A request of somebody who was signed in was refused.
    pub async fn end(self) -> Result<Outcome> {
        let (requests, refused) = self.asking.stop().await?;
        ensure!(
            refused.is_empty(),
            "{} of {requests} authorised requests were refused: {refused:?}; the proxies said: {:?}",
            refused.len(),
            self.apart.proxies.iter().map(why).collect::<Vec<_>>()
        );
        Ok(Outcome {
            requests,
            ..self.outcome
        })
    }

    /// What a proxy says to somebody it may not know yet, as soon as it can say anything: it has to find the databroker
    /// again first.
    async fn settled(&self, client: &Client, proxy: usize) -> Result<u16> {
        within("the proxy to find the databroker", async {
            loop {
                match self.apart.status(client, proxy, "app").await? {
                    503 => tokio::time::sleep(Duration::from_millis(20)).await,
                    status => return Ok(status),
                }
            }
        })
        .await?
    }

    fn victim(&mut self, second: bool) -> Result<&mut Environment> {
        match second {
            true => self.apart.second.as_mut().context("the second"),
            false => Ok(&mut self.apart.databroker),
        }
    }

    /// Clients of each databroker.
    fn clients(&self) -> Result<Vec<Remote>> {
        self.apart
            .grpc_ports()
            .map(tool::client)
            .collect::<Result<Vec<_>>>()
    }

    async fn check(&mut self, acknowledged: &[(String, u64)]) -> Result<()> {
        let client = self.clients()?.swap_remove(0);
        within("the databroker to answer", async {
            while client.versions().await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await?;
        for (id, version) in acknowledged {
            let found = client
                .get(KIND, id)
                .await
                .with_context(|| format!("{id} of version {version} was acknowledged"))?;
            ensure!(
                found.version == *version,
                "{id}: {} is not {version}",
                found.version
            );
        }
        let at = self.at.context("where it began")?;
        self.at = Some(no_gaps(&client, at).await?);
        let forgotten = self.people.len().saturating_sub(REMEMBERED);
        self.people.drain(..forgotten);
        for (number, client) in self.people.iter().enumerate() {
            for proxy in [0, 1] {
                let status = self.settled(client, proxy).await?;
                ensure!(
                    status == 200,
                    "person {number} signed in and is answered with {status} by proxy {proxy}"
                );
            }
        }
        Ok(())
    }
}

/// What a proxy said about requests that it did not judge.
fn why(proxy: &Environment) -> Vec<String> {
    let said = proxy.log().all();
    said.into_iter()
        .filter(|line| line.contains("the request is refused"))
        .collect()
}

/// Writes until a databroker is dead; returns what was acknowledged.
async fn write(client: &Remote, name: &str, begun: &Flag, dead: &Flag) -> Vec<(String, u64)> {
    let mut acknowledged = Vec::new();
    for number in 0_u64.. {
        if *dead.borrow() {
            break;
        }
        let id = format!("{name}.{number}");
        match client.put(vec![record(&id, 300)]).await {
            Ok(reply) => {
                let written = reply.records.into_iter();
                acknowledged.extend(written.map(|record| (record.id, record.version)));
                begun.send_replace(true);
            }
            // Whether it was written nobody knows; it was not said that it was.
            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
    acknowledged
}
