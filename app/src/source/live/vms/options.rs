//! Values out of command lines, the ways VMMs write them.

use std::path::Path;

/// The value of the first of `names` in a command line: `--id X` or `--id=X`. An option that is
/// last, without its value, has none.
pub fn value<'a>(cmdline: &'a [String], names: &[&str]) -> Option<&'a str> {
    let mut arguments = cmdline.iter().skip(1).map(String::as_str);
    while let Some(argument) = arguments.next() {
        // What follows "--" belongs to somebody else (the guest's init, or a jailer's child).
        if argument == "--" {
            return None;
        }
        for name in names {
            if argument == *name {
                return arguments.next().filter(|value| !value.is_empty());
            }
            let assigned = argument.strip_prefix(name).and_then(|rest| rest.strip_prefix('='));
            if let Some(value) =
                assigned.filter(|value| !value.is_empty() && name.starts_with("--"))
            {
                return Some(value);
            }
        }
    }
    None
}

/// The guest's name in the value of QEMU's `-name`: `web`, `guest=web,debug-threads=on`, in any
/// order. A comma in a name is written twice.
pub fn qemu_name(value: &str) -> Option<String> {
    let mut guest = None;
    for (nth, part) in qemu_parts(value).into_iter().enumerate() {
        match part.split_once('=') {
            Some(("guest", name)) => guest = Some(name.to_owned()),
            Some(_) => {}
            // The first without a key is the guest's name; later ones are switches.
            None if nth == 0 => guest = Some(part),
            None => {}
        }
    }
    guest.filter(|name| !name.is_empty())
}

/// Splits at single commas; two of them are one in the text.
fn qemu_parts(value: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = value.chars().peekable();
    while let Some(c) = chars.next() {
        if c == ',' && chars.next_if_eq(&',').is_none() {
            parts.push(String::new());
        } else if let Some(last) = parts.last_mut() {
            last.push(c);
        }
    }
    parts
}

/// File and directory names that say nothing about which VM it is.
const COMMON: [&str; 22] = [
    "api",
    "ch",
    "ch-api",
    "clh",
    "clh-api",
    "cloud-hypervisor",
    "control",
    "crosvm",
    "fc",
    "firecracker",
    "firecracker-api",
    "hypervisor",
    "monitor",
    "root",
    "run",
    "sock",
    "socket",
    "sockets",
    "tmp",
    "var",
    "vm",
    "vmm",
];

/// A VM's name out of the path of its control socket: the file's stem, or where that is the same
/// for every VM the directory's name.
pub fn socket_name(path: &str) -> Option<&str> {
    let path = Path::new(path.strip_prefix("path=").unwrap_or(path));
    let stem = path.file_stem().and_then(|stem| stem.to_str()).filter(|stem| !is_common(stem));
    let parent = || {
        let name = path.parent()?.file_name()?.to_str()?;
        Some(name).filter(|name| !is_common(name))
    };
    stem.or_else(parent)
}

fn is_common(name: &str) -> bool {
    name.is_empty() || name.starts_with("fd=") || COMMON.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn values_follow_or_are_assigned() {
        assert_eq!(value(&line("vmm --id a"), &["--id"]), Some("a"));
        assert_eq!(value(&line("vmm --id=a"), &["--id"]), Some("a"));
        assert_eq!(value(&line("vmm -n a"), &["--name", "-n"]), Some("a"));
        assert_eq!(value(&line("vmm --identity a --id"), &["--id"]), None);
        assert_eq!(value(&line("vmm --id="), &["--id"]), None);
        assert_eq!(value(&line("vmm x -- --id a"), &["--id"]), None);
        assert_eq!(value(&line("--id a"), &["--id"]), None, "the program is not an option");
    }

    #[test]
    fn qemu_names_come_in_any_order() {
        for (value, name) in [
            ("web", Some("web")),
            ("guest=web,debug-threads=on", Some("web")),
            ("debug-threads=on,guest=web", Some("web")),
            ("web,process=qemu-web", Some("web")),
            ("web,,7,debug-threads=on", Some("web,7")),
            ("guest=a,,,debug-threads=on", Some("a,")),
            ("guest=a=b", Some("a=b")),
            ("debug-threads=on", None),
            ("guest=", None),
            ("", None),
        ] {
            assert_eq!(qemu_name(value).as_deref(), name, "{value}");
        }
    }

    #[test]
    fn sockets_are_named_by_file_or_directory() {
        for (path, name) in [
            ("/run/ch/web.sock", Some("web")),
            ("path=/run/web-7.socket", Some("web-7")),
            ("web", Some("web")),
            ("/run/vc/vm/3f2a/clh-api.sock", Some("3f2a")),
            ("/run/firecracker.socket", None),
            ("fd=3", None),
            ("/", None),
            ("", None),
        ] {
            assert_eq!(socket_name(path), name, "{path}");
        }
    }
}
