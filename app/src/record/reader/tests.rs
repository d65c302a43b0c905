//! What was written is read, whole or damaged, forwards or anywhere.

use crate::model::tick::{Lost, Tick};
use crate::model::totals::Totals;
use crate::record::frame::{FRAME, HEADER, Kind};
use crate::record::testing::{EVERY, options, recorded, session, small, synthetic};
use crate::record::{
    End, Gap, Item, KEY_EVERY, Mark, Options, ReadError, Recording, Stream, Writer,
};
use std::io::Write as _;

const SECOND: u64 = 1_000_000_000;

/// Everything of a stream.
pub fn streamed(bytes: &[u8]) -> Result<Vec<Item>, ReadError> {
    let mut stream = Stream::new(bytes)?;
    let mut items = Vec::new();
    loop {
        let item = stream.next()?;
        let is_end = matches!(item, Item::End(_));
        items.push(item);
        if is_end {
            return Ok(items);
        }
    }
}

pub fn opened(bytes: &[u8]) -> Result<Recording, ReadError> {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(bytes).expect("written");
    Recording::open(file.path())
}

fn ticks_of(items: &[Item]) -> Vec<Tick> {
    let ticks = items.iter().filter_map(|item| match item {
        Item::Tick(tick) => Some((**tick).clone()),
        _ => None,
    });
    ticks.collect()
}

fn end_of(items: &[Item]) -> End {
    match items.last() {
        Some(Item::End(end)) => end.clone(),
        other => panic!("no end: {other:?}"),
    }
}

fn gaps_of(items: &[Item]) -> Vec<Gap> {
    let gaps = items.iter().filter_map(|item| match item {
        Item::Gap(gap) => Some(gap.clone()),
        _ => None,
    });
    gaps.collect()
}

/// Where the frames of a kind begin, by their headers.
pub fn places(bytes: &[u8], kind: Kind) -> Vec<usize> {
    let (mut at, mut found) = (HEADER, Vec::new());
    while let Some(head) = bytes.get(at..at + FRAME) {
        if head[4] == kind as u8 {
            found.push(at);
        }
        at += FRAME + u32::from_le_bytes([head[8], head[9], head[10], head[11]]) as usize;
    }
    found
}

#[test]
fn what_was_written_is_read() {
    let ticks = synthetic(13);
    let bytes = recorded(&ticks);
    let items = streamed(&bytes).expect("read");
    assert_eq!(items[0], Item::Session(Box::new(session())));
    let Item::Key(key) = &items[1] else { panic!("{:?}", items[1]) };
    assert_eq!((key.at_ns, &key.totals), (session().started_ns, &Totals::default()));
    let mark = Mark { at_ns: ticks[1].end_ns + 1, text: "here".into() };
    assert_eq!(items[4], Item::Mark(mark.clone()));
    assert_eq!(ticks_of(&items), ticks);
    assert_eq!(items.len(), 2 + 13 + 1 + 1, "later keys are for seeking");
    assert_eq!(end_of(&items), End { clean: true, why: None });
    let recording = opened(&bytes).expect("opened");
    assert_eq!(recording.session(), &session());
    assert_eq!((recording.ticks(), recording.marks()), (13, &[mark][..]));
    assert_eq!(
        (recording.start_ns(), recording.end_ns()),
        (session().started_ns, ticks[12].end_ns)
    );
    let all: Vec<Item> = recording.items(0, u64::MAX).map(|item| item.expect("read")).collect();
    assert_eq!(all, items);
    let mut totals = Totals::default();
    ticks.iter().for_each(|tick| totals.apply(tick));
    assert_eq!(recording.sums(0, u64::MAX).expect("read").totals, totals);
}

