//! `GET /metrics`: the status as numbers, in the OpenMetrics text format to who asks for it, else in Prometheus' older one.

use std::{fmt::Write as _, path::Path, sync::atomic::AtomicU64};

use controller::{
    incident::Incident,
    phase::Phase,
    status::{BreakerKind, BreakerState, ClassStatus, CredentialStatus, PausedBy, Status, TargetStatus},
    strain::Shortage,
};
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::{Sources, health};
use controller::status::Counts;

/// A form of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus' own, which also the checker of `promtool check metrics` reads.
    Prometheus,
}

impl Format {
    /// What a scraper accepts that says so.
    pub fn accepted(accept: Option<&str>) -> Self {
        match accept {
            Some(accept) if accept.contains("application/openmetrics-text") => Self::OpenMetrics,
            _ => Self::Prometheus,
        }
    }

    pub fn media_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

const DAY_SECONDS: i64 = 86_400;
/// What every name begins with.
const PREFIX: &str = "gha_runner";

type Labels = Vec<(&'static str, String)>;
type Gauges = Family<Labels, Gauge>;

/// The text, as of `now_ms`: made anew from the status each time it is asked for, besides what is counted.
pub(super) fn render(sources: &Sources, format: Format, now_ms: u64) -> Result<String, std::fmt::Error> {
    let status = sources.status();
    let mut registry = Registry::with_prefix(PREFIX);
    let healthy = Gauge::<i64>::default();
    healthy.set(health(&status, now_ms).reasons.is_empty().into());
    registry.register("healthy", "1 while /health says ok", healthy);
    let status = status.at(now_ms);
    gauges(&mut registry, "build_info", "The running program", [(vec![("version", status.version.clone())], 1)]);
    sources.measures.register(&mut registry);
    disk(&mut registry, &sources.state_dir);
    strains(&mut registry, &status);
    incidents(&mut registry, &status);
    let pruned = Counter::<u64>::default();
    pruned.inc_by(status.pruned_bytes);
    registry.register(
        "pruned_bytes",
        "Bytes of image stores and caches that were removed because a disk was short",
        pruned,
    );
    containers(&mut registry, &status);
    classes(&mut registry, &status);
    targets(&mut registry, &status);
    credentials(&mut registry, &status);
    breakers(&mut registry, &status);
    if let Some(counts) = status.webhook {
        deliveries(&mut registry, counts);
    }
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(match format {
        Format::OpenMetrics => text,
        Format::Prometheus => older(&text),
    })
}

/// The same in Prometheus' own format: there the name of a counter's family ends in `_total` as its samples' names do, and
/// nothing tells units or the end.
fn older(text: &str) -> String {
    let mut older = String::with_capacity(text.len());
    let mut help = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let total = if kind == "counter" { "_total" } else { "" };
            if let Some((_, help)) = help.take() {
                let _ = writeln!(older, "# HELP {name}{total} {help}");
            }
            let _ = writeln!(older, "# TYPE {name}{total} {kind}");
        } else if !line.starts_with('#') {
            older.push_str(line);
            older.push('\n');
        }
    }
    older
}

/// One family of gauges with these values.
fn gauges(registry: &mut Registry, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, i64)>) {
    let family = Gauges::default();
    for (labels, value) in values {
        family.get_or_create(&labels).set(value);
    }
    registry.register(name, help, family);
}

/// What the host is short of, so that it takes fewer containers, or none.
fn strains(registry: &mut Registry, status: &Status) {
    let values = Shortage::ALL.iter().map(|of| {
        let short = status.strains.iter().any(|strain| strain.of == *of);
        (vec![("of", of.to_string())], i64::from(short))
    });
    gauges(
        registry,
        "host_short",
        "1 while the host takes fewer containers, or none, because it is short of this",
        values,
    );
}

