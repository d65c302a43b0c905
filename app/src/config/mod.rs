//! Configuration: keys, theme, columns.
