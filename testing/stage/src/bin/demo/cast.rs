//! The jobs of the demonstration and what is expected of each.

use github_sim::world::{Conclusion, JobId, JobSpec, JobStatus, JobView};
use stage::{REPO, Stage};

/// The second repository.
pub const OTHER_REPO: &str = "octo-org/world";
/// Most containers at once: fewer than there are jobs.
pub const MAX_CONCURRENT: usize = 4;

const SMALL: &[&str] = &["self-hosted", "linux"];
/// No small job asks for this label alone, so no runner of this class takes one.
const LARGE: &[&str] = &["big-memory"];
const FOREIGN: &[&str] = &["self-hosted", "windows"];

const WHO: &str = "\
echo \"host name       $(hostname)\"
echo \"user            $(id)\"
echo \"virtualisation  $(systemd-detect-virt)\"
echo \"process 1       $(ps -o comm= -p 1), $(ps -e --no-headers | wc -l) processes\"
echo \"up since        $(ps -o etimes= -p 1 | tr -d ' ') s\"
echo \"uids            $(tr -s ' ' </proc/self/uid_map)\"";
const NETWORK: &str = "\
ip -brief address
ip route
curl --silent --max-time 3 --output /dev/null --write-out 'the forge answers  %{http_code}\\n' $GITHUB_API_URL";
const VANDAL: &str = "\
for mark in /etc/was-here /usr/was-here /var/tmp/was-here; do
  if [ -e $mark ]; then echo \"NOT FRESH: $mark\"; exit 1; fi
done
echo 'nobody was here before'
sudo sh -c 'touch /etc/was-here /usr/was-here; rm -rf /usr/share/doc; head -c 32M /dev/zero >/var/tmp/was-here'
ls -sh /etc/was-here /usr/was-here /var/tmp/was-here
(sleep 1000 & sleep 1000 &)
echo 'left: files everywhere, two processes'";
const FAILING: &str = "echo 'about to fail'\nexit 7";

/// What should become of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Runs in a container of its own and succeeds.
    Succeeds,
    /// Runs in a container of its own and fails with this status.
    Fails(i32),
    /// Is cancelled while its container boots: no runner ever has it.
    CancelledBeforePickup,
    /// Is not ours: stays queued, untouched.
    Untouched,
}

impl Fate {
    /// In words.
    pub fn expectation(self) -> String {
        match self {
            Self::Succeeds => "success".into(),
            Self::Fails(code) => format!("failure (exit {code})"),
            Self::CancelledBeforePickup => "cancelled".into(),
            Self::Untouched => "still queued".into(),
        }
    }

    /// Whether the forge says so.
    pub fn is_met(self, job: &JobView) -> bool {
        match self {
            Self::Succeeds => job.conclusion == Some(Conclusion::Success),
            Self::Fails(code) => job.conclusion == Some(Conclusion::Failure) && job.exit_code == Some(code),
            Self::CancelledBeforePickup => job.conclusion == Some(Conclusion::Cancelled) && job.runner_name.is_none(),
            Self::Untouched => job.status == JobStatus::Queued && job.offered_at.is_none(),
        }
    }
}

/// A job of the demonstration.
#[derive(Debug)]
pub struct Part {
    /// The forge's id.
    pub id: JobId,
    /// Its display name.
    pub name: &'static str,
    /// What should become of it.
    pub fate: Fate,
}

/// Queues them, in this order.
pub fn queue_all(stage: &Stage) -> anyhow::Result<Vec<Part>> {
    let parts = [
        (OTHER_REPO, "cancelled while it boots", LARGE, "sleep 60", Fate::CancelledBeforePickup),
        (REPO, "who am I", SMALL, WHO, Fate::Succeeds),
        (REPO, "network", SMALL, NETWORK, Fate::Succeeds),
        (OTHER_REPO, "not for us", FOREIGN, "exit 1", Fate::Untouched),
        (OTHER_REPO, "vandal", SMALL, VANDAL, Fate::Succeeds),
        (OTHER_REPO, "vandal again", SMALL, VANDAL, Fate::Succeeds),
        (REPO, "failing", SMALL, FAILING, Fate::Fails(7)),
        (REPO, "large", LARGE, "nproc; sleep 1; echo slept", Fate::Succeeds),
        (REPO, "burst 1", SMALL, "sleep 1; echo slept", Fate::Succeeds),
        (REPO, "burst 2", SMALL, "sleep 1; echo slept", Fate::Succeeds),
        (OTHER_REPO, "burst 3", SMALL, "sleep 1; echo slept", Fate::Succeeds),
        (OTHER_REPO, "burst 4", SMALL, "sleep 1; echo slept", Fate::Succeeds),
    ];
    let mut queued = Vec::new();
    for (repo, name, labels, script, fate) in parts {
        let (_, id) = stage.hub.queue_job(repo, JobSpec::new(name, labels, &[script]))?;
        queued.push(Part { id, name, fate });
    }
    Ok(queued)
}

/// Whether all that is to happen to a job has happened.
pub fn is_over(part: &Part, job: &JobView) -> bool {
    part.fate == Fate::Untouched || job.status == JobStatus::Completed
}
