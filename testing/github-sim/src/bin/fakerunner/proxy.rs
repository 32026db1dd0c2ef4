//! The proxy that the environment names, as the real runner reads it: lower-case names first, names alone in `no_proxy`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::OnceLock;

static PROXY: OnceLock<Proxy> = OnceLock::new();

#[derive(Debug)]
struct Proxy {
    /// `HOST:PORT`.
    address: String,
    except: Vec<String>,
}

/// Uses from now on what the environment says. All addresses are `http` ones here.
pub(crate) fn take(environment: &BTreeMap<String, String>) {
    let variable = |name: &str| {
        let names = [name.to_owned(), name.to_uppercase()];
        names.iter().find_map(|name| environment.get(name).filter(|value| !value.is_empty()))
    };
    let Some(address) = variable("http_proxy").and_then(|url| url.trim_end_matches('/').strip_prefix("http://")) else {
        return;
    };
    let except = variable("no_proxy").map(|list| list.split(',').map(|name| name.trim().to_owned()).collect());
    let _ = PROXY.set(Proxy { address: address.to_owned(), except: except.unwrap_or_default() });
}

/// The proxy by which a host is reached, `HOST:PORT`.
pub(crate) fn of(host: &str) -> Option<&'static str> {
    let proxy = PROXY.get()?;
    let address = host.parse::<IpAddr>();
    let own = host == "localhost" || address.as_ref().is_ok_and(IpAddr::is_loopback);
    let excepted = |name: &String| {
        address.is_err() && (host == name || host.ends_with(&format!(".{}", name.trim_start_matches('.'))))
    };
    (!own && !proxy.except.iter().any(excepted)).then_some(proxy.address.as_str())
}
