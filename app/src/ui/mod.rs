//! Drawing: reads state, changes nothing.
