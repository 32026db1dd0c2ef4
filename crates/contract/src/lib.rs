//! What crosses a boundary between two trust zones. It acts on nothing: no file, no socket, no clock.
//!
//! * controller → sandbox: [`ContainerRecord`] and [`Grant`] as files, [`order`] over the launcher's socket.
//! * sandbox → guest: the [`Grant`] and [`guest_settings`] as credentials.
//! * guest → controller: [`event`], over one socket a container.
//! * sandbox → controller: [`Ending`] and [`Prunings`], files.
//!
//! Beside them what both sides of a boundary must agree on: [`unit_name`], [`fork_gate`], [`runner_version`], [`paths`].

mod ending;
pub mod event;
pub mod fork_gate;
mod grant;
pub mod guest_settings;
mod labels;
mod name;
pub mod order;
pub mod paths;
mod pruning;
mod record;
pub mod runner_version;
pub mod unit_name;

pub use ending::{ENDINGS_DIR, ENDINGS_KEPT, Ending};
pub use grant::{ActFlavour, ActRunner, Grant};
pub use labels::Labels;
pub use name::{ContainerName, InvalidName};
pub use pruning::{PRUNINGS_FILE, PRUNINGS_KEPT, Pruning, Prunings, ROOM_WANTED};
pub use record::{ContainerRecord, GRANT_FILE, GRANT_LIMIT, HANDOVER_DIR, RECORD_FILE, RECORD_LIMIT, VERSION};
