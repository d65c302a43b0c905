//! The test guest: a small KVM guest that makes an exact number of exits of each kind.
