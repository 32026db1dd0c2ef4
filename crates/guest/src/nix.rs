//! Adds the class's binary caches to Nix's configuration before the runner starts. The daemon itself starts when a job
//! first asks for it (`nix-daemon.socket`), so it finds them there; and a daemon believes nobody but its own file.

use std::{fs, io, path::Path};

use anyhow::Context;
use contract::guest_settings::NixSettings;

use super::network::replace;

/// Where Nix looks.
pub const DIRECTORY: &str = "/etc/nix";
const FILE: &str = "nix.conf";

/// Adds to what the template has, in a file of the container's own: the template's may be a link into the store.
pub fn set_up(directory: &Path, settings: &NixSettings) -> anyhow::Result<()> {
    let file = directory.join(FILE);
    let mut text = match fs::read_to_string(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        result => result.with_context(|| format!("cannot read {}", file.display()))?,
    };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    let added =
        [("extra-substituters", &settings.substituters), ("extra-trusted-public-keys", &settings.trusted_public_keys)];
    for (key, values) in added.into_iter().filter(|(_, values)| !values.is_empty()) {
        text.push_str(&format!("{key} = {}\n", values.join(" ")));
    }
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    replace(&file, &text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn caches_are_added_to_what_the_template_says_which_stays_as_it_is() {
        let home = tempfile::tempdir().unwrap();
        let (store, nix) = (home.path().join("nix.conf"), home.path().join("nix"));
        let settings =
            NixSettings { substituters: vec!["http://a".into(), "http://b".into()], trusted_public_keys: vec![] };
        set_up(&nix, &settings).unwrap();
        assert_eq!(fs::read_to_string(nix.join(FILE)).unwrap(), "extra-substituters = http://a http://b\n");
        fs::write(&store, "sandbox = true").unwrap();
        fs::remove_file(nix.join(FILE)).unwrap();
        symlink(&store, nix.join(FILE)).unwrap();
        let keys = NixSettings { trusted_public_keys: vec!["k:1".into()], ..settings };
        set_up(&nix, &keys).unwrap();
        let whole = "sandbox = true\nextra-substituters = http://a http://b\nextra-trusted-public-keys = k:1\n";
        assert_eq!(fs::read_to_string(nix.join(FILE)).unwrap(), whole);
        assert_eq!(fs::read_to_string(store).unwrap(), "sandbox = true");
    }
}
