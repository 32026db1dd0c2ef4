//! Commands typed on the host of a stage, and what they say compared with what is written down.

use std::path::Path;

use lab::Place;
use serde_json::Value;
use stage::Stage;

const PROGRAM: &str = "/usr/local/bin/gha-runner-controller";
const MADE: &str = "/tmp/made";

/// What a command printed, and its exit status.
pub struct Said {
    pub text: String,
    pub errors: String,
    pub code: i32,
}

/// After `before`, which may change who types.
pub fn run(stage: &Stage, before: &[&str], arguments: &[&str]) -> Said {
    let command: Vec<&str> = before.iter().chain([&PROGRAM]).chain(arguments).copied().collect();
    let output = stage.lab.exec(Place::Host, &command).unwrap();
    Said { text: output.text(), errors: output.errors(), code: output.status.code().unwrap() }
}

pub fn root(stage: &Stage, arguments: &[&str]) -> Said {
    run(stage, &[], arguments)
}

/// What differs from run to run is masked: names, ids, times, sizes. Columns are not aligned.
fn masked(text: &str) -> String {
    let mask = |word: &str| {
        let bare = word.trim_end_matches([',', ';', ':', ')']);
        let rest = &word[bare.len()..];
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let unit = |units: &[&str]| {
            units.iter().any(|unit| bare.strip_suffix(unit).is_some_and(|number| digits(&number.replace('.', ""))))
        };
        let name = bare.parse::<contract::ContainerName>().is_ok();
        let shown = match bare {
            _ if name => "CONTAINER",
            _ if bare.starts_with("20") && bare.ends_with('Z') => "TIME",
            _ if bare.contains("/24") || bare.contains("/30") => "SUBNET",
            _ if unit(&["ms", "s", "m", "h"]) => "SPAN",
            _ if unit(&["K", "M", "G"]) => "SIZE",
            _ if digits(bare) && bare.len() > 2 => "ID",
            _ if bare == env!("CARGO_PKG_VERSION") => "VERSION",
            _ => bare,
        };
        format!("{shown}{rest}")
    };
    let line =
        |line: &str| line.split_whitespace().map(mask).collect::<Vec<_>>().join(" ").replace("SPAN SPAN", "SPAN");
    let polled = |line: String| match line.split_once("polled ") {
        Some((before, after)) => format!("{before}polled N{}", after.trim_start_matches(|c: char| c.is_ascii_digit())),
        None => line,
    };
    text.lines().map(|text| polled(line(text)) + "\n").collect()
}

/// Compares with what is expected.
pub fn snapshot(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/root/operate/{name}.txt"));
    let shown = masked(text);
    if std::env::var_os("SNAPSHOTS").is_some_and(|what| what == "write") {
        std::fs::write(&path, &shown).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        shown == expected,
        "{name} printed\n{shown}\nand not, as in {}\n{expected}\n(whole: {text})",
        path.display()
    );
}

/// What a command prints with `--json`: each line a document as the schema says that the program itself gives for it.
pub fn documents(stage: &Stage, arguments: &[&str], schema: &str) -> (Vec<Value>, Said) {
    let said = root(stage, &[arguments, &["--json"]].concat());
    let file = format!("{MADE}/schemas/{schema}.json");
    let made = root(stage, &["generate", "--output", MADE]);
    assert_eq!(made.code, 0, "{}", made.errors);
    let schema: Value = serde_json::from_slice(&stage.lab.read_host(&file).unwrap()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let described = schema.pointer(schema["$ref"].as_str().unwrap().trim_start_matches('#')).unwrap();
    let described = described["properties"].as_object().unwrap();
    let documents: Vec<Value> = said.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(!documents.is_empty(), "{arguments:?}: {}", said.errors);
    for document in &documents {
        let wrong: Vec<String> = validator.iter_errors(document).map(|error| error.to_string()).collect();
        assert!(wrong.is_empty(), "{arguments:?}: {wrong:?}: {document}");
        // What may be left out of what is read, since older ones had it not, is printed all the same.
        for field in described.keys() {
            assert!(document.get(field).is_some(), "{arguments:?}: no {field}: {document}");
        }
    }
    (documents, said)
}

/// The one document of a command that ends with this exit status.
pub fn document(stage: &Stage, arguments: &[&str], schema: &str, code: i32) -> Value {
    let (mut documents, said) = documents(stage, arguments, schema);
    assert_eq!((said.code, documents.len()), (code, 1), "{arguments:?}: {}{}", said.text, said.errors);
    documents.remove(0)
}
