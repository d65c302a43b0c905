//! Whether a CPU quota stops a VM: `cpu.stat` of its cgroups and of those above them.
//!
//! Time that a group was throttled is the sum over its CPUs, in cgroup v1 (`throttled_time`, ns) as
//! in v2 (`throttled_usec`; `cpu_cfs_stat_show` and `cpu_extra_stat_show`, kernel/sched/core.c), so
//! it may be more than the time that passed. Only groups with a quota of their own are looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// Most groups of one VM that are looked at.
const MAX_GROUPS: usize = 128;
/// Most levels of a path.
const MAX_LEVELS: usize = 32;

/// Which cgroup hierarchy has the CPU controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// cgroup v1 with the controller `cpu`.
    V1,
    /// The unified hierarchy.
    V2,
}

/// Where the CPU controller is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Which hierarchy.
    pub version: Version,
    /// The group that is mounted.
    root: String,
    /// Where.
    pub point: String,
}

/// Finds it in a `/proc/PID/mountinfo`: in v1 where that has the controller (a hybrid host's v2 has
/// none then), else in v2.
pub fn cpu_mount(mountinfo: &str) -> Option<Mount> {
    let mut unified = None;
    for line in mountinfo.lines() {
        let Some((mount, file_system)) = line.split_once(" - ") else { continue };
        let mut place = mount.split(' ').skip(3);
        let (Some(root), Some(point)) = (place.next(), place.next()) else { continue };
        let found = |version| Mount { version, root: plain(root), point: plain(point) };
        let mut kind = file_system.split(' ');
        match (kind.next(), kind.nth(1)) {
            (Some("cgroup"), Some(options)) if options.split(',').any(|o| o == "cpu") => {
                return Some(found(Version::V1));
            }
            (Some("cgroup2"), _) => unified = unified.or_else(|| Some(found(Version::V2))),
            _ => {}
        }
    }
    unified
}

/// A path as `mountinfo` writes it (octal for white space and backslashes).
fn plain(path: &str) -> String {
    ["\\040", "\\011", "\\012", "\\134"]
        .into_iter()
        .zip([" ", "\t", "\n", "\\"])
        .fold(path.to_owned(), |path, (octal, plain)| path.replace(octal, plain))
}

/// A task's group, from its `/proc/PID/cgroup`.
pub fn group_of(text: &str, version: Version) -> Option<&str> {
    text.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let is_it = match version {
            Version::V1 => controllers.split(',').any(|name| name == "cpu"),
            Version::V2 => number == "0" && controllers.is_empty(),
        };
        is_it.then_some(path)
    })
}

impl Mount {
    /// Directories of a group and of those above it; not the topmost, which has no quota.
    pub fn levels(&self, group: &str) -> Vec<String> {
        let below = match self.root.as_str() {
            "/" => Some(group),
            root => {
                group.strip_prefix(root).filter(|rest| rest.is_empty() || rest.starts_with('/'))
            }
        };
        // Outside of what is mounted there is nothing to read.
        let Some(below) = below.filter(|path| !path.split('/').any(|part| part == "..")) else {
            return Vec::new();
        };
        let mut levels = Vec::new();
        let mut path = self.point.trim_end_matches('/').to_owned();
        for part in below.split('/').filter(|part| !part.is_empty()).take(MAX_LEVELS) {
            path = format!("{path}/{part}");
            levels.push(path.clone());
        }
        levels
    }

    fn quota_file(&self) -> &'static str {
        match self.version {
            Version::V1 => "cpu.cfs_quota_us",
            Version::V2 => "cpu.max",
        }
    }
}

/// Whether the text of `cpu.max` ("max 100000", "50000 100000") or `cpu.cfs_quota_us` ("-1") sets one.
pub fn has_quota(text: &str) -> bool {
    text.split_ascii_whitespace().next().is_some_and(|quota| quota.parse::<u64>().is_ok())
}

/// Throttled time so far, ns, from a `cpu.stat`.
pub fn throttled_ns(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        let value: u64 = value.trim().parse().ok()?;
        match name {
            "throttled_usec" => Some(value.saturating_mul(1_000)),
            "throttled_time" => Some(value),
            _ => None,
        }
    })
}

/// What is known of a VM's groups.
#[derive(Debug, Default)]
pub struct Throttle {
    /// Those with a quota, and their throttled time at the last look, ns.
    told: BTreeMap<String, u64>,
}

impl Throttle {
    /// Throttled time since the last look in these groups and those above, ns; `None` where no
    /// group has a quota. `read` reads a file. Errors: a group that is there cannot be read.
    pub fn look(
        &mut self,
        mount: &Mount,
        groups: &BTreeSet<String>,
        mut read: impl FnMut(&str) -> io::Result<String>,
    ) -> io::Result<Option<u64>> {
        let levels: BTreeSet<String> = groups.iter().flat_map(|g| mount.levels(g)).collect();
        let before = std::mem::take(&mut self.told);
        let mut sum = None;
        for level in levels.into_iter().take(MAX_GROUPS) {
            // A group for which the controller is off has no such file.
            let quota = match read(&format!("{level}/{}", mount.quota_file())) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                quota => quota.unwrap_or_default(),
            };
            if !has_quota(&quota) {
                continue;
            }
            let stat = match read(&format!("{level}/cpu.stat")) {
                // The group was removed just now.
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                stat => stat.unwrap_or_default(),
            };
            let Some(now) = throttled_ns(&stat) else { continue };
            let last = before.get(&level).copied().unwrap_or(now);
            sum = Some(sum.unwrap_or(0u64).saturating_add(now.saturating_sub(last)));
            self.told.insert(level, now);
        }
        Ok(sum)
    }
}

#[cfg(test)]
mod tests;
