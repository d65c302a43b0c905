//! The command line of `kvmscope guest`.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::code::{
    DIRTY_PAGES, DIRTY_USUALLY, EXEC_PAGES, MANY_VCPUS, PORT_CONTROL, PORT_SEEN, TOUCH_PAGES,
    Targets, WALK_TABLES,
};
use super::error::Error;
use super::op::{Counts, Op};
use super::plan::Pages;
use super::space;

mod irq;

pub use irq::IrqOptions;

/// How long after it came to a halt a vCPU is woken, unless something else is asked for, µs.
const HALT_US: u64 = 1000;

/// How the result is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs: one JSON object.
    Json,
}

/// What the guest makes. Counts are per vCPU; with none given, 1000 of each kind.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// vCPUs of each VM
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(MANY_VCPUS)))]
    pub vcpus: u32,
    /// VMs, all in this process
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=64))]
    pub vms: u32,
    /// N of each kind (a count of its own overrides it)
    #[arg(long, value_name = "N", value_parser = count())]
    pub all: Option<u64>,
    /// OUT to a port without a device in the kernel
    #[arg(long, value_name = "N", value_parser = count())]
    pub out: Option<u64>,
    /// IN from a port without a device in the kernel
    #[arg(long = "in", value_name = "N", value_parser = count())]
    pub input: Option<u64>,
    /// Reads of an address without memory
    #[arg(long, value_name = "N", value_parser = count())]
    pub mmio_read: Option<u64>,
    /// Writes to an address without memory
    #[arg(long, value_name = "N", value_parser = count())]
    pub mmio_write: Option<u64>,
    /// CPUID
    #[arg(long, value_name = "N", value_parser = count())]
    pub cpuid: Option<u64>,
    /// RDMSR of IA32_APIC_BASE
    #[arg(long, value_name = "N", value_parser = count())]
    pub rdmsr: Option<u64>,
    /// WRMSR of IA32_BIOS_UPDT_TRIG, which KVM drops
    #[arg(long, value_name = "N", value_parser = count())]
    pub wrmsr: Option<u64>,
    /// VMCALL or VMMCALL with a number that KVM does not know
    #[arg(long, value_name = "N", value_parser = count())]
    pub hypercall: Option<u64>,
    /// HLT without an interrupt controller in the kernel (each round ends with one more)
    #[arg(long, value_name = "N", value_parser = count())]
    pub hlt: Option<u64>,
    /// First writes to a page of guest memory
    #[arg(long, value_name = "N", value_parser = count())]
    pub touch: Option<u64>,
    /// Writes to one page that may only be read: each faults on it and goes to the VMM
    #[arg(long, value_name = "N", value_parser = count())]
    pub same_page: Option<u64>,
    /// HLT with an interrupt controller in the kernel: the vCPU halts inside KVM until woken
    #[arg(long, value_name = "N", value_parser = count(), conflicts_with = "hlt")]
    pub halt: Option<u64>,
    /// How long after it came to a halt the VMM wakes a vCPU or interrupts it
    #[arg(long, value_name = "US", default_value_t = HALT_US,
          value_parser = clap::value_parser!(u64).range(..=10_000_000))]
    pub halt_us: u64,
    /// PAUSE, which exits only where KVM looks for too many of them
    #[arg(long, value_name = "N", value_parser = count())]
    pub pause: Option<u64>,
    /// Writes to an address that rings an eventfd in the kernel (ioeventfd)
    #[arg(long, value_name = "N", value_parser = count())]
    pub doorbell: Option<u64>,
    /// Reads of a register of the interrupt controller in the kernel
    #[arg(long, value_name = "N", value_parser = count(), conflicts_with = "hlt")]
    pub mmio_kernel: Option<u64>,
    /// Writes to pages whose dirtying KVM logs; the log is read after each round
    #[arg(long, value_name = "N", value_parser = count(), conflicts_with = "die")]
    pub dirty: Option<u64>,
    /// Reads through page tables of the guest that KVM has not mapped
    #[arg(long, value_name = "N", value_parser = count())]
    pub walk: Option<u64>,
    /// Memory slots that the VMM sets, moves and deletes, each time before a round
    #[arg(long, value_name = "N", value_parser = count(), conflicts_with = "die")]
    pub slots: Option<u64>,
    /// Huge pages that are read and then executed; KVM maps them not executable first (NX huge pages)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=EXEC_PAGES))]
    pub exec: Option<u64>,
    /// Hypercalls KICK_CPU
    #[arg(long, value_name = "N", value_parser = count())]
    pub kick_cpu: Option<u64>,
    /// Hypercalls SEND_IPI
    #[arg(long, value_name = "N", value_parser = count())]
    pub send_ipi: Option<u64>,
    /// Hypercalls SCHED_YIELD
    #[arg(long, value_name = "N", value_parser = count())]
    pub sched_yield: Option<u64>,
    /// Hypercalls CLOCK_PAIRING
    #[arg(long, value_name = "N", value_parser = count())]
    pub clock_pairing: Option<u64>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a comment here would become that of the whole command")]
    pub irq: IrqOptions,
    /// So many different pages are touched, then given back and touched again
    #[arg(long, value_name = "P", default_value_t = TOUCH_PAGES,
          value_parser = clap::value_parser!(u64).range(1..=TOUCH_PAGES))]
    pub touch_pages: u64,
    /// So many different pages are written between two reads of the log
    #[arg(long, value_name = "P", default_value_t = DIRTY_USUALLY,
          value_parser = clap::value_parser!(u64).range(1..=DIRTY_PAGES))]
    pub dirty_pages: u64,
    /// So many different page tables are walked, then given back and walked again
    #[arg(long, value_name = "P", default_value_t = WALK_TABLES,
          value_parser = clap::value_parser!(u64).range(1..=WALK_TABLES))]
    pub walk_tables: u64,
    /// The port of OUT
    #[arg(long, value_name = "PORT", value_parser = port, conflicts_with = "spread_ports")]
    pub out_port: Option<u16>,
    /// The port of IN
    #[arg(long, value_name = "PORT", value_parser = port)]
    pub in_port: Option<u16>,
    /// OUT goes round so many ports, to some more often than to others
    #[arg(long, value_name = "P", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub spread_ports: Option<u16>,
    /// The MSR of RDMSR; one that KVM does not have ends the guest
    #[arg(long, value_name = "MSR", value_parser = number)]
    pub rdmsr_of: Option<u32>,
    /// The MSR of WRMSR, which writes 0; one that KVM refuses ends the guest
    #[arg(long, value_name = "MSR", value_parser = number)]
    pub wrmsr_to: Option<u32>,
    /// Compute for so many microseconds in every round, without an exit
    #[arg(long, value_name = "US", default_value_t = 0,
          value_parser = clap::value_parser!(u64).range(..=500_000))]
    pub spin_us: u64,
    /// Rounds a second, each making at most one of each kind [default: as fast as possible]
    #[arg(long, value_name = "HZ", value_parser = rate)]
    pub rate: Option<f64>,
    /// How long the VMM sleeps in each IO and MMIO exit
    #[arg(long, value_name = "US", default_value_t = 0,
          value_parser = clap::value_parser!(u64).range(..=10_000_000))]
    pub vmm_sleep_us: u64,
    /// How long the VMM computes in each IO and MMIO exit
    #[arg(long, value_name = "US", default_value_t = 0,
          value_parser = clap::value_parser!(u64).range(..=10_000_000))]
    pub vmm_spin_us: u64,
    /// The VMM leaves every vCPU's first IO or MMIO exit unanswered for so long
    #[arg(long, value_name = "SEC", value_parser = seconds)]
    pub stuck: Option<Duration>,
    /// Every vCPU stays on one instruction for so long, without an exit of its own
    #[arg(long = "loop", value_name = "SEC", value_parser = seconds)]
    pub stay: Option<Duration>,
    /// Keep the vCPUs' threads on this CPU
    #[arg(long, value_name = "CPU")]
    pub pin: Option<usize>,
    /// A process `neighbour` computes on this CPU meanwhile
    #[arg(long, value_name = "CPU")]
    pub neighbour: Option<usize>,
    /// A thread `io-worker` of the VMM uses so much CPU time meanwhile
    #[arg(long, value_name = "US", value_parser = clap::value_parser!(u64).range(1..=3_600_000_000))]
    pub io_thread_us: Option<u64>,
    /// Every vCPU changes to another thread half way
    #[arg(long)]
    pub move_thread: bool,
    /// Every vCPU's thread ends half way, in the middle of handling a userspace exit
    #[arg(long, conflicts_with = "move_thread")]
    pub die: bool,
    /// Give up with an error after so many seconds
    #[arg(long, value_name = "SEC", default_value_t = 60,
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub deadline: u64,
    /// The process's name, as the VM's name is shown (at most 15 bytes are kept)
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// How the result is printed
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub format: Format,
    /// Be the guest that `kvmscope demo` watches: steady work until standard input ends
    #[arg(long, hide = true)]
    pub demo: bool,
    /// Be the process that `--neighbour` starts
    #[arg(long, hide = true, value_name = "CPU")]
    pub be_neighbour: Option<usize>,
}

