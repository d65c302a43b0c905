//! The characters that pictures are made of: one set for UTF-8 terminals, one in ASCII.

use crate::model::tick::PHASES;

/// A set of characters. Every one is a single column wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glyphs {
    /// Whether this is the ASCII set; then names are reduced to ASCII as well.
    pub ascii: bool,
    /// Density from nothing to full, in two columns, for heat maps with numbers.
    pub heat: [&'static str; 7],
    /// Less than before, from some to much, in two columns.
    pub less: [&'static str; 2],
    /// More than before, from some to much.
    pub more: [&'static str; 3],
    /// Density from nothing to full, in one column, for pictures.
    pub shade: [char; 5],
    /// Heights from lowest to full, for sparklines and upright histograms.
    pub spark: [char; 8],
    /// Lengths from one eighth to full, for lying bars.
    pub bar: [char; 8],
    /// Parts of a stacked bar, in the order of [`crate::state::rows::Part::ALL`].
    pub parts: [char; PHASES],
    /// Between fields of the header.
    pub separator: char,
    /// Between steps of the breadcrumb.
    pub step: char,
    /// Before the selected row.
    pub selected: char,
    /// Sorted downwards and upwards.
    pub sorted: (char, char),
    /// What was played of a recording, a gap in it, a mark.
    pub played: char,
    /// See `played`.
    pub gap: char,
    /// See `played`.
    pub mark: char,
    /// Before what is being recorded.
    pub recording: char,
    /// Horizontal rule.
    pub rule: char,
    /// Vertical rule.
    pub wall: char,
    /// In place of what was cut off.
    pub ellipsis: char,
    /// The letter for micro.
    pub micro: char,
    /// In place of a number that does not exist.
    pub none: char,
    /// Corners and sides of a box: top left, top right, bottom left, bottom right.
    pub corners: [char; 4],
    /// Arrow keys in help and footer: left, right, up, down.
    pub arrows: [&'static str; 4],
    /// The enter key in help and footer.
    pub enter: &'static str,
}

/// For terminals that show UTF-8.
pub const UNICODE: Glyphs = Glyphs {
    ascii: false,
    heat: ["··", "░░", "▒░", "▒▒", "▓▒", "▓▓", "██"],
    less: ["- ", "--"],
    more: ["▒▒", "▓▓", "██"],
    shade: ['·', '░', '▒', '▓', '█'],
    spark: ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'],
    bar: ['▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'],
    parts: ['█', '▓', '▒', '░', '≈', '·', '-', 'x', '?'],
    separator: '│',
    step: '▸',
    selected: '▸',
    sorted: ('▼', '▲'),
    played: '━',
    gap: '░',
    mark: '▼',
    recording: '●',
    rule: '─',
    wall: '│',
    ellipsis: '…',
    micro: 'µ',
    none: '–',
    corners: ['┌', '┐', '└', '┘'],
    arrows: ["←", "→", "↑", "↓"],
    enter: "⏎",
};

/// For every other terminal.
pub const ASCII: Glyphs = Glyphs {
    ascii: true,
    heat: ["..", "::", "o:", "oo", "Oo", "OO", "##"],
    less: ["- ", "--"],
    more: ["+ ", "++", "##"],
    shade: ['.', ':', 'o', 'O', '#'],
    spark: ['_', '.', ',', '-', '=', '+', '*', '#'],
    bar: ['-', '-', '-', '=', '=', '=', '#', '#'],
    parts: ['#', 'K', 'V', 'v', 'p', '.', 's', 'x', '?'],
    separator: '|',
    step: '>',
    selected: '>',
    sorted: ('v', '^'),
    played: '=',
    gap: 'x',
    mark: 'v',
    recording: '*',
    rule: '-',
    wall: '|',
    ellipsis: '~',
    micro: 'u',
    none: '-',
    corners: ['+', '+', '+', '+'],
    arrows: ["left", "right", "up", "down"],
    enter: "enter",
};

impl Glyphs {
    /// The set for an environment, asked variable by variable: UTF-8 as the locale says
    /// (LC_ALL before LC_CTYPE before LANG). Where no locale is set at all, as in containers, only
    /// terminals known for their one byte per character get ASCII.
    pub fn for_environment(get: impl Fn(&str) -> Option<String>) -> Self {
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
            .iter()
            .find_map(|name| get(name).filter(|value| !value.is_empty()));
        let utf8 = match locale {
            Some(locale) => {
                let locale = locale.to_ascii_lowercase();
                locale.contains("utf-8") || locale.contains("utf8")
            }
            None => {
                let term = get("TERM").unwrap_or_default();
                !(term.is_empty() || term == "dumb" || term.starts_with("vt"))
            }
        };
        if utf8 { UNICODE } else { ASCII }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use unicode_width::UnicodeWidthChar;

    fn chosen(vars: &[(&str, &str)]) -> bool {
        Glyphs::for_environment(|name| {
            vars.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned())
        })
        .ascii
    }

    #[test]
    fn the_locale_decides() {
        assert!(!chosen(&[("LANG", "en_GB.UTF-8")]));
        assert!(!chosen(&[("LC_ALL", ""), ("LANG", "C.utf8")]));
        assert!(chosen(&[("LC_ALL", "C"), ("LANG", "en_GB.UTF-8")]));
        assert!(chosen(&[("LANG", "de_DE.ISO-8859-1"), ("TERM", "xterm")]));
    }

    #[test]
    fn without_a_locale_the_terminal_decides() {
        assert!(!chosen(&[("TERM", "xterm-256color")]));
        assert!(chosen(&[("TERM", "vt220")]));
        assert!(chosen(&[]));
    }

    #[test]
    fn every_character_is_one_column() {
        for set in [UNICODE, ASCII] {
            let singles = [
                set.separator,
                set.step,
                set.selected,
                set.sorted.0,
                set.sorted.1,
                set.played,
                set.gap,
                set.mark,
                set.recording,
                set.rule,
                set.wall,
                set.ellipsis,
                set.micro,
                set.none,
            ];
            let all = set.shade.iter().chain(&set.spark).chain(&set.bar).chain(&set.parts);
            let pairs: Vec<char> = set.heat.iter().flat_map(|pair| pair.chars()).collect();
            let changes = set.less.iter().chain(&set.more).flat_map(|pair| pair.chars());
            assert_eq!(changes.clone().count(), 10);
            let pairs: Vec<char> = pairs.into_iter().chain(changes).collect();
            assert_eq!(pairs.len(), 2 * set.heat.len() + 10);
            for c in all.chain(&set.corners).chain(&singles).chain(&pairs) {
                assert_eq!(c.width(), Some(1), "{c:?}");
                assert!(!set.ascii || c.is_ascii(), "{c:?}");
            }
        }
    }
}
