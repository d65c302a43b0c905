use super::*;
use crate::export::testing;
use crate::model::ids::{Isa, Reason};
use crate::model::testing::{cell, vcpu};
use crate::model::tick::{Life, VcpuInfo};
use crate::model::totals::Totals;
use crate::source::synth::{self, Generator, plan::Plan};
use std::time::Duration;

const SECOND: u64 = 1_000_000_000;

fn came(id: u32, name: &str) -> Life {
    Life::Vm(VmInfo { id: VmId(id), pid: 100 + id, name: name.to_owned(), ..VmInfo::default() })
}

fn tick(seq: u64, life: Vec<Life>, vcpus: Vec<crate::model::tick::VcpuTick>) -> Tick {
    Tick { seq, end_ns: seq * SECOND, dur_ns: SECOND, life, vcpus, ..Tick::default() }
}

fn hlt(n: usize) -> Vec<crate::model::tick::CellTick> {
    vec![cell(Reason::exit(Isa::Vmx, 12), &vec![2_000; n])]
}

fn small() -> Limits {
    Limits { vms: 2, vcpus: 3, reasons: 2, linger_ns: Some(10 * SECOND) }
}

fn session() -> Session {
    Session { names: synth::names(), ..Session::default() }
}

/// The value of a sample.
fn value(text: &str, sample: &str) -> Option<String> {
    text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ').map(str::to_owned))
}

#[test]
fn a_small_session_in_both_dialects() {
    let (session, ticks) = testing::sample_ticks();
    let mut metrics = Metrics::new(session, Limits::FILE);
    ticks.iter().for_each(|tick| metrics.apply(tick));
    // The version is not what is tested.
    let version = format!("version=\"{}\"", env!("CARGO_PKG_VERSION"));
    let text = metrics.render(Dialect::OpenMetrics).replace(&version, "version=\"X\"");
    insta::assert_snapshot!("openmetrics", text);
    let old = metrics.render(Dialect::Prometheus).replace(&version, "version=\"X\"");
    let samples = |text: &str| {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(samples(&old), samples(&text), "the samples are the same");
    let about = old.lines().filter(|line| line.starts_with("# TYPE")).collect::<Vec<_>>();
    insta::assert_snapshot!("prometheus", about.join("\n"));
}

/// What is exported is what the report says.
#[test]
fn metrics_are_the_reports_numbers() {
    let session = session();
    let mut generator = Generator::new(Plan::noisy_host(), 3, &session);
    let mut metrics = Metrics::new(session.clone(), Limits::FILE);
    let mut totals = Totals::default();
    // Long enough for a VM to go and come again under its name.
    for _ in 0..70 {
        let tick = generator.tick(Duration::from_secs(1));
        metrics.apply(&tick);
        totals.apply(&tick);
    }
    let again = totals.vms.values().filter(|vm| vm.info.name == "ci-9").count();
    assert_eq!(again, 2);
    let text = metrics.render(Dialect::OpenMetrics);
    let mut seen = 0;
    for vm in totals.vms.values() {
        let name = &metrics.vms[&vm.info.id].label;
        for (number, vcpu) in &vm.vcpus {
            for (reason, sum) in &vcpu.cells {
                let metric = match reason.kind {
                    Kind::Exit => "kvmscope_exits_total",
                    Kind::Userspace => "kvmscope_userspace_exits_total",
                };
                let reason = session.names.name(*reason);
                let sample =
                    format!("{metric}{{vm=\"{name}\",vcpu=\"{number}\",reason=\"{reason}\"}}");
                assert_eq!(value(&text, &sample), Some(sum.count.to_string()), "{sample}");
                seen += 1;
            }
            let halted = vcpu.time.get(crate::model::tick::Phase::Blocked);
            let sample = format!(
                "kvmscope_vcpu_time_seconds_total{{vm=\"{name}\",vcpu=\"{number}\",state=\"halted\"}}"
            );
            assert_eq!(value(&text, &sample), Some(text::seconds(halted)), "{sample}");
        }
        let hlt = Reason::exit(Isa::Vmx, 12);
        let sums = vm.vcpus.values().filter_map(|vcpu| vcpu.cells.get(&hlt));
        let (timed, ns) = sums.fold((0, 0), |(n, ns), sum| (n + sum.timed(), ns + sum.total_ns));
        if timed > 0 {
            let of = |end: &str| {
                value(
                    &text,
                    &format!("kvmscope_exit_handling_seconds{end}{{vm=\"{name}\",reason=\"HLT\"}}"),
                )
            };
            assert_eq!(of("_count"), Some(timed.to_string()));
            assert_eq!(of("_sum"), Some(text::seconds(ns)));
        }
    }
    assert!(seen > 100, "{seen}");
    assert_eq!(metrics.folded(), (0, 0));
}

/// No metric is told of twice, no sample stands twice, and each stands under its own metric.
#[test]
fn the_text_is_well_formed() {
    let session = session();
    let mut generator = Generator::new(Plan::noisy_hosts(12), 3, &session);
    let mut metrics = Metrics::new(session, small());
    for _ in 0..30 {
        metrics.apply(&generator.tick(Duration::from_secs(1)));
    }
    let text = metrics.render(Dialect::OpenMetrics);
    let mut samples = BTreeSet::new();
    let mut families = BTreeSet::new();
    let mut names: Vec<String> = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let name = rest.split(' ').next().unwrap();
            assert!(families.insert(name.to_owned()), "{line}");
            names = families::ALL.iter().find(|f| f.name == name).unwrap().samples();
        } else if !line.starts_with('#') {
            let (sample, number) = line.rsplit_once(' ').unwrap();
            assert!(samples.insert(sample.to_owned()), "twice: {line}");
            let name = sample.split('{').next().unwrap();
            assert!(names.iter().any(|known| known == name), "{line} is not of {names:?}");
            assert!(number.parse::<f64>().is_ok_and(|n| n >= 0.0), "{line}");
        }
    }
    assert_eq!(families.len(), families::ALL.len());
}

