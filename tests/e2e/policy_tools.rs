//! The examples of docs/policy-tools.md, run as they stand there.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use pomerium_testing::tools;
use tokio::process::Command;

/// The fenced blocks of a page: what stands behind the fence, and the text.
fn blocks(page: &str) -> Vec<(&str, &str)> {
    let mut blocks = Vec::new();
    let mut rest = page;
    while let Some((_, after)) = rest.split_once("\n```") {
        let Some((info, body)) = after.split_once('\n') else {
            break;
        };
        let Some((text, next)) = body.split_once("\n```") else {
            break;
        };
        blocks.push((info, text));
        rest = next;
    }
    blocks
}

/// Standard output and errors, and whether it went well.
async fn run(line: &str, folder: &Path) -> Result<(String, bool)> {
    let mut words = line.split_whitespace();
    ensure!(words.next() == Some("pomerium"), "{line}");
    let output = Command::new(tools::server()?)
        .args(words)
        .current_dir(folder)
        .env_clear()
        .env("HOME", folder)
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .output()
        .await?;
    let text = [output.stdout, output.stderr].concat();
    Ok((String::from_utf8(text)?, output.status.success()))
}

#[tokio::test]
async fn every_command_of_the_guide_prints_what_it_says() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let page = std::fs::read_to_string(tools::root().join("docs/policy-tools.md"))?;
    let mut seen = 0;
    for (info, text) in blocks(&page) {
        match info.split_once(' ') {
            Some(("yaml", name)) => std::fs::write(folder.path().join(name), format!("{text}\n"))?,
            None if info == "yaml" => std::fs::write(folder.path().join("config.yaml"), format!("{text}\n"))?,
            None if info == "console" => {
                let (command, expected) = text.split_once('\n').unwrap_or((text, ""));
                let command = command.strip_prefix("$ ").context("a command")?;
                let (found, _) = run(command, folder.path()).await?;
                assert_eq!(found.trim_end(), expected.trim_end(), "{command}");
                seen += 1;
            }
            _ => {}
        }
    }
    ensure!(
        seen >= 5,
        "only {seen} commands were found; has their form changed?"
    );
    Ok(())
}

#[tokio::test]
async fn exit_codes_are_for_ci() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text);
    write(
        "good.json",
        r#"{"cases":[{"name":"a","policy":{"allow":{"or":[{"accept":true}]}},"expect":{"allow":true}}]}"#,
    )?;
    write(
        "bad.json",
        r#"{"cases":[{"name":"a","policy":{"allow":{"or":[{"accept":true}]}},"expect":{"allow":false}}]}"#,
    )?;
    write("none.json", r#"{"cases":[]}"#)?;
    write("plain.yaml", "- allow:\n    or:\n      - domain: example.com\n")?;
    write("untidy.yaml", "allow: {or: [domain: example.com]} # who\n")?;
    write("wrong.yaml", "allow: {or: [domian: example.com]}\n")?;
    for (command, good, says) in [
        ("pomerium policy test good.json", true, "1 passed, 0 failed"),
        (
            "pomerium policy test bad.json",
            false,
            "allow: expected false, found true",
        ),
        ("pomerium policy test none.json", false, "0 passed, 0 failed"),
        (
            "pomerium policy test good.json --filter nothing",
            false,
            "0 passed, 0 failed",
        ),
        (
            "pomerium policy test nowhere.json",
            false,
            "nowhere.json cannot be read",
        ),
        ("pomerium policy lint plain.yaml", true, "nothing to say"),
        ("pomerium policy lint wrong.yaml", false, "did you mean `domain`"),
        ("pomerium policy fmt --check plain.yaml", true, ""),
        (
            "pomerium policy fmt --check untidy.yaml",
            false,
            "untidy.yaml is not in its canonical form",
        ),
        ("pomerium policy fmt untidy.yaml", true, "formatted untidy.yaml"),
        ("pomerium policy fmt --check untidy.yaml", true, ""),
        (
            "pomerium policy fmt bad.json nowhere.yaml",
            false,
            "nowhere.yaml cannot be read",
        ),
        ("pomerium policy explain", false, "name a route"),
        ("pomerium policy explain --case good.json", true, "outcome: allow"),
        (
            "pomerium policy explain --case bad.json --json",
            true,
            "\"outcome\":\"allow\"",
        ),
        (
            "pomerium policy explain --request x --log good.json",
            false,
            "no request \"x\"",
        ),
    ] {
        let (text, ended_well) = run(command, folder.path()).await?;
        ensure!(ended_well == good && text.contains(says), "{command}: {text}");
    }
    let tidy = std::fs::read_to_string(folder.path().join("untidy.yaml"))?;
    ensure!(
        tidy == "- allow: # who\n    or:\n      - domain: example.com\n",
        "{tidy}"
    );
    Ok(())
}

/// A log larger than what may be in memory is read all the same, and what is broken in it is named.
#[tokio::test]
async fn a_large_log_with_broken_lines_is_replayed() -> Result<()> {
    use std::io::Write as _;
    let folder = tempfile::tempdir()?;
    let config = "authenticate_service_url: https://authenticate.example.com\nidp_provider: local\nroutes:\n- from: https://a.example.com\n  to: http://127.0.0.1:1\n  policy: {allow: {or: [{email: a@example.com}]}}\n";
    std::fs::write(folder.path().join("config.yaml"), config)?;
    let record = |seq: u64, email: &str, outcome: &str| {
        format!(
            r#"{{"stream":"s","seq":{seq},"kind":"decision","version":1,"time":"2026-03-01T12:00:00Z","request_id":"q{seq}","outcome":"{outcome}","method":"GET","host":"a.example.com","path":"/","source_ip":"203.0.113.7","inputs":{{"path":"/","subject":{{"session_id":"s","user_id":"u","email":"{email}","claims":{{}},"groups":{{"source":"unknown","all":[]}},"devices":[],"authentication":{{"at":null,"acr":"","amr":[]}}}}}}}}"#
        )
    };
    let mut log = std::io::BufWriter::new(std::fs::File::create(folder.path().join("audit.log"))?);
    for seq in 0..20_000 {
        writeln!(log, "{}", record(seq, "a@example.com", "allow"))?;
    }
    writeln!(log, "{}", record(20_000, "b@example.com", "allow"))?;
    writeln!(log, "{{\"stream\":\"s\",\"seq\":2,\"kind\":\"dec")?;
    writeln!(log, "{{\"level\":\"info\",\"message\":\"http-request\"}}")?;
    log.write_all(&vec![b'x'; 5 << 20])?;
    writeln!(log)?;
    log.flush()?;
    let (text, good) = run(
        "pomerium policy replay audit.log --config config.yaml",
        folder.path(),
    )
    .await?;
    ensure!(!good);
    for says in [
        "q20000 nobody: GET a.example.com/: allow -> denied 403",
        "audit.log:20002: a broken record",
        "audit.log:20004: a broken record: it is longer than",
        "20000 same, 1 differ, 0 cannot be judged (1 other lines)",
    ] {
        ensure!(text.contains(says), "{says}: {}", &text[..text.len().min(2000)]);
    }
    Ok(())
}
