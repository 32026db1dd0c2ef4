//! The loop: level-triggered. A look at a forge, a signal from systemd, a guest's event, a timer and the operator all
//! only say "look again"; what to do follows from what is.
//!
//! The daemon has the loop, the clock and the effects under way, and carries what one part reports to the others.

use std::{rc::Rc, time::Duration};

use futures_util::FutureExt;
use settings::Settings;
use tokio::sync::{mpsc, watch};
use tracing::info;

use super::{
    classes::{self, Classes},
    effects::Running,
    fleet::{self, Fleet},
    health::Health,
    intake::{self, Intake},
    operate::operate,
    operation::LoopCommand,
    parts::Parts,
    plan::{Action, Plan, plan},
    ports::{Clock, PortError, Systemd, World},
    sets::{self, Sets},
    status::Status,
    strain::{Measured, Watch},
    time::{Mono, Now},
};

/// Longest sleep between two rounds: how late a timer without a deadline of its own may be.
const ROUND: Duration = Duration::from_secs(5);
/// The same where nothing waits and time alone changes nothing: well below the service manager's patience.
const QUIET_ROUND: Duration = Duration::from_secs(20);
/// How long a stopping controller waits for registrations and starts under way.
const LAST_WAIT: Duration = Duration::from_secs(15);

/// The controller.
#[allow(missing_debug_implementations)]
pub struct Daemon<'w, W: World> {
    world: &'w W,
    pub(super) parts: Parts<'w, W>,
    pub(super) health: Health<'w>,
    pub(super) effects: Running<'w, Outcome<W>>,
    plan: Plan,
    stopping_since: Option<Mono>,
    rounds: u64,
    commands: mpsc::Receiver<LoopCommand>,
}

/// What an effect came to, and whose it is.
pub(super) enum Outcome<W: World> {
    Intake(intake::Outcome),
    Sets(sets::Outcome),
    Classes(classes::Outcome),
    Fleet(fleet::Outcome<W>),
}

impl<'w, W: World> Daemon<'w, W> {
    /// A controller with nothing adopted yet. `host` is the host part of runner names.
    pub fn new(
        world: &'w W,
        settings: Settings,
        host: String,
        commands: mpsc::Receiver<LoopCommand>,
        status: watch::Sender<Status>,
    ) -> Self {
        let (settings, effects) = (Rc::new(settings), Running::none());
        let intake = Intake::new(world, settings.clone(), effects.of(Outcome::Intake));
        let sets = Sets::new(world, settings.clone(), effects.of(Outcome::Sets), host.clone(), &intake);
        let classes = Classes::new(world, settings.clone(), effects.of(Outcome::Classes));
        let fleet = Fleet::new(world, settings.clone(), effects.of(Outcome::Fleet), host.clone());
        Self {
            world,
            health: Health::new(host, status),
            parts: Parts { strain: Watch::new(settings.admission.clone()), settings, intake, sets, classes, fleet },
            effects,
            plan: Plan::default(),
            stopping_since: None,
            rounds: 0,
            commands,
        }
    }

    /// Tells `observer` of every change of the status: before, after.
    pub fn observed_by(mut self, observer: impl FnMut(&Status, &Status) + 'w) -> Self {
        self.health.observed_by(observer);
        self
    }

    /// Adopts what exists, then runs until [`LoopCommand::Shutdown`].
    pub async fn run(mut self) -> Result<(), PortError> {
        let world = self.world;
        self.parts.fleet.adopt(|| now(world, 0)).await?;
        self.route();
        loop {
            self.act();
            self.health.publish(&self.parts, &self.plan, self.is_stopping(), self.now());
            if self.may_return() {
                return Ok(());
            }
            let wake = tokio::time::sleep(self.until_next());
            tokio::select! {
                biased;
                command = self.commands.recv() => self.command(command),
                Some(outcome) = self.effects.next() => self.apply(outcome),
                units = world.systemd().changed() => self.parts.fleet.heard(units, now(world, self.rounds)),
                () = wake => {}
            }
            // Whatever else is ready belongs to the same round: one plan for a burst.
            while let Some(Some(outcome)) = self.effects.next().now_or_never() {
                self.apply(outcome);
            }
            self.route();
        }
    }

    fn command(&mut self, command: Option<LoopCommand>) {
        let (now, stopping) = (self.now(), self.is_stopping());
        // A closed channel means that whoever would stop us is gone.
        match command.unwrap_or(LoopCommand::Shutdown) {
            LoopCommand::LookAgain { repository } => self.parts.intake.look_again(&repository, now),
            LoopCommand::Operate(order) => operate(&mut self.parts, order, stopping, now),
            LoopCommand::Shutdown if !stopping => {
                info!("stopping: no new jobs; running containers go on");
                self.stopping_since = Some(now.mono);
                self.parts.sets.release();
            }
            LoopCommand::Shutdown => {}
        }
    }

    fn is_stopping(&self) -> bool {
        self.stopping_since.is_some()
    }

    /// Stopping, and nothing is being registered or started.
    fn may_return(&self) -> bool {
        self.stopping_since.is_some_and(|since| {
            let busy = self.parts.fleet.is_busy() || self.parts.sets.is_releasing();
            !busy || self.now().mono - since >= LAST_WAIT
        })
    }

    pub(super) fn now(&self) -> Now {
        now(self.world, self.rounds)
    }

