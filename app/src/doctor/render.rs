//! Findings as text and as JSON.

use super::facts::Facts;
use super::findings::{Finding, Severity};
use crate::model::session::ProbeStatus;
use serde::Serialize;
use unicode_width::UnicodeWidthStr;

/// Columns that text keeps to; a command is never broken and may be longer.
const COLUMNS: usize = 80;
/// Columns of the severity and of the labels under it.
const LEFT: usize = 9;
const LABEL: usize = 7;

/// The findings for a person: one after the other, with costs and remedies under it, and a last
/// line that sums up. At most 80 columns, except for commands, which can be copied whole.
pub fn text(facts: &Facts, findings: &[Finding]) -> String {
    let mut out = String::new();
    for finding in findings {
        let severity = format!("{:<LEFT$}", finding.severity.word());
        paragraph(&mut out, &severity, &finding.what);
        let left = " ".repeat(LEFT);
        for (label, text) in [("costs", &finding.costs), ("do", &finding.todo)] {
            if let Some(text) = text {
                paragraph(&mut out, &format!("{left}{label:<LABEL$}"), text);
            }
        }
        if let Some(command) = &finding.command {
            out += &format!("{left}{:<LABEL$}{}\n", "run", plain(command));
        }
    }
    out.push('\n');
    paragraph(&mut out, "", &summary(facts, findings));
    out
}

fn summary(facts: &Facts, findings: &[Finding]) -> String {
    let count = |severity| findings.iter().filter(|f| f.severity == severity).count();
    let (blockers, warnings) = (count(Severity::Blocker), count(Severity::Warning));
    let counted = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
    let host = format!("this host ({} backend)", facts.backend().word());
    match (blockers, warnings) {
        (0, 0) => format!("kvmscope can watch {host}."),
        (0, _) => format!("kvmscope can watch {host}, with {}.", counted(warnings, "warning")),
        _ => format!("kvmscope cannot watch {host}: {}.", counted(blockers, "blocker")),
    }
}

/// Words after a label, broken at [`COLUMNS`], further lines under the first word.
fn paragraph(out: &mut String, label: &str, text: &str) {
    let indent = label.width();
    out.push_str(label);
    let mut column = indent;
    for word in plain(text).split(' ').filter(|word| !word.is_empty()) {
        let width = word.width();
        if column > indent && column + 1 + width > COLUMNS {
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            column = indent;
        } else if column > indent {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += width;
    }
    out.push('\n');
}

/// A verifier's log, a path or a kernel's answer may hold anything; a terminal must not see it.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// What is printed as JSON; `docs/doctor.md` describes it.
#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    backend: &'static str,
    usable: bool,
    facts: &'a Facts,
    probes: &'a [ProbeStatus],
    findings: &'a [Finding],
}

/// The findings for a program: one JSON object, `"schema":1`, with a newline behind it.
pub fn json(
    facts: &Facts,
    probes: &[ProbeStatus],
    findings: &[Finding],
) -> serde_json::Result<String> {
    let document = Document {
        schema: 1,
        backend: facts.backend().word(),
        usable: super::blocker(findings).is_none(),
        facts,
        probes,
        findings,
    };
    Ok(serde_json::to_string(&document)? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(what: &str) -> Finding {
        Finding::new("x", Severity::Warning, what)
    }

    #[test]
    fn text_keeps_to_its_columns() {
        let long = "word ".repeat(60);
        let findings = [finding(&long).costs(long.clone()).todo(long.clone())];
        let text = text(&Facts::default(), &findings);
        assert!(text.lines().all(|line| line.width() <= COLUMNS), "{text}");
        assert_eq!(text.matches("word").count(), 180, "nothing is lost");
    }

    #[test]
    fn lines_are_aligned_and_commands_whole() {
        let command = format!("sudo setcap x {}", "p".repeat(90));
        let findings = [
            Finding::new("a", Severity::Ok, "Fine."),
            finding("Bad.").costs("Much.").todo("This:").command(command.clone()),
        ];
        let expected = format!(
            "ok       Fine.\nwarning  Bad.\n         costs  Much.\n         do     This:\n         run    {command}\n\nkvmscope can watch this host (none backend), with 1 warning.\n"
        );
        assert_eq!(text(&Facts::default(), &findings), expected);
    }

    #[test]
    fn a_terminal_sees_no_control_characters() {
        let text = text(&Facts::default(), &[finding("a\u{1b}[2Jb\r\nc").command("x\u{7}y")]);
        assert!(!text.contains('\u{1b}') && !text.contains('\u{7}') && !text.contains('\r'));
    }

    #[test]
    fn a_blocker_is_in_the_summary() {
        let text = text(&Facts::default(), &[Finding::new("x", Severity::Blocker, "No.")]);
        assert!(text.ends_with("kvmscope cannot watch this host (none backend): 1 blocker.\n"));
    }

    #[test]
    fn json_has_the_documented_keys() {
        let probe = ProbeStatus { name: "kvm:kvm_exit".into(), ..ProbeStatus::default() };
        let findings = [finding("Bad."), Finding::new("y", Severity::Blocker, "No.")];
        let text = json(&Facts::default(), &[probe], &findings).expect("encodes");
        let value: serde_json::Value = serde_json::from_str(&text).expect("decodes");
        assert_eq!(value["schema"], 1);
        assert_eq!(value["usable"], false);
        assert_eq!(value["backend"], "none");
        assert_eq!(value["facts"]["tracefs"], "not-mounted");
        assert_eq!(value["probes"][0]["name"], "kvm:kvm_exit");
        assert_eq!(value["findings"][0]["severity"], "warning");
        assert_eq!(value["findings"][0]["costs"], serde_json::Value::Null);
    }
}
