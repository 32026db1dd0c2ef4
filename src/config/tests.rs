#![allow(clippy::unwrap_used)]

use std::{io::Write, os::unix::fs::PermissionsExt, path::PathBuf, time::Duration};

use super::*;

/// An environment of these variables.
fn env<'a>(variables: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
    |key| variables.iter().find(|(name, _)| *name == key).map(|(_, value)| (*value).to_owned())
}

const LEAST: [(&str, &str); 2] = [("GITHUB_REPO", "octo-org/hello"), ("GITHUB_TOKEN_FILE", "/run/secrets/token")];

fn written(text: &str, suffix: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::Builder::new().suffix(suffix).tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn refused(text: &str) -> String {
    let file = written(text, ".toml");
    load(Some(file.path()), env(&LEAST)).unwrap_err().to_string()
}

#[test]
fn two_variables_and_no_file_are_enough() {
    let settings = load(None, env(&LEAST)).unwrap();
    assert_eq!(settings.targets[0].repo, "octo-org/hello");
    assert_eq!((settings.max_concurrent, settings.poll_interval.as_secs()), (7, 10));
    assert_eq!((settings.job_timeout.as_secs(), settings.http.port), (7200, 8080));
    assert_eq!(settings.state_dir, PathBuf::from("/var/lib/gha-runner-controller"));
    assert_eq!(settings.classes["default"].labels, ["self-hosted", "ci", "nix", "x64", "Linux"]);
    assert_eq!(settings.network.pool.len(), 100);
}

#[test]
fn the_environment_overrides_the_file() {
    let file = written("max_concurrent = 2\npoll_interval = \"1m\"\n[http]\nport = 1\n", ".toml");
    let mut variables = LEAST.to_vec();
    variables.extend([
        ("MAX_CONCURRENT", "9"),
        ("POLL_INTERVAL", "20"),
        ("JOB_TIMEOUT", "1h"),
        ("RUNNER_LABELS", "a, b"),
        ("STATE_DIR", "/srv/state"),
        ("HTTP_PORT", "9090"),
    ]);
    let settings = load(Some(file.path()), env(&variables)).unwrap();
    assert_eq!((settings.max_concurrent, settings.http.port), (9, 9090));
    assert_eq!(settings.poll_interval, Duration::from_secs(20));
    assert_eq!(settings.classes["default"].timeout, Duration::from_secs(3600));
    assert_eq!(settings.classes["default"].labels, ["a", "b"]);
    assert_eq!(settings.state_dir, PathBuf::from("/srv/state"));
}

#[test]
fn toml_and_json_say_the_same() {
    let toml = written(
        "poll_interval = \"30s\"\n[class.big]\nlabels = [\"big\"]\nmemory = \"2G\"\ncpus = 1.5\n[network]\n\
         pool = \"10.7.0.0/16\"\nprefix = 28\n",
        ".toml",
    );
    let json = written(
        r#"{"poll_interval": "30s", "class": {"big": {"labels": ["big"], "memory": 2147483648, "cpus": 1.5}},
            "network": {"pool": "10.7.0.0/16", "prefix": 28}}"#,
        ".json",
    );
    let settings = load(Some(toml.path()), env(&LEAST)).unwrap();
    assert_eq!(settings, load(Some(json.path()), env(&LEAST)).unwrap());
    assert_eq!(settings.network.pool.len(), 4096);
}

#[test]
fn the_resolved_settings_read_back_the_same() {
    let file = written(
        "host_name = \"h\"\n[[target]]\nrepo = \"a/b\"\ntoken_file = \"/t\"\n[class.big]\nlabels = [\"x\"]\nmin_idle = 1\n\
         gpu = true\ndisk = \"9G\"\nio_weight = 50\n[limits]\nmemory = \"8G\"\ncpus = 3.5\n\
         [class.big.network]\ninternet = false\nallow = [\"192.168.1.20:5432\"]\nshared = [\"db\"]\ndns = [\"10.0.0.1\"]\n\
         [class.big.cache.ccache]\nat = \"/home/runner/.cache/ccache\"\nsize = \"1G\"\nper = \"class\"\n[class.big.cache.other]\n\
         [class.bare]\nprivileged = true\n[class.big.docker]\nenable = true\nmirror = \"https://mirror\"\nkeep = true\nkeep_size = \"3G\"\n\
         [ids]\nfirst = 655360\n[network.shared.db]\ndestination = \"10.8.0.0/16:80,90-99\"\ninterface = \"br-db\"\n\
         [template.debian]\nnix_store = \"/nix/store\"\n\
         [template.nixos]\nsystem = \"/nix/store/abc-nixos-system-job\"\nrunner_dir = \"/srv/runner\"\n",
        ".toml",
    );
    let settings = load(Some(file.path()), |_| None).unwrap();
    let resolved = serde_json::to_string(&file::Written::from(&settings)).unwrap();
    let again = load(Some(written(&resolved, ".json").path()), |_| None).unwrap();
    assert_eq!(settings, again);
}