/// Counts are 32-bit in the guest.
fn count() -> clap::builder::RangedU64ValueParser<u64> {
    clap::value_parser!(u64).range(..=u64::from(u32::MAX))
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(hz) if (0.001..=1e6).contains(&hz) => Ok(hz),
        _ => Err("a rate is a number of rounds a second from 0.001 to 1000000".to_owned()),
    }
}

/// A number, in hexadecimal with 0x in front.
fn number(text: &str) -> Result<u32, String> {
    let parsed = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| "a number from 0 to 0xffffffff, such as 0x6e0".to_owned())
}

fn port(text: &str) -> Result<u16, String> {
    match number(text).map(u16::try_from) {
        Ok(Ok(own @ (PORT_CONTROL | PORT_SEEN))) => {
            Err(format!("{own:#x} is the guest's own port"))
        }
        Ok(Ok(port)) => Ok(port),
        _ => Err("a port is a number from 0 to 0xffff, such as 0x608".to_owned()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.001..=86_400.0).contains(&seconds) => {
            Ok(Duration::from_secs_f64(seconds))
        }
        _ => Err("a number of seconds from 0.001 to 86400".to_owned()),
    }
}

/// Ports of KVM's own interrupt controllers (8259 and its edge/level registers).
const PIC_PORTS: [u16; 6] = [0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1];

