//! A tick as bytes: what history keeps and recordings hold.
//!
//! ```text
//! version        1 byte, 4
//! head           seq, end_ns, dur_ns, lost, host, life, VMs, outliers, stacks, routes (postcard)
//! events         their length in bytes, then events and those left out
//! list           its length in bytes, then of each vCPU: vm, vcpu, length of its body
//! bodies         of each vCPU: cpu, phase, since, open, time, number of cells, then each cell:
//!     cell       kind and isa (1 byte), code, length, flags, count, total, off, vmm, min,
//!                max - min, [(bucket, exits)]
//!     details    halts, keys, culprits, meters
//! ```
//!
//! Numbers are postcard's varints, so that small differences are short; moments are kept as their
//! distance to the end of the tick. The list of vCPUs stands before their bodies and cells carry
//! their length, so that one VM, one vCPU or one reason is read without touching the memory of the
//! others or of the events ([`decode_part`]). Keys ascend.
//!
//! Decoding never panics, whatever the bytes, and allocates in proportion to their number. A
//! prefix of a tick is an error, as are bytes after it.

use super::detail::{CulpritTick, Halts, KeyTick, Outlier, VmTick};
use super::event::{Event, LeftOut};
use super::ids::{Isa, Kind, Reason, VcpuKey, VmId};
use super::meters::{MetersTick, RouteTick};
use super::stack::StackTick;
use super::tick::{CellTick, HostTick, Life, Lost, OpenExit, Phase, PhaseTimes, Tick, VcpuTick};
use kvmscope_shared::hist::BUCKETS;
use serde::{Serialize, de::DeserializeOwned};

/// The first byte of an encoded tick. Format 1 had no details, format 2 no events, format 3 no meters;
/// nothing was ever kept in them.
pub const VERSION: u8 = 4;

/// Why bytes are not a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// It was written by another version of the program.
    #[error(
        "the tick has format {0}, this program reads format {VERSION}: use the version that wrote it, or a newer one"
    )]
    Version(u8),
    /// It ends in the middle, or a part of it is longer than it says.
    #[error("the tick is cut off or damaged: its {0} cannot be read")]
    Damaged(&'static str),
    /// Two keys are not in ascending order.
    #[error("the tick is damaged: its {0} are not in order")]
    Order(&'static str),
    /// It does not fit into memory as it is (never with postcard's growable output).
    #[error("the tick cannot be encoded")]
    Encode,
}

/// Which part of a tick is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The first vCPU.
    pub first: VcpuKey,
    /// The last vCPU.
    pub last: VcpuKey,
    /// One reason, or all.
    pub reason: Option<Reason>,
    /// Whether histograms and details (halts, keys, culprits) are wanted; without them they are
    /// empty, and reading is quicker.
    pub hist: bool,
    /// Whether single events are wanted; without them there are none.
    pub events: bool,
}

impl Part {
    /// All vCPUs of a VM.
    pub fn vm(vm: VmId, reason: Option<Reason>) -> Self {
        Self {
            first: VcpuKey { vm, vcpu: 0 },
            last: VcpuKey { vm, vcpu: u32::MAX },
            reason,
            hist: true,
            events: false,
        }
    }

    /// One vCPU.
    pub fn vcpu(key: VcpuKey, reason: Option<Reason>) -> Self {
        Self { first: key, last: key, reason, hist: true, events: false }
    }

    /// Everything.
    pub const ALL: Self = Self {
        first: VcpuKey { vm: VmId(0), vcpu: 0 },
        last: VcpuKey { vm: VmId(u32::MAX), vcpu: u32::MAX },
        reason: None,
        hist: true,
        events: true,
    };

    /// The same part without single events.
    pub fn without_events(self) -> Self {
        Self { events: false, ..self }
    }

    /// The same part without histograms.
    pub fn without_hist(self) -> Self {
        Self { hist: false, ..self }
    }
}

type Head = (u64, u64, u64, Lost, HostTick, Vec<Life>, Slow, Functions, Routes);
type Slow = (Vec<VmTick>, Vec<Outlier>, u64);
type Events = (Vec<Event>, Vec<LeftOut>);
type Functions = (Vec<StackTick>, u64, u64);
type Routes = (Vec<RouteTick>, u64);
type Details = (Halts, Vec<KeyTick>, Vec<CulpritTick>, MetersTick);
type VcpuBody = (u32, Phase, i64, Option<OpenBody>, PhaseTimes);
type OpenBody = (u8, u32, i64, u64, u64, u64);
type CellNumbers = (u32, u64, u64, u64, u64, u64, u64);

