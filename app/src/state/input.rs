//! What the person does: moving, opening, sorting, filtering, time.

use super::action::{Action, Effect, SavedView};
use super::baseline::Taken;
use super::filter::Filter;
use super::heat::Colour;
use super::nav::{ColumnId, Pane, RowId, Scope, Sort, Tab, Who};
use super::outliers::OutlierRow;
use super::time::{finding_id, finding_text, target};
use super::{Mode, State, save};
use crate::config::outlier;
use crate::model::detail::OutlierLimits;
use crate::source::live::plan::Family;

impl State {
    /// Does it; the cached views are dropped afterwards.
    pub(super) fn perform(&mut self, action: Action) -> Vec<Effect> {
        if let Some(effects) = self.perform_replay(&action) {
            return effects;
        }
        if let Some(effects) = self.perform_recording(&action) {
            return effects;
        }
        match action {
            Action::Quit => return vec![Effect::Quit],
            Action::Interval(interval) => return vec![Effect::SetInterval(interval)],
            Action::Copy => return self.copied().map(Effect::Copy).into_iter().collect(),
            Action::SaveView => return self.saved().map(Effect::SaveView).into_iter().collect(),
            Action::Open => self.open(),
            Action::Back => self.back(),
            Action::Up => self.move_row(-1),
            Action::Down => self.move_row(1),
            Action::PageUp(rows) => self.move_row(-to_i64(rows)),
            Action::PageDown(rows) => self.move_row(to_i64(rows)),
            Action::Top => self.select_in(self.level().pane, 0),
            Action::Bottom => self.select_in(self.level().pane, usize::MAX),
            Action::SelectIn(pane, entry) => {
                if self.level().panes().contains(&pane) {
                    self.nav.level_mut().pane = pane;
                    self.select_in(pane, entry);
                }
            }
            Action::Tab(tab) => {
                self.leave_prompt();
                self.mode = Mode::Normal;
                self.nav.turn(tab);
            }
            Action::Culprits => {
                return self.switch(Family::Culprits).into_iter().collect();
            }
            Action::SwitchFamily => {
                let family = self.selected_probe().and_then(|row| row.known);
                return family.and_then(|family| self.switch(family)).into_iter().collect();
            }
            Action::NextStacks => return self.next_stacks().into_iter().collect(),
            Action::LimitEdit(text) => self.limit_edit(text),
            Action::LimitAccept => return self.limit_accept().into_iter().collect(),
            Action::LimitCancel | Action::PromptCancel => self.leave_prompt(),
            // Only of a recording, or done already.
            Action::GoStart
            | Action::Faster
            | Action::Slower
            | Action::NextMark
            | Action::PreviousMark
            | Action::SeekEdit(_)
            | Action::SeekAccept
            | Action::MarkEdit(_)
            | Action::MarkAccept
            | Action::Record
            | Action::KeepPast => {}
            Action::Left => self.move_column(-1),
            Action::Right => self.move_column(1),
            Action::Select(row) => self.select(row),
            Action::SelectCell(row, column) => self.select_cell(row, column),
            Action::SortNext => self.sort_next(),
            Action::SortReverse => {
                let sort = &mut self.nav.level_mut().sort;
                sort.descending = !sort.descending;
            }
            Action::SortBy(key) => self.sort_by(&key),
            Action::FilterEdit(text) => self.filter_edit(text),
            Action::FilterAccept => self.filter_accept(),
            Action::FilterCancel => self.filter_cancel(),
            Action::ColourNext => self.colour = self.colour.next(),
            Action::Baseline => self.take_baseline(),
            Action::Pause if self.moments.live() => self.moments.freeze(),
            Action::Pause | Action::GoLive => self.moments.go_live(),
            Action::StepBack(ticks) => self.moments.step(-to_i64(ticks)),
            Action::StepForward(ticks) => self.moments.step(to_i64(ticks)),
            Action::Focus(pane) => {
                if self.level().panes().contains(&pane) {
                    self.nav.level_mut().pane = pane;
                }
            }
            Action::NextPane => self.next_pane(),
            Action::ZoomPane => {
                let level = self.nav.level_mut();
                level.zoomed = !level.zoomed && level.panes().len() > 1;
            }
            Action::ClearGone => self.clear_gone(),
            Action::Help => {
                self.filter_cancel();
                self.mode = if self.mode == Mode::Help { Mode::Normal } else { Mode::Help };
            }
            Action::Fit(columns) => self.fit = columns,
        }
        Vec::new()
    }

