//! systemd: orders by the launcher, listing and signals of container units over D-Bus (org.freedesktop.systemd1(5)).
//!
//! machined is not asked: every machine belongs to its unit (`--keep-unit`), so systemd's word covers both. A message
//! bus that is restarted takes the connection with it, and systemd needs a moment to be on the new one: the connection
//! is made anew, and only an outage that lasts is an error.

use std::{collections::HashMap, num::NonZero, sync::Arc, time::Duration};

use contract::{
    ContainerName,
    order::{Order, Verb},
    unit_name,
};
use futures_util::StreamExt;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep, timeout},
};
use tracing::{info, warn};
use zbus::{
    Connection, MatchRule, Message, MessageStream, ObjectPath, OwnedObjectPath, OwnedVariant, Variant, message::Type,
    proxy,
};

use super::{
    launcher,
    ports::{PortError, Systemd, Unit, UnitState},
};

/// Longest wait for systemd's answer to a request.
const TIMEOUT: Duration = Duration::from_secs(20);
/// How long a bus, or systemd on it, may be away before that is an error.
const OUTAGE: Duration = Duration::from_secs(5);
/// Pause between tries to connect.
const RECONNECT: Duration = Duration::from_millis(100);
/// Signals kept while the loop is busy; when more come, the oldest are lost and the listing makes up for them.
const QUEUE: Option<NonZero<usize>> = NonZero::new(4096);
const UNIT_INTERFACE: &str = "org.freedesktop.systemd1.Unit";
const UNIT_PATH: &str = "/org/freedesktop/systemd1/unit/";

/// One row of `ListUnitsByPatterns`: name, description, load, active and sub state, followed unit, object path,
/// job id (0 = none), job type, job path.
type Row = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

#[proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    fn list_units_by_patterns(&self, states: &[&str], patterns: &[&str]) -> zbus::Result<Vec<Row>>;
    fn subscribe(&self) -> zbus::Result<()>;
}

/// One connection to the bus, for as long as it lasts.
#[derive(Debug)]
struct Bus {
    manager: ManagerProxy<'static>,
    /// Property changes of units, and units being unloaded.
    signals: Mutex<MessageStream>,
    removals: Mutex<MessageStream>,
}

impl Bus {
    /// Connects to the system bus and asks for signals.
    async fn connect() -> zbus::Result<Self> {
        let connection = Connection::system().await?;
        let manager = ManagerProxy::new(&connection).await?;
        let rule = |interface: &'static str, member: &'static str| {
            MatchRule::builder()
                .msg_type(Type::Signal)
                .sender("org.freedesktop.systemd1")
                .interface(interface)
                .member(member)
        };
        let changes = rule("org.freedesktop.DBus.Properties", "PropertiesChanged")
            .path_namespace("/org/freedesktop/systemd1/unit")
            .arg(0, UNIT_INTERFACE)
            .build()?;
        let removals = rule("org.freedesktop.systemd1.Manager", "UnitRemoved").build()?;
        let signals = MessageStream::for_match_rule(changes, &connection, QUEUE).await?;
        let removals = MessageStream::for_match_rule(removals, &connection, QUEUE).await?;
        // systemd forgets who subscribed when the bus goes.
        manager.subscribe().await?;
        Ok(Self { manager, signals: signals.into(), removals: removals.into() })
    }

    /// The next change of a container unit; `None` = the connection is gone.
    async fn changed(&self) -> Option<Vec<Unit>> {
        let mut signals = self.signals.lock().await;
        let mut removals = self.removals.lock().await;
        loop {
            tokio::select! {
                message = signals.next() => if let Some(heard) = heard(&message?.ok()?) { return Some(heard) },
                message = removals.next() => if removed(&message?.ok()?) { return Some(Vec::new()) },
            }
        }
    }
}

/// The real systemd.
#[derive(Debug)]
pub struct SystemdBus {
    bus: Mutex<Option<Arc<Bus>>>,
}

impl SystemdBus {
    /// Connects to the system bus and asks for signals.
    pub async fn connect() -> Result<Self, PortError> {
        let systemd = Self { bus: Mutex::default() };
        systemd.bus().await?;
        Ok(systemd)
    }

    /// The connection there is, or a new one; an error once there was none for [`OUTAGE`].
    async fn bus(&self) -> Result<Arc<Bus>, PortError> {
        let mut bus = self.bus.lock().await;
        if let Some(bus) = &*bus {
            return Ok(bus.clone());
        }
        let begun = Instant::now();
        loop {
            let error = match timeout(TIMEOUT, Bus::connect()).await {
                Ok(Ok(new)) => return Ok(bus.insert(Arc::new(new)).clone()),
                Ok(Err(error)) => PortError(error.to_string()),
                Err(_) => no_answer(),
            };
            if begun.elapsed() >= OUTAGE {
                return Err(error);
            }
            sleep(RECONNECT).await;
        }
    }

    /// Forgets a connection that failed, unless somebody was faster.
    async fn lose(&self, lost: &Arc<Bus>) {
        let mut bus = self.bus.lock().await;
        if bus.as_ref().is_some_and(|bus| Arc::ptr_eq(bus, lost)) {
            *bus = None;
        }
    }

    async fn order(&self, verb: Verb, class: &str, name: &ContainerName) -> Result<(), PortError> {
        launcher::send(&Order { verb, class: class.to_owned(), name: name.clone() }).await
    }

    async fn rows(&self) -> Result<Vec<Row>, PortError> {
        let bus = self.bus().await?;
        let error =
            match timeout(TIMEOUT, bus.manager.list_units_by_patterns(&[], &[unit_name::CONTAINER_PATTERN])).await {
                Ok(Ok(rows)) => return Ok(rows),
                Ok(Err(error)) => PortError(error.to_string()),
                Err(_) => no_answer(),
            };
        self.lose(&bus).await;
        Err(error)
    }
}

