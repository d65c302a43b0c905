//! A recording as a table: a row for each reason, and for each part of time, of each vCPU in each tick.

use super::follow::World;
use super::parts::state_word;
use super::sink::Sink;
use crate::model::hist::sparse_quantile;
use crate::model::ids::{Kind, VcpuKey};
use crate::model::tick::{CellTick, Phase, PhaseTimes, Tick};
use crate::model::totals::Totals;
use crate::record::End;
use std::io::{self, Write};
use std::time::{Duration, UNIX_EPOCH};

/// The columns. Empty where a number has no meaning in a row, or nothing was timed.
pub const COLUMNS: [&str; 18] = [
    "time",
    "dur_ns",
    "vm",
    "vm_id",
    "vcpu",
    "kind",
    "reason",
    "count",
    "rate",
    "timed",
    "total_ns",
    "off_cpu_ns",
    "vmm_ns",
    "min_ns",
    "p50_ns",
    "p90_ns",
    "p99_ns",
    "max_ns",
];

/// A moment as people and programs write it (RFC 3339), in UTC.
fn moment(unix_ns: u64) -> String {
    let time = UNIX_EPOCH.checked_add(Duration::from_nanos(unix_ns)).unwrap_or(UNIX_EPOCH);
    humantime::format_rfc3339_nanos(time).to_string()
}

/// Writes the table.
pub struct Csv<W: Write> {
    out: csv::Writer<W>,
    has_head: bool,
}

/// What every row of a vCPU in a tick begins with.
struct Begin<'a> {
    time: &'a str,
    dur_ns: u64,
    name: String,
    key: VcpuKey,
}

impl<W: Write> Csv<W> {
    /// Into this.
    pub fn new(out: W) -> Self {
        Self { out: csv::Writer::from_writer(out), has_head: false }
    }

    fn head(&mut self) -> io::Result<()> {
        if !self.has_head {
            self.has_head = true;
            self.out.write_record(COLUMNS)?;
        }
        Ok(())
    }

    fn row(&mut self, begin: &Begin<'_>, kind: &str, rest: [String; 12]) -> io::Result<()> {
        let Begin { time, dur_ns, name, key } = begin;
        let (dur, vm, vcpu) = (dur_ns.to_string(), key.vm.0.to_string(), key.vcpu.to_string());
        let first = [*time, &dur, name, &vm, &vcpu, kind];
        Ok(self.out.write_record(first.into_iter().chain(rest.iter().map(String::as_str)))?)
    }

    fn cell(&mut self, world: &World, begin: &Begin<'_>, cell: &CellTick) -> io::Result<()> {
        let kind = match cell.reason.kind {
            Kind::Exit => "exit",
            Kind::Userspace => "userspace",
        };
        let timed = cell.timed();
        let some = |n: Option<u64>| n.map(|n| n.to_string()).unwrap_or_default();
        let of = |n: u64| some((timed > 0).then_some(n));
        let quantile = |q| some(sparse_quantile(&cell.hist, q, cell.min_ns, cell.max_ns));
        let rest = [
            world.session.names.name(cell.reason).into_owned(),
            cell.count.to_string(),
            rate(cell.count, begin.dur_ns),
            timed.to_string(),
            of(cell.total_ns),
            of(cell.off_ns),
            of(cell.vmm_ns),
            of(cell.min_ns),
            quantile(0.5),
            quantile(0.9),
            quantile(0.99),
            of(cell.max_ns),
        ];
        self.row(begin, kind, rest)
    }

    fn time(&mut self, begin: &Begin<'_>, time: &PhaseTimes) -> io::Result<()> {
        for phase in Phase::ALL {
            let ns = time.get(phase);
            if ns > 0 {
                let mut rest = [const { String::new() }; 12];
                let [reason, _, _, _, total, ..] = &mut rest;
                *reason = state_word(phase).to_owned();
                *total = ns.to_string();
                self.row(begin, "time", rest)?;
            }
        }
        Ok(())
    }
}

