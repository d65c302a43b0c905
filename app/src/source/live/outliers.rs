//! Limits for outliers, as the probes have them: by column.

use crate::model::{
    detail::OutlierLimits,
    ids::{Isa, Kind, Reason},
};
use kvmscope_shared::{
    column::{COLUMNS, column_of},
    conf::Limits,
    slot::{KIND_EXIT, KIND_USERSPACE},
};

/// The shortest limit, ns: below, every exit would be an outlier.
pub const LEAST_NS: u64 = 1_000;
/// The highest code that has a column of its own, but for the two that are far above; a bound to look up to.
const CODES: u32 = 0x1000;

/// The limits on a host with this vendor module ("vmx", "svm"). Idle reasons have none unless they are
/// named: a halt lasts as long as there is nothing to do.
pub fn by_column(limits: &OutlierLimits, vendor: Option<&str>) -> Limits {
    let isa = match vendor {
        Some("vmx") => Isa::Vmx,
        Some("svm") => Isa::Svm,
        // No kernel exits, or of reasons that are not known.
        _ => return in_the_vmm(limits),
    };
    let mut columns = [u64::MAX; COLUMNS];
    let mut set = |code: u32, ns: u64| {
        // Codes without a column go by the last one.
        let column = column_of(KIND_EXIT, code).map_or(COLUMNS - 1, |column| column as usize);
        if let Some(place) = columns.get_mut(column) {
            *place = ns;
        }
    };
    let all = limit(limits.all_ns);
    let known = (0..CODES).chain([kvmscope_shared::column::SVM_EXIT_ERR]);
    for code in known.chain([kvmscope_shared::column::SVM_MSR_WRITE]) {
        set(code, if Reason::exit(isa, code).is_idle() { u64::MAX } else { all });
    }
    let named =
        limits.reasons.iter().filter(|(reason, _)| reason.kind == Kind::Exit && reason.isa == isa);
    for (reason, ns) in named {
        set(reason.code, limit(*ns));
    }
    Limits { ns: columns }
}

fn limit(ns: Option<u64>) -> u64 {
    ns.map_or(u64::MAX, |ns| ns.max(LEAST_NS))
}

/// Where there are no kernel exits: times in the VMM, but for those of halts.
fn in_the_vmm(limits: &OutlierLimits) -> Limits {
    let mut ns = [u64::MAX; COLUMNS];
    let codes = (0..CODES).filter(|&code| !Reason::userspace(code).is_idle());
    for column in codes.filter_map(|code| column_of(KIND_USERSPACE, code)) {
        if let Some(place) = ns.get_mut(column as usize) {
            *place = limit(limits.all_ns);
        }
    }
    Limits { ns }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(limits: &Limits, code: u32) -> u64 {
        limits.ns[column_of(KIND_EXIT, code).map_or(COLUMNS - 1, |column| column as usize)]
    }

    #[test]
    fn idle_reasons_are_none_unless_named() {
        let all = OutlierLimits { all_ns: Some(5_000), reasons: Vec::new() };
        let vmx = by_column(&all, Some("vmx"));
        assert_eq!((of(&vmx, 12), of(&vmx, 30), of(&vmx, 0x3ff)), (u64::MAX, 5_000, 5_000));
        let svm = by_column(&all, Some("svm"));
        assert_eq!((of(&svm, 0x78), of(&svm, 12), of(&svm, 0x400)), (u64::MAX, 5_000, 5_000));
        let named =
            OutlierLimits { reasons: vec![(Reason::exit(Isa::Vmx, 12), Some(9_000))], ..all };
        assert_eq!(of(&by_column(&named, Some("vmx")), 12), 9_000);
        assert_eq!(of(&by_column(&named, Some("svm")), 12), 5_000, "another isa's code");
    }

    #[test]
    fn a_reason_can_be_left_out() {
        let io = Reason::exit(Isa::Vmx, 30);
        let limits = OutlierLimits { all_ns: Some(5_000), reasons: vec![(io, None)] };
        let columns = by_column(&limits, Some("vmx"));
        assert_eq!((of(&columns, 30), of(&columns, 31)), (u64::MAX, 5_000));
    }

    #[test]
    fn no_limit_is_so_short_that_everything_is_one() {
        let limits = OutlierLimits { all_ns: Some(0), reasons: Vec::new() };
        assert_eq!(of(&by_column(&limits, Some("svm")), 0x72), LEAST_NS);
    }

    #[test]
    fn times_in_the_vmm_are_for_backends_without_kernel_exits() {
        let limits = OutlierLimits { all_ns: Some(5_000), reasons: Vec::new() };
        let user = |limits: &Limits, code| {
            limits.ns[column_of(KIND_USERSPACE, code).expect("a column") as usize]
        };
        let pvm = by_column(&limits, Some("pvm"));
        assert_eq!((user(&pvm, 2), user(&pvm, 5), of(&pvm, 30)), (5_000, u64::MAX, u64::MAX));
        assert_eq!(user(&by_column(&limits, Some("vmx")), 2), u64::MAX, "they are in the exit's");
        let off = OutlierLimits::default();
        assert_eq!(by_column(&off, Some("pvm")), Limits::default());
    }
}
