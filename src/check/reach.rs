//! Whether containers reach what every job needs: the forge, or the proxy that leads there, and a resolver that tells
//! where it is.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket},
    thread,
    time::Duration,
};

use sandbox::firewall;
use settings::{Class, Proxy, Settings};

use super::Finding;

/// How long a resolver may take to answer, and a proxy to take a connection.
const PATIENCE: Duration = Duration::from_secs(2);
const DNS_PORT: u16 = 53;

/// Hosts and ports of the forges that targets of a class are at.
fn forges(settings: &Settings, class: &Class) -> BTreeSet<(String, u16)> {
    let targets = settings.targets.iter().filter(|target| target.has_class(&class.name));
    let credentials = targets.filter_map(|target| settings.credentials.get(&target.credential));
    let uris = credentials.filter_map(|credential| credential.api_url.parse::<http::Uri>().ok());
    uris.filter_map(|uri| {
        let default = if uri.scheme_str() == Some("http") { 80 } else { 443 };
        Some((uri.host()?.to_owned(), uri.port_u16().unwrap_or(default)))
    })
    .collect()
}

/// The proxy by which a host is reached.
fn proxy_for<'a>(settings: &'a Settings, host: &str) -> Option<&'a Proxy> {
    settings.proxy.as_ref().filter(|proxy| proxy.is_for(host))
}

/// What is to be known of the proxy: whether it takes connections, and what is reached through it. `connect` tries.
pub fn proxy(settings: &Settings, connect: impl Fn(&str, u16) -> io::Result<()>) -> Option<Finding> {
    let proxy = settings.proxy.as_ref()?;
    let url = proxy.url();
    if let Err(error) = connect(&proxy.host, proxy.port) {
        let remedy = "see whether the proxy runs and lets this host in, or correct proxy.url";
        return Some(Finding::error("proxy.url", format!("{url} takes no connection: {error}"), remedy));
    }
    let all = settings.classes.values().flat_map(|class| forges(settings, class));
    let hosts: BTreeSet<String> = all.map(|(host, _)| host).filter(|host| proxy.is_for(host)).collect();
    let through = match hosts.is_empty() {
        true => "no forge is reached through it, as proxy.except has it".to_owned(),
        false => format!("{} is reached through it", hosts.into_iter().collect::<Vec<_>>().join(", ")),
    };
    Some(Finding::fine("proxy.url", format!("{url} takes connections, and {through}")))
}

/// Whether something takes connections at each service that a class names.
pub fn services(settings: &Settings, connect: impl Fn(&str, u16) -> io::Result<()>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, service) in &settings.services {
        let (about, at) = (format!("service.{name}.address"), service.address);
        let named = |class: &&Class| class.services.contains(name);
        let classes: Vec<&str> = settings.classes.values().filter(named).map(|class| class.name.as_str()).collect();
        findings.push(if classes.is_empty() {
            let remedy = format!("write services = [{name:?}] in a class, or remove the service");
            Finding::warning(about, "no class names the service, so no job reaches it", remedy)
        } else if let Err(error) = connect(&at.ip().to_string(), at.port()) {
            let remedy = "start the service, or correct the address";
            Finding::error(about, format!("nothing listens at {at} ({error}), and jobs are to find it there"), remedy)
        } else {
            let (host, port, classes) = (service.host_name(), at.port(), classes.join(", "));
            Finding::fine(about, format!("{at} takes connections; jobs of {classes} find it at {host}:{port}"))
        });
    }
    findings
}

/// A warning where the environment has a proxy that nobody will use. `variable` looks one up.
pub fn unused_proxy(settings: &Settings, variable: impl Fn(&str) -> Option<String>) -> Option<Finding> {
    let is_set = |name: &&str| variable(name).is_some_and(|value| !value.is_empty());
    let name = ["https_proxy", "HTTPS_PROXY"].into_iter().find(is_set).filter(|_| settings.proxy.is_none())?;
    let what =
        format!("{name} is set here, and the configuration has no proxy: neither the controller nor jobs use one");
    Some(Finding::warning(
        "proxy.url",
        what,
        "write url = \"http://HOST:PORT\" below [proxy] if the forge is not reached without",
    ))
}

