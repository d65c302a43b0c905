//! What keys can do.

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

impl Command {
    /// The first line shown of a text that was shown from `from` on, `page` lines at a time; drawing holds it
    /// inside the text.
    pub fn scrolled(self, from: usize, page: usize) -> usize {
        match self {
            Self::Up => from.saturating_sub(1),
            Self::Down => from + 1,
            Self::PageUp => from.saturating_sub(page),
            Self::PageDown => from + page,
            Self::Top => 0,
            Self::Bottom => usize::MAX / 2,
            _ => from,
        }
    }
}
