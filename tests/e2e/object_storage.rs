//! Certificates in an object store over its own protocol: S3, as another program speaks it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use pomerium_certs::storage::{Claim, ObjectStorage, Storage, open_object_store};
use pomerium_testing::{Port, Program, lease, tools};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

struct Store {
    port: Port,
    _program: Program,
}

impl Store {
    async fn start() -> Result<Self> {
        let port = lease()?;
        let mut command = tools::python("object_store.py")?;
        command.arg(port.number().to_string());
        let program = Program::start(command)?;
        let running = |line: &str| line.contains("Running on");
        program.output().wait("the object store", running).await?;
        let store = Self {
            port,
            _program: program,
        };
        store.make_bucket("certs").await?;
        Ok(store)
    }

    async fn make_bucket(&self, name: &str) -> Result<()> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port.number())).await?;
        let request = format!(
            "PUT /{name} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: AWS user:x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        ensure!(answer.contains(" 200 "), "{answer}");
        Ok(())
    }

    fn open(&self, place: &str) -> Result<ObjectStorage> {
        let address = format!("s3://user:pass@127.0.0.1:{}/{place}", self.port.number());
        Ok(open_object_store(&address)?)
    }
}

fn claim(owner: &str, at: i64) -> Result<Claim> {
    Ok(Claim {
        owner: owner.to_owned(),
        now: Timestamp::from_second(at)?,
        lease: Duration::from_secs(30),
    })
}

#[tokio::test]
async fn values_come_and_go() -> Result<()> {
    let store = Store::start().await?;
    let (here, there) = (store.open("certs/edge/one")?, store.open("certs/edge/two")?);
    here.put("a/b.crt", b"one").await?;
    here.put("a/b.crt", b"two").await?;
    here.put("a/c/d.key", b"key").await?;
    ensure!(here.get("a/b.crt").await?.as_deref() == Some(b"two".as_slice()));
    ensure!(there.get("a/b.crt").await?.is_none(), "another prefix");
    ensure!(!here.put_if_absent("a/b.crt", b"three").await?);
    ensure!(here.put_if_absent("a/f", b"four").await?);
    ensure!(here.list("a").await? == ["a/b.crt", "a/c/d.key", "a/f"]);
    here.delete("a/b.crt").await?;
    here.delete("a/b.crt").await?;
    ensure!(here.get("a/b.crt").await?.is_none());
    Ok(())
}

/// The condition of the last write is the server's to judge: two processes see the same lock.
#[tokio::test]
async fn a_lock_has_one_holder() -> Result<()> {
    let store = Store::start().await?;
    let (one, two) = (store.open("certs")?, store.open("certs")?);
    ensure!(one.claim("order", &claim("one", 100)?).await?);
    ensure!(!two.claim("order", &claim("two", 129)?).await?);
    ensure!(
        one.claim("order", &claim("one", 120)?).await?,
        "the holder extends it"
    );
    ensure!(two.claim("order", &claim("two", 150)?).await?, "it has ended");
    one.release("order", "one").await?;
    ensure!(
        !one.claim("order", &claim("one", 151)?).await?,
        "only the holder releases"
    );
    two.release("order", "two").await?;
    ensure!(one.claim("order", &claim("one", 152)?).await?);
    Ok(())
}

#[tokio::test]
async fn what_is_wrong_is_said_without_the_password() -> Result<()> {
    let store = Store::start().await?;
    let nowhere = store.open("nothing")?;
    let error = nowhere
        .put("a", b"x")
        .await
        .err()
        .context("there is no such bucket")?;
    ensure!(error.to_string().contains("no such bucket"), "{error}");
    ensure!(!error.to_string().contains("pass"), "{error}");
    Ok(())
}