fn incidents(registry: &mut Registry, status: &Status) {
    let values = Incident::ALL.iter().map(|incident| {
        let ongoing = status.incidents.iter().filter(|ongoing| ongoing.incident == *incident).count();
        (vec![("incident", incident.to_string())], i64::try_from(ongoing).unwrap_or(i64::MAX))
    });
    gauges(registry, "incidents", "Incidents that go on, by kind (docs/incidents.md)", values);
}

/// The file system of the controller's state; left out where it cannot be asked.
fn disk(registry: &mut Registry, state_dir: &Path) {
    let Ok(found) = rustix::fs::statvfs(state_dir) else { return };
    let bytes = |blocks: u64| i64::try_from(blocks.saturating_mul(found.f_frsize)).unwrap_or(i64::MAX);
    let help = "Bytes of the file system with the controller's state that are free to it";
    gauges(registry, "state_free_bytes", help, [(vec![], bytes(found.f_bavail))]);
    gauges(registry, "state_size_bytes", "Bytes of that file system", [(vec![], bytes(found.f_blocks))]);
}

fn containers(registry: &mut Registry, status: &Status) {
    // Also those that are zero: a series that comes and goes cannot be compared with its past.
    let phases = Phase::ALL.iter().copied().filter(|phase| !phase.is_end());
    let count = |class: &str, phase| {
        let of =
            status.active_containers.iter().filter(|container| container.class == class && container.phase == phase);
        i64::try_from(of.count()).unwrap_or(i64::MAX)
    };
    let values = phases.flat_map(|phase| {
        let of =
            move |class: &str| (vec![("class", class.to_owned()), ("phase", phase.to_string())], count(class, phase));
        status.classes.iter().map(move |class| of(&class.name))
    });
    gauges(registry, "containers", "Containers now, by class and phase", values);
    let queued = Gauge::<i64>::default();
    queued.set(i64::try_from(status.queue.len()).unwrap_or(i64::MAX));
    registry.register("queued_jobs", "Queued jobs that were seen", queued);
}

fn classes(registry: &mut Registry, status: &Status) {
    let by_class = |value: &dyn Fn(&ClassStatus) -> Option<i64>| {
        let values = status.classes.iter().filter_map(move |class| {
            let version = class.runner_version.clone().unwrap_or_default();
            Some((vec![("class", class.name.clone()), ("version", version)], value(class)?))
        });
        values.collect::<Vec<_>>()
    };
    gauges(
        registry,
        "runner_version_left_seconds",
        "Time until the forge refuses the class's runner version, in whole days; absent while no end is announced",
        by_class(&|class| class.runner_deprecated_in_days.map(|days| days * DAY_SECONDS)),
    );
    gauges(
        registry,
        "class_drained",
        "1 while the class or the host is drained",
        by_class(&|class| Some((class.drained || status.drained).into())),
    );
    gauges(
        registry,
        "class_outdated",
        "1 while the forge refuses the class's runner and nothing of the class is started",
        by_class(&|class| Some(class.outdated.into())),
    );
}

fn targets(registry: &mut Registry, status: &Status) {
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let by_target = |value: &dyn Fn(&TargetStatus) -> Option<u64>| {
        let values = status
            .targets
            .iter()
            .filter_map(|target| Some((vec![("target", target.repo.clone())], number(value(target)?))));
        values.collect::<Vec<_>>()
    };
    gauges(
        registry,
        "poll_age_seconds",
        "Seconds since the target's last successful poll; absent before the first",
        by_target(&|target| target.last_poll_age_seconds),
    );
}

