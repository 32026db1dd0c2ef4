#![allow(clippy::unwrap_used)]

use std::{io::Write, os::unix::fs::PermissionsExt, path::PathBuf, time::Duration};

use super::{token_file::Holds, *};

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
    assert_eq!(settings.targets[0].name, "octo-org/hello");
    assert_eq!(settings.targets[0].kind, TargetKind::Repository);
    assert_eq!(settings.classes["default"].intake, Intake::Polling);
    assert_eq!((settings.max_concurrent, settings.poll_interval.as_secs()), (7, 10));
    assert_eq!((settings.job_timeout.as_secs(), settings.http.port), (7200, 8080));
    assert_eq!(settings.state_dir, PathBuf::from("/var/lib/gha-runner-controller"));
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
    assert_eq!(settings.classes["default"].labels, ["self-hosted", "ci", "nix", architecture, "Linux"]);
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
fn a_size_is_what_the_class_does_not_say_itself() {
    let file = written(
        "[class.a]\nsize = \"medium\"\n[class.b]\nsize = \"small\"\ncpus = 3\nmemory = \"5g\"\n[class.c]\nsize = \"max\"\n",
        ".toml",
    );
    let classes = load(Some(file.path()), env(&LEAST)).unwrap().classes;
    let limits = |name: &str| (classes[name].cpus, classes[name].memory, classes[name].tasks);
    assert_eq!(limits("a"), (Some(6.0), Some(16 << 30), Some(4096)));
    assert_eq!(limits("b"), (Some(3.0), Some(5 << 30), Some(2048)));
    assert_eq!(limits("c"), (None, None, None));
    assert!(refused("[class.a]\nsize = \"huge\"\n").contains("huge"));
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
fn the_short_form_makes_classes_and_a_table_of_the_name_overrides_single_keys() {
    let file = written(
        "host_name = \"builder\"\nrunners = [\"cpu-small\", \"gpu-max-docker\", \"cpu-xs\"]\n\
         [class.cpu-small]\nmemory = \"5G\"\nmax_concurrent = 2\n\
         [class.gpu-max-docker.docker]\nkeep = true\n[class.other]\nlabels = [\"x\"]\n",
        ".toml",
    );
    let classes = load(Some(file.path()), env(&LEAST)).unwrap().classes;
    assert_eq!(classes.keys().collect::<Vec<_>>(), ["cpu-small", "cpu-xs", "gpu-max-docker", "other"]);
    let (small, max) = (&classes["cpu-small"], &classes["gpu-max-docker"]);
    assert_eq!(small.labels, ["self-hosted", "linux", "builder", "cpu", "small", "generic"]);
    assert_eq!(
        (small.cpus, small.memory, small.tasks, small.max_concurrent),
        (Some(2.0), Some(5 << 30), Some(2048), 2)
    );
    assert!(small.gpu.is_empty() && small.docker.is_none());
    assert_eq!(max.labels, ["self-hosted", "linux", "builder", "gpu", "max", "docker"]);
    assert!(max.gpu == [Gpu::All] && max.cpus.is_none() && max.docker.as_ref().unwrap().keep.is_some());
    assert_eq!(classes["other"].labels, ["x"]);
}

#[test]
fn the_short_form_in_the_environment_has_the_kernels_name_of_the_host_and_each_label_once() {
    let mut variables = LEAST.to_vec();
    variables.push(("RUNNERS", "cpu-medium"));
    let labels = load(None, env(&variables)).unwrap().classes["cpu-medium"].labels.clone();
    assert!(labels.contains(&host_name::of_kernel()), "{labels:?}");
    let file = written("host_name = \"gpu\"\nrunners = [\"gpu-large\"]\n", ".toml");
    let labels = load(Some(file.path()), env(&LEAST)).unwrap().classes["gpu-large"].labels.clone();
    assert_eq!(labels, ["self-hosted", "linux", "gpu", "large", "generic"]);
}

#[test]
fn a_word_that_is_no_short_form_is_refused_with_what_is_possible() {
    for word in
        ["cpu", "cpu-huge", "tpu-small", "cpu-small-bazel", "CPU-small", "cpu--docker", "", "cpu-small-docker-x"]
    {
        let said = refused(&format!("runners = [\"cpu-xs\", {word:?}]"));
        assert!(
            said.contains(&format!("runners[1]: {word:?}")) && said.contains("xs, small, medium, large, max"),
            "{said}"
        );
    }
    let said = refused("runners = [\"cpu-medium-docker-12\"]");
    assert!(said.contains("write \"cpu-medium-docker\" once"), "{said}");
    let said = refused("runners = [\"cpu-xs\", \"cpu-xs\"]");
    assert!(said.contains("runners[1]: \"cpu-xs\" is named twice"), "{said}");
}

/// Every key there is.
const FULL: &str = r#"
    token_file = "/common"
    runner_labels = ["x"]
    runners = ["cpu-small"]
    host_name = "h"
    [webhook]
    address = "0.0.0.0"
    port = 9999
    secret_file = "/hook"
    [credential.main]
    app_id = 7
    installation_id = 8
    private_key_file = "/app.pem"
    api_url = "https://ghe.example/api/v3/"
    share = 0.8
    [credential.classic]
    token_file = "/classic"
    [[target]]
    repo = "a/b"
    token_file = "/t"
    priority = 5
    weight = 3
    max_concurrent = 2
    forks = "allow"
    classes = ["big"]
    [[target]]
    org = "acme"
    credential = "main"
    runner_group = "Ephemeral"
    include = ["web-*"]
    exclude = ["*-old"]
    pushed_within = "30days"
    rediscover = "5m"
    [[target]]
    org = "acme-2"
    credential = "main"
    register = "repository"
    [[target]]
    user = "octocat"
    [[target]]
    enterprise = "octo"
    credential = "classic"
    classes = ["big"]
    [class.default]
    [class.big]
    labels = ["x"]
    min_idle = 1
    min_idle_hours = ["Mon..Fri 07:55..18:00", "Sat 22:00..06:00"]
    intake = "scale-set"
    gpu = ["amd", "nvidia.com/gpu=0"]
    devices = ["kvm"]
    disk = "9G"
    io_weight = 50
    services = ["registry", "db"]
    [class.big.network]
    internet = false
    allow = ["192.168.1.20:5432"]
    shared = ["db"]
    dns = ["10.0.0.1"]
    [class.big.cache.ccache]
    at = "/home/runner/.cache/ccache"
    size = "1G"
    per = "class"
    [class.big.cache.other]
    [class.big.docker]
    enable = true
    mirror = "https://mirror"
    keep = true
    keep_size = "3G"
    [class.bare]
    privileged = true
    [limits]
    memory = "8G"
    cpus = 3.5
    [ids]
    first = 655360
    [service.registry]
    address = "127.0.0.1:5000"
    [service.db]
    address = "192.168.1.20:5432"
    [proxy]
    url = "http://proxy.lan:3128"
    address = "192.168.1.9"
    except = ["corp.example", "10.0.0.0/8"]
    [network.shared.db]
    destination = "10.8.0.0/16:80,90-99"
    interface = "br-db"
    [template.default]
    runner_version = "2.336.0"
    [template.debian]
    nix_store = "/nix/store"
    [template.nixos]
    system = "/nix/store/abc-nixos-system-job"
    runner_dir = "/srv/runner"
"#;

#[test]
fn the_resolved_settings_read_back_the_same() {
    let file = written(FULL, ".toml");
    let settings = load(Some(file.path()), |_| None).unwrap();
    let resolved = written(&resolved::text(&settings).unwrap(), ".json");
    assert_eq!(resolved::read(resolved.path()).unwrap(), settings);
    assert_eq!(load(Some(resolved.path()), env(&[("MAX_CONCURRENT", "99")])).unwrap(), settings);
}

#[test]
fn targets_with_the_same_token_file_share_a_credential_with_a_name_of_its_own() {
    let file = written(
        "token_file = \"/common\"\n[credential.token-1]\ntoken_file = \"/mine\"\n\
         [[target]]\nrepo = \"a/b\"\n[[target]]\nrepo = \"a/c\"\ntoken_file = \"/other\"\n\
         [[target]]\nrepo = \"a/d\"\n[[target]]\nrepo = \"a/e\"\ncredential = \"token-1\"\n\
         [[target]]\nrepo = \"a/f\"\ntoken_file = \"/mine\"\n",
        ".toml",
    );
    let settings = load(Some(file.path()), |_| None).unwrap();
    let used: Vec<&str> = settings.targets.iter().map(|target| target.credential.as_str()).collect();
    assert_eq!(used, ["token-2", "token-3", "token-2", "token-1", "token-1"]);
    let file_of = |name: &str| settings.credentials[name].kind.clone();
    assert_eq!(file_of("token-2"), CredentialKind::Token { file: "/common".into() });
    assert_eq!(file_of("token-3"), CredentialKind::Token { file: "/other".into() });
}

#[test]
fn the_only_credential_is_every_targets() {
    let file = written("[credential.main]\ntoken_file = \"/t\"\n[[target]]\norg = \"acme\"\n", ".toml");
    let settings = load(Some(file.path()), |_| None).unwrap();
    assert_eq!((settings.targets[0].credential.as_str(), settings.credentials.len()), ("main", 1));
    assert!(!settings.targets[0].registers_with_repositories());
}

#[test]
fn an_idle_repository_is_never_looked_at_more_often_than_a_busy_one() {
    let idle = |text: &str| load(Some(written(text, ".toml").path()), env(&LEAST)).unwrap().idle_poll_interval;
    assert_eq!(idle(""), None, "as often as can be afforded");
    assert_eq!(idle("idle_poll_interval = \"10m\""), Some(Duration::from_secs(600)));
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
        ("[class.A]\nlabels = [\"x\"]", "class.A", "invalid name"),
        ("[class.a]\nlabels = []", "class.a.labels", "0 labels"),
        ("[class.a]\nlabels = [\"x\", \"X\"]", "class.a.labels", "named twice"),
        ("[class.a]\nlabels = [\"x\"]\nmemory = \"lots\"", "class.a.memory", "is not a size"),
        ("[class.a.cache.c]\nat = \"/var\"", "class.a.cache.c.at", "holds something"),
        ("[class.a.cache.c]\nat = \"/run/c\"", "class.a.cache.c.at", "lies in"),
        ("[class.a.cache.c]\nat = \"/\"", "class.a.cache.c.at", "holds something"),
        ("[class.a.cache.c]\n[class.a.cache.d]\nat = \"/srv/gha-cache/c/d\"", "class.a.cache.d.at", "already"),
        ("[class.a.cache.C]", "class.a.cache.C", "invalid name"),
        ("[class.a.cache.c]\nsize = \"1K\"", "class.a.cache.c.size", "not a size"),
        ("[class.a.cache.c]\nper = \"job\"", "job", "unknown variant"),
        ("[proxy]\nexcept = [\"a\"]", "proxy.url", "there is no proxy"),
        ("[proxy]\nurl = \"http://me:swordfish@10.0.0.9:3128\"", "proxy.url", "a user and a password"),
        ("[proxy]\nurl = \"https://10.0.0.9:3128\"", "proxy.url", "not the root of an HTTP proxy"),
        ("[proxy]\nurl = \"10.0.0.9:3128\"", "proxy.url", "not the root of an HTTP proxy"),
        ("[proxy]\nurl = \"http://10.0.0.9:3128/pac\"", "proxy.url", "not the root of an HTTP proxy"),
        ("[proxy]\nurl = \"http://proxy.lan:3128\"", "proxy.address", "do not know where proxy.lan is"),
        ("[proxy]\nurl = \"http://127.0.0.1:3128\"", "proxy.url", "each container's own"),
        ("[proxy]\nurl = \"http://localhost:1\"\naddress = \"127.0.0.1\"", "proxy.address", "each container's own"),
        ("[proxy]\nurl = \"http://10.0.0.9\"\naddress = \"10.0.0.8\"", "proxy.address", "another address"),
        ("[proxy]\nurl = \"http://10.0.0.9\"\nexcept = [\"a,b\"]", "proxy.except", "no name"),
        ("[proxy]\nurl = \"http://10.0.0.9\"\nexcept = [\"*.a\"]", "proxy.except", "no name"),
        ("[class.a]\nprivileged = true\ndisk = \"1G\"", "class.a.privileged", "loop devices"),
        ("[class.a]\nprivileged = true\ndevices = [\"loop\"]", "class.a.devices", "all loop devices"),
        ("[class.a]\ndevices = [\"loop\"]\n[class.b]\ndisk = \"1G\"", "class.a.devices", "class b has disk"),
        ("[class.a]\ndevices = [\"sda\"]", "sda", "unknown variant"),
        (
            "[class.a.cache.c]\ntool_cache = true\n[class.a.cache.d]\ntool_cache = true\nat = \"/srv/d\"",
            "class.a.cache.d.tool_cache",
            "already",
        ),
        ("[class.a]\ndisk = \"1M\"", "class.a.disk", "at least 32M"),
        ("[class.a]\nio_weight = 0", "class.a.io_weight", "0 is out of range"),
        ("[limits]\nmemory = \"much\"", "limits.memory", "is not a size"),
        ("[limits]\ntasks = 1", "limits.tasks", "1 is out of range"),
        ("[class.a]\nlabels = [\"x\"]\ncpus = -1.0", "class.a.cpus", "out of range"),
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
        ("[network.shared.db]\ndestination = \"db\"", "network.shared.db.destination", "not an IPv4 address"),
        ("[network.shared.db]\ndestination = \"10.0.0.1\"\ninterface = \"a b\"", "db.interface", "invalid link name"),
        ("[class.a.network]\nallow = [\"10.0.0.1:x\"]", "class.a.network.allow", "invalid port"),
        ("[class.a.network]\nshared = [\"db\"]", "class.a.network.shared", "no shared network"),
        ("[network]\npool = \"10.0.0.0/30\"\nprefix = 30", "network.pool", "1 subnets for 7"),
        ("[http]\naddress = \"0.0.0.0\"", "http.address", "other machines"),
        ("[github]\napi_url = \"ftp://x\"", "github.api_url", "not the root of an API"),
        ("state_dir = \"../x\"", "state_dir", "not an absolute path"),
        ("host_name = \"No Host\"", "host_name", "invalid host name"),
        ("poll_interval = \"1m\"\nidle_poll_interval = \"10s\"", "idle_poll_interval", "shorter than poll_interval"),
        ("[webhook]\nport = 1", "webhook.secret_file", "could come from anybody"),
        ("[webhook]\nsecret_file = \"relative\"", "webhook.secret_file", "not an absolute path"),
        ("[webhook]\nsecret_file = \"/s\"\nport = 8080", "webhook.port", "http.port as well"),
        ("[webhook]\nsecret_file = \"/s\"\nport = 0", "webhook.port", "out of range"),
        ("[template.default]\nrunner_version = \"new\"", "template.default.runner_version", "not the version"),
        ("[class.a]\nintake = \"guess\"", "intake", "unknown variant"),
    ] {
        let said = refused(text);
        assert!(said.contains(key) && said.contains(problem), "{text:?}: {said}");
        assert!(said.contains("Remedy: "), "{text:?}: {said}");
    }
}

