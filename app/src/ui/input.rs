//! What a key or the mouse means: pure, from the state and what is on the screen.

use super::{
    keymap::{Command, Context, Key},
    panes::stacks,
    replay,
    view::{Hit, View},
};
use crate::state::{Action, Mode, Pane, Scope, State, Tab};
use crate::{config::outlier, model::session::Origin, source::live::plan::Family};
use ratatui::crossterm::event::{
    Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEvent, MouseEventKind,
};

/// What is to be done about an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Tell the state.
    Act(Vec<Action>),
    /// Draw everything anew.
    Redraw,
    /// Stop, as a shell's job.
    Suspend,
    /// Draw again, nothing else: the size changed, the help scrolled.
    Draw,
    /// Nothing.
    Ignore,
}

/// What keys depend on, from the state.
pub fn context(state: &State) -> Context {
    let level = state.level();
    let position = state.header().position;
    let deck = state.deck();
    let rows = state.cursor_in(level.pane).is_some();
    let heat = level.panes().contains(&Pane::Heat);
    let filtered = !level.filter.text().is_empty();
    // Rows with fields; a list of findings or slow exits has an order of its own.
    let lists = level.panes().iter().any(|pane| matches!(pane, Pane::Table | Pane::Detail));
    Context {
        can_open: rows && can_open(state, level.pane),
        can_go_back: level.scope != Scope::Host || filtered,
        rows,
        cells: rows && level.pane == Pane::Heat,
        sortable: lists && state.row_count() > 0,
        filterable: lists
            && (state.row_count() > 0 || filtered || !matches!(level.scope, Scope::Reason(..))),
        colours: heat && state.row_count() > 0,
        panes: level.panes().len() > 1 && (rows || level.tab != Tab::Exits),
        history: position.behind > 0 || deck.as_ref().is_some_and(|deck| !deck.is_start()),
        stepped: match &deck {
            Some(deck) => position.seq > 0 && (deck.gap.is_some() || deck.at_ns < deck.end_ns),
            None => !position.live && position.seq > 0,
        },
        gone: level.scope == Scope::Host
            && state.vm_rows().iter().any(|r| r.ended_unix_ns.is_some()),
        tab: level.tab,
        stacks: state.can_switch_stacks(),
        replay: deck.is_some(),
        marks: deck.is_some_and(|deck| !deck.marks.is_empty()),
        kept: position.seq > 0,
    }
}

/// Whether the cursor of a pane is on something that can be opened.
fn can_open(state: &State, pane: Pane) -> bool {
    match pane {
        Pane::Table | Pane::Heat | Pane::Findings | Pane::Outliers => true,
        Pane::Detail | Pane::Parts | Pane::Probes | Pane::Ioctls => false,
        list => state.list_target(list).is_some(),
    }
}

/// What an event means.
pub fn input(event: &Event, state: &State, view: &mut View) -> Input {
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => {
            view.message = None;
            match state.mode() {
                Mode::Filter { text, .. } => typing(*key, text, &FILTER),
                Mode::Limit { text, .. } => typing(*key, text, &LIMIT),
                Mode::Seek { text, .. } => typing(*key, text, &SEEK),
                Mode::Mark { text, .. } => typing(*key, text, &MARK),
                Mode::Help => helping(*key, state, view),
                Mode::Normal => pressed(Key::from_event(*key), state, view),
            }
        }
        Event::Mouse(mouse) => clicked(*mouse, state, view),
        Event::Paste(pasted) => match state.mode() {
            Mode::Filter { text, .. } => {
                let clean: String = pasted.chars().filter(|c| !c.is_control()).collect();
                act(Action::FilterEdit(format!("{text}{clean}")))
            }
            Mode::Limit { text, .. } => {
                let clean: String = pasted.chars().filter(|c| !c.is_control()).collect();
                act(Action::LimitEdit(format!("{text}{clean}")))
            }
            Mode::Seek { text, .. } => {
                let clean: String = pasted.chars().filter(|c| !c.is_control()).collect();
                act(Action::SeekEdit(format!("{text}{clean}")))
            }
            Mode::Mark { text, .. } => {
                let clean: String = pasted.chars().filter(|c| !c.is_control()).collect();
                act(Action::MarkEdit(format!("{text}{clean}")))
            }
            _ => Input::Ignore,
        },
        Event::Resize(..) | Event::FocusGained => Input::Draw,
        _ => Input::Ignore,
    }
}

fn act(action: Action) -> Input {
    Input::Act(vec![action])
}

/// What typing does: edits, takes, forgets.
struct Typing {
    edit: fn(String) -> Action,
    accept: Action,
    cancel: Action,
}

const FILTER: Typing =
    Typing { edit: Action::FilterEdit, accept: Action::FilterAccept, cancel: Action::FilterCancel };

