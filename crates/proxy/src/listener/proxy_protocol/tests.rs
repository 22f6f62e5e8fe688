use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use super::parse::{self, Malformed, Named};
use super::*;

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (client, listener.accept().await.unwrap().0)
}

/// Sends `bytes`, ends, and says what the header names and what is left behind it.
async fn told(bytes: &[u8]) -> (Result<Named, Refused>, Vec<u8>) {
    let (mut client, mut server) = pair().await;
    let (sent, named) = tokio::join!(
        async {
            let sent = client.write_all(bytes).await;
            let _ = client.shutdown().await;
            sent
        },
        header(&mut server)
    );
    // A refusal closes early, which the sender may notice.
    let _ = sent;
    let mut rest = Vec::new();
    let _ = tokio::io::AsyncReadExt::read_to_end(&mut server, &mut rest).await;
    (named, rest)
}

fn client(source: &str, destination: &str) -> Named {
    Named::Client {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
    }
}

fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    bytes.extend([0x20 | command, family]);
    bytes.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(rest);
    bytes
}

const V4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 0x30, 0x39, 0x01, 0xBB];

#[tokio::test]
async fn both_versions_name_the_client_and_leave_what_follows() {
    let v6 = {
        let mut bytes = [0; 36];
        bytes[0..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        bytes[15] = 1;
        bytes[31] = 1;
        bytes[32..].copy_from_slice(&[0, 80, 0, 81]);
        bytes
    };
    let with_tlvs = [&V4[..], &[0x04, 0, 3, 1, 2, 3]].concat();
    for (bytes, wanted) in [
        (
            b"PROXY TCP4 192.0.2.1 198.51.100.2 12345 443\r\n".to_vec(),
            client("192.0.2.1:12345", "198.51.100.2:443"),
        ),
        (
            b"PROXY TCP6 2001:db8::1 ::1 80 81\r\n".to_vec(),
            client("[2001:db8::1]:80", "[::1]:81"),
        ),
        (b"PROXY UNKNOWN\r\n".to_vec(), Named::Nobody),
        (
            b"PROXY UNKNOWN ffff::1 ::2 1 2 and more\r\n".to_vec(),
            Named::Nobody,
        ),
        (v2(1, 0x11, &V4), client("192.0.2.1:12345", "198.51.100.2:443")),
        (
            v2(1, 0x11, &with_tlvs),
            client("192.0.2.1:12345", "198.51.100.2:443"),
        ),
        (v2(1, 0x21, &v6), client("[2001:db8::1]:80", "[::1]:81")),
        (v2(0, 0x11, &V4), Named::Nobody),
        (v2(0, 0, &[]), Named::Nobody),
        (v2(1, 0, &[]), Named::Nobody),
        (v2(1, 0x31, &[0; 216]), Named::Nobody),
    ] {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (named, rest) = told(&[&bytes[..], b"GET / HTTP/1.1\r\n"].concat()).await;
        assert_eq!(named.unwrap(), wanted, "{text:?}");
        assert_eq!(rest, b"GET / HTTP/1.1\r\n", "{text:?}");
    }
}

#[tokio::test]
async fn what_is_no_header_is_refused() {
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(200));
    for (name, bytes) in [
        ("plain HTTP", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        (
            "TLS",
            vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 1, 2, 3, 4, 5, 6],
        ),
        ("lower case", b"proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n".to_vec()),
        ("no line end", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n".to_vec()),
        ("family mixed", b"PROXY TCP4 ::1 ::2 1 2\r\n".to_vec()),
        (
            "port too large",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n".to_vec(),
        ),
        ("port signed", b"PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n".to_vec()),
        ("port padded", b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n".to_vec()),
        ("two blanks", b"PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n".to_vec()),
        (
            "one more word",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n".to_vec(),
        ),
        ("a name", b"PROXY TCP4 localhost 192.0.2.2 1 2\r\n".to_vec()),
        ("datagrams", b"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n".to_vec()),
        ("too long", long.into_bytes()),
        ("a bad signature", {
            let mut bytes = v2(1, 0x11, &V4);
            bytes[11] = b'\r';
            bytes
        }),
        ("version 1 in binary", {
            let mut bytes = v2(1, 0x11, &V4);
            bytes[12] = 0x11;
            bytes
        }),
        ("an unknown command", v2(2, 0x11, &V4)),
        ("datagrams in binary", v2(1, 0x12, &V4)),
        ("addresses cut", v2(1, 0x11, &V4[..11])),
        ("too large", v2(1, 0x11, &[0; 5000])),
    ] {
        let (named, _) = told(&bytes).await;
        assert!(matches!(named, Err(Refused::Malformed(_))), "{name}: {named:?}");
    }
    for (name, bytes) in [
        ("nothing", Vec::new()),
        ("half a word", b"PRO".to_vec()),
        ("half a line", b"PROXY TCP4 192.0.2.1 19".to_vec()),
        ("half a signature", v2(1, 0x11, &V4)[..7].to_vec()),
        ("half the addresses", v2(1, 0x11, &V4)[..20].to_vec()),
    ] {
        let (named, _) = told(&bytes).await;
        assert!(matches!(named, Err(Refused::Ended(_))), "{name}: {named:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_header_that_does_not_come_is_not_waited_for() {
    let (_client, mut server) = pair().await;
    let ends = (server.peer_addr().unwrap(), server.local_addr().unwrap());
    let read = read(&mut server, ends, &[]).await;
    assert!(matches!(read, Err(Refused::Slow)), "{read:?}");
}

#[tokio::test]
async fn only_trusted_peers_name_clients_once_there_are_any() {
    let (mut sender, mut server) = pair().await;
    let ends = (server.peer_addr().unwrap(), server.local_addr().unwrap());
    sender
        .write_all(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n")
        .await
        .unwrap();
    let others: Vec<IpNet> = vec!["198.51.100.0/24".parse().unwrap()];
    let refused = read(&mut server, ends, &others).await;
    assert!(matches!(refused, Err(Refused::Untrusted)), "{refused:?}");
    let these: Vec<IpNet> = vec!["198.51.100.0/24".parse().unwrap(), "127.0.0.0/8".parse().unwrap()];
    let (peer, local) = read(&mut server, ends, &these).await.unwrap();
    assert_eq!(
        (peer, local),
        ("192.0.2.1:1".parse().unwrap(), "192.0.2.2:2".parse().unwrap())
    );
}

#[test]
fn the_shortest_header_is_as_short_as_we_think() {
    assert_eq!(parse::SHORTEST, b"PROXY UNKNOWN\r\n".len());
    assert_eq!(parse::version(b"PROXY UNKNOWN\r\n"), Ok(parse::Version::One));
    assert_eq!(parse::version(b"GET / HTTP/1.1\r"), Err(Malformed::Absent));
}
