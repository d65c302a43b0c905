//! Whole-state tests.
