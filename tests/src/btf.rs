//! Changing what a kernel says about its types, so that a program made by it is refused.

/// Words of `struct btf_type` (include/uapi/linux/btf.h): name, info, size or type.
const HEAD: usize = 12;
/// Words of `struct btf_member`: name, type, offset in bits.
const MEMBER: usize = 12;
const KIND_STRUCT: u32 = 4;

/// The BTF in which a struct's member lies at another byte; `None` where there is no such member.
pub fn move_member(mut btf: Vec<u8>, of: &str, member: &str, byte: u32) -> Option<Vec<u8>> {
    let header = word(&btf, 4)? as usize;
    let types = header + word(&btf, 8)? as usize;
    let end = types + word(&btf, 12)? as usize;
    let strings = header + word(&btf, 16)? as usize;
    let mut at = types;
    while at < end {
        let (name, info) = (word(&btf, at)?, word(&btf, at + 4)?);
        let (kind, count) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
        if kind == KIND_STRUCT && is(&btf, strings, name, of) {
            let members = (0..count).map(|nth| at + HEAD + nth * MEMBER);
            for place in members {
                if is(&btf, strings, word(&btf, place)?, member) {
                    let bits = byte.checked_mul(8)?.to_le_bytes();
                    btf.get_mut(place + 8..place + 12)?.copy_from_slice(&bits);
                    return Some(btf);
                }
            }
        }
        at += HEAD + after_head(kind, count);
    }
    None
}

/// Bytes that follow the head of a type, by its kind (`BTF_KIND_*`).
fn after_head(kind: u32, count: usize) -> usize {
    match kind {
        // INT, VAR, DECL_TAG
        1 | 14 | 17 => 4,
        // ARRAY
        3 => 12,
        // STRUCT, UNION
        4 | 5 => count * MEMBER,
        // ENUM, FUNC_PROTO
        6 | 13 => count * 8,
        // DATASEC, ENUM64
        15 | 19 => count * 12,
        _ => 0,
    }
}

fn word(btf: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(btf.get(at..at + 4)?.try_into().ok()?))
}

fn is(btf: &[u8], strings: usize, name: u32, text: &str) -> bool {
    let place = strings + name as usize;
    btf.get(place..place + text.len()) == Some(text.as_bytes())
        && btf.get(place + text.len()) == Some(&0)
}