impl Options {
    /// What the instructions are about.
    pub fn targets(&self) -> Targets {
        let usual = Targets::default();
        Targets {
            out_port: self.out_port.unwrap_or(usual.out_port),
            in_port: self.in_port.unwrap_or(usual.in_port),
            msr_read: self.rdmsr_of.unwrap_or(usual.msr_read),
            msr_written: self.wrmsr_to.unwrap_or(usual.msr_written),
        }
    }

    /// How many pages are used before they are used again.
    pub fn pages(&self) -> Pages {
        Pages { touch: self.touch_pages, dirty: self.dirty_pages, walk: self.walk_tables }
    }

    /// Whether the options make sense together, for what is asked for.
    ///
    /// # Errors
    /// [`Error::Usage`], a sentence, when not.
    pub fn check(&self, counts: &Counts) -> Result<(), Error> {
        let refuse = |text: String| Err(Error::Usage(text));
        if self.die && counts.reaching_vmm() == 0 {
            return refuse(
                "--die ends a vCPU in the middle of a userspace exit, but none is asked for; add \
                 one of --out, --in, --mmio-read, --mmio-write and --hlt"
                    .to_owned(),
            );
        }
        if self.stuck.is_some() && counts.devices() == 0 {
            return refuse(
                "--stuck leaves an exit to a device unanswered, but none is asked for; add one \
                 of --out, --in, --mmio-read, --mmio-write and --same-page"
                    .to_owned(),
            );
        }
        if self.spread_ports.is_some() && counts.out == 0 {
            return refuse(
                "--spread-ports is about OUT, but none is asked for; add --out".to_owned(),
            );
        }
        self.check_memory(counts).or_else(refuse)?;
        self.irq.check(counts, self.vcpus).or_else(refuse)?;
        if self.halt_us != HALT_US && !counts.any(Op::is_woken) {
            return refuse(
                "--halt-us is about halts that the VMM ends, but none is asked for; add --halt"
                    .to_owned(),
            );
        }
        let deadline = Duration::from_secs(self.deadline);
        for (name, time) in [("--stuck", self.stuck), ("--loop", self.stay)] {
            if time.is_some_and(|time| time >= deadline) {
                return refuse(format!(
                    "{name} lasts until the guest gives up, after {} s; ask for less, or for a \
                     later --deadline",
                    self.deadline
                ));
            }
        }
        let targets = self.targets();
        let taken = [(counts.out, targets.out_port), (counts.input, targets.in_port)]
            .into_iter()
            .find(|&(count, port)| count > 0 && PIC_PORTS.contains(&port));
        let whole = counts.any(Op::needs_irqchip) && !self.irq.split_irqchip;
        if let (true, Some((_, port))) = (whole, taken) {
            return refuse(format!(
                "with --halt and others that need KVM's interrupt controllers port {port:#x} is a device of KVM's own and never comes to the VMM; \
                 take another port"
            ));
        }
        Ok(())
    }

