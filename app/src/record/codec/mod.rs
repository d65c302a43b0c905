//! What is in frames, as bytes (postcard). `docs/recording.md` describes each kind and its versions.
//!
//! A tick is what history keeps ([`crate::model::codec`]), under that format's number. What occurs in ticks is
//! written in keys as it is there, so that number stands at the beginning of a key too. Everything else has structs
//! of its own here, which never change: a change is a new struct, with the next version of its kind.

mod key;
mod meta;
mod small;
mod tick;

pub use key::{get_key, put_key};
pub use meta::{get_meta, put_meta};
pub use small::{
    Index, LostTicks, Place, get_clock, get_index, get_lost, get_mark, get_trailer, put_clock,
    put_index, put_lost, put_mark, put_trailer,
};
pub use tick::{get_brief, get_tick, put_tick};

use serde::{Serialize, de::DeserializeOwned};

/// Bytes of a value. Fails never with output that grows.
fn put<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).unwrap_or_default()
}

/// A value of bytes that are nothing else; `None` when they are not.
fn get<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (value, rest) = postcard::take_from_bytes(bytes).ok()?;
    rest.is_empty().then_some(value)
}
