//! Sockets over a UNIX socket: a list of what comes, then one byte with one socket each.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use serde::{Deserialize, Serialize};

use super::Use;

/// The longest list that is read; a listener with a thousand sockets needs half of it.
const LONGEST: u32 = 256 * 1024;

/// What one socket is for, and the setting it was opened for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// What it is for.
    pub what: Use,
    /// Its address as the settings of the sender have it.
    pub setting: String,
}

/// Sends sockets with their labels.
pub fn send(to: &mut UnixStream, sockets: &[(Label, TcpListener)]) -> io::Result<()> {
    let labels: Vec<&Label> = sockets.iter().map(|(label, _)| label).collect();
    let list = serde_json::to_vec(&labels)?;
    let length = u32::try_from(list.len()).map_err(io::Error::other)?;
    to.write_all(&length.to_be_bytes())?;
    to.write_all(&list)?;
    for (_, socket) in sockets {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let handle = [socket.as_fd()];
        if !control.push(SendAncillaryMessage::ScmRights(&handle)) {
            return Err(io::Error::other("no room for a socket"));
        }
        rustix::net::sendmsg(&*to, &[IoSlice::new(b".")], &mut control, SendFlags::empty())?;
    }
    Ok(())
}

/// Receives what [`send`] has sent, and nothing behind it.
pub fn receive(from: &mut UnixStream) -> io::Result<Vec<(Label, TcpListener)>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    if length > LONGEST {
        return Err(io::Error::other("the list of sockets is too long"));
    }
    let mut list = vec![0; length as usize];
    from.read_exact(&mut list)?;
    let labels: Vec<Label> = serde_json::from_slice(&list)?;
    labels.into_iter().map(|label| Ok((label, one(from)?))).collect()
}

fn one(from: &UnixStream) -> io::Result<TcpListener> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::net::recvmsg(
        from,
        &mut [IoSliceMut::new(&mut byte)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut handles = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut handles) => handles.next(),
        _ => None,
    });
    let handle: Option<OwnedFd> = handles.next();
    match handle {
        Some(handle) if received.bytes == 1 => Ok(handle.into()),
        _ => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_arrive_in_order_and_what_follows_stays() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let listeners: Vec<_> = (0..5)
            .map(|number| {
                let label = Label {
                    what: if number == 0 { Use::Health } else { Use::Main },
                    setting: format!(":{number}"),
                };
                (label, TcpListener::bind("127.0.0.1:0").unwrap())
            })
            .collect();
        send(&mut ours, &listeners).unwrap();
        ours.write_all(b"after").unwrap();
        let received = receive(&mut theirs).unwrap();
        assert_eq!(received.len(), listeners.len());
        for ((label, socket), (sent_label, sent)) in received.iter().zip(&listeners) {
            assert_eq!(label, sent_label);
            assert_eq!(socket.local_addr().unwrap(), sent.local_addr().unwrap());
        }
        drop(ours);
        let mut rest = String::new();
        theirs.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "after");
    }

    #[test]
    fn an_end_in_the_middle_is_an_error() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        ours.write_all(&[0, 0]).unwrap();
        drop(ours);
        assert!(receive(&mut theirs).is_err());
    }
}
