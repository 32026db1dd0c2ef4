//! The root half: what systemd runs before, as and after a container, one short step at a time.
//!
//! * [`prepare`] (`ExecStartPre=`) reads what the controller handed over ([`inbox`]) as if the controller had been
//!   taken over, copies it to a place only root can write ([`record`]) and makes root file system ([`rootfs`]), links
//!   ([`link`]) and event directory.
//! * [`guest`] is what it puts into a tree: the program that takes the grant, and its unit.
//! * [`nspawn`] (`ExecStart=`) turns the root-owned copies into one command line and becomes it.
//! * [`teardown`] (`ExecStopPost=`) removes all of it, knowing nothing but the container's name, and writes how it
//!   ended; [`sweep`] does so for containers whose unit never got that far.
//! * [`launcher`] has systemd start and stop containers, at the controller's order.
//! * [`firewall`] loads the one table that keeps containers away from everything but the internet.
//!
//! Every resource has a name that follows from the container's name alone, so that what one version made another can
//! remove, and a record that was never written loses nothing.

pub mod caches;
pub mod devices;
pub mod discard;
pub mod docker;
pub mod ending;
pub mod firewall;
pub mod gc_root;
pub mod gpu;
pub mod graphics;
mod groups;
pub mod guest;
pub mod ids;
pub mod images;
pub mod inbox;
pub mod last_words;
pub mod launcher;
pub mod link;
pub mod lock;
mod machine_id;
pub mod nspawn;
pub mod paths;
pub mod plan;
pub mod prepare;
mod private;
pub mod privileges;
pub mod prune;
pub mod record;
pub mod renew;
mod rootfs;
pub mod service_manager;
pub mod sized;
pub mod stores;
pub mod sweep;
pub mod teardown;
pub mod tree;
pub mod udev;
pub mod user_namespace;

pub use kernel::mounts::join_host;
pub use paths::Paths;
pub use plan::ContainerPlan;