/// Appends a tick's bytes.
pub fn encode(tick: &Tick, out: &mut Vec<u8>) -> Result<(), CodecError> {
    out.push(VERSION);
    let outliers_left_out = tick.outliers_left_out;
    let slow = (&tick.vms, &tick.outliers, outliers_left_out);
    let functions = (&tick.stacks, tick.stacks_left_out, tick.dirty_elsewhere);
    let routes = (&tick.routes, tick.routes_left_out);
    let Tick { seq, end_ns, dur_ns, lost, host, life, .. } = tick;
    put(&(seq, end_ns, dur_ns, lost, host, life, slow, functions, routes), out)?;
    let (mut list, mut bodies, mut scratch) = (Vec::new(), Vec::new(), Vec::new());
    put(&(&tick.events, &tick.events_left_out), &mut scratch)?;
    put(&scratch.len(), out)?;
    out.extend_from_slice(&scratch);
    for vcpu in &tick.vcpus {
        let before = bodies.len();
        put_vcpu(vcpu, tick.end_ns, &mut bodies, &mut scratch)?;
        put(&(vcpu.key.vm.0, vcpu.key.vcpu, bodies.len() - before), &mut list)?;
    }
    put(&list.len(), out)?;
    out.extend_from_slice(&list);
    out.extend_from_slice(&bodies);
    Ok(())
}

fn put_vcpu(
    vcpu: &VcpuTick,
    end_ns: u64,
    out: &mut Vec<u8>,
    scratch: &mut Vec<u8>,
) -> Result<(), CodecError> {
    let open = vcpu.open.map(|open| {
        let begun = end_ns.wrapping_sub(open.begun_ns) as i64;
        (tag(open.reason), open.reason.code, begun, open.rip, open.info1, open.info2)
    });
    let since = end_ns.wrapping_sub(vcpu.since_ns) as i64;
    put(&(vcpu.cpu, vcpu.phase, since, open, vcpu.time), out)?;
    put(&vcpu.cells.len(), out)?;
    for cell in &vcpu.cells {
        scratch.clear();
        let spread = cell.max_ns.wrapping_sub(cell.min_ns);
        let CellTick { flags, count, total_ns, off_ns, vmm_ns, min_ns, .. } = *cell;
        put(&(flags, count, total_ns, off_ns, vmm_ns, min_ns, spread), scratch)?;
        put_hist(&cell.hist, scratch);
        put(&(tag(cell.reason), cell.reason.code, scratch.len()), out)?;
        out.extend_from_slice(scratch);
    }
    put(&(vcpu.halts, &vcpu.keys, &vcpu.culprits, &vcpu.meters), out)
}

/// Reads a tick.
pub fn decode(bytes: &[u8]) -> Result<Tick, CodecError> {
    let (tick, rest) = read(bytes, Part::ALL)?;
    if rest.is_empty() { Ok(tick) } else { Err(CodecError::Damaged("end")) }
}

/// Reads a part of a tick: its head, and of its vCPUs and cells those that are wanted. Does not
/// look at the others, so damage there goes unseen.
pub fn decode_part(bytes: &[u8], part: Part) -> Result<Tick, CodecError> {
    read(bytes, part).map(|(tick, _)| tick)
}

