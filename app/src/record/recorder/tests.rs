//! What the thread writes, and what it does where writing takes long.

use super::*;
use crate::record::testing::{endless, session, synthetic};
use crate::record::{Item, Recording, Sums};
use std::path::Path;

fn file(path: &Path, max_size: Option<u64>) -> Target {
    Target::File { path: path.to_owned(), force: false, max_size }
}

fn read(path: &Path) -> (Recording, Sums) {
    let recording = Recording::open(path).expect("a recording");
    let sums = recording.sums(0, u64::MAX).expect("read");
    (recording, sums)
}

#[test]
fn rotated_files_stand_each_for_itself_and_hold_everything() {
    const MAX: u64 = 256 << 10;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("r");
    let mut recorder =
        Recorder::start(&file(&path, Some(MAX)), &session(), Options::default()).expect("made");
    let mut ticks = 0;
    // However few bytes a tick takes, some files get full.
    for tick in endless() {
        if recorder.progress().files >= 3 {
            break;
        }
        // This test is faster than any disk.
        while recorder.shared.waiting.load(Ordering::Relaxed) > 4 {
            std::thread::yield_now();
        }
        recorder.tick(Box::new(tick));
        ticks += 1;
    }
    let progress = recorder.finish(None);
    let told = (progress.ticks, progress.dropped_ticks, progress.stopped.clone());
    assert_eq!(told, (ticks, 0, None));
    assert!(progress.files >= 3, "{progress:?}");
    let (mut seqs, mut bytes) = (Vec::new(), 0);
    let mut all = crate::model::totals::Totals::default();
    for number in 0..progress.files {
        let path = crate::record::output::numbered(&path, number);
        let length = path.metadata().expect("there").len();
        assert!(length <= MAX, "{length}");
        bytes += length;
        let (recording, sums) = read(&path);
        assert!(recording.end().clean && sums.gaps.is_empty());
        let key = recording.key_before(u64::MAX - 1).expect("read").expect("a key");
        assert!(key.whole);
        for item in recording.items(0, u64::MAX) {
            match item.expect("read") {
                Item::Tick(tick) => {
                    all.apply(&tick);
                    seqs.push(tick.seq);
                }
                // The state at the begin of each file is that at the end of the one before.
                Item::Key(key) => assert_eq!(key.totals, all),
                _ => {}
            }
        }
    }
    assert_eq!(seqs, (1..=ticks).collect::<Vec<u64>>());
    assert_eq!(progress.bytes, bytes);
}

#[test]
fn a_slow_disk_costs_events_first_then_ticks_and_the_file_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("fifo");
    // A pipe that nobody reads yet is the slowest disk there is.
    let status = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo");
    assert!(status.success());
    let reader = std::thread::spawn({
        let path = path.clone();
        move || std::fs::File::open(path).expect("opened")
    });
    let output = std::fs::OpenOptions::new().write(true).open(&path).expect("opened");
    let mut pipe = reader.join().expect("opened");
    let session = session();
    // A few ticks over and over: it is about how many there are.
    let mut ticks: Vec<Tick> = synthetic(8).into_iter().cycle().take(120).collect();
    for (tick, seq) in ticks.iter_mut().zip(1..) {
        (tick.seq, tick.end_ns) = (seq, session.started_ns + seq * tick.dur_ns);
    }
    let shared = Arc::new(Shared::default());
    let writer = Writer::new(Output::File(output), &session, Options::default());
    let job = Job {
        writer: Some(writer.expect("made")),
        session: session.clone(),
        target: Target::Stdout,
        max_size: None,
        path: path.clone(),
        files: 1,
        before: (0, 0),
        synced: 0,
        shared: Arc::clone(&shared),
    };
    let (queue, inbox) = sync_channel(QUEUE);
    let thread = std::thread::spawn(move || job.run(&inbox));
    let mut recorder =
        Recorder { queue, shared, thread, dropped: None, session: None, marks: Vec::new() };
    let begin = std::time::Instant::now();
    for tick in &ticks {
        recorder.tick(Box::new(tick.clone()));
    }
    let took = begin.elapsed();
    let dropped = recorder.progress();
    assert!(dropped.dropped_events > 0 && dropped.dropped_ticks > 0, "{dropped:?}");
    assert!(took < std::time::Duration::from_secs(60), "it waited: {took:?}");
    let finishing = std::thread::spawn(move || recorder.finish(None));
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut pipe, &mut bytes).expect("read");
    let progress = finishing.join().expect("finished");
    let mut stream = crate::record::Stream::new(&bytes[..]).expect("a recording");
    let (mut seen, mut gaps) = (0, Vec::new());
    loop {
        match stream.next().expect("read") {
            Item::Tick(_) => seen += 1,
            Item::Gap(gap) => gaps.push(gap),
            Item::End(end) => {
                assert!(end.clean, "{end:?}");
                break;
            }
            _ => {}
        }
    }
    assert_eq!(seen + progress.dropped_ticks, 120);
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!(gaps[0].until_ns, ticks[119].end_ns);
    assert!(gaps[0].why.contains("were not written"), "{gaps:?}");
}
