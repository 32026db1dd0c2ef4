//! Problems collected while values are taken, and the rules that several keys share.

use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    path::{Component, Path},
};

use contract::Labels;
use ipnetwork::Ipv4Network;

use super::{
    Problem,
    file::POOL,
    pool::{InvalidPool, Pool},
};

/// Where Docker makes networks unless told otherwise (moby, `default-address-pools`), on the host and in containers. Its
/// last resort, 192.168.0.0/16, is left out: what it made there shows as a route.
const DOCKERS: [(Ipv4Addr, u8); 4] = [
    (Ipv4Addr::new(172, 17, 0, 0), 16),
    (Ipv4Addr::new(172, 18, 0, 0), 15),
    (Ipv4Addr::new(172, 20, 0, 0), 14),
    (Ipv4Addr::new(172, 24, 0, 0), 13),
];

/// Collects problems while values are taken.
#[derive(Default)]
pub(crate) struct Checker {
    pub problems: Vec<Problem>,
}

impl Checker {
    pub fn push(&mut self, key: impl Into<String>, problem: impl Into<String>, remedy: impl Into<String>) {
        self.problems.push(Problem::new(key, problem, remedy));
    }

    pub fn unless(
        &mut self,
        good: bool,
        key: impl Into<String>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        if !good {
            self.push(key, problem, remedy);
        }
    }

    pub fn absolute(&mut self, key: &str, path: &Path) {
        self.unless(
            is_plain_absolute(path),
            key,
            format!("{} is not an absolute path", path.display()),
            "write a path that starts with / and has no .., white space, colon, % or control character",
        );
    }

    pub fn name(&mut self, key: &str, name: &str) {
        self.unless(
            is_name(name),
            key,
            format!("invalid name {name:?}"),
            "use 1 to 24 lower-case letters, digits and hyphens, starting with a letter, not ending with a hyphen",
        );
    }

    /// `exact` = upper and lower case are different letters.
    pub fn labels(&mut self, key: &str, labels: &[String], exact: bool) {
        self.unless((1..=100).contains(&labels.len()), key, format!("{} labels", labels.len()), "name 1 to 100 labels");
        let mut seen = Labels::default();
        let mut written = BTreeSet::new();
        for label in labels {
            let plain = (1..=256).contains(&label.len())
                && !label.contains(',')
                && label.trim() == label
                && !label.contains(char::is_control);
            self.unless(
                plain,
                key,
                format!("invalid label {label:?}"),
                "use 1 to 256 characters, no comma, no space around",
            );
            self.unless(
                written.insert(label) && (seen.add(label) || exact),
                key,
                format!("{label:?} is named twice"),
                match exact {
                    true => "name each once",
                    false => "labels are compared without case; name each once",
                },
            );
        }
    }

    pub fn pool(&mut self, span: &str, prefix: u8) -> Pool {
        match Pool::parse(span, prefix) {
            Ok(pool) => {
                self.unless(
                    !DOCKERS.iter().any(|(address, prefix)| {
                        Ipv4Network::new(*address, *prefix).is_ok_and(|dockers| pool.touches(dockers))
                    }),
                    "network.pool",
                    format!("{pool} reaches into 172.17.0.0-172.31.255.255, where Docker makes its networks"),
                    "choose another private network, e.g. 10.213.0.0/16",
                );
                pool
            }
            Err(error) => {
                // What is wrong with the prefix is found at its own key.
                if !matches!(error, InvalidPool::Prefix(_)) {
                    let remedy = "write a private network such as 10.77.0.0/16 or a range such as \
                                  192.168.100.0-192.168.199.0, which holds subnets of network.prefix";
                    self.push("network.pool", error.to_string(), remedy);
                }
                // Only to go on looking for problems; the settings are not returned.
                Pool::parse(POOL, 24).unwrap_or_else(|_| unreachable!("the default pool is a pool"))
            }
        }
    }

    pub fn api_url(&mut self, key: &str, url: &str) -> String {
        let remedy = "write https://api.github.com, https://HOST/api/v3 or https://api.NAME.ghe.com";
        self.root(key, url, "an API", remedy)
    }

    /// The root of `what`, without a slash at its end.
    pub fn root(&mut self, key: &str, url: &str, what: &str, remedy: &str) -> String {
        let url = url.trim_end_matches('/').to_owned();
        let parsed = url.parse::<http::Uri>().ok();
        let good = parsed.is_some_and(|uri| {
            matches!(uri.scheme_str(), Some("https" | "http")) && uri.host().is_some() && uri.query().is_none()
        });
        self.unless(good && !url.contains('@'), key, format!("{url:?} is not the root of {what}"), remedy);
        url
    }
}

/// Absolute, without `..`, and without characters that mean something to unit files, mount options or nspawn.
fn is_plain_absolute(path: &Path) -> bool {
    path.is_absolute()
        && !path.components().any(|part| part == Component::ParentDir)
        && path.to_str().is_some_and(|text| {
            !text.contains(|c: char| c.is_control() || c.is_whitespace() || ":,%\\\"'$".contains(c))
        })
}

/// What names a class, a template or a credential: it means nothing to a path, a unit name or a pattern.
pub fn is_name(name: &str) -> bool {
    (1..=24).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}