    /// Takes the present as the baseline, and lets colour mean the change against it; or neither any more.
    fn take_baseline(&mut self) {
        match self.taken.take() {
            Some(taken) if self.colour == Colour::Change => self.colour = taken.colour,
            Some(_) => {}
            None => {
                self.taken = Taken::take(&self.moments, self.colour).map(Box::new);
                if self.taken.is_some() {
                    self.colour = Colour::Change;
                }
            }
        }
    }

    /// Opens what the cursor is on.
    fn open(&mut self) {
        self.filter_accept();
        self.mode = Mode::Normal;
        match self.level().pane {
            Pane::Findings | Pane::Outliers => return self.open_entry(),
            Pane::Parts => return,
            Pane::Table | Pane::Heat | Pane::Detail => {}
            pane => return self.open_in_list(pane),
        }
        let Some(row) = self.selected_row() else { return };
        let reason = match self.level().pane {
            Pane::Heat => self.cursor_reason(),
            _ => None,
        };
        let scope = match (row, reason) {
            (RowId::Vm(vm), None) => Scope::Vm(vm),
            (RowId::Vm(vm) | RowId::All(vm), Some(reason)) => Scope::Reason(Who::Vm(vm), reason),
            (RowId::All(vm), None) => Scope::Reasons(Who::Vm(vm)),
            (RowId::Vcpu(key), Some(reason)) => Scope::Reason(Who::Vcpu(key), reason),
            (RowId::Vcpu(key), None) => Scope::Reasons(Who::Vcpu(key)),
            (RowId::Key(_), _) => return,
            (RowId::Reason(reason), _) => match self.level().scope {
                Scope::Reasons(who) => Scope::Reason(who, reason),
                _ => return,
            },
        };
        self.nav.open(scope);
    }

    /// Back by one: out of the help, the typing, the zoom, the level; at the host out of its filter.
    fn back(&mut self) {
        match self.mode {
            Mode::Help => self.mode = Mode::Normal,
            Mode::Filter { .. } | Mode::Limit { .. } | Mode::Seek { .. } | Mode::Mark { .. } => {
                self.leave_prompt();
            }
            Mode::Normal if self.level().zoomed => self.nav.level_mut().zoomed = false,
            Mode::Normal => {
                if !self.nav.back() {
                    self.nav.level_mut().filter = Filter::default();
                }
            }
        }
    }

    fn move_row(&mut self, by: i64) {
        let pane = self.level().pane;
        let at = to_i64(self.cursor_in(pane).unwrap_or(0)).saturating_add(by).max(0);
        self.select_in(pane, usize::try_from(at).unwrap_or(usize::MAX));
    }

    /// The cursor of a pane to one of its entries.
    fn select_in(&mut self, pane: Pane, at: usize) {
        match pane {
            Pane::Findings => {
                let found = self.scope_findings();
                let id = found.get(at.min(found.len().saturating_sub(1))).map(finding_id);
                self.nav.level_mut().finding = id;
            }
            Pane::Outliers => {
                let rows = &self.outliers().rows;
                let id = rows.get(at.min(rows.len().saturating_sub(1))).map(OutlierRow::which);
                self.nav.level_mut().outlier = id;
            }
            Pane::Table | Pane::Heat | Pane::Detail | Pane::Parts => self.select(at),
            pane => self.select_in_list(pane, at),
        }
    }

    fn select(&mut self, row: usize) {
        let last = self.row_count().saturating_sub(1);
        let row = row.min(last);
        let id = self.row_id(row);
        let level = self.nav.level_mut();
        level.selected = id;
        level.last_index = row;
    }

