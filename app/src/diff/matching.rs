//! Which VM of the one side is which of the other.

use super::{Both, Side};
use crate::model::totals::VmTotals;
use std::collections::BTreeMap;
use std::fmt;

/// A VM on both sides, or on one.
#[derive(Clone, Debug)]
pub struct Pair<'a> {
    /// The VM.
    pub vms: Both<Option<&'a VmTotals>>,
    /// Whether several VMs of a side have its name.
    pub ambiguous: bool,
    /// Whether the person said so.
    pub wished: bool,
}

impl Pair<'_> {
    /// What to call it: its name, with what tells it apart where that is not enough.
    pub fn name(&self) -> String {
        let of = |vm: Option<&VmTotals>| {
            vm.map(|vm| match self.ambiguous {
                true => format!("{} ({})", vm.info.name, process(vm)),
                false => vm.info.name.clone(),
            })
        };
        match (of(self.vms.before), of(self.vms.after)) {
            (Some(before), Some(after)) if before != after => format!("{before} -> {after}"),
            (_, Some(name)) | (Some(name), None) => name,
            (None, None) => String::new(),
        }
    }
}

/// The process of a VM, as `--match` takes it.
pub fn process(vm: &VmTotals) -> String {
    match vm.info.nth {
        0 => format!("pid:{}", vm.info.pid),
        nth => format!("pid:{}.{}", vm.info.pid, u64::from(nth) + 1),
    }
}

/// A `--match` that cannot be followed, as a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatchError(pub String);

impl fmt::Display for MatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for MatchError {}

/// VMs that did something, or were seen to exist, while this side was measured.
fn there<'a>(side: &Side<'a>) -> Vec<&'a VmTotals> {
    let (begin, _) = super::numbers::span(side);
    let is_there = |vm: &&VmTotals| {
        let active = vm.vcpus.values().any(|vcpu| vcpu.time.sum() > 0 || !vcpu.cells.is_empty());
        active || vm.ended_ns.is_none_or(|ended| ended > begin)
    };
    let mut vms: Vec<&VmTotals> = side.totals.vms.values().filter(is_there).collect();
    vms.sort_by_key(|vm| (vm.info.started_unix_ns, vm.info.pid, vm.info.nth, vm.info.id));
    vms
}

/// Pairs the VMs: first those that the person pairs, then by name. Of several VMs of one name, the same process is
/// the same VM; the others are paired in the order in which they started.
pub fn pairs<'a>(
    before: &Side<'a>,
    after: &Side<'a>,
    wishes: &[String],
) -> Result<Vec<Pair<'a>>, MatchError> {
    let all = Both::new(there(before), there(after));
    let mut left = all.clone();
    let mut pairs = Vec::new();
    for wish in wishes {
        let (a, b) = wished(wish, &all)?;
        let free = |vms: &[&VmTotals], vm: &VmTotals| vms.iter().any(|v| v.info.id == vm.info.id);
        if !free(&left.before, a) || !free(&left.after, b) {
            return Err(MatchError(format!(
                "--match {wish}: one of these VMs is paired by another --match already; pair each VM once"
            )));
        }
        left.before.retain(|vm| vm.info.id != a.info.id);
        left.after.retain(|vm| vm.info.id != b.info.id);
        pairs.push((Both::new(Some(a), Some(b)), true));
    }
    pairs.extend(by_name(left).into_iter().map(|vms| (vms, false)));
    let several = all.map(|vms| several(vms));
    let ambiguous = |vms: &Both<Option<&VmTotals>>| {
        let of = |vm: Option<&VmTotals>, names: &[&str]| {
            vm.is_some_and(|vm| names.contains(&vm.info.name.as_str()))
        };
        of(vms.before, &several.before) || of(vms.after, &several.after)
    };
    Ok(pairs
        .into_iter()
        .map(|(vms, wished)| Pair { ambiguous: ambiguous(&vms), vms, wished })
        .collect())
}

/// Names that more than one VM has.
fn several<'a>(vms: &[&'a VmTotals]) -> Vec<&'a str> {
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    for vm in vms {
        *names.entry(&vm.info.name).or_default() += 1;
    }
    names.into_iter().filter(|&(_, n)| n > 1).map(|(name, _)| name).collect()
}

fn by_name(left: Both<Vec<&VmTotals>>) -> Vec<Both<Option<&VmTotals>>> {
    let Both { before, mut after } = left;
    let mut pairs = Vec::new();
    let mut unmatched = Vec::new();
    // What is the same process stays together, whatever else has its name.
    for vm in before {
        match after.iter().position(|other| vm.info.name == other.info.name && same(vm, other)) {
            Some(at) => pairs.push(Both::new(Some(vm), Some(after.remove(at)))),
            None => unmatched.push(vm),
        }
    }
    for vm in unmatched {
        let other = after.iter().position(|other| vm.info.name == other.info.name);
        pairs.push(Both::new(Some(vm), other.map(|at| after.remove(at))));
    }
    pairs.extend(after.into_iter().map(|vm| Both::new(None, Some(vm))));
    pairs
}

/// Whether they are one VM: of one process that has not been replaced.
fn same(a: &VmTotals, b: &VmTotals) -> bool {
    let who = |vm: &VmTotals| (vm.info.pid, vm.info.started_unix_ns, vm.info.nth);
    a.info.started_unix_ns != 0 && who(a) == who(b)
}

