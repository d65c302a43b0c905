//! A key: as the terminal reports it, as the configuration writes it, as the footer shows it.

use super::glyph::Glyphs;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use std::fmt;

/// A key with its modifiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The key; an upper-case letter is its own key, without shift.
    pub code: KeyCode,
    /// Control, alt, and shift where the character does not tell.
    pub modifiers: KeyModifiers,
}

impl Key {
    const fn new(code: KeyCode, modifiers: KeyModifiers) -> Self {
        Self { code, modifiers }
    }

    /// From a terminal event. Terminals differ in whether they report shift with an upper-case
    /// letter or a sign; it is in the character already.
    pub fn from_event(event: KeyEvent) -> Self {
        let known = KeyModifiers::SHIFT | KeyModifiers::CONTROL | KeyModifiers::ALT;
        let mut modifiers = event.modifiers & known;
        if matches!(event.code, KeyCode::Char(_) | KeyCode::BackTab) {
            modifiers -= KeyModifiers::SHIFT;
        }
        Self::new(event.code, modifiers)
    }

    /// Reads "q", "ctrl-l", "shift-left", "enter", "space", "f1".
    pub fn parse(text: &str) -> Option<Self> {
        let mut modifiers = KeyModifiers::NONE;
        let mut rest = text;
        // "-" alone is a key, so at least one character stays.
        while let Some((modifier, after)) = rest.split_once('-').filter(|(_, a)| !a.is_empty()) {
            modifiers |= match modifier {
                "ctrl" => KeyModifiers::CONTROL,
                "alt" => KeyModifiers::ALT,
                "shift" => KeyModifiers::SHIFT,
                _ => return None,
            };
            rest = after;
        }
        let mut characters = rest.chars();
        let code = match (characters.next(), characters.next()) {
            (Some(c), None) if !c.is_control() => KeyCode::Char(c),
            _ => match NAMED.iter().find(|(name, _)| *name == rest) {
                Some(&(_, code)) => code,
                None => KeyCode::F(
                    rest.strip_prefix('f')?.parse().ok().filter(|n| (1..13).contains(n))?,
                ),
            },
        };
        if matches!(code, KeyCode::Char(_)) && modifiers.contains(KeyModifiers::SHIFT) {
            return None;
        }
        Some(Self::new(code, modifiers))
    }

    /// For footer and help: arrows and enter as the glyphs have them.
    pub fn label(self, glyphs: &Glyphs) -> String {
        let text = self.to_string();
        let mut out = text;
        for (name, glyph) in [
            ("left", glyphs.arrows[0]),
            ("right", glyphs.arrows[1]),
            ("up", glyphs.arrows[2]),
            ("down", glyphs.arrows[3]),
            ("enter", glyphs.enter),
        ] {
            if out == name || out.ends_with(&format!("-{name}")) {
                out = out.replace(name, glyph);
            }
        }
        out
    }
}

impl fmt::Display for Key {
    /// As [`Key::parse`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (modifier, name) in [
            (KeyModifiers::CONTROL, "ctrl-"),
            (KeyModifiers::ALT, "alt-"),
            (KeyModifiers::SHIFT, "shift-"),
        ] {
            if self.modifiers.contains(modifier) {
                f.write_str(name)?;
            }
        }
        match self.code {
            KeyCode::F(n) => write!(f, "f{n}"),
            KeyCode::Char(' ') => f.write_str("space"),
            KeyCode::Char(c) => write!(f, "{c}"),
            code => {
                let name = NAMED.iter().find(|(_, named)| *named == code).map(|(name, _)| *name);
                f.write_str(name.unwrap_or("?"))
            }
        }
    }
}

const NAMED: &[(&str, KeyCode)] = &[
    ("enter", KeyCode::Enter),
    ("esc", KeyCode::Esc),
    ("space", KeyCode::Char(' ')),
    ("tab", KeyCode::Tab),
    ("backtab", KeyCode::BackTab),
    ("backspace", KeyCode::Backspace),
    ("left", KeyCode::Left),
    ("right", KeyCode::Right),
    ("up", KeyCode::Up),
    ("down", KeyCode::Down),
    ("pgup", KeyCode::PageUp),
    ("pgdn", KeyCode::PageDown),
    ("home", KeyCode::Home),
    ("end", KeyCode::End),
    ("delete", KeyCode::Delete),
    ("insert", KeyCode::Insert),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        Key::parse(text).expect(text)
    }

    #[test]
    fn keys_are_read_as_they_are_written() {
        for text in ["q", "S", "ctrl-l", "shift-left", "enter", "space", "f1", "-", "ctrl--", "/"] {
            assert_eq!(key(text).to_string(), text);
        }
        for text in ["", "hyper-x", "shift-a", "f13", "entre", "\u{1b}"] {
            assert_eq!(Key::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn shift_is_in_the_character() {
        let event = KeyEvent::new(KeyCode::Char('S'), KeyModifiers::SHIFT);
        assert_eq!(Key::from_event(event), key("S"));
        let event = KeyEvent::new(KeyCode::Left, KeyModifiers::SHIFT);
        assert_eq!(Key::from_event(event), key("shift-left"));
    }
}
