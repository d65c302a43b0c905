//! The guest on this machine's KVM. The counts of real hardware exits are compared in the
//! rigs; here it is whether the guest makes what it is asked for and says so.

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    options: Options,
}

fn options(line: &str) -> Options {
    let words = ["guest"].into_iter().chain(line.split_whitespace());
    Cli::try_parse_from(words).expect("the options are accepted").options
}

/// Runs the guest; `None` (and a line that says why, which is not captured) where this machine has
/// no KVM to use. In continuous integration that is a failure.
fn outcome_of(line: &str) -> Option<Result<Outcome, Error>> {
    if let Err(error) = Machine::open() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "not tested: {error}");
        let _ = writeln!(std::io::stderr(), "skipped: guest {line}: {error}");
        return None;
    }
    Some(make(&options(line)))
}

/// The vCPUs of a run that must succeed.
fn vcpus_of(line: &str) -> Option<Vec<VcpuOutcome>> {
    let outcome = outcome_of(line)?.expect("the guest ends well");
    Some(outcome.vms.into_iter().flat_map(|vm| vm.vcpus).collect())
}

#[test]
fn every_vcpu_makes_exactly_what_is_asked_for() {
    let line = "--vms 2 --vcpus 2 --out 3 --in 4 --mmio-read 5 --mmio-write 6 --cpuid 7 \
                --rdmsr 8 --wrmsr 9 --hlt 10 --touch 11";
    let Some(vcpus) = vcpus_of(line) else { return };
    assert_eq!(vcpus.len(), 4);
    for vcpu in vcpus {
        assert_eq!(vcpu.made, options(line).counts());
        assert_eq!(vcpu.userspace, vcpu.expect.userspace_exits, "the VMM saw them all");
        assert_eq!((vcpu.userspace["IO"], vcpu.userspace["MMIO"]), (7, 11));
        assert_eq!(vcpu.userspace["HLT"], 10 + vcpu.control);
        assert_eq!(vcpu.control, 2, "the boot and one round");
        assert_eq!((vcpu.runs, vcpu.ended.as_str()), (7 + 11 + 12, "done"));
    }
}

#[test]
fn pages_can_be_touched_more_often_than_there_are_pages() {
    let Some(vcpus) = vcpus_of("--vcpus 2 --touch 2000") else { return };
    for vcpu in vcpus {
        assert_eq!((vcpu.made.touch, vcpu.control), (2000, 1 + 4));
    }
}

#[test]
fn a_vcpu_that_moves_has_two_threads_and_loses_nothing() {
    let Some(vcpus) = vcpus_of("--out 11 --cpuid 5 --touch 3 --move-thread") else { return };
    let [vcpu] = vcpus.as_slice() else { panic!("one vCPU") };
    assert_eq!((vcpu.made.out, vcpu.made.cpuid, vcpu.made.touch), (11, 5, 3));
    assert_eq!(vcpu.tids.len(), 2);
    assert_ne!(vcpu.tids[0], vcpu.tids[1]);
    assert_eq!(vcpu.tid, vcpu.tids[1]);
}

#[test]
fn a_vcpu_that_dies_says_how_far_it_came() {
    let Some(vcpus) = vcpus_of("--out 10 --in 10 --die") else { return };
    let [vcpu] = vcpus.as_slice() else { panic!("one vCPU") };
    assert_eq!(vcpu.ended, "died");
    assert_eq!((vcpu.made.out, vcpu.made.input, vcpu.control), (10, 0, 1));
    assert_eq!(vcpu.userspace, vcpu.expect.userspace_exits);
}

#[test]
fn rounds_are_paced() {
    let Some(vcpus) = vcpus_of("--out 6 --rdmsr 3 --rate 200") else { return };
    let [vcpu] = vcpus.as_slice() else { panic!("one vCPU") };
    assert_eq!((vcpu.made.out, vcpu.made.rdmsr, vcpu.control), (6, 3, 1 + 6));
    assert!(vcpu.elapsed_ns >= 25_000_000, "the sixth round is due after 25 ms");
}

#[test]
fn the_deadline_ends_a_guest_that_is_not_done() {
    let Some(result) = outcome_of("--out 5 --rate 0.01 --deadline 1") else { return };
    let error = result.expect_err("five rounds need 400 seconds");
    assert_eq!(error.exit_status(), 1);
    assert!(error.to_string().contains("not done after 1 s: vCPU 0 of VM 0"), "{error}");
}

