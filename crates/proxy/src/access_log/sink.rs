//! Where lines go: a bounded buffer that one thread of the process writes out.
//!
//! Lines are gathered for a few milliseconds and written with one call, so that a busy proxy does not
//! pay a system call, or a wake-up, per request.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use prometheus::IntCounter;

/// Bytes that may wait to be written; what comes on top is dropped and counted.
const CAPACITY: usize = 8 << 20;
/// Bytes of memory that a buffer keeps after a jam has made it larger.
const KEPT: usize = 1 << 20;
/// How long lines are gathered before they are written.
const GATHER: Duration = Duration::from_millis(10);

/// A handle to the log; cheap to clone.
#[derive(Clone)]
pub struct LogSink(Arc<Inner>);

struct Inner {
    buffer: Mutex<Buffer>,
    wake: Condvar,
    drops: IntCounter,
    capacity: usize,
}

#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    /// The writer is asleep and must be woken.
    asleep: bool,
    writing: bool,
    closed: bool,
    idle_waiters: usize,
}

impl LogSink {
    /// Starts the writer thread. `drops` counts lines that did not fit.
    pub fn start(out: Box<dyn Write + Send>, drops: IntCounter) -> std::io::Result<Self> {
        Self::with_capacity(out, drops, CAPACITY)
    }

    fn with_capacity(
        out: Box<dyn Write + Send>,
        drops: IntCounter,
        capacity: usize,
    ) -> std::io::Result<Self> {
        let inner = Arc::new(Inner {
            buffer: Mutex::default(),
            wake: Condvar::new(),
            drops,
            capacity,
        });
        let writer = inner.clone();
        std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || writer.run(out))?;
        Ok(Self(inner))
    }

    /// Appends one line (with its line feed) made by `write` straight into the buffer. Never waits for
    /// the writer.
    pub fn line(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut buffer = self.0.buffer.lock();
        if buffer.bytes.len() >= self.0.capacity {
            drop(buffer);
            self.0.drops.inc();
            return;
        }
        write(&mut buffer.bytes);
        if std::mem::take(&mut buffer.asleep) {
            drop(buffer);
            self.0.wake.notify_all();
        }
    }

    /// Waits until everything appended so far is written; for the end of the process.
    pub fn flush(&self) {
        let mut buffer = self.0.buffer.lock();
        buffer.idle_waiters += 1;
        buffer.asleep = false;
        self.0.wake.notify_all();
        while !buffer.bytes.is_empty() || buffer.writing {
            self.0.wake.wait(&mut buffer);
        }
        buffer.idle_waiters -= 1;
    }

    /// Writes what is left and ends the thread.
    pub fn close(&self) {
        self.flush();
        self.0.buffer.lock().closed = true;
        self.0.wake.notify_all();
    }
}

impl std::fmt::Debug for LogSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LogSink")
    }
}

impl Inner {
    fn run(&self, mut out: Box<dyn Write + Send>) {
        let mut taken = Vec::new();
        while self.take(&mut taken) {
            // A log that cannot be written must not stop the proxy; the lines count as dropped.
            if out.write_all(&taken).and_then(|()| out.flush()).is_err() {
                let lines = taken.iter().filter(|byte| **byte == b'\n').count();
                self.drops.inc_by(lines as u64);
            }
            taken.clear();
            taken.shrink_to(KEPT);
            self.buffer.lock().writing = false;
            self.wake.notify_all();
        }
    }

    /// Waits for lines and swaps the buffers; false when the log is closed.
    fn take(&self, taken: &mut Vec<u8>) -> bool {
        let mut buffer = self.buffer.lock();
        while buffer.bytes.is_empty() {
            if buffer.closed {
                return false;
            }
            buffer.asleep = true;
            self.wake.wait(&mut buffer);
        }
        buffer.asleep = false;
        if buffer.idle_waiters == 0 && !buffer.closed {
            self.wake.wait_for(&mut buffer, GATHER);
        }
        std::mem::swap(&mut buffer.bytes, taken);
        buffer.writing = true;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// Blocks its first write until told to go on.
    struct Stuck(std::sync::mpsc::Receiver<()>, Shared);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _ = self.0.recv();
            self.1.write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn drops() -> IntCounter {
        IntCounter::new("drops", "drops").unwrap()
    }

    #[test]
    fn lines_arrive_in_order() {
        let out = Shared::default();
        let sink = LogSink::start(Box::new(out.clone()), drops()).unwrap();
        let mut expected = String::new();
        for number in 0..1000 {
            expected.push_str(&format!("{number}\n"));
            sink.line(|buffer| buffer.extend_from_slice(format!("{number}\n").as_bytes()));
        }
        sink.close();
        assert_eq!(String::from_utf8(out.0.lock().clone()).unwrap(), expected);
    }

    #[test]
    fn a_stuck_writer_costs_lines_but_blocks_nobody() {
        let (go, wait) = std::sync::mpsc::channel();
        let out = Shared::default();
        let drops = drops();
        let sink = LogSink::with_capacity(Box::new(Stuck(wait, out.clone())), drops.clone(), 100).unwrap();
        let total = 1000;
        for _ in 0..total {
            sink.line(|buffer| buffer.extend_from_slice(b"0123456789\n"));
        }
        drop(go);
        sink.close();
        let written = out.0.lock().len() / 11;
        assert_eq!(written as u64 + drops.get(), total);
        assert!(drops.get() >= total - 30, "{}", drops.get());
    }
}
