//! Words of administrators in Markdown, as HTML of ours.
//!
//! The reader of the language gives events; what stands on the page is written here, from a short list of tags. HTML
//! in the text is shown as text, an address becomes a link only if [`href`] accepts it, images are their words, and
//! headings are bold lines, because the page has its own. Nothing else gets through.

use std::fmt::Write as _;

use pulldown_cmark::{CodeBlockKind, Event, LinkType, Options, Parser, Tag, TagEnd};

use super::href;

/// Longest text that is read, in bytes; the rest is left out.
const MOST: usize = 16 * 1024;

/// Deepest nesting of tags; what is deeper loses its tags, not its words.
const DEPTH: usize = 16;

/// The text as HTML that is safe to stand on a page.
pub(super) fn html(text: &str) -> String {
    let text = &text[..text.floor_char_boundary(MOST)];
    let mut writer = Writer::default();
    for event in Parser::new_ext(text, Options::empty()) {
        writer.event(event);
    }
    writer.out
}

#[derive(Default)]
struct Writer {
    out: String,
    /// What closes each tag that is open; empty for one that was left out.
    open: Vec<&'static str>,
}

impl Writer {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(&tag),
            Event::End(end) => self.end(end),
            Event::Code(code) => {
                self.out.push_str("<code>");
                self.text(&code);
                self.out.push_str("</code>");
            }
            Event::SoftBreak => self.out.push('\n'),
            Event::HardBreak => self.out.push_str("<br>"),
            Event::Rule => self.out.push_str("<hr>"),
            Event::TaskListMarker(done) => self.out.push_str(if done { "☑ " } else { "☐ " }),
            Event::Text(text)
            | Event::Html(text)
            | Event::InlineHtml(text)
            | Event::InlineMath(text)
            | Event::DisplayMath(text)
            | Event::FootnoteReference(text) => self.text(&text),
        }
    }

    fn start(&mut self, tag: &Tag<'_>) {
        if self.open.len() >= DEPTH {
            self.open.push("");
            return;
        }
        let (open, close) = match tag {
            Tag::Paragraph | Tag::HtmlBlock => ("<p>", "</p>"),
            Tag::Heading { .. } => ("<p><strong>", "</strong></p>"),
            Tag::BlockQuote(_) => ("<blockquote>", "</blockquote>"),
            Tag::CodeBlock(CodeBlockKind::Fenced(_) | CodeBlockKind::Indented) => {
                ("<pre><code>", "</code></pre>")
            }
            Tag::List(None) => ("<ul>", "</ul>"),
            Tag::List(Some(_)) => ("<ol>", "</ol>"),
            Tag::Item => ("<li>", "</li>"),
            Tag::Emphasis => ("<em>", "</em>"),
            Tag::Strong => ("<strong>", "</strong>"),
            Tag::Link {
                link_type: LinkType::Email,
                dest_url,
                ..
            } => ("", self.link(&format!("mailto:{dest_url}"))),
            Tag::Link { dest_url, .. } => ("", self.link(dest_url)),
            _ => ("", ""),
        };
        self.out.push_str(open);
        self.open.push(close);
    }

    /// Opens a link to an address that may stand on a page; otherwise its words stay.
    fn link(&mut self, url: &str) -> &'static str {
        let Some(url) = href(url).or_else(|| mail(url)) else {
            return "";
        };
        self.out.push_str("<a href=\"");
        self.text(url);
        self.out.push_str("\" rel=\"noreferrer\">");
        "</a>"
    }

    fn end(&mut self, _: TagEnd) {
        self.out.push_str(self.open.pop().unwrap_or_default());
    }

    fn text(&mut self, text: &str) {
        for letter in text.chars() {
            match letter {
                '<' => self.out.push_str("&lt;"),
                '>' => self.out.push_str("&gt;"),
                '&' => self.out.push_str("&amp;"),
                '"' => self.out.push_str("&quot;"),
                '\'' => self.out.push_str("&#39;"),
                // Whatever hides or turns round what follows it is shown as what it is.
                '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                    // Writing to a `String` cannot fail.
                    let _ = write!(self.out, "U+{:04X}", u32::from(letter));
                }
                other => self.out.push(other),
            }
        }
    }
}

