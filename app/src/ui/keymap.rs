//! The keys: one table that drives dispatch, footer, help and the configuration file.

pub use super::key::Key;
use crate::state::Tab;

/// What a key does. Its name in the configuration file is [`Binding::name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the table beside it says what each does")]
pub enum Command {
    Open,
    SwitchFamily,
    Back,
    Up,
    Down,
    CursorLeft,
    CursorRight,
    PageUp,
    PageDown,
    Top,
    Bottom,
    Sort,
    Reverse,
    Filter,
    Colour,
    Baseline,
    Pause,
    Older,
    Newer,
    MuchOlder,
    MuchNewer,
    Live,
    Play,
    Start,
    End,
    Slower,
    Faster,
    Seek,
    NextMark,
    PreviousMark,
    Record,
    KeepPast,
    Mark,
    TabExits,
    TabMemory,
    TabInterrupts,
    TabScheduling,
    TabCalls,
    TabTime,
    TabProbes,
    NextPane,
    Zoom,
    Culprits,
    NextStacks,
    Threshold,
    ClearGone,
    Copy,
    Save,
    Redraw,
    Suspend,
    Help,
    Quit,
}

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

fn always(_: &Context) -> bool {
    true
}

/// Every key. Footer and help keep this order. Where two commands share a key, the first that
/// works has it: the arrows move the cell cursor where there is one and step through time where
/// there is none.
pub const TABLE: &[Binding] = &[
    Binding {
        command: Command::Open,
        name: "open",
        keys: &["enter"],
        short: "open",
        help: "open what the cursor is on",
        works: |c| c.can_open,
    },
    Binding {
        command: Command::SwitchFamily,
        name: "switch-family",
        keys: &["enter", "space"],
        short: "switch on or off",
        help: "switch the family of probes under the cursor on or off, while running",
        works: |c| c.tab == Tab::Probes && c.rows && !c.replay,
    },
    Binding {
        command: Command::Back,
        name: "back",
        keys: &["esc", "backspace"],
        short: "back",
        help: "back to the level above; a filter goes first",
        works: |c| c.can_go_back,
    },
    Binding {
        command: Command::Up,
        name: "up",
        keys: &["up", "k"],
        short: "",
        help: "one row up",
        works: |c| c.rows,
    },
    Binding {
        command: Command::Down,
        name: "down",
        keys: &["down", "j"],
        short: "",
        help: "one row down",
        works: |c| c.rows,
    },
    Binding {
        command: Command::CursorLeft,
        name: "cursor-left",
        keys: &["left", "H"],
        short: "",
        help: "one cell left",
        works: |c| c.cells,
    },
    Binding {
        command: Command::CursorRight,
        name: "cursor-right",
        keys: &["right", "L"],
        short: "",
        help: "one cell right",
        works: |c| c.cells,
    },
    Binding {
        command: Command::PageUp,
        name: "page-up",
        keys: &["pgup", "ctrl-u", "ctrl-b"],
        short: "",
        help: "one page up",
        works: |c| c.rows,
    },
    Binding {
        command: Command::PageDown,
        name: "page-down",
        keys: &["pgdn", "ctrl-d", "ctrl-f"],
        short: "",
        help: "one page down",
        works: |c| c.rows,
    },
    Binding {
        command: Command::Start,
        name: "start",
        keys: &["home"],
        short: "",
        help: "to the start of the recording",
        works: |c| c.replay,
    },
    Binding {
        command: Command::Top,
        name: "top",
        keys: &["home", "g"],
        short: "",
        help: "to the first row",
        works: |c| c.rows,
    },
    Binding {
        command: Command::Bottom,
        name: "bottom",
        keys: &["G"],
        short: "",
        help: "to the last row",
        works: |c| c.rows,
    },
    Binding {
        command: Command::Sort,
        name: "sort",
        keys: &["s"],
        short: "sort",
        help: "sort by the next column; a click on a header sorts by it",
        works: |c| c.sortable,
    },
    Binding {
        command: Command::Reverse,
        name: "reverse",
        keys: &["S"],
        short: "",
        help: "sort the other way round",
        works: |c| c.sortable,
    },
    Binding {
        command: Command::Filter,
        name: "filter",
        keys: &["/"],
        short: "filter",
        help: "show only some rows: exits>1000 & name~web",
        works: |c| c.filterable,
    },
    Binding {
        command: Command::Colour,
        name: "colour",
        keys: &["h"],
        short: "colour",
        help: "what the heat map's colour means",
        works: |c| c.colours,
    },
    Binding {
        command: Command::Baseline,
        name: "baseline",
        keys: &["b"],
        short: "",
        help: "take the present as the baseline: colour and the column change compare with it; again forgets it",
        works: |c| c.colours || c.sortable,
    },
    Binding {
        command: Command::Play,
        name: "play",
        keys: &["space"],
        short: "play/pause",
        help: "play the recording from here, or stop",
        works: |c| c.replay,
    },
    Binding {
        command: Command::Seek,
        name: "seek",
        keys: &[":"],
        short: "go to",
        help: "to a time (12:41:03), from here (+30s, -5m), or to a share (50%) of the recording",
        works: |c| c.replay,
    },
    Binding {
        command: Command::Pause,
        name: "pause",
        keys: &["space"],
        short: "pause",
        help: "freeze the screen, or let it go on; collection always goes on",
        works: |c| !c.replay,
    },
    Binding {
        command: Command::Older,
        name: "older",
        keys: &["left", "["],
        short: "older",
        help: "one tick back in time",
        works: |c| c.history,
    },
    Binding {
        command: Command::Newer,
        name: "newer",
        keys: &["right", "]"],
        short: "newer",
        help: "one tick forward in time",
        works: |c| c.stepped,
    },
    Binding {
        command: Command::MuchOlder,
        name: "much-older",
        keys: &["shift-left", "{"],
        short: "",
        help: "ten ticks back in time",
        works: |c| c.history,
    },
    Binding {
        command: Command::MuchNewer,
        name: "much-newer",
        keys: &["shift-right", "}"],
        short: "",
        help: "ten ticks forward in time",
        works: |c| c.stepped,
    },
    Binding {
        command: Command::Live,
        name: "live",
        keys: &["end"],
        short: "live",
        help: "back to now",
        works: |c| c.stepped && !c.replay,
    },
    Binding {
        command: Command::Slower,
        name: "slower",
        keys: &["-"],
        short: "slower",
        help: "play slower, down to 0.1x",
        works: |c| c.replay,
    },
    Binding {
        command: Command::Faster,
        name: "faster",
        keys: &["+", "="],
        short: "faster",
        help: "play faster, up to 100x",
        works: |c| c.replay,
    },
    Binding {
        command: Command::NextMark,
        name: "next-mark",
        keys: &["n"],
        short: "mark",
        help: "to the next mark",
        works: |c| c.replay && c.marks,
    },
    Binding {
        command: Command::PreviousMark,
        name: "previous-mark",
        keys: &["N"],
        short: "",
        help: "to the mark before",
        works: |c| c.replay && c.marks,
    },
    Binding {
        command: Command::End,
        name: "end",
        keys: &["end"],
        short: "",
        help: "to the end of the recording; of a pipe, and follow what comes",
        works: |c| c.replay,
    },
    Binding {
        command: Command::TabExits,
        name: "tab-exits",
        keys: &["1"],
        short: "",
        help: "the Exits tab: what it exits for, how often, how long",
        works: |c| c.tab != Tab::Exits,
    },
    Binding {
        command: Command::TabMemory,
        name: "tab-memory",
        keys: &["2"],
        short: "",
        help: "the Memory tab: page faults, MMIO, dirty pages, MMU roots; attaches its probes",
        works: |c| c.tab != Tab::Memory,
    },
    Binding {
        command: Command::TabInterrupts,
        name: "tab-interrupts",
        keys: &["3"],
        short: "",
        help: "the Interrupts tab: what is put into guests, chips, IPIs, timers; attaches its probes",
        works: |c| c.tab != Tab::Interrupts,
    },
    Binding {
        command: Command::TabScheduling,
        name: "tab-scheduling",
        keys: &["4"],
        short: "",
        help: "the Scheduling tab: vCPUs on CPUs, who takes them, halt polling, wake-ups; attaches its probes",
        works: |c| c.tab != Tab::Scheduling,
    },
    Binding {
        command: Command::TabCalls,
        name: "tab-calls",
        keys: &["5"],
        short: "",
        help: "the Calls tab: hypercalls, KVM ioctls, memory slots; attaches its probes",
        works: |c| c.tab != Tab::Calls,
    },
    Binding {
        command: Command::TabTime,
        name: "tab-time",
        keys: &["6"],
        short: "",
        help: "the Time tab: where wall time goes, what stands out, slow exits",
        works: |c| c.tab != Tab::Time,
    },
    Binding {
        command: Command::TabProbes,
        name: "tab-probes",
        keys: &["0"],
        short: "",
        help: "the Probes tab: what is attached and why not, families switched on and off",
        works: |c| c.tab != Tab::Probes,
    },
    Binding {
        command: Command::Threshold,
        name: "threshold",
        keys: &["o"],
        short: "slow exits",
        help: "from which time on an exit is slow: 1ms, IO=5ms, off",
        works: |c| c.tab == Tab::Time && !c.replay,
    },
    Binding {
        command: Command::Culprits,
        name: "culprits",
        keys: &["c"],
        short: "who took CPU",
        help: "watch who takes vCPUs' CPUs, or stop it; costs time at every context switch of the host",
        works: |c| matches!(c.tab, Tab::Time | Tab::Scheduling) && !c.replay,
    },
    Binding {
        command: Command::NextStacks,
        name: "next-function",
        keys: &["f"],
        short: "function",
        help: "count the callers of the next function of KVM's that has to do with MMU roots",
        works: |c| c.stacks,
    },
    Binding {
        command: Command::NextPane,
        name: "next-pane",
        keys: &["tab"],
        short: "pane",
        help: "to the next pane",
        works: |c| c.panes,
    },
    Binding {
        command: Command::Zoom,
        name: "zoom",
        keys: &["z"],
        short: "zoom",
        help: "the pane alone on the screen, or all of them",
        works: |c| c.panes,
    },
    Binding {
        command: Command::ClearGone,
        name: "clear-gone",
        keys: &["x"],
        short: "clear gone",
        help: "forget the VMs that are gone",
        works: |c| c.gone,
    },
    Binding {
        command: Command::Copy,
        name: "copy",
        keys: &["y"],
        short: "",
        help: "copy the selected row as text, by the terminal's clipboard (OSC 52)",
        works: |c| c.rows,
    },
    Binding {
        command: Command::Save,
        name: "save",
        keys: &["w"],
        short: "save",
        help: "save what is shown as a text file in the current directory",
        works: always,
    },
    Binding {
        command: Command::Record,
        name: "record",
        keys: &["r"],
        short: "record",
        help: "record to a file in the current directory from now on, or stop",
        works: |c| !c.replay,
    },
    Binding {
        command: Command::KeepPast,
        name: "keep-past",
        keys: &["R"],
        short: "",
        help: "save what is kept of the last minutes as a recording: what just happened",
        works: |c| !c.replay && c.kept,
    },
    Binding {
        command: Command::Mark,
        name: "mark",
        keys: &["m"],
        short: "",
        help: "put a mark at the displayed moment, with some words, for recordings",
        works: |c| !c.replay && c.kept,
    },
    Binding {
        command: Command::Redraw,
        name: "redraw",
        keys: &["ctrl-l"],
        short: "",
        help: "draw everything anew",
        works: always,
    },
    Binding {
        command: Command::Suspend,
        name: "suspend",
        keys: &["ctrl-z"],
        short: "",
        help: "back to the shell for a while; fg returns",
        works: always,
    },
    Binding {
        command: Command::Help,
        name: "help",
        keys: &["?", "f1"],
        short: "keys",
        help: "this list",
        works: always,
    },
    Binding {
        command: Command::Quit,
        name: "quit",
        keys: &["q", "ctrl-c"],
        short: "quit",
        help: "quit, from everywhere",
        works: always,
    },
];

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
