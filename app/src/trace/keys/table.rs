//! Sorted tables of names, and how to look one up.

use std::borrow::Cow;

/// Neighbouring numbers and their names.
pub(super) struct Run {
    /// The first number.
    pub first: u64,
    /// The last, inclusive.
    pub last: u64,
    /// The names, which repeat where the run is longer; `@` stands for how often they have.
    pub names: &'static [&'static str],
}

/// As many numbers from `first` on as there are names.
pub(super) const fn from(first: u64, names: &'static [&'static str]) -> Run {
    Run { first, last: first + names.len() as u64 - 1, names }
}

/// `first` to `last`, named in turn.
pub(super) const fn run(first: u64, last: u64, names: &'static [&'static str]) -> Run {
    Run { first, last, names }
}

/// The name of `value` in a table that is sorted and does not overlap; see the tests.
pub(super) fn find(table: &'static [Run], value: u64) -> Option<Cow<'static, str>> {
    let after = table.partition_point(|run| run.first <= value);
    let run = table.get(after.checked_sub(1)?).filter(|run| value <= run.last)?;
    let offset = value - run.first;
    let count = u64::try_from(run.names.len()).ok().filter(|&count| count > 0)?;
    let name = *run.names.get(usize::try_from(offset % count).ok()?)?;
    Some(match name.split_once('@') {
        Some((before, after)) => Cow::Owned(format!("{before}{}{after}", offset / count)),
        None => Cow::Borrowed(name),
    })
}

#[cfg(test)]
pub(super) fn assert_sound(table: &[Run]) {
    for run in table {
        assert!(run.first <= run.last, "{:#x}", run.first);
        assert!(!run.names.is_empty(), "{:#x}", run.first);
        assert!(run.names.iter().all(|name| !name.is_empty()), "{:#x}", run.first);
        let length = run.last - run.first + 1;
        assert!(run.names.len() as u64 <= length, "{:#x} has names too many", run.first);
    }
    for pair in table.windows(2) {
        assert!(pair[0].last < pair[1].first, "{:#x} then {:#x}", pair[0].last, pair[1].first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static TABLE: &[Run] =
        &[from(2, &["two"]), run(10, 15, &["base @", "mask @"]), run(20, 29, &["all"])];

    #[test]
    fn names_repeat_and_are_counted() {
        let name = |value| find(TABLE, value);
        assert_eq!(name(2).as_deref(), Some("two"));
        assert_eq!(name(10).as_deref(), Some("base 0"));
        assert_eq!(name(15).as_deref(), Some("mask 2"));
        assert_eq!(name(29).as_deref(), Some("all"));
        for none in [0, 1, 3, 9, 16, 30, u64::MAX] {
            assert_eq!(name(none), None, "{none}");
        }
    }
}
