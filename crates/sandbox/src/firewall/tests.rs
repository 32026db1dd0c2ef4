#![allow(clippy::unwrap_used)]
use std::process::Command;

use kernel::syscall::{Namespace, unshare};
use settings::check::check;

use super::*;
use crate::ContainerPlan;

const CONFIG: &str = r#"
    token_file = "/t"
    [[target]]
    repo = "o/r"
    [network]
    dns = ["192.168.1.1", "9.9.9.9"]
    deny = ["203.0.113.0/24", "10.1.0.0/16", "128.0.0.0/1", "8.8.8.8", "9.0.0.0/9"]
    shared.db = { destination = "10.8.0.0/24:5432", interface = "br-db" }
    [proxy]
    url = "http://192.168.1.9:3128"
    [service.registry]
    address = "127.0.0.1:5000"
    [service.cache]
    address = "127.0.0.2:5001"
    [service.db]
    address = "192.168.1.7:5432"
    [class.medium]
    services = ["registry", "db"]
    [class.one-resolver.network]
    dns = ["1.1.1.1"]
    [class.closed.network]
    internet = false
    dns = []
    allow = ["192.168.1.20:80,443,8000-8010", "10.9.0.0/16", "10.7.0.1:1"]
    shared = ["db"]
"#;

fn settings(toml: &str) -> Settings {
    check(toml::from_str(toml).unwrap()).unwrap()
}

/// Runs a test in a network namespace of its own, or says why not.
fn alone(test: impl FnOnce() + Send + 'static) {
    if !rustix::process::geteuid().is_root() || Command::new("nft").arg("--version").output().is_err() {
        println!("skipped: needs root and nft");
        return;
    }
    let in_thread = || {
        unshare(Namespace::Network).unwrap();
        test();
    };
    std::thread::spawn(in_thread).join().unwrap();
}

fn nft(command: &str) {
    assert!(Command::new("nft").args(command.split(' ')).status().unwrap().success(), "{command}");
}

fn admit_one(settings: &Settings) -> anyhow::Result<()> {
    admit(settings, &"j1234567".parse().unwrap(), "closed", Ipv4Addr::new(192, 168, 100, 2))
}

#[test]
fn the_table_that_is_read_is_the_table_that_was_written_whatever_the_settings() {
    alone(|| {
        let least = settings("token_file = \"/t\"\n[[target]]\nrepo = \"o/r\"\n");
        let none = Path::new("/nonexistent");
        assert!(admit_one(&least).unwrap_err().to_string().contains("not loaded"));
        for settings in [&settings(CONFIG), &least, &settings(CONFIG)] {
            load(settings, none).unwrap();
        }
        admit_one(&settings(CONFIG)).unwrap();
        let other = format!("{:#}", admit_one(&least).unwrap_err());
        assert!(other.contains("not what the settings say") && other.contains("restart"), "{other}");
        remove().unwrap();
        remove().unwrap();
        assert_eq!(admitted().unwrap(), []);
    });
}

