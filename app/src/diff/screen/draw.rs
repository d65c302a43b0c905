//! Drawing: what was compared, where one is, the level, the keys.

use super::rows::{self, DiffRow, Place};
use super::{Body, Screen, overlay, panel};
use crate::diff::{About, Numbers, Where, words};
use crate::state::value::{duration, rate};
use crate::ui::format::wrap;
use crate::ui::keymap::Command;
use crate::ui::paint::{self, Look, below, over, put, put_line, put_right, row};
use crate::ui::widgets::table::{self, Column, Place as At};
use crate::ui::{Hit, LEAST};
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

impl Screen {
    /// Draws the whole screen.
    pub fn draw(&mut self, buf: &mut Buffer) {
        let area = buf.area;
        self.view.begin();
        if area.width < LEAST.0 || area.height < LEAST.1 {
            crate::ui::too_small(buf, &self.view);
            return;
        }
        let look = self.view.look.clone();
        put_line(buf, row(area, 0, 0, area.width), 0, 0, &self.header(area.width, &look));
        self.crumbs(buf, row(area, 1, 0, area.width), &look);
        let mut body = Rect { height: area.height - 3, ..below(area, 2) };
        if self.body == Body::Level {
            let notes = self.notes(buf, body, &look);
            body = below(body, notes);
        }
        match (self.body, self.level().place) {
            (Body::Notes, _) => self.lines(buf, body, self.note_lines(body.width), &look),
            (Body::Help, _) => self.lines(buf, body, self.help_lines(body.width, &look), &look),
            (Body::Level, Place::Reason(..)) => self.one_reason(buf, body, &look),
            (Body::Level, _) => self.list(buf, body, &look),
        }
        self.footer(buf, Rect { y: area.bottom() - 1, height: 1, ..area }, &look);
    }

