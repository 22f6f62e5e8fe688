//! Forms in HTML pages: enough of HTML to fill in the pages under test.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// A form with the fields that would be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Form {
    /// `get` or `post`.
    pub(super) method: String,
    /// Where it goes, as written.
    pub(super) action: String,
    /// Names and values, in order.
    pub(super) fields: Vec<(String, String)>,
    user: Option<usize>,
    password: Option<usize>,
}

const KEEP: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'*');

impl Form {
    /// Every form of a page.
    pub(super) fn all(html: &str) -> Vec<Form> {
        html.split("<form")
            .skip(1)
            .map(|rest| Form::parse(rest.split("</form").next().unwrap_or(rest)))
            .collect()
    }

    /// The first form with a password field.
    pub(super) fn with_password(html: &str) -> Option<Form> {
        Form::all(html).into_iter().find(|form| form.password.is_some())
    }

    fn parse(html: &str) -> Form {
        let head = html.split('>').next().unwrap_or_default();
        let mut form = Form {
            method: attribute(head, "method")
                .unwrap_or_else(|| "get".into())
                .to_ascii_lowercase(),
            action: attribute(head, "action").unwrap_or_default(),
            fields: Vec::new(),
            user: None,
            password: None,
        };
        for input in html.split("<input").skip(1) {
            form.add(input.split('>').next().unwrap_or_default());
        }
        form
    }

    fn add(&mut self, input: &str) {
        let Some(name) = attribute(input, "name") else {
            return;
        };
        let kind = attribute(input, "type").unwrap_or_else(|| "text".into());
        let at = self.fields.len();
        match kind.as_str() {
            "password" => self.password = self.password.or(Some(at)),
            "text" | "email" => self.user = self.user.or(Some(at)),
            "checkbox" | "radio" if !input.contains("checked") => return,
            _ => {}
        }
        self.fields
            .push((name, attribute(input, "value").unwrap_or_default()));
    }

    pub(super) fn fill_credentials(&mut self, user: &str, password: &str) {
        for (field, value) in [(self.user, user), (self.password, password)] {
            if let Some((_, slot)) = field.and_then(|at| self.fields.get_mut(at)) {
                value.clone_into(slot);
            }
        }
    }

    /// `application/x-www-form-urlencoded`.
    pub(super) fn encoded(&self) -> String {
        let encode = |text: &str| utf8_percent_encode(text, KEEP).to_string();
        let pairs: Vec<String> = self
            .fields
            .iter()
            .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
            .collect();
        pairs.join("&")
    }
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let mut from = 0;
    let start = loop {
        let at = from + tag[from..].find(&format!("{name}="))?;
        // `data-name=` is not `name=`.
        if tag[..at].ends_with(|before: char| before.is_whitespace()) {
            break at + name.len() + 1;
        }
        from = at + 1;
    };
    let rest = &tag[start..];
    let value = match rest.chars().next()? {
        quote @ ('"' | '\'') => rest[1..].split(quote).next()?,
        _ => rest.split(|end: char| end.is_whitespace() || end == '/').next()?,
    };
    Some(unescape(value))
}

fn unescape(text: &str) -> String {
    let named = text
        .replace("&quot;", "\"")
        .replace("&#34;", "\"")
        .replace("&#39;", "'")
        .replace("&#x27;", "'")
        .replace("&#61;", "=")
        .replace("&#60;", "<")
        .replace("&#62;", ">")
        .replace("&lt;", "<")
        .replace("&gt;", ">");
    named.replace("&#38;", "&").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sign_in_form_is_found_and_filled() {
        let html = r#"<form action="/search"><input name="q"></form>
            <form method="post" action="/in?a=1&amp;b=2"><input type="hidden" name="csrf" value="t&#34;k">
            <input data-name="x" type=email name=login><input type="password" name="password">
            <input type="checkbox" name="stay"></form>"#;
        let mut form = Form::with_password(html).unwrap();
        form.fill_credentials("developer@example.com", "p&w");
        assert_eq!(
            (form.method.as_str(), form.action.as_str()),
            ("post", "/in?a=1&b=2")
        );
        assert_eq!(
            form.encoded(),
            "csrf=t%22k&login=developer%40example.com&password=p%26w"
        );
    }
}