/// Docker on the host gives packets for a port that it publishes another address before the fence sees them.
#[test]
fn a_destination_is_judged_by_the_address_that_the_container_asked_for() {
    let settings = settings(CONFIG);
    let rules = chain_of(&settings.classes["closed"], &settings);
    let to = |rule: &Value| rule.pointer("/rule/comment").and_then(Value::as_str).map(str::to_owned);
    for rule in rules.iter().filter(|rule| matches!(to(rule).as_deref(), Some("allowed" | "shared"))) {
        let text = rule.to_string();
        assert!(text.contains(r#"{"ct":{"dir":"original","key":"ip daddr"}}"#), "{text}");
        assert!(!text.contains("dport") && !text.contains(r#""field":"daddr""#), "{text}");
    }
    // And the neighbourhood by where packets go.
    let all = table::objects(&settings);
    let kept = all.iter().find(|rule| to(rule).as_deref() == Some("not the neighbourhood")).unwrap().to_string();
    assert!(kept.contains(r#""field":"daddr""#) && !kept.contains("original"), "{kept}");
}

/// A proxy is a way to the internet: a class without internet names it itself, or has none.
#[test]
fn the_proxy_is_reached_at_its_port_alone_and_by_classes_with_internet() {
    let settings = settings(CONFIG);
    for (class, expected) in [("medium", 1), ("one-resolver", 1), ("closed", 0)] {
        let rules = chain_of(&settings.classes[class], &settings);
        let to: Vec<&Value> = rules.iter().filter(|rule| rule.to_string().contains("192.168.1.9")).collect();
        assert_eq!(to.len(), expected, "{class}: {to:#?}");
        for text in to.iter().map(|rule| rule.to_string()) {
            assert!(text.contains("3128") && text.contains("tcp") && !text.contains("udp"), "{text}");
        }
    }
}

/// All containers find the loopback's services at one address, and a class decides which of them.
#[test]
fn a_service_is_reached_at_its_port_alone_and_by_classes_that_name_it() {
    let settings = settings(CONFIG);
    let chain = |class: &str| -> String {
        chain_of(&settings.classes[class], &settings).iter().map(|rule| format!("{rule}\n")).collect()
    };
    let to = |address: &str, port: u16| {
        let medium = chain("medium");
        let rules: Vec<&str> = medium.lines().filter(|rule| rule.contains(address)).collect();
        let [rule] = rules[..] else { panic!("{address}: {rules:?}") };
        let is_tcp = rule.contains("tcp") && !rule.contains("udp");
        assert!(is_tcp && rule.contains(&format!("\"right\":{port}}}")) && rule.contains("original"), "{rule}");
    };
    to("169.254.8.8", 5000);
    to("192.168.1.7", 5432);
    for class in ["closed", "one-resolver"] {
        let rules = chain(class);
        assert!(!rules.contains("169.254.8.8") && !rules.contains("192.168.1.7"), "{rules}");
    }
    let all = table::objects(&settings);
    let translated = all.iter().filter(|object| object["rule"]["chain"] == "services").map(Value::to_string);
    let translated: Vec<String> = translated.collect();
    assert_eq!(translated.len(), 2, "{translated:#?}");
    assert!(translated[0].contains(r#""addr":"127.0.0.2","family":"ip","port":5001"#), "{translated:#?}");
}

#[test]
fn a_table_that_was_tampered_with_admits_nobody() {
    alone(|| {
        let settings = settings(CONFIG);
        for tampering in [
            "insert rule inet gha_runner forward accept",
            "add rule inet gha_runner class_medium accept",
            "flush chain inet gha_runner prerouting",
            "delete element inet gha_runner forbidden { 10.0.0.0/8 }",
            "add chain inet gha_runner early { type filter hook input priority -1 ; }",
            "flush table inet gha_runner",
            "delete table inet gha_runner",
        ] {
            load(&settings, Path::new("/nonexistent")).unwrap();
            admit_one(&settings).unwrap();
            nft(tampering);
            assert!(admit_one(&settings).is_err(), "{tampering}");
        }
    });
}

#[test]
fn rules_in_another_order_are_another_table() {
    let all = table::objects(&settings(CONFIG));
    assert!(verify::same(&all, &all).is_ok());
    for index in 1..all.len() {
        let mut fewer = all.clone();
        let taken = fewer.remove(index);
        assert!(verify::same(&all, &fewer).is_err(), "{taken}");
        assert!(verify::same(&fewer, &all).is_err(), "{taken}");
    }
    let rules: Vec<usize> = (0..all.len()).filter(|index| all[*index]["rule"]["chain"] == "forward").collect();
    let mut swapped = all.clone();
    swapped.swap(rules[0], rules[1]);
    assert!(verify::same(&all, &swapped).is_err());
}

/// Once a container has sent something, nftables 1.1.7 lists the set of those that did with its flags, its elements and
/// how many they are; the one of Debian 12 lists neither flags nor number.
#[test]
fn what_a_version_of_nft_says_of_those_that_have_sent_something_is_no_difference() {
    let all = table::objects(&settings(CONFIG));
    let mut read = all.clone();
    let flows = read.iter_mut().find(|object| object["set"]["name"] == FLOWS).unwrap();
    let flows = flows["set"].as_object_mut().unwrap();
    flows.insert("handle".into(), 7.into());
    flows.insert("flags".into(), json!(["dynamic"]));
    flows.insert("elem".into(), json!([{"elem": {"val": "gj-j0000001", "ct count": {"val": 8192, "inv": true}}}]));
    flows.insert("count".into(), 1.into());
    verify::same(&all, &read).unwrap();
}

#[test]
fn containers_come_and_go_as_elements_and_stay_when_the_table_is_loaded_anew() {
    alone(|| {
        let settings = settings(CONFIG);
        let home = tempfile::tempdir().unwrap();
        let record = |name: &str, class: &str, step: &str| {
            let name: ContainerName = name.parse().unwrap();
            let record = RecordDirectory::at(home.path().join(name.as_str()));
            record.create().unwrap();
            let plan = serde_json::json!({"name": name, "class": class, "subnet": "192.168.100.0/24", "uid_base": 1, "privileged": false,
                "root": {"tree": "/"}, "runner": "/r", "user": "runner", "dns": []});
            record.put_plan(&serde_json::from_value::<ContainerPlan>(plan).unwrap()).unwrap();
            record.put_step(step).unwrap();
            name
        };
        let stays = record("j0000001", "medium", "run");
        record("j0000002", "medium", record::TEARDOWN);
        record("j0000003", "gone", "run");
        load(&settings, home.path()).unwrap();
        assert_eq!(admitted().unwrap(), [stays.clone(), stays.clone()]);
        admit_one(&settings).unwrap();
        admit_one(&settings).unwrap();
        assert_eq!(admitted().unwrap().len(), 4);
        for _ in 0..2 {
            expel(&"j1234567".parse().unwrap()).unwrap();
            assert_eq!(admitted().unwrap(), [stays.clone(), stays.clone()]);
        }
        expel(&stays).unwrap();
        assert_eq!(admitted().unwrap(), []);
    });
}

#[test]
fn a_container_keeps_what_its_class_allowed_when_the_class_is_gone_and_lends_it_to_nobody() {
    alone(|| {
        let (before, after) =
            (settings(CONFIG), settings(&CONFIG.replace("[class.one-resolver.network]", "[class.x.network]")));
        let home = tempfile::tempdir().unwrap();
        for name in ["j0000001", "j0000002"] {
            let record = RecordDirectory::at(home.path().join(name));
            record.create().unwrap();
            let plan = serde_json::json!({"name": name, "class": "one-resolver", "subnet": "192.168.100.0/24", "uid_base": 1,
                "privileged": false, "root": {"tree": "/"}, "runner": "/r", "user": "runner", "dns": [],
                "fence": chain_of(&before.classes["one-resolver"], &before)});
            record.put_plan(&serde_json::from_value::<ContainerPlan>(plan).unwrap()).unwrap();
            record.put_step("run").unwrap();
        }
        let chain = || {
            let output = Command::new("nft").args("list chain inet gha_runner class_one_resolver".split(' ')).output();
            String::from_utf8(output.unwrap().stdout).unwrap()
        };
        load(&before, home.path()).unwrap();
        let allowed = chain();
        assert!(allowed.contains("1.1.1.1"), "{allowed}");
        for _ in 0..2 {
            load(&after, home.path()).unwrap();
            assert_eq!((chain(), admitted().unwrap().len()), (allowed.clone(), 4));
        }
        admit_one(&after).unwrap();
        std::fs::remove_dir_all(home.path().join("j0000001")).unwrap();
        std::fs::remove_dir_all(home.path().join("j0000002")).unwrap();
        load(&after, home.path()).unwrap();
        assert_eq!(chain(), "");
    });
}

#[test]
fn a_pool_that_something_else_uses_is_refused_and_our_own_links_are_not_something_else() {
    alone(|| {
        let settings = settings(CONFIG);
        let netlink = Netlink::open().unwrap();
        let mac = |last| [2, 0x67, 0, 0, 0, last];
        for (host, guest, address) in [("gj-j1234567", "gp-j1234567", 100), ("br-lan", "peer", 120)] {
            netlink.add_pair(host, mac(address), guest, mac(address + 1), 1500).unwrap();
            netlink.add_address(host, Ipv4Addr::new(192, 168, address, 1).into()).unwrap();
            netlink.set_up(host).unwrap();
            let loaded = load(&settings, Path::new("/nonexistent"));
            if host == "br-lan" {
                let said = format!("{:#}", loaded.unwrap_err());
                assert!(
                    said.contains("192.168.120.1/32") && said.contains("br-lan") && said.contains("e.g."),
                    "{said}"
                );
            } else {
                loaded.unwrap();
            }
        }
    });
}

#[test]
fn a_forward_policy_of_somebody_else_that_stands_in_the_way_is_noticed() {
    alone(|| {
        nft("add table ip filter");
        nft("add chain ip filter FORWARD { type filter hook forward priority 0 ; policy drop ; }");
        nft("add chain ip filter INPUT { type filter hook input priority 0 ; policy drop ; }");
        load(&settings(CONFIG), Path::new("/nonexistent")).unwrap();
        let chains = objects_of(&["list", "chains"]).unwrap().unwrap();
        assert_eq!(refusing(&chains), [("ip filter".to_owned(), "FORWARD".to_owned())]);
    });
}
