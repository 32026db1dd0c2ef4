//! The page at `/`, in a real browser, while jobs run.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use controller::phase::Phase;
use github_sim::world::JobSpec;
use stage::{
    REPO, Stage, StageConfig,
    browser::{self, Browser},
};

const MINUTE: Duration = Duration::from_secs(60);
const SMALL: [&str; 2] = ["self-hosted", "linux"];
/// A job's name is anybody's: it must stay a name.
const HOSTILE: &str = "<img src=x onerror=\"document.title='owned'\"> & <b>bold</b>";
/// What has a role that people who do not see it must know by its name.
const NAMED: [&str; 10] =
    ["region", "table", "button", "link", "textbox", "meter", "image", "img", "heading", "columnheader"];

#[test]
fn who_has_the_token_sees_the_dashboard_and_nobody_else_sees_more_than_its_form() {
    if let Some(reason) = browser::missing() {
        println!("skipped: {reason}");
        return;
    }
    const FILE: &str = "/etc/gha-runner-controller/readers";
    const READERS: &str = "readers-token-8812";
    let config = StageConfig { files: vec![(FILE.into(), READERS.into(), 0o400)], ..StageConfig::default() };
    let top = format!("{}http.token_file = \"{FILE}\"\n", config.top);
    let Some(stage) = Stage::boot(&StageConfig { top, ..config }).unwrap() else { return };
    assert_eq!(stage.health().unwrap().0, 401);
    let (_, long) = stage.queue_small("secret project", "exec sleep 300").unwrap();
    stage.wait_phase(long, Phase::Running, MINUTE).unwrap();

    let page = Browser::start(stage.lab.host_pid().unwrap()).unwrap();
    page.open("http://127.0.0.1:8080/").unwrap();
    let form = "document.querySelector('#token-form')";
    let enter = |token: &str| {
        page.run(&format!("document.querySelector('#token').value = '{token}'; {form}.requestSubmit()")).unwrap();
    };
    page.wait(&format!("!{form}.hidden"), MINUTE).unwrap();
    enter("wrong");
    page.wait(&format!("!{form}.hidden"), MINUTE).unwrap();
    assert_ne!(page.run("return document.querySelector('#link').dataset.state").unwrap(), "live");
    let shown = page.run("return document.body.innerText").unwrap();
    assert!(!shown.as_str().unwrap().contains("secret project"), "{shown}");
    enter(READERS);
    page.wait("document.querySelector('#link').dataset.state === 'live'", MINUTE).unwrap();
    page.wait("document.querySelector('#now').innerText.includes('secret project')", MINUTE).unwrap();
    page.wait(&format!("{form}.hidden"), MINUTE).unwrap();
    // It is not in the address, which is kept and shown; another page of this visit needs it no more.
    assert!(!page.run("return location.href").unwrap().as_str().unwrap().contains(READERS));
    page.open("http://127.0.0.1:8080/").unwrap();
    page.wait("document.querySelector('#link').dataset.state === 'live'", MINUTE).unwrap();
}

