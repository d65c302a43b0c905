//! Colours and attributes by meaning. The terminal's own background is never painted over, and
//! faint text is the terminal's own text made dim: "bright black" is invisible in some palettes.

use crate::model::tick::PHASES;
use ratatui::style::{Color, Modifier, Style};

/// A theme by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ThemeName {
    /// The terminal's 16 colours on its own background; for dark ones.
    #[default]
    Dark,
    /// The terminal's 16 colours without the pale ones; for light backgrounds.
    Light,
    /// No colour: bold, dim, underlined and reversed only.
    Mono,
    /// Blue to orange from the 256-colour palette, told apart with every kind of colour vision.
    Safe,
}

impl ThemeName {
    /// Every theme, with the name a person writes.
    pub const ALL: [(&'static str, Self); 4] = [
        ("dark", Self::Dark),
        ("light", Self::Light),
        ("mono", Self::Mono),
        ("colour-blind", Self::Safe),
    ];

    /// By name; "default" is another word for "dark".
    pub fn parse(name: &str) -> Option<Self> {
        let name = if name == "default" { "dark" } else { name };
        Self::ALL.iter().find(|(n, _)| *n == name).map(|&(_, theme)| theme)
    }
}

/// A style for each meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Theme {
    /// Ordinary text.
    pub text: Style,
    /// Less important: units, rules, empty cells.
    pub dim: Style,
    /// More important: titles, the name one looks at.
    pub strong: Style,
    /// Column headers.
    pub head: Style,
    /// The column sorted by.
    pub sorted: Style,
    /// The selected row, over what the row has.
    pub selected: Style,
    /// The cell under the cursor, over what the cell has.
    pub cursor: Style,
    /// Keys in footer and help.
    pub key: Style,
    /// Something to look at: paused, synthetic, probes missing.
    pub warn: Style,
    /// Numbers are wrong: losses, errors.
    pub bad: Style,
    /// Idle time, not work.
    pub idle: Style,
    /// Vanished VMs.
    pub gone: Style,
    /// More of something than before. The sign beside it says so too.
    pub more: Style,
    /// Less of something than before.
    pub less: Style,
    /// Sparklines of rates and of latencies.
    pub spark: (Style, Style),
    /// Heat from nothing to most; indexes as [`super::glyph::Glyphs::heat`].
    pub heat: [Style; 7],
    /// Parts of the wall time; indexes as [`super::glyph::Glyphs::parts`].
    pub parts: [Style; PHASES],
}

impl Theme {
    /// The theme of a name.
    pub fn new(name: ThemeName) -> Self {
        match name {
            ThemeName::Dark => Self::dark(),
            ThemeName::Light => Self::light(),
            ThemeName::Mono => Self::mono(),
            ThemeName::Safe => Self::safe(),
        }
    }

    fn dark() -> Self {
        use Color::{Blue, Cyan, Green, LightBlue, LightRed, Magenta, Yellow};
        let dim = Style::new().add_modifier(Modifier::DIM);
        Self {
            text: Style::new(),
            dim,
            strong: Style::new().add_modifier(Modifier::BOLD),
            head: fg(Cyan),
            sorted: fg(Cyan).add_modifier(Modifier::BOLD | Modifier::UNDERLINED),
            selected: Style::new().add_modifier(Modifier::BOLD),
            cursor: Style::new().add_modifier(Modifier::REVERSED),
            key: fg(Cyan).add_modifier(Modifier::BOLD),
            warn: fg(Yellow).add_modifier(Modifier::BOLD),
            bad: fg(LightRed).add_modifier(Modifier::BOLD),
            idle: dim,
            gone: dim,
            more: fg(LightRed),
            less: fg(Green),
            spark: (fg(Green), fg(Magenta)),
            heat: [dim, fg(Blue), fg(LightBlue), fg(Cyan), fg(Green), fg(Yellow), fg(LightRed)],
            parts: [fg(Green), fg(Yellow), fg(Magenta), dim, fg(Cyan), dim, dim, fg(LightRed), dim],
        }
    }

    fn light() -> Self {
        use Color::{Blue, Cyan, Green, Magenta, Red};
        let dim = Style::new().add_modifier(Modifier::DIM);
        Self {
            text: Style::new(),
            dim,
            strong: Style::new().add_modifier(Modifier::BOLD),
            head: fg(Blue),
            sorted: fg(Blue).add_modifier(Modifier::BOLD | Modifier::UNDERLINED),
            selected: Style::new().add_modifier(Modifier::BOLD),
            cursor: Style::new().add_modifier(Modifier::REVERSED),
            key: fg(Blue).add_modifier(Modifier::BOLD),
            warn: fg(Magenta).add_modifier(Modifier::BOLD),
            bad: fg(Red).add_modifier(Modifier::BOLD),
            idle: dim,
            gone: dim,
            more: fg(Red),
            less: fg(Green),
            spark: (fg(Blue), fg(Magenta)),
            heat: [
                dim,
                fg(Cyan),
                fg(Green),
                fg(Blue),
                fg(Magenta),
                fg(Red),
                fg(Red).add_modifier(Modifier::BOLD),
            ],
            parts: [fg(Green), fg(Blue), fg(Magenta), dim, fg(Cyan), dim, dim, fg(Red), dim],
        }
    }