    /// The part of [`Options::check`] that is about memory.
    fn check_memory(&self, counts: &Counts) -> Result<(), String> {
        let usual = Pages::default();
        for (name, given, of) in [
            ("--touch-pages", self.touch_pages != usual.touch, (counts.touch, "--touch")),
            ("--dirty-pages", self.dirty_pages != usual.dirty, (counts.dirty, "--dirty")),
            ("--walk-tables", self.walk_tables != usual.walk, (counts.walk, "--walk")),
        ] {
            if given && of.0 == 0 {
                return Err(format!("{name} is about {0}, but none is asked for; add {0}", of.1));
            }
        }
        if counts.slots > 0 && self.vcpus > 1 {
            return Err("when a slot is moved or deleted KVM forgets all of the VM's pages, and \
                 other vCPUs may be anywhere then, so that their faults cannot be counted; with \
                 --slots take --vcpus 1 (and --vms for more)"
                .to_owned());
        }
        if let Some(why) = space::too_many(self.vcpus, counts, self.touch_pages) {
            return Err(why);
        }
        let remembered = [
            (counts.mmio_read, "--mmio-read"),
            (counts.mmio_write, "--mmio-write"),
            (counts.mmio_kernel, "--mmio-kernel"),
            (counts.doorbell, "--doorbell"),
            (counts.dirty, "--dirty"),
            (counts.exec, "--exec"),
        ];
        if let (true, Some((_, name))) =
            (counts.slots > 0, remembered.into_iter().find(|&(count, _)| count > 0))
        {
            return Err(format!(
                "when a slot is moved or deleted KVM forgets all of the VM's pages, also those \
                 of {name}, whose next fault would be of another kind; take {name} and --slots \
                 in two runs"
            ));
        }
        if counts.mmio_kernel > 0 && self.vcpus > 1 {
            return Err("the vCPUs of a VM share its interrupt controller's page, and whose \
                 first access faults cannot be known; with --mmio-kernel take --vcpus 1 (and \
                 --vms for more)"
                .to_owned());
        }
        Ok(())
    }

    /// How many of each kind every vCPU is asked for.
    pub fn counts(&self) -> Counts {
        let own = |op| match op {
            Op::Out => self.out,
            Op::In => self.input,
            Op::MmioRead => self.mmio_read,
            Op::MmioWrite => self.mmio_write,
            Op::Cpuid => self.cpuid,
            Op::Rdmsr => self.rdmsr,
            Op::Wrmsr => self.wrmsr,
            Op::Hypercall => self.hypercall,
            Op::Hlt => self.hlt,
            Op::Touch => self.touch,
            Op::SamePage => self.same_page,
            Op::Halt => self.halt,
            Op::Pause => self.pause,
            Op::Doorbell => self.doorbell,
            Op::MmioKernel => self.mmio_kernel,
            Op::Dirty => self.dirty,
            Op::Walk => self.walk,
            Op::Slots => self.slots,
            Op::Exec => self.exec,
            Op::KickCpu => self.kick_cpu,
            Op::SendIpi => self.send_ipi,
            Op::SchedYield => self.sched_yield,
            Op::ClockPairing => self.clock_pairing,
            op => self.irq.count(op),
        };
        let none_given = self.all.is_none()
            && self.stay.is_none()
            && self.irq.move_cpus.is_none()
            && Op::ALL.iter().all(|&op| own(op).is_none());
        let rest = if none_given { 1000 } else { self.all.unwrap_or(0) };
        Counts::from_fn(|op| own(op).unwrap_or(if op.is_plain() { rest } else { 0 }))
    }