#[test]
fn a_death_needs_a_userspace_exit_to_happen_in() {
    let error = make(&options("--cpuid 5 --die")).expect_err("refused");
    assert_eq!(error.exit_status(), 2);
}

#[test]
fn what_cannot_be_made_is_left_out_with_a_reason() {
    let on = |backend| Host { backend, ..Host::detect() };
    let asked = Counts { hypercall: 5, out: 1, ..Counts::default() };
    let (counts, skipped) = possible(asked, &on(Backend::Pvm), false, || None, || None);
    assert_eq!((counts.hypercall, counts.out), (0, 1));
    assert_eq!((skipped.len(), skipped[0].kind.as_str()), (1, "hypercall"));
    assert_eq!(possible(asked, &on(Backend::Svm), false, || None, || None), (asked, Vec::new()));
    let halting = Counts { halt: 3, hlt: 2, ..asked };
    let (counts, skipped) = possible(halting, &on(Backend::Svm), false, || None, || None);
    assert_eq!((counts.halt, counts.hlt, skipped[0].kind.as_str()), (3, 0, "hlt"));
    let (counts, skipped) =
        possible(halting, &on(Backend::Svm), false, || Some("no".to_owned()), || None);
    assert_eq!((counts.halt, counts.hlt, skipped[0].kind.as_str()), (0, 2, "halt"));
}

#[test]
fn the_output_has_the_documented_shape() {
    let Some(result) = outcome_of("--all 2") else { return };
    let json = serde_json::to_value(result.expect("ends well")).expect("serialises");
    assert_eq!(json["schema"], 1);
    let vcpu = &json["vms"][0]["vcpus"][0];
    assert_eq!((&vcpu["made"]["in"], &vcpu["made"]["mmio_read"]), (&2.into(), &2.into()));
    assert_eq!(vcpu["expect"]["userspace_exits"]["MMIO"], 4);
    assert_eq!(vcpu["tids"][0], vcpu["tid"]);
}

/// (class, value, count) of a vCPU's keys.
fn keys(vcpu: &VcpuOutcome) -> Vec<(&str, u64, u64)> {
    vcpu.expect.keys.iter().map(|key| (key.class.as_str(), key.value, key.count)).collect()
}

#[test]
fn halts_stay_inside_kvm_and_are_timed_by_the_guest() {
    let line = "--vcpus 2 --halt 5 --halt-us 2000 --out 3";
    let Some(outcome) = outcome_of(line) else { return };
    let outcome = outcome.expect("the guest ends well");
    if outcome.skipped.iter().any(|skipped| skipped.kind == "halt") {
        return;
    }
    for vcpu in &outcome.vms[0].vcpus {
        assert_eq!((vcpu.made.halt, vcpu.userspace["HLT"]), (5, 0));
        assert_eq!(vcpu.userspace["IO"], 3 + vcpu.control);
        assert_eq!(keys(vcpu), [("port_out", 0x3f8, 3), ("port_out", 0x510, vcpu.control)]);
        let halted = vcpu.measured.halted_ns;
        assert!(halted >= 9_000_000, "five times 2 ms, but the first may begin late: {halted}");
        assert!(halted <= vcpu.measured.run_ns, "{:?}", vcpu.measured);
    }
    assert_eq!(outcome.beside.other_threads.len(), 2, "one waker for each");
}

#[test]
fn the_read_only_page_faults_at_every_write() {
    let Some(vcpus) = vcpus_of("--vcpus 2 --same-page 20") else { return };
    for (vcpu, page) in vcpus.iter().zip([0x1a0_0000, 0x3a0_0000]) {
        assert_eq!((vcpu.made.same_page, vcpu.userspace["MMIO"]), (20, 20));
        assert!(keys(vcpu).contains(&("mmio_write", page, 20)));
    }
}

#[test]
fn ports_and_msrs_are_those_that_were_asked_for() {
    let line = "--out 6 --spread-ports 3 --in 2 --in-port 0x608 --wrmsr 4 --wrmsr-to 0x6e0";
    let Some(vcpus) = vcpus_of(line) else { return };
    let expected = [
        ("msr_write", 0x6e0, 4),
        ("port_in", 0x608, 2),
        ("port_out", 0x1000, 1),
        ("port_out", 0x1001, 2),
        ("port_out", 0x1002, 3),
    ];
    assert_eq!(keys(&vcpus[0]), expected);
}

