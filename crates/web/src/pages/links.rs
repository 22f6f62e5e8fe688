//! Addresses and text that come from outside, made fit for a page.

/// An address for `href`: `http(s)://…` or a path on this host; anything else (`javascript:`, `//host`) is
/// left out.
pub fn href(url: &str) -> Option<&str> {
    let clean = !url
        .bytes()
        .any(|byte| byte <= 0x20 || byte == 0x7f || byte == b'\\');
    let local = url.starts_with('/') && !url.starts_with("//");
    (clean && (local || is_web(url))).then_some(url)
}

/// An address for `img`: what the content security policy lets load.
pub fn image(url: &str) -> Option<&str> {
    let data = url
        .get(..11)
        .is_some_and(|start| start.eq_ignore_ascii_case("data:image/"));
    let https = url
        .get(..8)
        .is_some_and(|start| start.eq_ignore_ascii_case("https://"));
    let local = url.starts_with('/') && !url.starts_with("//");
    let clean = !url.bytes().any(|byte| byte < 0x20 || byte == b'\\');
    (clean && (data || https || local)).then_some(url)
}

fn is_web(url: &str) -> bool {
    let starts = |scheme: &str| {
        url.get(..scheme.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    starts("https://") || starts("http://")
}

/// A piece of an administrator's sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Span<'a> {
    /// Plain text.
    Text(&'a str),
    /// `[text](address)`.
    Link {
        /// What it says.
        text: &'a str,
        /// Where it leads; checked by [`href`].
        href: &'a str,
    },
}

/// Splits text into paragraphs at blank lines and finds links. All else is text: no HTML gets through.
pub fn prose(text: &str) -> Vec<Vec<Span<'_>>> {
    let paragraphs = text
        .split("\n\n")
        .map(str::trim)
        .filter(|paragraph| !paragraph.is_empty());
    paragraphs.map(spans).collect()
}

fn spans(mut rest: &str) -> Vec<Span<'_>> {
    let mut spans = Vec::new();
    while let Some((before, link, after)) = next_link(rest) {
        if !before.is_empty() {
            spans.push(Span::Text(before));
        }
        spans.push(link);
        rest = after;
    }
    if !rest.is_empty() {
        spans.push(Span::Text(rest));
    }
    spans
}

fn next_link(text: &str) -> Option<(&str, Span<'_>, &str)> {
    let middle = text.find("](")?;
    let open = text[..middle].rfind('[')?;
    let close = middle + text[middle..].find(')')?;
    let address = text[middle + 2..close].trim();
    let href = href(address).or_else(|| address.starts_with("mailto:").then_some(address))?;
    let link = Span::Link {
        text: &text[open + 1..middle],
        href,
    };
    Some((&text[..open], link, &text[close + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_web_addresses_become_links() {
        for good in [
            "https://a.example.com/x",
            "HTTP://a.example.com",
            "/.pomerium/",
            "/a?b=c",
        ] {
            assert_eq!(href(good), Some(good));
        }
        for bad in [
            "javascript:alert(1)",
            "JavaScript:alert(1)",
            " javascript:x",
            "data:text/html,x",
            "//evil.example.com",
            "/\\evil",
            "/\t/evil",
            "vbscript:x",
            "",
            "a",
            "https:evil",
            "java\nscript:x",
        ] {
            assert_eq!(href(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn only_images_that_may_load() {
        for good in [
            "https://a.example.com/x.png",
            "data:image/png;base64,AA==",
            "/logo.svg",
        ] {
            assert_eq!(image(good), Some(good));
        }
        for bad in [
            "http://a.example.com/x.png",
            "data:text/html,x",
            "javascript:x",
            "//e/x.png",
            "é",
        ] {
            assert_eq!(image(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn an_administrators_sentence() {
        let text = "Ask [the desk](https://desk.example.com) now.\n\n[x](javascript:alert(1)) <b>";
        let paragraphs = prose(text);
        assert_eq!(
            paragraphs[0],
            [
                Span::Text("Ask "),
                Span::Link {
                    text: "the desk",
                    href: "https://desk.example.com"
                },
                Span::Text(" now.")
            ]
        );
        assert_eq!(paragraphs[1], [Span::Text("[x](javascript:alert(1)) <b>")]);
        assert_eq!(prose(" \n\n "), Vec::<Vec<Span<'_>>>::new());
        assert_eq!(prose("](")[0], [Span::Text("](")]);
    }
}
