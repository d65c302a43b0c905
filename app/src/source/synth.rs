//! A source that invents a busy host: for the screen without KVM, for tests and benchmarks.