fn credentials(registry: &mut Registry, status: &Status) {
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let by_credential = |value: &dyn Fn(&CredentialStatus) -> Option<u64>| {
        let values = status
            .credentials
            .iter()
            .filter_map(|credential| Some((vec![("credential", credential.name.clone())], number(value(credential)?))));
        values.collect::<Vec<_>>()
    };
    gauges(
        registry,
        "rate_limit_remaining",
        "Calls left to the credential in the forge's current window; of an App's installations, the fewest",
        by_credential(&|credential| Some(credential.rate_limit?.remaining)),
    );
    gauges(
        registry,
        "rate_limit",
        "Calls the credential has in a window",
        by_credential(&|credential| Some(credential.rate_limit?.limit)),
    );
    let left = status.credentials.iter().filter_map(|credential| {
        let days = credential.ends_in_days?;
        Some((vec![("credential", credential.name.clone())], days * DAY_SECONDS))
    });
    let help =
        "Time until the forge takes the credential no more, in whole days; absent where it never ends or is not told";
    gauges(registry, "credential_left_seconds", help, left);
    gauges(
        registry,
        "credential_refused",
        "1 while the forge refuses the credential",
        by_credential(&|credential| Some(credential.refused.is_some().into())),
    );
    let paused = status.credentials.iter().flat_map(|credential| {
        let by = [("forge", PausedBy::Forge), ("share", PausedBy::Share), ("breaker", PausedBy::Breaker)];
        by.map(|(word, by)| {
            let labels = vec![("credential", credential.name.clone()), ("by", word.to_owned())];
            (labels, i64::from(credential.paused_by == Some(by)))
        })
    });
    let help = "1 while nothing is asked with the credential: the forge's limit is reached, the controller's share is, or the \
                forge refuses it";
    gauges(registry, "credential_paused", help, paused);
    let calls = Family::<Labels, Counter>::default();
    let clocks = Family::<Labels, Gauge<f64, AtomicU64>>::default();
    for CredentialStatus { name, calls: made, clock_offset_ms, .. } in &status.credentials {
        for (outcome, count) in made.by_outcome() {
            let labels = vec![("credential", name.clone()), ("outcome", outcome.to_owned())];
            calls.get_or_create(&labels).inc_by(count);
        }
        if let Some(milliseconds) = clock_offset_ms {
            clocks.get_or_create(&vec![("credential", name.clone())]).set(*milliseconds as f64 / 1000.0);
        }
    }
    let help = "Calls of the forge by what came of them, besides those that renew an App's tokens";
    registry.register("forge_calls", help, calls);
    let help = "The forge's clock less this host's, to about half a second; of several forges, the one furthest off";
    registry.register("clock_offset_seconds", help, clocks);
}

/// Also those that are closed: of classes, targets and credentials.
fn breakers(registry: &mut Registry, status: &Status) {
    let classes = status.classes.iter().map(|class| (BreakerKind::Class, &class.name));
    let targets = status.targets.iter().map(|target| (BreakerKind::Target, &target.repo));
    let credentials = status.credentials.iter().map(|credential| (BreakerKind::Credential, &credential.name));
    let values = classes.chain(targets).chain(credentials).map(|(kind, name)| {
        // A target's is that of any of the places that its runners are registered with.
        let is_place = |of: &str| status.scopes.iter().any(|scope| scope.name == of && scope.target == *name);
        let is_open = status.breakers.iter().any(|breaker| {
            let is_it = breaker.name == *name || kind == BreakerKind::Target && is_place(&breaker.name);
            breaker.kind == kind && breaker.state != BreakerState::Closed && is_it
        });
        let word: &'static str = kind.into();
        (vec![("kind", word.to_owned()), ("name", name.clone())], i64::from(is_open))
    });
    let help = "1 while a class, a target or a credential has failed so often that it is left alone, or tried once";
    gauges(registry, "breaker_open", help, values);
}

fn deliveries(registry: &mut Registry, counts: Counts) {
    let family = Family::<Labels, Counter>::default();
    for (outcome, count) in [
        ("accepted", counts.accepted),
        ("duplicate", counts.duplicate),
        ("ignored", counts.ignored),
        ("refused", counts.refused),
        ("dropped", counts.dropped),
    ] {
        family.get_or_create(&vec![("outcome", outcome.to_owned())]).inc_by(count);
    }
    registry.register("webhook_deliveries", "Webhook deliveries by what came of them", family);
}
