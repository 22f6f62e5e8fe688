//! Programs that fail, and servers that lie. The real server is in the end-to-end tests.

use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType};
use pomerium_api::clock::{Clock, SystemClock};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use zeroize::Zeroizing;

use super::tsig::Signer;
use super::{DnsError, TxtRecord, present};
use crate::acme::options::{Dns, DnsExec, DnsUpdate, TsigKey};

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

fn record() -> TxtRecord {
    TxtRecord::proving("*.example.com", "value".into())
}

#[test]
fn the_record_of_a_wildcard_is_that_of_its_domain() {
    assert_eq!(record().fqdn, "_acme-challenge.example.com");
    assert_eq!(
        TxtRecord::proving("a.example.com", String::new()).fqdn,
        "_acme-challenge.a.example.com"
    );
}

#[cfg(unix)]
mod program {
    use super::*;

    async fn run(script: &str, timeout: Duration) -> (Result<(), DnsError>, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        // Read by a shell: a file that was just written cannot be started while another thread starts something.
        let hook = folder.path().join("hook").display().to_string();
        let text = script.replace("FOLDER", &folder.path().display().to_string());
        std::fs::write(&hook, text).unwrap();
        let dns = Dns::Exec(DnsExec {
            program: "/bin/sh".into(),
            args: vec![hook, "--zone".into(), "a b; $HOME".into()],
            timeout,
            propagation: Duration::ZERO,
        });
        (present(&dns, &record(), &clock()).await, folder)
    }

    #[tokio::test]
    async fn gets_its_arguments_as_they_are_and_nothing_of_our_environment() {
        let script = "#!/bin/sh\nprintf '%s\\n' \"$@\" >FOLDER/args\nenv >FOLDER/env\n";
        let (done, folder) = run(script, Duration::from_secs(20)).await;
        done.unwrap();
        let args = std::fs::read_to_string(folder.path().join("args")).unwrap();
        assert_eq!(
            args,
            "--zone\na b; $HOME\npresent\n_acme-challenge.example.com\nvalue\n"
        );
        let env = std::fs::read_to_string(folder.path().join("env")).unwrap();
        for line in env.lines() {
            // The shell sets these itself.
            let own = ["PATH=", "PWD=/", "SHLVL=", "_="]
                .iter()
                .any(|own| line.starts_with(own));
            assert!(own, "{line}");
        }
    }

    #[tokio::test]
    async fn a_failure_is_told_in_its_words_but_not_without_bound() {
        let (done, _folder) = run(
            "#!/bin/sh\necho 'no such zone' >&2\nexit 3\n",
            Duration::from_secs(20),
        )
        .await;
        let said = done.unwrap_err().to_string();
        assert!(
            said.contains("no such zone") && said.contains("present"),
            "{said}"
        );
        let flood = "#!/bin/sh\ni=0\nwhile [ $i -lt 3000 ]; do echo 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' >&2; i=$((i+1)); done\nexit 1\n";
        let (done, _folder) = run(flood, Duration::from_secs(30)).await;
        let said = done.unwrap_err().to_string();
        assert!(said.len() < 5000, "{}", said.len());
        assert!(said.contains("failed at present"), "{}", &said[..200]);
    }

    #[tokio::test]
    async fn one_that_does_not_end_is_stopped() {
        let (done, _folder) = run("#!/bin/sh\nexec sleep 1000\n", Duration::from_millis(300)).await;
        assert!(done.unwrap_err().to_string().contains("did not end"));
    }

    #[tokio::test]
    async fn one_without_its_whole_path_is_not_looked_for() {
        let dns = Dns::Exec(DnsExec {
            program: "true".into(),
            args: Vec::new(),
            timeout: Duration::from_secs(5),
            propagation: Duration::ZERO,
        });
        assert!(present(&dns, &record(), &clock()).await.is_err());
    }
}

fn key(name: &str, secret: &[u8]) -> TsigKey {
    TsigKey {
        name: name.into(),
        algorithm: "hmac-sha256".into(),
        secret: Zeroizing::new(secret.to_vec()),
    }
}

/// A server that answers every message with what `answer` makes of it.
async fn server(answer: impl Fn(Message) -> Vec<u8> + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let length = stream.read_u16().await.unwrap();
            let mut message = vec![0; usize::from(length)];
            stream.read_exact(&mut message).await.unwrap();
            let reply = answer(Message::from_vec(&message).unwrap());
            stream
                .write_u16(u16::try_from(reply.len()).unwrap())
                .await
                .unwrap();
            stream.write_all(&reply).await.unwrap();
        }
    });
    address
}

async fn update(server: String) -> DnsError {
    let dns = Dns::Update(DnsUpdate {
        server,
        zone: Some("example.com".into()),
        key: Some(key("acme", b"secret")),
        ttl: Duration::from_secs(60),
        propagation: Duration::from_secs(1),
    });
    present(&dns, &record(), &clock()).await.unwrap_err()
}

fn agreeing(request: &Message) -> Message {
    Message::response(request.metadata.id, request.metadata.op_code)
}

#[tokio::test]
async fn an_agreement_that_is_not_signed_counts_for_nothing() {
    let unsigned = server(|request| agreeing(&request).to_vec().unwrap()).await;
    let error = update(unsigned).await;
    assert!(
        matches!(&error, DnsError::Nonsense { reason, .. } if reason.contains("not signed")),
        "{error}"
    );
}

#[tokio::test]
async fn nor_one_that_is_signed_with_another_key_or_for_another_request() {
    let now = u64::try_from(SystemClock.now().as_second()).unwrap();
    for (name, secret, what) in [
        ("acme", &b"other"[..], "signature is wrong"),
        ("other", b"secret", "another key"),
        // Right key, but without the MAC of the request, as in an answer that is played again.
        ("acme", b"secret", "signature is wrong"),
    ] {
        let forged = server(move |request| {
            let mut answer = agreeing(&request);
            Signer::new(&key(name, secret))
                .unwrap()
                .sign(&mut answer, now)
                .unwrap();
            answer.to_vec().unwrap()
        })
        .await;
        let error = update(forged).await;
        assert!(
            matches!(&error, DnsError::Nonsense { reason, .. } if reason.contains(what)),
            "{error}"
        );
    }
}

#[tokio::test]
async fn garbage_and_foreign_answers_are_refused() {
    for bytes in [&b""[..], b"x", &[0xff; 300]] {
        let bytes = bytes.to_vec();
        let error = update(server(move |_| bytes.clone()).await).await;
        assert!(matches!(error, DnsError::Nonsense { .. }), "{error}");
    }
    let other = server(|request| {
        let id = request.metadata.id.wrapping_add(1);
        Message::new(id, MessageType::Response, request.metadata.op_code)
            .to_vec()
            .unwrap()
    })
    .await;
    assert!(matches!(update(other).await, DnsError::Nonsense { .. }));
}

#[test]
fn an_unknown_algorithm_is_named() {
    let mut odd = key("acme", b"secret");
    odd.algorithm = "hmac-md5".into();
    assert!(Signer::new(&odd).err().unwrap().contains("hmac-md5"));
}
