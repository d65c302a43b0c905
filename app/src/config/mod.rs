//! Configuration: a file that overrides only what it names. Reading it is pure; finding it is in
//! [`load`].

pub mod outlier;
mod suggest;

use crate::findings::{Thresholds, thresholds};
use crate::ui::{
    keymap::{Command, Key, Keymap, TABLE},
    theme::ThemeName,
};
use crate::{
    state::{Scope, fields},
    ui::panes::rows::column_names,
};
use anyhow::{Context as _, Result, anyhow, bail};
use std::path::{Path, PathBuf};
use toml::{Table, Value};

pub use suggest::suggestion;

/// What the person has configured; `None` is the program's own choice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Colours.
    pub theme: Option<ThemeName>,
    /// Whether to draw in ASCII.
    pub ascii: Option<bool>,
    /// Whether to take the mouse (the terminal's own selection then needs shift).
    pub mouse: Option<bool>,
    /// What VMs are sorted by at first.
    pub sort: Option<Sort>,
    /// Columns to leave out, by name ([`column_names`]).
    pub hide: Vec<String>,
    /// Where views and recordings are saved.
    pub directory: Option<PathBuf>,
    /// Keys.
    pub keys: Keymap,
    /// From where on something stands out.
    pub findings: Thresholds,
}

/// What VMs are sorted by at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    /// Key of a field of VMs.
    pub key: &'static str,
    /// The other way round than usual.
    pub reversed: bool,
}

/// The usual place: `$XDG_CONFIG_HOME/kvmscope/config.toml`, else `~/.config/kvmscope/config.toml`.
pub fn usual_path(get: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let set = |name| get(name).filter(|value| !value.is_empty());
    let base = match set("XDG_CONFIG_HOME") {
        Some(base) => PathBuf::from(base),
        None => Path::new(&set("HOME")?).join(".config"),
    };
    Some(base.join("kvmscope").join("config.toml"))
}

/// Reads the named file, which must exist, or the usual one, which need not.
pub fn load(named: Option<&Path>, get: impl Fn(&str) -> Option<String>) -> Result<Config> {
    let (path, required) = match (named, usual_path(get)) {
        (Some(path), _) => (path.to_owned(), true),
        (None, Some(path)) => (path, false),
        (None, None) => return Ok(Config::default()),
    };
    use std::io::ErrorKind::{NotFound, PermissionDenied};
    match std::fs::read_to_string(&path) {
        Ok(text) => parse(&text).with_context(|| format!("{} cannot be used", path.display())),
        // Refused: the home is somebody else's (sudo -u, setpriv), and so would be its file.
        Err(error) if !required && matches!(error.kind(), NotFound | PermissionDenied) => {
            Ok(Config::default())
        }
        Err(error) => Err(error)
            .with_context(|| format!("the configuration file {} cannot be read", path.display())),
    }
}

const TOP: &[&str] =
    &["theme", "ascii", "mouse", "hide-columns", "sort", "directory", "keys", "findings"];

/// Reads a configuration. What it does not know is an error that names what is meant.
pub fn parse(text: &str) -> Result<Config> {
    let table: Table =
        text.parse().map_err(|e: toml::de::Error| anyhow!("{}", e.to_string().trim_end()))?;
    let mut config = Config::default();
    for (key, value) in &table {
        match key.as_str() {
            "theme" => config.theme = Some(theme(value)?),
            "ascii" => config.ascii = Some(boolean(key, value)?),
            "mouse" => config.mouse = Some(boolean(key, value)?),
            "hide-columns" => config.hide = columns(&strings(key, value)?)?,
            "directory" => config.directory = Some(PathBuf::from(string(key, value)?)),
            "sort" => config.sort = Some(sort(&string(key, value)?)?),
            "keys" => keys(section(key, value)?, &mut config.keys)?,
            "findings" => findings(section(key, value)?, &mut config.findings)?,
            _ => return Err(unknown("key", key, TOP.iter().copied())),
        }
    }
    Ok(config)
}

fn theme(value: &Value) -> Result<ThemeName> {
    let name = string("theme", value)?;
    let names = || ThemeName::ALL.iter().map(|(name, _)| *name);
    ThemeName::parse(&name).ok_or_else(|| unknown("theme", &name, names()))
}

/// The key of a field of VMs, after a "-" the other way round.
fn sort(text: &str) -> Result<Sort> {
    let (key, reversed) = match text.strip_prefix('-') {
        Some(key) => (key, true),
        None => (text, false),
    };
    let keys: Vec<&'static str> = fields::of(Scope::Host).iter().map(|field| field.key).collect();
    match keys.iter().find(|known| **known == key) {
        Some(key) => Ok(Sort { key, reversed }),
        None => Err(unknown("field in \"sort\"", key, keys)),
    }
}

