//! What the simulator promises to those who test against it.

#![allow(clippy::unwrap_used)]

mod access;
mod fakerunner;
mod faults;
mod hooks;
mod hub;
mod lifecycle;
mod limits;
mod listener;
mod lists;
mod records;
mod replay;
mod scale_set;
mod scope;
mod server;
