//! What `/proc/kallsyms` says of the kernel's functions: why one cannot be probed, and names for stacks.

use super::plan::functions::absent;
use crate::{
    model::{stack::Frame, tick::Tick},
    symbols::kallsyms::{HostSymbols, named},
};

/// Why none of these functions can be probed, which the kernel says it does not have.
pub fn why_absent(functions: &[&str]) -> String {
    let text = read().unwrap_or_default();
    absent(functions, &functions.iter().flat_map(|function| named(&text, function)).collect())
}

fn read() -> Result<String, String> {
    // Lossy: a symbol of a module can be called anything.
    std::fs::read("/proc/kallsyms")
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .map_err(|error| {
            format!("the kernel's functions are shown by address: /proc/kallsyms could not be read: {error}")
        })
}

/// The running kernel's symbols, read when the first stack asks for them.
#[derive(Debug, Default)]
pub struct Names {
    symbols: Option<HostSymbols>,
    tried: bool,
    /// Why stacks stay without names, until that is told.
    why: Option<String>,
}

impl Names {
    /// Names the frames of a tick's stacks.
    pub fn fill(&mut self, tick: &mut Tick) {
        if tick.stacks.is_empty() {
            return;
        }
        if !std::mem::replace(&mut self.tried, true) {
            match read().and_then(|text| HostSymbols::parse(&text)) {
                Ok(symbols) => self.symbols = Some(symbols),
                Err(sentence) => self.why = Some(sentence),
            }
        }
        if let Some(symbols) = &self.symbols {
            for stack in &mut tick.stacks {
                for (depth, Frame { address, symbol }) in stack.frames.iter_mut().enumerate() {
                    *symbol = symbols.name(*address, depth > 0);
                }
            }
        }
    }

    /// Why they stay without names, once.
    pub fn notice(&mut self) -> Option<String> {
        self.why.take()
    }
}
