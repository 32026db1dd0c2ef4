//! systemd over D-Bus: starting, stopping, listing and hearing of container units (org.freedesktop.systemd1(5)).
//!
//! machined is not asked: every machine belongs to its unit (`--keep-unit`), so systemd's word covers both.

use std::{collections::HashMap, num::NonZero, time::Duration};

use futures_util::StreamExt;
use tokio::sync::Mutex;
use zbus::{
    Connection, MatchRule, Message, MessageStream, ObjectPath, OwnedObjectPath, OwnedVariant, Variant, message::Type,
    proxy,
};

use super::edges::{EdgeError, Systemd, Unit, UnitState};
use crate::{handover::ContainerName, units};

/// Longest wait for systemd's answer to a request.
const TIMEOUT: Duration = Duration::from_secs(20);
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
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn list_units_by_patterns(&self, states: &[&str], patterns: &[&str]) -> zbus::Result<Vec<Row>>;
    fn subscribe(&self) -> zbus::Result<()>;
}

/// The real systemd.
#[derive(Debug)]
pub struct SystemdBus {
    manager: ManagerProxy<'static>,
    /// Property changes of units, and units being unloaded.
    signals: Mutex<MessageStream>,
    removals: Mutex<MessageStream>,
}

impl SystemdBus {
    /// Connects to the system bus and asks for signals.
    pub async fn connect() -> Result<Self, EdgeError> {
        let connect = async {
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
            manager.subscribe().await?;
            Ok::<_, zbus::Error>(Self { manager, signals: signals.into(), removals: removals.into() })
        };
        within(connect).await
    }
}

impl Systemd for SystemdBus {
    async fn start(&self, class: &str, name: &ContainerName) -> Result<(), EdgeError> {
        within(self.manager.start_unit(&units::container_unit(class, name), "fail")).await.map(drop)
    }

    async fn stop(&self, class: &str, name: &ContainerName) -> Result<(), EdgeError> {
        let stopped =
            tokio::time::timeout(TIMEOUT, self.manager.stop_unit(&units::container_unit(class, name), "replace")).await;
        match stopped {
            Ok(Ok(_)) => Ok(()),
            // Not loaded is as good as stopped.
            Ok(Err(zbus::Error::MethodError(error, _, _)))
                if error.as_str() == "org.freedesktop.systemd1.NoSuchUnit" =>
            {
                Ok(())
            }
            Ok(Err(error)) => Err(EdgeError(error.to_string())),
            Err(_) => Err(no_answer()),
        }
    }

    async fn list(&self) -> Result<Vec<Unit>, EdgeError> {
        let rows = within(self.manager.list_units_by_patterns(&[], &[units::CONTAINER_PATTERN])).await?;
        Ok(rows
            .into_iter()
            .filter_map(|row| {
                let (class, name) = units::parse_container_unit(&row.0)?;
                // A unit with a job queued is on its way, whatever its state says yet.
                let state = match state(&row.3, &row.4)? {
                    UnitState::Inactive | UnitState::Failed if row.7 != 0 => UnitState::Activating,
                    state => state,
                };
                Some(Unit { name, class, state })
            })
            .collect())
    }

    async fn changed(&self) -> Vec<Unit> {
        let mut signals = self.signals.lock().await;
        let mut removals = self.removals.lock().await;
        loop {
            tokio::select! {
                message = signals.next() => match message {
                    Some(Ok(message)) => if let Some(heard) = heard(&message) { return heard },
                    Some(Err(_)) => return Vec::new(),
                    None => return std::future::pending().await,
                },
                message = removals.next() => match message {
                    Some(Ok(message)) => if removed(&message) { return Vec::new() },
                    Some(Err(_)) => return Vec::new(),
                    None => return std::future::pending().await,
                },
            }
        }
    }
}

async fn within<T>(call: impl Future<Output = zbus::Result<T>>) -> Result<T, EdgeError> {
    match tokio::time::timeout(TIMEOUT, call).await {
        Ok(answer) => answer.map_err(|error| EdgeError(error.to_string())),
        Err(_) => Err(no_answer()),
    }
}

fn no_answer() -> EdgeError {
    EdgeError(format!("no answer within {} s", TIMEOUT.as_secs()))
}

fn state(active: &str, sub: &str) -> Option<UnitState> {
    Some(match active {
        "active" | "reloading" | "refreshing" | "maintenance" => UnitState::Active,
        "activating" => UnitState::Activating,
        // The last of these is ExecStopPost=, which runs however the unit ends.
        "deactivating" if sub.starts_with("stop") && sub != "stop-post" => UnitState::Stopping,
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
    let (class, name) = units::parse_container_unit(&unit_of(header.path()?)?)?;
    let body = message.body();
    let (_, changed, _): (String, HashMap<String, OwnedVariant>, Vec<String>) = body.deserialize().ok()?;
    let text = |property| match changed.get(property).map(|value| &**value) {
        Some(Variant::Str(text)) => Some(text.as_str()),
        _ => None,
    };
    match state(text("ActiveState")?, text("SubState").unwrap_or_default())? {
        UnitState::Inactive | UnitState::Failed => Some(Vec::new()),
        state => Some(vec![Unit { name, class, state }]),
    }
}

/// A container unit was unloaded.
fn removed(message: &Message) -> bool {
    let body = message.body();
    let parsed: Result<(String, OwnedObjectPath), _> = body.deserialize();
    parsed.is_ok_and(|(unit, _)| units::parse_container_unit(&unit).is_some())
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
    fn a_unit_is_known_by_its_object_path() {
        let path = "/org/freedesktop/systemd1/unit/gha_2drunner_2dbig_2dmem_40j1234567_2eservice";
        let unit = unit_of(&path.try_into().unwrap()).unwrap();
        assert_eq!(unit, "gha-runner-big-mem@j1234567.service");
        let (class, name) = units::parse_container_unit(&unit).unwrap();
        assert_eq!((class.as_str(), name.as_str()), ("big-mem", "j1234567"));
    }
}
