//! Which VM a process is: its name and kind of VMM, from `/proc`.