    fn move_column(&mut self, by: i64) {
        if self.level().pane != Pane::Heat {
            return;
        }
        let map = self.heatmap();
        let at = map.cursor.map_or(0, |(_, column)| column);
        let last = map.columns.len().saturating_sub(1);
        let at = at.saturating_add_signed(by as isize).min(last);
        let column = map.columns.get(at).map(|column| column.id);
        self.nav.level_mut().column = column;
    }

    fn select_cell(&mut self, row: usize, column: usize) {
        let id = self.heatmap().columns.get(column).map(|column| column.id);
        if self.level().panes().contains(&Pane::Heat) && id.is_some() {
            let level = self.nav.level_mut();
            level.pane = Pane::Heat;
            level.column = id;
        }
        self.select(row);
    }

    /// The reason of the heat map's column that the cursor is on.
    pub(super) fn cursor_reason(&self) -> Option<crate::model::ids::Reason> {
        let map = self.heatmap();
        let (_, column) = map.cursor?;
        match map.columns.get(column)?.id {
            ColumnId::Reason(reason) => Some(reason),
            ColumnId::Other => None,
        }
    }

    fn sort_next(&mut self) {
        let fields = self.fields();
        let now = self.level().sort.key;
        let at = fields.iter().position(|field| field.key == now);
        let next = at.map_or(0, |at| at + 1).checked_rem(fields.len());
        if let Some(field) = next.and_then(|at| fields.get(at)) {
            self.nav.level_mut().sort = Sort { key: field.key, descending: field.numeric };
        }
    }

    fn sort_by(&mut self, key: &str) {
        let fields = self.fields();
        let Some(field) = fields.iter().find(|field| field.key == key) else { return };
        let sort = &mut self.nav.level_mut().sort;
        *sort = if sort.key == field.key {
            Sort { descending: !sort.descending, ..*sort }
        } else {
            Sort { key: field.key, descending: field.numeric }
        };
    }

    fn filter_edit(&mut self, text: String) {
        if !matches!(self.mode, Mode::Filter { .. }) {
            self.filter_before = self.level().filter.clone();
        }
        let error = match Filter::parse(&text, &self.fields()) {
            Ok(filter) => {
                self.nav.level_mut().filter = filter;
                None
            }
            Err(error) => Some(error),
        };
        self.mode = Mode::Filter { text, error };
    }

    fn filter_accept(&mut self) {
        if matches!(&self.mode, Mode::Filter { error: None, .. }) {
            self.mode = Mode::Normal;
        }
    }

    fn filter_cancel(&mut self) {
        if matches!(self.mode, Mode::Filter { .. }) {
            self.nav.level_mut().filter = std::mem::take(&mut self.filter_before);
            self.mode = Mode::Normal;
        }
    }

    /// The threshold being typed, and what is wrong with it.
    fn limit_edit(&mut self, text: String) {
        self.filter_cancel();
        let error = self.limits_of(&text).err();
        self.mode = Mode::Limit { text, error };
    }

    fn limits_of(&self, text: &str) -> Result<OutlierLimits, String> {
        if text.trim().is_empty() {
            return Ok(self.outlier_limits.clone());
        }
        outlier::limits(&outlier::parse_outliers(text)?, &self.session.names)
    }

    fn limit_accept(&mut self) -> Option<Effect> {
        let Mode::Limit { text, .. } = &self.mode else { return None };
        let limits = self.limits_of(text).ok()?;
        self.mode = Mode::Normal;
        self.outlier_limits = limits.clone();
        Some(Effect::Outliers(limits))
    }

    /// Forgets what was being typed.
    pub(super) fn leave_prompt(&mut self) {
        self.filter_cancel();
        if matches!(self.mode, Mode::Limit { .. } | Mode::Seek { .. } | Mode::Mark { .. }) {
            self.mode = Mode::Normal;
        }
    }

