//! What tracefs says about the kernel's tracepoints: record layouts and names.
