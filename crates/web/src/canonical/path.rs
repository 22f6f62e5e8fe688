//! The path pipeline: from what came over the wire to the one path that is routed, judged and forwarded.
//!
//! Steps, in this order: start with `/`; no control bytes and no `#`; every `%` well formed; `%2f`/`%5c`
//! by rule; unreserved escapes decoded; `\` to `/`; dot segments removed; slashes merged. A path that
//! needs none of it is borrowed, not copied. No URL parser is ever asked about a request path, so that
//! `//admin` stays a path.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::{EscapedSlashes, Rules};

/// Why a path is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not begin with a slash.
    #[error("path does not start with a slash")]
    NotAbsolute,
    /// A control byte, raw or escaped, NUL included.
    #[error("path holds a control character")]
    Control,
    /// A raw `#`: a fragment has no place in a request.
    #[error("path holds a fragment")]
    Fragment,
    /// A `%` without two hex digits behind it.
    #[error("path holds a malformed percent-escape")]
    BadEscape,
    /// `%2f` or `%5c` where the rule refuses them.
    #[error("path holds an escaped slash")]
    EscapedSlash,
    /// A dot segment in disguise (`..;x`, or `..` around a kept escaped slash).
    #[error("path holds a disguised dot segment")]
    DisguisedDots,
    /// A second slash in disguise (`/;x/`).
    #[error("path holds a disguised double slash")]
    DisguisedSlash,
}

/// A path after the pipeline.
#[derive(Debug, PartialEq, Eq)]
pub struct Normalised<'a> {
    /// The path to route, judge and forward.
    pub path: Cow<'a, str>,
    /// An escaped slash was decoded and the rule wants the client sent to the decoded form.
    pub redirect: bool,
}

/// Runs the pipeline. The result is a fixed point: running it again changes nothing.
///
/// # Errors
/// [`PathError`] for whatever must be answered 400 (proxy.md 1.8).
pub fn normalise<'a>(raw: &'a str, rules: &Rules) -> Result<Normalised<'a>, PathError> {
    if is_plain(raw.as_bytes()) {
        return Ok(Normalised {
            path: Cow::Borrowed(raw),
            redirect: false,
        });
    }
    check(raw.as_bytes())?;
    let (mut path, redirect) = unescape(raw.as_bytes(), rules)?;
    if rules.normalize_path {
        refuse_disguised_dots(&path)?;
        path = remove_dot_segments(&path);
    }
    if rules.merge_slashes {
        merge_slashes(&mut path);
        refuse_disguised_slashes(&path)?;
    }
    // Only ASCII is ever pushed: everything else has become an escape.
    let path = String::from_utf8(path).map_err(|_| PathError::Control)?;
    let path = if path == raw {
        Cow::Borrowed(raw)
    } else {
        Cow::Owned(path)
    };
    Ok(Normalised { path, redirect })
}

/// The percent-decoded form, as policy sees it. Bytes that are not UTF-8 become U+FFFD, so that a rule
/// about the readable part of a path still holds when somebody appends `%ff` to it.
pub fn decode(path: &str) -> Cow<'_, str> {
    percent_decode_str(path).decode_utf8_lossy()
}

/// Nothing in it that any step could touch. `/.` leads to the slow path, which also serves `/.well-known`.
fn is_plain(path: &[u8]) -> bool {
    let Some((b'/', rest)) = path.split_first() else {
        return false;
    };
    let mut before = b'/';
    for &byte in rest {
        if !PLAIN[byte as usize] || (before == b'/' && matches!(byte, b'/' | b'.' | b';')) {
            return false;
        }
        before = byte;
    }
    true
}

/// Bytes that no step changes or refuses.
static PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        table[byte] = !is_refused_or_changed(byte as u8);
        byte += 1;
    }
    table
};

const fn is_refused_or_changed(byte: u8) -> bool {
    matches!(byte, b'%' | b'\\' | b'#' | b'?') || must_be_escaped(byte)
}

/// The path set of the WHATWG URL standard, which is what browsers escape by themselves: one spelling,
/// so that a route cannot be dodged with the other.
const fn must_be_escaped(byte: u8) -> bool {
    byte >= 0x80 || matches!(byte, b' ' | b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'}')
}

fn check(path: &[u8]) -> Result<(), PathError> {
    if path.first() != Some(&b'/') {
        return Err(PathError::NotAbsolute);
    }
    for (at, &byte) in path.iter().enumerate() {
        match byte {
            0..=0x1f | 0x7f => return Err(PathError::Control),
            b'#' => return Err(PathError::Fragment),
            b'%' => match escape_at(path, at) {
                None => return Err(PathError::BadEscape),
                Some(0..=0x1f | 0x7f) => return Err(PathError::Control),
                Some(_) => {}
            },
            _ => {}
        }
    }
    Ok(())
}

/// The byte that the escape at `at` stands for.
fn escape_at(path: &[u8], at: usize) -> Option<u8> {
    let hex = |byte: u8| char::from(byte).to_digit(16);
    let (high, low) = (hex(*path.get(at + 1)?)?, hex(*path.get(at + 2)?)?);
    u8::try_from(high * 16 + low).ok()
}

