//! For libFuzzer: any bytes, as a recording.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kvmscope_fuzz::try_to_read(bytes));