/// A table of TOML in which `value` stands at `key` of the table at `path`, where people's own names are `NAME`.
fn at(path: &str, key: &str, value: &str) -> String {
    let path = path.replace("NAME", "a");
    match path.as_str() {
        "" => format!("{key} = {value}\n"),
        "target" => format!("[[target]]\n{key} = {value}\n"),
        path => format!("[{path}]\n{key} = {value}\n"),
    }
}

#[test]
fn a_value_of_the_wrong_kind_is_refused_in_words_for_people_whatever_the_key() {
    let schema = reference::schema();
    let values =
        ["true", "7", "-7", "7.5", "nan", "\"\"", "\"4x\"", "[7]", "[\"x y\"]", "[true]", "{ x = 7 }", "1979-05-27"];
    // As Debug writes Rust's values, and as Rust and serde call its types.
    let debug =
        ["Text(", "Bytes(", "Some(", "None", "String(", "Number", "Bool", "Ok(", "Err(", "struct", "enum", "untagged"];
    let types = [
        "usize",
        "u64",
        "u32",
        "u16",
        "u8",
        "i64",
        "i32",
        "f64",
        "Written",
        "Ipv4Network",
        "std::",
        "serde",
        "a map",
        "a sequence",
    ];
    let (mut keys, mut refusals) = (0, 0);
    for (path, table) in reference::tables(&schema) {
        let names = table["properties"].as_object().unwrap().keys();
        for key in names {
            keys += 1;
            let before = refusals;
            for value in values {
                let file = written(&at(&path, key, value), ".toml");
                let Err(problems) = load(Some(file.path()), env(&LEAST)) else { continue };
                refusals += 1;
                for problem in &problems.0 {
                    // The line it is about stands in it as it was written.
                    let said: String = problem.problem.lines().filter(|line| !line.contains(" | ")).collect();
                    let said = format!("{said}. {}", problem.remedy);
                    for form in debug.iter().chain(&types) {
                        assert!(!said.contains(form), "{path}.{key} = {value}: {form} in: {said}");
                    }
                }
            }
            assert!(refusals > before, "{path}.{key} takes everything");
        }
    }
    assert!(keys > 80 && refusals > 5 * keys, "{keys} keys, {refusals} refusals");
}