#[test]
fn each_mistake_is_refused_with_key_problem_and_remedy() {
    for (text, key, problem) in [
        ("max_concurent = 1", "max_concurent", "unknown field"),
        ("[class.a]\nlabel = [\"x\"]", "label", "unknown field"),
        ("max_concurrent = 0", "max_concurrent", "0 is out of range"),
        ("poll_interval = \"0s\"", "poll_interval", "out of range"),
        ("poll_interval = \"soon\"", "poll_interval", "soon"),
        ("job_timeout = \"1s\"", "job_timeout", "out of range"),
        ("[class.A]\nlabels = [\"x\"]", "class.A", "no valid name"),
        ("[class.a]\nlabels = []", "class.a.labels", "0 labels"),
        ("[class.a]\nlabels = [\"x\", \"X\"]", "class.a.labels", "named twice"),
        ("[class.a]\nlabels = [\"x\"]\nmemory = \"lots\"", "class.a.memory", "is not a size"),
        ("[class.a.cache.c]\nat = \"/var\"", "class.a.cache.c.at", "holds something"),
        ("[class.a.cache.c]\nat = \"/run/c\"", "class.a.cache.c.at", "lies in"),
        ("[class.a.cache.c]\nat = \"/\"", "class.a.cache.c.at", "holds something"),
        ("[class.a.cache.c]\n[class.a.cache.d]\nat = \"/srv/gha-cache/c/d\"", "class.a.cache.d.at", "already"),
        ("[class.a.cache.C]", "class.a.cache.C", "no valid name"),
        ("[class.a.cache.c]\nsize = \"1K\"", "class.a.cache.c.size", "not a size"),
        ("[class.a.cache.c]\nper = \"job\"", "job", "unknown variant"),
        ("[class.a]\nprivileged = true\ndisk = \"1G\"", "class.a.privileged", "loop devices"),
        ("[class.a]\ndisk = \"1M\"", "class.a.disk", "at least 32M"),
        ("[class.a]\nio_weight = 0", "class.a.io_weight", "0 is out of range"),
        ("[limits]\nmemory = \"much\"", "limits.memory", "is not a size"),
        ("[limits]\ntasks = 1", "limits.tasks", "1 is out of range"),
        ("[class.a]\nlabels = [\"x\"]\ncpus = -1.0", "class.a.cpus", "not a number of CPUs"),
        ("[class.a]\nlabels = [\"x\"]\ntemplate = \"none\"", "class.a.template", "no template"),
        ("[class.a.docker]\nkeep = true", "class.a.docker.enable", "not enabled"),
        ("[class.a.docker]\nenable = true\nmirror = \"hub\"", "class.a.docker.mirror", "not the root of a registry"),
        ("[class.a.docker]\nenable = true\nmirror = \"https://u:p@hub\"", "class.a.docker.mirror", "not the root"),
        ("[class.a.docker]\nenable = true\npool = \"192.168.0.0/16\"", "class.a.docker.pool", "overlaps network.pool"),
        ("[class.a.docker]\nenable = true\npool = \"10.0.0.0/30\"", "class.a.docker.pool", "not a private network"),
        ("[class.a.docker]\nenable = true\nkeep_size = \"4G\"", "class.a.docker.keep_size", "not kept"),
        ("[class.a.docker]\nenable = true\nkeep = true\nkeep_size = \"1M\"", "class.a.docker.keep_size", "not a size"),
        ("[template.default]\npath = \"relative\"", "template.default.path", "not an absolute path"),
        ("[template.default]\nsystem = \"/srv/nixos\"", "template.default.system", "not a path of the Nix store"),
        (
            "[template.default]\nsystem = \"/nix/store/a-b/sw\"",
            "template.default.system",
            "not a path of the Nix store",
        ),
        ("[template.default]\nsystem = \"/nix/store/a-b\"\npath = \"/t\"", "template.default.path", "a system as well"),
        ("[template.default]\nrunner_dir = \"/srv/runner\"", "template.default.runner_dir", "only a system"),
        ("[template.default]\nnix_store = \"store\"", "template.default.nix_store", "not an absolute path"),
        (
            "[template.default]\nsystem = \"/nix/store/a-b\"\nnix_store = \"/nix/store\"",
            "template.default.nix_store",
            "brings the host's store",
        ),
        ("[template.default]\nuser = \"root\"", "template.default.user", "unprivileged"),
        ("[network]\npool = \"8.8.8.0/24\"\nprefix = 30", "network.pool", "private"),
        ("[network]\npool = \"172.16.0.0-172.17.0.0\"\nprefix = 24", "network.pool", "where Docker makes"),
        ("[network]\npool = \"172.16.0.0/12\"\nprefix = 24", "network.pool", "where Docker makes"),
        ("[ids]\nfirst = 655361", "ids.first", "no ids for containers"),
        ("[ids]\nfirst = 65536", "ids.first", "no ids for containers"),
        ("[ids]\nfirst = 1879048192", "ids.first", "no ids for containers"),
        ("[network]\ndeny = [\"0.0.0.0/0\"]", "network.deny", "is everything"),
        ("[network]\nconnections = 1", "network.connections", "out of range"),
        ("[network.shared.db]\ndestination = \"db\"", "network.shared.db.destination", "no IPv4 address"),
        ("[network.shared.db]\ndestination = \"10.0.0.1\"\ninterface = \"a b\"", "db.interface", "no link's name"),
        ("[class.a.network]\nallow = [\"10.0.0.1:x\"]", "class.a.network.allow", "no port"),
        ("[class.a.network]\nshared = [\"db\"]", "class.a.network.shared", "no shared network"),
        ("[network]\npool = \"10.0.0.0/30\"\nprefix = 30", "network.pool", "1 subnets for 7"),
        ("[http]\naddress = \"0.0.0.0\"", "http.address", "other machines"),
        ("[github]\napi_url = \"ftp://x\"", "github.api_url", "not the root of an API"),
        ("state_dir = \"../x\"", "state_dir", "not an absolute path"),
        ("host_name = \"No Host\"", "host_name", "no host name"),
    ] {
        let said = refused(text);
        assert!(said.contains(key) && said.contains(problem), "{text:?}: {said}");
        assert!(said.contains("Remedy: "), "{text:?}: {said}");
    }
}

