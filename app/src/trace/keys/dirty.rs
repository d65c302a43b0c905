//! Counters of the dirty log in words.

use kvmscope_shared::detail::dirty;
use std::borrow::Cow;

/// What a number of [`dirty`] means.
pub(super) fn name(counter: u64) -> Option<Cow<'static, str>> {
    let name = match counter {
        dirty::MARKED => "marked",
        dirty::FRESH => "pages",
        dirty::NOT_LOGGED => "not logged",
        dirty::PML_FULL => "PML full",
        dirty::RING_PUSH => "ring pushes",
        dirty::RING_FULL => "ring full exits",
        _ => return None,
    };
    Some(name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> =
            (0..dirty::COUNT as u64).filter_map(name).collect();
        assert_eq!(names.len() as u64, dirty::RING_FULL + 1);
    }
}
