//! A screen as text: its characters, its styles (one sign per cell), and what the signs mean.

use ratatui::{
    buffer::{Buffer, Cell},
    style::{Color, Modifier},
};
use std::fmt::Write as _;

/// Signs for styles; the ordinary style is a space.
const SIGNS: &str = " abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

/// A cell's style in words.
fn words(cell: &Cell) -> String {
    let mut words = Vec::new();
    if cell.fg != Color::Reset {
        words.push(format!("fg {}", cell.fg));
    }
    if cell.bg != Color::Reset {
        words.push(format!("bg {}", cell.bg));
    }
    for (name, _) in cell.modifier.iter_names() {
        words.push(name.to_lowercase());
    }
    words.join(" ")
}

/// The screen's characters alone.
pub fn glyphs(buf: &Buffer) -> String {
    rows(buf, |cell| cell.symbol().to_owned())
}

fn rows(buf: &Buffer, text: impl Fn(&Cell) -> String) -> String {
    let mut out = String::new();
    for y in 0..buf.area.height {
        let mut line = String::new();
        let mut x = 0;
        while x < buf.area.width {
            let cell = &buf[(x, y)];
            line.push_str(&text(cell));
            // What a wide character covers is not on the screen.
            x += super::super::paint::width(cell.symbol()).max(1);
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

/// Characters, styles, legend.
pub fn shot(buf: &Buffer) -> String {
    let mut styles: Vec<String> = vec![String::new()];
    for cell in buf.content() {
        let words = words(cell);
        if !styles.contains(&words) {
            styles.push(words);
        }
    }
    let signs: Vec<char> = SIGNS.chars().collect();
    let sign = |cell: &Cell| {
        let words = words(cell);
        let at = styles.iter().position(|style| *style == words).unwrap_or(0);
        // A space says nothing about its foreground.
        let blank =
            cell.symbol() == " " && !cell.modifier.intersects(VISIBLE) && cell.bg == Color::Reset;
        let at = if blank { 0 } else { at };
        let wide = super::super::paint::width(cell.symbol()).max(1);
        signs[at % signs.len()].to_string().repeat(wide.into())
    };
    let mut out = format!("{}\n{}\n", glyphs(buf), rows(buf, sign));
    for (sign, words) in signs.iter().zip(&styles).skip(1) {
        let _ = writeln!(out, "{sign}  {words}");
    }
    out
}

const VISIBLE: Modifier = Modifier::REVERSED.union(Modifier::UNDERLINED);
