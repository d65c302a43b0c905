//! Version 1 as it was when it was frozen: what was written then is read now, and what is written now is the same.

use super::tests::{opened, places, streamed};
use crate::model::session::{Host, Origin, ProbeStatus, ReasonNames, Session};
use crate::model::testing::sample_tick;
use crate::model::tick::Tick;
use crate::record::frame::{FRAME, HEADER, Head, Kind};
use crate::record::{Mark, Options, Writer};
use std::path::PathBuf;

const ID: [u8; 16] = *b"a golden example";

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/recording-1.0.kvmscope")
}

fn session() -> Session {
    let table = |code, name: &str| [(code, name.to_owned())].into();
    Session {
        origin: Origin::Synthetic { why: "to be read".into(), command: "kvmscope".into() },
        host: Host {
            name: "golden".into(),
            kernel: "6.12.8".into(),
            backend: "vmx".into(),
            cpus: 16,
        },
        names: ReasonNames {
            vmx: table(32, "MSR_WRITE"),
            svm: table(0x400, "NPF"),
            userspace: table(2, "IO"),
        },
        probes: vec![ProbeStatus {
            name: "kvm:kvm_exit".into(),
            family: "exit".into(),
            attached: true,
            why: Some("an example".into()),
            how: "tracepoint".into(),
        }],
        apicv: Some(true),
        apicv_reasons: table(8, "nested"),
        notices: vec!["This is an example.".into()],
        started_ns: 6_000_000_000,
        started_unix_ns: 1_700_000_000_000_000_000,
    }
}

fn clock() -> (u64, u64) {
    (6_000_000_000, 1_700_000_000_000_000_000)
}

/// Every kind of frame, and in ticks something of everything.
fn written() -> Vec<u8> {
    let options = Options { id: Some(ID), clock: Some(clock), ..Options::default() };
    let mut writer = Writer::new(Vec::new(), &session(), options).expect("made");
    for seq in [7, 8] {
        let end_ns = seq * 1_000_000_000;
        writer.tick(&Tick { seq, end_ns, ..sample_tick() }).expect("written");
    }
    writer.mark(&Mark { at_ns: 8_000_000_001, text: "a note".into() }).expect("written");
    writer.dropped(1, 8_000_000_000, 9_000_000_000).expect("written");
    let changed = Session { notices: vec!["Changed.".into()], ..session() };
    writer.session(&changed).expect("written");
    let last = Tick { seq: 10, end_ns: 10_000_000_000, ..sample_tick() };
    writer.tick(&last).expect("written");
    writer.events_dropped(3);
    writer.finish(Some("it was long enough")).expect("finished")
}

/// Headers without what depends on the compressor, and payloads as they were.
fn frames(bytes: &[u8]) -> Vec<(u8, u8, u64, u64, Vec<u8>)> {
    let (mut at, mut found) = (HEADER, Vec::new());
    while at < bytes.len() {
        let head = Head::parse(&bytes[at..], &ID).expect("a frame");
        let next = at + head.length() as usize;
        let raw = head.open(&bytes[at + FRAME..next]).expect("whole");
        // Where frames are depends on the compressor too.
        let raw = if head.kind() == Some(Kind::Trailer) { Vec::new() } else { raw };
        found.push((head.kind, head.version, head.seq, head.t_ns, raw));
        at = next;
    }
    found
}

#[test]
fn version_1_is_read_as_it_was_written() {
    if std::env::var_os("KVMSCOPE_WRITE_GOLDEN").is_some() {
        std::fs::write(path(), written()).expect("written");
    }
    let golden = std::fs::read(path()).expect("the golden file");
    let items = streamed(&golden).expect("read");
    insta::assert_snapshot!(format!("{items:#?}"));
    let recording = opened(&golden).expect("opened");
    assert_eq!((recording.ticks(), recording.marks().len(), recording.gaps().len()), (3, 1, 1));
    let from = recording.start_ns();
    let all: Vec<_> = recording.items(from, u64::MAX).map(|item| item.expect("read")).collect();
    assert_eq!(all, items);
}

#[test]
fn what_is_written_now_is_version_1() {
    let golden = std::fs::read(path()).expect("the golden file");
    let now = written();
    // But for the version of the program.
    assert_eq!((&golden[..32], &golden[48..60]), (&now[..32], &now[48..60]));
    let kinds = |frames: &[(u8, u8, u64, u64, Vec<u8>)]| -> Vec<u8> {
        frames.iter().map(|frame| frame.0).collect()
    };
    let (golden_frames, now_frames) = (frames(&golden), frames(&now));
    assert_eq!(kinds(&golden_frames), [1, 7, 2, 3, 3, 8, 5, 7, 2, 1, 3, 9, 10]);
    for (then, now) in golden_frames.iter().zip(&now_frames) {
        // A session has the version of the program in it, the index where frames are.
        let changes = [Kind::Meta as u8, Kind::Index as u8].contains(&then.0);
        let same_payload = changes || then.4 == now.4;
        let same_head = (then.0, then.1, then.2, then.3) == (now.0, now.1, now.2, now.3);
        assert!(same_head && same_payload, "frame {} has changed: make a new version", then.2);
    }
    assert_eq!(kinds(&now_frames), kinds(&golden_frames));
    assert_eq!(places(&golden, Kind::Key).len(), 2);
}