#[test]
fn a_size_is_understood_as_systemd_docker_and_people_write_it() {
    let memory = |text: &str| {
        let file = written(&format!("[class.a]\nlabels = [\"x\"]\nmemory = {text}\n"), ".toml");
        load(Some(file.path()), env(&LEAST)).map(|settings| settings.classes["a"].memory.unwrap())
    };
    for text in
        ["4G", "4g", "4GB", "4gb", "4Gb", "4GiB", "4gib", " 4 GiB ", "4096m", "4096MB", "4194304k", "4294967296b"]
    {
        assert_eq!(memory(&format!("{text:?}")).unwrap(), 4 << 30, "{text}");
    }
    assert_eq!(memory("4294967296").unwrap(), 4 << 30);
    assert_eq!(memory("\"1t\"").unwrap(), 1 << 40);
    for text in
        ["\"4x\"", "\"g\"", "\"4 G B\"", "\"4ig\"", "\"-4g\"", "\"1.5.g\"", "\"99999999999t\"", "true", "4.5", "-4"]
    {
        let said = memory(text).unwrap_err().to_string();
        assert!(said.contains("size"), "{text}: {said}");
    }
}

#[test]
fn each_mistake_in_a_credential_is_refused() {
    let target = "[[target]]\nrepo = \"a/b\"\ncredential = \"a\"\n";
    for (text, key, problem) in [
        ("[credential.A]\ntoken_file = \"/t\"", "credential.A", "invalid name"),
        ("[credential.a]", "credential.a", "neither a token nor a GitHub App"),
        ("[credential.a]\ntoken_file = \"/t\"\napp_id = 1", "credential.a", "token and a GitHub App"),
        ("[credential.a]\napp_id = 1", "credential.a.private_key_file", "no private key"),
        ("[credential.a]\nprivate_key_file = \"/k\"", "credential.a.app_id", "no id"),
        ("[credential.a]\napp_id = 0\nprivate_key_file = \"/k\"", "credential.a.app_id", "no id"),
        (
            "[credential.a]\napp_id = 1\ninstallation_id = 0\nprivate_key_file = \"/k\"",
            "credential.a.installation_id",
            "invalid installation",
        ),
        ("[credential.a]\napp_id = 1\nprivate_key_file = \"/nix/store/k\"", "a.private_key_file", "Nix store"),
        ("[credential.a]\ntoken_file = \"t\"", "credential.a.token_file", "not an absolute path"),
        ("[credential.a]\ntoken_file = \"/t\"\nshare = 0.0", "credential.a.share", "out of range"),
        ("[credential.a]\ntoken_file = \"/t\"\nshare = 1.5", "credential.a.share", "out of range"),
        ("[credential.a]\ntoken_file = \"/t\"\napi_url = \"x\"", "credential.a.api_url", "not the root of an API"),
        ("[credential.a]\ntoken_file = \"/t\"\n[credential.b]\ntoken_file = \"/u\"", "credential.b", "no target"),
        ("[credential.b]\ntoken_file = \"/u\"", "target[0].credential", "no credential \"a\""),
    ] {
        let file = written(&format!("{target}{text}"), ".toml");
        let said = load(Some(file.path()), |_| None).unwrap_err().to_string();
        assert!(said.contains(key) && said.contains(problem) && said.contains("Remedy: "), "{text:?}: {said}");
    }
}