    /// What is compared.
    fn header(&self, width: u16, look: &Look) -> Line<'static> {
        let theme = &look.theme;
        let about = &self.diff.about;
        let length = |about: &About| {
            let length = duration(about.measured_ns).replace('µ', &look.glyphs.micro.to_string());
            format!(", {length}")
        };
        let lengths = [length(&about.before), length(&about.after)];
        let labels = [look.name(&about.before.label), look.name(&about.after.label)];
        // "kvmscope diff", the two words and what is between.
        let fixed =
            32 + lengths.iter().map(|length| usize::from(paint::width(length))).sum::<usize>();
        let room = usize::from(width).saturating_sub(fixed).max(20);
        let wide = |label: &str| usize::from(paint::width(label)).min(room / 2);
        // What one does not need the other may have.
        let rooms = [room - wide(&labels[1]), room - wide(&labels[0])];
        let side = |n: usize| {
            let label = keep_end(&labels[n], rooms[n], look.glyphs.ellipsis);
            format!("{label}{}", lengths[n])
        };
        let separator = || Span::styled(format!(" {}", look.glyphs.separator), theme.dim);
        Line::from(vec![
            Span::styled(" kvmscope diff", theme.strong),
            separator(),
            Span::styled("before ", theme.dim),
            Span::styled(side(0), theme.text),
            separator(),
            Span::styled("after ", theme.dim),
            Span::styled(side(1), theme.text),
        ])
    }

    fn crumbs(&mut self, buf: &mut Buffer, area: Rect, look: &Look) {
        let crumbs: Vec<String> = self.breadcrumb().iter().map(|crumb| look.name(crumb)).collect();
        let order = self.order(look);
        let room = area.width.saturating_sub(order.width() as u16 + 2);
        let length =
            |first: usize| crumbs[first..].iter().map(|c| paint::width(c) + 3).sum::<u16>();
        let mut first = 0;
        while first + 1 < crumbs.len() && length(first) > room {
            first += 1;
        }
        let mut x = 1;
        for (i, crumb) in crumbs.iter().enumerate().skip(first) {
            if i > first {
                x = put(buf, area, x, 0, &format!("{} ", look.glyphs.step), look.theme.dim);
            }
            let last = i + 1 == crumbs.len();
            let style = if last { look.theme.strong } else { look.theme.text };
            let end = put(buf, area, x, 0, &look.truncate(crumb, room), style);
            self.view.hit(row(area, 0, x, end.saturating_sub(x)), Hit::Up(crumbs.len() - 1 - i));
            x = end + 1;
        }
        put_right(buf, area, 0, &order);
    }

    /// By what rows are sorted.
    fn order(&self, look: &Look) -> Line<'static> {
        let level = self.level();
        if self.body != Body::Level || matches!(level.place, Place::Reason(..)) {
            return Line::default();
        }
        let arrow = match level.sort.descending {
            true => look.glyphs.sorted.0,
            false => look.glyphs.sorted.1,
        };
        let fields = rows::fields();
        let field = fields.iter().find(|field| field.key == level.sort.key);
        let what = match field.map(|field| field.key) {
            Some("change") => "change of exit time per second",
            Some(key) => key,
            None => "",
        };
        Line::from(Span::styled(format!("by {what} {arrow} "), look.theme.dim))
    }

    /// What makes the comparison less than it seems, as much as there is room for; returns its height.
    fn notes(&self, buf: &mut Buffer, area: Rect, look: &Look) -> u16 {
        let most = usize::from(area.height / 8).max(1);
        let mut lines = self.note_lines(area.width);
        let all = lines.len();
        lines.truncate(most);
        if all > most
            && let Some(last) = lines.last_mut()
        {
            let more = format!(" {} tab: all {}", look.glyphs.ellipsis, self.diff.warnings.len());
            let room = area.width.saturating_sub(2 + paint::width(&more));
            *last = format!("{}{more}", look.truncate(last, room));
        }
        for (y, line) in (0..).zip(&lines) {
            put(buf, area, 1, y, &look.name(line), look.theme.warn);
        }
        lines.len() as u16
    }

    fn note_lines(&self, width: u16) -> Vec<String> {
        let ellipsis = self.view.look.glyphs.ellipsis;
        let room = usize::from(width.saturating_sub(2));
        let all = self.diff.warnings.iter();
        all.flat_map(|warning| wrap(&warning.text, room, ellipsis)).collect()
    }

    /// The keys that work at the level, the columns, and the sign of a change.
    fn help_lines(&self, width: u16, look: &Look) -> Vec<String> {
        let entries = self.working().into_iter().map(|(binding, keys)| {
            let keys: Vec<String> = keys.iter().map(|key| key.label(&look.glyphs)).collect();
            let about = match binding.command {
                Command::NextPane => "what was not measured alike, or the list again",
                Command::Open => "open the VM, the vCPU or the reason under the cursor",
                Command::Filter => "show only some rows: change>1ms & dir=more & name~web",
                _ => binding.help,
            };
            (keys.join(" "), about.to_owned())
        });
        let fields =
            rows::fields().into_iter().map(|field| (field.key.to_owned(), field.about.to_owned()));
        let section = |title: &str, entries: &mut dyn Iterator<Item = (String, String)>| {
            let mut lines = vec![title.to_owned()];
            for (name, about) in entries {
                let room = usize::from(width.saturating_sub(24)).max(20);
                for (i, text) in wrap(&about, room, look.glyphs.ellipsis).into_iter().enumerate() {
                    let name = if i == 0 { name.as_str() } else { "" };
                    let pad = 19usize.saturating_sub(usize::from(paint::width(name)));
                    lines.push(format!("  {name}{:pad$} {text}", ""));
                }
            }
            lines
        };
        let mut lines = section("keys that work here", &mut entries.into_iter());
        lines.push(String::new());
        lines.extend(section("columns, by their names in filters", &mut fields.into_iter()));
        lines
    }

    /// Text that scrolls.
    fn lines(&mut self, buf: &mut Buffer, area: Rect, lines: Vec<String>, look: &Look) {
        self.view.page = usize::from(area.height);
        self.lines_from = self.lines_from.min(lines.len().saturating_sub(self.view.page));
        for (y, line) in (0..area.height).zip(lines.iter().skip(self.lines_from)) {
            let title = !line.starts_with(' ') && self.body == Body::Help;
            let style = if title { look.theme.strong } else { look.theme.text };
            put(buf, area, 1, y, &look.name(line), style);
        }
    }

    fn one_reason(&self, buf: &mut Buffer, area: Rect, look: &Look) {
        let place = self.level().place;
        let (Some(reason), Some(entity)) = (place.reason(&self.diff), place.entity(&self.diff))
        else {
            return;
        };
        overlay::draw(buf, area, reason, entity, look);
    }

    /// The rows, and below them the selected one more closely.
    fn list(&mut self, buf: &mut Buffer, area: Rect, look: &Look) {
        if self.rows.is_empty() {
            let text = match (self.hidden, self.level().place) {
                (0, Place::All) => "No VM ran on either side.".to_owned(),
                (0, _) => "No exits on either side.".to_owned(),
                (n, _) => format!("All {n} rows are hidden by the filter."),
            };
            put(buf, area, 2, 1, &text, look.theme.dim);
            return;
        }
        let rows = u16::try_from(self.rows.len()).unwrap_or(u16::MAX).saturating_add(2);
        let below_height =
            panel::height(area, self.level().place).min(area.height.saturating_sub(6));
        let list = rows.min(area.height.saturating_sub(below_height)).max(4);
        self.table(buf, Rect { height: list, ..area }, look);
        // Everything that the list leaves.
        let rest = Rect { y: area.y + list, height: area.height - list, ..area };
        if let Some(selected) = self.selected() {
            panel::draw(buf, rest, &self.diff, selected, look);
        }
    }

    fn table(&mut self, buf: &mut Buffer, area: Rect, look: &Look) {
        let level = self.level();
        let (specs, sort) = (specs(level.place), level.sort);
        let marked = |row: &DiffRow| match row.seen.word() {
            "" => paint::width(&look.name(&row.name)),
            word => paint::width(&look.name(&row.name)) + 1 + paint::width(word),
        };
        let longest = self.rows.iter().map(marked).max();
        let columns: Vec<Column> = specs
            .iter()
            .map(|spec| {
                let mut column = match spec.key {
                    "name" => {
                        let most = longest.unwrap_or(0).clamp(10, 32);
                        Column::text(self.title(), 10, most, 0).eager()
                    }
                    "moved" => Column::text(spec.title, 18, 18, spec.rank),
                    _ => Column::number(spec.title, spec.width, spec.rank),
                };
                column.sorted = (spec.key == sort.key).then_some(sort.descending);
                column
            })
            .collect();
        let places = whole_groups(&specs, &columns, area.width);
        heads(buf, area, &specs, &places, look);
        let body = below(area, 2);
        table::header(buf, below(area, 1), &columns, &places, look);
        for &(i, x, width) in &places {
            self.view.hit(row(area, 1, x, width), Hit::Header(specs[i].key));
        }
        self.view.page = usize::from(body.height);
        let cursor = self.cursor();
        let from = table::scroll(self.level().from, cursor, self.rows.len(), body.height);
        self.level_mut().from = from;
        for (y, (at, shown)) in (0..body.height).zip(self.rows.iter().enumerate().skip(from)) {
            let line = row(body, y, 0, body.width);
            let here = cursor == Some(at);
            table::line(buf, line, &columns, &places, here, look, |i, width| {
                cell(shown, specs[i].key, width, look)
            });
            if here {
                let name = places.first().map_or(0, |&(_, x, width)| x + width);
                over(buf, row(line, 0, 0, name), look.theme.cursor);
            }
            self.view.hit(line, Hit::Row(at));
        }
    }

    fn title(&self) -> &'static str {
        match self.level().place {
            Place::All => "VM",
            Place::Vm(_) => "vCPU",
            Place::Reasons(..) | Place::Reason(..) => "reason",
        }
    }

    fn footer(&self, buf: &mut Buffer, area: Rect, look: &Look) {
        let theme = &look.theme;
        if let Some(typing) = &self.typing {
            let x = put(buf, area, 1, 0, "/", theme.key);
            let x = put(buf, area, x, 0, &look.name(&typing.text), theme.strong);
            let x = put(buf, area, x, 0, " ", theme.cursor) + 2;
            match &typing.error {
                Some(error) => put(buf, area, x, 0, error, theme.bad),
                None => put(buf, area, x, 0, "enter keeps it, esc forgets it", theme.dim),
            };
            return;
        }
        let right = match (&self.view.message, self.hidden) {
            (Some(message), _) => Line::from(Span::styled(format!("{message} "), theme.strong)),
            (None, 0) => Line::default(),
            (None, n) => {
                let filter = look.name(self.level().filter.text());
                Line::from(Span::styled(format!("{n} hidden by {filter} "), theme.warn))
            }
        };
        let room = usize::from(area.width.saturating_sub(right.width() as u16 + 1));
        let mut keys: Vec<(Command, Line<'_>)> = Vec::new();
        for (binding, reached) in self.working() {
            let short = if binding.command == Command::NextPane { "notes" } else { binding.short };
            if let (false, Some(key)) = (short.is_empty(), reached.first()) {
                let line = Line::from(vec![
                    Span::styled(key.label(&look.glyphs), theme.key),
                    Span::styled(format!(" {short}  "), theme.text),
                ]);
                keys.push((binding.command, line));
            }
        }
        let length = |keys: &[(Command, Line<'_>)]| keys.iter().map(|k| k.1.width()).sum::<usize>();
        while length(&keys) > room {
            let goes = |c: &Command| !matches!(c, Command::Help | Command::Quit | Command::Open);
            let Some(at) = keys.iter().rposition(|(command, _)| goes(command)) else { break };
            keys.remove(at);
        }
        keys.iter().fold(1, |x, (_, line)| put_line(buf, area, x, 0, line));
        put_right(buf, area, 0, &right);
    }
}

/// A column: field, group, title, width; those of a lower rank stay longer.
struct Spec {
    key: &'static str,
    group: &'static str,
    title: &'static str,
    width: u16,
    rank: u8,
}

const fn spec(
    key: &'static str,
    group: &'static str,
    title: &'static str,
    width: u16,
    rank: u8,
) -> Spec {
    Spec { key, group, title, width, rank }
}

fn specs(place: Place) -> Vec<Spec> {
    let time = "exit time per second";
    let mut all = vec![
        spec("name", "", "", 10, 0),
        spec("time_before", time, "before", 6, 1),
        spec("time", time, "after", 5, 1),
        spec("change", time, "change", 7, 1),
        spec("exits_before", "exits per second", "before", 6, 2),
        spec("exits", "exits per second", "after", 5, 2),
        spec("ratio", "exits per second", "ratio", 5, 2),
        spec("p99_before", "p99", "before", 6, 3),
        spec("p99", "p99", "after", 5, 3),
        spec("p50_before", "p50", "before", 6, 4),
        spec("p50", "p50", "after", 5, 4),
        spec("share_before", "of wall time", "before", 6, 5),
        spec("share", "of wall time", "after", 5, 5),
    ];
    if matches!(place, Place::Reasons(..)) {
        all.push(spec("of_exits_before", "of exits", "before", 6, 6));
        all.push(spec("of_exits", "of exits", "after", 5, 6));
    } else {
        all.push(spec("moved", "wall time", "moved most", 18, 4));
    }
    all
}

/// The columns that fit, without those of which only a part of the group would.
fn whole_groups(specs: &[Spec], columns: &[Column], width: u16) -> Vec<At> {
    let mut kept: Vec<usize> = (0..specs.len()).collect();
    loop {
        let some: Vec<Column> = kept.iter().map(|&i| columns[i].clone()).collect();
        let places = table::places(&some, width);
        let shown: Vec<usize> = places.iter().map(|&(i, ..)| kept[i]).collect();
        let broken = kept.iter().find(|i| {
            let group = specs[**i].group;
            let there = shown.iter().any(|&i| specs[i].group == group);
            there && !shown.contains(i)
        });
        match broken.map(|&i| specs[i].group) {
            Some(group) if kept.len() > 1 => kept.retain(|&i| specs[i].group != group),
            _ => return places.into_iter().map(|(i, x, width)| (kept[i], x, width)).collect(),
        }
    }
}

/// The groups' names over their columns.
fn heads(buf: &mut Buffer, area: Rect, specs: &[Spec], places: &[At], look: &Look) {
    for group in places.chunk_by(|a, b| specs[a.0].group == specs[b.0].group) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
        let width = last.1 + last.2 - first.1;
        let title = look.truncate(specs[first.0].group, width);
        let pad = (width - paint::width(&title)) / 2;
        put(buf, row(area, 0, first.1, width), pad, 0, &title, look.theme.dim);
    }
}

/// A column of a row.
fn cell(row: &DiffRow, key: &str, width: u16, look: &Look) -> Line<'static> {
    let theme = &look.theme;
    let plain = match (row.seen, row.idle) {
        (Where::Before, _) => theme.gone,
        (_, true) => theme.idle,
        _ => theme.text,
    };
    let ns = |ns: Option<u64>| look.duration(ns);
    let numbers = &row.numbers;
    let notable =
        |of: fn(&Numbers) -> Option<u64>| by_direction(row.both(of).notable(), plain, look);
    let rates = row.both(|n| n.rate);
    let (text, style) = match key {
        "name" => {
            let word = row.seen.word();
            let mark = if word.is_empty() { String::new() } else { format!(" {word}") };
            let room = width.saturating_sub(paint::width(&mark));
            let name = look.truncate(&look.name(&row.name), room);
            let style = match row.seen {
                Where::After => theme.more,
                Where::Before => theme.less,
                Where::Both => plain,
            };
            return Line::from(vec![Span::styled(name, plain), Span::styled(mark, style)]);
        }
        "time_before" => (per_second(numbers.before.time, look), plain),
        "time" => (per_second(numbers.after.time, look), plain),
        "change" => {
            let text = row.change_text().replace('µ', &look.glyphs.micro.to_string());
            (text, by_direction(row.both(|n| n.time).notable(), plain, look))
        }
        "exits_before" => (rate(rates.before), plain),
        "exits" => (rate(rates.after), plain),
        "ratio" => {
            let text = row.ratio_text();
            (text, by_direction(rates.notable(), plain, look))
        }
        "p50_before" => (ns(numbers.before.p50_ns), plain),
        "p50" => (ns(numbers.after.p50_ns), notable(|n| n.p50_ns)),
        "p99_before" => (ns(numbers.before.p99_ns), plain),
        "p99" => (ns(numbers.after.p99_ns), notable(|n| n.p99_ns)),
        "share_before" => (words::part(numbers.before.of_time), plain),
        "share" => (words::part(numbers.after.of_time), plain),
        "of_exits_before" => (words::part(numbers.before.of_exits), plain),
        "of_exits" => (words::part(numbers.after.of_exits), plain),
        _ => (row.moved_text(), plain),
    };
    table::plain(text, style)
}

