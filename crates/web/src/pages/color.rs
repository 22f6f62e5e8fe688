//! Colours and their contrast (WCAG 2, relative luminance).

use std::fmt;

/// An sRGB colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Color {
    red: u8,
    green: u8,
    blue: u8,
}

/// Not a `#rgb` or `#rrggbb` colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a colour is written `#rrggbb`")]
pub struct ColorError;

impl Color {
    /// White.
    pub const WHITE: Self = Self::new(255, 255, 255);
    /// Black.
    pub const BLACK: Self = Self::new(0, 0, 0);

    /// From its three parts.
    pub const fn new(red: u8, green: u8, blue: u8) -> Self {
        Self { red, green, blue }
    }

    /// Reads `#rgb` or `#rrggbb`.
    ///
    /// # Errors
    /// Anything else.
    pub fn parse(text: &str) -> Result<Self, ColorError> {
        let digits = text.strip_prefix('#').ok_or(ColorError)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(ColorError);
        }
        let value = u32::from_str_radix(digits, 16)
            .map_err(|_| ColorError)?
            .to_be_bytes();
        match digits.len() {
            6 => Ok(Self::new(value[1], value[2], value[3])),
            3 => Ok(Self::new(
                (value[2] & 15) * 17,
                (value[3] >> 4) * 17,
                (value[3] & 15) * 17,
            )),
            _ => Err(ColorError),
        }
    }

    /// 1 (the same) to 21 (black on white).
    pub fn contrast(self, other: Self) -> f64 {
        let (a, b) = (self.luminance(), other.luminance());
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    /// This colour, moved towards black or white just far enough to be read on every one of `grounds`.
    pub fn readable_on(self, grounds: &[Self], ratio: f64) -> Self {
        let fits = |color: Self| grounds.iter().all(|ground| color.contrast(*ground) >= ratio);
        let dark = grounds.iter().all(|ground| ground.luminance() < 0.18);
        let goal = if dark { Self::WHITE } else { Self::BLACK };
        (0..=20)
            .map(|step| self.mixed(goal, step))
            .find(|color| fits(*color))
            .unwrap_or(goal)
    }

    /// Black or white, whichever reads better on this colour; at least 4.58 : 1.
    pub fn text_on(self) -> Self {
        if self.contrast(Self::WHITE) >= 4.5 || self.contrast(Self::WHITE) >= self.contrast(Self::BLACK) {
            Self::WHITE
        } else {
            Self::BLACK
        }
    }

    /// `twentieths` of the way to `goal`.
    fn mixed(self, goal: Self, twentieths: u32) -> Self {
        let mix = |from: u8, to: u8| {
            let sum = u32::from(from) * (20 - twentieths) + u32::from(to) * twentieths;
            u8::try_from(sum / 20).unwrap_or(u8::MAX)
        };
        Self::new(
            mix(self.red, goal.red),
            mix(self.green, goal.green),
            mix(self.blue, goal.blue),
        )
    }

    fn luminance(self) -> f64 {
        let linear = |part: u8| {
            let part = f64::from(part) / 255.0;
            if part <= 0.040_45 {
                part / 12.92
            } else {
                ((part + 0.055) / 1.055).powf(2.4)
            }
        };
        0.2126 * linear(self.red) + 0.7152 * linear(self.green) + 0.0722 * linear(self.blue)
    }
}

impl fmt::Display for Color {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{:02x}{:02x}{:02x}", self.red, self.green, self.blue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_and_writing() {
        assert_eq!(Color::parse("#6F43E7").unwrap().to_string(), "#6f43e7");
        assert_eq!(Color::parse("#fa0").unwrap().to_string(), "#ffaa00");
        for bad in [
            "6f43e7",
            "#6f43e",
            "#6f43e7ff",
            "#ggg",
            "red",
            "#+12",
            "",
            "#fff;}body{x:y",
        ] {
            assert_eq!(Color::parse(bad), Err(ColorError), "{bad}");
        }
    }

    #[test]
    fn contrast_of_known_pairs() {
        assert!((Color::WHITE.contrast(Color::BLACK) - 21.0).abs() < 1e-9);
        assert!((Color::WHITE.contrast(Color::new(0x76, 0x76, 0x76)) - 4.54).abs() < 0.01);
    }

    #[test]
    fn every_accent_becomes_readable_on_both_grounds() {
        let light = [Color::WHITE, Color::new(0xf6, 0xf7, 0xf9)];
        let dark = [Color::new(0x12, 0x14, 0x18), Color::new(0x1b, 0x1e, 0x24)];
        for step in 0..=255u8 {
            for color in [
                Color::new(step, step, step),
                Color::new(step, 255 - step, 80),
                Color::new(80, 0, step),
            ] {
                for grounds in [&light, &dark] {
                    let shown = color.readable_on(grounds, 4.5);
                    assert!(
                        grounds.iter().all(|ground| shown.contrast(*ground) >= 4.5),
                        "{color}"
                    );
                    assert!(shown.text_on().contrast(shown) >= 4.5, "{color}");
                }
            }
        }
    }

    #[test]
    fn a_readable_accent_is_left_alone() {
        let accent = Color::new(0x6f, 0x43, 0xe7);
        assert_eq!(accent.readable_on(&[Color::WHITE], 4.5), accent);
    }
}