#[test]
fn the_dashboard_shows_what_runs_and_why_the_rest_waits_within_a_second_and_to_everybody() {
    if let Some(reason) = browser::missing() {
        println!("skipped: {reason}");
        return;
    }
    let config = StageConfig {
        classes: "[class.small]\nlabels = [\"self-hosted\", \"linux\"]\nmax_concurrent = 2\nmemory = \"1G\"\n\
                  timeout = \"30min\"\n"
            .to_owned(),
        ..StageConfig::default()
    };
    let Some(stage) = Stage::boot(&config).unwrap() else { return };
    let (_, first) = stage.queue_small("unit tests", "echo first; sleep 1").unwrap();
    stage.wait_finished(first, MINUTE).unwrap();
    let (_, long) = stage.queue_small("integration tests", "exec sleep 300").unwrap();
    stage.wait_phase(long, Phase::Running, MINUTE).unwrap();
    let windows = ["self-hosted", "windows"];
    let (hostile, _) = stage.queue(HOSTILE, &windows, "true").unwrap();

    let page = Browser::start(stage.lab.host_pid().unwrap()).unwrap();
    page.appear(1280, 900, "light").unwrap();
    page.open("http://127.0.0.1:8080/").unwrap();
    page.wait("document.querySelector('#link').dataset.state === 'live'", MINUTE).unwrap();
    page.wait("document.querySelector('#queue').innerText.includes('no class has label windows')", MINUTE).unwrap();
    page.wait("document.querySelector('#last').innerText.includes('unit tests')", MINUTE).unwrap();
    page.wait("document.querySelector('#now').innerText.includes('30 min 0 s at most')", MINUTE).unwrap();
    let shown = page.run("return document.querySelector('#queue').innerText").unwrap();
    assert!(shown.as_str().unwrap().contains(HOSTILE), "{shown}");
    assert_eq!(page.run("return document.querySelectorAll('main img, main b').length").unwrap(), 0);
    stage.hub.cancel_run(hostile).unwrap();
    page.wait("!document.querySelector('#queue').innerText.includes('onerror')", MINUTE).unwrap();
    stage.queue("windows installer", &windows, "true").unwrap();

    // What a container uses, as far as the kernel counts it here, and against which limit.
    page.wait(r"/\d\.\d\d processors/.test(document.querySelector('#now').innerText)", MINUTE).unwrap();
    let container = stage.status().unwrap().active_containers[0].clone();
    assert!(container.cpu_us.is_some_and(|us| us > 0), "{container:?}");
    let meters = page.run("return [...document.querySelectorAll('#now meter')].map((one) => one.ariaLabel)").unwrap();
    let memory = format!("memory of {}", container.name);
    let shown = meters.as_array().unwrap().iter().any(|meter| *meter == memory.as_str());
    assert_eq!(shown, container.memory.is_some(), "{meters}");

    // What happens is seen within a second: the page itself notes when it first shows it.
    page.run(
        "window.seen = {};
         const note = () => {
           const now = document.querySelector('#now').innerText;
           if (now.includes('deploy') && /running/.test(document.querySelector('#now tr:has(td) ~ tr')?.innerText ?? now))
             window.seen.running ??= Date.now();
           if (document.querySelector('#last').innerText.includes('deploy')) window.seen.ended ??= Date.now();
         };
         new MutationObserver(note).observe(document.body, { childList: true, subtree: true, characterData: true });",
    )
    .unwrap();
    let (_, quick) = stage.queue_small("deploy", "sleep 2").unwrap();
    let ended = stage.wait_finished(quick, MINUTE).unwrap();
    page.wait("window.seen.running && window.seen.ended", MINUTE).unwrap();
    let seen = page.run("return window.seen").unwrap();
    let late = |at: &serde_json::Value, happened: u64| at.as_u64().unwrap().saturating_sub(happened);
    let running = late(&seen["running"], ended.timeline.job_started_ms.unwrap());
    let gone = late(&seen["ended"], ended.concluded_ms);
    println!("shown after: running {running} ms, ended {gone} ms");
    assert!(running < 1000 && gone < 1000, "running was shown after {running} ms, its end after {gone} ms");

    // One more that waits for a place, for the pictures.
    for name in ["lint", "build (linux, release)"] {
        stage.hub.queue_job(REPO, JobSpec::new(name, &SMALL, &["exec sleep 300"])).unwrap();
    }
    page.wait("document.querySelector('#queue').innerText.includes('it is next')", MINUTE).unwrap();
    for (name, width, height, theme) in [
        ("light.png", 1280, 1100, "light"),
        ("dark.png", 1280, 1100, "dark"),
        ("phone-light.png", 390, 844, "light"),
        ("phone-dark.png", 390, 844, "dark"),
    ] {
        page.appear(width, height, theme).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        browser::keep(&page.picture().unwrap(), name).unwrap();
        let wide = page.run("return document.documentElement.scrollWidth - window.innerWidth").unwrap();
        assert!(wide.as_i64().unwrap() <= 0, "{name}: the page is {wide} px wider than the screen");
        let dark = page.run("return getComputedStyle(document.body).backgroundColor").unwrap();
        assert_eq!(dark == "rgb(15, 18, 22)", theme == "dark", "{name}: {dark}");
    }

    // By keyboard alone, and by ear.
    page.appear(1280, 900, "light").unwrap();
    page.press_tab().unwrap();
    assert_eq!(page.run("return document.activeElement.className").unwrap(), "skip");
    let mut reached = Vec::new();
    for _ in 0..8 {
        page.press_tab().unwrap();
        reached.push(page.run("return document.activeElement.id").unwrap().as_str().unwrap_or_default().to_owned());
    }
    for part in ["now", "queue", "last"] {
        assert!(reached.iter().any(|id| id == part), "{part} is not reached by keyboard: {reached:?}");
    }
    let things = page.accessible().unwrap();
    assert!(things.iter().filter(|(role, _)| role == "meter").count() >= 2, "{things:?}");
    for (role, name) in things {
        assert!(!NAMED.contains(&role.as_str()) || !name.is_empty(), "a {role} has no name");
    }

    // The controller goes: the page says so, and recovers by itself.
    stage.systemctl(&["restart", stage::SERVICE]).unwrap();
    page.wait("document.querySelector('#link').dataset.state === 'live'", MINUTE).unwrap();
    let complaints: Vec<String> = page.console().unwrap();
    let unexpected: Vec<&String> = complaints.iter().filter(|line| !line.contains("ERR_")).collect();
    assert!(unexpected.is_empty(), "{unexpected:?}");
}
