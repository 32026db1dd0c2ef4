//! This host's name, where the file has none.

use super::check::is_host_name;

/// The kernel's, made to fit a runner's name.
pub fn of_kernel() -> String {
    let uname = rustix::system::uname();
    let text = uname.nodename().to_string_lossy().to_ascii_lowercase();
    let short = text.split('.').next().unwrap_or_default();
    let name: String = short.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(20).collect();
    let name = name.trim_matches('-');
    if is_host_name(name) { name.to_owned() } else { "host".to_owned() }
}