#[test]
fn the_file_has_a_key_every_so_many_ticks_and_each_is_the_state() {
    let unasked = Options { key_every: None, ..options() };
    for (ticks, options, every) in
        [(synthetic(13), options(), EVERY), (small(130), unasked, KEY_EVERY)]
    {
        let mut writer = Writer::new(Vec::new(), &session(), options).expect("made");
        ticks.iter().for_each(|tick| writer.tick(tick).expect("written"));
        let recording = opened(&writer.finish(None).expect("finished")).expect("opened");
        let mut totals = Totals::default();
        for (number, tick) in ticks.iter().enumerate() {
            totals.apply(tick);
            let key = recording.key_before(tick.end_ns).expect("read").expect("a key");
            let since = (tick.end_ns - key.at_ns) / tick.dur_ns;
            assert_eq!(since, (number as u64 + 1) % every);
            if since == 0 {
                assert_eq!((key.totals, key.whole), (totals.clone(), true));
            }
        }
        assert_eq!(recording.key_before(0).expect("read"), None);
    }
}

#[test]
fn any_range_is_its_ticks_and_the_state_before_them() {
    let ticks = synthetic(13);
    let recording = opened(&recorded(&ticks)).expect("opened");
    for (from, until) in [(0, 3), (0, 13), (1, 2), (5, 7), (6, 6), (6, 8), (8, 12), (12, 13)] {
        let end = |n: usize| if n == 0 { session().started_ns } else { ticks[n - 1].end_ns };
        let items: Vec<Item> =
            recording.items(end(from), end(until)).map(|item| item.expect("read")).collect();
        assert_eq!(ticks_of(&items), &ticks[from..until], "{from}..{until}");
        let mut before = Totals::default();
        ticks[..from].iter().for_each(|tick| before.apply(tick));
        let keys: Vec<_> = items
            .iter()
            .filter_map(|item| match item {
                Item::Key(key) => Some(key),
                _ => None,
            })
            .collect();
        assert_eq!(keys.len(), 1, "{from}..{until}");
        assert_eq!((keys[0].at_ns, &keys[0].totals), (end(from), &before));
        assert!(matches!(items[0], Item::Session(_)) && matches!(items[1], Item::Key(_)));
        assert_eq!(end_of(&items), End { clean: true, why: None });
        let sums = recording.sums(end(from), end(until)).expect("read");
        let mut expected = before.who_is_there();
        ticks[from..until].iter().for_each(|tick| expected.apply(tick));
        assert_eq!(sums.totals, expected);
        assert_eq!(sums.duration_ns(), end(until) - end(from));
    }
}

#[test]
fn a_recording_that_was_killed_has_everything_but_its_end() {
    let ticks = synthetic(8);
    let bytes = recorded(&ticks);
    let index = places(&bytes, Kind::Index)[0];
    let last = *places(&bytes, Kind::Tick).last().expect("ticks");
    for (length, whole, said) in [
        (index, 8, "without an index"),
        (index - 1, 7, "within a frame"),
        (last + 5, 7, "within a frame"),
        (last, 7, "without an index"),
    ] {
        let items = streamed(&bytes[..length]).expect("read");
        assert_eq!(ticks_of(&items), &ticks[..whole]);
        assert_eq!(gaps_of(&items), []);
        let end = end_of(&items);
        assert!(!end.clean && end.why.as_ref().is_some_and(|why| why.contains(said)), "{end:?}");
        let recording = opened(&bytes[..length]).expect("opened");
        let all: Vec<Item> = recording.items(0, u64::MAX).map(|item| item.expect("read")).collect();
        assert_eq!(all, items);
        assert_eq!(recording.end(), end);
        assert_eq!(
            (recording.ticks(), recording.end_ns()),
            (whole as u64, ticks[whole - 1].end_ns)
        );
        assert_eq!(recording.marks().len(), 1);
    }
}

#[test]
fn one_that_is_being_written_says_so() {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    let bytes = recorded(&small(3));
    file.write_all(&bytes[..places(&bytes, Kind::Index)[0]]).expect("written");
    file.as_file().try_lock().expect("locked");
    let recording = Recording::open(file.path()).expect("opened");
    assert_eq!(recording.end().why.as_deref(), Some("it is still being written"));
    let sums = recording.sums(0, u64::MAX).expect("read");
    assert_eq!((sums.totals.ticks, sums.end), (3, Some(recording.end())));
}