fn read(bytes: &[u8], part: Part) -> Result<(Tick, &[u8]), CodecError> {
    let (&version, bytes) = bytes.split_first().ok_or(CodecError::Damaged("version"))?;
    if version != VERSION {
        return Err(CodecError::Version(version));
    }
    let ((seq, end_ns, dur_ns, lost, host, life, slow, functions, routes), bytes): (Head, _) =
        take(bytes, "head")?;
    let (vms, outliers, outliers_left_out) = slow;
    let (stacks, stacks_left_out, dirty_elsewhere) = functions;
    let (routes, routes_left_out) = routes;
    let (length, rest): (usize, _) = take(bytes, "events")?;
    let (body, bytes) = rest.split_at_checked(length).ok_or(CodecError::Damaged("events"))?;
    let (events, events_left_out) =
        if part.events { whole(body, "events")? } else { Events::default() };
    let vcpus = Vec::new();
    let mut tick = Tick {
        seq,
        end_ns,
        dur_ns,
        lost,
        life,
        vcpus,
        host,
        vms,
        outliers,
        outliers_left_out,
        events,
        events_left_out,
        stacks,
        stacks_left_out,
        dirty_elsewhere,
        routes,
        routes_left_out,
    };
    let (length, rest): (usize, _) = take(bytes, "list of vCPUs")?;
    let (mut list, mut rest) =
        rest.split_at_checked(length).ok_or(CodecError::Damaged("list of vCPUs"))?;
    let mut last = None;
    while !list.is_empty() {
        let ((vm, vcpu, length), after): ((u32, u32, usize), _) = take(list, "list of vCPUs")?;
        list = after;
        let key = VcpuKey { vm: VmId(vm), vcpu };
        if last.replace(key).is_some_and(|last| last >= key) {
            return Err(CodecError::Order("vCPUs"));
        }
        if key > part.last {
            break;
        }
        let (body, after) = rest.split_at_checked(length).ok_or(CodecError::Damaged("vCPU"))?;
        rest = after;
        if key >= part.first {
            tick.vcpus.push(read_vcpu(key, end_ns, body, part)?);
        }
    }
    Ok((tick, rest))
}

fn read_vcpu(key: VcpuKey, end_ns: u64, body: &[u8], part: Part) -> Result<VcpuTick, CodecError> {
    let ((cpu, phase, since, open, time), rest): (VcpuBody, _) = take(body, "vCPU")?;
    let open = match open {
        Some((tag, code, begun, rip, info1, info2)) => Some(OpenExit {
            reason: untag(tag, code)?,
            begun_ns: end_ns.wrapping_sub(begun as u64),
            rip,
            info1,
            info2,
        }),
        None => None,
    };
    let since_ns = end_ns.wrapping_sub(since as u64);
    let (number, mut rest): (usize, _) = take(rest, "number of cells")?;
    let mut cells = Vec::new();
    let mut last = None;
    for _ in 0..number {
        let ((tag, code, length), after): ((u8, u32, usize), _) = take(rest, "list of cells")?;
        let reason = untag(tag, code)?;
        if last.replace(reason).is_some_and(|last| last >= reason) {
            return Err(CodecError::Order("reasons"));
        }
        let (body, after) = after.split_at_checked(length).ok_or(CodecError::Damaged("cell"))?;
        rest = after;
        if part.reason.is_none_or(|wanted| wanted == reason) {
            cells.push(read_cell(reason, body, part.hist)?);
        }
    }
    let mut details = Details::default();
    if part.hist {
        (details, rest) = take(rest, "details")?;
        if !rest.is_empty() {
            return Err(CodecError::Damaged("vCPU"));
        }
    }
    let (halts, keys, culprits, meters) = details;
    if !keys.is_sorted_by(|a, b| a.id < b.id) {
        return Err(CodecError::Order("keys"));
    }
    if !meters.meters.is_sorted_by(|a, b| a.kind < b.kind) {
        return Err(CodecError::Order("meters"));
    }
    if !meters.meters.iter().all(|meter| is_sound(&meter.hist)) {
        return Err(CodecError::Damaged("meter"));
    }
    Ok(VcpuTick { key, cpu, phase, since_ns, open, time, halts, keys, culprits, meters, cells })
}

fn read_cell(reason: Reason, body: &[u8], with_hist: bool) -> Result<CellTick, CodecError> {
    let (numbers, rest): (CellNumbers, _) = take(body, "cell")?;
    let (flags, count, total_ns, off_ns, vmm_ns, min_ns, spread) = numbers;
    let max_ns = min_ns.wrapping_add(spread);
    let hist = if with_hist { read_hist(rest)? } else { Vec::new() };
    Ok(CellTick { reason, flags, count, total_ns, off_ns, vmm_ns, min_ns, max_ns, hist })
}

fn read_hist(bytes: &[u8]) -> Result<Vec<(u8, u32)>, CodecError> {
    let (hist, rest): (Vec<(u8, u32)>, _) = take(bytes, "histogram")?;
    if !rest.is_empty() || !hist.iter().all(is_bucket) {
        return Err(CodecError::Damaged("histogram"));
    }
    if !hist.is_sorted_by(|a, b| a.0 < b.0) {
        return Err(CodecError::Order("histogram's buckets"));
    }
    Ok(hist)
}

