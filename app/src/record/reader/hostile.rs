//! Files that are not as they were written: whatever the bytes, nothing panics, and what is handed out was written.

use super::tests::{opened, places, streamed};
use crate::model::testing::any_tick;
use crate::model::tick::Tick;
use crate::record::frame::{FRAME, FileHeader, Framer, Kind};
use crate::record::testing::{EVERY, options, recorded, session, small};
use crate::record::{Item, ReadError, Writer};
use proptest::prelude::*;
use std::sync::OnceLock;

/// A recording of a small host, with keys in it, what it was made of, and all that is read of it.
fn sample() -> &'static (Vec<Tick>, Vec<u8>, Vec<Item>) {
    static SAMPLE: OnceLock<(Vec<Tick>, Vec<u8>, Vec<Item>)> = OnceLock::new();
    SAMPLE.get_or_init(|| {
        let ticks = small(EVERY + 3);
        let bytes = recorded(&ticks);
        let items = streamed(&bytes).expect("read");
        (ticks, bytes, items)
    })
}

/// Whether everything that is handed out was written, in its order: ticks and marks as they were, keys as
/// the state at a key, gaps and an end of whatever kind.
fn is_of(items: &[Item], ticks: &[Tick]) -> bool {
    let mut left = ticks.iter();
    items.iter().all(|item| match item {
        Item::Tick(tick) => left.any(|written| *written == **tick),
        Item::Session(told) => **told == session(),
        Item::Mark(mark) => mark.text == "here",
        Item::Key(key) => {
            let mut totals = crate::model::totals::Totals::default();
            ticks.iter().take(key.totals.ticks as usize).for_each(|tick| totals.apply(tick));
            key.totals == totals
        }
        Item::Gap(gap) => !gap.why.is_empty() && gap.from_ns <= gap.until_ns,
        Item::End(_) => true,
    })
}

/// Both ways to read it; what they hand out.
fn read(bytes: &[u8]) -> Result<[Vec<Item>; 2], ReadError> {
    let forwards = streamed(bytes);
    let anywhere = opened(bytes).and_then(|recording| {
        let _ = recording.key_before(u64::MAX);
        recording.items(0, u64::MAX).collect::<Result<Vec<Item>, ReadError>>()
    });
    Ok([forwards?, anywhere?])
}

/// Checks the first so many bytes of a recording, of which the ticks are known, and where each ends.
fn check_prefix(bytes: &[u8], length: usize, ticks: &[Tick], ends: &[usize]) {
    let Ok([forwards, anywhere]) = read(&bytes[..length]) else {
        // Nothing can be said of it before the session and the first key are whole.
        assert!(length < places(bytes, Kind::Tick)[0], "{length}");
        return;
    };
    let whole = ends.iter().filter(|&&end| end <= length).count();
    for items in [&forwards, &anywhere] {
        assert!(is_of(items, ticks), "{length}");
        let read = items.iter().filter(|item| matches!(item, Item::Tick(_))).count();
        assert_eq!(read, whole, "{length}");
        assert!(matches!(items.last(), Some(Item::End(end)) if !end.clean), "{length}");
    }
}

/// Where payloads of a kind begin, and where they end.
fn payloads(bytes: &[u8], kind: Kind) -> Vec<(usize, usize)> {
    let stored = |at: usize| bytes[at + 8..].first_chunk().map(|n| u32::from_le_bytes(*n));
    let payload = |at: usize| (at + FRAME, at + FRAME + stored(at).expect("a length") as usize);
    places(bytes, kind).into_iter().map(payload).collect()
}

fn ends(bytes: &[u8]) -> Vec<usize> {
    payloads(bytes, Kind::Tick).into_iter().map(|(_, end)| end).collect()
}

#[test]
fn every_prefix_is_the_ticks_that_are_whole_in_it() {
    let ticks = small(1);
    let bytes = recorded(&ticks);
    let ends = ends(&bytes);
    (0..bytes.len()).for_each(|length| check_prefix(&bytes, length, &ticks, &ends));
}

