//! A host that reaches the forge only through an HTTP proxy in its LAN, which is Debian's tinyproxy: controller, runner and
//! job go through it, and reach nothing else of its machine.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use controller::cause::Cause;
use github_sim::world::Conclusion;
use lab::{ForwardProxy, Place};
use stage::{SERVICE, Stage, StageConfig};

const MINUTE: Duration = Duration::from_secs(60);
/// Another service beside the proxy.
const OTHER_PORT: u16 = 3129;
const SERVE: &str = "use IO::Socket::INET; my $s = IO::Socket::INET->new(Listen => 5, LocalPort => $ARGV[0], ReuseAddr => 1) \
                     or die; while (my $c = $s->accept) { print $c \"hello\\n\"; close $c }";
const CHECK: [&str; 4] =
    ["/usr/local/bin/gha-runner-controller", "check", "--config", "/etc/gha-runner-controller/config.toml"];

#[test]
fn a_job_behind_a_proxy_is_found_and_run_through_it_and_reaches_nothing_else_of_its_machine() {
    if let Some(reason) = ForwardProxy::missing() {
        println!("skipped: {reason}");
        return;
    }
    let (lan, forge) = (Place::Lan.address(), Place::Forge.address());
    let defaults = StageConfig::default();
    let config = StageConfig {
        setup: format!("echo '{lan} proxy.lan' >> /etc/hosts"),
        classes: format!(
            "{}[proxy]\nurl = \"http://proxy.lan:{}\"\naddress = \"{lan}\"\nexcept = [\"corp.example\"]\n",
            defaults.classes,
            ForwardProxy::PORT
        ),
        start: false,
        ..defaults
    };
    let Some(stage) = Stage::boot(&config).unwrap() else { return };
    let straight = || {
        let script = format!("timeout 2 bash -c 'exec 3<>/dev/tcp/{forge}/80'");
        stage.lab.exec(Place::Host, &["sh", "-c", &script]).unwrap().success()
    };
    assert!(straight());
    let (from, to) = (Place::Host.address().to_string(), forge.to_string());
    stage
        .lab
        .exec(Place::Router, &["ip", "rule", "add", "from", &from, "to", &to, "prohibit"])
        .unwrap()
        .check()
        .unwrap();
    assert!(!straight(), "the direct way is cut off");

    // Nobody is there yet: it is told by name, to who asks and in the journal.
    let told = stage.lab.exec(Place::Host, &CHECK).unwrap();
    assert_eq!(told.status.code(), Some(1), "{}", told.text());
    for words in ["http://proxy.lan:3128 takes no connection", "the proxy http://proxy.lan:3128 cannot be reached"] {
        assert!(told.text().contains(words), "{words} in {}", told.text());
    }
    let proxy = ForwardProxy::start(&stage.lab, Place::Lan).unwrap();
    let _other = stage.lab.spawn_in(Place::Lan, &["perl", "-e", SERVE, &OTHER_PORT.to_string()]).unwrap();
    stage.systemctl(&["start", SERVICE]).unwrap();

    let script = format!(
        "env | grep -i _proxy= | sort
        sudo env | grep ^https_proxy= | sed 's/^/by sudo: /'
        sudo systemctl show-environment | grep ^HTTPS_PROXY= | sed 's/^/of services: /'
        getent hosts proxy.lan
        curl --silent --show-error --output /dev/null --write-out 'the forge: %{{response_code}}\\n' http://{forge}/meta
        timeout 2 bash -c 'exec 3<>/dev/tcp/{lan}/{OTHER_PORT}' || echo \"beside the proxy: $?\"
        timeout 2 bash -c 'exec 3<>/dev/tcp/{forge}/80' || echo \"straight: $?\""
    );
    let (_, job) = stage.queue_small("behind a proxy", &script).unwrap();
    let done = stage.hub.wait_completed(job, MINUTE).unwrap();
    assert_eq!(done.conclusion, Some(Conclusion::Success), "{done:#?}");
    let url = "http://proxy.lan:3128";
    for (name, value) in [
        ("http_proxy", url),
        ("HTTP_PROXY", url),
        ("https_proxy", url),
        ("HTTPS_PROXY", url),
        ("no_proxy", "localhost,127.0.0.1,::1,corp.example"),
        ("NO_PROXY", "localhost,127.0.0.1,::1,corp.example"),
        ("by sudo: https_proxy", url),
        ("of services: HTTPS_PROXY", url),
    ] {
        let line = format!("{name}={value}");
        assert!(done.output.lines().any(|found| found.ends_with(&line)), "{line} in {}", done.output);
    }
    for line in ["the forge: ", "beside the proxy: 124", "straight: "] {
        assert!(done.output.contains(line), "{line} in {}", done.output);
    }
    assert!(!done.output.contains("the forge: 000"), "{}", done.output);
    assert_eq!(stage.wait_finished(job, MINUTE).unwrap().cause, Cause::Succeeded);
    // The other service is there for who may reach it.
    let script = format!("timeout 2 bash -c 'read line <> /dev/tcp/{lan}/{OTHER_PORT}; echo $line'");
    assert_eq!(stage.lab.shell(&script).unwrap(), "hello");

    // The controller asks for tunnels, a runner asks for http addresses as all programs do.
    let requests = proxy.requests().unwrap();
    assert!(requests.iter().any(|request| request.starts_with(&format!("CONNECT {forge}:80 "))), "{requests:#?}");
    for what in ["POST", "GET"] {
        let begins = format!("{what} http://{forge}/");
        assert!(requests.iter().any(|request| request.starts_with(&begins)), "{begins} in {requests:#?}");
    }
    let told = stage.lab.exec(Place::Host, &CHECK).unwrap().check().unwrap().text();
    assert!(told.contains(&format!("{url} takes connections, and {forge} is reached through it")), "{told}");
    stage.wait_until_clean(MINUTE).unwrap();
}