    /// Decides and starts whatever follows from the state as it is.
    fn act(&mut self) {
        self.rounds += 1;
        let (now, stopping) = (self.now(), self.is_stopping());
        let Parts { intake, sets, fleet, .. } = &mut self.parts;
        fleet.list_if_due(now);
        fleet.watch_jobs(now);
        fleet.look_for_leftovers_if_due(now);
        if !stopping {
            intake.discover_if_due(now);
            sets.open_if_due(now);
            let mut doubtful = sets.doubtful(now);
            doubtful.extend(fleet.repositories_of_sets().chain(self.plan.not_admitted()));
            intake.look_after(&doubtful);
            intake.look_if_due(now);
            intake.ask_groups_if_due(now);
            fleet.sweep_if_due(intake, now);
        }
        fleet.note_served(now);
        self.route();
        let Parts { classes, fleet, .. } = &mut self.parts;
        classes.watch_versions(now);
        fleet.watch_idle(now);
        let Parts { intake, strain, .. } = &mut self.parts;
        strain.look_if_due(|| Measured { clock: intake.clock_offset(), ..self.world.measure() }, now.mono);
        strain.make_room(|| self.world.prunings(), || self.world.ask_for_room(), now.mono);
        self.plan = plan(&self.parts.snapshot(stopping, now));
        let Parts { intake, sets, fleet, .. } = &mut self.parts;
        let elsewhere = fleet.scopes().chain(sets.busy_scopes()).collect();
        intake.forgive_unneeded_places(&self.plan.waiting, &elsewhere, now);
        sets.promise(&self.plan.capacity, intake, now);
        for action in std::mem::take(&mut self.plan.actions) {
            match action {
                Action::Boot { class, scope, set, job } => drop(self.parts.boot(class, scope, set, job, self.now())),
                Action::Retire(name) => self.parts.fleet.retire(&name, now),
                Action::Replace { container, beside } => {
                    if self.parts.fleet.replace_deaf(&container, now)
                        && let Some((repository, job)) = beside
                    {
                        self.parts.intake.passed_over(&repository, job, now);
                    }
                }
            }
        }
        let Parts { intake, sets, fleet, .. } = &mut self.parts;
        fleet.drive_if_needed(intake, sets, now);
        self.route();
    }

    /// How long nothing can be due.
    pub(super) fn until_next(&self) -> Duration {
        let now = self.now();
        let Parts { intake, sets, fleet, .. } = &self.parts;
        let taken_in = [intake.next_due(), sets.next_due()].into_iter().filter(|_| !self.is_stopping());
        let quiet = !self.is_stopping() && self.parts.are_quiet(&self.plan);
        let longest = if quiet { QUIET_ROUND } else { ROUND };
        let due = taken_in.chain([fleet.next_due(now)]).flatten().map(|due| due - now.mono).min();
        // A millisecond at least, so that a due time just missed cannot spin.
        due.unwrap_or(longest).clamp(Duration::from_millis(1), longest)
    }

    /// Gives an outcome to the part it belongs to, and what that reports to the others.
    pub(super) fn apply(&mut self, outcome: Outcome<W>) {
        let now = self.now();
        let Parts { intake, sets, classes, fleet, .. } = &mut self.parts;
        match outcome {
            Outcome::Classes(outcome) => classes.apply(outcome, now),
            Outcome::Fleet(outcome) => fleet.apply(outcome, sets, now),
            Outcome::Sets(outcome) => {
                for event in sets.apply(outcome, intake, now) {
                    match event {
                        sets::Event::LookAgain { repository } => intake.look_again(&repository, now),
                        sets::Event::JobStarted { runner, repository, job } => {
                            fleet.job_started(&runner, repository, job, now);
                        }
                    }
                }
            }
            Outcome::Intake(outcome) => match intake.apply(outcome, now) {
                Some(intake::Event::Listed) => {
                    intake.forget_unused_places(&fleet.scopes_in_use());
                    sets.follow(intake);
                    fleet.forget_places(intake);
                }
                Some(intake::Event::Saw { repository, scope, began, jobs }) => {
                    fleet.match_runners(&repository, &scope, &jobs, now);
                    intake.schedule_look(&repository, began, sets.is_polled(&scope, intake), now);
                }
                None => {}
            },
        }
        self.route();
    }

    /// Gives what the fleet reports to the other parts.
    fn route(&mut self) {
        let now = self.now();
        let Parts { intake, sets, classes, fleet, .. } = &mut self.parts;
        for event in fleet.events() {
            match event {
                fleet::Event::Registered { scope, result } => intake.registered(&scope, result, now),
                fleet::Event::TookJob { scope } => intake.look_who_took(&scope, now),
                fleet::Event::CameUp { class } => classes.came_up(&class),
                fleet::Event::Recovered { class } => classes.release(&class),
                fleet::Event::Failed { class, last, at_forge } => classes.failed(&class, &last, at_forge, now),
                fleet::Event::RunnerVersion { class, version } => classes.runner_said(&class, &version),
                fleet::Event::RunnerRefused { class } => classes.runner_refused(&class, now),
                fleet::Event::RunnerRefusedInJob { class } => classes.runner_refused_in_job(&class, now),
                fleet::Event::JobServed { class } => classes.job_served(&class),
                fleet::Event::GaveJob { scope } => intake.gave_job(&scope, now),
                fleet::Event::EndedWithJob { key } => sets.ended_with_job(&key, now),
            }
        }
    }
}

fn now<W: World>(world: &W, round: u64) -> Now {
    Now { mono: world.clock().monotonic(), wall: world.clock().wall(), round }
}