fn is_bucket(&(bucket, n): &(u8, u32)) -> bool {
    usize::from(bucket) < BUCKETS && n > 0
}

fn is_sound(hist: &[(u8, u32)]) -> bool {
    hist.iter().all(is_bucket) && hist.is_sorted_by(|a, b| a.0 < b.0)
}

/// Kind and isa in a byte.
fn tag(reason: Reason) -> u8 {
    (reason.kind as u8) << 4 | reason.isa as u8
}

fn untag(tag: u8, code: u32) -> Result<Reason, CodecError> {
    let kind = match tag >> 4 {
        0 => Kind::Exit,
        1 => Kind::Userspace,
        _ => return Err(CodecError::Damaged("reason")),
    };
    let isa = match tag & 0xf {
        0 => Isa::None,
        1 => Isa::Vmx,
        2 => Isa::Svm,
        _ => return Err(CodecError::Damaged("reason")),
    };
    Ok(Reason { kind, isa, code })
}

fn put<T: Serialize>(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
    postcard::to_io(value, &mut *out).map(|_| ()).map_err(|_| CodecError::Encode)
}

/// A histogram as postcard writes it. By hand, because nearly all bytes of a tick are these, and
/// postcard writes each number through a buffer of its own.
fn put_hist(hist: &[(u8, u32)], out: &mut Vec<u8>) {
    out.reserve(5 + 6 * hist.len());
    put_varint(hist.len() as u64, out);
    for &(bucket, n) in hist {
        out.push(bucket);
        put_varint(u64::from(n), out);
    }
}

fn put_varint(mut n: u64, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn take<'a, T: DeserializeOwned>(
    bytes: &'a [u8],
    what: &'static str,
) -> Result<(T, &'a [u8]), CodecError> {
    postcard::take_from_bytes(bytes).map_err(|_| CodecError::Damaged(what))
}

