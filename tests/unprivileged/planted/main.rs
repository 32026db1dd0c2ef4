//! Tests of the tests: faults are planted into a copy of the tree, and each must be caught by the simulation.
//!
//! The copy has all of them at once, each behind its name in the environment variable `PLANTED`: one compilation, and
//! nothing of it in the product. The copy lies in the build's directory, with a build's directory of its own.
#![allow(clippy::unwrap_used, missing_docs)]

mod faults;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Mutex,
    time::{Duration, Instant},
};

use faults::{Fault, PLANTED};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Longest run of the tests that are to catch one fault.
const PATIENCE: Duration = Duration::from_secs(600);
/// What the copy asks whether a fault is planted.
const SWITCH: &str = "
/// The fault of this name is planted.
pub fn planted(name: &str) -> bool {
    static NAME: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    NAME.get_or_init(|| std::env::var(\"PLANTED\").unwrap_or_default()) == name
}
";

/// The sources with all faults, by path.
fn sources() -> BTreeMap<&'static str, String> {
    let mut sources = BTreeMap::new();
    for Fault { name, file, old, new, .. } in PLANTED {
        let source: &mut String =
            sources.entry(*file).or_insert_with(|| fs::read_to_string(Path::new(ROOT).join(file)).unwrap());
        assert_eq!(source.matches(old).count(), 1, "{name}: {file} has this once no more, plant it anew: {old}");
        *source = source.replace(old, &new.replace("PLANTED", &format!("contract::planted({name:?})")));
    }
    sources
}

#[test]
fn every_fault_has_its_place_in_the_code_and_a_name_of_its_own() {
    let names: std::collections::BTreeSet<_> = PLANTED.iter().map(|fault| fault.name).collect();
    assert!(names.len() == PLANTED.len() && names.len() >= 16, "{names:?}");
    assert!(PLANTED.iter().all(|fault| fault.new.contains("PLANTED")));
    sources();
}

/// Writes the copy; a file that is as it was is left alone, so that it is not compiled again.
fn write_copy(to: &Path) {
    let listing = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let output = Command::new("git").args(listing).current_dir(ROOT).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut planted = sources();
    let contract = "crates/contract/src/lib.rs";
    planted
        .entry(contract)
        .or_insert_with(|| fs::read_to_string(Path::new(ROOT).join(contract)).unwrap())
        .push_str(SWITCH);
    for name in String::from_utf8(output.stdout).unwrap().split_terminator('\0') {
        let text = planted.remove(name).map(String::into_bytes);
        let Some(text) = text.or_else(|| fs::read(Path::new(ROOT).join(name)).ok()) else { continue };
        let target = to.join(name);
        if fs::read(&target).ok().as_ref() != Some(&text) {
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            fs::write(target, text).unwrap();
        }
    }
}

/// Compiles the copy's simulation; its program.
fn compiled(copy: &Path) -> PathBuf {
    let cargo = std::env::var("PLANTED_CARGO").unwrap_or_else(|_| env!("CARGO").into());
    let output = Command::new(cargo)
        .args([
            "test",
            "--release",
            "--locked",
            "--workspace",
            "--test",
            "simulation",
            "--no-run",
            "--message-format=json",
        ])
        .current_dir(copy)
        // Of its own: packages of the same names would take the place of the tree's.
        .env("CARGO_TARGET_DIR", copy.join("target"))
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "the copy with the faults does not compile: {}", copy.display());
    let messages = String::from_utf8(output.stdout).unwrap();
    let mut messages = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let program = messages.find_map(|message| {
        let is_simulation = message["target"]["name"] == "simulation" && message["profile"]["test"] == true;
        message["executable"].as_str().filter(|_| is_simulation).map(PathBuf::from)
    });
    program.expect("cargo names no program")
}

/// What the tests have to say of a fault.
enum Verdict {
    /// This test failed first, with these words.
    Caught { test: String, words: String },
    /// All passed.
    Missed,
    /// They did not come to an end.
    Hangs,
}

fn run(program: &Path, copy: &Path, fault: &str, tests: &[&str]) -> Verdict {
    let log = copy.join(format!("{fault}.log"));
    let mut child = Command::new(program)
        .args(tests)
        .args(["--test-threads=1", "--nocapture"])
        .current_dir(copy)
        .envs([("PLANTED", fault), ("SIMULATION_SEEDS", "6"), ("RUST_BACKTRACE", "0")])
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if begun.elapsed() > PATIENCE => {
                child.kill().unwrap();
                child.wait().unwrap();
                return Verdict::Hangs;
            }
            None => std::thread::sleep(Duration::from_millis(50)),
        }
    };
    if status.success() {
        return Verdict::Missed;
    }
    let log = fs::read_to_string(log).unwrap();
    // thread 'TEST' (1) panicked at FILE:LINE:COLUMN:, and its words below.
    let panic = log.split_once("thread '").map(|(_, panic)| panic).unwrap_or_default();
    let test = panic.split('\'').next().unwrap_or_default().to_owned();
    let words = panic.lines().nth(1).unwrap_or("ended by a signal").chars().take(100).collect();
    Verdict::Caught { test, words }
}

#[test]
#[ignore = "compiles a copy of the tree: make planted"]
fn every_planted_fault_is_caught_by_the_simulation() {
    let build = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let copy = build.join("planted");
    write_copy(&copy);
    let program = compiled(&copy);
    let (all, verdicts) = (Mutex::new(PLANTED.iter()), Mutex::new(BTreeMap::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(fault) = { all.lock().unwrap().next() } {
                    let verdict = run(&program, &copy, fault.name, fault.caught_by);
                    verdicts.lock().unwrap().insert(fault.name, verdict);
                }
            });
        }
    });
    // Without a fault the same tests pass, so what was caught is the fault.
    let mut tests: Vec<&str> = PLANTED.iter().flat_map(|fault| fault.caught_by).copied().collect();
    tests.sort_unstable();
    tests.dedup();
    assert!(matches!(run(&program, &copy, "nothing", &tests), Verdict::Missed), "they fail without a fault: {tests:?}");
    let (verdicts, mut missed) = (verdicts.into_inner().unwrap(), Vec::new());
    println!("{:<24} {:<58} caught by", "fault", "what it does");
    for fault in PLANTED {
        let how = match &verdicts[fault.name] {
            Verdict::Caught { test, words } => format!("{test}: {words}"),
            Verdict::Hangs => "a test that does not end any more".to_owned(),
            Verdict::Missed => {
                missed.push(fault.name);
                "NOBODY".to_owned()
            }
        };
        println!("{:<24} {:<58} {how}", fault.name, fault.what);
    }
    assert!(missed.is_empty(), "not caught: {missed:?}");
}