#[test]
fn each_mistake_in_a_target_is_refused() {
    for (text, key, problem) in [
        ("priority = 1", "target[0]", "names nothing to serve"),
        ("repo = \"a/b\"\norg = \"a\"", "target[0]", "names repo and org"),
        ("org = \"a/b\"", "target[0].org", "invalid name"),
        ("user = \"\"", "target[0].user", "invalid name"),
        ("repo = \"enterprises/a\"", "target[0].repo", "not owner/repository"),
        ("org = \"a\"\n[[target]]\nuser = \"A\"", "target[1]", "named twice"),
        ("repo = \"a/b\"\ncredential = \"a\"\ntoken_file = \"/t\"", "target[0].token_file", "credential \"a\" as well"),
        ("repo = \"a/b\"\nregister = \"repository\"", "target[0].register", "only an organisation's"),
        ("org = \"a\"\nregister = \"nowhere\"", "register", "unknown variant"),
        ("repo = \"a/b\"\nforks = \"perhaps\"", "forks", "unknown variant"),
        ("repo = \"a/b\"\nrunner_group = \"g\"", "target[0].runner_group", "no groups"),
        ("user = \"a\"\nrunner_group = \"g\"", "target[0].runner_group", "no groups"),
        ("org = \"a\"\nregister = \"repository\"\nrunner_group = \"g\"", "target[0].runner_group", "no groups"),
        ("org = \"a\"\nrunner_group = \" \"", "target[0].runner_group", "invalid runner group name"),
        ("org = \"a\"\ninclude = [\"a/*\"]", "target[0].include", "invalid pattern"),
        ("org = \"a\"\nexclude = [\"\"]", "target[0].exclude", "invalid pattern"),
        ("repo = \"a/b\"\ninclude = [\"*\"]", "target[0].include", "no repositories to discover"),
        ("enterprise = \"a\"\npushed_within = \"1day\"", "target[0].pushed_within", "no repositories to discover"),
        ("repo = \"a/b\"\nrediscover = \"5m\"", "target[0].rediscover", "no repositories to discover"),
        ("org = \"a\"\npushed_within = \"1s\"", "target[0].pushed_within", "out of range"),
        ("org = \"a\"\nrediscover = \"1s\"", "target[0].rediscover", "out of range"),
        ("org = \"a\"\nclasses = [\"none\"]", "target[0].classes", "no class \"none\""),
        ("org = \"a\"\nclasses = [\"default\", \"default\"]", "target[0].classes", "named twice"),
        ("org = \"a\"\npriority = 101", "target[0].priority", "out of range"),
        ("org = \"a\"\nweight = 0", "target[0].weight", "out of range"),
        ("org = \"a\"\nmax_concurrent = 0", "target[0].max_concurrent", "out of range"),
        ("enterprise = \"a\"\n[class.x]\nintake = \"polling\"", "target[0].classes", "cannot be polled"),
        (
            "enterprise = \"a\"\ncredential = \"a\"\n[credential.a]\napp_id = 1\nprivate_key_file = \"/k\"",
            "target[0].credential",
            "is a GitHub App",
        ),
    ] {
        let file = written(&format!("token_file = \"/t\"\n[[target]]\n{text}"), ".toml");
        let said = load(Some(file.path()), |_| None).unwrap_err().to_string();
        assert!(said.contains(key) && said.contains(problem), "{text:?}: {said}");
        assert!(problem == "unknown variant" || said.contains("Remedy: "), "{text:?}: {said}");
        assert!(!said.contains("no target uses it"), "{text:?}: {said}");
    }
}

