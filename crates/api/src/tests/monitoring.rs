//! What `monitoring` ships for Prometheus and Grafana, against what is scraped.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::*;

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
/// Labels that Prometheus adds, or that a histogram's buckets have.
const ADDED: [&str; 3] = ["instance", "job", "le"];

/// A scrape of a controller that has some of everything.
async fn scrape() -> String {
    let (_sender, status) = watch::channel(status());
    let sources = Sources { webhook: Some(Arc::default()), ..sources(status) };
    let before = sources.status();
    sources.observe(&before, &Status { finished: vec![ended()], ..before.clone() });
    let at = served(sources, None, false).await;
    ask(at, &read("/metrics", "")).await.1
}

fn shipped(name: &str) -> String {
    std::fs::read_to_string(Path::new(REPOSITORY).join("monitoring").join(name)).unwrap()
}

/// Names of metrics, and the labels of each.
fn names(scrape: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut names = BTreeMap::<String, BTreeSet<String>>::new();
    for sample in samples(scrape).keys() {
        let (name, labels) = sample.split_once('{').unwrap_or((sample, "}"));
        let labels = labels.trim_end_matches('}').split(',').filter_map(|label| label.split_once('='));
        names.entry(name.to_owned()).or_default().extend(labels.map(|(label, _)| label.to_owned()));
    }
    names
}

fn alerts() -> Vec<String> {
    let text = shipped("alerts.yml");
    let until =
        |rule: &str| rule.split("\n        for:").next().unwrap().split("\n        labels:").next().unwrap().to_owned();
    text.split("expr:")
        .skip(1)
        .map(until)
        .map(|expr| expr.replace(">-", "").split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

/// Every expression of the dashboard, as Grafana would ask it.
fn asked() -> Vec<String> {
    let dashboard: serde_json::Value = serde_json::from_str(&shipped("grafana.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    targets.map(|target| target["expr"].as_str().unwrap().replace("$__rate_interval", "5m")).collect()
}

/// Words of an expression, and whether each is in a string.
fn words(expr: &str) -> Vec<String> {
    let outside: String = expr.split('"').step_by(2).collect::<Vec<_>>().join("\"\"");
    outside.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').map(str::to_owned).collect()
}

#[tokio::test]
async fn every_metric_and_label_that_alerts_and_the_dashboard_name_is_scraped() {
    let scraped = names(&scrape().await);
    let expressions: Vec<String> = alerts().into_iter().chain(asked()).collect();
    assert!(expressions.len() > 40, "{expressions:#?}");
    for expr in &expressions {
        let metrics: Vec<String> = words(expr).into_iter().filter(|word| word.starts_with("gha_runner_")).collect();
        assert!(!metrics.is_empty(), "{expr}");
        for metric in &metrics {
            assert!(scraped.contains_key(metric), "{metric} of {expr} is not scraped");
        }
        // In braces and after `by` are labels.
        let braces = expr.split('{').skip(1).map(|part| part.split('}').next().unwrap().to_owned());
        let groups = expr.split("by (").skip(1).map(|part| part.split(')').next().unwrap().to_owned());
        for label in braces.chain(groups).flat_map(|part| words(&part)).filter(|label| !label.is_empty()) {
            let known = metrics.iter().all(|metric| scraped[metric].contains(&label));
            assert!(known || ADDED.contains(&label.as_str()), "label {label} of {expr} is not scraped");
        }
    }
    let labels: BTreeSet<&String> = scraped.values().flatten().collect();
    let (alerts, dashboard) = (shipped("alerts.yml"), shipped("grafana.json"));
    let named = alerts.split("$labels.").chain(dashboard.split("{{").filter(|part| part.contains("}}"))).skip(1);
    for label in named.map(|rest| words(rest).swap_remove(0)).filter(|label| !label.is_empty()) {
        assert!(labels.contains(&label) || ADDED.contains(&label.as_str()), "{label} is told and not scraped");
    }
    for query in dashboard.split("label_values(").skip(1).map(words) {
        assert!(scraped.contains_key(&query[0]), "{query:?}");
    }
    let shown: BTreeSet<String> = asked().iter().flat_map(|expr| words(expr)).collect();
    let unseen: Vec<&String> = scraped
        .keys()
        .filter(|name| !name.ends_with("_sum") && !name.ends_with("_count") && !shown.contains(*name))
        .collect();
    assert!(unseen.is_empty(), "scraped, and not on the dashboard: {unseen:?}");
}

/// Prometheus' own checker: installed, or where tests/setup.sh unpacked it.
fn promtool(arguments: &[&str], input: &str) -> Option<(bool, String)> {
    let cache = std::env::var_os("GHA_TOOLS_CACHE").unwrap_or("/var/cache/gha-runner-controller-tools".into());
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain([PathBuf::from(cache).join("bin")]);
    let Some(program) = places.map(|place| place.join("promtool")).find(|program| program.is_file()) else {
        println!("skipped: no promtool (tests/setup.sh gets it)");
        return None;
    };
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(REPOSITORY)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

#[tokio::test]
async fn prometheus_own_checker_finds_nothing_wrong_with_a_scrape() {
    let text = scrape().await;
    let Some((good, said)) = promtool(&["check", "metrics"], &text) else { return };
    assert!(good && said.trim().is_empty(), "{said}\n{text}");
    // It would find something.
    let (good, said) = promtool(&["check", "metrics"], &text.replace("_left_seconds", "_left_days")).unwrap();
    assert!(!good && said.contains("base unit"), "{said}");
}

#[test]
fn prometheus_own_checker_reads_every_expression_and_alerts_fire_when_they_should() {
    let rules: Vec<serde_json::Value> = asked()
        .iter()
        .enumerate()
        .map(|(index, expr)| serde_json::json!({"record": format!("panel:{index}"), "expr": expr}))
        .collect();
    // JSON is YAML.
    let of_dashboard = tempfile::NamedTempFile::with_suffix(".yml").unwrap();
    let groups = serde_json::json!({"groups": [{"name": "dashboard", "rules": rules}]});
    std::fs::write(&of_dashboard, groups.to_string()).unwrap();
    let path = of_dashboard.path().to_str().unwrap();
    for arguments in [
        ["check", "rules", "monitoring/alerts.yml"],
        ["test", "rules", "monitoring/alerts_test.yml"],
        ["check", "rules", path],
    ] {
        let Some((good, said)) = promtool(&arguments, "") else { return };
        assert!(good && said.contains("SUCCESS"), "{arguments:?}: {said}");
    }
}
