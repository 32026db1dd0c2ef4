//! Whether the forge can be reached from here, asked beside a runner that does not listen yet: a runner without a network
//! tries again and again, in words that do not say what is wrong.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use contract::guest_settings::GuestSettings;
use tokio::{
    net::{TcpStream, lookup_host},
    sync::Notify,
    time::{Instant, sleep, timeout},
};

/// How long it is tried. A runner that listens meanwhile has a way of its own.
const PATIENCE: Duration = Duration::from_secs(15);
/// Longest wait for one answer, and between two tries.
const ANSWER: Duration = Duration::from_secs(4);
const PAUSE: Duration = Duration::from_secs(1);

/// Where the runner has to get to first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// For people: the forge, or the proxy that leads there.
    what: &'static str,
    host: String,
    port: u16,
    /// Who is asked for the name; none = whom the template names.
    dns: Vec<Ipv4Addr>,
}

impl Place {
    /// Of a forge at this URL, by the container's proxy where that leads there.
    pub fn of(url: &str, settings: &GuestSettings) -> Option<Self> {
        let (host, port) = authority(url)?;
        let place = |what, host: &str, port| Self { what, host: host.to_owned(), port, dns: settings.dns.clone() };
        let Some(proxy) = &settings.proxy else { return Some(place("forge", host, port)) };
        let is_excepted = proxy.except.split(',').map(|name| name.trim().trim_start_matches('.')).any(|name| {
            !name.is_empty() && (host == name || host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.')))
        });
        if is_excepted {
            return Some(place("forge", host, port));
        }
        let (_, port) = authority(&proxy.url)?;
        Some(place("proxy", &proxy.address.to_string(), port))
    }

    /// Tries once; the error is for people.
    async fn reach(&self) -> Result<(), String> {
        let Self { what, host, port, dns } = self;
        let asked = match dns.as_slice() {
            [] => "the template's resolvers".to_owned(),
            dns => dns.iter().map(Ipv4Addr::to_string).collect::<Vec<_>>().join(", "),
        };
        let unknown = |why: &str| {
            format!(
                "the {what} cannot be reached: no address for {host} from {asked}: {why}. Remedy: see network.dns of the \
                 class"
            )
        };
        let found = match timeout(ANSWER, lookup_host((host.as_str(), *port))).await {
            Ok(Ok(found)) => found.filter(SocketAddr::is_ipv4).collect::<Vec<_>>(),
            Ok(Err(error)) => return Err(unknown(&error.to_string())),
            Err(_) => return Err(unknown("no answer")),
        };
        let mut why = unknown("it has no IPv4 address");
        for at in found {
            let error = match timeout(ANSWER, TcpStream::connect(at)).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer".to_owned(),
            };
            why = format!(
                "the {what} cannot be reached: {host} takes no connection at {at}: {error}. Remedy: see network.allow of \
                 the class"
            );
        }
        Err(why)
    }
}

/// Host and port of a URL.
fn authority(url: &str) -> Option<(&str, u16)> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()?),
        None => (authority, if scheme == "http" { 80 } else { 443 }),
    };
    (!host.is_empty() && !host.contains(['[', '@'])).then_some((host, port))
}

/// What is known of the way to the forge.
#[derive(Debug, Default)]
pub struct Way {
    blocked: Mutex<Option<String>>,
    given_up: Notify,
}

impl Way {
    /// Finds out beside everything else; nothing is asked where the place is not known.
    pub fn find(place: Option<Place>) -> Arc<Self> {
        let way = Arc::new(Self::default());
        if let Some(place) = place {
            tokio::spawn(way.clone().try_for(place, PATIENCE));
        }
        way
    }

    async fn try_for(self: Arc<Self>, place: Place, patience: Duration) {
        let began = Instant::now();
        loop {
            let blocked = place.reach().await.err();
            let is_open = blocked.is_none();
            *self.blocked.lock().unwrap_or_else(PoisonError::into_inner) = blocked;
            if is_open {
                return;
            }
            if began.elapsed() + PAUSE >= patience {
                self.given_up.notify_one();
                return;
            }
            sleep(PAUSE).await;
        }
    }

    /// Why the last try failed, if it did.
    pub fn blocked(&self) -> Option<String> {
        self.blocked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until it was tried for long and in vain; for ever, where the forge is reached.
    pub async fn given_up(&self) {
        self.given_up.notified().await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use contract::guest_settings::ProxySettings;
    use tokio::net::TcpListener;

    use super::*;

    fn settings(proxy: Option<&str>) -> GuestSettings {
        let mut settings: GuestSettings = serde_json::from_value(serde_json::json!({
            "name": "j0000001", "interface": "gj-1", "address": "10.0.0.2", "prefix": 24, "gateway": "10.0.0.1",
            "dns": ["192.0.2.53"], "runner": "/r", "user": "runner",
        }))
        .unwrap();
        settings.proxy = proxy.map(|except| ProxySettings {
            url: "http://proxy.lan:3128".into(),
            except: except.into(),
            name: Some("proxy.lan".into()),
            address: [10, 9, 9, 9].into(),
        });
        settings
    }

    #[test]
    fn the_way_begins_at_the_forge_or_at_the_proxy_that_leads_there() {
        let place = |url: &str, proxy: Option<&str>| {
            Place::of(url, &settings(proxy)).map(|place| format!("{} {}:{}", place.what, place.host, place.port))
        };
        for (url, found) in [
            ("https://broker.example/x/", "forge broker.example:443"),
            ("http://10.1.2.3:3000", "forge 10.1.2.3:3000"),
            ("http://git.example", "forge git.example:80"),
        ] {
            assert_eq!(place(url, None).as_deref(), Some(found));
        }
        for odd in ["", "broker.example", "https://", "https://[::1]/", "https://me@x/", "https://x:y/"] {
            assert_eq!(place(odd, None), None, "{odd}");
        }
        let url = "https://git.corp.example/";
        assert_eq!(place(url, Some("localhost")).as_deref(), Some("proxy 10.9.9.9:3128"));
        assert_eq!(place(url, Some("localhost, .corp.example")).as_deref(), Some("forge git.corp.example:443"));
        assert_eq!(place(url, Some("orp.example")).as_deref(), Some("proxy 10.9.9.9:3128"));
    }

    #[tokio::test]
    async fn a_forge_that_takes_connections_is_reached_and_one_that_does_not_is_told_with_the_reason() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let place = |host: &str| Place::of(&format!("http://{host}:{port}"), &settings(None)).unwrap();
        let way = Arc::new(Way::default());
        way.clone().try_for(place("127.0.0.1"), Duration::ZERO).await;
        assert_eq!(way.blocked(), None);
        drop(listener);
        way.clone().try_for(place("127.0.0.1"), Duration::ZERO).await;
        way.given_up().await;
        let told = way.blocked().unwrap();
        assert!(told.contains("takes no connection at 127.0.0.1") && told.contains("refused"), "{told}");
        assert!(told.contains("network.allow"), "{told}");
        way.clone().try_for(place("nowhere.invalid"), Duration::ZERO).await;
        let told = way.blocked().unwrap();
        assert!(told.contains("no address for nowhere.invalid from 192.0.2.53"), "{told}");
    }
}
