//! The session as bytes.

use super::{get, put};
use crate::model::session::{Host, Origin, ProbeStatus, ReasonNames, Session};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version 1. Frozen: see the module.
#[derive(Serialize, Deserialize)]
struct MetaV1 {
    program: String,
    /// Why the numbers are invented, and what to run instead; `None`: they were measured.
    synthetic: Option<(String, String)>,
    host: HostV1,
    vmx: BTreeMap<u32, String>,
    svm: BTreeMap<u32, String>,
    userspace: BTreeMap<u32, String>,
    probes: Vec<ProbeV1>,
    apicv: Option<bool>,
    apicv_reasons: BTreeMap<u32, String>,
    notices: Vec<String>,
    started_ns: u64,
    started_unix_ns: u64,
}

#[derive(Serialize, Deserialize)]
struct HostV1 {
    name: String,
    kernel: String,
    backend: String,
    cpus: u32,
}

#[derive(Serialize, Deserialize)]
struct ProbeV1 {
    name: String,
    family: String,
    attached: bool,
    why: Option<String>,
    how: String,
}

/// A session's bytes.
pub fn put_meta(session: &Session) -> Vec<u8> {
    put(&MetaV1::from(session))
}

/// A session; `None` when it is damaged.
pub fn get_meta(bytes: &[u8]) -> Option<Session> {
    get::<MetaV1>(bytes).map(Session::from)
}

// Both ways name every field, so that a new one is seen here.

impl From<&Session> for MetaV1 {
    fn from(session: &Session) -> Self {
        let Session {
            origin,
            host,
            names,
            probes,
            apicv,
            apicv_reasons,
            notices,
            started_ns,
            started_unix_ns,
        } = session.clone();
        let Host { name, kernel, backend, cpus } = host;
        let ReasonNames { vmx, svm, userspace } = names;
        let probe = |probe| {
            let ProbeStatus { name, family, attached, why, how } = probe;
            ProbeV1 { name, family, attached, why, how }
        };
        Self {
            program: env!("CARGO_PKG_VERSION").to_owned(),
            synthetic: match origin {
                Origin::Live => None,
                Origin::Synthetic { why, command } => Some((why, command)),
            },
            host: HostV1 { name, kernel, backend, cpus },
            vmx,
            svm,
            userspace,
            probes: probes.into_iter().map(probe).collect(),
            apicv,
            apicv_reasons,
            notices,
            started_ns,
            started_unix_ns,
        }
    }
}

impl From<MetaV1> for Session {
    fn from(meta: MetaV1) -> Self {
        let HostV1 { name, kernel, backend, cpus } = meta.host;
        let probe = |probe| {
            let ProbeV1 { name, family, attached, why, how } = probe;
            ProbeStatus { name, family, attached, why, how }
        };
        Self {
            origin: match meta.synthetic {
                None => Origin::Live,
                Some((why, command)) => Origin::Synthetic { why, command },
            },
            host: Host { name, kernel, backend, cpus },
            names: ReasonNames { vmx: meta.vmx, svm: meta.svm, userspace: meta.userspace },
            probes: meta.probes.into_iter().map(probe).collect(),
            apicv: meta.apicv,
            apicv_reasons: meta.apicv_reasons,
            notices: meta.notices,
            started_ns: meta.started_ns,
            started_unix_ns: meta.started_unix_ns,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::testing::session;

    #[test]
    fn a_session_is_what_it_was() {
        let session = session();
        assert_eq!(get_meta(&put_meta(&session)), Some(session));
        let live = Session::default();
        assert_eq!(get_meta(&put_meta(&live)), Some(live));
    }

    #[test]
    fn no_part_of_one_is_one() {
        let bytes = put_meta(&session());
        assert!((0..bytes.len()).all(|length| get_meta(&bytes[..length]).is_none()));
        assert!(get_meta(&[bytes, vec![0]].concat()).is_none());
    }
}
