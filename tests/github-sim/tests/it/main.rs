//! What the simulator promises to those who test against it.

#![allow(clippy::unwrap_used)]

mod access;
mod fakerunner;
mod faults;
mod hub;
mod lifecycle;
mod lists;
mod records;
mod replay;
mod scale_set;
mod server;
