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
        let times = count(totals.dirty_elsewhere);
        line!(out, "\nThreads that are no vCPUs marked pages as dirty {times} times.");
    }
    if totals.stacks.is_empty() && totals.stacks_left_out == 0 {
        return;
    }
    let shown = totals.stacks.iter().take(STACKS);
    let rest = totals.stacks.iter().skip(STACKS).map(|stack| stack.count);
    let left_out = rest.fold(totals.stacks_left_out, u64::saturating_add);
    let more = match left_out {
        0 => String::new(),
        _ => format!(" ({} calls with stacks that are not shown)", count(left_out)),
    };
    line!(out, "\nWho called, most calls first{more}:");
    for stack in shown {
        let StackTick { of, vm, pid, count: calls, frames } = stack;
        let vm = vm.and_then(|vm| totals.vms.get(&vm)).map(|vm| clean(&vm.info.name));
        let whose = vm.map_or_else(|| format!("process {pid}"), |name| format!("VM {name}"));
        let times = if *calls == 1 { "call" } else { "calls" };
        line!(out, "  {} {times} of {}  {whose}", count(*calls), of.word());
        for frame in frames {
            line!(out, "      {}", words(frame));
        }
    }
}

fn words(Frame { address, symbol }: &Frame) -> String {
    if symbol.is_empty() { format!("{address:#018x}") } else { clean(symbol) }
}