/// The two VMs that a wish names: `BEFORE=AFTER`. Names may have "=" in them: every one is tried.
fn wished<'a>(
    wish: &str,
    all: &Both<Vec<&'a VmTotals>>,
) -> Result<(&'a VmTotals, &'a VmTotals), MatchError> {
    let splits: Vec<(&str, &str)> = wish
        .match_indices('=')
        .filter_map(|(at, sign)| Some((wish.get(..at)?, wish.get(at + sign.len()..)?)))
        .collect();
    let Some(&(first, second)) = splits.first() else {
        return Err(MatchError(format!(
            "--match {wish}: BEFORE=AFTER is expected, the names of a VM in the first and in the second \
             measurement"
        )));
    };
    let both = splits
        .iter()
        .find_map(|(a, b)| Some((find(a, &all.before).ok()?, find(b, &all.after).ok()?)));
    if let Some(found) = both {
        return Ok(found);
    }
    let why = |name: &str, vms: &[&VmTotals], side: &str| {
        find(name, vms)
            .err()
            .map(|why| format!("--match {wish}: {}", why.sentence(name, side, vms)))
    };
    let text = why(first, &all.before, "before").or_else(|| why(second, &all.after, "after"));
    Err(MatchError(text.unwrap_or_else(|| format!("--match {wish} cannot be read"))))
}

enum NotFound {
    None,
    Several(Vec<String>),
}

impl NotFound {
    fn sentence(&self, name: &str, side: &str, vms: &[&VmTotals]) -> String {
        match self {
            Self::None => {
                let known: Vec<String> = vms.iter().map(|vm| vm.info.name.clone()).collect();
                format!("there is no VM called {name:?} {side}; there are {}", known.join(", "))
            }
            Self::Several(processes) => format!(
                "there are {} VMs called {name:?} {side}; say which, with {}",
                processes.len(),
                processes.join(" or ")
            ),
        }
    }
}

/// A VM by its name, or by its process: `pid:4711`, `pid:4711.2` for its second VM.
fn find<'a>(name: &str, vms: &[&'a VmTotals]) -> Result<&'a VmTotals, NotFound> {
    let named: Vec<&VmTotals> = vms.iter().copied().filter(|vm| vm.info.name == name).collect();
    match named.as_slice() {
        [vm] => return Ok(vm),
        [] => {}
        several => return Err(NotFound::Several(several.iter().map(|vm| process(vm)).collect())),
    }
    let of_process: Vec<&VmTotals> = vms.iter().copied().filter(|vm| process(vm) == name).collect();
    match of_process.as_slice() {
        [vm] => Ok(vm),
        _ => Err(NotFound::None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diff::testing::{Vms, side};
    use crate::model::session::Session;

    /// Names of pairs: before and after, "-" where there is none; a pid behind it.
    fn paired(before: &[(&str, u32)], after: &[(&str, u32)], wishes: &[&str]) -> Vec<String> {
        let session = Session::default();
        let (a, b) = (Vms(before).totals(), Vms(after).totals());
        let (a, b) = (side(&session, &a), side(&session, &b));
        let wishes: Vec<String> = wishes.iter().map(|&wish| wish.to_owned()).collect();
        let name = |vm: Option<&VmTotals>| {
            vm.map_or("-".to_owned(), |vm| format!("{}:{}", vm.info.name, vm.info.pid))
        };
        match pairs(&a, &b, &wishes) {
            Ok(pairs) => {
                let text = |p: &Pair<'_>| format!("{} {}", name(p.vms.before), name(p.vms.after));
                pairs.iter().map(text).collect()
            }
            Err(error) => vec![error.0],
        }
    }

    #[test]
    fn names_pair() {
        let pairs = paired(&[("a", 1), ("b", 2)], &[("b", 7), ("c", 8)], &[]);
        assert_eq!(pairs, ["a:1 -", "b:2 b:7", "- c:8"]);
    }

    #[test]
    fn of_one_name_the_same_process_is_the_same_and_the_rest_goes_by_age() {
        let pairs = paired(&[("a", 1), ("a", 2), ("a", 3)], &[("a", 2), ("a", 9)], &[]);
        assert_eq!(pairs, ["a:2 a:2", "a:1 a:9", "a:3 -"]);
    }

    #[test]
    fn the_person_pairs_what_has_different_names() {
        let (before, after) = ([("a=b", 1), ("c", 2)], [("c", 3), ("d", 4)]);
        assert_eq!(paired(&before, &after, &["a=b=d"]), ["a=b:1 d:4", "c:2 c:3"]);
        assert_eq!(paired(&before, &after, &["pid:2=pid:4"]), ["c:2 d:4", "a=b:1 -", "- c:3"]);
    }

    #[test]
    fn what_cannot_be_paired_is_a_sentence() {
        let (before, after) = ([("a", 1), ("a", 2)], [("b", 3)]);
        let error = |wish| paired(&before, &after, &[wish]).remove(0);
        assert_eq!(
            error("a=b"),
            "--match a=b: there are 2 VMs called \"a\" before; say which, with pid:1 or pid:2"
        );
        assert_eq!(
            error("pid:1=x"),
            "--match pid:1=x: there is no VM called \"x\" after; there are b"
        );
        assert!(error("a").contains("BEFORE=AFTER is expected"));
        let twice = paired(&before, &after, &["pid:1=b", "pid:2=b"]).remove(0);
        assert!(twice.contains("pair each VM once"), "{twice}");
    }
}
