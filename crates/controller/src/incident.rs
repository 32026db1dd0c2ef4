//! Incidents: what goes wrong on a host, each kind under a heading of docs/incidents.md, and what the journal has of it.
//!
//! The begin and the end of each are a line in the journal with the kind's fixed `MESSAGE_ID`, so that
//! `journalctl MESSAGE_ID=…` finds all of them, whatever the words are. One that goes and comes again within a minute
//! is one incident.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tracing::{info, warn};
use utoipa::ToSchema;

use super::time::{Mono, Now, Wall};

/// Target of these lines in the log: their fields are the journal's own, without a prefix.
pub const TARGET: &str = "incident";
/// What was not so for this long is over.
const OVER_AFTER: Duration = Duration::from_secs(60);

/// A kind of incident.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    ToSchema,
    strum::Display,
    strum::VariantArray,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Incident {
    /// Little room, or few inodes, on a disk.
    HostFull,
    /// The kernel's pressure is high.
    HostPressed,
    /// Containers end before they take a job.
    BootFails,
    /// A runner's version is refused.
    RunnerVersion,
    /// A target, a repository or a scale set is not heard of.
    TargetUnseen,
    /// Runners cannot be registered.
    Registration,
    /// Jobs that no runner here is given.
    JobsKept,
    /// A credential's rate limit, or the controller's share of it, is used up.
    RateLimit,
    /// A credential ends soon, is refused, or lacks something.
    Credential,
    /// The host's clock is wrong.
    Clock,
    /// systemd, the history, or what containers left.
    HostServices,
}

impl Incident {
    /// All there are.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// Its `MESSAGE_ID` in the journal. It never changes: who looks for it may have written it down.
    pub fn message_id(self) -> &'static str {
        match self {
            Self::HostFull => "1cabb904f7a74d5b974ceaf0275973ee",
            Self::HostPressed => "5df3cc38a0084cb58915ad4a098ba112",
            Self::BootFails => "2c76095bdbbd4e1285e1a3f5bf67f403",
            Self::RunnerVersion => "1f036efcae5b4006ae84cdb53e9e8af0",
            Self::TargetUnseen => "1e07b7ff94624caaa2766d09e7951023",
            Self::Registration => "be6ab6b27a2b4f63b789299689fdbedb",
            Self::JobsKept => "714c6d8553be40c290a1f4cc69cac988",
            Self::RateLimit => "c00ad5a1d70f4318a5cdf6910f8da1f9",
            Self::Credential => "8cef0e86e6a14da38ad8242bddcd9cef",
            Self::Clock => "96ce395f509445c899fca3939a0b9c20",
            Self::HostServices => "04d4a36a50604b19a0d72abdc7dcedc9",
        }
    }

    /// Its heading in docs/incidents.md.
    pub fn heading(self) -> &'static str {
        match self {
            Self::HostFull => "The host is short of disk or inodes",
            Self::HostPressed => "The host is under pressure",
            Self::BootFails => "Containers of a class do not boot",
            Self::RunnerVersion => "The forge refuses the runner's version",
            Self::TargetUnseen => "A target cannot be looked at",
            Self::Registration => "Runners cannot be registered",
            Self::JobsKept => "Jobs that no runner here is given",
            Self::RateLimit => "The rate limit",
            Self::Credential => "A credential ends or is refused",
            Self::Clock => "The clock",
            Self::HostServices => "systemd, the history or leftovers",
        }
    }

    /// Its heading's anchor.
    fn anchor(self) -> String {
        let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-');
        self.heading().to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")
    }
}

/// The entries of all kinds for `journalctl --catalog` (journalctl(1)).
pub fn catalog() -> String {
    let page = "https://github.com/gha-runner-controller/gha-runner-controller/blob/main/docs/incidents.md";
    let mut text = String::from("# Message catalog of gha-runner-controller (journalctl --catalog).\n");
    for incident in Incident::ALL {
        let (id, heading, anchor) = (incident.message_id(), incident.heading(), incident.anchor());
        let _ = write!(
            text,
            "\n-- {id}\nSubject: {heading}\nDefined-By: gha-runner-controller\nDocumentation: {page}#{anchor}\n\n\
             gha-runner-controller writes this when such an incident begins and when it is over.\n\
             `gha-runner-controller status` shows what is wrong now, and what to do.\n"
        );
    }
    text
}

/// One that goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ongoing {
    /// Which.
    pub incident: Incident,
    /// What it is about: a class, a credential, a repository, …
    pub about: String,
    /// Since when.
    pub since_ms: u64,
    /// What was last told of it.
    pub reason: String,
}

