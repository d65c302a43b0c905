//! Meters of real vCPUs: wake-ups, halt polling's window and time on CPUs on this machine's own KVM, whatever
//! its backend, compared with what the test guest says of itself. As root; elsewhere each test says that it
//! was skipped and why.

use kvmscope::{
    model::{
        detail::KeyClass,
        event::{Event, EventKind},
        ids::VmId,
        meters::{MeterKind, MetersTick},
        tick::{Life, Tick, VcpuTick},
    },
    source::{
        Feed, Msg, Request,
        live::{Live, Options, loader::LoadError, plan::Family},
    },
};
use rustix::{
    process::Pid,
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    io::Write,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

/// What a session told.
struct Told {
    ticks: Vec<Tick>,
}

impl Told {
    /// The VMs of a process.
    fn vms(&self, pid: u64) -> Vec<VmId> {
        let life = self.ticks.iter().flat_map(|tick| &tick.life);
        let ours = life.filter_map(|life| match life {
            Life::Vm(info) if u64::from(info.pid) == pid => Some(info.id),
            _ => None,
        });
        ours.collect()
    }

    fn vcpus(&self, pid: u64) -> impl Iterator<Item = &VcpuTick> {
        let vms = self.vms(pid);
        self.ticks.iter().flat_map(|tick| &tick.vcpus).filter(move |v| vms.contains(&v.key.vm))
    }

    /// All that the meters of a process's vCPUs told.
    fn meters(&self, pid: u64) -> MetersTick {
        let mut sum = MetersTick::default();
        self.vcpus(pid).for_each(|vcpu| sum.add(&vcpu.meters, true));
        sum
    }

    /// By CPU: intervals, and their time, ns.
    fn on_cpus(&self, pid: u64) -> BTreeMap<u64, (u64, u64)> {
        let mut cpus: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        for key in self.vcpus(pid).flat_map(|vcpu| &vcpu.keys) {
            if key.id.class == KeyClass::OnCpu {
                let cpu = cpus.entry(key.id.value.expect("few CPUs have no other")).or_default();
                *cpu = (cpu.0 + key.count, cpu.1 + key.total_ns);
            }
        }
        cpus
    }

    fn events(&self, pid: u64, kind: EventKind) -> Vec<&Event> {
        let vms = self.vms(pid);
        let all = self.ticks.iter().flat_map(|tick| &tick.events);
        all.filter(|event| event.kind == kind && vms.contains(&event.vm)).collect()
    }
}

/// Count, total ns of the meters of these kinds.
fn sum(meters: &MetersTick, kinds: &[MeterKind]) -> (u64, u64) {
    let ours = meters.meters.iter().filter(|meter| kinds.contains(&meter.kind));
    ours.fold((0, 0), |sum, meter| {
        let in_hist: u64 = meter.hist.iter().map(|&(_, n)| u64::from(n)).sum();
        assert_eq!(meter.count, in_hist, "{:?}", meter.kind);
        assert!(meter.min_ns <= meter.max_ns, "{meter:?}");
        (sum.0 + meter.count, sum.1 + meter.total_ns)
    })
}

const WAKEUPS: [MeterKind; 4] =
    [MeterKind::Polled, MeterKind::PolledIdle, MeterKind::Slept, MeterKind::SleptIdle];

/// A session with these families; `None` where this machine cannot have one, which is said.
fn open(name: &str, families: &[Family], pids: &[u32]) -> Option<Feed> {
    let lacks = if !Path::new("/dev/kvm").exists() {
        Some("there is no /dev/kvm".to_owned())
    } else if !rustix::process::geteuid().is_root() {
        Some("loading probes needs root".to_owned())
    } else {
        None
    };
    let (families, pids) = (families.to_vec(), pids.to_vec());
    let interval = Duration::from_millis(250);
    let options = Options { families, pids, interval, ..Options::default() };
    let opened = match lacks {
        Some(why) => Err(why),
        None => match Live::open(options) {
            Ok(live) => Ok(live),
            Err(error) => {
                let ci = std::env::var("CI").is_ok_and(|value| value == "true");
                let excused = matches!(error, LoadError::NotAllowed(_)) && !ci;
                assert!(excused, "root with /dev/kvm, and yet: {error}");
                Err(error.to_string())
            }
        },
    };
    match opened {
        Ok(live) => Some(Feed::start(Box::new(live)).expect("a thread")),
        Err(why) => {
            // Tests' own prints are captured, this line is not.
            let _ = std::io::stderr().write_all(format!("skipped: {name}: {why}\n").as_bytes());
            None
        }
    }
}

/// Ends a session.
fn end(feed: Feed) -> Told {
    let Feed { mut messages, requests, .. } = feed;
    requests.send(Request::Stop).expect("it runs");
    let mut ticks = Vec::new();
    while let Some(message) = messages.blocking_recv() {
        match message {
            Msg::Tick(tick) => ticks.push(*tick),
            Msg::Session(_) | Msg::Replay(_) => {}
            Msg::End(why) => {
                assert_eq!(why, None);
                break;
            }
        }
    }
    let left_out: u64 =
        ticks.iter().flat_map(|tick| &tick.events_left_out).map(|left| left.count).sum();
    assert_eq!(left_out, 0, "every event is told of");
    Told { ticks }
}

fn guest(options: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_kvmscope"))
        .args(["guest", "--format", "json"])
        .args(options)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the guest starts")
}

fn account(guest: Child) -> Value {
    let Output { status, stdout, .. } = guest.wait_with_output().expect("the guest ends");
    assert!(status.success(), "the guest ended with {status}");
    serde_json::from_slice(&stdout).expect("JSON")
}

fn number(value: &Value) -> u64 {
    value.as_u64().expect("a number")
}

/// What all vCPUs of a guest measured or made.
fn all(guest: &Value, part: &str, what: &str) -> u64 {
    let vms = guest["vms"].as_array().expect("VMs");
    let vcpus = vms.iter().flat_map(|vm| vm["vcpus"].as_array().expect("vCPUs"));
    vcpus.map(|vcpu| number(&vcpu[part][what])).sum()
}

#[test]
fn wake_ups_are_those_of_the_guests_halts() {
    let families = [Family::Wakeup, Family::HaltPoll];
    let Some(feed) = open("wake_ups_are_those_of_the_guests_halts", &families, &[]) else { return };
    let guest = account(guest(&["--vcpus", "2", "--halt", "40", "--halt-us", "2000"]));
    let told = end(feed);
    let pid = number(&guest["pid"]);
    let meters = told.meters(pid);
    let (woke, ns) = sum(&meters, &WAKEUPS);
    // Where the message that wakes it comes before the HLT, the vCPU never halts.
    let made = all(&guest, "made", "halt");
    assert!(woke <= made && woke >= made / 2, "{woke} wake-ups from {made} halts");
    let halts = told.vcpus(pid).map(|vcpu| vcpu.halts.polled + vcpu.halts.waited).sum::<u64>();
    assert_eq!(woke, halts, "what is counted without the family");
    // The guest's own time has the exit and the entry in it as well.
    assert!(ns <= all(&guest, "measured", "halted_ns"), "{ns} ns halted");

    let events = told.events(pid, EventKind::Wakeup);
    assert_eq!(events.len() as u64, woke);
    assert_eq!(events.iter().map(|event| event.args[0]).sum::<u64>(), ns);
    let slept = events.iter().filter(|event| event.args[1] == 1).count() as u64;
    assert_eq!(slept, sum(&meters, &[MeterKind::Slept, MeterKind::SleptIdle]).0);
}

#[test]
fn the_window_of_halt_polling_is_followed() {
    let families = [Family::Wakeup, Family::HaltPoll];
    let Some(feed) = open("the_window_of_halt_polling_is_followed", &families, &[]) else { return };
    // Short halts make it grow, where halt polling is on.
    let guest = account(guest(&["--halt", "60", "--halt-us", "50"]));
    let told = end(feed);
    let pid = number(&guest["pid"]);
    let changes = told.events(pid, EventKind::HaltPoll);
    let window = told.meters(pid).window;
    let Some(last) = changes.last() else {
        assert!(window.is_none_or(|window| window.grew == 0 && window.shrank == 0));
        return;
    };
    let window = window.expect("known from its first change on");
    assert_eq!(window.now_ns, last.args[1]);
    let grew = changes.iter().filter(|event| event.args[1] > event.args[0]).count() as u64;
    assert_eq!((window.grew, window.shrank), (grew, changes.len() as u64 - grew));
    let parameter = std::fs::read_to_string("/sys/module/kvm/parameters/halt_poll_ns");
    let maximum: u64 = parameter.expect("KVM has it").trim().parse().expect("a number");
    for pair in changes.windows(2) {
        // Newer kernels tell how far it grew, and hold it down to its maximum afterwards (`kvm_vcpu_halt`).
        let ended = pair[0].args[1].min(maximum);
        assert_eq!(ended, pair[1].args[0], "each begins where the one before ended");
    }
}

#[test]
fn only_vms_that_are_watched_are_told_of() {
    // Lives until the other one has ended.
    let mut watched = guest(&["--halt", "4000", "--rate", "100"]);
    let families = [Family::Wakeup, Family::VcpuLoad];
    let name = "only_vms_that_are_watched_are_told_of";
    let feed = open(name, &families, &[watched.id()]);
    let other = feed.as_ref().map(|_| account(guest(&["--halt", "20", "--rate", "20"])));
    watched.kill().expect("it lives");
    watched.wait().expect("it ends");
    let (Some(feed), Some(other)) = (feed, other) else { return };
    let told = end(feed);
    let pid = u64::from(watched.id());
    assert!(sum(&told.meters(pid), &WAKEUPS).0 > 0);
    assert_eq!(told.vms(number(&other["pid"])), []);
    let events = told.ticks.iter().flat_map(|tick| &tick.events);
    let vms = told.vms(pid);
    assert!(events.into_iter().all(|event| vms.contains(&event.vm)));
}

/// A CPU that this process may run on.
fn a_cpu() -> usize {
    let may = sched_getaffinity(None).expect("the CPUs of this process");
    (0..CpuSet::MAX_CPU).find(|cpu| may.is_set(*cpu)).expect("one")
}

#[test]
fn a_pinned_vcpu_is_loaded_on_its_cpu_alone() {
    let name = "a_pinned_vcpu_is_loaded_on_its_cpu_alone";
    let Some(feed) = open(name, &[Family::VcpuLoad], &[]) else { return };
    let cpu = a_cpu();
    let pin = cpu.to_string();
    let guest = account(guest(&["--vcpus", "2", "--out", "300", "--halt", "20", "--pin", &pin]));
    let told = end(feed);
    let pid = number(&guest["pid"]);
    let meters = told.meters(pid);
    let (count, ns) = sum(&meters, &[MeterKind::Loaded]);
    assert_eq!(told.on_cpus(pid), BTreeMap::from([(cpu as u64, (count, ns))]));
    assert_eq!((meters.migrations, meters.crossings, meters.loaded_open_ns), (0, 0, 0));
    let run = all(&guest, "measured", "run_ns");
    assert!(ns > 0 && ns <= run, "{ns} ns loaded, {run} ns in KVM_RUN");
    let vcpus = guest["vms"][0]["vcpus"].as_array().expect("vCPUs");
    let runs: u64 = vcpus.iter().map(|vcpu| number(&vcpu["runs"])).sum();
    // Each KVM_RUN is one, and each halt in which it slept one more.
    assert!(count >= runs, "{count} intervals in {runs} KVM_RUNs");
}

#[test]
fn a_vcpu_that_is_moved_is_loaded_on_both_cpus() {
    let may = sched_getaffinity(None).expect("the CPUs of this process");
    let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| may.is_set(*cpu)).take(2).collect();
    let name = "a_vcpu_that_is_moved_is_loaded_on_both_cpus";
    let [first, second] = cpus[..] else {
        let _ = std::io::stderr().write_all(format!("skipped: {name}: one CPU\n").as_bytes());
        return;
    };
    let Some(feed) = open(name, &[Family::VcpuLoad], &[]) else { return };
    let guest = guest(&["--spin-us", "200", "--out", "400", "--rate", "200"]);
    let tid = vcpu_thread(guest.id()).expect("the guest runs a vCPU");
    const MOVES: u64 = 6;
    for turn in 0..MOVES {
        let mut only = CpuSet::new();
        only.set(if turn % 2 == 0 { first } else { second });
        sched_setaffinity(Some(tid), &only).expect("moved");
        // Some rounds on each.
        std::thread::sleep(Duration::from_millis(100));
    }
    let guest = account(guest);
    let told = end(feed);
    let pid = number(&guest["pid"]);
    let on = told.on_cpus(pid);
    let where_to: Vec<u64> = on.keys().copied().collect();
    assert_eq!(where_to, [first as u64, second as u64]);
    let meters = told.meters(pid);
    let (count, ns) = sum(&meters, &[MeterKind::Loaded]);
    let (counts, times) = on.values().fold((0, 0), |sum, cpu| (sum.0 + cpu.0, sum.1 + cpu.1));
    assert_eq!((count, ns), (counts, times));
    assert!(meters.migrations >= MOVES - 1, "{} migrations", meters.migrations);
    assert!(meters.crossings <= meters.migrations);
}

