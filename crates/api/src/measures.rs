//! What is counted of every container that ends, since the controller started.

use controller::{event::What, status::Finished};
use prometheus_client::{
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};

type Labels = Vec<(&'static str, String)>;
type Times = Family<Labels, Histogram, fn() -> Histogram>;

/// Histograms and counters; a clone is the same.
#[derive(Debug, Clone)]
pub struct Measures {
    queue_to_start: Times,
    boot: Times,
    run: Times,
    teardown: Times,
    endings: Family<Labels, Counter>,
    cpu: Family<Labels, Counter<f64, std::sync::atomic::AtomicU64>>,
}

impl Default for Measures {
    fn default() -> Self {
        // Seconds: a job waits for a boot or for a whole other job; a boot is short; a job may run for hours.
        let waits: fn() -> Histogram = || {
            Histogram::new([0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 7200.0])
        };
        let boots: fn() -> Histogram =
            || Histogram::new([0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0, 20.0, 30.0, 60.0]);
        let runs: fn() -> Histogram = || {
            Histogram::new([
                1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0, 14_400.0, 28_800.0,
            ])
        };
        let teardowns: fn() -> Histogram =
            || Histogram::new([0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]);
        Self {
            queue_to_start: Family::new_with_constructor(waits),
            boot: Family::new_with_constructor(boots),
            run: Family::new_with_constructor(runs),
            teardown: Family::new_with_constructor(teardowns),
            endings: Family::default(),
            cpu: Family::default(),
        }
    }
}

impl Measures {
    /// Takes note of what happened.
    pub fn count(&self, what: &What) {
        if let What::Ended { ended } = what {
            self.ended(ended);
        }
    }

    fn ended(&self, ended: &Finished) {
        let class = vec![("class", ended.class.clone())];
        let observe = |times: &Times, milliseconds: Option<u64>| {
            if let Some(milliseconds) = milliseconds {
                times.get_or_create(&class).observe(milliseconds as f64 / 1000.0);
            }
        };
        observe(&self.queue_to_start, ended.timeline.waited_ms());
        observe(&self.boot, ended.timeline.boot_ms());
        observe(&self.run, ended.timeline.ran_ms());
        if let Some(microseconds) = ended.timeline.teardown_us {
            self.teardown.get_or_create(&class).observe(microseconds as f64 / 1e6);
        }
        if let Some(microseconds) = ended.cpu_us {
            self.cpu.get_or_create(&class).inc_by(microseconds as f64 / 1e6);
        }
        let cause = ended.cause.word().to_owned();
        self.endings.get_or_create(&vec![("class", ended.class.clone()), ("cause", cause)]).inc();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let seconds = || Unit::Seconds;
        registry.register_with_unit(
            "queue_to_start",
            "From a job being queued at the forge to its start here",
            seconds(),
            self.queue_to_start.clone(),
        );
        let boot = "From the start of a container's unit to its runner listening";
        registry.register_with_unit("boot", boot, seconds(), self.boot.clone());
        registry.register_with_unit("run", "From a job's start to its end", seconds(), self.run.clone());
        let teardown = "Removal of a container's traces after its end";
        registry.register_with_unit("teardown", teardown, seconds(), self.teardown.clone());
        registry.register("endings", "Containers that ended, by class and cause", self.endings.clone());
        let cpu = "Processor time of containers that ended";
        registry.register_with_unit("container_cpu", cpu, seconds(), self.cpu.clone());
    }
}
