//! Invented numbers instead of a host's, for tests and measurements.

use crate::source::synth::{Pace, Synth, plan::Plan};

/// When invented sessions begin: the probes' clock and wall time, ns. Always the same, so that numbers are.
const BEGIN: (u64, u64) = (1_000_000_000, 1_700_000_000_000_000_000);

/// Options that are not for users, and not listed.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// So many ticks of an invented host, as fast as they are taken
    #[arg(long, hide = true, value_name = "TICKS")]
    synthetic: Option<u64>,
    /// An invented host where every vCPU does the same, instead of the usual one
    #[arg(long, hide = true, value_name = "VMSxVCPUSxREASONS", requires = "synthetic", value_parser = plan)]
    plan: Option<Uniform>,
}

/// VMs, vCPUs of each, reasons of each of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uniform(u32, u32, u32);

fn plan(text: &str) -> Result<Uniform, String> {
    let numbers: Vec<u32> = text.split('x').filter_map(|number| number.parse().ok()).collect();
    match numbers[..] {
        [vms, vcpus, reasons] => Ok(Uniform(vms, vcpus, reasons)),
        _ => Err("VMSxVCPUSxREASONS is expected, as in 20x8x11".to_owned()),
    }
}

impl Options {
    /// The source that was asked for, if one was.
    pub fn source(&self) -> Option<Synth> {
        let ticks = self.synthetic?;
        let plan = match self.plan {
            Some(Uniform(vms, vcpus, reasons)) => Plan::uniform(vms, vcpus, reasons, 1),
            None => Plan::noisy_host(),
        };
        let synth = Synth::new(plan, 1, BEGIN, "--synthetic was asked for", "kvmscope report");
        Some(synth.pace(Pace::AtOnce(ticks)))
    }
}