#[test]
fn resolved_settings_are_read_strictly() {
    let text = resolved::text(&load(None, env(&LEAST)).unwrap()).unwrap();
    for (text, mode, problem) in [
        (text.replacen("\"http\"", "\"htp\"", 1), 0o644, "unknown field `htp`"),
        (text.replacen("\"max_concurrent\"", "\"most\"", 1), 0o644, "unknown field `most`"),
        (text.replacen("\"version\": 1", "\"version\": 2", 1), 0o644, "has version 2"),
        ("{}".to_owned(), 0o644, "missing field `version`"),
        (text.clone(), 0o664, "can be written by others"),
        (text.clone(), 0o646, "can be written by others"),
    ] {
        let file = written(&text, ".json");
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        let said = resolved::read(file.path()).unwrap_err().to_string();
        assert!(said.contains(problem) && said.contains("Remedy: "), "{problem}: {said}");
    }
    if rustix::process::geteuid().is_root() {
        let file = written(&text, ".json");
        std::os::unix::fs::chown(file.path(), Some(4242), None).unwrap();
        let said = resolved::read(file.path()).unwrap_err().to_string();
        assert!(said.contains("belongs to user 4242"), "{said}");
    }
}

#[test]
fn numbers_that_json_lacks_are_out_of_range() {
    for number in ["nan", "inf", "-inf"] {
        let said = refused(&format!("[limits]\ncpus = {number}"));
        assert!(said.contains("limits.cpus") && said.contains("is out of range"), "{said}");
    }
}

