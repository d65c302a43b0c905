//! What crosses the kernel boundary: the probes write it, the program reads it.
//!
//! Everything here is `repr(C)`, integers only, zero is "unset", and sizes are asserted, because
//! both sides are compiled by different compilers for different targets. Nothing here allocates.
#![no_std]

pub mod cell;
pub mod column;
pub mod conf;
pub mod detail;
pub mod event;
pub mod fault;
pub mod hist;
pub mod ioctl;
pub mod keys;
pub mod meters;
pub mod route;
pub mod slot;
pub mod stacks;
pub mod waits;

/// Implements `Default` as all-zero, which is what a fresh BPF array holds.
macro_rules! zeroed {
    ($t:ty, $v:expr) => {
        impl Default for $t {
            fn default() -> Self {
                $v
            }
        }
    };
}
pub(crate) use zeroed;
