//! Calls of kernel functions in the probe object.
//!
//! Such a call names the function by its number in the running kernel's BTF. aya relocates maps and its own
//! functions but not these, so the object carries a number of its own, which is replaced before it is loaded.

/// `call bpf_rdonly_cast` as the probes have it (`probes/src/record.rs`): opcode, `BPF_PSEUDO_KFUNC_CALL`, offset 0
/// for vmlinux, and "cast" for the number.
const PLACEHOLDER: [u8; 8] = [0x85, 0x20, 0, 0, b'c', b'a', b's', b't'];

/// The object with every call of `bpf_rdonly_cast` going to the function with this number.
pub fn with_rdonly_cast(object: &[u8], function: u32) -> Vec<u8> {
    let mut patched = object.to_vec();
    // Instructions are eight bytes long and sections of them are aligned so.
    for instruction in patched.chunks_exact_mut(8).filter(|bytes| **bytes == PLACEHOLDER) {
        instruction[4..].copy_from_slice(&function.to_le_bytes());
    }
    patched
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_calls_change() {
        let mut object = vec![7; 8];
        object.extend(PLACEHOLDER);
        object.extend([9; 8]);
        let patched = with_rdonly_cast(&object, 0x0102_0304);
        assert_eq!(patched[..8], [7; 8]);
        assert_eq!(patched[8..16], [0x85, 0x20, 0, 0, 4, 3, 2, 1]);
        assert_eq!(patched[16..], [9; 8]);
    }

    #[test]
    fn the_object_has_calls_to_change() {
        let object =
            include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/kvmscope.bpf.o"));
        assert_ne!(
            with_rdonly_cast(object, 1),
            object,
            "the placeholder is not where it is looked for"
        );
    }
}