#[test]
fn every_key_and_variable_is_documented() {
    let docs = include_str!("../../docs/configuration.md");
    let readme = include_str!("../../README.md");
    let file = written("token_file = \"/t\"\nrunner_labels = [\"x\"]\nhost_name = \"h\"\n", ".toml");
    let written = file::read(file.path()).unwrap();
    let resolved = file::Written::from(&load(Some(file.path()), env(&LEAST)).unwrap());
    let mut keys = Vec::new();
    for value in [serde_json::to_value(written).unwrap(), serde_json::to_value(resolved).unwrap()] {
        collect_keys(&value, &mut keys);
    }
    for key in keys.iter().filter(|key| *key != "default") {
        assert!(docs.contains(key.as_str()), "{key} is not in docs/configuration.md");
    }
    for (variable, _) in environment::VARIABLES {
        assert!(readme.contains(variable), "{variable} is not in README.md");
    }
}

fn collect_keys(value: &serde_json::Value, keys: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            for (key, value) in fields {
                keys.push(key.clone());
                collect_keys(value, keys);
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| collect_keys(item, keys)),
        _ => {}
    }
}

#[test]
fn all_mistakes_are_said_at_once() {
    let said = load(None, env(&[("GITHUB_REPO", "nonsense"), ("MAX_CONCURRENT", "x"), ("HTTP_PORT", "99999")]));
    let Problems(problems) = said.unwrap_err();
    assert_eq!(problems.iter().map(|p| p.key.as_str()).collect::<Vec<_>>(), ["MAX_CONCURRENT", "HTTP_PORT"]);
    let Problems(problems) = load(None, env(&[("GITHUB_REPO", "nonsense")])).unwrap_err();
    assert_eq!(problems.len(), 2, "{problems:?}");
    let Problems(problems) = load(None, |_| None).unwrap_err();
    assert!(problems[0].remedy.contains("GITHUB_REPO"), "{problems:?}");
}

#[test]
fn a_token_file_must_be_there_private_and_outside_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str, mode: u32| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    let good = file("good", "ghp_sesame\n", 0o400);
    assert_eq!(token_file::read("token_file", &good).unwrap().expose(), "ghp_sesame");
    for (path, problem) in [
        (dir.path().join("missing"), "cannot be read"),
        (file("empty", " \n", 0o400), "is empty"),
        (file("open", "ghp_sesame", 0o404), "open to every user"),
        (file("two", "ghp_sesame ghp_other", 0o400), "does not hold one token"),
        (file("long", &"x".repeat(5000), 0o400), "does not hold one token"),
        (dir.path().to_owned(), "not a regular file"),
        (PathBuf::from("/nix/store/abc-token"), "Nix store"),
        (PathBuf::from("relative"), "not an absolute path"),
    ] {
        let said = token_file::read("token_file", &path).unwrap_err();
        assert!(said.problem.contains(problem), "{said}");
        assert!(!said.remedy.is_empty());
        assert!(!said.to_string().contains("sesame"), "a secret is printed: {said}");
    }
}