/// `mailto:` and an address without anything that could begin headers of the message.
fn mail(url: &str) -> Option<&str> {
    let address = url.strip_prefix("mailto:")?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".@_+-".contains(&byte);
    (!address.is_empty() && address.bytes().all(plain)).then_some(url)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_administrators_write() {
        for (text, expected) in [
            ("Ask **the desk**.", "<p>Ask <strong>the desk</strong>.</p>"),
            ("one\n\ntwo", "<p>one</p><p>two</p>"),
            ("- a\n- `b`", "<ul><li>a</li><li><code>b</code></li></ul>"),
            ("1. a", "<ol><li>a</li></ol>"),
            ("# Staff *only*", "<p><strong>Staff <em>only</em></strong></p>"),
            (
                "[form](https://desk.example.com/?a=1&b=2)",
                "<p><a href=\"https://desk.example.com/?a=1&amp;b=2\" rel=\"noreferrer\">form</a></p>",
            ),
            (
                "<desk@example.com>",
                "<p><a href=\"mailto:desk@example.com\" rel=\"noreferrer\">desk@example.com</a></p>",
            ),
            ("    a < b", "<pre><code>a &lt; b</code></pre>"),
            ("", ""),
        ] {
            assert_eq!(html(text).replace('\n', ""), expected, "{text}");
        }
    }

    #[test]
    fn nothing_of_theirs_is_html() {
        for (text, expected) in [
            ("<b>x</b>", "<p>&lt;b&gt;x&lt;/b&gt;</p>"),
            (
                "<script>alert(1)</script>",
                "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>",
            ),
            ("[x](javascript:alert(1))", "<p>x</p>"),
            (
                "[x](<java\nscript:alert(1)>)",
                "<p>[x](&lt;javascript:alert(1)&gt;)</p>",
            ),
            ("[x](&#106;avascript:alert(1))", "<p>x</p>"),
            ("[x](data:text/html,x)", "<p>x</p>"),
            ("[x](//evil.example.com)", "<p>x</p>"),
            ("[x](mailto:a@example.com?bcc=b@example.com)", "<p>x</p>"),
            ("![x](https://evil.example.com/count.png)", "<p>x</p>"),
            ("\u{202e}gpj", "<p>U+202Egpj</p>"),
            (
                "[x](https://a.example.com/\"onclick=\"alert(1))",
                "<p><a href=\"https://a.example.com/&quot;onclick=&quot;alert(1)\" rel=\"noreferrer\">x</a></p>",
            ),
        ] {
            assert_eq!(html(text).replace('\n', ""), expected, "{text}");
        }
    }

    #[test]
    fn large_and_deep_texts_stay_small() {
        let deep = html(&"> ".repeat(5_000));
        assert!(deep.matches("<blockquote>").count() <= DEPTH);
        assert!(html(&"é".repeat(MOST)).len() <= MOST + 16);
    }

    const TAGS: &[&str] = &[
        "<p>",
        "</p>",
        "<strong>",
        "</strong>",
        "<em>",
        "</em>",
        "<code>",
        "</code>",
        "<pre>",
        "</pre>",
        "<ul>",
        "</ul>",
        "<ol>",
        "</ol>",
        "<li>",
        "</li>",
        "<blockquote>",
        "</blockquote>",
        "<br>",
        "<hr>",
        "</a>",
        "<a href=\"",
    ];

    proptest! {
        #[test]
        fn only_tags_of_ours_come_out(text in "[ -~\n]{0,80}") {
            let out = html(&text);
            for (at, _) in out.match_indices('<') {
                prop_assert!(TAGS.iter().any(|tag| out[at..].starts_with(tag)), "{text:?}: {out}");
            }
        }
    }
}
