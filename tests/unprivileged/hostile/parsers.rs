//! The parsers, each with what holds of what it accepts.

use std::{
    cell::RefCell,
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    time::Duration,
};

use api::webhook::{Deliveries, Judged, Secret};
use contract::{
    ContainerName, GRANT_FILE, RECORD_FILE, VERSION,
    event::EVENT_LIMIT,
    order::{Answer, Order, line, parse},
};
use controller::{
    guests::GuestSockets,
    ledger::Ledger,
    ports::{Feed, Guests, Records},
    record::Record,
};
use guest::{
    act, admit,
    dialect::Said,
    github::{console, grant},
    lines::{LIMIT, Lines, plain},
};
use sandbox::inbox;
use tokio::{
    io::AsyncWriteExt,
    net::UnixListener,
    time::{sleep, timeout},
};

use crate::fuzz;

/// A name that is safe as a file's, a unit's and a machine's.
fn assert_plain(name: &ContainerName) {
    let plain = name.as_str().bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    assert!(plain && (1..=16).contains(&name.as_str().len()), "{name}");
}

fn write_private(path: &Path, text: &[u8]) {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
    file.write_all(text).unwrap();
}

fn settings() -> settings::Settings {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/single-repository.toml");
    settings::load(Some(&example), |_| None).unwrap()
}

#[test]
fn an_order_to_the_launcher() {
    fuzz("order", |bytes| {
        let _ = parse::<Answer>(bytes).map(|answer| assert_eq!(parse::<Answer>(&line(&answer)), Ok(answer)));
        let Ok(order) = parse::<Order>(bytes) else { return false };
        assert_plain(&order.name);
        assert_eq!(parse::<Order>(&line(&order)), Ok(order));
        true
    });
}

/// A hand-over as root's half reads it: the record and the grant, one of them hostile.
fn handed_over(parser: &str, hostile: &str) {
    let home = tempfile::tempdir().unwrap();
    let (handover, name) = (home.path().join("containers"), "j0000001".parse::<ContainerName>().unwrap());
    let own = handover.join(name.as_str());
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&own).unwrap();
    let settings = settings();
    let class = settings.classes.keys().next().unwrap();
    let (scope, subnet) = (&settings.targets[0].name, settings.network.pool.subnet(0).unwrap());
    let record = format!(
        r#"{{"version":1,"name":"{name}","class":"{class}","subnet":"{subnet}","scope":"{scope}","job_id":1,"runner_name":"x"}}"#
    );
    write_private(&own.join(RECORD_FILE), record.as_bytes());
    write_private(&own.join(GRANT_FILE), br#"{"kind":"github-jit","encoded_jit_config":"e30="}"#);
    fuzz(parser, |bytes| {
        // The corpus does not know what the example is called.
        let text = String::from_utf8_lossy(bytes).replace("CLASS", class).replace("SCOPE", scope);
        let known = text.replace("SUBNET", &subnet.to_string());
        write_private(&own.join(hostile), if known == text { bytes } else { known.as_bytes() });
        let Ok(accepted) = inbox::read(&handover, &name, class, &settings) else { return false };
        let record = &accepted.record;
        assert_eq!((record.version, &record.name, &record.class), (VERSION, &name, class));
        assert!(settings.target_of(&record.scope).is_some_and(|target| target.has_class(class)), "{record:?}");
        assert_eq!(settings.network.pool.subnet(accepted.subnet_index), Some(record.subnet));
        true
    });
}

#[test]
fn a_record_that_was_handed_over() {
    handed_over("record", RECORD_FILE);
}

#[test]
fn a_grant_that_was_handed_over() {
    handed_over("grant", GRANT_FILE);
}

#[test]
fn the_registration_in_a_grant() {
    fuzz("registration", |bytes| {
        let Ok(files) = grant::files(&String::from_utf8_lossy(bytes)) else { return false };
        assert!(files.keys().all(|name| name.starts_with('.') && !name.contains('/') && !name[1..].contains('.')));
        true
    });
}

#[test]
fn what_the_controller_finds_in_its_state_directory() {
    let dir = tempfile::tempdir().unwrap();
    let [state, handover, endings] = ["state", "handover", "endings"].map(|name| dir.path().join(name));
    fs::create_dir_all(&endings).unwrap();
    let ledger = Ledger::at(&state, &handover, &endings, "boot".into()).unwrap();
    let name: ContainerName = "j0000001".parse().unwrap();
    fs::create_dir_all(handover.join(name.as_str())).unwrap();
    fuzz("state", |bytes| {
        for path in ["containers/j0000001.json", "sets/small@o%r.json", "drains.json"] {
            write_private(&state.join(path), bytes);
        }
        write_private(&endings.join("j0000001.json"), bytes);
        fs::create_dir_all(handover.join(name.as_str())).unwrap();
        write_private(&handover.join(name.as_str()).join(RECORD_FILE), bytes);
        let (sets, drains, ending) = (ledger.load_sets().unwrap(), ledger.load_drains(), ledger.ending(&name));
        let (records, handed) = (ledger.load().unwrap(), ledger.handed_over().unwrap());
        for Record { name, .. } in &records {
            assert_plain(name);
        }
        for record in &records {
            ledger.put(record).unwrap();
            assert_eq!(ledger.load().unwrap(), records);
        }
        !records.is_empty() || !sets.is_empty() || drains.is_ok() || ending.is_some() || !handed.is_empty()
    });
}

