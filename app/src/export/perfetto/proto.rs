//! The part of Perfetto's trace format (`protos/perfetto/trace` of its sources) that is written here. The numbers
//! of fields are its own.

use micropb::{PbEncoder, Tag, WIRE_TYPE_I64, WIRE_TYPE_LEN, WIRE_TYPE_VARINT};
use std::convert::Infallible;

/// The probes' clock.
pub const CLOCK_MONOTONIC: u64 = 3;
/// Wall time.
pub const CLOCK_REALTIME: u64 = 1;
/// What starts at boot and goes on in suspend.
pub const CLOCK_BOOTTIME: u64 = 6;

/// What kinds of events there are.
pub mod kind {
    /// Something begins.
    pub const BEGIN: u64 = 1;
    /// What began last on the track ends.
    pub const END: u64 = 2;
    /// Something without a length.
    pub const INSTANT: u64 = 3;
    /// A counter changes.
    pub const COUNTER: u64 = 4;
}

/// A message that is being made.
#[derive(Debug, Default)]
struct Fields(Vec<u8>);

impl Fields {
    /// Writes with the encoder; memory takes everything.
    fn put(&mut self, write: impl FnOnce(&mut PbEncoder<&mut Vec<u8>>) -> Result<(), Infallible>) {
        match write(&mut PbEncoder::new(&mut self.0)) {
            Ok(()) => {}
            Err(never) => match never {},
        }
    }

    fn number(mut self, field: u32, value: impl Into<Option<u64>>) -> Self {
        if let Some(value) = value.into() {
            self.put(|out| {
                out.encode_tag(Tag::from_parts(field, WIRE_TYPE_VARINT))?;
                out.encode_varint64(value)
            });
        }
        self
    }

    fn double(mut self, field: u32, value: Option<f64>) -> Self {
        if let Some(value) = value {
            self.put(|out| {
                out.encode_tag(Tag::from_parts(field, WIRE_TYPE_I64))?;
                out.encode_double(value)
            });
        }
        self
    }

    fn bytes(mut self, field: u32, bytes: &[u8]) -> Self {
        self.put(|out| {
            out.encode_tag(Tag::from_parts(field, WIRE_TYPE_LEN))?;
            out.encode_bytes(bytes)
        });
        self
    }

    fn text(self, field: u32, text: Option<&str>) -> Self {
        match text {
            Some(text) => self.bytes(field, text.as_bytes()),
            None => self,
        }
    }

    fn message(self, field: u32, message: Option<Self>) -> Self {
        match message {
            Some(message) => self.bytes(field, &message.0),
            None => self,
        }
    }
}

/// A name and a value (`DebugAnnotation`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    name: String,
    value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Number(u64),
    Text(String),
}

impl Note {
    /// A number.
    pub fn number(name: &str, value: u64) -> Self {
        Self { name: name.to_owned(), value: Value::Number(value) }
    }

    /// A text.
    pub fn text(name: &str, value: impl Into<String>) -> Self {
        Self { name: name.to_owned(), value: Value::Text(value.into()) }
    }

    fn fields(&self) -> Fields {
        let fields = Fields::default().text(10, Some(&self.name));
        match &self.value {
            Value::Number(number) => fields.number(3, *number),
            Value::Text(text) => fields.text(6, Some(text)),
        }
    }
}

/// Something on a track (`TrackEvent`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Event {
    /// A number of [`kind`].
    pub kind: u64,
    /// On which track.
    pub track: u64,
    /// What it is called.
    pub name: Option<String>,
    /// What else it says.
    pub notes: Vec<Note>,
    /// The value of a counter.
    pub value: Option<f64>,
}

impl Event {
    fn fields(&self) -> Fields {
        let fields = Fields::default()
            .number(9, self.kind)
            .number(11, self.track)
            .text(23, self.name.as_deref())
            .double(44, self.value);
        self.notes.iter().fold(fields, |fields, note| fields.message(4, Some(note.fields())))
    }
}

/// A row of the screen (`TrackDescriptor`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Its number.
    pub track: u64,
    /// The row that it is below.
    pub parent: Option<u64>,
    /// What it is called.
    pub name: String,
    /// Of a counter: what one of it is.
    pub unit: Option<&'static str>,
    /// Whether the rows below it are in the order of their ranks.
    pub is_ranked: bool,
    /// Its rank among its siblings.
    pub rank: Option<i32>,
}

impl Row {
    fn fields(&self) -> Fields {
        let counter = self.unit.map(|unit| Fields::default().text(6, Some(unit)));
        // A negative number is written as one of 64 bits.
        let rank = self.rank.map(|rank| i64::from(rank) as u64);
        Fields::default()
            .number(1, self.track)
            .number(5, self.parent)
            .text(2, Some(&self.name))
            .message(8, counter)
            .number(11, self.is_ranked.then_some(3))
            .number(12, rank)
    }
}

/// We are the only writer of a trace.
const SEQUENCE: u64 = 1;

/// A packet by itself: a trace is nothing but packets one after the other.
fn packet(fields: Fields) -> Vec<u8> {
    Fields::default().message(1, Some(fields.number(10, SEQUENCE))).0
}

/// A row is there.
pub fn row(row: &Row) -> Vec<u8> {
    packet(Fields::default().message(60, Some(row.fields())))
}

/// Something happened, at ns of the probes' clock.
pub fn event(at_ns: u64, event: &Event) -> Vec<u8> {
    let at = Fields::default().number(8, at_ns).number(58, CLOCK_MONOTONIC);
    packet(at.message(11, Some(event.fields())))
}

/// The begin of a trace, and what clocks (their numbers, and ns) said at one moment. It goes by the probes'.
pub fn begin(at_ns: u64, clocks: &[(u64, u64)]) -> Vec<u8> {
    let clock = |(id, ns): &(u64, u64)| Fields::default().number(1, *id).number(2, *ns);
    let snapshot = clocks
        .iter()
        .fold(Fields::default(), |fields, known| fields.message(1, Some(clock(known))))
        .number(2, CLOCK_MONOTONIC);
    let at = Fields::default().number(8, at_ns).number(58, CLOCK_MONOTONIC).number(13, 1);
    packet(at.message(6, Some(snapshot)))
}