    fn next_pane(&mut self) {
        let level = self.nav.level_mut();
        let panes = level.panes();
        let at = panes.iter().position(|&pane| pane == level.pane).map_or(0, |at| at + 1);
        if let Some(&pane) = panes.get(at % panes.len().max(1)) {
            level.pane = pane;
        }
    }

    fn clear_gone(&mut self) {
        let Some(shown) = self.moments.shown() else { return };
        let now = shown.tick.end_ns;
        self.entities.clear_gone(now);
        let entities = &self.entities;
        let there = |vm| entities.vms.get(&vm).is_some_and(|vm| vm.span.ended_at(now).is_none());
        self.nav.retain(there);
    }

    /// Goes where the finding or the slow exit under the cursor points. What is behind a reason
    /// is in the Exits tab.
    fn open_entry(&mut self) {
        let scope = match self.level().pane {
            Pane::Findings => self.selected_finding().map(|found| target(&found)),
            _ => self
                .selected_outlier()
                .map(|row| Scope::Reason(Who::Vcpu(row.outlier.key), row.outlier.reason)),
        };
        let Some(scope) = scope else { return };
        self.nav.go(scope);
        if matches!(scope, Scope::Reason(..)) {
            self.nav.turn(Tab::Exits);
        }
    }

    /// Goes where the entry of a list points.
    fn open_in_list(&mut self, pane: Pane) {
        let Some((scope, tab)) = self.list_target(pane) else { return };
        self.nav.go(scope);
        self.nav.turn(tab);
    }

    /// The selected row as text.
    fn copied(&self) -> Option<String> {
        let at = self.cursor();
        match self.level().pane {
            Pane::Findings => return self.selected_finding().map(|found| finding_text(&found)),
            Pane::Outliers => return self.selected_outlier().map(save::line),
            Pane::Parts => return self.time_detail().map(|detail| detail.text()),
            Pane::Table | Pane::Heat | Pane::Detail => {}
            pane => return self.list_copied(pane),
        }
        match self.level().scope {
            Scope::Host => self.vm_rows().get(at?).map(save::line),
            Scope::Vm(_) => self.vcpu_rows().get(at?).map(save::line),
            Scope::Reasons(_) => self.reason_rows().get(at?).map(save::line),
            Scope::Reason(..) => {
                let detail = self.reason_detail()?;
                let (label, row) = (save::clean(&detail.label), &detail.row);
                Some(match at.and_then(|at| self.key_rows().get(at)) {
                    Some(key) => format!("{label}  {}  {}", row.name, save::line(key)),
                    None => format!("{label}  {}", save::line(row)),
                })
            }
        }
    }

    /// The level's rows for a file.
    fn saved(&self) -> Option<SavedView> {
        let crumbs = self.breadcrumb();
        let labels: Vec<&str> = crumbs.iter().map(|crumb| crumb.label.as_str()).collect();
        let position = self.header().position;
        let name = save::file_name(&labels);
        let title = format!(
            "{} at {:.3} (seconds since the Unix epoch), tick {} of {}",
            labels.join(" > "),
            position.end_unix_ns as f64 / 1e9,
            position.seq,
            super::value::duration(position.dur_ns),
        );
        match self.level().pane {
            Pane::Outliers => {
                let rows = &self.outliers().rows;
                return Some(save::view(format!("{name}-outliers"), &title, rows));
            }
            Pane::Table | Pane::Heat | Pane::Detail | Pane::Parts | Pane::Findings => {}
            pane => return Some(self.list_saved(pane, name, &title)),
        }
        match self.level().scope {
            Scope::Host => Some(save::view(name, &title, self.vm_rows())),
            Scope::Vm(_) => Some(save::view(name, &title, self.vcpu_rows())),
            Scope::Reasons(_) => Some(save::view(name, &title, self.reason_rows())),
            Scope::Reason(..) => {
                let detail = self.reason_detail()?;
                let view = save::view(name, &title, std::slice::from_ref(&detail.row));
                Some(save::with(save::with(view, self.key_rows()), self.rip_rows()))
            }
        }
    }
}

/// A number of rows or ticks; more than there can be is the same as all.
fn to_i64(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