#[test]
fn every_variable_is_documented() {
    let readme = include_str!("../../../README.md");
    for (variable, _) in environment::VARIABLES {
        assert!(readme.contains(variable), "{variable} is not in README.md");
    }
}

#[test]
fn a_default_is_in_its_range_and_every_range_is_one() {
    let schema = reference::schema();
    for (path, table) in reference::tables(&schema) {
        for (name, key) in reference::keys(table) {
            assert!(key["description"].as_str().is_some_and(|text| !text.is_empty()), "{path}.{name} is not described");
            if let Some(range) = range::Range::of(key) {
                let default = &key["default"];
                assert!(default.is_null() || range.holds(default), "{path}.{name}: {default} is not {range}");
                assert!(!range.holds(&"no".into()) && !range.to_string().contains("null"), "{path}.{name}: {range}");
            }
        }
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
    assert_eq!(token_file::read("token_file", &good, Holds::Token).unwrap().expose(), "ghp_sesame");
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
        let said = token_file::read("token_file", &path, Holds::Token).unwrap_err();
        assert!(said.problem.contains(problem), "{said}");
        assert!(!said.remedy.is_empty());
        assert!(!said.to_string().contains("sesame"), "a secret is printed: {said}");
    }
}

#[test]
fn a_webhooks_secret_is_one_line_as_it_was_typed_at_the_forge() {
    let dir = tempfile::tempdir().unwrap();
    let read = |text: &str| {
        let path = dir.path().join("secret");
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
        let file = file::Webhook { secret_file: path, ..file::Webhook::default() };
        token_file::SecretFile::of_webhook(&file).unwrap().read()
    };
    for secret in ["swordfish", "It's a Secret to Everybody", " with spaces around ", "Schwertfisch über alles"] {
        for end in ["", "\n", "\r\n"] {
            assert_eq!(read(&format!("{secret}{end}")).unwrap().expose(), secret);
        }
    }
    for (text, problem) in [
        (" \n", "is empty"),
        ("sword\nfish\n", "does not hold one line"),
        ("sword\tfish\n", "does not hold one line"),
        (&"x ".repeat(3000), "does not hold one line"),
    ] {
        let said = read(text).unwrap_err().to_string();
        assert!(said.contains(problem) && !said.contains("fish"), "{said}");
    }
}