#[test]
fn damage_costs_what_it_is_in_until_the_next_key_and_is_said() {
    let ticks = synthetic(15);
    let bytes = recorded(&ticks);
    let at = places(&bytes, Kind::Tick)[7];
    for (byte, said) in [(at + FRAME + 50, "a tick at byte"), (at + 20, "bytes at")] {
        let mut damaged = bytes.clone();
        damaged[byte] ^= 0x10;
        let expected: Vec<Tick> = [&ticks[..7], &ticks[12..]].concat();
        let items = streamed(&damaged).expect("read");
        assert_eq!(ticks_of(&items), expected);
        let gaps = gaps_of(&items);
        assert_eq!(gaps.len(), 1, "{gaps:?}");
        assert_eq!((gaps[0].from_ns, gaps[0].until_ns), (ticks[6].end_ns, ticks[11].end_ns));
        assert!(gaps[0].why.contains(said), "{gaps:?}");
        // After it the whole state is handed out again.
        let position = items.iter().position(|item| matches!(item, Item::Gap(_))).expect("there");
        let Item::Key(key) = &items[position + 1] else { panic!("a key") };
        assert_eq!(key.totals.ticks, 12);
        assert!(end_of(&items).clean);
        let recording = opened(&damaged).expect("opened");
        let sums = recording.sums(0, u64::MAX).expect("read");
        assert_eq!((sums.totals.ticks, sums.totals.lost_ticks, sums.gaps), (10, 5, gaps));
        // A range beside it does not see it, one within it sees nothing else.
        let beside = recording.sums(ticks[12].end_ns, u64::MAX).expect("read");
        assert_eq!((beside.totals.ticks, beside.gaps.len()), (2, 0));
        let within = recording.sums(ticks[8].end_ns, ticks[9].end_ns).expect("read");
        assert_eq!((within.totals.ticks, within.gaps.len()), (0, 1));
        assert_eq!(
            (within.gaps[0].from_ns, within.gaps[0].until_ns),
            (ticks[8].end_ns, ticks[9].end_ns)
        );
    }
}

#[test]
fn damage_after_the_last_key_is_said_up_to_the_end() {
    let ticks = synthetic(5);
    let mut bytes = recorded(&ticks);
    let at = places(&bytes, Kind::Tick)[2];
    bytes[at + FRAME + 10] ^= 1;
    let items = streamed(&bytes).expect("read");
    assert_eq!(ticks_of(&items), &ticks[..2]);
    let gaps = gaps_of(&items);
    assert_eq!((gaps[0].from_ns, gaps[0].until_ns), (ticks[1].end_ns, ticks[4].end_ns));
    assert!(end_of(&items).clean);
}

#[test]
fn damaged_keys_notes_and_indexes_cost_no_tick() {
    let ticks = synthetic(13);
    let bytes = recorded(&ticks);
    for kind in [Kind::Key, Kind::Mark, Kind::Index, Kind::Trailer] {
        let mut damaged = bytes.clone();
        let at = *places(&bytes, kind).last().expect("there");
        damaged[at + FRAME + 3] ^= 1;
        let items = streamed(&damaged).expect("read");
        assert_eq!(ticks_of(&items), ticks, "{kind:?}");
        let recording = opened(&damaged).expect("opened");
        let all: Vec<Item> = recording.items(0, u64::MAX).map(|item| item.expect("read")).collect();
        assert_eq!(ticks_of(&all), ticks, "{kind:?}");
        let late = recording.sums(ticks[10].end_ns, u64::MAX).expect("read");
        assert_eq!(late.totals.ticks, 2, "{kind:?}");
        if kind == Kind::Key {
            let key = recording.key_before(u64::MAX).expect("read").expect("an earlier one");
            assert_eq!(key.totals.ticks, EVERY);
        }
    }
}

