//! This host's part of its runners' names.

use settings::{Settings, host_name::of_kernel};

/// The configured name, else the kernel's, made to fit a runner's name.
pub fn host_name(settings: &Settings) -> String {
    settings.host_name.clone().unwrap_or_else(of_kernel)
}
