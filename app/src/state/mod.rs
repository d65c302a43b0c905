//! The application's state: pure, no I/O, no clock.
