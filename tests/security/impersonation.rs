//! Whoever may impersonate whom: only the administrator of the machine, never silently, never through a session
//! that is not there.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result};
use pomerium_testing::{Environment, Program, tools};
use pomerium_tests::scripted;

async fn session(env: &Environment, arguments: &[&str]) -> Result<(bool, String)> {
    let mut command = tokio::process::Command::new(tools::server()?);
    command.arg("session").args(arguments);
    command.arg("--data-dir").arg(env.folder().join("data"));
    let mut program = Program::start(command)?;
    let status = program.wait().await?;
    Ok((status.success(), program.output().all().join("\n")))
}

#[tokio::test]
async fn the_socket_is_for_the_owner_alone() -> Result<()> {
    let stage = scripted().await?;
    let folder = stage.env.folder().join("data/admin");
    let socket = folder.join("admin.sock");
    let mode = |path: &std::path::Path| -> Result<u32> {
        Ok(std::fs::symlink_metadata(path)?.permissions().mode() & 0o777)
    };
    assert_eq!(mode(&folder)?, 0o700);
    assert_eq!(mode(&socket)?, 0o600);
    assert!(std::fs::symlink_metadata(&socket)?.file_type().is_socket());

    // Somebody else, even where the folder lets them in by mistake. Needs another user: root has one.
    let root = std::process::Command::new("id").arg("-u").output()?.stdout == b"0\n";
    if root {
        for path in [stage.env.folder(), &stage.env.folder().join("data"), &folder] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
        }
        std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o666))?;
        let program = std::process::Command::new(tools::python("-")?.as_std().get_program())
            .args(["-c", ASK])
            .arg(&socket)
            .output()?;
        let said = String::from_utf8_lossy(&program.stdout).into_owned();
        assert_eq!(
            said.trim(),
            "nothing",
            "{said}{}",
            String::from_utf8_lossy(&program.stderr)
        );
        stage
            .env
            .log()
            .wait("the refusal in the log", |line| line.contains("may not ask"))
            .await?;
    }
    Ok(())
}

/// Asks as the user `nobody`.
const ASK: &str = r#"
import os, socket, sys
os.setgid(65534); os.setuid(65534)
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
try:
    s.sendall(b'{"do":"list","user":null}\n')
    print(s.recv(100000).decode() or "nothing")
except (BrokenPipeError, ConnectionResetError):
    print("nothing")
"#;

#[tokio::test]
async fn nothing_without_a_reason_a_session_and_another_session() -> Result<()> {
    let stage = scripted().await?;
    let client = stage.signed_in().await?;
    client.get(&stage.env.url("app", "/")).await?;
    let request = stage.upstream.take_requests().pop().context("no request")?;
    let token = request
        .header("x-pomerium-jwt-assertion")
        .context("no assertion")?;
    let own = pomerium_tests::payload(token)["sid"].as_str().map(str::to_owned);
    let own = own.context("no session")?;
    let long = "x".repeat(501);
    for (arguments, says) in [
        (vec!["--as-user", "developer@example.com"], "without a reason"),
        (
            vec!["--as-user", "developer@example.com", "--reason", "  "],
            "without a reason",
        ),
        (
            vec!["--as-session", "missing", "--reason", "why"],
            "there is no session",
        ),
        (
            vec!["--as-user", "nobody@example.com", "--reason", "why"],
            "has no session",
        ),
        (vec!["--as-session", &own, "--reason", "why"], "itself"),
        (
            vec!["--as-session", "other", "--reason", "a\u{1b}[2Jb"],
            "one line",
        ),
        (
            vec!["--as-session", "other", "--reason", "a\u{202e}b"],
            "one line",
        ),
        (vec!["--as-session", "other", "--reason", &long], "one line"),
        (vec!["--reason", "why"], "say whom"),
        (vec!["--end"], "impersonates nobody"),
    ] {
        let mut all = vec!["impersonate", "--session", &own];
        all.extend(arguments.iter().copied());
        let (success, said) = session(&stage.env, &all).await?;
        assert!(!success, "{arguments:?}: {said}");
        assert!(said.contains(says), "{arguments:?}: {said}");
    }
    let unknown = [
        "impersonate",
        "--session",
        "missing",
        "--as-session",
        &own,
        "--reason",
        "why",
    ];
    assert!(
        session(&stage.env, &unknown)
            .await?
            .1
            .contains("there is no session")
    );
    assert!(
        !stage
            .env
            .log()
            .all()
            .iter()
            .any(|line| line.contains("impersonation began")),
        "nothing of this began anything"
    );
    Ok(())
}

#[tokio::test]
async fn nobody_looks_through_two_sessions() -> Result<()> {
    let stage = scripted().await?;
    let mut ids = Vec::new();
    let mut clients = Vec::new();
    for _ in 0..3 {
        let client = stage.signed_in().await?;
        client.get(&stage.env.url("app", "/")).await?;
        let request = stage.upstream.take_requests().pop().context("no request")?;
        let token = request
            .header("x-pomerium-jwt-assertion")
            .context("no assertion")?;
        ids.push(
            pomerium_tests::payload(token)["sid"]
                .as_str()
                .context("no session")?
                .to_owned(),
        );
        clients.push(client);
    }
    let impersonate = async |own: &str, target: &str| {
        let all = [
            "impersonate",
            "--session",
            own,
            "--as-session",
            target,
            "--reason",
            "why",
        ];
        session(&stage.env, &all).await
    };
    assert!(impersonate(&ids[1], &ids[2]).await?.0);
    let (success, said) = impersonate(&ids[0], &ids[1]).await?;
    assert!(!success && said.contains("looks through two"), "{said}");
    let (success, said) = impersonate(&ids[1], &ids[0]).await?;
    assert!(!success && said.contains("already"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_question_that_makes_no_sense_changes_nothing() -> Result<()> {
    use std::io::{Read, Write};
    let stage = scripted().await?;
    let socket = stage.env.folder().join("data/admin/admin.sock");
    let ask = move |question: Vec<u8>| -> Result<String> {
        let mut stream = UnixStream::connect(&socket)?;
        // A server that has heard enough may close before it has read all.
        let _ = stream.write_all(&question);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        Ok(answer)
    };
    tokio::task::spawn_blocking(move || {
        for question in [
            b"\n".to_vec(),
            b"{\"do\":\"clear\"}\n".to_vec(),
            b"{\"do\":\"list\",\"user\":null,\"more\":1}\n".to_vec(),
            b"{\"do\":\"impersonate\",\"session\":\"a\",\"target\":{\"session\":\"b\"}}\n".to_vec(),
            vec![b'x'; 100_000],
            vec![0xff; 64],
        ] {
            let answer = ask(question)?;
            assert!(answer.is_empty() || answer.contains("refused"), "{answer}");
        }
        assert!(ask(b"{\"do\":\"list\",\"user\":null}\n".to_vec())?.contains("sessions"));
        anyhow::Ok(())
    })
    .await?
}