#[test]
fn prefixes_that_end_near_a_border_are_the_ticks_that_are_whole_in_them() {
    let (ticks, bytes, _) = sample();
    let ends = ends(bytes);
    let kinds = [Kind::Tick, Kind::Key, Kind::Mark, Kind::Index, Kind::Trailer];
    let payloads = kinds.into_iter().flat_map(|kind| payloads(bytes, kind));
    let borders: Vec<usize> = payloads.flat_map(|(from, to)| [from - FRAME, from, to]).collect();
    let near = |length: usize| borders.iter().any(|&border| length.abs_diff(border) < 2);
    // Each length near the borders of frames, and every few others.
    for length in (0..bytes.len()).filter(|&length| length % 499 == 0 || near(length)) {
        check_prefix(bytes, length, ticks, &ends);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_flipped_byte_loses_something_or_nothing_and_invents_nothing(
        at in any::<prop::sample::Index>(),
        flip in 1u8..,
    ) {
        let (ticks, bytes, whole) = sample();
        let mut bytes = bytes.clone();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        match read(&bytes) {
            // The header, or the only session.
            Err(_) => prop_assert!(at < places(&sample().1, Kind::Key)[0]),
            Ok(both) => for items in both {
                prop_assert!(is_of(&items, ticks), "{} at {}", flip, at);
                let lost = items.iter().filter(|item| matches!(item, Item::Tick(_))).count() < ticks.len();
                let told = items.iter().any(|item| matches!(item, Item::Gap(_)));
                prop_assert!(!lost || told, "byte {} of {}: lost and not told", at, whole.len());
            },
        }
    }

    #[test]
    fn any_cut_out_or_doubled_stretch_invents_nothing(
        at in any::<prop::sample::Index>(),
        length in 1usize..3000,
        doubled in any::<bool>(),
    ) {
        let (ticks, bytes, _) = sample();
        let at = at.index(bytes.len());
        let until = (at + length).min(bytes.len());
        let middle = if doubled { &bytes[at..until] } else { &[][..] };
        let other = [&bytes[..until - (until - at) * usize::from(!doubled)], middle, &bytes[until..]].concat();
        if let Ok(both) = read(&other) {
            for items in both {
                prop_assert!(is_of(&items, ticks));
            }
        }
    }

    #[test]
    fn any_bytes_after_a_header_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        let header = FileHeader { id: *b"a test recording", number: 0 }.bytes();
        let _ = read(&[&header[..], &bytes].concat());
        let _ = read(&bytes);
    }

    /// Frames that are whole, with anything in them: as somebody would forge them.
    #[test]
    fn forged_frames_are_read_or_refused(
        frames in prop::collection::vec((1u8..12, any::<u64>(), prop::collection::vec(any::<u8>(), 0..300)), 0..6),
        version in any::<bool>(),
    ) {
        let mut framer = Framer::new(*b"a test recording").expect("made");
        let begin = recorded(&[]);
        let trailer = places(&begin, Kind::Index)[0];
        let mut all = begin[..trailer].to_vec();
        // Frames count on from those of the beginning.
        for _ in 0..2 {
            framer.frame(Kind::Clock, 0, &[]).expect("small");
        }
        for (kind, t_ns, payload) in &frames {
            let Some(kind) = Kind::from_number(*kind) else { continue };
            let mut payload = payload.clone();
            if version && matches!(kind, Kind::Tick | Kind::Key) {
                payload.insert(0, crate::model::codec::VERSION);
            }
            all.extend_from_slice(framer.frame(kind, *t_ns, &payload).expect("small"));
        }
        if let Ok(both) = read(&all) {
            for items in both {
                let mut totals = crate::model::totals::Totals::default();
                for item in &items {
                    if let Item::Tick(tick) = item {
                        totals.apply(tick);
                    }
                }
            }
        }
    }
}

proptest! {
    // Such ticks have everything in them, which takes long to make.
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_ticks_are_what_they_were(ticks in prop::collection::vec(any_tick(), 0..4)) {
        let mut writer = Writer::new(Vec::new(), &session(), options()).expect("made");
        ticks.iter().for_each(|tick| writer.tick(tick).expect("written"));
        let items = streamed(&writer.finish(None).expect("finished")).expect("read");
        let read: Vec<&Tick> = items.iter().filter_map(|item| match item {
            Item::Tick(tick) => Some(&**tick),
            _ => None,
        }).collect();
        prop_assert_eq!(read, ticks.iter().collect::<Vec<_>>());
    }
}
