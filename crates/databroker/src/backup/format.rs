//! The file: a head, sealed frames, and a checksum over all of it.
//!
//! ```text
//! "pomerium-backup\n"  format (u32)  id (16 bytes)
//! length (u32)  kind (u8)  sealed value        as often as needed; the last is of kind END
//! SHA-256 of everything before
//! ```
//! Numbers are big-endian. A value is bound to the file's id, its number and its kind: frames cannot be left out, put in
//! another order or taken from another file.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use pomerium_api::databroker::{Record, Versions};
use pomerium_api::pb::databroker::TypedOptions;
use pomerium_crypto::aead;
use prost::Message;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::BackupError;

const MAGIC: &[u8; 16] = b"pomerium-backup\n";
pub(super) const FORMAT: u32 = 1;
/// The largest frame: some records of the largest size, or one.
const LARGEST: u32 = 64 * 1024 * 1024;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// When and of what it was made; the first.
    About = 1,
    /// Live records in order of type and id.
    Records = 2,
    /// What happened while they were read.
    Changes = 3,
    /// How types of records are kept.
    Options = 4,
    /// What is in it; the last.
    End = 5,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        [
            Self::About,
            Self::Records,
            Self::Changes,
            Self::Options,
            Self::End,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct About {
    #[prost(message, optional, tag = "1")]
    pub(super) created: Option<prost_types::Timestamp>,
    #[prost(string, tag = "2")]
    pub(super) program: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Several {
    #[prost(message, repeated, tag = "1")]
    pub(super) records: Vec<Record>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct AllOptions {
    #[prost(message, repeated, tag = "1")]
    pub(super) types: Vec<TypedOptions>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct End {
    /// Where the database stood when its records were read.
    #[prost(message, optional, tag = "1")]
    pub(super) begun: Option<Versions>,
    /// Where it stood after the changes.
    #[prost(message, optional, tag = "2")]
    pub(super) versions: Option<Versions>,
    #[prost(uint64, tag = "3")]
    pub(super) records: u64,
    #[prost(uint64, tag = "4")]
    pub(super) changes: u64,
    /// Types and ids of records that could not be read.
    #[prost(message, repeated, tag = "5")]
    pub(super) left_out: Vec<Record>,
}

fn place(id: &[u8; 16], number: u64, kind: Kind) -> Vec<u8> {
    [b"backup", &id[..], &number.to_be_bytes(), &[kind as u8]].concat()
}

/// Writes a file next to its name, and gives it the name when it is whole.
pub(super) struct Writer {
    path: PathBuf,
    part: PathBuf,
    out: BufWriter<File>,
    sum: Sha256,
    key: Zeroizing<[u8; 32]>,
    id: [u8; 16],
    number: u64,
}

impl Writer {
    pub(super) fn create(path: &Path, key: &[u8; 32]) -> Result<Self, BackupError> {
        if path.exists() {
            return Err(BackupError::Exists(path.to_owned()));
        }
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&part).map_err(io_error(&part))?;
        let mut writer = Self {
            path: path.to_owned(),
            part,
            out: BufWriter::new(file),
            sum: Sha256::new(),
            key: Zeroizing::new(*key),
            id: pomerium_crypto::random::bytes(),
            number: 0,
        };
        let head = [&MAGIC[..], &FORMAT.to_be_bytes(), &writer.id].concat();
        writer.raw(&head)?;
        Ok(writer)
    }

    fn raw(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        self.sum.update(bytes);
        self.out.write_all(bytes).map_err(io_error(&self.part))
    }

    pub(super) fn frame(&mut self, kind: Kind, value: &impl Message) -> Result<(), BackupError> {
        let plain = Zeroizing::new(value.encode_to_vec());
        let sealed = aead::seal(&self.key, &plain, &place(&self.id, self.number, kind));
        self.number += 1;
        let length = u32::try_from(sealed.len())
            .ok()
            .filter(|length| *length <= LARGEST);
        let length = length.ok_or_else(|| io_error(&self.part)(io::ErrorKind::FileTooLarge.into()))?;
        self.raw(&length.to_be_bytes())?;
        self.raw(&[kind as u8])?;
        self.raw(&sealed)
    }

    /// Makes it durable under its name.
    pub(super) fn finish(mut self) -> Result<(), BackupError> {
        let sum = self.sum.clone().finalize();
        self.out.write_all(&sum).map_err(io_error(&self.part))?;
        self.out.flush().map_err(io_error(&self.part))?;
        self.out.get_ref().sync_all().map_err(io_error(&self.part))?;
        // Never over a file that came meanwhile.
        std::fs::hard_link(&self.part, &self.path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => BackupError::Exists(self.path.clone()),
            _ => io_error(&self.path)(error),
        })?;
        if let Some(folder) = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            File::open(folder)
                .and_then(|folder| folder.sync_all())
                .map_err(io_error(folder))?;
        }
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.part);
    }
}