#[test]
fn a_vcpu_that_stays_on_one_instruction_goes_on_after_its_time() {
    let Some(vcpus) = vcpus_of("--loop 0.05 --out 2") else { return };
    assert!(vcpus[0].measured.looped_ns >= 45_000_000, "{:?}", vcpus[0].measured);
    assert_eq!(vcpus[0].userspace["IO"], 2);
}

#[test]
fn the_vmm_measures_its_own_time() {
    let line = "--out 4 --vmm-sleep-us 5000 --vmm-spin-us 1000 --stuck 0.03";
    let Some(vcpus) = vcpus_of(line) else { return };
    let measured = vcpus[0].measured;
    assert!(measured.vmm_ns >= 54_000_000, "{measured:?}");
    assert!(measured.vmm_asleep_ns >= 50_000_000, "{measured:?}");
    assert_eq!(measured.wall_ns, measured.run_ns + measured.vmm_ns);
}

#[test]
fn the_guest_measures_its_own_computing() {
    let Some(vcpus) = vcpus_of("--cpuid 1 --spin-us 20000") else { return };
    let measured = vcpus[0].measured;
    assert!(measured.spun_ns >= 19_000_000, "{measured:?}");
    assert!(measured.guest_ns <= measured.spun_ns && measured.spun_ns <= measured.run_ns);
}

#[test]
fn the_io_thread_says_what_it_used() {
    let Some(outcome) = outcome_of("--out 1 --io-thread-us 3000") else { return };
    let beside = outcome.expect("the guest ends well").beside;
    assert_eq!(beside.other_threads[0].comm, "io-worker");
    assert!(beside.other_threads_ns >= 3_000_000, "{beside:?}");
}

#[test]
fn a_vcpu_stays_on_its_cpu() {
    let cpu = load::last_cpu().expect("there is one");
    let Some(vcpus) = vcpus_of(&format!("--out 2 --pin {cpu}")) else { return };
    assert_eq!(vcpus[0].made.out, 2);
    let error = make(&options("--out 2 --pin 100000")).expect_err("there is no such CPU");
    assert_eq!(error.exit_status(), 2);
}

#[test]
fn dirty_pages_are_those_of_kvms_own_log() {
    let Some(vcpus) = vcpus_of("--vcpus 2 --dirty 50 --dirty-pages 20") else { return };
    for vcpu in vcpus {
        assert_eq!((vcpu.made.dirty, vcpu.dirty_log), (50, DirtyLog { reads: 3, pages: 50 }));
    }
}

#[test]
fn a_doorbell_rings_in_the_kernel_as_often_as_it_is_written() {
    let Some(outcome) = outcome_of("--vcpus 2 --doorbell 30 --out 2") else { return };
    let outcome = outcome.expect("the guest ends well");
    if outcome.skipped.iter().any(|skipped| skipped.kind == "doorbell") {
        return;
    }
    for vcpu in &outcome.vms[0].vcpus {
        assert_eq!((vcpu.made.doorbell, vcpu.rang, vcpu.userspace["MMIO"]), (30, 30, 0));
    }
    assert_eq!(outcome.ioctls["KVM_IOEVENTFD"].count, 2);
}

#[test]
fn a_register_in_the_kernel_never_reaches_the_vmm() {
    let Some(outcome) = outcome_of("--mmio-kernel 9 --mmio-read 2") else { return };
    let outcome = outcome.expect("the guest ends well");
    if outcome.skipped.iter().any(|skipped| skipped.kind == "mmio_kernel") {
        return;
    }
    let vcpu = &outcome.vms[0].vcpus[0];
    assert_eq!((vcpu.made.mmio_kernel, vcpu.userspace["MMIO"]), (9, 2));
    assert!(keys(vcpu).contains(&("mmio_read", 0xfec0_0010, 9)));
}