/// As [`take`], of bytes that are nothing else.
fn whole<T: DeserializeOwned>(bytes: &[u8], what: &'static str) -> Result<T, CodecError> {
    let (value, rest) = take(bytes, what)?;
    if rest.is_empty() { Ok(value) } else { Err(CodecError::Damaged(what)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing::{any_tick, sample_tick};
    use proptest::prelude::*;

    fn bytes(tick: &Tick) -> Vec<u8> {
        let mut out = Vec::new();
        encode(tick, &mut out).expect("encodes");
        out
    }

    /// The format is kept on disk: when this fails, make a new version instead.
    #[test]
    fn the_format_has_not_changed() {
        let hex: String = bytes(&sample_tick()).iter().map(|byte| format!("{byte:02x}")).collect();
        insta::assert_snapshot!(hex);
    }

    #[test]
    fn a_part_is_what_the_whole_has() {
        let tick = sample_tick();
        let encoded = bytes(&tick);
        for vcpu in &tick.vcpus {
            let part = decode_part(&encoded, Part::vcpu(vcpu.key, None)).expect("decodes");
            assert_eq!(part.vcpus, std::slice::from_ref(vcpu));
            assert_eq!((part.seq, part.life), (tick.seq, tick.life.clone()));
            for cell in &vcpu.cells {
                let part = Part::vm(vcpu.key.vm, Some(cell.reason));
                let part = decode_part(&encoded, part).expect("decodes");
                let found = part.vcpus.iter().find(|found| found.key == vcpu.key);
                assert_eq!(found.expect("the vCPU").cells, std::slice::from_ref(cell));
            }
        }
    }

    #[test]
    fn histograms_and_details_can_be_left_out() {
        let mut tick = sample_tick();
        let part = decode_part(&bytes(&tick), Part::ALL.without_hist()).expect("decodes");
        for vcpu in &mut tick.vcpus {
            vcpu.cells.iter_mut().for_each(|cell| cell.hist.clear());
            (vcpu.halts, vcpu.keys, vcpu.culprits, vcpu.meters) = Details::default();
        }
        assert_eq!(part, tick);
    }

    #[test]
    fn events_are_read_where_they_are_wanted() {
        let tick = sample_tick();
        let encoded = bytes(&tick);
        let part = decode_part(&encoded, Part::ALL.without_events()).expect("decodes");
        let (events, events_left_out) = Events::default();
        assert_eq!(part, Tick { events, events_left_out, ..tick.clone() });
        assert!(!tick.events.is_empty() && !tick.events_left_out.is_empty());
    }

    #[test]
    fn another_version_is_refused() {
        let mut encoded = bytes(&Tick::default());
        encoded[0] = VERSION + 1;
        assert_eq!(decode(&encoded), Err(CodecError::Version(VERSION + 1)));
    }

    #[test]
    fn lengths_that_lie_do_not_allocate() {
        let mut encoded = vec![VERSION];
        put(&(0u64, 0u64, 0u64, Lost::default(), HostTick::default()), &mut encoded).unwrap();
        let numbers = encoded.len();
        // The numbers of lives, VMs, outliers, stacks and routes, then of a VM's threads, of events, of vCPUs.
        for before in [0, 1, 2, 4, 7] {
            encoded.truncate(numbers);
            encoded.resize(numbers + before, 0);
            put(&usize::MAX, &mut encoded).unwrap();
            assert_eq!(decode(&encoded), Err(CodecError::Damaged("head")), "{before}");
        }
        encoded.truncate(numbers);
        put(&(0usize, 1usize, VmId(1), 5u64, 5u64, usize::MAX), &mut encoded).unwrap();
        assert_eq!(decode(&encoded), Err(CodecError::Damaged("head")));
        encoded.truncate(numbers);
        for (lie, room) in [(usize::MAX, 64), (10, 64)] {
            encoded.truncate(numbers);
            put(
                &(
                    0usize,
                    0usize,
                    0usize,
                    0u64,
                    (0usize, 0u64, 0u64),
                    (0usize, 0u64),
                    lie,
                    usize::MAX,
                ),
                &mut encoded,
            )
            .unwrap();
            encoded.resize(encoded.len() + room, 0);
            assert_eq!(decode(&encoded), Err(CodecError::Damaged("events")), "{lie}");
        }
        encoded.truncate(numbers);
        put(
            &(
                0usize,
                0usize,
                0usize,
                0u64,
                (0usize, 0u64, 0u64),
                (0usize, 0u64),
                2usize,
                0usize,
                0usize,
                usize::MAX,
            ),
            &mut encoded,
        )
        .unwrap();
        encoded.push(1);
        assert_eq!(decode(&encoded), Err(CodecError::Damaged("list of vCPUs")));
    }

    /// What a vCPU's lists say of their length is not believed either.
    #[test]
    fn lengths_in_details_that_lie_do_not_allocate() {
        let plain = VcpuTick::default();
        let mut body = Vec::new();
        put_vcpu(&plain, 0, &mut body, &mut Vec::new()).unwrap();
        let details = body.len() - 10;
        assert_eq!(body[details..], [0; 10], "polled, waited, keys, culprits, six of meters");
        for (at, what) in
            [(2, "keys"), (3, "culprits"), (4, "meters")].map(|(at, what)| (details + at, what))
        {
            let mut lying = body[..at].to_vec();
            put(&usize::MAX, &mut lying).unwrap();
            lying.resize(lying.len() + 64, 0);
            let read = read_vcpu(plain.key, 0, &lying, Part::ALL);
            assert_eq!(read, Err(CodecError::Damaged("details")), "{what}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_encoded_is_decoded(tick in any_tick()) {
            prop_assert_eq!(decode(&bytes(&tick)), Ok(tick));
        }

        #[test]
        fn a_prefix_is_an_error(tick in any_tick(), at in any::<prop::sample::Index>()) {
            let encoded = bytes(&tick);
            prop_assert!(decode(&encoded[..at.index(encoded.len())]).is_err());
        }

        #[test]
        fn a_changed_byte_never_panics(
            tick in any_tick(), at in any::<prop::sample::Index>(), change in 1u8..,
        ) {
            let mut encoded = bytes(&tick);
            let at = at.index(encoded.len());
            encoded[at] ^= change;
            let _ = decode(&encoded);
            let _ = decode_part(&encoded, Part::vm(VmId(1), None));
        }

        #[test]
        fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = decode(&bytes);
            let _ = decode(&[&[VERSION], &bytes[..]].concat());
        }
    }
}