#[test]
fn a_private_key_file_must_hold_one_private_key() {
    let dir = tempfile::tempdir().unwrap();
    let read = |text: &str| {
        let path = dir.path().join("key");
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
        token_file::read("private_key_file", &path, Holds::PrivateKey)
    };
    let block = |kind: &str| format!("-----BEGIN {kind}-----\nc2VzYW1l\n-----END {kind}-----\n");
    assert_eq!(read(&block("RSA PRIVATE KEY")).unwrap().expose(), block("RSA PRIVATE KEY").trim());
    assert!(read(&block("PRIVATE KEY")).is_ok());
    for text in [
        block("PUBLIC KEY"),
        block("ENCRYPTED PRIVATE KEY"),
        block("CERTIFICATE"),
        "ghp_sesame".to_owned(),
        block("PRIVATE KEY").repeat(2),
        block("PRIVATE KEY").replace("c2VzYW1l", ""),
        block("PRIVATE KEY").replace("c2VzYW1l", &"c2VzYW1l".repeat(4096)),
    ] {
        let said = read(&text).unwrap_err().to_string();
        assert!(said.contains("one private key") && said.contains("Remedy: "), "{said}");
        assert!(!said.contains("sesame") && !said.contains("c2VzYW1l"), "a secret is printed: {said}");
    }
}

const GITEA: &str = "[credential.own]\nkind = \"gitea\"\nurl = \"https://git.lan/\"\ntoken_file = \"/t\"\n\
                     [template.act]\nkind = \"gitea\"\n";

fn gitea(more: &str) -> Settings {
    load(Some(written(&format!("{GITEA}{more}"), ".toml").path()), |_| None).unwrap()
}

