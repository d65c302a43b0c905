//! Family `ioctl` on this machine's own KVM: what this process asks of it is counted exactly, and nothing
//! else. As root with `/dev/kvm`; elsewhere the test says that it was skipped and why.
#![allow(unsafe_code, reason = "a system call with a wrong descriptor cannot be made otherwise")]

use clap::Parser;
use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{Cap, Kvm, VmFd};
use kvmscope::guest;
use kvmscope::model::detail::IoctlTick;
use kvmscope::model::event::{Event, EventKind};
use kvmscope::model::session::Session;
use kvmscope::source::live::loader::LoadError;
use kvmscope::source::live::plan::Family;
use kvmscope::source::live::{Live, Options};
use kvmscope::source::{Feed, Msg, Request};
use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::time::Duration;

const GET_API_VERSION: u32 = 0xae00;
const CREATE_VM: u32 = 0xae01;
const CHECK_EXTENSION: u32 = 0xae03;
const GET_VCPU_MMAP_SIZE: u32 = 0xae04;
const CREATE_VCPU: u32 = 0xae41;
const SET_USER_MEMORY_REGION: u32 = 0x4020_ae46;
const RUN: u32 = 0xae80;
const SET_REGS: u32 = 0x4090_ae82;

/// What was called how often, and how often of that in vain.
type Calls = BTreeMap<u32, (u64, u64)>;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    options: guest::Options,
}

/// Runs the test guest here.
fn make(line: &str) -> guest::Outcome {
    let words = ["guest"].into_iter().chain(line.split_whitespace());
    let options = Cli::try_parse_from(words).expect("the options are accepted").options;
    guest::make(&options).expect("the guest does its work")
}

/// The same, and adds what it must have called.
fn run_guest(line: &str, made: &mut Calls) -> guest::Outcome {
    let outcome = make(line);
    account(&outcome, made);
    outcome
}

/// Guests beside each other, as VMs of one process that differ in what they call.
fn run_guests(lines: [&str; 2], made: &mut Calls) -> Vec<guest::Outcome> {
    let outcomes: Vec<guest::Outcome> = std::thread::scope(|scope| {
        let running = lines.map(|line| scope.spawn(move || make(line)));
        running.into_iter().map(|guest| guest.join().expect("it does not panic")).collect()
    });
    outcomes.iter().for_each(|outcome| account(outcome, made));
    outcomes
}

/// Adds what a guest must have called.
fn account(outcome: &guest::Outcome, made: &mut Calls) {
    let mut add = |command, count| made.entry(command).or_default().0 += count;
    let vcpus = || outcome.vms.iter().flat_map(|vm| &vm.vcpus);
    let (vms, all) = (outcome.vms.len() as u64, vcpus().count() as u64);
    add(GET_API_VERSION, 1);
    add(CREATE_VM, vms);
    add(GET_VCPU_MMAP_SIZE, vms);
    add(CREATE_VCPU, all);
    // A region for each vCPU, and a page that it may only read where that is asked for.
    add(SET_USER_MEMORY_REGION, all);
    add(SET_REGS, all);
    add(RUN, vcpus().map(|vcpu| vcpu.runs).sum());
}

/// A source that runs, and what it has told.
struct Watched {
    feed: Feed,
    session: Session,
    ioctls: BTreeMap<u32, IoctlTick>,
    vms: BTreeMap<u32, Calls>,
    events: Vec<Event>,
    left_out: u64,
    missed: u64,
}

impl Watched {
    fn start(families: &[Family]) -> Result<Self, LoadError> {
        let options = Options {
            families: families.to_vec(),
            pids: vec![std::process::id()],
            interval: Duration::from_millis(100),
            ..Options::default()
        };
        let feed = Feed::start(Box::new(Live::open(options)?)).expect("a thread");
        let mut watched = Self {
            feed,
            session: Session::default(),
            ioctls: BTreeMap::new(),
            vms: BTreeMap::new(),
            events: Vec::new(),
            left_out: 0,
            missed: 0,
        };
        watched.until_session();
        Ok(watched)
    }

    /// Takes messages up to the next one that tells of probes.
    fn until_session(&mut self) {
        loop {
            let message = self.feed.messages.blocking_recv().expect("the source goes on");
            if self.take(message) {
                return;
            }
        }
    }