#[test]
fn ticks_that_were_dropped_are_a_gap_with_a_key_after_it() {
    let ticks = small(6);
    let mut writer = Writer::new(Vec::new(), &session(), options()).expect("made");
    for tick in &ticks[..2] {
        writer.tick(tick).expect("written");
    }
    writer.dropped(2, ticks[1].end_ns, ticks[3].end_ns).expect("written");
    for tick in &ticks[4..] {
        writer.tick(tick).expect("written");
    }
    let bytes = writer.finish(Some("it was asked to")).expect("finished");
    let items = streamed(&bytes).expect("read");
    let gaps = gaps_of(&items);
    assert_eq!((gaps[0].from_ns, gaps[0].until_ns), (ticks[1].end_ns, ticks[3].end_ns));
    assert!(gaps[0].why.contains("2 ticks were not written"), "{gaps:?}");
    assert_eq!(gaps.len(), 1);
    assert_eq!(end_of(&items), End { clean: true, why: Some("it was asked to".into()) });
    let recording = opened(&bytes).expect("opened");
    assert_eq!(recording.gaps(), gaps);
    let sums = recording.sums(0, u64::MAX).expect("read");
    assert_eq!((sums.totals.ticks, sums.totals.lost_ticks), (4, 2));
}

#[test]
fn a_session_that_changed_is_told_where_it_did() {
    let ticks = small(5);
    let mut writer = Writer::new(Vec::new(), &session(), options()).expect("made");
    let changed = crate::model::session::Session { notices: vec!["new".into()], ..session() };
    for (number, tick) in ticks.iter().enumerate() {
        if number == 3 {
            writer.session(&session()).expect("written");
            writer.session(&changed).expect("written");
        }
        writer.tick(tick).expect("written");
    }
    let bytes = writer.finish(None).expect("finished");
    assert_eq!(places(&bytes, Kind::Meta).len(), 2, "what is as before is not said again");
    let recording = opened(&bytes).expect("opened");
    assert_eq!(recording.session(), &changed);
    let of = |until: usize| recording.sums(0, ticks[until].end_ns).expect("read").session;
    // It changed between the third tick's end and the fourth's.
    assert_eq!((of(1), of(4)), (session(), changed));
}

#[test]
fn what_was_known_before_is_in_the_first_key() {
    let ticks = synthetic(5);
    let mut begin = Totals::default();
    ticks[..3].iter().for_each(|tick| begin.apply(tick));
    let options = Options { begin: begin.who_is_there(), ..options() };
    let mut writer = Writer::new(Vec::new(), &session(), options).expect("made");
    ticks[3..].iter().for_each(|tick| writer.tick(tick).expect("written"));
    let recording = opened(&writer.finish(None).expect("finished")).expect("opened");
    assert_eq!(recording.start_ns(), ticks[2].end_ns);
    let sums = recording.sums(0, u64::MAX).expect("read");
    let name = |totals: &Totals| -> Vec<String> {
        totals.vms.values().map(|vm| vm.info.name.clone()).collect()
    };
    assert_eq!(name(&sums.totals), name(&begin));
    assert_eq!((sums.totals.ticks, sums.totals.lost), (2, Lost::default()));
}

#[test]
fn anchors_make_wall_time_also_after_the_clock_was_set() {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NOW: AtomicU64 = AtomicU64::new(0);
    /// Set back by an hour after 9 seconds.
    fn clock() -> (u64, u64) {
        let mono = session().started_ns + NOW.load(Ordering::Relaxed) * SECOND;
        let set = if NOW.load(Ordering::Relaxed) >= 9 { 3600 * SECOND } else { 0 };
        (mono, session().unix_ns(mono) - set)
    }
    let options = Options { clock: Some(clock), ..options() };
    let mut writer = Writer::new(Vec::new(), &session(), options).expect("made");
    for tick in small(13) {
        NOW.store(tick.seq, Ordering::Relaxed);
        writer.tick(&tick).expect("written");
    }
    let bytes = writer.finish(None).expect("finished");
    let walked = &bytes[..places(&bytes, Kind::Index)[0]];
    for bytes in [&bytes[..], walked] {
        let recording = opened(bytes).expect("opened");
        let at = |second: u64| session().started_ns + second * SECOND;
        assert_eq!(recording.unix_ns(at(7)), session().unix_ns(at(7)));
        assert_eq!(recording.unix_ns(at(12)), session().unix_ns(at(12)) - 3600 * SECOND);
        assert_eq!(recording.mono_ns(session().unix_ns(at(7))), at(7));
        assert_eq!(recording.mono_ns(recording.unix_ns(at(12))), at(12));
    }
}