/// Decodes what must be decoded, escapes what must be escaped; the second value asks for a redirect.
fn unescape(raw: &[u8], rules: &Rules) -> Result<(Vec<u8>, bool), PathError> {
    let mut out = Vec::with_capacity(raw.len() + 8);
    let mut redirect = false;
    let mut at = 0;
    while at < raw.len() {
        let byte = raw[at];
        if byte != b'%' {
            push_raw(&mut out, byte, rules.normalize_path);
            at += 1;
            continue;
        }
        let stands_for = escape_at(raw, at).ok_or(PathError::BadEscape)?;
        match (stands_for, rules.escaped_slashes) {
            (b'/' | b'\\', EscapedSlashes::Reject) => return Err(PathError::EscapedSlash),
            (b'/' | b'\\', EscapedSlashes::UnescapeAndRedirect | EscapedSlashes::UnescapeAndForward) => {
                redirect |= rules.escaped_slashes == EscapedSlashes::UnescapeAndRedirect;
                out.push(b'/');
            }
            _ if rules.normalize_path && is_unreserved(stands_for) => out.push(stands_for),
            _ => out.extend_from_slice(&raw[at..at + 3]),
        }
        at += 3;
    }
    Ok((out, redirect))
}

fn push_raw(out: &mut Vec<u8>, byte: u8, normalise: bool) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    match byte {
        b'\\' if normalise => out.push(b'/'),
        _ if must_be_escaped(byte) => {
            out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
        _ => out.push(byte),
    }
}

/// RFC 3986 section 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn merge_slashes(path: &mut Vec<u8>) {
    path.dedup_by(|a, b| *a == b'/' && *b == b'/');
}

/// Some servers cut `;…` off a segment before they merge slashes: to them `/;x/admin` is `/admin`. At the end of a
/// path it stands for a slash at most; Java servers write `/;jsessionid=…` there.
fn refuse_disguised_slashes(path: &[u8]) -> Result<(), PathError> {
    let mut segments = path.split(|byte| *byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let nameless = segment.starts_with(b";") || starts_with_escape(segment, b"3b");
        if nameless && segments.peek().is_some() {
            return Err(PathError::DisguisedSlash);
        }
    }
    Ok(())
}

/// Some servers cut `;…` off a segment before they look for dots, so `..;x` climbs there and not here.
/// A kept escaped slash next to dots is the same trick.
fn refuse_disguised_dots(path: &[u8]) -> Result<(), PathError> {
    path.split(|byte| *byte == b'/').try_for_each(|segment| {
        let dots = segment.iter().take_while(|byte| **byte == b'.').count();
        let rest = &segment[dots..];
        let tricky = matches!(dots, 1 | 2) && (rest.starts_with(b";") || starts_with_escape(rest, b"3b"));
        if tricky || hides_dots(segment) {
            Err(PathError::DisguisedDots)
        } else {
            Ok(())
        }
    })
}

/// Whether a server could climb with this path: it holds a dot segment, as such or in disguise. For paths that are made
/// and not received: `/api../x` has none, and has one as soon as `/api` becomes `/base/`.
pub fn climbs(path: &str) -> bool {
    let dots = |segment: &[u8]| matches!(segment, b"." | b"..");
    path.as_bytes().split(|byte| *byte == b'/').any(dots) || refuse_disguised_dots(path.as_bytes()).is_err()
}

fn starts_with_escape(text: &[u8], hex: &[u8; 2]) -> bool {
    text.len() >= 3 && text[0] == b'%' && text[1..3].eq_ignore_ascii_case(hex)
}

/// A part of the segment between kept escaped slashes is `.` or `..`.
fn hides_dots(segment: &[u8]) -> bool {
    let (mut start, mut at, mut seen) = (0, 0, false);
    while at < segment.len() {
        let rest = &segment[at..];
        if starts_with_escape(rest, b"2f") || starts_with_escape(rest, b"5c") {
            if is_dots(&segment[start..at]) {
                return true;
            }
            seen = true;
            at += 3;
            start = at;
        } else {
            at += 1;
        }
    }
    seen && is_dots(&segment[start..])
}

fn is_dots(part: &[u8]) -> bool {
    let name = part.split(|byte| *byte == b';').next().unwrap_or(part);
    matches!(name, b"." | b"..")
}

/// RFC 3986 section 5.2.4, for a path that starts with a slash; climbing above the root stays at the root.
fn remove_dot_segments(path: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::with_capacity(path.len());
    let mut segments = path[1..].split(|byte| *byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            b"." => {}
            b".." => {
                let parent = out.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                out.truncate(parent);
            }
            _ => {
                out.push(b'/');
                out.extend_from_slice(segment);
                continue;
            }
        }
        if last {
            out.push(b'/');
        }
    }
    if out.is_empty() {
        out.push(b'/');
    }
    out
}

#[cfg(test)]
mod tests;
