//! The command line of `kvmscope guest`.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::code::MAX_VCPUS;
use super::op::{Counts, Op};

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
          value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_VCPUS)))]
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

impl Options {
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
        };
        let none_given = self.all.is_none() && Op::ALL.iter().all(|&op| own(op).is_none());
        let rest = if none_given { 1000 } else { self.all.unwrap_or(0) };
        Counts::from_fn(|op| own(op).unwrap_or(rest))
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
        assert_eq!(counts("--all 10 --out 5"), Counts { out: 5, ..Counts::from_fn(|_| 10) });
        assert_eq!(counts("--in 0 --cpuid 3"), Counts { cpuid: 3, ..Counts::default() });
    }

    #[test]
    fn without_counts_there_are_a_thousand_of_each() {
        assert_eq!(counts("--vcpus 2"), Counts::from_fn(|_| 1000));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for line in [
            "--vcpus 0",
            "--vcpus 97",
            "--rate 0",
            "--rate fast",
            "--out -1",
            "--out 4294967296",
            "--deadline 0",
            "--spin-us 500001",
            "--die --move-thread",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
