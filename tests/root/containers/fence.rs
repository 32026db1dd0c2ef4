//! What a class says of its network, with real packets.

use contract::event::What;
use lab::{Place, Recipe, Running, Suite};

use super::host::{Host, HostConfig};

/// Answers whoever connects with the address they come from.
const SERVE: &str = "use IO::Socket::INET; $s = IO::Socket::INET->new(Listen => 5, LocalPort => $ARGV[0], ReuseAddr => 1) \
                     or die; while ($c = $s->accept) { print $c $c->peerhost, \"\\n\"; close $c }";

fn serve(host: &Host, ports: &[&str]) -> Vec<Running> {
    Place::ALL
        .iter()
        .copied()
        .flat_map(|place| ports.iter().map(move |port| (place, *port)))
        .map(|(place, port)| host.lab.spawn_in(place, &["perl", "-e", SERVE, port]).unwrap())
        .collect()
}

#[test]
fn a_class_without_internet_reaches_what_it_names_and_nothing_else() {
    let config = HostConfig {
        job: r#"
            probe() {
                heard=$(timeout 1 bash -c "exec 3<>/dev/tcp/$2/$3; head -n 1 <&3" 2>/dev/null)
                echo "probe $1: $? $heard"
            }
            probe lan-allowed 192.168.50.10 80
            probe lan-range 192.168.50.10 444
            probe lan-other-port 192.168.50.10 81
            probe host-allowed 192.168.50.2 80
            probe host-other-port 192.168.50.2 81
            probe published 192.168.50.2 8080
            probe published-but-not-named 192.168.50.2 8081
            probe shared 203.0.113.10 80
            probe shared-other-port 203.0.113.10 81
            probe shared-by-another-link 192.168.50.1 80
            probe service local.host.internal 82
            probe service-by-address 169.254.8.8 82
            probe service-not-named 169.254.8.8 83
            probe service-on-another-port 169.254.8.8 80
            probe service-on-the-host 192.168.50.2 82
            probe service-in-the-lan lan.host.internal 446
            probe resolver 192.168.50.10 53
            probe internet 198.51.100.7 80
            probe other-resolver 198.51.100.7 53
        "#
        .into(),
        class: r#"
            services = ["local", "lan"]
            [service]
            local.address = "127.0.0.1:82"
            not-named.address = "127.0.0.1:83"
            lan.address = "192.168.50.10:446"
            [class.medium.network]
            internet = false
            allow = ["192.168.50.10:80,443-445", "192.168.50.2:80,8080"]
            shared = ["database", "astray"]
            dns = ["192.168.50.10"]
            [network.shared]
            database = { destination = "203.0.113.0/24:80", interface = "eth0" }
            astray = { destination = "192.168.50.1", interface = "br-other" }
        "#
        .into(),
        // As Docker on the host publishes a port: who asks for it is sent somewhere that nobody named.
        setup: "nft add table ip published
                nft add chain ip published prerouting '{ type nat hook prerouting priority dstnat; }'
                nft add rule ip published prerouting ip daddr 192.168.50.2 tcp dport { 8080, 8081 } dnat to 192.168.50.10:81"
            .into(),
        ..HostConfig::default()
    };
    let Some(host) = Host::boot_with(&config) else { return };
    let _servers = serve(&host, &["53", "80", "81", "444", "446"]);
    let local = SERVE.replace("Listen => 5,", "Listen => 5, LocalAddr => '127.0.0.1',");
    let _local = ["82", "83"].map(|port| host.lab.spawn_in(Place::Host, &["perl", "-e", &local, port]).unwrap());
    host.hand_over("j0000801", 1);
    host.start("j0000801").unwrap();
    host.ending("j0000801");
    let journal = host.journal("j0000801");
    for expected in [
        "probe lan-allowed: 0 192.168.50.2",
        "probe lan-range: 0 192.168.50.2",
        "probe lan-other-port: 124",
        "probe host-allowed: 0 192.168.101.2",
        "probe host-other-port: 124",
        "probe published: 0 192.168.50.2",
        "probe published-but-not-named: 124",
        "probe shared: 0 192.168.50.2",
        "probe shared-other-port: 124",
        "probe shared-by-another-link: 124",
        // Whoever serves knows containers by their own addresses.
        "probe service: 0 192.168.101.2",
        "probe service-by-address: 0 192.168.101.2",
        "probe service-not-named: 124",
        "probe service-on-another-port: 124",
        "probe service-on-the-host: 124",
        "probe service-in-the-lan: 0 192.168.50.2",
        "probe resolver: 0 192.168.50.2",
        "probe internet: 124",
        "probe other-resolver: 124",
    ] {
        assert!(journal.contains(expected), "{expected}:\n{journal}");
    }
}

