//! The lab: a real systemd host in a box.
//!
//! [`Lab::boot`] starts, in about a second and on any Debian machine with root, a Debian tree under `systemd-nspawn`:
//! the *host*. systemd, D-Bus, polkit and machined in it are the real ones, and the job containers that the product
//! starts in it are what they are in production. Around the host lies a small world of network namespaces
//! ([`Place`]): the forge, the internet, a LAN, a cloud's metadata service. Nothing in it can reach the real world.
//!
//! udev runs in the host, and `/sys` and `/proc/sys` can be written. Kernel and devices are the machine's own: of
//! Debian's udev rules only those for network links stay, and kernel settings are set back when the last lab ends.
//!
//! All of it dies with the process that booted it, however that process ends.

mod cache;
mod cgroup;
mod exec;
mod forward_proxy;
mod host;
mod inventory;
mod lab;
mod machine;
mod network;
mod place;
mod product;
mod recipe;
mod requirements;
mod shelf;
mod sources;
mod suite;
mod supervisor;
mod template;
mod tree;
mod workdir;

pub use cache::Cache;
pub use exec::{Output, Running};
pub use forward_proxy::ForwardProxy;
pub use inventory::{Inventory, Kind, OF_NSPAWN};
pub use lab::{Lab, LabConfig};
pub use machine::{Errand, Report, missing_machine_requirement};
pub use network::Network;
pub use place::Place;
pub use product::Product;
pub use recipe::Recipe;
pub use requirements::missing_requirement;
pub use shelf::{Kept, Shelf};
pub use suite::Suite;
pub use template::{Source, Template};
pub use tree::Tree;