#[test]
fn what_is_at_another_forge_than_github_has_its_credential_in_front() {
    let settings = gitea(
        "[credential.hub]\ntoken_file = \"/h\"\n[class.a]\ntemplate = \"act\"\n[class.b]\n\
         [[target]]\nrepo = \"acme/app\"\ncredential = \"hub\"\n[[target]]\nrepo = \"acme/app\"\ncredential = \"own\"\n\
         [[target]]\ninstance = true\ncredential = \"own\"\n[[target]]\nuser = \"ann\"\ncredential = \"own\"\n",
    );
    let named: Vec<_> = settings.targets.iter().map(|t| (t.name.as_str(), t.classes.clone())).collect();
    let classes = |class: &str| vec![class.to_owned()];
    assert_eq!(
        named,
        [
            ("acme/app", classes("b")),
            ("own:acme/app", classes("a")),
            ("own:*", classes("a")),
            ("own:ann", classes("a")),
        ]
    );
    assert!(!settings.targets[3].registers_with_repositories(), "an account has runners there");
    assert_eq!(settings.target_of("own:acme/app").unwrap().forge, ForgeKind::Gitea);
    assert_eq!(settings.target_of("own:*").unwrap().kind, TargetKind::Instance);
    assert_eq!(settings.credentials["own"].api_url, "https://git.lan");
    assert_eq!(settings.templates["act"].runner, PathBuf::from("/usr/local/bin/gitea-runner"));
}

#[test]
fn labels_of_another_forge_say_how_their_jobs_run_and_have_case() {
    let settings = gitea(
        "[[target]]\norg = \"acme\"\n[class.a]\ntemplate = \"act\"\nintake = \"auto\"\n\
         labels = [\"nix\", \"NIX:host\", \"box:docker://debian:12\"]\n[class.a.docker]\nenable = true\n",
    );
    let class = &settings.classes["a"];
    assert_eq!(class.labels, ["nix", "NIX", "box"]);
    assert_eq!(class.registered_labels(), ["nix:host", "NIX:host", "box:docker://debian:12"]);
    assert!(class.offers().has("nix") && !class.offers().has("Nix"));
    assert_eq!(class.intake, Intake::Polling);
}

#[test]
fn each_mistake_about_another_forge_is_refused_with_key_problem_and_remedy() {
    let org = "[[target]]\norg = \"acme\"\n[class.a]\ntemplate = \"act\"\n";
    for (text, key, problem) in [
        (format!("{GITEA}[[target]]\norg = \"acme\"\n"), "target[0].classes", "no class has a runner for Gitea"),
        (
            format!("{GITEA}[[target]]\nenterprise = \"acme\"\n[class.a]\ntemplate = \"act\"\n"),
            "target[0]",
            "no enterprise",
        ),
        (format!("{GITEA}{org}labels = [\"x:vm\"]\n"), "class.a.labels", "unknown way"),
        (format!("{GITEA}{org}labels = [\"x:docker://i\"]\n"), "class.a.labels", "need Docker"),
        (format!("{GITEA}{org}labels = [\"x\", \"x:host\"]\n"), "class.a.labels", "named twice"),
        (format!("{GITEA}{org}intake = \"scale-set\"\n"), "class.a.intake", "no scale sets"),
        (
            format!("{GITEA}[class.a]\ntemplate = \"act\"\n[class.b]\n[[target]]\norg = \"acme\"\nclasses = [\"b\"]\n"),
            "target[0].classes",
            "runner of class b is for GitHub",
        ),
        (GITEA.replace("url = \"https://git.lan/\"\n", "") + org, "credential.own.url", "not the root of a Gitea"),
        (GITEA.replace("token_file = \"/t\"\n", "") + org, "credential.own.token_file", "opened by a token"),
        (GITEA.replace("url =", "api_url = \"https://x\"\nurl =") + org, "credential.own.api_url", "is GitHub's"),
        (GITEA.replace("url =", "app_id = 1\nurl =") + org, "credential.own", "no Apps"),
        (GITEA.replace("url =", "webhook_secret_file = \"/s\"\nurl =") + org, "webhook_secret_file", "nothing listens"),
        (
            "[credential.a]\ntoken_file = \"/t\"\nurl = \"https://x\"\n[[target]]\ninstance = true\n".to_owned(),
            "credential.a.url",
            "of no use at GitHub",
        ),
        ("token_file = \"/t\"\n[[target]]\ninstance = true\n".to_owned(), "target[0]", "GitHub has no instance"),
    ] {
        let said = load(Some(written(&text, ".toml").path()), |_| None).unwrap_err().to_string();
        assert!(said.contains(key) && said.contains(problem) && said.contains("Remedy: "), "{text}: {said}");
    }
    let hook = GITEA.replace("url =", "webhook_secret_file = \"/s\"\nurl =") + "[webhook]\n" + org;
    let settings = load(Some(written(&hook, ".toml").path()), |_| None).unwrap();
    let named: Vec<String> = token_file::secret_files(&settings).into_iter().map(|file| file.credential).collect();
    assert_eq!(named, ["forge-own", "webhook-secret-own"]);
}