const LIMIT: Typing =
    Typing { edit: Action::LimitEdit, accept: Action::LimitAccept, cancel: Action::LimitCancel };

const SEEK: Typing =
    Typing { edit: Action::SeekEdit, accept: Action::SeekAccept, cancel: Action::PromptCancel };

const MARK: Typing =
    Typing { edit: Action::MarkEdit, accept: Action::MarkAccept, cancel: Action::PromptCancel };

/// Keys while something is typed.
fn typing(key: KeyEvent, text: &str, typing: &Typing) -> Input {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('c') if control => act(Action::Quit),
        KeyCode::Char('u') if control => act((typing.edit)(String::new())),
        KeyCode::Char('w') if control => {
            let kept = text.trim_end().rfind(' ').map_or("", |at| &text[..=at]);
            act((typing.edit)(kept.to_owned()))
        }
        KeyCode::Char(c) if !control && !key.modifiers.contains(KeyModifiers::ALT) => {
            act((typing.edit)(format!("{text}{c}")))
        }
        KeyCode::Backspace if text.is_empty() => act(typing.cancel.clone()),
        KeyCode::Backspace => {
            let mut text = text.to_owned();
            text.pop();
            act((typing.edit)(text))
        }
        KeyCode::Enter => act(typing.accept.clone()),
        KeyCode::Esc => act(typing.cancel.clone()),
        _ => Input::Ignore,
    }
}

/// Keys while the help is open: it scrolls, and every key that closes something closes it.
fn helping(key: KeyEvent, state: &State, view: &mut View) -> Input {
    let everything = Context { rows: true, can_go_back: true, ..context(state) };
    match view.keymap.command(Key::from_event(key), &everything) {
        Some(Command::Quit) => act(Action::Quit),
        Some(Command::Suspend) => Input::Suspend,
        Some(Command::Redraw) => Input::Redraw,
        Some(Command::Help) => act(Action::Help),
        Some(Command::Back) => act(Action::Back),
        Some(command) => {
            view.help_from = command.scrolled(view.help_from, view.page.max(1));
            Input::Draw
        }
        None => Input::Ignore,
    }
}

fn pressed(key: Key, state: &State, view: &mut View) -> Input {
    let Some(command) = view.keymap.command(key, &context(state)) else { return Input::Ignore };
    let page = view.page.saturating_sub(1).max(1);
    act(match command {
        Command::Redraw => return Input::Redraw,
        Command::Suspend => return Input::Suspend,
        Command::Help => {
            view.help_from = 0;
            Action::Help
        }
        Command::Open => Action::Open,
        Command::Back if !state.level().filter.text().is_empty() => {
            let nothing = Action::FilterEdit(String::new());
            return Input::Act(vec![nothing, Action::FilterAccept]);
        }
        Command::Back => Action::Back,
        Command::Up => Action::Up,
        Command::Down => Action::Down,
        Command::CursorLeft => Action::Left,
        Command::CursorRight => Action::Right,
        Command::PageUp => Action::PageUp(page),
        Command::PageDown => Action::PageDown(page),
        Command::Top => Action::Top,
        Command::Bottom => Action::Bottom,
        Command::Sort => Action::SortNext,
        Command::Reverse => Action::SortReverse,
        Command::Filter => Action::FilterEdit(state.level().filter.text().to_owned()),
        Command::Colour => Action::ColourNext,
        Command::Baseline => {
            view.message = Some(baseline_message(state));
            Action::Baseline
        }
        Command::Pause | Command::Play => Action::Pause,
        Command::Start => Action::GoStart,
        Command::Slower => Action::Slower,
        Command::Faster => Action::Faster,
        Command::Seek => Action::SeekEdit(String::new()),
        Command::NextMark => {
            view.message = replay::no_mark(state, true);
            Action::NextMark
        }
        Command::PreviousMark => {
            view.message = replay::no_mark(state, false);
            Action::PreviousMark
        }
        Command::Record => Action::Record,
        Command::KeepPast => Action::KeepPast,
        Command::Mark => Action::MarkEdit(String::new()),
        Command::Older => Action::StepBack(1),
        Command::Newer => Action::StepForward(1),
        Command::MuchOlder => Action::StepBack(10),
        Command::MuchNewer => Action::StepForward(10),
        Command::Live | Command::End => Action::GoLive,
        Command::TabExits => Action::Tab(Tab::Exits),
        Command::TabMemory => return turned(Tab::Memory, state, view),
        Command::TabInterrupts => return turned(Tab::Interrupts, state, view),
        Command::TabScheduling => return turned(Tab::Scheduling, state, view),
        Command::TabCalls => return turned(Tab::Calls, state, view),
        Command::TabTime => Action::Tab(Tab::Time),
        Command::TabProbes => Action::Tab(Tab::Probes),
        Command::SwitchFamily => {
            view.message = state.switch_message();
            Action::SwitchFamily
        }
        Command::Culprits => {
            view.message = Some(culprits_message(state));
            Action::Culprits
        }
        Command::NextStacks => {
            view.message = Some(stacks::message(state));
            Action::NextStacks
        }
        Command::Threshold => Action::LimitEdit(limits_text(state)),
        Command::NextPane => Action::NextPane,
        Command::Zoom => Action::ZoomPane,
        Command::ClearGone => Action::ClearGone,
        Command::Copy => Action::Copy,
        Command::Save => Action::SaveView,
        Command::Quit => Action::Quit,
    })
}

