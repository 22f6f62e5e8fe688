//! The files that pages load: embedded, named after their content, kept by browsers for a year.

use http::{HeaderValue, StatusCode, header};

use super::Branding;
use crate::body::{self, Response};

/// Where they are served, on every host.
pub const PREFIX: &str = "/.pomerium/assets/";

const STYLE: &str = include_str!("../../assets/pages.css");
const SCRIPT: &str = include_str!("../../assets/pages.js");
const DEVICE: &str = include_str!("../../assets/device.js");
const ICON: &str = include_str!("../../assets/icon.svg");

/// The set of files for one branding.
#[derive(Debug, Clone)]
pub struct Assets {
    files: [Asset; 5],
}

#[derive(Debug, Clone)]
struct Asset {
    stem: &'static str,
    path: String,
    content_type: &'static str,
    content: bytes::Bytes,
}

impl Assets {
    pub(super) fn new(branding: &Branding) -> Self {
        let css = "text/css; charset=UTF-8";
        Self {
            files: [
                Asset::new("pages", "css", css, STYLE.to_owned()),
                Asset::new("theme", "css", css, branding.stylesheet()),
                Asset::new("pages", "js", "text/javascript; charset=UTF-8", SCRIPT.to_owned()),
                Asset::new(
                    "device",
                    "js",
                    "text/javascript; charset=UTF-8",
                    DEVICE.to_owned(),
                ),
                Asset::new("icon", "svg", "image/svg+xml", ICON.to_owned()),
            ],
        }
    }

    /// The path of the stylesheet.
    pub fn style(&self) -> &str {
        &self.files[0].path
    }

    /// The path of the colours.
    pub fn theme(&self) -> &str {
        &self.files[1].path
    }

    /// The path of the module that adds comfort.
    pub fn script(&self) -> &str {
        &self.files[2].path
    }

    /// The path of the module that asks devices.
    pub fn device(&self) -> &str {
        &self.files[3].path
    }

    /// The path of the tab icon.
    pub fn icon(&self) -> &str {
        &self.files[4].path
    }

    /// The response for a path under [`PREFIX`]. A hash of yesterday's (a page of another replica, a config
    /// reload in between) gets today's file, which is then not kept.
    pub fn get(&self, path: &str) -> Option<Response> {
        let known = self.files.iter().find(|file| file.path == path);
        let file = known.or_else(|| self.files.iter().find(|file| file.is_other_version(path)))?;
        let cache = if known.is_some() {
            "public, max-age=31536000, immutable"
        } else {
            "no-cache"
        };
        let mut response = body::response(StatusCode::OK, file.content_type, file.content.clone());
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
        headers.insert(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        );
        // An icon is an image, not a document: opened on its own it may load and run nothing.
        headers.insert(
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("default-src 'none'"),
        );
        headers.insert(
            "x-pomerium-intercepted-response",
            HeaderValue::from_static("true"),
        );
        Some(response)
    }
}

impl Asset {
    fn new(stem: &'static str, extension: &'static str, content_type: &'static str, content: String) -> Self {
        let path = format!("{PREFIX}{stem}-{:016x}.{extension}", fnv1a(content.as_bytes()));
        Self {
            stem,
            path,
            content_type,
            content: content.into(),
        }
    }

    fn is_other_version(&self, path: &str) -> bool {
        let hash = path
            .strip_prefix(PREFIX)
            .and_then(|name| name.strip_prefix(self.stem)?.strip_prefix('-'));
        let extension = self.path.rsplit('.').next().unwrap_or_default();
        let hash = hash.and_then(|name| name.strip_suffix(extension)?.strip_suffix('.'));
        hash.is_some_and(|hash| hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
    }
}

/// FNV-1a, 64 bits: a name for a content we wrote ourselves, not a protection.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_after_their_content() {
        let one = Assets::new(&Branding::default());
        let red = Branding {
            primary: super::super::Color::new(200, 0, 0),
            ..Branding::default()
        };
        let two = Assets::new(&red);
        assert_eq!(one.style(), two.style());
        assert_ne!(one.theme(), two.theme());
        for path in [one.style(), one.theme(), one.script(), one.device(), one.icon()] {
            let response = one.get(path).expect(path);
            assert!(
                response.headers()["cache-control"]
                    .to_str()
                    .unwrap()
                    .contains("immutable")
            );
        }
        let stale = two.get(one.theme()).expect("yesterday's name");
        assert_eq!(stale.headers()["cache-control"], "no-cache");
        for path in [
            "/.pomerium/assets/",
            "/.pomerium/assets/pages.css",
            "/.pomerium/assets/x-0123456789abcdef.css",
            "/pages",
        ] {
            assert!(one.get(path).is_none(), "{path}");
        }
    }

    #[test]
    fn nothing_is_loaded_from_elsewhere_and_all_is_small() {
        let size = STYLE.len() + SCRIPT.len() + DEVICE.len() + ICON.len();
        assert!(size < 30_000, "{size}");
        assert!(!STYLE.contains("url(") && !STYLE.contains("@import"));
        for script in [SCRIPT, DEVICE] {
            assert!(!script.contains("innerHTML") && !script.contains("http"));
        }
    }
}
