//! The probes of the session as rows, by family.

use super::fields::{Field, Row};
use super::keys::Watch;
use super::nav::RowId;
use super::price;
use super::value::Value;
use super::{Pane, State};
use crate::model::ids::VmId;
use crate::model::session::{OFF, Origin, ProbeStatus};
use crate::source::live::plan::Family;

/// A row: a family, or under it one of its probes.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeRow {
    /// Its family's name.
    pub family: String,
    /// The family, where it is one that this program knows.
    pub known: Option<Family>,
    /// The probe; `None` is the family itself.
    pub probe: Option<ProbeStatus>,
    /// Probes of the family that are attached, and all of it.
    pub attached: (usize, usize),
    /// Whether the family was asked for or is on its way: on, attaching, partly there, off.
    pub watch: Watch,
}

impl ProbeRow {
    /// Its state in a word or two.
    pub fn word(&self) -> String {
        match (&self.probe, &self.watch, self.attached) {
            (Some(probe), ..) if probe.attached => "attached".to_owned(),
            (Some(probe), ..) if probe.is_off() => "off".to_owned(),
            (Some(_), ..) => "not attached".to_owned(),
            (None, Watch::On, _) => "on".to_owned(),
            (None, Watch::Partly(_), (some, all)) => format!("{some} of {all}"),
            (None, Watch::Attaching, _) => "attaching".to_owned(),
            (None, Watch::Off(_), _) if self.is_trouble() => "not attached".to_owned(),
            (None, Watch::Off(_), _) => "off".to_owned(),
        }
    }

    /// How it is attached, why it is not, or what the family costs.
    pub fn about(&self) -> String {
        match (&self.probe, self.known) {
            (Some(probe), _) if probe.attached => probe.how.clone(),
            (Some(probe), _) if probe.is_off() => String::new(),
            (Some(probe), _) => probe.why.clone().unwrap_or_default(),
            (None, Some(family)) => price::told(family),
            (None, None) => String::new(),
        }
    }

    /// The family's name, or the probe's hook under it.
    pub fn name(&self) -> String {
        self.probe.as_ref().map_or_else(|| self.family.clone(), |probe| format!("  {}", probe.name))
    }

    /// What is not attached although it was asked for.
    pub fn is_trouble(&self) -> bool {
        match &self.probe {
            Some(probe) => !probe.attached && !probe.is_off(),
            None => match &self.watch {
                Watch::Partly(_) => true,
                Watch::Off(why) => self.known.is_some() && !why.starts_with(OFF),
                Watch::On | Watch::Attaching => false,
            },
        }
    }
}

fn text(text: String) -> Value {
    if text.is_empty() { Value::None } else { Value::Text(text.into()) }
}

impl Row for ProbeRow {
    fn id(&self) -> RowId {
        RowId::Vm(VmId::default())
    }

    #[rustfmt::skip]
    const FIELDS: &'static [Field<Self>] = &[
        Field { key: "name", title: "family and hooks", width: 28, numeric: false, about: "the family of probes, under it what they are attached to", value: |r| text(r.name()) },
        Field { key: "state", title: "state", width: 12, numeric: false, about: "attached, off, or why not", value: |r| text(r.word()) },
        Field { key: "about", title: "how, why not, or what it costs", width: 30, numeric: false, about: "how it is attached, why it is not, what the family costs while it is on", value: |r| text(r.about()) },
    ];
}

impl State {
    /// Every probe of the session under its family: families in the order in which they can be asked
    /// for, then what every other needs.
    pub fn probe_rows(&self) -> &[ProbeRow] {
        self.views.probes.get_or_init(|| {
            let known = Family::ASKABLE.into_iter().chain([Family::Base]);
            let mut families: Vec<(String, Option<Family>)> =
                known.map(|family| (family.name().to_owned(), Some(family))).collect();
            for probe in &self.session.probes {
                if families.iter().all(|(name, _)| *name != probe.family) {
                    families.push((probe.family.clone(), None));
                }
            }
            families.into_iter().flat_map(|(name, known)| self.family_rows(name, known)).collect()
        })
    }

    fn family_rows(&self, name: String, known: Option<Family>) -> Vec<ProbeRow> {
        let probes: Vec<&ProbeStatus> =
            self.session.probes.iter().filter(|probe| probe.family == name).collect();
        if probes.is_empty() {
            return Vec::new();
        }
        let attached = probes.iter().filter(|probe| probe.attached).count();
        let watch = match known {
            Some(family) => self.family_watch(family),
            None if attached > 0 => Watch::On,
            None => Watch::Off(String::new()),
        };
        let row = |probe: Option<&ProbeStatus>| ProbeRow {
            family: name.clone(),
            known,
            probe: probe.cloned(),
            attached: (attached, probes.len()),
            watch: watch.clone(),
        };
        std::iter::once(row(None)).chain(probes.iter().map(|probe| row(Some(probe)))).collect()
    }

    /// The row of the probes that the cursor is on.
    pub fn selected_probe(&self) -> Option<&ProbeRow> {
        self.probe_rows().get(self.cursor_in(Pane::Probes)?)
    }

    /// What switching the family under the cursor would do, or why it cannot be switched, for the
    /// footer.
    pub fn switch_message(&self) -> Option<String> {
        let row = self.selected_probe()?;
        let family = &row.family;
        Some(match row.known {
            _ if self.replaying() => "this is a recording, there is nothing to attach".to_owned(),
            _ if self.session.origin != Origin::Live => {
                "these numbers are invented, there is nothing to attach".to_owned()
            }
            None | Some(Family::Base) => format!("{family} is what the others need, and stays"),
            Some(known) if self.family_on(known) => format!("detaching {family}"),
            Some(_) => format!("attaching {family}"),
        })
    }
}
