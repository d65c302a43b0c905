//! What the hardware says about an exit besides its reason.

use crate::model::ids::Reason;

/// Its two words as numbers; nothing where both are 0.
pub fn words(_reason: Reason, info1: u64, info2: u64) -> Vec<String> {
    [("info1", info1), ("info2", info2)]
        .into_iter()
        .filter(|(_, value)| *value != 0)
        .map(|(name, value)| format!("{name} {value:#x}"))
        .collect()
}
