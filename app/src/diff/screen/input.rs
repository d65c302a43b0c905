//! What a key or the mouse does.

use super::rows::{self, Place};
use super::{Body, Screen, Typing};
use crate::diff::text;
use crate::state::filter::Filter;
use crate::state::{SavedView, Sort, Tab, save};
use crate::ui::Hit;
use crate::ui::keymap::{Binding, Command, Context, Key};
use ratatui::crossterm::event::{
    Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEvent, MouseEventKind,
};

/// What is to be done about an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Then {
    /// Nothing.
    Ignore,
    /// Draw.
    Draw,
    /// Draw everything anew.
    Redraw,
    /// Stop, as a shell's job.
    Suspend,
    /// Put this on the clipboard.
    Copy(String),
    /// Write this to a file.
    Save(SavedView),
    /// End.
    Quit,
}

/// Of the keys of the program, those that there is something to do for here. What is compared does not move.
const COMMANDS: [Command; 18] = [
    Command::Open,
    Command::Back,
    Command::Up,
    Command::Down,
    Command::PageUp,
    Command::PageDown,
    Command::Top,
    Command::Bottom,
    Command::Sort,
    Command::Reverse,
    Command::Filter,
    Command::NextPane,
    Command::Copy,
    Command::Save,
    Command::Redraw,
    Command::Suspend,
    Command::Help,
    Command::Quit,
];

impl Screen {
    /// Whether notes there are.
    fn has_notes(&self) -> bool {
        !self.diff.warnings.is_empty()
    }

    fn context(&self) -> Context {
        let listed = !self.rows.is_empty();
        let is_reason = matches!(self.level().place, Place::Reason(..));
        Context {
            can_open: listed && self.body == Body::Level,
            can_go_back: !self.above.is_empty()
                || self.body != Body::Level
                || !self.level().filter.is_empty(),
            rows: listed || self.body != Body::Level,
            sortable: listed && self.body == Body::Level,
            filterable: !is_reason && self.body == Body::Level,
            panes: self.has_notes(),
            tab: Tab::Exits,
            ..Context::default()
        }
    }

    /// The keys that do something here, with what they do.
    pub(super) fn working(&self) -> Vec<(&'static Binding, Vec<Key>)> {
        let context = self.context();
        let working = self.view.keymap.working(&context);
        working.filter(|(binding, _)| COMMANDS.contains(&binding.command)).collect()
    }

