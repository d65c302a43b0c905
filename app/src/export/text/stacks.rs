//! Who called the function that was chosen (family `roots`).

use super::line;
use crate::export::Content;
use crate::model::stack::{Frame, StackTick};
use crate::state::save::clean;
use crate::state::value::count;

/// Stacks that are shown; JSON has more.
const STACKS: usize = 10;

/// Kernel stacks, most calls first; and what threads dirtied that are no vCPUs.
pub fn stacks(out: &mut String, content: &Content<'_>) {
    let totals = content.totals;
    if totals.dirty_elsewhere > 0 {
        let pages = totals.dirty_elsewhere;
        line!(out, "\nThreads that are no vCPUs marked {pages} pages as dirty.");
    }
    if totals.stacks.is_empty() && totals.stacks_left_out == 0 {
        return;
    }
    let shown = totals.stacks.iter().take(STACKS);
    let rest = totals.stacks.iter().skip(STACKS).map(|stack| stack.count);
    let left_out = rest.fold(totals.stacks_left_out, u64::saturating_add);
    let more = if left_out == 0 { String::new() } else { format!(" ({left_out} calls more)") };
    line!(out, "\nWho called{more}:");
    for stack in shown {
        let StackTick { of, vm, pid, count: calls, frames } = stack;
        let vm = vm.and_then(|vm| totals.vms.get(&vm)).map(|vm| clean(&vm.info.name));
        let whose = vm.map_or_else(|| format!("process {pid}"), |name| format!("VM {name}"));
        line!(out, "  {} {}  {whose}", count(*calls), of.word());
        for frame in frames {
            line!(out, "      {}", words(frame));
        }
    }
}

fn words(Frame { address, symbol }: &Frame) -> String {
    if symbol.is_empty() { format!("{address:#018x}") } else { clean(symbol) }
}