#[test]
fn what_a_guest_reports() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let own = dir.path().join("j0000001");
    fs::create_dir(&own).unwrap();
    fuzz("events", |bytes| {
        let socket = own.join(contract::event::SOCKET_FILE);
        let _ = fs::remove_file(&socket);
        runtime.block_on(async {
            let listener = UnixListener::bind(&socket).unwrap();
            let mut feed = GuestSockets::below(dir.path()).follow(&"j0000001".parse().unwrap());
            let said = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = timeout(Duration::from_secs(5), stream.write_all(bytes)).await;
                // What was sent is read, or the feed has ended.
                sleep(Duration::from_micros(200)).await;
            };
            let (mut heard, mut next) = (0, 0);
            let hearing = async {
                while let Some(event) = feed.next().await {
                    assert_eq!(event.seq, next, "each once, in order");
                    (heard, next) = (heard + 1, next + 1);
                }
            };
            tokio::select! {
                () = async { tokio::join!(hearing, std::future::pending::<()>()); } => {}
                () = said => {}
            }
            assert!(heard <= EVENT_LIMIT, "{heard} events");
            heard > 0
        })
    });
}

#[test]
fn a_webhooks_delivery() {
    let heard = RefCell::new(Deliveries::default());
    let (secret, mut id) = (Secret::new(b"swordfish").unwrap(), 0_u64);
    fuzz("webhook", |bytes| {
        id += 1;
        let signature = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned();
        assert!(!secret.proof().with(bytes).holds(&signature), "an unsigned delivery is believed");
        matches!(heard.borrow_mut().judge(&id.to_string(), bytes), Judged::News(_) | Judged::Old | Judged::Ignored)
    });
}

#[test]
fn an_events_payload_at_the_fork_gate() {
    fuzz("payload", |bytes| {
        // What nobody can read is never let in where it matters.
        let judged = admit::judge(Some("pull_request"), bytes);
        if serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_err() {
            assert!(judged.is_err(), "let in unread");
        }
        judged.is_ok()
    });
}

#[test]
fn the_lines_of_a_runners_console() {
    fuzz("console", |bytes| {
        let (mut lines, mut all) = (Lines::default(), Vec::new());
        for piece in bytes.chunks(7) {
            lines.feed(piece, |line| all.push(line));
        }
        all.extend(lines.rest());
        let mut known = false;
        for line in &all {
            assert!(line.len() <= 3 * LIMIT + 40 && !line.contains('\n'));
            match console::parse(line) {
                Some(Said::Version(version)) => {
                    assert!(version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'), "{version:?}");
                }
                Some(_) => {}
                None => continue,
            }
            known = true;
        }
        known
    });
}

#[test]
fn the_lines_of_a_giteas_runner() {
    fuzz("act-console", |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let said: Vec<Said> = text.lines().flat_map(act::console::parse).collect();
        for said in &said {
            if let Said::JobStarted { task, .. } = said {
                assert!(task.is_some(), "a job that nobody could end at its forge");
            }
        }
        !said.is_empty()
    });
}

#[test]
fn the_pages_of_a_jobs_output() {
    fuzz("pages", |bytes| {
        let cut = |size: usize| {
            let (mut lines, mut all) = (Lines::default(), Vec::new());
            for piece in bytes.chunks(size) {
                lines.feed(piece, |line| all.push(plain(&line)));
            }
            all.extend(lines.rest().map(|line| plain(&line)));
            all
        };
        let whole = cut(4096);
        assert_eq!(whole, cut(13), "it matters how the output was cut");
        let hidden = |line: &String| line.chars().any(|c| c.is_control() && c != '\t');
        assert!(!whole.iter().any(hidden), "what the journal would hide: {whole:?}");
        !whole.is_empty()
    });
}

#[test]
fn a_configuration() {
    let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    fuzz("configuration", |bytes| {
        fs::write(file.path(), bytes).unwrap();
        match settings::load(Some(file.path()), |_| None) {
            Ok(settings) => {
                assert!(!settings.targets.is_empty() && !settings.classes.is_empty() && settings.max_concurrent > 0);
                assert!(settings.classes.values().all(|class| class.max_concurrent <= settings.max_concurrent));
                true
            }
            Err(problems) => {
                assert!(!problems.to_string().trim().is_empty(), "refused without a word");
                false
            }
        }
    });
}
