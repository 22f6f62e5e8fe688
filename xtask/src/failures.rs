//! What failed in a run of `cargo test`, told once more at its end: between a failure and the last line of such a run lie
//! thousands of others.

use std::io::{BufRead, Write};

/// A failure with more lines than this is cut: its whole text stands above.
const LINES: usize = 60;

/// Collects failures from the output of test harnesses, line by line.
#[derive(Debug, Default)]
pub struct Failures {
    found: Vec<Vec<String>>,
    inside: bool,
}

impl Failures {
    /// Passes `from` on to `to` and looks at every line.
    pub fn of(from: impl BufRead, mut to: impl Write) -> std::io::Result<Failures> {
        let mut failures = Failures::default();
        for line in from.split(b'\n') {
            let mut line = line?;
            failures.see(&String::from_utf8_lossy(&line));
            line.push(b'\n');
            to.write_all(&line)?;
            to.flush()?;
        }
        Ok(failures)
    }

    fn see(&mut self, line: &str) {
        if line.starts_with("---- ") && line.ends_with(" stdout ----") {
            self.inside = true;
            self.found.push(Vec::new());
        }
        // The list of names that follows the texts, or the result.
        self.inside &= line != "failures:" && !line.starts_with("test result:");
        if let Some(failure) = self.found.last_mut().filter(|_| self.inside) {
            failure.push(line.to_owned());
        }
    }

    /// All of them; empty when nothing failed.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for failure in &self.found {
            for line in failure.iter().take(LINES) {
                text.push_str(line);
                text.push('\n');
            }
            if failure.len() > LINES {
                text.push_str("[…]\n");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "running 3 tests\ntest a ... ok\ntest b ... FAILED\ntest c ... FAILED\n\nfailures:\n\n\
        ---- b stdout ----\nError: no such thing\n\n---- c stdout ----\npanicked\n\n\nfailures:\n    b\n    c\n\n\
        test result: FAILED. 1 passed; 2 failed\n\nrunning 0 tests\n\ntest result: ok. 0 passed\n";

    #[test]
    fn failures_are_told_with_their_texts_and_everything_is_passed_on() {
        let mut passed = Vec::new();
        let failures = Failures::of(OUTPUT.as_bytes(), &mut passed).unwrap();
        assert_eq!(String::from_utf8(passed).unwrap(), OUTPUT);
        assert_eq!(
            failures.text(),
            "---- b stdout ----\nError: no such thing\n\n---- c stdout ----\npanicked\n\n\n"
        );
    }

    #[test]
    fn nothing_is_told_of_a_run_without_failures_and_long_texts_are_cut() {
        let none = Failures::of(
            "test a ... ok\ntest result: ok. 1 passed\n".as_bytes(),
            Vec::new(),
        )
        .unwrap();
        assert_eq!(none.text(), "");
        let long = format!("---- b stdout ----\n{}", "more\n".repeat(500));
        let failures = Failures::of(long.as_bytes(), Vec::new()).unwrap();
        assert_eq!(failures.text().lines().count(), LINES + 1);
    }
}
