//! Interrupts that were sent by other threads than vCPUs, or through chips, over a whole session: bounded, and
//! none is lost. What has no place is one number a VM.

use crate::model::ids::VmId;
use crate::model::meters::RouteTick;
use crate::model::tick::Tick;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Rows kept of a VM.
pub const MAX_ROUTES: usize = 512;
/// Rows that may be beyond it before those with least give way.
const SLACK: usize = MAX_ROUTES / 4;

/// Rows by VM; `None` is where that is not known.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Routes {
    vms: BTreeMap<Option<VmId>, OfVm>,
    /// Interrupts that found no row in the kernel, of whatever VM.
    pub left_out: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
struct OfVm {
    /// Counts, and those of them that were coalesced, by row; in a row itself both are 0.
    rows: BTreeMap<RouteTick, (u64, u64)>,
    other: u64,
}

impl Routes {
    /// Adds an interval.
    pub(super) fn add(&mut self, tick: &Tick) {
        self.left_out = self.left_out.saturating_add(tick.routes_left_out);
        for route in &tick.routes {
            let row = RouteTick { count: 0, coalesced: 0, ..route.clone() };
            let vm = self.vms.entry(route.vm).or_default();
            let sum = vm.rows.entry(row).or_default();
            sum.0 = sum.0.saturating_add(route.count);
            sum.1 = sum.1.saturating_add(route.coalesced);
        }
        for vm in self.vms.values_mut().filter(|vm| vm.rows.len() > MAX_ROUTES + SLACK) {
            vm.shrink();
        }
    }

    /// Those into a VM, most first; `None`: those of which that is not known.
    pub fn of(&self, vm: Option<VmId>) -> Vec<RouteTick> {
        self.vms.get(&vm).map(OfVm::ranked).unwrap_or_default()
    }

    /// Interrupts into it whose row was given up.
    pub fn other(&self, vm: Option<VmId>) -> u64 {
        self.vms.get(&vm).map_or(0, |vm| vm.other)
    }

    /// By VM its rows, and interrupts whose row was given up.
    pub(crate) fn kept(&self) -> impl Iterator<Item = (Option<VmId>, Vec<RouteTick>, u64)> {
        self.vms.iter().map(|(&vm, of)| (vm, of.ranked(), of.other))
    }

    /// Of [`Self::kept`].
    pub(crate) fn of_kept(vms: Vec<(Option<VmId>, Vec<RouteTick>, u64)>, left_out: u64) -> Self {
        let row = |route: RouteTick| {
            let sums = (route.count, route.coalesced);
            (RouteTick { count: 0, coalesced: 0, ..route }, sums)
        };
        let of =
            |rows: Vec<RouteTick>, other| OfVm { rows: rows.into_iter().map(row).collect(), other };
        Self {
            vms: vms.into_iter().map(|(vm, rows, other)| (vm, of(rows, other))).collect(),
            left_out,
        }
    }

    /// Forgets VMs; what is not known to be of any stays.
    pub fn retain(&mut self, keep: impl Fn(VmId) -> bool) {
        self.vms.retain(|vm, _| vm.is_none_or(&keep));
    }
}

impl OfVm {
    fn ranked(&self) -> Vec<RouteTick> {
        let all = self.rows.iter();
        let mut all: Vec<RouteTick> = all
            .map(|(row, &(count, coalesced))| RouteTick { count, coalesced, ..row.clone() })
            .collect();
        // Stable: of equals the order is that of the rows.
        all.sort_by_key(|row| Reverse(row.count));
        all
    }

    fn shrink(&mut self) {
        let rows = self.ranked();
        for row in rows.into_iter().skip(MAX_ROUTES) {
            self.other = self.other.saturating_add(row.count);
            self.rows.remove(&RouteTick { count: 0, coalesced: 0, ..row });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::sample_route;
    use crate::model::totals::Totals;

    fn tick(seq: u64, routes: Vec<RouteTick>) -> Tick {
        Tick { seq, routes, routes_left_out: 3, ..Tick::default() }
    }

    #[test]
    fn rows_add_up_by_who_what_and_into_what() {
        let route = |vm, b, count| RouteTick { vm, b, count, ..sample_route() };
        let (one, two) = (Some(VmId(1)), Some(VmId(2)));
        let mut totals = Totals::default();
        for seq in 1..=2 {
            let routes = vec![
                route(one, 0x41, 5),
                route(one, 0x42, 9),
                route(two, 0x41, 1),
                route(None, 1, 4),
            ];
            totals.apply(&tick(seq, routes));
        }
        let routes = &mut totals.routes;
        let counts = |routes: &Routes, vm| -> Vec<(u64, u64, u64)> {
            routes.of(vm).iter().map(|row| (row.b, row.count, row.coalesced)).collect()
        };
        assert_eq!(counts(routes, one), [(0x42, 18, 4), (0x41, 10, 4)]);
        assert_eq!(counts(routes, None), [(1, 8, 4)]);
        assert_eq!(routes.left_out, 6);
        routes.retain(|vm| vm == VmId(2));
        assert_eq!((counts(routes, one).len(), counts(routes, two).len()), (0, 1));
        assert_eq!(counts(routes, None).len(), 1, "it may be of any VM");
    }

    #[test]
    fn rows_are_bounded_and_none_is_lost() {
        let mut totals = Totals::default();
        let mut sent = 0;
        for round in 0..20u64 {
            let of = |n: u64| RouteTick { a: round * 100 + n, count: 1, ..sample_route() };
            let hot = RouteTick { a: 1, count: 100, ..sample_route() };
            let mut routes: Vec<RouteTick> = (2..100).map(of).collect();
            routes.push(hot);
            sent += routes.iter().map(|route| route.count).sum::<u64>();
            totals.apply(&tick(round + 1, routes));
            assert!(totals.routes.of(Some(VmId(1))).len() <= MAX_ROUTES + SLACK);
        }
        let rows = totals.routes.of(Some(VmId(1)));
        assert_eq!((rows[0].a, rows[0].count), (1, 2_000));
        let kept: u64 = rows.iter().map(|row| row.count).sum();
        let other = totals.routes.other(Some(VmId(1)));
        assert!(other > 0);
        assert_eq!(kept + other, sent);
    }
}
