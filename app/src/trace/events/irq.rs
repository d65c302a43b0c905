//! Interrupts, timers and wake-ups in words.

use crate::model::event::Event;

/// Its arguments, until there are words for them.
pub fn what(event: &Event) -> String {
    format!("{:x?}", event.args)
}