#[test]
fn what_is_too_much_is_other_and_nothing_is_lost() {
    let mut metrics = Metrics::new(session(), small());
    let life = (1..=3).map(|id| came(id, &format!("vm{id}"))).collect();
    let all = |n| {
        let of = |vm| (0..2).map(move |number| vcpu(vm, number, SECOND, hlt(n)));
        (1..=3).flat_map(of).collect::<Vec<_>>()
    };
    metrics.apply(&tick(1, life, all(5)));
    metrics.apply(&tick(2, Vec::new(), all(2)));
    let text = metrics.render(Dialect::OpenMetrics);
    let exits = |vm: &str, vcpu: &str| {
        value(&text, &format!("kvmscope_exits_total{{vm=\"{vm}\",vcpu=\"{vcpu}\",reason=\"HLT\"}}"))
    };
    assert_eq!(exits("vm1", "1").as_deref(), Some("7"));
    assert_eq!(exits("vm2", "0").as_deref(), Some("7"));
    assert_eq!(exits("vm2", "other").as_deref(), Some("7"), "a vCPU beyond the bound");
    assert_eq!(exits("other", "other").as_deref(), Some("14"), "a VM beyond the bound");
    assert_eq!(value(&text, "kvmscope_folded{what=\"vms\"}").as_deref(), Some("1"));
    assert_eq!(value(&text, "kvmscope_folded{what=\"vcpus\"}").as_deref(), Some("3"));
    let all: u64 = text
        .lines()
        .filter(|line| line.starts_with("kvmscope_exits_total{"))
        .map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap())
        .sum();
    assert_eq!(all, 3 * 2 * 7);
}