fn columns(names: &[String]) -> Result<Vec<String>> {
    let known = column_names();
    for name in names {
        if !known.contains(&name.as_str()) {
            return Err(unknown("column in \"hide-columns\"", name, known));
        }
    }
    Ok(names.to_vec())
}

fn keys(table: &Table, keymap: &mut Keymap) -> Result<()> {
    for (name, value) in table {
        let binding = TABLE
            .iter()
            .find(|b| b.name == name)
            .ok_or_else(|| unknown("command in [keys]", name, TABLE.iter().map(|b| b.name)))?;
        let mut keys = Vec::new();
        for text in strings(name, value)? {
            let key = Key::parse(&text).ok_or_else(|| {
                anyhow!(
                    "[keys] {name}: \"{text}\" is not a key; keys are written like \
                     \"q\", \"ctrl-l\", \"shift-left\", \"enter\", \"space\", \"f1\""
                )
            })?;
            keys.push(key);
        }
        if keys.is_empty() && binding.command == Command::Quit {
            bail!("[keys] quit needs at least one key");
        }
        keymap.set(binding.command, keys);
    }
    Ok(())
}

fn findings(table: &Table, thresholds: &mut Thresholds) -> Result<()> {
    for (name, value) in table {
        let threshold = thresholds::TABLE.iter().find(|threshold| threshold.key == name);
        let threshold = threshold.ok_or_else(|| {
            unknown("threshold in [findings]", name, thresholds::TABLE.iter().map(|t| t.key))
        })?;
        let number = value.as_integer().ok_or_else(|| {
            anyhow!("[findings] {name} must be a whole number, not {}", value.type_str())
        })?;
        if !threshold.set(thresholds, number) {
            bail!("[findings] {name} must be from 1 to {}, not {number}", threshold.most);
        }
    }
    Ok(())
}

fn unknown<'a>(what: &str, name: &str, known: impl IntoIterator<Item = &'a str>) -> anyhow::Error {
    let known: Vec<&str> = known.into_iter().collect();
    match suggestion(name, &known) {
        Some(meant) => anyhow!("unknown {what} \"{name}\"; did you mean \"{meant}\"?"),
        None => anyhow!("unknown {what} \"{name}\"; there are: {}", known.join(", ")),
    }
}

fn string(key: &str, value: &Value) -> Result<String> {
    let text = value.as_str().map(str::to_owned);
    text.ok_or_else(|| anyhow!("\"{key}\" must be a text in quotes, not {}", value.type_str()))
}

fn boolean(key: &str, value: &Value) -> Result<bool> {
    let flag = value.as_bool();
    flag.ok_or_else(|| anyhow!("\"{key}\" must be true or false, not {}", value.type_str()))
}

fn section<'a>(key: &str, value: &'a Value) -> Result<&'a Table> {
    value.as_table().ok_or_else(|| anyhow!("\"{key}\" must be a section, written [{key}]"))
}

/// One text or a list of them.
fn strings(key: &str, value: &Value) -> Result<Vec<String>> {
    match value {
        Value::Array(items) => items.iter().map(|item| string(key, item)).collect(),
        one => Ok(vec![string(key, one)?]),
    }
}

