//! Kernel stacks as JSON (family `roots`).

use crate::model::stack::{Frame, StackTick};
use serde::Serialize;

/// Calls of a function with one stack.
#[derive(Debug, Serialize)]
pub struct Stack<'a> {
    function: &'static str,
    vm: Option<u32>,
    pid: u32,
    count: u64,
    frames: Vec<Place<'a>>,
}

#[derive(Debug, Serialize)]
struct Place<'a> {
    address: u64,
    symbol: Option<&'a str>,
}

impl<'a> Stack<'a> {
    /// Of what was added up.
    pub fn new(stack: &'a StackTick) -> Self {
        let place = |Frame { address, symbol }: &'a Frame| Place {
            address: *address,
            symbol: Some(symbol.as_str()).filter(|symbol| !symbol.is_empty()),
        };
        Self {
            function: stack.of.word(),
            vm: stack.vm.map(|vm| vm.0),
            pid: stack.pid,
            count: stack.count,
            frames: stack.frames.iter().map(place).collect(),
        }
    }
}
