//! The text of the config file: read anew, or the one that is in force. What something else than the file brings about,
//! a record for instance, is loaded over the latter: a file that is half written or wrong at that moment must not hold it
//! up, and one that nobody asked to be read must not slip in.

use std::io::{Read as _, Write as _};
use std::path::Path;

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;

use crate::spec::format::MAX_FILE;

/// Which text to load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Text {
    /// That of the file as it is now.
    Anew,
    /// The one that [`Loader::keep_text`](crate::Loader::keep_text) kept; that of the file while there is none.
    InForce,
}

/// A file that cannot be read, and the way out.
#[derive(Debug, Clone)]
pub(crate) struct Unreadable {
    pub message: String,
    pub help: &'static str,
}

/// Texts of one file.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    /// What the file has last said.
    read: Option<String>,
    /// Deflated: files of ten thousand routes are large and say much the same again and again.
    in_force: Option<Box<[u8]>>,
    /// The file has said something.
    had_content: bool,
}

impl Texts {
    /// The text to load.
    pub fn get(&mut self, path: &Path, which: Text) -> Result<String, Unreadable> {
        match &self.in_force {
            Some(deflated) if which == Text::InForce => inflate(deflated).map_err(unreadable),
            _ => self.read(path),
        }
    }

    /// The text last read from the file is in force from now on.
    pub fn keep(&mut self) {
        if let Some(text) = self.read.take() {
            self.in_force = deflate(&text).ok();
        }
    }

    fn read(&mut self, path: &Path) -> Result<String, Unreadable> {
        self.read = None;
        let text = read(path).map_err(unreadable)?;
        if has_content(&text) {
            self.had_content = true;
        } else if self.had_content {
            return Err(Unreadable {
                message: "the file is empty, and was not before".into(),
                help: "write the configuration, aside and then renamed into place; `{}` is one that sets nothing",
            });
        }
        self.read = Some(text.clone());
        Ok(text)
    }
}

fn unreadable(message: String) -> Unreadable {
    Unreadable {
        message,
        help: "check the path given to --config and who may read the file",
    }
}

fn read(path: &Path) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(format!("the file is larger than {} MiB", MAX_FILE >> 20));
    }
    String::from_utf8(bytes).map_err(|_| "the file is not UTF-8 text".into())
}

/// Whether a text says anything in one of the formats: more than blanks, comments and the borders of documents.
fn has_content(text: &str) -> bool {
    let says = |line: &str| !matches!(line.trim(), "" | "---" | "...") && !line.trim().starts_with('#');
    text.trim_start_matches('\u{feff}').lines().any(says)
}

fn deflate(text: &str) -> std::io::Result<Box<[u8]>> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes())?;
    Ok(encoder.finish()?.into_boxed_slice())
}

fn inflate(deflated: &[u8]) -> Result<String, String> {
    let mut text = String::new();
    DeflateDecoder::new(deflated)
        .read_to_string(&mut text)
        .map_err(|error| error.to_string())?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_in_force_outlives_what_the_file_says_since() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        let mut texts = Texts::default();
        write("a: 1\n");
        assert_eq!(
            texts.get(&path, Text::InForce).unwrap(),
            "a: 1\n",
            "nothing is kept yet"
        );
        texts.keep();
        write("a: 2\n");
        assert_eq!(texts.get(&path, Text::InForce).unwrap(), "a: 1\n");
        assert_eq!(texts.get(&path, Text::Anew).unwrap(), "a: 2\n");
        assert_eq!(
            texts.get(&path, Text::InForce).unwrap(),
            "a: 1\n",
            "read, not kept"
        );
        texts.keep();
        assert_eq!(texts.get(&path, Text::InForce).unwrap(), "a: 2\n");
        write("# nothing\n");
        assert!(texts.get(&path, Text::Anew).is_err());
        texts.keep();
        assert_eq!(
            texts.get(&path, Text::InForce).unwrap(),
            "a: 2\n",
            "what failed is not kept"
        );
        std::fs::remove_file(&path).unwrap();
        assert!(texts.get(&path, Text::Anew).is_err());
        assert_eq!(texts.get(&path, Text::InForce).unwrap(), "a: 2\n");
    }
}