/// The default configuration as a file, every line with what it means.
pub fn print_default() -> String {
    let mut out = String::from(
        "# kvmscope: the default configuration. A file overrides only what it names.\n\
         # Usual place: ~/.config/kvmscope/config.toml\n\n\
         # Colours: dark, light, mono, colour-blind. When unset: mono if NO_COLOR is set, else dark.\n\
         # theme = \"dark\"\n\n\
         # Draw in ASCII. When unset: where the locale is not UTF-8.\n\
         # ascii = false\n\n\
         # Take the mouse. The terminal's own selection then needs shift.\n\
         mouse = true\n\n\
         # What VMs are sorted by at first; a leading \"-\" is the other way round.\n\
         # sort = \"exits\"\n\n\
         # Columns of tables to leave out.\n\
         hide-columns = []\n\n\
         # Where views (w) and recordings (r, R) are saved. When unset: where it was started.\n\
         # directory = \"/var/tmp\"\n\n\
         # A list replaces the keys of a command; an empty list takes them away.\n\
         [keys]\n",
    );
    let width = TABLE.iter().map(|b| b.name.len()).max().unwrap_or(0);
    for binding in TABLE {
        let keys: Vec<String> = binding.keys.iter().map(|key| format!("\"{key}\"")).collect();
        let keys = format!("[{}]", keys.join(", "));
        out.push_str(&format!("{:width$} = {keys:32} # {}\n", binding.name, binding.help));
    }
    out.push_str(
        "\n# From where on something stands out: in the tab Time and in reports. No number may be 0.\n\
         [findings]\n",
    );
    for threshold in thresholds::TABLE {
        out.push_str(&format!("#{}\n{} = {}\n", threshold.help, threshold.key, threshold.default));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> String {
        format!("{:#}", parse(text).expect_err(text))
    }

    #[test]
    fn nothing_changes_nothing() {
        assert_eq!(parse("").expect("empty"), Config::default());
    }

    #[test]
    fn the_printed_default_is_the_default() {
        let config = parse(&print_default()).expect("the default");
        assert_eq!(config, Config { mouse: Some(true), ..Config::default() });
        // So are the lines that are commented out, as far as they set anything.
        let all: String = print_default()
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(rest) if rest.contains(" = ") => rest,
                _ => line,
            })
            .map(|line| format!("{line}\n"))
            .collect();
        let config = parse(&all).expect("every line");
        assert_eq!(config.theme, Some(ThemeName::Dark));
        assert_eq!(config.sort, Some(Sort { key: "exits", reversed: false }));
    }

    #[test]
    fn only_what_is_named_changes() {
        let config =
            parse("theme = \"mono\"\nsort = \"-p99\"\n[keys]\nquit = \"ctrl-q\"\n").expect("good");
        assert_eq!(config.theme, Some(ThemeName::Mono));
        assert_eq!(config.keys.keys(Command::Quit), [Key::parse("ctrl-q").expect("a key")]);
        assert_eq!(config.keys.keys(Command::Help), Keymap::default().keys(Command::Help));
        assert_eq!(config.ascii, None);
        assert_eq!(config.sort, Some(Sort { key: "p99", reversed: true }));
    }

    #[test]
    fn a_threshold_can_be_set() {
        let config = parse("[findings]\nwaiting-percent = 25\n").expect("good");
        let expected = Thresholds { waiting_percent: 25, ..Thresholds::default() };
        assert_eq!(config.findings, expected);
    }

    #[test]
    fn thresholds_that_would_never_or_always_be_reached_are_refused() {
        assert_eq!(
            message("[findings]\nstuck-secnds = 9"),
            "unknown threshold in [findings] \"stuck-secnds\"; did you mean \"stuck-seconds\"?"
        );
        assert_eq!(
            message("[findings]\nwaiting-percent = 101"),
            "[findings] waiting-percent must be from 1 to 100, not 101"
        );
        assert_eq!(
            message("[findings]\nstuck-seconds = 0"),
            "[findings] stuck-seconds must be from 1 to 86400, not 0"
        );
        assert_eq!(
            message("[findings]\nstuck-seconds = 1.5"),
            "[findings] stuck-seconds must be a whole number, not float"
        );
        assert_eq!(
            message("findings = true"),
            "\"findings\" must be a section, written [findings]"
        );
    }

    #[test]
    fn mistakes_are_answered_with_what_is_meant() {
        assert_eq!(message("them = \"mono\""), "unknown key \"them\"; did you mean \"theme\"?");
        assert_eq!(
            message("[keys]\nzom = \"z\""),
            "unknown command in [keys] \"zom\"; did you mean \"zoom\"?"
        );
        assert_eq!(
            message("theme = \"pink\""),
            "unknown theme \"pink\"; there are: dark, light, mono, colour-blind"
        );
        assert_eq!(
            message("sort = \"-exit\""),
            "unknown field in \"sort\" \"exit\"; did you mean \"exits\"?"
        );
        assert_eq!(
            message("hide-columns = [\"walltime\"]"),
            "unknown column in \"hide-columns\" \"walltime\"; did you mean \"wall-time\"?"
        );
        assert_eq!(message("ascii = 1"), "\"ascii\" must be true or false, not integer");
        assert_eq!(message("keys = 1"), "\"keys\" must be a section, written [keys]");
        assert!(message("[keys]\nquit = \"shft-q\"").contains("\"shft-q\" is not a key"));
        assert_eq!(message("[keys]\nquit = []"), "[keys] quit needs at least one key");
        assert!(message("theme = ").contains("line 1"));
    }

    #[test]
    fn the_usual_place() {
        let path = |vars: &[(&str, &str)]| {
            usual_path(|name| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
        };
        let home = Some(PathBuf::from("/home/a/.config/kvmscope/config.toml"));
        assert_eq!(path(&[("HOME", "/home/a")]), home);
        let xdg = Some(PathBuf::from("/x/kvmscope/config.toml"));
        assert_eq!(path(&[("HOME", "/home/a"), ("XDG_CONFIG_HOME", "/x")]), xdg);
        assert_eq!(path(&[]), None);
    }

    #[test]
    fn a_named_file_must_exist_and_the_usual_one_need_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let home = dir.path().to_string_lossy().into_owned();
        let get = |name: &str| (name == "HOME").then(|| home.clone());
        assert_eq!(load(None, get).expect("no file"), Config::default());
        let missing = dir.path().join("none.toml");
        let error = format!("{:#}", load(Some(&missing), get).expect_err("missing"));
        assert!(error.contains("none.toml cannot be read"), "{error}");
    }
}
