//! Command lines and cgroups as the VMMs and their managers really make them.

use super::*;
use proptest::prelude::*;
use std::path::PathBuf;

fn process(exe: &str, comm: &str, cmdline: &str, cgroup: &str) -> ProcFacts {
    ProcFacts {
        pid: 4242,
        comm: comm.to_owned(),
        cmdline: cmdline.split_whitespace().map(str::to_owned).collect(),
        exe: (!exe.is_empty()).then(|| PathBuf::from(exe)),
        cgroup: cgroup.to_owned(),
        start_ticks: 0,
    }
}

fn named(facts: &ProcFacts) -> (String, String) {
    let Description { name, vmm } = describe(facts, 0);
    (name, vmm)
}

fn is(facts: ProcFacts, name: &str, vmm: &str) {
    assert_eq!(named(&facts), (name.to_owned(), vmm.to_owned()), "{facts:?}");
}

const LIBVIRT: &str = "0::/machine.slice/machine-qemu\\x2d3\\x2dweb\\x2d7.scope/libvirt/emulator\n";

#[test]
fn qemu_under_libvirt() {
    let cmdline = "/usr/bin/qemu-system-x86_64 -name guest=web-7,debug-threads=on -S \
                   -object {\"qom-type\":\"secret\",\"id\":\"masterKey0\"} -machine pc-q35-8.2,usb=off \
                   -uuid 0b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0 -no-user-config -nodefaults";
    is(
        process("/usr/bin/qemu-system-x86_64", "qemu-system-x86", cmdline, LIBVIRT),
        "web-7",
        "qemu",
    );
    let rhel = "/usr/libexec/qemu-kvm -name guest=db,,1,debug-threads=on -S";
    is(process("/usr/libexec/qemu-kvm", "qemu-kvm", rhel, LIBVIRT), "db,1", "qemu");
}

#[test]
fn qemu_by_hand() {
    is(process("", "qemu-system-x86", "qemu-system-x86_64 -m 1G -name plain", ""), "plain", "qemu");
    is(process("", "kvm", "/usr/bin/kvm -id 100 -name mail,debug-threads=on", ""), "mail", "qemu");
    is(
        process("", "qemu-system-x86", "qemu-system-x86_64 -m 1G", ""),
        "qemu-system-x86[4242]",
        "qemu",
    );
    is(
        process("", "qemu-system-x86", "qemu-system-x86_64 -uuid 0b1c2d3e-4f50", ""),
        "0b1c2d3e-4f50",
        "qemu",
    );
}

#[test]
fn qemu_that_was_renamed_or_replaced_is_still_qemu() {
    let renamed = process("/usr/bin/qemu-system-x86_64", "web", "qemu -name web,process=web", "");
    is(renamed, "web", "qemu");
    let replaced = process("/usr/bin/qemu-system-x86_64 (deleted)", "x", "x -name web", "");
    is(replaced, "web", "qemu");
}

#[test]
fn libvirt_names_what_the_command_line_does_not() {
    let lost = process("", "qemu-system-x86", "", LIBVIRT);
    is(lost, "web-7", "qemu");
    let old = "8:cpu:/machine/qemu-12-db.libvirt-qemu\n";
    is(process("", "qemu-kvm", "/usr/libexec/qemu-kvm", old), "db", "qemu");
    let ch = "0::/machine.slice/machine-ch\\x2d1\\x2dsmall.scope\n";
    is(process("", "cloud-hyperviso", "cloud-hypervisor", ch), "small", "cloud-hypervisor");
    let container = "0::/machine.slice/machine-arch\\x2d1\\x2dx.scope\n";
    is(process("", "bash", "bash", container), "bash[4242]", "bash");
}

#[test]
fn firecracker_by_its_id() {
    let jailed = "/firecracker --id 551e7604-e35c-42b3-b825-416853441234 --start-time-us 1 \
                  --start-time-cpu-us 2 --parent-cpu-time-us 3";
    is(
        process("/firecracker", "firecracker", jailed, ""),
        "551e7604-e35c-42b3-b825-416853441234",
        "firecracker",
    );
    let versioned = "./firecracker-v1.7.0-x86_64 --id=build-3 --api-sock /run/fc.sock";
    is(process("", "firecracker-v1.", versioned, ""), "build-3", "firecracker");
    let socket = "firecracker --api-sock /tmp/ci-9.socket";
    is(process("", "firecracker", socket, ""), "ci-9", "firecracker");
    let anonymous = "firecracker --api-sock /run/firecracker.socket";
    is(process("", "firecracker", anonymous, ""), "firecracker[4242]", "firecracker");
}

#[test]
fn cloud_hypervisor_by_its_socket() {
    let path = "cloud-hypervisor --kernel vmlinux --api-socket /run/ch/web.sock";
    is(process("", "cloud-hyperviso", path, ""), "web", "cloud-hypervisor");
    let keyed = "cloud-hypervisor --api-socket path=/run/ch/web.sock";
    is(process("", "cloud-hyperviso", keyed, ""), "web", "cloud-hypervisor");
    let kata = "/opt/kata/bin/cloud-hypervisor --api-socket /run/vc/vm/3f2a9c/clh-api.sock";
    is(process("", "cloud-hyperviso", kata, ""), "3f2a9c", "cloud-hypervisor");
}