#[test]
fn a_container_keeps_its_way_out_when_the_table_is_loaded_anew_and_a_table_with_a_hole_starts_nobody() {
    let job = r#"
        trap 'exit 0' INT
        say "Listening for Jobs"
        while :; do
            timeout 1 bash -c "exec 3<>/dev/tcp/198.51.100.7/80; head -n 1 <&3" >/dev/null 2>&1 && echo "out $(cat /proc/uptime)"
            timeout 1 bash -c "exec 3<>/dev/tcp/192.168.50.10/80; head -n 1 <&3" >/dev/null 2>&1 && echo "let loose"
            sleep 0.2
        done
    "#;
    let Some(host) = Host::boot(job) else { return };
    let _servers = serve(&host, &["80"]);
    host.hand_over("j0000810", 0);
    host.start("j0000810").unwrap();
    host.wait_for("j0000810", &What::Listening);
    let outs = || host.journal("j0000810").matches("]: out ").count();
    let goes_on = || {
        let before = outs();
        std::thread::sleep(std::time::Duration::from_secs(4));
        assert!(outs() > before, "{}", host.journal("j0000810"));
    };
    goes_on();
    host.lab.shell("systemctl reload gha-runner-firewall.service").unwrap();
    goes_on();
    host.lab.shell("nft insert rule inet gha_runner input accept").unwrap();
    host.hand_over("j0000811", 1);
    assert!(host.start("j0000811").is_err());
    let error = host.ending("j0000811").error.unwrap();
    assert!(error.contains("not what the settings say") && error.contains("restart"), "{error}");
    host.lab.shell("systemctl restart gha-runner-firewall.service").unwrap();
    host.hand_over("j0000811", 1);
    host.start("j0000811").unwrap();
    goes_on();
    assert!(!host.journal("j0000810").contains("let loose"));
    host.stop("j0000810");
    host.stop("j0000811");
    host.ending("j0000811");
    let elements = host.lab.shell("nft list table inet gha_runner | grep -c gj-j || true").unwrap();
    assert_eq!(elements, "0", "what is per container goes with it");
}

#[test]
fn a_pool_that_the_host_uses_already_is_refused_at_the_start_by_name() {
    let Some(host) = Host::boot("say 'Listening for Jobs'") else { return };
    // As after a boot: a table that is there stays as it is.
    host.lab.shell("ip route add 192.168.150.0/24 dev lo; nft delete table inet gha_runner").unwrap();
    let restarted = host.lab.exec(Place::Host, &["systemctl", "restart", "gha-runner-firewall.service"]).unwrap();
    assert!(!restarted.success());
    let journal = host.lab.journal("gha-runner-firewall.service").unwrap();
    assert!(journal.contains("collides with 192.168.150.0/24, which this host reaches by lo"), "{journal}");
    // Without a table nobody is started; with the other network gone all is well.
    host.hand_over("j0000820", 0);
    assert!(host.start("j0000820").is_err());
    host.lab.shell("ip route del 192.168.150.0/24 dev lo; systemctl restart gha-runner-firewall.service").unwrap();
    host.hand_over("j0000821", 1);
    host.start("j0000821").unwrap_or_else(|error| panic!("{error}"));
}

/// Answers whoever connects with the largest segment it will send there.
const SEGMENT: &str = "use IO::Socket::INET; $s = IO::Socket::INET->new(Listen => 5, LocalPort => 80, ReuseAddr => 1) or die; \
                       while ($c = $s->accept) { print $c unpack('i', getsockopt($c, 6, 2)), \"\\n\"; close $c }";

#[test]
fn packets_are_no_larger_than_the_hosts_way_out_takes() {
    let config = HostConfig {
        job: r#"
            say "Listening for Jobs"
            echo "link: $(cat /sys/class/net/gp-*/mtu)"
            docker network create side > /dev/null
            for network in bridge side; do
                docker network inspect --format "$network: {{index .Options \"com.docker.network.driver.mtu\"}}" $network
            done
            # Somebody inside who knows no better.
            sudo ip link set dev "$(ls /sys/class/net | grep gp-)" mtu 1500
            echo "segment: $(timeout 2 bash -c 'exec 3<>/dev/tcp/198.51.100.7/80; head -n 1 <&3')"
        "#
        .into(),
        tree: Recipe::DOCKER.of(Suite::Trixie),
        class: "[class.medium.docker]\nenable = true\n".into(),
        setup: "ip link set dev eth0 mtu 1400".into(),
        ..HostConfig::default()
    };
    let Some(host) = Host::boot_with(&config) else { return };
    let _server = host.lab.spawn_in(Place::Internet, &["perl", "-e", SEGMENT]).unwrap();
    host.hand_over("j0000830", 1);
    host.start("j0000830").unwrap();
    host.ending("j0000830");
    let journal = host.journal("j0000830");
    for expected in ["link: 1400", "bridge: 1400", "side: 1400"] {
        assert!(journal.contains(expected), "{expected}:\n{journal}");
    }
    let segment = journal.split("segment: ").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap_or_default();
    let segment: u32 = segment.parse().unwrap_or_else(|_| panic!("{journal}"));
    // 1400 bytes without the headers of IP and TCP; options of TCP take a few more.
    assert!((1300..=1360).contains(&segment), "{segment}:\n{journal}");
}