/// A time per second; nothing is 0.
pub(super) fn per_second(ns: f64, look: &Look) -> String {
    words::per_second(ns).replace('µ', &look.glyphs.micro.to_string())
}

/// More, less, or as it was.
pub(super) fn by_direction(change: f64, same: Style, look: &Look) -> Style {
    match change {
        change if change > 0.0 => look.theme.more,
        change if change < 0.0 => look.theme.less,
        _ => same,
    }
}

/// A label in so many columns. Names of recordings begin alike and differ at their end, so that stays.
fn keep_end(label: &str, room: usize, ellipsis: char) -> String {
    let wide = |text: &str| usize::from(paint::width(text));
    let stem = label.strip_suffix(".kvmscope").unwrap_or(label);
    match () {
        () if wide(label) <= room => label.to_owned(),
        () if wide(stem) <= room => stem.to_owned(),
        () => {
            let mut from = stem.len();
            for (at, _) in stem.char_indices().rev() {
                if wide(&stem[at..]) + 1 > room {
                    break;
                }
                from = at;
            }
            format!("{ellipsis}{}", &stem[from..])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_label_the_end_stays() {
        let name = "kvmscope-2026-11-21-100000.kvmscope";
        assert_eq!(keep_end(name, 35, '…'), name);
        assert_eq!(keep_end(name, 34, '…'), "kvmscope-2026-11-21-100000");
        assert_eq!(keep_end(name, 18, '…'), "…2026-11-21-100000");
        assert_eq!(keep_end("日本語", 3, '…'), "…語");
        assert_eq!(keep_end("ab", 0, '…'), "…");
    }
}
