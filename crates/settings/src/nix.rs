//! `[class.NAME.nix]`: where Nix inside containers gets what is built already.

use super::{checker::Checker, file::NixWritten, settings::Nix};

/// Most caches, and most keys.
const MOST: usize = 32;
/// How long a public key is in base64.
const KEY: usize = 44;

/// Checks one class's table.
pub(super) fn check(found: &mut Checker, key: &dyn Fn(&str) -> String, written: NixWritten) -> Nix {
    let NixWritten { substituters, trusted_public_keys } = written;
    for (field, count) in [("substituters", substituters.len()), ("trusted_public_keys", trusted_public_keys.len())] {
        found.unless(count <= MOST, key(field), format!("there are {count} of them"), format!("name at most {MOST}"));
    }
    for url in &substituters {
        let uri = url.parse::<http::Uri>().ok();
        let good = uri.is_some_and(|uri| matches!(uri.scheme_str(), Some("https" | "http")) && uri.host().is_some());
        found.unless(
            good && !url.contains(['@', '#']),
            key("substituters"),
            format!("{url:?} is not the URL of a binary cache"),
            "write http://HOST:PORT or https://HOST/PATH, without user and password",
        );
    }
    for public in &trusted_public_keys {
        let good = public.split_once(':').is_some_and(|(name, value)| {
            let plain = |text: &str, more: &[u8]| text.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b));
            !name.is_empty() && plain(name, b"-._") && value.len() == KEY && plain(value, b"+/=")
        });
        found.unless(
            good,
            key("trusted_public_keys"),
            format!("{public:?} is not a public key"),
            "write NAME:KEY, as nix-store --generate-binary-cache-key writes the public one",
        );
    }
    Nix { substituters, trusted_public_keys }
}