/// Tries whether somebody takes connections there.
pub fn connects(host: &str, port: u16) -> io::Result<()> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "its name has no address");
    for at in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&at, PATIENCE) {
            Ok(_) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A warning for each class whose containers are kept from a forge, or from the proxy that leads there. `find` gives the
/// addresses of a name.
pub fn forge(settings: &Settings, find: impl Fn(&str, u16) -> io::Result<Vec<IpAddr>>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for class in settings.classes.values() {
        for (host, port) in forges(settings, class) {
            if let Some(proxy) = proxy_for(settings, &host) {
                let (url, address, port) = (proxy.url(), proxy.address, proxy.port);
                if !reaches(settings, class, address, port) {
                    findings.push(Finding::warning(
                        format!("class.{}.network.allow", class.name),
                        format!(
                            "runners of the class cannot reach the proxy {url}, which leads to the forge at {host}: a \
                             class without internet reaches no proxy that it does not name"
                        ),
                        format!("add \"{address}:{port}\", or name a forge that is reached directly in proxy.except"),
                    ));
                }
                continue;
            }
            // That it has none shows when it is asked.
            let found = host.parse().map(|address| vec![address]).or_else(|_| find(&host, port)).unwrap_or_default();
            let addresses = found.into_iter().filter_map(|address| match address {
                IpAddr::V4(address) => Some(address),
                IpAddr::V6(_) => None,
            });
            let addresses: Vec<Ipv4Addr> = addresses.collect();
            let Some(address) =
                addresses.first().filter(|_| !addresses.iter().any(|at| reaches(settings, class, *at, port)))
            else {
                continue;
            };
            let why = if class.network.internet {
                "containers are kept from private and special addresses"
            } else {
                "its containers reach no address that is not named"
            };
            findings.push(Finding::warning(
                format!("class.{}.network.allow", class.name),
                format!("runners of the class cannot reach the forge at {host} ({address}): {why}"),
                format!("add \"{address}:{port}\""),
            ));
        }
    }
    findings
}

/// A container of the class reaches this port, as far as the fence is concerned.
fn reaches(settings: &Settings, class: &Class, address: Ipv4Addr, port: u16) -> bool {
    let shared = class.network.shared.iter().filter_map(|name| settings.network.shared.get(name));
    let named = class.network.allow.iter().chain(shared.map(|shared| &shared.destination)).any(|destination| {
        let ports = &destination.ports;
        destination.network.contains(address)
            && (ports.is_empty() || ports.iter().any(|(first, last)| (*first..=*last).contains(&port)))
    });
    let is_proxy = settings.proxy.as_ref().is_some_and(|proxy| (proxy.address, proxy.port) == (address, port));
    named || (class.network.internet && (is_proxy || !firewall::denies(&settings.network, address)))
}

/// A warning for each class of whose resolvers none answers. `answers` asks one for a name.
pub fn resolvers(settings: &Settings, answers: impl Fn(Ipv4Addr, &str) -> bool + Sync) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut known: Vec<(&[Ipv4Addr], bool)> = Vec::new();
    for class in settings.classes.values() {
        let names = forges(settings, class).into_iter().map(|(host, _)| host);
        let name = names.into_iter().find(|host| host.parse::<IpAddr>().is_err());
        let (Some(name), dns) = (name, class.network.dns.as_slice()) else { continue };
        let any = known.iter().find(|(asked, _)| *asked == dns).map(|(_, any)| *any).unwrap_or_else(|| {
            let any = dns.is_empty() || any_answers(dns, &name, &answers);
            known.push((dns, any));
            any
        });
        if !any {
            let shown = dns.iter().map(Ipv4Addr::to_string).collect::<Vec<_>>().join(", ");
            let what = match proxy_for(settings, &name) {
                Some(proxy) => format!("{} finds {name} for runners; jobs find no name but through it", proxy.url()),
                None => format!("runners cannot find {name}, nor jobs any other name"),
            };
            findings.push(Finding::warning(
                format!("class.{}.network.dns", class.name),
                format!("no resolver answers ({shown}): {what}"),
                "name resolvers that this network lets through, or in network.dns; [] = the template's own",
            ));
        }
    }
    findings
}

/// All are asked at the same time.
fn any_answers(dns: &[Ipv4Addr], name: &str, answers: &(impl Fn(Ipv4Addr, &str) -> bool + Sync)) -> bool {
    thread::scope(|scope| {
        let asked: Vec<_> = dns.iter().map(|server| scope.spawn(move || answers(*server, name))).collect();
        asked.into_iter().any(|asked| asked.join().unwrap_or(false))
    })
}