#[test]
fn what_is_no_recording_is_refused_with_a_sentence() {
    for (bytes, said) in [
        (&b""[..], "begins otherwise"),
        (&b"{\"v\":1}"[..], "begins otherwise"),
        (&recorded(&[])[..40], "within its header"),
        (&recorded(&[])[..HEADER], "no frame"),
        (&recorded(&[])[..HEADER + 50], "first frame"),
    ] {
        let why = streamed(bytes).expect_err("refused").to_string();
        assert!(why.contains(said), "{why}");
        assert!(opened(bytes).is_err());
    }
}

#[test]
fn one_without_any_tick_is_one() {
    let bytes = recorded(&[]);
    assert_eq!(streamed(&bytes).expect("read").len(), 3);
    let sums = opened(&bytes).expect("opened").sums(0, u64::MAX).expect("read");
    assert_eq!((sums.duration_ns(), sums.totals), (0, Totals::default()));
}

#[test]
fn events_that_are_not_wanted_are_counted() {
    let ticks = synthetic(5);
    let listed: usize = ticks.iter().map(|tick| tick.events.len()).sum();
    let options = Options { no_events: true, ..options() };
    let mut writer = Writer::new(Vec::new(), &session(), options).expect("made");
    ticks.iter().for_each(|tick| writer.tick(tick).expect("written"));
    let items = streamed(&writer.finish(None).expect("finished")).expect("read");
    let read = ticks_of(&items);
    assert!(listed > 0 && read.iter().all(|tick| tick.events.is_empty()));
    let left = |ticks: &[Tick]| -> u64 {
        ticks.iter().flat_map(|tick| &tick.events_left_out).map(|left| left.count).sum()
    };
    assert_eq!(left(&read), left(&ticks) + listed as u64);
}

/// Headers are all there is of it, with holes between them: what opening has to look at.
#[test]
fn a_gigabyte_without_an_index_is_opened_within_a_second() {
    use crate::record::frame::Head;
    use rustix::time::{ClockId, clock_gettime};
    use std::os::unix::fs::FileExt as _;
    const LENGTH: u32 = 28 << 10;
    let file = tempfile::NamedTempFile::new().expect("a file");
    let bytes = recorded(&[]);
    let begin = &bytes[..places(&bytes, Kind::Index)[0]];
    file.as_file().write_all_at(begin, 0).expect("written");
    let id = options().id.expect("given");
    let (mut at, mut ticks) = (begin.len() as u64, 0);
    while at < 1 << 30 {
        let t_ns = session().started_ns + (ticks + 1) * SECOND;
        let head = Head::of_nothing(Kind::Tick, 2 + ticks, t_ns, LENGTH, &id);
        file.as_file().write_all_at(&head, at).expect("written");
        at += (FRAME as u64) + u64::from(LENGTH);
        ticks += 1;
    }
    file.as_file().set_len(at).expect("a length");
    // Time of this thread: what else the machine does is not measured.
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        time.tv_sec as u64 * SECOND + time.tv_nsec as u64
    };
    let before = now();
    let recording = Recording::open(file.path()).expect("opened");
    let took = now() - before;
    assert_eq!(
        (recording.ticks(), recording.end_ns()),
        (ticks, session().started_ns + ticks * SECOND)
    );
    assert!(took < SECOND, "{took} ns");
}