#[test]
fn slots_are_set_moved_and_deleted_and_ioctls_counted() {
    let Some(outcome) = outcome_of("--vms 2 --slots 4 --cpuid 8") else { return };
    let outcome = outcome.expect("the guest ends well");
    for vm in &outcome.vms {
        let vcpu = &vm.vcpus[0];
        assert_eq!((vcpu.made.slots, vcpu.made.cpuid, vcpu.control), (4, 8, 1 + 4));
        assert_eq!(vm.ioctls["KVM_SET_USER_MEMORY_REGION"].count, 1 + 3 * 4);
        assert_eq!(vm.ioctls["KVM_RUN"].count, vcpu.runs);
        assert!(!vm.ioctls.contains_key("KVM_CREATE_VM"), "that one is no VM's");
    }
    assert_eq!(outcome.ioctls["KVM_SET_USER_MEMORY_REGION"].count, 2 * 13);
    assert_eq!(outcome.ioctls["KVM_CREATE_VM"].count, 2);
    assert!(outcome.ioctls.values().all(|ioctl| ioctl.failed <= ioctl.count));
}

#[test]
fn few_pages_are_touched_again_and_again() {
    let Some(vcpus) = vcpus_of("--touch 30 --touch-pages 10") else { return };
    assert_eq!((vcpus[0].made.touch, vcpus[0].control), (30, 1 + 3));
}

#[test]
fn tables_are_walked_where_the_processor_walks_them() {
    let Some(outcome) = outcome_of("--walk 12 --walk-tables 4 --mmio-read 3") else { return };
    let outcome = outcome.expect("the guest ends well");
    let walked = if outcome.backend == Backend::Pvm { 0 } else { 12 };
    assert_eq!(outcome.vms[0].vcpus[0].made.walk, walked);
    assert_eq!(outcome.skipped.is_empty(), walked > 0);
}

#[test]
fn interrupts_come_as_often_as_they_are_asked_for() {
    for line in [
        "--timer-one-shot 5",
        "--timer-periodic 4 --timer-us 20000",
        "--timer-deadline 6 --timer-disarm 3",
        "--vcpus 3 --ipi 5",
        "--vcpus 2 --msi 4 --irqfd 5",
        "--pic-line 3",
        "--ioapic-edge 3 --ioapic-level 4 --irqfd-line 5 --line-masked 2",
        "--split-irqchip --msi 3 --irqfd 2 --ipi 4",
    ] {
        let Some(outcome) = outcome_of(line) else { return };
        let outcome = outcome.expect("the guest ends well");
        assert!(outcome.skipped.is_empty(), "{:?}", outcome.skipped);
        for vcpu in &outcome.vms[0].vcpus {
            assert_eq!(vcpu.made, options(line).counts());
            for handled in &vcpu.interrupts {
                let op = Op::ALL.into_iter().find(|op| op.name() == handled.kind);
                let made = vcpu.made.get(op.expect("a kind"));
                // A periodic timer may expire once more before it is stopped.
                let more = u64::from(handled.kind == "timer_periodic");
                assert!((made..=made + more).contains(&handled.count), "{line}: {handled:?}");
            }
            assert_eq!(vcpu.userspace, vcpu.expect.userspace_exits, "{line}");
            assert!(!vcpu.interrupts.is_empty() && vcpu.waits > 0, "{line}");
        }
    }
}

#[test]
fn exceptions_are_handled_and_the_guest_goes_on() {
    let Some(vcpus) = vcpus_of("--gp 4 --ud 5 --out 3") else { return };
    let counts = vcpus[0].interrupts.iter().map(|handled| (handled.vector, handled.count));
    assert_eq!(counts.collect::<Vec<_>>(), [(13, 4), (6, 5)]);
    assert_eq!(vcpus[0].userspace["IO"], 3);
}

#[test]
fn a_vcpu_changes_cpus_where_there_are_some() {
    let Some(outcome) = outcome_of("--move-cpus 5 --out 12") else { return };
    let outcome = outcome.expect("the guest ends well");
    let moves = if load::cpus().expect("there are some").len() > 1 { 5 } else { 0 };
    let vcpu = &outcome.vms[0].vcpus[0];
    assert_eq!((vcpu.moves, vcpu.made.out, vcpu.control), (moves, 12, 1 + 6));
}

#[test]
fn there_are_no_lines_in_a_split_controller() {
    let asked = Counts { pic_line: 1, mmio_kernel: 2, msi: 3, ..demo::NOTHING };
    let host = Host { backend: Backend::Svm, ..Host::detect() };
    let (counts, skipped) = possible(asked, &host, true, || None, || None);
    assert_eq!(counts, Counts { msi: 3, ..demo::NOTHING });
    let kinds: Vec<&str> = skipped.iter().map(|skipped| &*skipped.kind).collect();
    assert_eq!(kinds, ["mmio_kernel", "pic_line"]);
}
