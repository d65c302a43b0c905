//! The keys: one table that drives dispatch, footer, help and the configuration file.

mod command;
mod table;

pub use super::key::Key;
use crate::state::Tab;
pub use command::Command;
pub use table::TABLE;

/// What is on the screen, as far as keys depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Context {
    /// There is something to open under the cursor.
    pub can_open: bool,
    /// There is a level above, a help to close, or a filter to clear.
    pub can_go_back: bool,
    /// Rows to move among.
    pub rows: bool,
    /// A cursor that moves sideways, in a heat map.
    pub cells: bool,
    /// A table that can be sorted.
    pub sortable: bool,
    /// A table that can be filtered.
    pub filterable: bool,
    /// A heat map whose colour has several meanings.
    pub colours: bool,
    /// More than one pane.
    pub panes: bool,
    /// Something older to step back to.
    pub history: bool,
    /// Not following the latest tick.
    pub stepped: bool,
    /// Rows of VMs that are gone.
    pub gone: bool,
    /// Which tab is open.
    pub tab: Tab,
    /// Callers of a function are counted, and can be counted of another.
    pub stacks: bool,
    /// A recording is shown.
    pub replay: bool,
    /// It has marks.
    pub marks: bool,
    /// Something is kept that could be saved.
    pub kept: bool,
}

/// One line of the table.
pub struct Binding {
    /// What it does.
    pub command: Command,
    /// Its name in the configuration file.
    pub name: &'static str,
    /// Keys unless configured.
    pub keys: &'static [&'static str],
    /// Two words for the footer; empty keeps it out of there.
    pub short: &'static str,
    /// A sentence for the help.
    pub help: &'static str,
    /// Whether it does something now.
    pub works: fn(&Context) -> bool,
}

/// The table with the keys in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keymap {
    keys: Vec<(Command, Vec<Key>)>,
}

impl Default for Keymap {
    fn default() -> Self {
        let parse = |keys: &[&str]| keys.iter().filter_map(|key| Key::parse(key)).collect();
        Self { keys: TABLE.iter().map(|b| (b.command, parse(b.keys))).collect() }
    }
}

impl Keymap {
    /// Gives a command other keys.
    pub fn set(&mut self, command: Command, keys: Vec<Key>) {
        if let Some(entry) = self.keys.iter_mut().find(|(c, _)| *c == command) {
            entry.1 = keys;
        }
    }

    /// The keys of a command.
    pub fn keys(&self, command: Command) -> &[Key] {
        self.keys.iter().find(|(c, _)| *c == command).map_or(&[], |(_, keys)| keys)
    }

    /// What a key does here, if anything.
    pub fn command(&self, key: Key, context: &Context) -> Option<Command> {
        self.working(context).find(|(_, keys)| keys.contains(&key)).map(|(b, _)| b.command)
    }

    /// The bindings that do something here, each with the keys that reach it.
    pub fn working<'a>(
        &'a self,
        context: &'a Context,
    ) -> impl Iterator<Item = (&'static Binding, Vec<Key>)> + 'a {
        let mut taken: Vec<Key> = Vec::new();
        TABLE.iter().filter(|b| (b.works)(context)).filter_map(move |binding| {
            let mine = self.keys(binding.command).iter().copied();
            let free: Vec<Key> = mine.filter(|key| !taken.contains(key)).collect();
            taken.extend(&free);
            (!free.is_empty()).then_some((binding, free))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        Key::parse(text).expect(text)
    }

    #[test]
    fn every_default_key_can_be_read_and_every_name_is_unique() {
        for (i, binding) in TABLE.iter().enumerate() {
            assert!(binding.keys.iter().all(|k| Key::parse(k).is_some()), "{}", binding.name);
            assert!(
                TABLE[..i].iter().all(|b| b.name != binding.name && b.command != binding.command)
            );
        }
    }

    #[test]
    fn arrows_move_the_cursor_before_they_step_in_time() {
        let map = Keymap::default();
        let grid = Context { cells: true, history: true, ..Context::default() };
        let list = Context { history: true, ..Context::default() };
        assert_eq!(map.command(key("left"), &grid), Some(Command::CursorLeft));
        assert_eq!(map.command(key("["), &grid), Some(Command::Older));
        assert_eq!(map.command(key("left"), &list), Some(Command::Older));
        assert_eq!(map.command(key("right"), &list), None);
    }

    #[test]
    fn only_keys_that_reach_their_command_are_listed() {
        let grid = Context { cells: true, history: true, ..Context::default() };
        let map = Keymap::default();
        let older = map.working(&grid).find(|(b, _)| b.command == Command::Older);
        assert_eq!(older.map(|(_, keys)| keys), Some(vec![key("[")]));
    }

    #[test]
    fn quitting_works_everywhere() {
        let map = Keymap::default();
        for key in ["q", "ctrl-c"].map(key) {
            assert_eq!(map.command(key, &Context::default()), Some(Command::Quit));
        }
    }

    #[test]
    fn a_configured_key_replaces_the_default() {
        let mut map = Keymap::default();
        map.set(Command::Quit, vec![key("ctrl-q")]);
        assert_eq!(map.command(key("q"), &Context::default()), None);
        assert_eq!(map.command(key("ctrl-q"), &Context::default()), Some(Command::Quit));
    }
}