    fn mono() -> Self {
        let plain = Style::new();
        let dim = plain.add_modifier(Modifier::DIM);
        let bold = plain.add_modifier(Modifier::BOLD);
        Self {
            text: plain,
            dim,
            strong: bold,
            head: plain.add_modifier(Modifier::UNDERLINED),
            sorted: bold.add_modifier(Modifier::UNDERLINED),
            selected: bold,
            cursor: plain.add_modifier(Modifier::REVERSED),
            key: bold,
            warn: bold,
            bad: bold.add_modifier(Modifier::REVERSED),
            idle: dim,
            gone: dim,
            more: Style::new().add_modifier(Modifier::BOLD),
            less: Style::new(),
            spark: (plain, plain),
            heat: [dim, dim, plain, plain, plain, bold, bold],
            parts: [plain, plain, plain, dim, plain, dim, dim, bold, dim],
        }
    }

    /// Steps of lightness along blue and orange, so that order survives without hue.
    fn safe() -> Self {
        let c = |index| fg(Color::Indexed(index));
        let (blue, sky, sand, orange) = (c(25), c(74), c(179), c(208));
        Self {
            text: Style::new(),
            dim: c(243),
            strong: Style::new().add_modifier(Modifier::BOLD),
            head: sky,
            sorted: sky.add_modifier(Modifier::BOLD | Modifier::UNDERLINED),
            selected: Style::new().add_modifier(Modifier::BOLD),
            cursor: Style::new().add_modifier(Modifier::REVERSED),
            key: sky.add_modifier(Modifier::BOLD),
            warn: sand.add_modifier(Modifier::BOLD),
            bad: orange.add_modifier(Modifier::BOLD | Modifier::UNDERLINED),
            idle: c(243),
            gone: c(243),
            more: orange,
            less: sky,
            spark: (sky, orange),
            heat: [c(243), blue, c(31), sky, c(144), sand, orange],
            parts: [sky, sand, c(144), c(243), c(180), c(243), c(243), orange, c(243)],
        }
    }
}

fn fg(color: Color) -> Style {
    Style::new().fg(color)
}

/// The theme that an environment asks for when the person named none: NO_COLOR, set to anything
/// but nothing, means no colour (<https://no-color.org>).
pub fn for_environment(get: impl Fn(&str) -> Option<String>) -> ThemeName {
    match get("NO_COLOR") {
        Some(value) if !value.is_empty() => ThemeName::Mono,
        _ => ThemeName::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_themes_are_the_same() {
        for (i, (name, a)) in ThemeName::ALL.iter().enumerate() {
            for (other, b) in &ThemeName::ALL[..i] {
                assert_ne!(Theme::new(*a), Theme::new(*b), "{name} {other}");
            }
        }
    }

    #[test]
    fn no_theme_paints_the_background() {
        for (name, theme) in ThemeName::ALL {
            let t = Theme::new(theme);
            let styles =
                [t.text, t.dim, t.strong, t.head, t.selected, t.cursor, t.key, t.warn, t.bad];
            assert!(styles.iter().chain(&t.heat).all(|s| s.bg.is_none()), "{name}");
        }
    }

    #[test]
    fn mono_has_no_colour() {
        let t = Theme::new(ThemeName::Mono);
        let styles = [t.text, t.dim, t.strong, t.head, t.sorted, t.selected, t.cursor, t.key];
        let more = [t.warn, t.bad, t.idle, t.gone, t.more, t.less, t.spark.0, t.spark.1];
        for style in styles.iter().chain(&more).chain(&t.heat).chain(&t.parts) {
            assert_eq!(style.fg, None);
        }
    }

    #[test]
    fn no_color_means_mono() {
        let with = |value: Option<&str>| for_environment(|_| value.map(str::to_owned));
        assert_eq!(with(Some("1")), ThemeName::Mono);
        assert_eq!(with(Some("")), ThemeName::Dark);
        assert_eq!(with(None), ThemeName::Dark);
    }

    #[test]
    fn names() {
        assert_eq!(ThemeName::parse("default"), Some(ThemeName::Dark));
        assert_eq!(ThemeName::parse("colour-blind"), Some(ThemeName::Safe));
        assert_eq!(ThemeName::parse("pink"), None);
    }
}
