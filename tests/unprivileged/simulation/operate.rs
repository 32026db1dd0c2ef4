//! What an operator asks of the controller, and what becomes of it.

use std::time::Duration;

use controller::{
    cause::Cause,
    daemon::Daemon,
    operation::{Denied, Done, LoopCommand, Operation, OperatorOrder},
    status::{BreakerState, Status, WaitingFor},
};
use github_sim::{
    Call,
    world::{Fault, JobSpec, RunnerFault, RunnerWhat, What},
};
use settings::Intake;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{sleep, timeout},
};

use crate::{HOST_NAME, REPOS, Simulation, ports::SimWorld, simulate, story};

const SECOND: Duration = Duration::from_secs(1);

/// One life of a controller, killed when `story` is told.
async fn life<T>(simulation: &Simulation, story: impl AsyncFnOnce(Operator) -> T) -> T {
    let mut settings = simulation.settings.clone();
    for class in settings.classes.values_mut() {
        class.intake = Intake::Polling;
    }
    let world = SimWorld::new(&simulation.hub, &simulation.host, &simulation.clock, &settings, 1);
    let (commands, inbox) = mpsc::channel(8);
    let (outbox, status) = watch::channel(Status::default());
    let daemon = Daemon::new(&world, settings, HOST_NAME.into(), inbox, outbox);
    tokio::select! {
        biased;
        result = daemon.run() => panic!("the controller ended by itself: {result:?}"),
        told = async {
            sleep(15 * SECOND).await;
            story(Operator { commands, status }).await
        } => told,
    }
}

struct Operator {
    commands: mpsc::Sender<LoopCommand>,
    status: watch::Receiver<Status>,
}

impl Operator {
    async fn ask(&self, operation: Operation) -> Result<Done, Denied> {
        let (answer, result) = oneshot::channel();
        self.commands
            .send(LoopCommand::Operate(OperatorOrder { operation, by: "uid 0".into(), answer }))
            .await
            .unwrap();
        result.await.unwrap()
    }

    fn status(&self) -> Status {
        self.status.borrow().clone()
    }
}

fn queue(simulation: &Simulation, labels: &[&str]) {
    let now = simulation.clock.now();
    simulation.hub.borrow_mut().queue_job(now, REPOS[0], JobSpec::new("build", labels, &["true"])).unwrap();
}

#[test]
fn a_drained_host_boots_nothing_says_so_and_stays_drained_over_a_crash() {
    simulate(async {
        let simulation = Simulation::new(1);
        life(&simulation, async |operator| {
            operator.ask(Operation::Drain { class: None }).await.unwrap();
            queue(&simulation, &["self-hosted"]);
            sleep(60 * SECOND).await;
            let status = operator.status();
            assert_eq!(simulation.host.borrow().started, 0);
            assert_eq!(status.queue[0].waiting, WaitingFor::Drained);
            assert_eq!(status.queue[0].reason, "the host is drained: resume it to run the job");
            assert!(!status.intake && status.drained);
        })
        .await;
        life(&simulation, async |operator| {
            sleep(60 * SECOND).await;
            assert_eq!(simulation.host.borrow().started, 0, "a new controller forgot it");
            operator.ask(Operation::Resume { class: None }).await.unwrap();
            sleep(10 * SECOND).await;
            assert_eq!(simulation.host.borrow().started, 1);
            assert!(operator.status().intake);
        })
        .await;
    });
}

#[test]
fn what_is_mended_is_tried_at_once_when_an_operator_resumes_it() {
    for (class, fault) in [(None, Some(Call::Mint)), (Some("small".to_owned()), None)] {
        simulate(async {
            let simulation = Simulation::new(1);
            life(&simulation, async |operator| {
                match fault {
                    Some(call) => simulation.hub.borrow_mut().inject(Fault::times(u32::MAX, call, What::NoRunners)),
                    None => {
                        let gives_up = RunnerFault { count: 99, ..RunnerFault::once(RunnerWhat::SessionInvalid) };
                        simulation.hub.borrow_mut().inject_runner(gives_up);
                    }
                }
                queue(&simulation, &["self-hosted"]);
                sleep(240 * SECOND).await;
                let status = operator.status();
                assert_eq!(status.breakers.len(), 1, "{:?}", status.breakers);
                let breaker = &status.breakers[0];
                assert!(breaker.state == BreakerState::Open && breaker.next_try_ms > Some(status.updated_ms));
                assert_eq!(status.queue[0].waiting, WaitingFor::BackOff);
                assert!(status.queue[0].reason.contains("it is tried again at "), "{}", status.queue[0].reason);
                simulation.hub.borrow_mut().clear_faults();
                operator.ask(Operation::Resume { class: class.clone() }).await.unwrap();
                sleep(20 * SECOND).await;
                let status = operator.status();
                assert!(status.breakers.is_empty() && status.queue.is_empty(), "{class:?}: {:?}", status.breakers);
            })
            .await;
        });
    }
}

#[test]
fn a_drained_class_leaves_the_others_alone() {
    simulate(async {
        let simulation = Simulation::new(1);
        life(&simulation, async |operator| {
            operator.ask(Operation::Drain { class: Some("big".into()) }).await.unwrap();
            queue(&simulation, &["big"]);
            queue(&simulation, &["self-hosted"]);
            sleep(120 * SECOND).await;
            let status = operator.status();
            assert_eq!(simulation.host.borrow().started, 1);
            assert_eq!(status.queue.len(), 1);
            assert_eq!(status.queue[0].reason, "class big is drained: resume it to run the job");
            let refused = operator.ask(Operation::Drain { class: Some("huge".into()) }).await.unwrap_err();
            assert!(matches!(&refused, Denied::NotFound(why) if why.contains("big, small")), "{refused}");
        })
        .await;
    });
}

