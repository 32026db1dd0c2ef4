//! Run-time paths that several processes must agree on.

/// Directory of the local socket: what is made in it belongs to the operators' group.
pub const CONTROL_DIR: &str = "/run/gha-runner-control";
/// The local socket.
pub const CONTROL_SOCKET: &str = "/run/gha-runner-control/control.sock";