#[test]
fn a_vm_that_ended_lingers_and_then_leaves_its_place() {
    let mut metrics = Metrics::new(session(), small());
    metrics.apply(&tick(1, vec![came(1, "a"), came(2, "b")], vec![vcpu(1, 0, SECOND, hlt(3))]));
    metrics.apply(&tick(2, vec![Life::VmGone(VmId(1), 2 * SECOND)], Vec::new()));
    let has = |metrics: &Metrics| metrics.render(Dialect::OpenMetrics).contains("vm=\"a\"");
    for seq in 3..12 {
        metrics.apply(&tick(seq, Vec::new(), Vec::new()));
        assert!(has(&metrics), "{seq}");
    }
    metrics.apply(&tick(12, Vec::new(), Vec::new()));
    assert!(!has(&metrics));
    assert_eq!((metrics.vms.len(), metrics.labels.len(), metrics.vcpus), (1, 1, 0));
    metrics.apply(&tick(13, vec![came(9, "c")], Vec::new()));
    assert!(metrics.render(Dialect::OpenMetrics).contains("vm=\"c\""), "there is room again");
}

#[test]
fn names_are_unique_whatever_vms_are_called() {
    let mut metrics = Metrics::new(session(), Limits::LIVE);
    metrics.apply(&tick(1, vec![came(1, "a"), came(2, "a"), came(3, "other")], Vec::new()));
    let label = |metrics: &Metrics, id| metrics.vms[&VmId(id)].label.clone();
    assert_eq!([1, 2, 3].map(|id| label(&metrics, id)), ["a", "a (pid 102)", "other (pid 103)"]);
    // Started again under its name: the counters begin anew, as of a process that was.
    metrics.apply(&tick(2, vec![Life::VmGone(VmId(1), SECOND)], Vec::new()));
    metrics.apply(&tick(3, vec![came(4, "a")], Vec::new()));
    assert_eq!(label(&metrics, 4), "a");
    assert!(!metrics.vms.contains_key(&VmId(1)));
    // A name that becomes known later.
    metrics.apply(&tick(4, vec![came(4, "web")], Vec::new()));
    assert_eq!((label(&metrics, 4), metrics.labels.contains_key("a")), ("web".to_owned(), false));
}

#[test]
fn what_is_lost_is_told() {
    let mut metrics = Metrics::new(session(), Limits::LIVE);
    let lost = Lost { missed_runs: 1, ring: 2, pool_full: 3, slots_full: 4 };
    metrics.apply(&Tick { lost, ..tick(1, Vec::new(), Vec::new()) });
    metrics.apply(&Tick { lost, ..tick(5, Vec::new(), Vec::new()) });
    let text = metrics.render(Dialect::OpenMetrics);
    for (cause, n) in
        [("missed_runs", 2), ("ring", 4), ("pool_full", 6), ("slots_full", 8), ("ticks", 3)]
    {
        let sample = format!("kvmscope_lost_total{{cause=\"{cause}\"}}");
        assert_eq!(value(&text, &sample), Some(n.to_string()), "{cause}");
    }
}

/// A host that starts and ends VMs for ever does not make it grow.
#[test]
fn coming_and_going_does_not_fill_memory() {
    let mut metrics = Metrics::new(session(), small());
    for seq in 1..500u32 {
        let key = VcpuKey { vm: VmId(seq), vcpu: 0 };
        let mut life = vec![came(seq, &format!("vm{seq}"))];
        life.push(Life::Vcpu(VcpuInfo { key, ..VcpuInfo::default() }));
        let gone = VmId(seq - 1);
        life.push(Life::VmGone(gone, u64::from(seq) * SECOND));
        metrics.apply(&tick(seq.into(), life, vec![vcpu(seq, 0, SECOND, hlt(1))]));
        assert!(metrics.vms.len() <= 2 && metrics.labels.len() <= 2 && metrics.vcpus <= 3);
        assert!(metrics.world.who.vcpus().count() <= 2);
    }
    assert!(metrics.world.who.gone_by(u64::MAX).len() <= 12);
}
