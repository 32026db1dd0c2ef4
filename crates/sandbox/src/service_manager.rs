//! The host's service manager, asked by root over the system bus (org.freedesktop.systemd1(5)).
//!
//! A bus that is being restarted, and systemd on its way to the new one, are waited for: nobody's order gets lost by
//! that.

use std::time::Duration;

use anyhow::Context;
use contract::{ContainerName, order::Verb, unit_name};
use tokio::time::{Instant, sleep, timeout};
use zbus::{Connection, OwnedObjectPath, proxy, proxy::CacheProperties};

/// Longest wait for systemd's answer to one question of ours, the bus's restart included.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Pause before a question is asked again.
const PAUSE: Duration = Duration::from_millis(50);
/// What systemd's own refusals begin with; what is no such thing is the bus's trouble, and passes.
const REFUSALS: [&str; 2] = ["org.freedesktop.systemd1.", "org.freedesktop.DBus.Error.AccessDenied"];

/// One row of `ListUnitsByPatterns`: name, description, load state, active state, sub state, followed unit, path, job
/// id, job type, job path.
type Row = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

#[proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn get_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn list_units_by_patterns(&self, states: &[&str], patterns: &[&str]) -> zbus::Result<Vec<Row>>;
    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> zbus::Result<String>;
}

#[proxy(interface = "org.freedesktop.systemd1.Unit", default_service = "org.freedesktop.systemd1")]
trait Unit {
    /// When it became active, in microseconds; 0 = it never did.
    #[zbus(property(emits_changed_signal = "false"))]
    fn active_enter_timestamp_monotonic(&self) -> zbus::Result<u64>;
    /// The job that is queued for it; id 0 = none.
    #[zbus(property(emits_changed_signal = "false"))]
    fn job(&self) -> zbus::Result<(u32, OwnedObjectPath)>;
}

#[proxy(interface = "org.freedesktop.systemd1.Job", default_service = "org.freedesktop.systemd1")]
trait Job {
    #[zbus(property(emits_changed_signal = "false"))]
    fn job_type(&self) -> zbus::Result<String>;
}

/// What systemd knows of a unit that is about to be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnitLife {
    /// It was active once: its main process had said READY.
    pub was_active: bool,
    /// Somebody asked systemd to stop it.
    pub asked_to_stop: bool,
}

/// A connection to the service manager.
#[derive(Debug, Clone)]
pub struct ServiceManager {
    connection: Connection,
    manager: ManagerProxy<'static>,
}

impl ServiceManager {
    async fn connect() -> zbus::Result<Self> {
        let connection = Connection::system().await?;
        let manager = ManagerProxy::new(&connection).await?;
        Ok(Self { connection, manager })
    }

    /// Has systemd queue the start or the stop of a container's unit; the mode is fixed. A unit that is not loaded is
    /// stopped already.
    pub async fn order(&self, verb: Verb, class: &str, name: &ContainerName) -> zbus::Result<()> {
        let unit = unit_name::container_unit(class, name);
        let queued = match verb {
            // Fails where it would have to replace a job that is queued; replaces or cancels nobody else's in any case.
            Verb::Start => self.manager.start_unit(&unit, "fail").await,
            // Replaces a start of the same unit that is still queued.
            Verb::Stop => self.manager.stop_unit(&unit, "replace").await,
        };
        match queued {
            Err(zbus::Error::MethodError(error, _, _))
                if verb == Verb::Stop && error.as_str() == "org.freedesktop.systemd1.NoSuchUnit" =>
            {
                Ok(())
            }
            other => other.map(drop),
        }
    }

    /// systemd's major version; `None` if unknown.
    pub async fn version(&self) -> zbus::Result<Option<u32>> {
        Ok(major(&self.manager.version().await?))
    }

    /// What is known of a container's unit.
    pub async fn life(&self, class: &str, name: &ContainerName) -> zbus::Result<UnitLife> {
        let path = self.manager.get_unit(&unit_name::container_unit(class, name)).await?;
        let unit =
            UnitProxy::builder(&self.connection).path(path).cache_properties(CacheProperties::No).build().await?;
        let was_active = unit.active_enter_timestamp_monotonic().await? != 0;
        let asked_to_stop = match unit.job().await? {
            (0, _) => false,
            (_, path) => {
                let job = JobProxy::builder(&self.connection)
                    .path(path)
                    .cache_properties(CacheProperties::No)
                    .build()
                    .await?;
                matches!(job.job_type().await?.as_str(), "stop" | "restart" | "try-restart")
            }
        };
        Ok(UnitLife { was_active, asked_to_stop })
    }

    /// Whether there is a unit of any class for the container that is not finished.
    pub async fn is_live(&self, name: &ContainerName) -> zbus::Result<bool> {
        let units = self.manager.list_units_by_patterns(&[], &[&unit_name::container_unit("*", name)]).await?;
        Ok(units.iter().any(|unit| !matches!(unit.3.as_str(), "inactive" | "failed")))
    }
}

/// Asks, by the connection that is `kept` from the last question or by a new one, again and again for [`PATIENCE`] while
/// it is the bus that fails. To ask twice must do no harm.
pub async fn ask<T>(
    kept: &tokio::sync::Mutex<Option<ServiceManager>>,
    question: impl AsyncFn(&ServiceManager) -> zbus::Result<T>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let asked = timeout(deadline.saturating_duration_since(Instant::now()), async {
            let manager = match kept.lock().await.clone() {
                Some(manager) => manager,
                None => ServiceManager::connect().await?,
            };
            let answer = question(&manager).await?;
            *kept.lock().await = Some(manager);
            zbus::Result::Ok(answer)
        });
        match asked.await.context("systemd does not answer")? {
            Ok(answer) => return Ok(answer),
            Err(error) if is_refusal(&error) || Instant::now() + PAUSE >= deadline => {
                return Err(error).context("systemd refuses");
            }
            Err(_) => {
                *kept.lock().await = None;
                sleep(PAUSE).await;
            }
        }
    }
}

/// Of `257`, `257.13-1~deb13u1`, `v262~rc1`.
fn major(version: &str) -> Option<u32> {
    version.trim_start_matches('v').split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
}

fn is_refusal(error: &zbus::Error) -> bool {
    matches!(error, zbus::Error::MethodError(name, _, _) if REFUSALS.iter().any(|refusal| name.starts_with(refusal)))
}

/// The same from where there is no runtime.
pub fn ask_once<T>(question: impl AsyncFn(&ServiceManager) -> zbus::Result<T>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(ask(&tokio::sync::Mutex::default(), question))
}

#[cfg(test)]
mod tests {
    use super::major;

    #[test]
    fn a_version_is_read_however_a_distribution_writes_it() {
        for (version, number) in [
            ("257", Some(257)),
            ("257.13-1~deb13u1", Some(257)),
            ("252 (252.39-1~deb12u2)", Some(252)),
            ("v262~rc1", Some(262)),
            ("", None),
            ("main", None),
        ] {
            assert_eq!(major(version), number, "{version:?}");
        }
    }
}
