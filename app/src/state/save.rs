//! Rows as text: for the clipboard and for files.

use super::action::SavedView;
use super::fields::Row;
use super::value::Value;
use unicode_width::UnicodeWidthStr;

/// One row as text: `VM web-7  PID 4711  exits/s 1.2k`, without what is missing.
pub(super) fn line<R: Row>(row: &R) -> String {
    let parts = R::FIELDS.iter().map(|field| (field.title, (field.value)(row)));
    let parts = parts.filter(|(_, value)| *value != Value::None);
    parts.map(|(title, value)| clean(&format!("{title} {value}"))).collect::<Vec<_>>().join("  ")
}

/// Rows as an aligned table under a title, and as CSV.
pub(crate) fn view<R: Row>(name: String, title: &str, rows: &[R]) -> SavedView {
    let heads: Vec<String> = R::FIELDS.iter().map(|field| field.title.to_owned()).collect();
    let body = rows.iter().map(|row| {
        R::FIELDS.iter().map(|field| clean(&(field.value)(row).to_string())).collect::<Vec<_>>()
    });
    let lines: Vec<Vec<String>> = std::iter::once(heads).chain(body).collect();
    let numeric: Vec<bool> = R::FIELDS.iter().map(|field| field.numeric).collect();
    let mut csv = R::FIELDS.iter().map(|field| field.key).collect::<Vec<_>>().join(",") + "\n";
    for row in rows {
        let values = R::FIELDS.iter().map(|field| quoted(&(field.value)(row).plain()));
        csv += &(values.collect::<Vec<_>>().join(",") + "\n");
    }
    SavedView { name, text: format!("{}\n\n{}", clean(title), table(&lines, &numeric)), csv }
}

/// A view with a second table after it; in the CSV after an empty line, with its own header.
pub(super) fn with<R: Row>(view: SavedView, rows: &[R]) -> SavedView {
    if rows.is_empty() {
        return view;
    }
    let more = self::view(String::new(), "", rows);
    SavedView {
        text: format!("{}\n{}", view.text, more.text.trim_start_matches('\n')),
        csv: format!("{}\n{}", view.csv, more.csv),
        ..view
    }
}

/// Lines of cells as an aligned table; numeric columns stand at the right edge.
pub(crate) fn table(lines: &[Vec<String>], numeric: &[bool]) -> String {
    let mut widths = vec![0; numeric.len()];
    for line in lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.width());
        }
    }
    let mut out = String::new();
    for line in lines {
        let mut text = String::new();
        for ((cell, &width), &right) in line.iter().zip(&widths).zip(numeric) {
            let pad = " ".repeat(width.saturating_sub(cell.width()));
            let cell = if right { format!("{pad}{cell}  ") } else { format!("{cell}{pad}  ") };
            text.push_str(&cell);
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
    out
}

/// Text without control characters: names come from other people's command lines and must not
/// move the cursor of whoever reads them. Bidirectional overrides go too.
pub(crate) fn clean(text: &str) -> String {
    let bad =
        |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if bad(c) { '\u{fffd}' } else { c }).collect()
}

/// A CSV field, quoted when it must be.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

/// A file name's part: letters, digits and dashes.
pub(crate) fn file_name(parts: &[&str]) -> String {
    let text = parts.join("-");
    let safe = text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' });
    safe.collect::<String>()
        .split('-')
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("-")
}

#[cfg(test)]
mod tests {
    use super::super::rows::VmRow;
    use super::*;

    #[test]
    fn names_cannot_reach_the_terminal_or_the_csv() {
        let row = VmRow { name: "a,\"b\"\u{1b}[2J\u{202e}".to_owned(), ..VmRow::default() };
        assert!(line(&row).starts_with("VM a,\"b\"\u{fffd}[2J\u{fffd}  "));
        let view = view("x".to_owned(), "t", &[row]);
        assert!(!view.text.contains('\u{1b}'));
        assert!(view.csv.lines().nth(1).unwrap().starts_with("\"a,\"\"b\"\"\u{1b}[2J"));
    }

    #[test]
    fn tables_are_aligned() {
        let lines = [vec!["a".to_owned(), "n".to_owned()], vec!["µµµ".to_owned(), "10".to_owned()]];
        assert_eq!(table(&lines, &[false, true]), "a     n\nµµµ  10\n");
    }

    #[test]
    fn file_names_are_plain() {
        assert_eq!(file_name(&["web-7", "vCPU 3", "../x"]), "web-7-vCPU-3-x");
    }
}
