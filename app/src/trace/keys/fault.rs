//! Kinds of page faults in words.

use kvmscope_shared::detail::fault;
use std::borrow::Cow;

/// What a number of [`fault`] means.
pub(super) fn name(kind: u64) -> Option<Cow<'static, str>> {
    let name = match kind {
        fault::ABSENT => "first touch",
        fault::WRITE_PROTECTED => "write-protected",
        fault::EXEC => "not executable",
        fault::READ => "not readable",
        fault::WALK => "guest page walk",
        fault::MMIO => "MMIO",
        fault::OTHER => "other",
        _ => return None,
    };
    Some(name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = (0..=fault::OTHER).filter_map(name).collect();
        assert_eq!(names.len() as u64, fault::OTHER + 1);
        assert_eq!(name(fault::OTHER + 1), None);
    }
}