impl Systemd for SystemdBus {
    async fn start(&self, class: &str, name: &ContainerName) -> Result<(), PortError> {
        self.order(Verb::Start, class, name).await
    }

    async fn stop(&self, class: &str, name: &ContainerName) -> Result<(), PortError> {
        self.order(Verb::Stop, class, name).await
    }

    async fn list(&self) -> Result<Vec<Unit>, PortError> {
        let rows = match self.rows().await {
            Ok(rows) => rows,
            // Once more, by a new connection: the old one may have been dead for long and nobody noticed.
            Err(_) => self.rows().await?,
        };
        Ok(rows
            .into_iter()
            .filter_map(|row| {
                let (class, name) = unit_name::parse_container_unit(&row.0)?;
                // A unit with a job queued is on its way, whatever its state says yet.
                let state = match state(&row.3, &row.4, row.7 != 0)? {
                    UnitState::Inactive | UnitState::Failed if row.7 != 0 => UnitState::Activating,
                    state => state,
                };
                Some(Unit { name, class, state })
            })
            .collect())
    }

    async fn changed(&self) -> Vec<Unit> {
        loop {
            match self.bus().await {
                Ok(bus) => match bus.changed().await {
                    Some(units) => return units,
                    None => {
                        warn!("the connection to the system bus is lost");
                        self.lose(&bus).await;
                    }
                },
                Err(error) => warn!(%error, "the system bus cannot be reached; will try again"),
            }
            if self.bus().await.is_ok() {
                info!("connected to the system bus again");
                // What changed meanwhile, nobody reported.
                return Vec::new();
            }
        }
    }
}

fn no_answer() -> PortError {
    PortError(format!("no answer within {} s", TIMEOUT.as_secs()))
}

/// A unit whose container ends by itself goes through the same sub-states as one that is stopped: systemd-nspawn says
/// `STOPPING=1`. Only a job of systemd's (`ordered`) shows that somebody asked for it.
fn state(active: &str, sub: &str, ordered: bool) -> Option<UnitState> {
    Some(match active {
        "active" | "reloading" | "refreshing" | "maintenance" => UnitState::Active,
        "activating" => UnitState::Activating,
        // The last of these is ExecStopPost=, which runs however the unit ends.
        "deactivating" if ordered && sub.starts_with("stop") && sub != "stop-post" => UnitState::Stopping,
        "deactivating" => UnitState::Deactivating,
        "inactive" => UnitState::Inactive,
        "failed" => UnitState::Failed,
        _ => return None,
    })
}

/// A container unit whose state changed. Units that are not there any more are left to a listing: a change signal
/// also comes while a start is merely queued, with the old state in it.
fn heard(message: &Message) -> Option<Vec<Unit>> {
    let header = message.header();
    let (class, name) = unit_name::parse_container_unit(&unit_of(header.path()?)?)?;
    let body = message.body();
    let (_, changed, _): (String, HashMap<String, OwnedVariant>, Vec<String>) = body.deserialize().ok()?;
    let text = |property| match changed.get(property).map(|value| &**value) {
        Some(Variant::Str(text)) => Some(text.as_str()),
        _ => None,
    };
    // `Job`, a number and a path; the number is 0 where there is none.
    let ordered = match changed.get("Job").map(|value| &**value) {
        Some(Variant::Structure(job)) => !matches!(job.fields().first(), Some(Variant::U32(0)) | None),
        _ => false,
    };
    match state(text("ActiveState")?, text("SubState").unwrap_or_default(), ordered)? {
        UnitState::Inactive | UnitState::Failed => Some(Vec::new()),
        state => Some(vec![Unit { name, class, state }]),
    }
}

/// A container unit was unloaded.
fn removed(message: &Message) -> bool {
    let body = message.body();
    let parsed: Result<(String, OwnedObjectPath), _> = body.deserialize();
    parsed.is_ok_and(|(unit, _)| unit_name::parse_container_unit(&unit).is_some())
}

/// The unit name in an object path, in which every byte but letters and digits is written `_xx`.
fn unit_of(path: &ObjectPath<'_>) -> Option<String> {
    let escaped = path.as_str().strip_prefix(UNIT_PATH)?;
    let mut bytes = escaped.bytes();
    let mut name = Vec::with_capacity(escaped.len());
    while let Some(byte) = bytes.next() {
        if byte == b'_' {
            let hex = [bytes.next()?, bytes.next()?];
            name.push(u8::from_str_radix(std::str::from_utf8(&hex).ok()?, 16).ok()?);
        } else {
            name.push(byte);
        }
    }
    String::from_utf8(name).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_a_stop_that_somebody_ordered_is_one() {
        assert_eq!(state("deactivating", "stop-sigterm", true), Some(UnitState::Stopping));
        assert_eq!(state("deactivating", "stop-sigterm", false), Some(UnitState::Deactivating));
        assert_eq!(state("deactivating", "stop-post", true), Some(UnitState::Deactivating));
    }

    #[test]
    fn a_unit_is_known_by_its_object_path() {
        let path = "/org/freedesktop/systemd1/unit/gha_2drunner_2dbig_2dmem_40j1234567_2eservice";
        let unit = unit_of(&path.try_into().unwrap()).unwrap();
        assert_eq!(unit, "gha-runner-big-mem@j1234567.service");
        let (class, name) = unit_name::parse_container_unit(&unit).unwrap();
        assert_eq!((class.as_str(), name.as_str()), ("big-mem", "j1234567"));
    }
}