    /// Takes an event.
    pub fn event(&mut self, event: &Event) -> Then {
        match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => {
                self.view.message = None;
                match self.typing.take() {
                    Some(typing) => self.typed(*key, typing),
                    None => self.pressed(Key::from_event(*key)),
                }
            }
            Event::Mouse(mouse) => self.clicked(*mouse),
            Event::Paste(pasted) => match self.typing.take() {
                Some(typing) => {
                    let clean: String = pasted.chars().filter(|c| !c.is_control()).collect();
                    self.type_filter(format!("{}{clean}", typing.text), typing.before)
                }
                None => Then::Ignore,
            },
            Event::Resize(..) | Event::FocusGained => Then::Draw,
            _ => Then::Ignore,
        }
    }

    fn pressed(&mut self, key: Key) -> Then {
        let found = self.working().into_iter().find(|(_, keys)| keys.contains(&key));
        let Some((binding, _)) = found else { return Then::Ignore };
        match binding.command {
            Command::Quit => return Then::Quit,
            Command::Suspend => return Then::Suspend,
            Command::Redraw => return Then::Redraw,
            Command::Copy => {
                return self.selected().map_or(Then::Ignore, |row| Then::Copy(rows::line(row)));
            }
            Command::Save => return Then::Save(self.saved()),
            Command::Help => self.turn(Body::Help),
            Command::NextPane => self.turn(Body::Notes),
            Command::Back => self.back(),
            _ if self.body != Body::Level => self.scroll(binding.command),
            Command::Open => self.open(),
            Command::Sort => self.sort_next(),
            Command::Reverse => {
                let sort = self.level().sort;
                self.sort_by(Sort { descending: !sort.descending, ..sort });
            }
            Command::Filter => {
                let before = self.level().filter.clone();
                return self.type_filter(before.text().to_owned(), before);
            }
            command => self.walk(command),
        }
        Then::Draw
    }

    /// Shows notes or help, or the level again.
    fn turn(&mut self, body: Body) {
        self.lines_from = 0;
        self.body = if self.body == body { Body::Level } else { body };
    }

    fn back(&mut self) {
        if self.body != Body::Level {
            self.body = Body::Level;
        } else if !self.level().filter.is_empty() {
            self.level_mut().filter = Filter::default();
            self.refresh();
        } else {
            self.up();
        }
    }

    /// Moves the cursor.
    fn walk(&mut self, command: Command) {
        let (at, page) = (self.cursor().unwrap_or(0), self.view.page.saturating_sub(1).max(1));
        self.select(match command {
            Command::Up => at.saturating_sub(1),
            Command::Down => at + 1,
            Command::PageUp => at.saturating_sub(page),
            Command::PageDown => at.saturating_add(page),
            Command::Top => 0,
            Command::Bottom => usize::MAX,
            _ => at,
        });
    }

    /// Moves the lines of notes and help.
    fn scroll(&mut self, command: Command) {
        self.lines_from = command.scrolled(self.lines_from, self.view.page.max(1));
    }

    fn sort_by(&mut self, sort: Sort) {
        self.level_mut().sort = sort;
        self.refresh();
    }

    fn sort_next(&mut self) {
        let fields = rows::fields();
        let at = fields.iter().position(|field| field.key == self.level().sort.key);
        let next = at.map_or(0, |at| (at + 1) % fields.len());
        if let Some(field) = fields.get(next) {
            self.sort_by(Sort { key: field.key, descending: field.numeric });
            self.view.message = Some(format!("sorted by {}: {}", field.key, field.about));
        }
    }

    /// A click on a header: sorts by it, or turns the order around.
    fn sort_by_key(&mut self, key: &'static str) {
        let sort = self.level().sort;
        let numeric = rows::fields().iter().any(|field| field.key == key && field.numeric);
        let descending = if sort.key == key { !sort.descending } else { numeric };
        self.sort_by(Sort { key, descending });
    }

    /// The filter being typed is now this text. As long as nothing is wrong with it, it is in force.
    fn type_filter(&mut self, text: String, before: Filter) -> Then {
        let error = match Filter::parse(&text, &rows::fields()) {
            Ok(filter) => {
                self.level_mut().filter = filter;
                None
            }
            Err(error) => Some(error),
        };
        self.typing = Some(Typing { text, error, before });
        self.refresh();
        Then::Draw
    }

    fn typed(&mut self, key: KeyEvent, typing: Typing) -> Then {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let Typing { mut text, error, before } = typing;
        match key.code {
            KeyCode::Char('c') if control => return Then::Quit,
            KeyCode::Char('u') if control => text.clear(),
            KeyCode::Char('w') if control => {
                let kept = text.trim_end().rfind(' ').map_or(0, |at| at + 1);
                text.truncate(kept);
            }
            KeyCode::Char(c) if !control && !key.modifiers.contains(KeyModifiers::ALT) => {
                text.push(c)
            }
            KeyCode::Enter if error.is_none() => return Then::Draw,
            KeyCode::Esc => return self.forget(before),
            KeyCode::Backspace if text.is_empty() => return self.forget(before),
            KeyCode::Backspace => {
                text.pop();
            }
            _ => {}
        }
        self.type_filter(text, before)
    }

    fn forget(&mut self, before: Filter) -> Then {
        self.level_mut().filter = before;
        self.refresh();
        Then::Draw
    }

    fn clicked(&mut self, mouse: MouseEvent) -> Then {
        let hit = self.view.at(mouse.column, mouse.row).cloned();
        match (mouse.kind, hit) {
            (MouseEventKind::ScrollUp, _) => self.wheel(Command::Up),
            (MouseEventKind::ScrollDown, _) => self.wheel(Command::Down),
            (MouseEventKind::Down(MouseButton::Right), _) => self.back(),
            (MouseEventKind::Down(MouseButton::Left), Some(hit)) => match hit {
                Hit::Row(at) if self.cursor() == Some(at) => self.open(),
                Hit::Row(at) => self.select(at),
                Hit::Header(key) => self.sort_by_key(key),
                Hit::Up(levels) => (0..levels).for_each(|_| {
                    self.up();
                }),
                _ => return Then::Ignore,
            },
            _ => return Then::Ignore,
        }
        Then::Draw
    }

    fn wheel(&mut self, command: Command) {
        match self.body {
            Body::Level => self.walk(command),
            _ => self.scroll(command),
        }
    }

    /// The level's rows for a file; of one reason everything that was compared.
    fn saved(&self) -> SavedView {
        let crumbs = self.breadcrumb();
        let labels: Vec<&str> = crumbs.iter().map(String::as_str).collect();
        let name = save::file_name(&[["diff"].as_slice(), labels.as_slice()].concat());
        let about = &self.diff.about;
        let title = format!(
            "{}: before {}, after {}",
            labels.join(" > "),
            about.before.label,
            about.after.label
        );
        if self.rows.is_empty() {
            let text = text::report(&self.diff);
            return SavedView { name, text, csv: String::new() };
        }
        save::view(name, &title, &self.rows)
    }
}

/// Presses keys, for tests.
#[cfg(test)]
pub(super) fn press(screen: &mut Screen, keys: &str) -> Then {
    let mut then = Then::Ignore;
    for text in keys.split(' ').filter(|text| !text.is_empty()) {
        let key = Key::parse(text).expect(text);
        then = screen.event(&Event::Key(KeyEvent::new(key.code, key.modifiers)));
    }
    then
}