    fn take(&mut self, message: Msg) -> bool {
        match message {
            Msg::Session(session) => {
                self.session = *session;
                return true;
            }
            Msg::Replay(_) | Msg::End(_) => {}
            Msg::Tick(tick) => {
                self.missed += tick.lost.missed_runs;
                self.events.extend_from_slice(&tick.events);
                let left_out = tick.events_left_out.iter().map(|left| left.count);
                self.left_out += left_out.sum::<u64>();
                for vm in &tick.vms {
                    for ioctl in &vm.ioctls {
                        let sum = self.ioctls.entry(ioctl.command).or_default();
                        sum.count += ioctl.count;
                        sum.failed += ioctl.failed;
                        sum.total_ns += ioctl.total_ns;
                        sum.max_ns = sum.max_ns.max(ioctl.max_ns);
                        let of_vm = self.vms.entry(vm.id.0).or_default();
                        let of_vm = of_vm.entry(ioctl.command).or_default();
                        of_vm.0 += ioctl.count;
                        of_vm.1 += ioctl.failed;
                    }
                }
            }
        }
        false
    }

    fn set(&mut self, on: bool) {
        self.feed.requests.send(Request::Family(Family::Ioctl, on)).expect("it listens");
        loop {
            self.until_session();
            if self.attached() == on {
                return;
            }
        }
    }

    fn attached(&self) -> bool {
        let mut ours = self.session.probes.iter().filter(|probe| probe.family == "ioctl");
        ours.all(|probe| probe.attached)
    }

    /// Ends it and takes what it still says.
    fn stop(&mut self) {
        self.feed.requests.send(Request::Stop).expect("it listens");
        while let Some(message) = self.feed.messages.blocking_recv() {
            if matches!(message, Msg::End(_)) {
                return;
            }
            self.take(message);
        }
    }

    /// What was counted of commands that were made.
    fn counted(&self, made: &Calls) -> Calls {
        let of = |command| self.ioctls.get(command).map_or((0, 0), |sum| (sum.count, sum.failed));
        made.keys().map(|command| (*command, of(command))).collect()
    }
}

/// An ioctl without an argument, which fails.
fn in_vain(fd: RawFd, command: u32) {
    // SAFETY: an integer as argument; a descriptor that is not KVM's, or none at all, refuses it.
    let result = unsafe { libc::ioctl(fd, libc::c_ulong::from(command), 0) };
    assert!(result < 0, "{command:#x} on {fd}");
}

fn refused_slot(vm: &VmFd) {
    let unaligned = kvm_userspace_memory_region {
        slot: 3,
        guest_phys_addr: 0x1001,
        memory_size: 0x1000,
        ..kvm_userspace_memory_region::default()
    };
    // SAFETY: KVM refuses it, and nothing is mapped.
    assert!(unsafe { vm.set_user_memory_region(unaligned) }.is_err());
}

/// Asks for an extension from several threads at once, `each` times from every one.
fn ask_at_once(kvm: &Kvm, threads: u64, each: u64) {
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| (0..each).for_each(|_| assert!(kvm.check_extension(Cap::UserMemory))));
        }
    });
}

/// One test: everything that this process asks KVM is in its counts.
#[test]
fn what_a_process_asks_of_kvm_is_counted_exactly() {
    let lacks = if !Path::new("/dev/kvm").exists() {
        Some("there is no /dev/kvm".to_owned())
    } else {
        None
    };
    let started =
        lacks.map_or_else(|| Watched::start(&[Family::Exit]).map_err(|why| why.to_string()), Err);
    let mut watched = match started {
        Ok(watched) => watched,
        Err(why) => {
            eprintln!("skipped: what_a_process_asks_of_kvm_is_counted_exactly: {why}");
            return;
        }
    };
    assert!(!watched.attached());
    let (mut made, mut unseen) = (Calls::new(), Calls::new());

    run_guest("--out 50", &mut unseen);
    watched.set(true);
    run_guest("--vms 2 --vcpus 2 --out 200", &mut made);
    let guests =
        run_guests(["--out 300", "--vcpus 3 --out 500 --cpuid 7 --mmio-write 20"], &mut made);
    watched.set(false);
    run_guest("--out 50", &mut unseen);
    watched.set(true);
    run_guest("--vcpus 3 --cpuid 10 --out 20 --vmm-sleep-us 2000", &mut made);

    // From several threads at once.
    let (threads, each) = (8, 5000);
    let kvm = Kvm::new().expect("/dev/kvm opens");
    ask_at_once(&kvm, threads, each);
    made.entry(CHECK_EXTENSION).or_default().0 += threads * each;

    // In vain, and with descriptors that are not KVM's.
    let vm = kvm.create_vm().expect("a VM");
    made.entry(CREATE_VM).or_default().0 += 1;
    made.entry(GET_VCPU_MMAP_SIZE).or_default().0 += 1;
    let vcpu = vm.create_vcpu(0).expect("a vCPU");
    assert!(vm.create_vcpu(0).is_err(), "there is one of that number");
    let vcpus = made.entry(CREATE_VCPU).or_default();
    *vcpus = (vcpus.0 + 2, vcpus.1 + 1);
    refused_slot(&vm);
    let slots = made.entry(SET_USER_MEMORY_REGION).or_default();
    *slots = (slots.0 + 1, slots.1 + 1);
    let null = std::fs::File::open("/dev/null").expect("/dev/null opens");
    for fd in [null.as_raw_fd(), -1, 1 << 20] {
        in_vain(fd, CREATE_VM);
    }
    drop((vcpu, vm));
    // A tick while the family is on, then its end.
    std::thread::sleep(Duration::from_millis(150));
    watched.stop();

    assert_eq!(watched.missed, 0);
    let told_apart =
        watched.session.notices.iter().all(|notice| !notice.contains("kvm_vcpu_ioctl"));
    if !told_apart {
        let vms = made.entry(CREATE_VM).or_default();
        *vms = (vms.0 + 3, vms.1 + 3);
    }
    assert_eq!(watched.counted(&made), made, "{:?}", watched.session.notices);
    // What else the guest asks is set-up, none of it in vain.
    for (command, sum) in &watched.ioctls {
        assert!(sum.total_ns >= sum.max_ns && sum.max_ns > 0, "{command:#x}: {sum:?}");
        let failed = made.get(command).map_or(0, |made| made.1);
        assert_eq!(sum.failed, failed, "{command:#x}");
    }
    let how = watched.session.probes.iter().filter(|probe| probe.family == "ioctl");
    let how: Vec<_> = how.map(|probe| (probe.name.as_str(), probe.how.as_str())).collect();
    eprintln!("by {how:?}; told by descriptors: {told_apart}; {} VMs", watched.vms.len());
    check_vms(&watched, &guests);
    check_events(&watched, &made);
}