#[test]
fn time_on_a_cpu_counts_while_the_family_is_attached() {
    let name = "time_on_a_cpu_counts_while_the_family_is_attached";
    let Some(mut feed) = open(name, &[Family::Sched], &[]) else { return };
    // In KVM_RUN all the time but for its ends.
    let guest = guest(&["--loop", "4", "--out", "5"]);
    let mut until = |what: &dyn Fn(&Told) -> bool| {
        let mut told = Told { ticks: Vec::new() };
        while let Some(message) = feed.messages.blocking_recv() {
            if let Msg::Tick(tick) = message {
                told.ticks.push(*tick);
                if what(&told) {
                    break;
                }
            }
        }
        told
    };
    let mut before = until(&|told| told.vcpus(u64::from(guest.id())).count() > 0);
    feed.requests.send(Request::Family(Family::VcpuLoad, true)).expect("it runs");
    let asked = before.ticks.last().expect("a tick").end_ns;
    std::thread::sleep(Duration::from_secs(2));
    feed.requests.send(Request::Family(Family::VcpuLoad, false)).expect("it runs");
    let guest = account(guest);
    let told = end(feed);
    let pid = number(&guest["pid"]);
    before.ticks.extend(told.ticks);
    let meters = before.meters(pid);
    let (_, ns) = sum(&meters, &[MeterKind::Loaded]);
    let open = before.vcpus(pid).map(|vcpu| vcpu.meters.loaded_open_ns).max().unwrap_or(0);
    let last = before.ticks.last().expect("a tick").end_ns;
    assert!(ns + open > 0, "some of it is seen");
    assert!(ns <= last - asked && open <= last - asked, "{ns} and {open} since it was attached");
    let end = before.vcpus(pid).last().expect("a tick of it");
    assert_eq!(end.meters.loaded_open_ns, 0, "nothing is open that nobody watches");
}

/// The thread of a guest's first vCPU, once it is there.
fn vcpu_thread(pid: u32) -> Option<Pid> {
    for _ in 0..500 {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the guest lives");
        for task in tasks.flatten() {
            let comm = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            if comm.trim() == "vcpu0" {
                let tid = task.file_name().to_str().and_then(|tid| tid.parse().ok());
                return tid.and_then(Pid::from_raw);
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    None
}