/// Turns to a tab, and says what that attaches.
fn turned(tab: Tab, state: &State, view: &mut View) -> Input {
    let families = state.would_attach(tab);
    if state.session().origin == Origin::Live && !families.is_empty() {
        let names: Vec<&str> = families.iter().map(|family| family.name()).collect();
        let (last, before) = names.split_last().map_or(("", &[][..]), |(last, rest)| (*last, rest));
        let before = before.join(", ");
        let and = if before.is_empty() { "" } else { " and " };
        view.message = Some(format!("this tab attaches {before}{and}{last}"));
    }
    act(Action::Tab(tab))
}

/// The thresholds in force, to be changed.
fn limits_text(state: &State) -> String {
    let limits = state.outlier_limits();
    if limits.all_ns.is_none() && limits.reasons.is_empty() {
        return String::new();
    }
    outlier::text(limits, &state.session().names)
}

/// What becomes of the baseline.
fn baseline_message(state: &State) -> String {
    match state.baseline() {
        Some(_) => "the baseline is forgotten".to_owned(),
        None => "from now on compared with the last ten ticks".to_owned(),
    }
}

/// What was asked of the source.
fn culprits_message(state: &State) -> String {
    if state.session().origin != Origin::Live {
        return "these numbers are invented, there is nothing to attach".to_owned();
    }
    let verb = if state.family_on(Family::Culprits) { "detaching" } else { "attaching" };
    format!("{verb} the probes that see who takes a CPU")
}

/// The mouse: a click selects, a click on what is selected opens it, a header sorts, a step of
/// the breadcrumb goes there, the wheel moves the cursor.
fn clicked(mouse: MouseEvent, state: &State, view: &mut View) -> Input {
    if *state.mode() == Mode::Help {
        view.help_from = match mouse.kind {
            MouseEventKind::ScrollUp => view.help_from.saturating_sub(1),
            MouseEventKind::ScrollDown => view.help_from + 1,
            MouseEventKind::Down(MouseButton::Left) => return act(Action::Help),
            _ => return Input::Ignore,
        };
        return Input::Draw;
    }
    let hit = view.at(mouse.column, mouse.row).cloned();
    match mouse.kind {
        MouseEventKind::ScrollUp => act(Action::Up),
        MouseEventKind::ScrollDown => act(Action::Down),
        MouseEventKind::ScrollLeft if context(state).cells => act(Action::Left),
        MouseEventKind::ScrollRight if context(state).cells => act(Action::Right),
        MouseEventKind::Down(MouseButton::Right) => act(Action::Back),
        MouseEventKind::Down(MouseButton::Left) => match hit {
            Some(Hit::Row(at)) if state.cursor() == Some(at) => act(Action::Open),
            Some(Hit::Row(at)) => act(Action::Select(at)),
            Some(Hit::Cell(y, x)) if state.heatmap().cursor == Some((y, x)) => act(Action::Open),
            Some(Hit::Cell(y, x)) => act(Action::SelectCell(y, x)),
            Some(Hit::Header(key)) => act(Action::SortBy(key.to_owned())),
            Some(Hit::Up(0)) => Input::Ignore,
            Some(Hit::Up(levels)) => Input::Act(vec![Action::Back; levels]),
            Some(Hit::Tab(tab)) => turned(tab, state, view),
            Some(Hit::Entry(pane, at)) => {
                let here = state.level().pane == pane && state.cursor_in(pane) == Some(at);
                act(match (here, pane) {
                    (true, Pane::Probes) => {
                        view.message = state.switch_message();
                        Action::SwitchFamily
                    }
                    (true, _) => Action::Open,
                    (false, _) => Action::SelectIn(pane, at),
                })
            }
            Some(Hit::Timeline(place)) => {
                let percent = replay::percent(mouse.column.saturating_sub(place.x), place.width);
                let place = Action::SeekEdit(format!("{percent}%"));
                Input::Act(vec![place, Action::SeekAccept])
            }
            Some(Hit::Pane(pane)) if state.level().pane != pane => act(Action::Focus(pane)),
            _ => Input::Ignore,
        },
        _ => Input::Ignore,
    }
}