#[test]
fn crosvm_and_kvmtool_by_name() {
    let name = "crosvm run --name termina --cpus 4 --socket /run/vm/x.sock vmlinux";
    is(process("", "crosvm", name, ""), "termina", "crosvm");
    let socket = "crosvm run -s /run/vm/arcvm.sock vmlinux";
    is(process("", "crosvm", socket, ""), "arcvm", "crosvm");
    is(process("", "lkvm", "lkvm run -k bzImage -n tiny", ""), "tiny", "kvmtool");
    is(process("", "lkvm", "lkvm run --name=tiny", ""), "tiny", "kvmtool");
}

const POD: &str = "0::/kubepods.slice/kubepods-burstable.slice/\
    kubepods-burstable-pod1b4e28ba_2fa1_11d2_883f_0016d3cca427.slice/cri-containerd-ab12.scope\n";

#[test]
fn kubevirt_guests_are_namespace_and_name() {
    let cmdline = "/usr/libexec/qemu-kvm -name guest=shop_web_1,debug-threads=on -S";
    is(process("/usr/libexec/qemu-kvm", "qemu-kvm", cmdline, POD), "shop/web_1", "qemu");
    is(process("", "qemu-kvm", cmdline, ""), "shop_web_1", "qemu");
}

#[test]
fn a_vmm_in_a_pod_without_a_name_is_the_pods() {
    let pod = "pod/1b4e28ba-2fa1-11d2-883f-0016d3cca427";
    is(process("", "qemu-kvm", "/usr/libexec/qemu-kvm", POD), pod, "qemu");
    let plain = "12:cpu:/kubepods/besteffort/pod1b4e28ba-2fa1-11d2-883f-0016d3cca427/ab12\n";
    is(process("", "dragonball", "dragonball", plain), pod, "dragonball");
    is(process("", "x", "x", "0::/kubepods/podium/x\n"), "x[4242]", "x");
}

#[test]
fn our_own_guest() {
    let guest = "/usr/bin/kvmscope guest --name noisy --vcpus 4";
    is(process("/usr/bin/kvmscope", "kvmscope", guest, ""), "noisy", "guest");
    is(process("/usr/bin/kvmscope", "kvmscope", "kvmscope guest", ""), "kvmscope[4242]", "guest");
    is(process("", "kvmscope", "kvmscope watch", ""), "kvmscope[4242]", "kvmscope");
}

#[test]
fn any_other_process_is_comm_and_pid() {
    is(process("/opt/x/my-vmm", "my-vmm", "my-vmm --name a", ""), "my-vmm[4242]", "my-vmm");
    is(process("", "", "", ""), "[4242]", "");
}

#[test]
fn several_vms_of_one_process_are_told_apart() {
    let facts = process("", "qemu-system-x86", "qemu-system-x86_64 -name web", "");
    assert_eq!(describe(&facts, 1).name, "web#1");
    assert_eq!(describe(&facts, 2).name, "web#2");
}

#[test]
fn a_name_is_bounded_and_never_blank() {
    let long = format!("qemu -name {}", "é".repeat(10_000));
    assert_eq!(describe(&process("", "qemu", &long, ""), 0).name, "é".repeat(MAX_NAME));
    let mut blank = process("", "qemu", "qemu", "");
    blank.cmdline = vec!["qemu".into(), "-name".into(), "  ".into()];
    is(blank, "qemu[4242]", "qemu");
}

#[test]
fn escapes_are_undone_and_broken_ones_left() {
    assert_eq!(unescape(r"a\x2db"), "a-b");
    assert_eq!(unescape(r"a\x2"), r"a\x2");
    assert_eq!(unescape(r"\xzz\"), r"\xzz\");
    assert_eq!(unescape(r"\xc3\xa9"), "é");
}

proptest! {
    #[test]
    fn any_process_has_a_bounded_name(
        comm in "(qemu-system-x86|firecracker|crosvm|cloud-hyperviso|lkvm|kvmscope|.{0,15})",
        cmdline in prop::collection::vec("(-name|--name|--id|--api-socket|-s|guest|=|,|(?s).{0,12})", 0..8),
        cgroup in r"(?s)(machine-|qemu|\\x2d|kubepods|-pod|/|[0-9a-f_]{0,40}|.scope|.slice|.{0,4}){0,8}",
        nth in 0u32..3,
    ) {
        let facts = ProcFacts { pid: 1, comm, cmdline, exe: None, cgroup, start_ticks: 0 };
        let Description { name, .. } = describe(&facts, nth);
        prop_assert!(!name.is_empty() && name.chars().count() <= MAX_NAME + 2);
    }
}
