//! Whose pages these are: name, colours, logo, a sentence of the administrator's.

use super::color::{Color, ColorError};

/// How generated pages look. Colours are moved towards black or white where they could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branding {
    /// The name beside the mark.
    pub name: String,
    /// Accent on light ground.
    pub primary: Color,
    /// Focus rings on light ground.
    pub secondary: Color,
    /// Accent on dark ground; from `primary` when unset.
    pub primary_dark: Option<Color>,
    /// Focus rings on dark ground; from `secondary` when unset.
    pub secondary_dark: Option<Color>,
    /// Replaces the mark.
    pub logo_url: Option<String>,
    /// Replaces the icon of the browser tab.
    pub favicon_url: Option<String>,
    /// Shown on error pages, under what happened. Plain text; links as `[text](https://…)`.
    pub error_paragraph: Option<String>,
}

impl Default for Branding {
    fn default() -> Self {
        Self {
            name: "Pomerium".to_owned(),
            primary: Color::new(0x6f, 0x43, 0xe7),
            secondary: Color::new(0x49, 0xaa, 0xa1),
            primary_dark: None,
            secondary_dark: None,
            logo_url: None,
            favicon_url: None,
            error_paragraph: None,
        }
    }
}

/// The grounds of the stylesheet (`--page`, `--card`), light and dark.
pub(super) const LIGHT: [Color; 2] = [Color::new(0xf6, 0xf7, 0xf9), Color::WHITE];
pub(super) const DARK: [Color; 2] = [Color::new(0x12, 0x14, 0x18), Color::new(0x1b, 0x1e, 0x24)];

/// Text contrast (WCAG 2.2, 1.4.3) and contrast of what is not text (1.4.11).
const TEXT: f64 = 4.5;
const OUTLINE: f64 = 3.0;

impl Branding {
    /// Reads the colours as they stand in a config; an unset one keeps its default.
    ///
    /// # Errors
    /// [`ColorError`] with the first that is no colour.
    pub fn with_colors(
        mut self,
        primary: Option<&str>,
        secondary: Option<&str>,
        primary_dark: Option<&str>,
        secondary_dark: Option<&str>,
    ) -> Result<Self, ColorError> {
        let read = |text: Option<&str>| text.map(Color::parse).transpose();
        self.primary = read(primary)?.unwrap_or(self.primary);
        self.secondary = read(secondary)?.unwrap_or(self.secondary);
        self.primary_dark = read(primary_dark)?.or(self.primary_dark);
        self.secondary_dark = read(secondary_dark)?.or(self.secondary_dark);
        Ok(self)
    }

    /// The stylesheet that carries the colours: no page needs an inline style.
    pub(super) fn stylesheet(&self) -> String {
        let light = theme(self.primary, self.secondary, &LIGHT);
        let primary = self.primary_dark.unwrap_or(self.primary);
        let dark = theme(primary, self.secondary_dark.unwrap_or(self.secondary), &DARK);
        format!(":root{{{light}}}\n@media (prefers-color-scheme:dark){{:root{{{dark}}}}}\n")
    }
}

fn theme(primary: Color, secondary: Color, grounds: &[Color]) -> String {
    let accent = primary.readable_on(grounds, TEXT);
    let ring = secondary.readable_on(grounds, OUTLINE);
    format!("--accent:{accent};--on-accent:{};--ring:{ring}", accent.text_on())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stylesheet_holds_colours_and_nothing_else() {
        let branding = Branding::default()
            .with_colors(Some("#ffee00"), None, Some("#123"), None)
            .unwrap();
        let css = branding.stylesheet();
        assert!(css.starts_with(":root{--accent:#"), "{css}");
        assert!(
            !css.contains("#ffee00"),
            "yellow on white cannot be read and is darkened: {css}"
        );
        assert!(css.contains("prefers-color-scheme:dark"));
        let hostile = Branding::default().with_colors(Some("red;}*{display:none"), None, None, None);
        assert_eq!(hostile, Err(ColorError));
    }
}
