//! Sinks with things that go wrong.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pomerium_api::clock::SystemClock;
use pomerium_config::settings::{AuditFile, AuditFsync, AuditTarget};
use serde_json::Value;

use super::queue::{Pushed, Queue, Taken};
use super::*;

fn now() -> jiff::Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

fn record(number: usize) -> Vec<u8> {
    format!("{{\"kind\":\"decision\",\"version\":1,\"n\":{number}}}").into_bytes()
}

fn at_once(queue: &Queue) -> Taken {
    queue.take((1000, 1 << 20), (Duration::ZERO, Duration::ZERO), now)
}

fn parsed(lines: &[Vec<u8>]) -> Vec<Value> {
    lines
        .iter()
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

#[test]
fn every_number_is_a_record_or_in_a_gap() {
    let queue = Queue::new("s".into(), 500);
    let mut waiting = 0;
    let mut dropped = 0;
    for number in 0..20 {
        match queue.push(&record(number), now()) {
            Pushed::Waits => waiting += 1,
            Pushed::GapBegins => {
                assert_eq!(dropped, 0);
                dropped = 1;
            }
            Pushed::Dropped => dropped += 1,
        }
    }
    assert!(
        waiting > 0 && dropped > 0 && queue.bytes() <= 600,
        "{waiting} {dropped}"
    );
    let Taken::Lines(lines) = at_once(&queue) else {
        panic!()
    };
    // What the writer has is not free before it has arrived.
    assert_eq!(queue.push(&record(20), now()), Pushed::Dropped);
    queue.arrived(lines.iter().map(Vec::len).sum());
    assert_eq!(queue.push(&record(21), now()), Pushed::Waits);
    let Taken::Lines(more) = at_once(&queue) else {
        panic!()
    };
    let mut all = parsed(&lines);
    all.extend(parsed(&more));
    let mut expected = 1;
    for record in &all {
        if record["kind"] == "gap" {
            assert_eq!(record["first_seq"], expected, "{record}");
            expected = record["last_seq"].as_u64().unwrap() + 1;
            assert_eq!(record["dropped"], dropped + 1);
        }
        assert_eq!(record["seq"], expected, "{record}");
        expected += 1;
    }
    assert_eq!(expected, 24, "22 records and one gap");
    assert_eq!(queue.dropped(), dropped + 1);
}

#[test]
fn a_gap_at_the_end_is_told_too() {
    let queue = Queue::new("s".into(), 60);
    queue.push(&record(0), now());
    let Taken::Lines(lines) = at_once(&queue) else {
        panic!()
    };
    assert_eq!(queue.push(&record(1), now()), Pushed::GapBegins);
    queue.arrived(lines[0].len());
    let Taken::Lines(lines) = at_once(&queue) else {
        panic!()
    };
    assert_eq!(parsed(&lines)[0]["kind"], "gap");
    queue.arrived(lines[0].len());
    assert!(matches!(at_once(&queue), Taken::Nothing));
    queue.close();
    assert!(matches!(at_once(&queue), Taken::Closed));
}

struct Stream {
    audit: Audit,
    path: PathBuf,
    _dir: tempfile::TempDir,
}

impl Stream {
    fn start(change: impl FnOnce(&mut AuditFile, &mut usize)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let mut file = AuditFile {
            path: path.clone(),
            rotate_bytes: None,
            keep: 2,
            fsync: AuditFsync::Always,
        };
        let mut queue_bytes = 1 << 20;
        change(&mut file, &mut queue_bytes);
        let settings = AuditSink {
            target: AuditTarget::File(file),
            allowed: true,
            inputs: true,
            queue_bytes,
        };
        let metrics = AuditMetrics::register(&Registry::new()).unwrap();
        let audit = Audit::new(metrics, Arc::new(SystemClock));
        audit.swap(audit.prepare(&[settings]).unwrap());
        Self {
            audit,
            path,
            _dir: dir,
        }
    }

    fn push(&self, number: usize) {
        self.audit.sinks.load()[0].push(&record(number), now());
    }

    /// Pushes until `done`; each push follows the write of the one before.
    fn push_until(&self, mut done: impl FnMut() -> bool) -> usize {
        let mut number = 0;
        while !done() {
            self.push(number);
            number += 1;
            std::thread::yield_now();
        }
        number
    }
}

fn read(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn kinds(records: &[Value]) -> Vec<&str> {
    records
        .iter()
        .map(|record| record["kind"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn a_stream_has_a_beginning_and_an_end() {
    let stream = Stream::start(|_, _| ());
    stream.push(0);
    stream.push(1);
    stream.audit.close();
    let records = read(&stream.path);
    assert_eq!(kinds(&records), ["start", "decision", "decision", "stop"]);
    assert_eq!(records[3]["dropped"], 0);
    assert_eq!(records[3]["seq"], 4);
}

#[tokio::test]
async fn a_renamed_file_is_begun_anew() {
    let stream = Stream::start(|_, _| ());
    let moved = stream.path.with_extension("moved");
    fs::rename(&stream.path, &moved).unwrap();
    let path = stream.path.clone();
    let pushed = stream.push_until(|| path.exists());
    stream.push(pushed);
    stream.audit.close();
    let mut records = read(&moved);
    records.extend(read(&stream.path));
    let numbers: Vec<u64> = records
        .iter()
        .map(|record| record["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(
        numbers,
        (1..=pushed as u64 + 3).collect::<Vec<_>>(),
        "nothing is missing, nothing twice"
    );
}

#[tokio::test]
async fn files_are_rotated_and_the_oldest_goes() {
    let stream = Stream::start(|file, _| file.rotate_bytes = Some(300));
    let third = file::numbered(&stream.path, 2);
    stream.push_until(|| third.exists());
    stream.audit.close();
    assert!(!file::numbered(&stream.path, 3).exists());
    let newest = read(&file::numbered(&stream.path, 1));
    let older = read(&third);
    let last = |records: &[Value]| records.last().unwrap()["seq"].as_u64().unwrap();
    assert!(last(&older) < newest[0]["seq"].as_u64().unwrap());
}

#[tokio::test]
async fn a_line_that_was_cut_off_is_ended_before_ours_begin() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    fs::write(&path, "{\"stream\":\"old\",\"seq\":7,\"ki").unwrap();
    let stream = Stream::start(|file, _| file.path.clone_from(&path));
    stream.audit.close();
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[1].contains("\"start\"") && lines[2].contains("\"stop\""));
}

/// `/dev/full` answers every write as a full disk does.
#[tokio::test]
async fn a_full_disk_costs_records_and_says_so_and_ends_in_time() {
    let stream = Stream::start(|file, queue_bytes| {
        file.path = "/dev/full".into();
        *queue_bytes = 2000;
    });
    let failures = stream
        .audit
        .metrics
        .failures
        .with_label_values(&["file:/dev/full"]);
    let dropped = stream
        .audit
        .metrics
        .dropped
        .with_label_values(&["file:/dev/full"]);
    stream.push_until(|| failures.get() > 0 && dropped.get() > 0);
    stream.audit.close();
    assert_eq!(
        stream
            .audit
            .metrics
            .written
            .with_label_values(&["file:/dev/full"])
            .get(),
        0
    );
}

#[tokio::test]
async fn a_folder_that_comes_back_gets_what_waited() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("log");
    fs::create_dir(&folder).unwrap();
    let path = folder.join("audit.log");
    let stream = Stream::start(|file, _| file.path.clone_from(&path));
    fs::rename(&folder, dir.path().join("gone")).unwrap();
    let label = format!("file:{}", path.display());
    let failures = stream.audit.metrics.failures.with_label_values(&[label.as_str()]);
    let pushed = stream.push_until(|| failures.get() > 0);
    fs::create_dir(&folder).unwrap();
    stream.audit.close();
    let mut records = read(&dir.path().join("gone/audit.log"));
    records.extend(read(&path));
    let numbers: Vec<u64> = records
        .iter()
        .map(|record| record["seq"].as_u64().unwrap())
        .collect();
    let most = numbers.len() as u64;
    assert!(numbers.iter().copied().eq(1..=most), "{numbers:?}");
    assert!(most > pushed as u64 / 2, "{most} of {pushed}");
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_is_told_at_the_start() {
    let metrics = AuditMetrics::register(&Registry::new()).unwrap();
    let audit = Audit::new(metrics, Arc::new(SystemClock));
    let settings = AuditSink {
        target: AuditTarget::File(AuditFile {
            path: "/nowhere/audit.log".into(),
            rotate_bytes: None,
            keep: 0,
            fsync: AuditFsync::Never,
        }),
        allowed: true,
        inputs: true,
        queue_bytes: 1 << 16,
    };
    let error = format!("{:#}", audit.prepare(&[settings]).err().unwrap());
    assert!(error.contains("/nowhere/audit.log cannot be written"), "{error}");
}