#[test]
fn draining_sends_idle_containers_away_at_once() {
    simulate(async {
        let mut simulation = Simulation::new(1);
        simulation.settings.idle_grace = 3600 * SECOND;
        life(&simulation, async |operator| {
            let provision = Operation::Provision { repo: REPOS[0].into(), class: Some("small".into()) };
            operator.ask(provision).await.unwrap();
            sleep(60 * SECOND).await;
            assert_eq!(operator.status().active_containers.len(), 1);
            operator.ask(Operation::Drain { class: None }).await.unwrap();
            sleep(60 * SECOND).await;
            assert_eq!(operator.status().active_containers, []);
        })
        .await;
    });
}

#[test]
fn a_provisioned_container_takes_the_next_job_and_is_bound_by_the_same_limits() {
    simulate(async {
        let simulation = Simulation::new(1);
        life(&simulation, async |operator| {
            let provision = |class: &str| Operation::Provision { repo: REPOS[0].into(), class: Some(class.into()) };
            let done = operator.ask(provision("big")).await.unwrap();
            let name = done.container.unwrap();
            sleep(20 * SECOND).await;
            assert_eq!(operator.status().active_containers[0].name, name);
            queue(&simulation, &["big"]);
            sleep(15 * SECOND).await;
            assert_eq!(simulation.host.borrow().started, 1, "the job found the container that was there");
            operator.ask(provision("big")).await.unwrap();
            let full = operator.ask(provision("big")).await.unwrap_err();
            assert!(matches!(&full, Denied::Conflict(why) if why.contains("full")), "{full}");
            let nobody = Operation::Provision { repo: "some/body".into(), class: None };
            assert!(matches!(operator.ask(nobody).await, Err(Denied::NotFound(_))));
        })
        .await;
    });
}

#[test]
fn a_container_stopped_by_the_operator_is_told_as_such_and_is_in_the_history() {
    simulate(async {
        let simulation = Simulation::new(1);
        life(&simulation, async |operator| {
            let provision = Operation::Provision { repo: REPOS[0].into(), class: None };
            let name = operator.ask(provision).await.unwrap().container.unwrap();
            sleep(20 * SECOND).await;
            operator.ask(Operation::Stop { container: name.clone() }).await.unwrap();
            sleep(120 * SECOND).await;
            let ended = operator.status().finished[0].clone();
            assert_eq!((ended.name.as_str(), ended.cause), (name.as_str(), Cause::StoppedByOperator));
            assert_eq!(ended.cpu_us, Some(1_500_000));
            assert_eq!(simulation.host.borrow().history.of(&ended.runner_name), Some(&*ended));
            assert!(simulation.host.borrow().records.is_empty());
            let again = operator.ask(Operation::Stop { container: name }).await;
            assert!(matches!(again, Err(Denied::NotFound(_))), "{again:?}");
        })
        .await;
    });
}

#[test]
fn a_controller_killed_at_any_moment_writes_an_ended_container_down_exactly_once() {
    simulate(async {
        // Around the end of a container that lives for half a minute and settles for about a minute.
        for milliseconds in (1_000..100_000).step_by(997) {
            let simulation = Simulation::new(2);
            queue(&simulation, &["self-hosted"]);
            life(&simulation, async |_| sleep(Duration::from_millis(milliseconds)).await).await;
            life(&simulation, async |_| sleep(900 * SECOND).await).await;
            let host = simulation.host.borrow();
            assert!(host.records.is_empty(), "killed after {milliseconds} ms: {:?}", host.records);
            assert_eq!(host.history.count(), 1, "killed after {milliseconds} ms");
        }
    });
}

#[test]
fn a_controller_killed_between_any_two_writes_leaves_nothing_that_the_next_does_not_remove() {
    simulate(async {
        for writes in 0..60 {
            let simulation = Simulation::new(2);
            let died = {
                let mut host = simulation.host.borrow_mut();
                host.fuse = Some(writes);
                host.died.clone()
            };
            queue(&simulation, &["self-hosted", "big"]);
            let killed =
                story::life(&simulation, async |_| timeout(1800 * SECOND, died.notified()).await.is_ok()).await;
            {
                let mut host = simulation.host.borrow_mut();
                (host.fuse, host.dead) = (None, false);
            }
            if !killed {
                assert!(writes > 4, "a life has more than {writes} writes");
                return;
            }
            story::life(&simulation, async |_| sleep(1800 * SECOND).await).await;
            let host = simulation.host.borrow();
            assert!(host.records.is_empty(), "killed at write {writes}: {:?}", host.records);
            assert!(host.handed.is_empty(), "killed at write {writes}: {:?}", host.handed.keys());
            assert!(host.history.count() >= 1, "killed at write {writes}");
        }
        panic!("a life of a container has no end");
    });
}

#[test]
fn a_broken_history_stops_no_job_and_shows_in_the_health() {
    simulate(async {
        let simulation = Simulation::new(1);
        simulation.host.borrow_mut().history.broken = true;
        life(&simulation, async |operator| {
            queue(&simulation, &["self-hosted"]);
            sleep(900 * SECOND).await;
            let status = operator.status();
            assert_eq!(status.finished.len(), 1);
            assert!(status.problems.iter().any(|problem| problem.contains("history")), "{:?}", status.problems);
            assert!(simulation.host.borrow().records.is_empty(), "a record is kept for ever");
            simulation.host.borrow_mut().history.broken = false;
            queue(&simulation, &["self-hosted"]);
            sleep(900 * SECOND).await;
            assert_eq!(operator.status().problems, [""; 0]);
            assert_eq!(simulation.host.borrow().history.count(), 1);
        })
        .await;
    });
}
