//! What the person wants ([`Action`]) and what the state asks of the outside ([`Effect`]).

use super::nav::{Pane, Tab};
use std::time::Duration;

/// What the person wants. (What a source says is a [`crate::source::Msg`].)
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Opens what the cursor is on: a VM, a vCPU, a reason, or a cell of the heat map.
    Open,
    /// Back to the level above; closes the help first.
    Back,
    /// One row up.
    Up,
    /// One row down.
    Down,
    /// One column left, in a heat map.
    Left,
    /// One column right, in a heat map.
    Right,
    /// This many rows up.
    PageUp(usize),
    /// This many rows down.
    PageDown(usize),
    /// To the first row.
    Top,
    /// To the last row.
    Bottom,
    /// The cursor to the row with this index in the rows as shown.
    Select(usize),
    /// The cursor to this row and column of the heat map, as shown.
    SelectCell(usize, usize),
    /// Sorts by the next field.
    SortNext,
    /// Sorts the other way round.
    SortReverse,
    /// Sorts by the field with this key ([`super::fields`]); a second time reverses.
    SortBy(String),
    /// The filter being typed is now this text; begins typing when it has not begun.
    FilterEdit(String),
    /// Keeps the filter as typed. Stays in typing as long as it cannot be read.
    FilterAccept,
    /// Forgets what was typed; the filter from before is back.
    FilterCancel,
    /// The next meaning of the heat map's colour.
    ColourNext,
    /// Takes the displayed tick, with the nine before it, as the baseline that colour and tables compare with; forgets it
    /// when there is one.
    Baseline,
    /// Freezes what is shown; live again when it is frozen already. Collection goes on.
    Pause,
    /// This many ticks back in time; freezes.
    StepBack(usize),
    /// This many ticks forward, to the latest at most; stays frozen.
    StepForward(usize),
    /// Shows the latest tick and follows; of a recording the last.
    GoLive,
    /// To the begin of a recording.
    GoStart,
    /// Plays a recording faster.
    Faster,
    /// Plays a recording slower.
    Slower,
    /// To the next mark of a recording.
    NextMark,
    /// To the mark before.
    PreviousMark,
    /// The place in a recording that is being typed is now this text; begins typing when it has not begun.
    SeekEdit(String),
    /// Goes to the place as typed. Stays in typing as long as it cannot be read.
    SeekAccept,
    /// The words of a mark at the displayed tick that are being typed; begins typing when it has not begun.
    MarkEdit(String),
    /// Puts the mark.
    MarkAccept,
    /// Forgets what was typed of a place or a mark.
    PromptCancel,
    /// Begins to record what is measured, or ends it.
    Record,
    /// Saves what is kept of the past as a recording.
    KeepPast,
    /// Switches the family of probes under the cursor on or off.
    SwitchFamily,
    /// Asks for the callers of the next function.
    NextStacks,
    /// Turns to a tab; the scope stays.
    Tab(Tab),
    /// This pane gets the cursor, where the level has it.
    Focus(Pane),
    /// The next pane of this level.
    NextPane,
    /// The cursor to an entry of a list (findings, slow exits), which gets the cursor.
    SelectIn(Pane, usize),
    /// Begins to watch who takes vCPUs' CPUs, or ends it.
    Culprits,
    /// The threshold of slow exits being typed is now this text; begins typing when it has not
    /// begun.
    LimitEdit(String),
    /// Takes the threshold as typed. Stays in typing as long as it cannot be read.
    LimitAccept,
    /// Forgets what was typed.
    LimitCancel,
    /// The pane alone on the screen, or not any more.
    ZoomPane,
    /// Forgets the VMs that are gone.
    ClearGone,
    /// Shows the help, or not any more.
    Help,
    /// Copies the selected row as text.
    Copy,
    /// Saves the rows of this level.
    SaveView,
    /// How many reason columns the heat map has room for ("other" not counted). The screen says
    /// so when its layout changes.
    Fit(usize),
    /// Asks the source for another interval between ticks.
    Interval(Duration),
    /// Ends the program.
    Quit,
}

/// What the state asks of the outside; the only way from it to the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// End the program.
    Quit,
    /// Put this text on the clipboard.
    Copy(String),
    /// Write this to a file.
    SaveView(SavedView),
    /// Ask the source for this interval.
    SetInterval(Duration),
    /// Ask the source to attach this family of probes, or to detach it.
    Family(crate::source::live::plan::Family, bool),
    /// Ask the source to count the callers of this function.
    Stacks(crate::model::stack::StackOf),
    /// Tell the source from which time on an exit is an outlier.
    Outliers(crate::model::detail::OutlierLimits),
    /// Ask the player of a recording.
    Replay(crate::source::replay::Control),
    /// Record from now on, with who is there now. [`State::recorded`](super::State::recorded) is to be told.
    Record(Box<crate::model::totals::Totals>),
    /// End that recording.
    RecordStop,
    /// Put a mark into it.
    Mark(crate::record::Mark),
    /// Write this as a recording.
    Keep(Box<super::Past>),
}

/// The rows of a level, for a file.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct SavedView {
    /// A short name made of letters, digits and dashes, for a file name.
    pub name: String,
    /// As an aligned table, after a line that says what and when.
    pub text: String,
    /// As CSV with a header line; times in ns, rates per second, shares as fractions.
    pub csv: String,
}