#[derive(Debug)]
struct Known {
    since: Wall,
    seen: Mono,
    reason: String,
}

/// Those that go on.
#[derive(Debug, Default)]
pub struct Incidents {
    known: BTreeMap<(Incident, String), Known>,
}

/// What a problem is about, by its first words.
fn about(problem: &str) -> String {
    problem.split(": ").next().unwrap_or_default().to_owned()
}

impl Incidents {
    /// Takes note of all that is wrong now, and writes down what begins and what is over.
    pub fn follow(&mut self, wrong: &[(Incident, String)], now: Now) {
        for (incident, reason) in wrong {
            let key = (*incident, about(reason));
            if let Some(known) = self.known.get_mut(&key) {
                known.seen = now.mono;
                known.reason.clone_from(reason);
                continue;
            }
            let message_id = incident.message_id();
            warn!(target: TARGET, message_id, incident = %incident, "incident begins: {reason}");
            self.known.insert(key, Known { since: now.wall, seen: now.mono, reason: reason.clone() });
        }
        self.known.retain(|(incident, about), known| {
            let goes_on = now.mono - known.seen < OVER_AFTER;
            if !goes_on {
                let (message_id, over) = (incident.message_id(), Over { about, since: known.since });
                info!(target: TARGET, message_id, incident = %incident, "incident over: {over}");
            }
            goes_on
        });
    }

    /// Those that go on, as documents show them.
    pub fn shown(&self) -> Vec<Ongoing> {
        let shown = |((incident, about), known): (&(Incident, String), &Known)| Ongoing {
            incident: *incident,
            about: about.clone(),
            since_ms: known.since.as_millis(),
            reason: known.reason.clone(),
        };
        self.known.iter().map(shown).collect()
    }
}

struct Over<'a> {
    about: &'a str,
    since: Wall,
}

impl fmt::Display for Over<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, since {}", self.about, self.since)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const DOCUMENT: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/incidents.md"));

    #[test]
    fn every_heading_has_its_id_and_every_id_its_heading() {
        let sections: Vec<&str> = DOCUMENT.split("\n## ").skip(1).collect();
        let headings: Vec<&str> = sections.iter().filter_map(|section| section.lines().next()).collect();
        let told: Vec<&str> = Incident::ALL.iter().map(|incident| incident.heading()).collect();
        assert_eq!(headings, told, "the headings, in the order of the kinds");
        for (section, incident) in sections.iter().zip(Incident::ALL) {
            let id = format!("`MESSAGE_ID={}`", incident.message_id());
            assert!(section.contains(&id), "{incident}: no {id} in its section");
            assert_eq!(section.matches("MESSAGE_ID=").count(), 1, "{incident}");
        }
    }

    #[test]
    fn an_id_is_128_bits_and_nobody_elses() {
        let mut ids: Vec<&str> = Incident::ALL.iter().map(|incident| incident.message_id()).collect();
        assert!(ids.iter().all(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())));
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), Incident::ALL.len());
    }

    #[test]
    fn the_catalog_has_an_entry_for_every_kind() {
        let catalog = catalog();
        for incident in Incident::ALL {
            let entry = format!("\n-- {}\nSubject: {}\n", incident.message_id(), incident.heading());
            assert!(catalog.contains(&entry), "{catalog}");
        }
        assert!(catalog.contains("docs/incidents.md#the-forge-refuses-the-runners-version\n"), "{catalog}");
    }

    #[test]
    fn one_that_goes_for_a_moment_and_comes_again_is_one() {
        let now = |seconds| Now {
            mono: Mono::after_start(Duration::from_secs(seconds)),
            wall: Wall::from_epoch(Duration::from_secs(1000 + seconds)),
            round: 0,
        };
        let wrong = |figure: u32| vec![(Incident::Clock, format!("clock: {figure} s off"))];
        let mut incidents = Incidents::default();
        let mut shown = |wrong: &[(Incident, String)], seconds| {
            incidents.follow(wrong, now(seconds));
            incidents.shown().into_iter().map(|known| (known.since_ms, known.reason)).collect::<Vec<_>>()
        };
        assert_eq!(shown(&wrong(40), 0), [(1_000_000, "clock: 40 s off".to_owned())]);
        assert_eq!(shown(&[], 59).len(), 1);
        assert_eq!(shown(&wrong(50), 70), [(1_000_000, "clock: 50 s off".to_owned())]);
        assert_eq!(shown(&[], 129).len(), 1);
        assert_eq!(shown(&[], 130), []);
        assert_eq!(shown(&wrong(40), 131)[0].0, 1_131_000);
    }
}
