//! The terminal: taken once, restored exactly once, and the event loop.
