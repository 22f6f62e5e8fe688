//! Bytes that are not what was written: nothing is believed, and nothing panics.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::RwLock;
use pomerium_api::databroker::Options;
use proptest::prelude::*;

use super::crash_disk::{CrashDisk, Image};
use super::folder::Folder;
use super::image::{self, Unreadable};
use super::index::Index;
use super::op::{self, Blob, Op, Pieces};
use super::{open, segment};
use crate::conformance::CATS;
use crate::seal::Sealer;
use crate::store::{Counters, Registered};

fn blob(value: &[u8]) -> Blob<'_> {
    Blob {
        version: 9,
        micros: -5,
        record_type: CATS,
        id: "tom",
        value,
        place: 0..0,
    }
}

type Step<'s> = &'s dyn Fn(&mut Vec<u8>);

/// One of each, and where each ends.
fn all() -> (Vec<u8>, Vec<usize>) {
    let service = Registered {
        kind: -1,
        endpoint: "a:1".into(),
        expires: Timestamp::UNIX_EPOCH,
    };
    let mut out = Vec::new();
    let mut ends = Vec::new();
    let writes: [Step<'_>; 9] = [
        &|out| {
            op::blob(out, op::PUT, &blob(b"sealed"));
        },
        &|out| op::remove(out, CATS, "tom"),
        &|out| op::trim(out, 7),
        &|out| op::clear(out),
        &|out| op::clear_changes(out),
        &|out| op::options(out, CATS, Some(b"")),
        &|out| op::options(out, CATS, None),
        &|out| op::service(out, &service),
        &|out| op::service_gone(out, &service),
    ];
    for write in writes {
        write(&mut out);
        ends.push(out.len());
    }
    (out, ends)
}

#[test]
fn operations_are_read_as_they_were_written_and_never_in_part() {
    let (bytes, ends) = all();
    let mut pieces = Pieces::new(&bytes);
    let Some(Op::Blob(op::PUT, first)) = pieces.op() else {
        panic!("a put")
    };
    assert_eq!(
        (first.version, first.micros, first.value),
        (9, -5, &b"sealed"[..])
    );
    assert_eq!(first.place, 0..ends[0]);
    assert_eq!(
        pieces.op(),
        Some(Op::Remove {
            record_type: CATS,
            id: "tom"
        })
    );
    assert_eq!(pieces.op(), Some(Op::Trim(7)));
    for cut in 0..bytes.len() {
        let mut pieces = Pieces::new(&bytes[..cut]);
        let read = std::iter::from_fn(|| pieces.op()).count();
        let whole = ends.iter().filter(|end| **end <= cut).count();
        assert_eq!(read, whole, "cut off at {cut}");
    }
}

#[test]
fn a_blob_with_a_changed_byte_of_its_value_is_refused() {
    let mut bytes = Vec::new();
    op::blob(&mut bytes, op::INSERT, &blob(b"sealed"));
    assert!(op::whole_blob(&bytes).is_some());
    for at in (1..9).chain(bytes.len() - 6..bytes.len()) {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert!(op::whole_blob(&changed).is_none(), "byte {at}");
    }
    bytes.push(0);
    assert!(op::whole_blob(&bytes).is_none(), "a byte too many");
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut index = Index::new(Counters::fresh());
        let _ = index.carry_out(&bytes, 1, 0);
        let _ = index.carry_out_small(&bytes);
        let _ = op::whole_blob(&bytes);
    }
}

fn written() -> Image {
    let disk = CrashDisk::default();
    let index = RwLock::new(Index::new(Counters::fresh()));
    let mut frame = op::counters(Counters::fresh()).to_vec();
    op::blob(&mut frame, op::PUT, &blob(b"sealed"));
    op::options(
        &mut frame,
        CATS,
        Some(&prost::Message::encode_to_vec(&Options::default())),
    );
    index.write().carry_out(&frame, 1, 56).unwrap();
    let about = image::About {
        key_check: None,
        line: 5,
        first: 1,
    };
    image::write(&disk, &about, &index, &|| true).unwrap();
    disk.image()
}

#[test]
fn an_index_with_a_changed_byte_or_cut_short_is_refused() {
    let whole = written();
    let node = whole.names[image::NAME];
    let read = |image: Image| {
        let disk = CrashDisk::with(image);
        let file = Folder::open(&disk, image::NAME).unwrap();
        image::read(&*file)
    };
    let Ok((about, index)) = read(whole.clone()) else {
        panic!("it is whole")
    };
    assert_eq!((about.line, about.first), (5, 1));
    assert_eq!(index.find(CATS, "tom").unwrap().version, 9);
    assert_eq!(index.log.len(), 1);
    for at in 0..whole.files[&node].len() {
        let mut changed = whole.clone();
        changed.files.get_mut(&node).unwrap()[at] ^= 1;
        assert!(read(changed).is_err(), "byte {at}");
        let mut short = whole.clone();
        short.files.get_mut(&node).unwrap().truncate(at);
        assert!(
            matches!(read(short), Err(Unreadable::Damaged(_))),
            "cut off at {at}"
        );
    }
}

/// Somebody wrote over the start of the only segment: it is not taken for one that was never finished.
#[test]
fn a_segment_without_its_start_is_told() {
    let disk = CrashDisk::default();
    let (folder, sealer): (Arc<dyn Folder>, _) = (Arc::new(disk.clone()), Sealer::new(&[]));
    let path = Path::new("a disk in memory");
    let mut found = open::within(&folder, path, &sealer).unwrap();
    found.journal.begin().unwrap();
    let mut frame = super::journal::blank();
    op::trim(&mut frame, 1);
    found.journal.append(&mut frame, Counters::fresh(), true).unwrap();
    let mut image = disk.image();
    let node = image.names[&segment::name(1)];
    image.files.get_mut(&node).unwrap().fill(0xA5);
    let folder: Arc<dyn Folder> = Arc::new(CrashDisk::with(image));
    let refused = open::within(&folder, path, &sealer).err().expect("it is damaged");
    assert!(refused.to_string().contains("the start of"), "{refused}");
}