/// Reads a file frame by frame.
pub(super) struct Reader {
    path: PathBuf,
    input: BufReader<File>,
    sum: Sha256,
    id: [u8; 16],
    number: u64,
}

impl Reader {
    pub(super) fn open(path: &Path) -> Result<Self, BackupError> {
        let file = File::open(path).map_err(io_error(path))?;
        let mut reader = Self {
            path: path.to_owned(),
            input: BufReader::new(file),
            sum: Sha256::new(),
            id: [0; 16],
            number: 0,
        };
        let mut head = [0; 20];
        let foreign = || BackupError::Foreign(path.to_owned());
        reader.input.read_exact(&mut head).map_err(|_| foreign())?;
        reader.sum.update(head);
        let (magic, format) = head.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(foreign());
        }
        let found = u32::from_be_bytes(format.try_into().map_err(|_| foreign())?);
        if found != FORMAT {
            let path = path.to_owned();
            return Err(BackupError::Newer {
                path,
                found,
                known: FORMAT,
            });
        }
        let mut id = [0; 16];
        reader.exactly(&mut id)?;
        reader.id = id;
        Ok(reader)
    }

    pub(super) fn damaged(&self, detail: impl Into<String>) -> BackupError {
        BackupError::Damaged {
            path: self.path.clone(),
            detail: detail.into(),
        }
    }

    fn exactly(&mut self, bytes: &mut [u8]) -> Result<(), BackupError> {
        self.input.read_exact(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged("it ends too early"),
            _ => io_error(&self.path)(error),
        })?;
        self.sum.update(bytes);
        Ok(())
    }

    /// The next frame, sealed.
    fn next(&mut self) -> Result<(Kind, Vec<u8>), BackupError> {
        let mut length = [0; 4];
        self.exactly(&mut length)?;
        let mut kind = [0; 1];
        self.exactly(&mut kind)?;
        let length = u32::from_be_bytes(length);
        let kind = Kind::of(kind[0]).filter(|_| length <= LARGEST);
        let kind = kind.ok_or_else(|| self.damaged("there is no frame where one should be"))?;
        let mut sealed = Vec::new();
        let read = (&mut self.input)
            .take(u64::from(length))
            .read_to_end(&mut sealed)
            .map_err(io_error(&self.path))?;
        if read as u64 != u64::from(length) {
            return Err(self.damaged("it ends too early"));
        }
        self.sum.update(&sealed);
        self.number += 1;
        Ok((kind, sealed))
    }

    /// Reads to the end without a key: whether the checksum holds.
    pub(super) fn verify_sum(mut self) -> Result<(), BackupError> {
        while self.next()?.0 != Kind::End {}
        let sum = self.sum.clone().finalize();
        let mut written = Vec::new();
        (&mut self.input)
            .take(sum.len() as u64 + 1)
            .read_to_end(&mut written)
            .map_err(io_error(&self.path))?;
        match written.len().cmp(&sum.len()) {
            std::cmp::Ordering::Less => Err(self.damaged("it ends too early")),
            std::cmp::Ordering::Greater => Err(self.damaged("something follows its end")),
            std::cmp::Ordering::Equal if written == sum.as_slice() => Ok(()),
            std::cmp::Ordering::Equal => Err(self.damaged("the checksum does not hold")),
        }
    }

    /// The next frame, opened. Only for files whose checksum holds: then a frame that does not open is sealed with
    /// another key.
    pub(super) fn frame(
        &mut self,
        keys: &[Zeroizing<[u8; 32]>],
    ) -> Result<(Kind, Zeroizing<Vec<u8>>), BackupError> {
        let number = self.number;
        let (kind, sealed) = self.next()?;
        let place = place(&self.id, number, kind);
        let plain = keys.iter().find_map(|key| aead::open(key, &sealed, &place).ok());
        let plain = plain.ok_or_else(|| match number {
            0 => BackupError::WrongKey(self.path.clone()),
            _ => self.damaged(format!("frame {number} was altered")),
        })?;
        Ok((kind, Zeroizing::new(plain)))
    }

    pub(super) fn decode<T: Message + Default>(&self, plain: &[u8]) -> Result<T, BackupError> {
        T::decode(plain).map_err(|error| self.damaged(error.to_string()))
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    |source| BackupError::Io { path, source }
}
