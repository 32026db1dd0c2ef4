//! What sets report: on disk before it is acknowledged, so that a crash loses nothing.

use forge::{
    ErrorKind, ForgeError, SetKey, Sets as _,
    github::scale_set::{JobEvent, JobMessage, Tidings, assignments::AssignmentState},
};
use tracing::{debug, info, warn};

use super::{Event, Mode, Outcome, Sets, Told, set::conclusion};
use crate::{
    intake::Intake,
    ports::{Records, World},
    time::Now,
};

impl<'w, W: World> Sets<'w, W> {
    pub(super) fn heard(
        &mut self,
        key: SetKey,
        result: Result<Tidings, ForgeError>,
        intake: &Intake<'w, W>,
        now: Now,
    ) -> Vec<Event> {
        let Some(set) = self.sets.get_mut(&key) else { return Vec::new() };
        set.listening = None;
        let tidings = match result {
            Ok(tidings) => tidings,
            Err(error) => {
                set.failing_since.get_or_insert((now.mono, now.wall));
                set.last_error = Some(error.message.clone());
                debug!(class = key.class, scope = key.scope, %error, "{key}: no message");
                if matches!(error.kind, ErrorKind::Unauthorized | ErrorKind::Forbidden | ErrorKind::Refused) {
                    self.failed(&key, &error, now);
                } else {
                    self.listen_to(key);
                }
                return Vec::new();
            }
        };
        if set.failing_since.take().is_some() {
            set.last_error = None;
        }
        set.as_of = Some(now.mono);
        // Counts alone are heard each minute while jobs are about, and mostly the same: nothing to write then.
        let known = tidings.message_id.is_none().then(|| set.assignments.clone());
        set.assignments.belong_to(tidings.set_id);
        if let Some(message) = tidings.message_id {
            set.assignments.apply(message, &tidings.messages, now.wall.since_epoch());
        }
        if tidings.fresh {
            set.assignments.reconcile(tidings.statistics, now.wall.since_epoch());
            set.ended.clear();
        }
        if known.is_none_or(|known| known != set.assignments) {
            match (self.world.records().put_set(&key, &set.assignments), tidings.message_id) {
                (Ok(()), Some(message)) => {
                    let (world, key) = (self.world, key.clone());
                    self.effects.start(async move {
                        world.sets().acknowledge(&key, message).await;
                        Outcome::Nothing
                    });
                }
                (Ok(()), None) => {}
                (Err(error), _) => {
                    warn!(%error, "{key}: not written, so not acknowledged; the forge will send it again")
                }
            }
        }
        let events = tidings.messages.iter().filter_map(|message| event(&key, message, intake)).collect();
        self.listen_to(key);
        events
    }

    /// What is known of the job of a runner of this set.
    pub fn told_of(&self, key: &SetKey, runner: &str) -> Told {
        let Some(set) = self.sets.get(key) else { return Told::default() };
        let job = set.assignments.jobs().values().find(|job| job.runner_name() == Some(runner));
        let conclusion = job.and_then(|job| match &job.state {
            AssignmentState::Finished(result) => conclusion(result),
            _ => None,
        });
        Told {
            is_awaited: set.mode == Mode::Open && conclusion.is_none(),
            run: job
                .filter(|job| job.run_id != 0 && job.repository.len() > 1)
                .map(|job| (job.repository.clone(), job.run_id)),
            conclusion,
        }
    }
}

/// What a message says of a runner of ours, or of a repository.
fn event<W: World>(key: &SetKey, message: &JobMessage, intake: &Intake<'_, W>) -> Option<Event> {
    let repository = message.repository.clone();
    match &message.event {
        JobEvent::Assigned => {
            info!(scope = key.scope, class = key.class, repository, "{repository}: a job is assigned");
            intake
                .refuses_event(&key.scope, &repository, &message.event_name)
                .then_some(Event::LookAgain { repository })
        }
        JobEvent::Started { runner_name } => {
            Some(Event::JobStarted { runner: runner_name.clone(), repository, job: message.job_name.clone() })
        }
        _ => None,
    }
}
