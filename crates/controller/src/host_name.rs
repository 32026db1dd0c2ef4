//! This host's part of its runners' names.

use settings::{Settings, check::is_host_name};

/// The configured name, else the kernel's, made to fit a runner's name.
pub fn host_name(settings: &Settings) -> String {
    if let Some(name) = &settings.host_name {
        return name.clone();
    }
    let uname = rustix::system::uname();
    let text = uname.nodename().to_string_lossy().to_ascii_lowercase();
    let short = text.split('.').next().unwrap_or_default();
    let name: String = short.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(20).collect();
    let name = name.trim_matches('-');
    if is_host_name(name) { name.to_owned() } else { "host".to_owned() }
}