/// So many a second; empty where the interval has no length.
fn rate(count: u64, dur_ns: u64) -> String {
    if dur_ns == 0 {
        return String::new();
    }
    let rate = count as f64 * 1e9 / dur_ns as f64;
    format!("{rate:.3}").trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl<W: Write> Sink for Csv<W> {
    fn session(&mut self, _: &World) -> io::Result<()> {
        self.head()
    }

    fn known(&mut self, _: &World, _: u64, _: &Totals) -> io::Result<()> {
        Ok(())
    }

    fn tick(&mut self, world: &World, tick: &Tick, silent: &[(VcpuKey, Phase)]) -> io::Result<()> {
        let time = moment(world.session.unix_ns(tick.end_ns));
        let begin = |key: VcpuKey| Begin {
            time: &time,
            dur_ns: tick.dur_ns,
            name: world.who.name(key.vm),
            key,
        };
        for vcpu in &tick.vcpus {
            let begin = begin(vcpu.key);
            self.time(&begin, &vcpu.time)?;
            vcpu.cells.iter().try_for_each(|cell| self.cell(world, &begin, cell))?;
        }
        for &(key, phase) in silent {
            let mut time = PhaseTimes::default();
            if let Some(part) = time.0.get_mut(phase as usize) {
                *part = tick.dur_ns;
            }
            self.time(&begin(key), &time)?;
        }
        Ok(())
    }

    fn end(&mut self, _: &World, _: &End) -> io::Result<()> {
        self.head()?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::testing::{export, recording};
    use std::collections::BTreeMap;

    fn table() -> String {
        let mut out = Vec::new();
        export(&mut Csv::new(&mut out), recording(), None);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn a_small_session_as_a_table() {
        insta::assert_snapshot!("csv", table());
    }

    /// A program that reads it gets the names as they are, and time that adds up.
    #[test]
    fn the_table_is_read_back() {
        let text = table();
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        assert_eq!(reader.headers().expect("a head"), COLUMNS.as_slice());
        let mut time: BTreeMap<(String, String, String), u64> = BTreeMap::new();
        let mut exits = 0;
        for record in reader.records() {
            let record = record.expect("of as many columns");
            let at = |name: &str| {
                let column = COLUMNS.iter().position(|column| *column == name).expect("a column");
                record[column].to_owned()
            };
            if at("kind") == "time" {
                let key = (at("time"), at("vm"), at("vcpu"));
                *time.entry(key).or_default() += at("total_ns").parse::<u64>().expect("ns");
            } else {
                exits += at("count").parse::<u64>().expect("a count");
                assert_eq!(at("timed") == "0", at("p50_ns").is_empty(), "{record:?}");
            }
        }
        assert!(time.keys().any(|(_, vm, _)| vm == "evil\u{1b}[2J"));
        // Whoever lives has all of its time in each tick, told of or not.
        let first = time.iter().filter(|((_, vm, _), _)| vm == "web-7").map(|(_, ns)| *ns);
        let second = 1_000_000_000;
        assert_eq!(first.collect::<Vec<_>>(), [second, second, second, 40 * second]);
        assert_eq!(exits, 3 + 1 + 2 + 1 + 36_100);
    }

    #[test]
    fn moments_and_rates_are_readable() {
        assert_eq!(moment(1_700_000_000_000_000_000), "2023-11-14T22:13:20.000000000Z");
        assert_eq!(moment(1_700_000_000_500_000_000), "2023-11-14T22:13:20.500000000Z");
        assert_eq!(moment(u64::MAX), "2554-07-21T23:34:33.709551615Z");
        assert_eq!(rate(5, 2_000_000_000), "2.5");
        assert_eq!(
            (rate(100, 1_000_000_000), rate(0, 1_000), rate(3, 0)),
            ("100".into(), "0".into(), String::new())
        );
        assert_eq!(rate(1, 3_000_000_000), "0.333");
    }
}