    /// How long the VMM sleeps in each device exit.
    pub fn vmm_sleep(&self) -> Duration {
        Duration::from_micros(self.vmm_sleep_us)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    fn parse(line: &str) -> Result<Options, clap::Error> {
        Cli::try_parse_from(["guest"].into_iter().chain(line.split_whitespace()))
            .map(|cli| cli.options)
    }

    fn counts(line: &str) -> Counts {
        parse(line).expect("accepted").counts()
    }

    #[test]
    fn a_count_of_its_own_overrides_all() {
        let of_each = |count| Counts::from_fn(|op| if op.is_plain() { count } else { 0 });
        assert_eq!(counts("--all 10 --out 5"), Counts { out: 5, ..of_each(10) });
        assert_eq!(counts("--in 0 --cpuid 3"), Counts { cpuid: 3, ..Counts::default() });
    }

    #[test]
    fn without_counts_there_are_a_thousand_of_each() {
        let thousand = |op: Op| if op.is_plain() { 1000 } else { 0 };
        assert_eq!(counts("--vcpus 2"), Counts::from_fn(thousand));
        assert_eq!(counts("--halt 3"), Counts { halt: 3, ..Counts::default() });
        assert_eq!(counts("--loop 1"), Counts::default());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for line in [
            "--vcpus 0",
            "--vcpus 385",
            "--rate 0",
            "--rate fast",
            "--out -1",
            "--out 4294967296",
            "--deadline 0",
            "--spin-us 500001",
            "--die --move-thread",
            "--halt 1 --hlt 1",
            "--timer-us 499",
            "--hlt 1 --ipi 1",
            "--die --ipi 1 --out 1",
            "--move-cpus 3 --pin 0",
            "--split-irqchip --hlt 3",
            "--in 1 --in-port 0x510",
            "--in 1 --in-port 65536",
            "--out 1 --out-port 1 --spread-ports 2",
            "--spread-ports 0",
            "--loop 0",
            "--wrmsr-to TSC",
            "--dirty 5 --out 1 --die",
            "--slots 5 --out 1 --die",
            "--hlt 1 --mmio-kernel 1",
            "--touch 1 --touch-pages 513",
            "--dirty 1 --dirty-pages 1025",
            "--walk 1 --walk-tables 0",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn numbers_are_decimal_or_hexadecimal() {
        let options = parse("--in-port 0x608 --out-port 233 --wrmsr-to 0x6e0").expect("accepted");
        let targets =
            Targets { in_port: 0x608, out_port: 233, msr_written: 0x6e0, ..Targets::default() };
        assert_eq!(options.targets(), targets);
    }

    #[test]
    fn what_makes_no_sense_together_is_said() {
        let refused = |line: &str| {
            let options = parse(line).expect("accepted by itself");
            let error = options.check(&options.counts()).expect_err(line);
            assert_eq!(error.exit_status(), 2);
            error.to_string()
        };
        assert!(refused("--cpuid 1 --die").contains("--hlt"));
        assert!(refused("--cpuid 1 --stuck 1").contains("--same-page"));
        assert!(refused("--in 1 --spread-ports 3").contains("add --out"));
        assert!(refused("--out 1 --stuck 5 --deadline 5").contains("--deadline"));
        assert!(refused("--loop 60").contains("--loop"));
        assert!(refused("--in 1 --in-port 0x20 --halt 1").contains("0x20"));
        assert!(refused("--out 1 --touch-pages 5").contains("add --touch"));
        assert!(refused("--out 1 --halt-us 5").contains("add --halt"));
        assert!(refused("--pic-line 1 --vcpus 2").contains("--vms"));
        assert!(refused("--line-masked 1 --vcpus 2").contains("--line-masked"));
        assert!(refused("--slots 1 --gp 1").contains("two runs"));
        assert!(refused("--slots 1 --vcpus 2").contains("--vcpus 1"));
        assert!(refused("--slots 1 --all 1").contains("--mmio-read and --slots"));
        assert!(refused("--mmio-kernel 1 --vcpus 2").contains("--vcpus 1"));
        let fine = parse("--in 1 --in-port 0x20").expect("accepted");
        fine.check(&fine.counts()).expect("without --halt it is the VMM's");
    }
}