/// The addresses of a name, as this host finds them.
pub fn look_up(host: &str, port: u16) -> io::Result<Vec<IpAddr>> {
    Ok((host, port).to_socket_addrs()?.map(|at| at.ip()).collect())
}

/// Whether a resolver answers when asked for a name, whatever it says. Containers leave with the host's address, so
/// what answers the host answers them.
pub fn answers(server: Ipv4Addr, name: &str) -> bool {
    asked((server, DNS_PORT).into(), name).unwrap_or(false)
}

fn asked(server: SocketAddr, name: &str) -> io::Result<bool> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(server)?;
    let question = question(name);
    socket.send(&question)?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer)?;
    // It is about this question, and is an answer.
    Ok(length >= 12 && answer[..2] == question[..2] && answer[2] & 0x80 != 0)
}

/// One question for an address (RFC 1035, section 4.1), of a recursive resolver.
fn question(name: &str) -> Vec<u8> {
    let mut message = vec![0x67, 0x68, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.trim_end_matches('.').split('.') {
        let label = &label.as_bytes()[..label.len().min(63)];
        message.push(label.len() as u8);
        message.extend(label);
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use settings::check::check;

    use super::*;

    fn settings(api_url: &str, network: &str) -> Settings {
        let text = format!(
            "token_file = \"/t\"\n[github]\napi_url = \"{api_url}\"\n[[target]]\nrepo = \"acme/web\"\n\
             [class.a]\nlabels = [\"x\"]\n[class.a.network]\n{network}\n"
        );
        check(toml::from_str(&text).unwrap()).unwrap()
    }

    fn said(api_url: &str, network: &str, address: [u8; 4]) -> String {
        let find = |_: &str, _: u16| Ok(vec![IpAddr::V6(std::net::Ipv6Addr::LOCALHOST), IpAddr::from(address)]);
        forge(&settings(api_url, network), find).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_forge_at_a_private_address_is_told_with_what_to_allow() {
        let url = "https://ghe.corp.example/api/v3";
        let told = said(url, "", [10, 1, 2, 3]);
        for words in ["class.a.network.allow", "ghe.corp.example (10.1.2.3)", "add \"10.1.2.3:443\""] {
            assert!(told.contains(words), "{words} in {told}");
        }
        for (network, address) in [
            ("allow = [\"10.1.2.3:443\"]", [10, 1, 2, 3]),
            ("allow = [\"10.1.0.0/16\"]", [10, 1, 2, 3]),
            ("internet = false\nallow = [\"192.0.2.1:400-500\"]", [192, 0, 2, 1]),
            ("", [192, 0, 2, 1]),
        ] {
            assert_eq!(said(url, network, address), "", "{network}");
        }
        assert!(said(url, "allow = [\"10.1.2.3:80\"]", [10, 1, 2, 3]).contains("10.1.2.3:443"), "another port");
        assert!(said(url, "internet = false", [192, 0, 2, 1]).contains("no address that is not named"));
        assert!(
            said("http://10.9.9.9:8080", "", [0; 4]).contains("add \"10.9.9.9:8080\""),
            "an address is not looked up"
        );
    }

    /// What is found of a forge at a public address behind a proxy in the LAN.
    fn with_proxy(more: &str) -> (Settings, String) {
        let url = "https://api.github.com";
        let mut settings = settings(url, more);
        settings.proxy = Some(Proxy {
            host: "proxy.lan".into(),
            port: 3128,
            address: [10, 0, 0, 9].into(),
            except: vec!["corp.example".into()],
        });
        let never = |_: &str, _: u16| panic!("asked");
        let told = forge(&settings, never).iter().map(ToString::to_string).collect();
        (settings, told)
    }

    #[test]
    fn a_forge_behind_a_proxy_is_reached_by_the_proxy_and_not_looked_for() {
        assert_eq!(with_proxy("").1, "");
        assert_eq!(with_proxy("internet = false\nallow = [\"10.0.0.9:3128\"]").1, "");
        let told = with_proxy("internet = false\nallow = [\"192.0.2.0/24:443\"]").1;
        for words in ["class.a.network.allow", "proxy http://proxy.lan:3128", "api.github.com", "add \"10.0.0.9:3128\""]
        {
            assert!(told.contains(words), "{words} in {told}");
        }
    }

    #[test]
    fn a_proxy_is_told_by_its_name_with_what_it_leads_to_and_why_not() {
        let (mut settings, _) = with_proxy("");
        let told = |settings: &Settings, works: bool| {
            let connect = |host: &str, port: u16| match works {
                true if (host, port) == ("proxy.lan", 3128) => Ok(()),
                _ => Err(io::Error::from(io::ErrorKind::ConnectionRefused)),
            };
            proxy(settings, connect).unwrap().to_string()
        };
        assert!(told(&settings, true).contains("http://proxy.lan:3128 takes connections, and api.github.com is"));
        assert!(told(&settings, false).contains("http://proxy.lan:3128 takes no connection: connection refused"));
        let dns: String = resolvers(&settings, |_, _| false).iter().map(ToString::to_string).collect();
        assert!(dns.contains("http://proxy.lan:3128 finds api.github.com for runners"), "{dns}");
        settings.proxy.as_mut().unwrap().except = vec!["github.com".into()];
        assert!(told(&settings, true).contains("no forge is reached through it"));

        let variable = |name: &str| (name == "HTTPS_PROXY").then(|| "http://me:swordfish@proxy.lan:3128".to_owned());
        assert_eq!(unused_proxy(&settings, variable), None);
        settings.proxy = None;
        let told = unused_proxy(&settings, variable).unwrap().to_string();
        assert!(told.contains("HTTPS_PROXY is set") && !told.contains("swordfish"), "{told}");
        assert_eq!(unused_proxy(&settings, |_| None), None);
        assert_eq!(proxy(&settings, |_, _| Ok(())), None);
    }

    #[test]
    fn a_service_that_nobody_serves_or_nobody_names_is_told() {
        let table = "[service.registry]\naddress = \"127.0.0.1:5000\"";
        let named = settings("https://api.github.com", &format!("[class.b]\nservices = [\"registry\"]\n{table}"));
        let told = |settings: &Settings, works: bool| {
            let connect = |host: &str, port: u16| match works && (host, port) == ("127.0.0.1", 5000) {
                true => Ok(()),
                false => Err(io::Error::from(io::ErrorKind::ConnectionRefused)),
            };
            services(settings, connect).iter().map(ToString::to_string).collect::<String>()
        };
        assert!(told(&named, true).contains("jobs of b find it at registry.host.internal:5000"));
        let refused = told(&named, false);
        assert!(refused.starts_with("error") && refused.contains("nothing listens at 127.0.0.1:5000"), "{refused}");
        assert!(told(&settings("https://api.github.com", table), true).contains("no class names the service"));
    }

    #[test]
    fn resolvers_of_which_none_answers_are_told_once_asked() {
        let dns = "dns = [\"192.0.2.1\", \"192.0.2.2\"]";
        let settings = settings("https://api.github.com", dns);
        let told: String = resolvers(&settings, |_, _| false).iter().map(ToString::to_string).collect();
        assert!(told.contains("192.0.2.1, 192.0.2.2") && told.contains("cannot find api.github.com"), "{told}");
        let one = |server: Ipv4Addr, name: &str| server.octets()[3] == 2 && name == "api.github.com";
        assert_eq!(resolvers(&settings, one), []);
    }

    #[test]
    fn nobody_is_asked_for_an_address_or_where_the_template_has_its_own_resolvers() {
        let never = |_: Ipv4Addr, _: &str| panic!("asked");
        assert_eq!(resolvers(&settings("http://192.0.2.9", ""), never), []);
        assert_eq!(resolvers(&settings("https://api.github.com", "dns = []"), never), []);
    }

    #[test]
    fn a_resolver_is_asked_as_resolvers_are_and_one_that_is_silent_is_not_waited_for_long() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let at = server.local_addr().unwrap();
        let serving = thread::spawn(move || {
            let mut asked = [0; 512];
            let (length, from) = server.recv_from(&mut asked).unwrap();
            let wire = [&[3][..], b"api", &[6], b"github", &[3], b"com", &[0, 0, 1, 0, 1]].concat();
            assert_eq!(asked[12..length], wire);
            asked[2] |= 0x80;
            server.send_to(&asked[..length], from).unwrap();
            server
        });
        assert!(asked(at, "api.github.com").unwrap());
        // It is there and says nothing.
        let _silent = serving.join().unwrap();
        let begun = std::time::Instant::now();
        assert!(!asked(at, "api.github.com").unwrap_or(false));
        assert!(begun.elapsed() < PATIENCE * 2);
    }
}
