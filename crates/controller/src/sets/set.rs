//! One scale set: how the jobs of a class are found in a place.

use std::time::Duration;

use forge::{
    ErrorKind, ForgeError, SetRequest,
    github::scale_set::assignments::{Assignment, AssignmentState, Assignments},
};
use futures_util::future::AbortHandle;
use settings::Intake;
use tokio::sync::watch;

use crate::time::{Backoff, Mono, Wall};

/// Pauses after a set could not be opened.
const RETRY: Backoff = Backoff::seconds(10, 600);
/// A refusal for good is asked about again after this time: somebody may have given the permission.
const REFUSED: Duration = Duration::from_secs(3600);

/// A class with this intake gets a set in a place. `discovered` = the place is one of many that the forge listed.
pub(super) fn wants_set(intake: Intake, discovered: bool) -> bool {
    match intake {
        Intake::Polling => false,
        Intake::Auto => !discovered,
        Intake::ScaleSet => true,
    }
}

/// What a set is after its `failures`th failure in a row to be opened, and how long until the next try.
pub(super) fn after_failure(error: &ForgeError, failures: u32) -> (Mode, Duration) {
    match error.kind {
        ErrorKind::Unauthorized
        | ErrorKind::Forbidden
        | ErrorKind::NotFound
        | ErrorKind::Refused
        | ErrorKind::Quarantined => (Mode::Refused(error.message.clone()), REFUSED),
        ErrorKind::Unavailable | ErrorKind::RateLimited(_) | ErrorKind::Paced(_) | ErrorKind::Conflict => {
            (Mode::Unavailable(error.message.clone()), RETRY.after(failures))
        }
    }
}

/// REST's word for how a job ended, from that of a set's messages; both are not known in full (docs/github.md#messages-and-statistics).
pub(super) fn conclusion(result: &str) -> Option<&'static str> {
    match result.to_ascii_lowercase().as_str() {
        "succeeded" => Some("success"),
        "failed" => Some("failure"),
        "canceled" | "cancelled" => Some("cancelled"),
        _ => None,
    }
}

/// How the jobs of a class are found in a scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    /// The set is being opened; polled meanwhile if its class allows.
    Opening,
    /// By the set.
    Open,
    /// By polling, if its class allows: the forge refuses the set for this reason.
    Refused(String),
    /// By polling meanwhile, if its class allows: the set cannot be had now, for this reason.
    Unavailable(String),
    /// Given up, because the controller stops.
    Released,
}

/// A scale set as the controller knows it.
#[derive(Debug)]
pub(super) struct Set {
    pub request: SetRequest,
    pub mode: Mode,
    pub assignments: Assignments,
    /// When the forge was last heard.
    pub as_of: Option<Mono>,
    /// What it last refused, until it is heard again.
    pub last_error: Option<String>,
    /// Since when it is not heard: monotonic, and by the wall clock since the Unix epoch.
    pub failing_since: Option<(Mono, Wall)>,
    /// The most jobs of it that we take at once, as told.
    pub capacity: watch::Sender<u32>,
    /// When containers of it ended with a job that the counts may still contain.
    pub ended: Vec<Mono>,
    /// Since when the forge has been told of more room than it makes use of.
    pub room_since: Option<Mono>,
    pub failures: u32,
    pub next_try: Mono,
    pub opening: bool,
    pub listening: Option<AbortHandle>,
}

impl Set {
    /// One to be opened, of whose jobs so much is remembered.
    pub fn new(request: SetRequest, assignments: Assignments) -> Self {
        Self {
            request,
            mode: Mode::Opening,
            assignments,
            as_of: None,
            last_error: None,
            failing_since: None,
            capacity: watch::channel(0).0,
            ended: Vec::new(),
            room_since: None,
            failures: 0,
            next_try: Mono::START,
            opening: false,
            listening: None,
        }
    }

    /// When something is due for it.
    pub fn due(&self) -> Option<Mono> {
        let waits = matches!(self.mode, Mode::Opening | Mode::Refused(_) | Mode::Unavailable(_)) && !self.opening;
        waits.then_some(self.next_try)
    }

    /// Jobs that are its, as the forge counts them.
    pub fn assigned(&self) -> usize {
        self.assignments.statistics().assigned_jobs as usize
    }

    /// Jobs that are its and that no runner has.
    pub fn waiting(&self) -> impl Iterator<Item = &Assignment> {
        self.assignments.open().map(|(_, job)| job).filter(|job| job.state == AssignmentState::Waiting)
    }

    /// The forge was heard and told that so many jobs may be the set's at once.
    pub fn told(&mut self, capacity: u32, now: Mono) {
        let heard = self.mode == Mode::Open && self.as_of.is_some() && self.failing_since.is_none();
        let room = heard && capacity > self.assignments.statistics().assigned_jobs;
        self.room_since = room.then(|| self.room_since.unwrap_or(now));
        self.capacity.send_if_modified(|told| std::mem::replace(told, capacity) != capacity);
    }
}

#[cfg(test)]
mod tests;