/// Where `kvm_entry` tells VMs of a process apart, so are their ioctls: each VM has its own, all of them, and
/// none of another.
fn check_vms(watched: &Watched, guests: &[guest::Outcome]) {
    let of = |calls: &Calls, command| calls.get(&command).copied().unwrap_or_default();
    if watched.vms.len() < 2 {
        eprintln!("VMs of a process are one here: which of them made an ioctl is not looked at");
        return;
    }
    let made = guests.iter().flat_map(|guest| &guest.vms);
    let made: Vec<&guest::IoctlCounts> = made.map(|vm| &vm.ioctls).collect();
    assert!(made[0]["KVM_RUN"] != made[1]["KVM_RUN"], "{made:x?}");
    assert!(made[0]["KVM_CREATE_VCPU"] != made[1]["KVM_CREATE_VCPU"], "{made:x?}");
    for made in made {
        let runs = made["KVM_RUN"].count;
        let mut found = watched.vms.values().filter(|calls| of(calls, RUN).0 == runs);
        let calls = found.next().expect("a VM with so many KVM_RUN");
        assert!(found.next().is_none(), "{runs} KVM_RUN of two VMs: {:x?}", watched.vms);
        // What /dev/kvm is asked is of no VM.
        let of_vm = |command: u32| command & 0xff >= 0x40;
        let made: Calls = made
            .values()
            .filter(|made| of_vm(made.command))
            .map(|made| (made.command, (made.count, made.failed)))
            .collect();
        let calls: Calls =
            calls.iter().filter(|(c, _)| of_vm(**c)).map(|(c, sum)| (*c, *sum)).collect();
        assert_eq!(calls, made);
    }
    let first = watched.vms.values().next().expect("a VM");
    let asked = watched.ioctls.get(&CHECK_EXTENSION).map_or(0, |sum| sum.count);
    assert_eq!(of(first, CHECK_EXTENSION).0, asked, "/dev/kvm is of no VM");
}

/// What is listed is what was counted, but for KVM_RUN, as far as it was let through.
fn check_events(watched: &Watched, made: &Calls) {
    let of = |kind| watched.events.iter().filter(move |event| event.kind == kind);
    let slots: Vec<&Event> = of(EventKind::Memslot).collect();
    let (set, failed) = made[&SET_USER_MEMORY_REGION];
    assert_eq!(slots.len() as u64, set);
    assert_eq!(slots.iter().filter(|slot| slot.args[5].cast_signed() < 0).count() as u64, failed);
    let refused = slots.iter().find(|slot| slot.args[5].cast_signed() < 0).expect("one");
    assert_eq!(refused.args[..5], [3, 0, 0x1001, 0x1000, 0]);
    assert!(slots.iter().filter(|slot| slot.args[5] == 0).all(|slot| slot.args[4] != 0));
    let listed = of(EventKind::Ioctl).count() as u64 + watched.left_out;
    let all: u64 = watched.ioctls.iter().filter(|(c, _)| **c != RUN).map(|(_, s)| s.count).sum();
    assert_eq!(listed, all, "left out: {}", watched.left_out);
    assert!(
        of(EventKind::Ioctl).all(|event| event.handling_ns > 0 && event.args[0] != u64::from(RUN))
    );
}
