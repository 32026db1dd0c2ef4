//! What is said of the configuration's keys elsewhere, against the program: docs/configuration.md (which this writes
//! anew with `UPDATE_REFERENCE=1`) and the NixOS options.

use std::{env, fs, process::Command};

use serde_json::{Value, json};
use settings::reference;

use super::{MADE, is_there, text};

const DOCUMENT: &str = "docs/configuration.md";
const TOP: &str = "the top level";

#[test]
fn the_reference_is_what_the_program_reads() {
    let schema = reference::schema();
    let tables = reference::tables(&schema);
    let document = fs::read_to_string(DOCUMENT).unwrap();
    let mut fresh = document.clone();
    for (path, table) in &tables {
        let begin = format!("<!-- keys: {} -->\n", if path.is_empty() { TOP } else { path });
        let (before, rest) = fresh.split_once(&begin).unwrap_or_else(|| panic!("{DOCUMENT} has no line {begin}"));
        let (_, after) = rest.split_once("<!-- end of keys -->").unwrap();
        fresh = format!("{before}{begin}{}<!-- end of keys -->{after}", reference::markdown(table));
    }
    assert_eq!(fresh.matches("<!-- keys: ").count(), tables.len(), "{DOCUMENT} has a table that the program lacks");
    if env::var_os("UPDATE_REFERENCE").is_some() {
        fs::write(DOCUMENT, fresh).unwrap();
    } else {
        assert!(fresh == document, "{DOCUMENT} is not current: UPDATE_REFERENCE=1 make command-line");
    }
}

#[test]
fn every_key_is_an_option_of_nixos_with_the_same_default() {
    if !is_there("nix-instantiate") {
        return;
    }
    let schema = MADE.path().join("schemas/configuration.json");
    let schema: Value = serde_json::from_str(&fs::read_to_string(schema).unwrap()).unwrap();
    let output = Command::new("nix-instantiate")
        .args(["--eval", "--strict", "--json", "tests/nix/options.nix"])
        .envs([("NIX_REMOTE", "dummy://"), ("NIX_CONFIG", "build-users-group =")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let options: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut keys = 0;
    for (path, table) in reference::tables(&schema) {
        let place = format!("/{path}").replace('.', "/").replace("target", "target/0");
        let options = options.pointer(place.trim_end_matches('/')).unwrap_or_else(|| panic!("no option for {path}"));
        for (name, key) in reference::keys(table) {
            let said =
                options[name].as_str().unwrap_or_else(|| panic!("nix/options.nix has no option for {path}.{name}"));
            let default = match &key["default"] {
                // A default in words is said in other words.
                Value::Null | Value::Bool(false) => None,
                default if *default == 0 || *default == "" || *default == json!([]) => None,
                _ => reference::default(key),
            };
            let wanted = default.map(|default| format!("{default} if not set")).unwrap_or_default();
            assert!(said.replace('`', "").contains(&wanted), "{path}.{name}: {said:?} does not say {wanted:?}");
            keys += 1;
        }
    }
    assert_eq!(leaves(&options), keys, "nix/options.nix has options that the program has no keys for");
}

fn leaves(value: &Value) -> usize {
    match value {
        Value::Object(fields) => fields.values().map(leaves).sum(),
        Value::Array(items) => items.iter().map(leaves).sum(),
        _ => 1,
    }
}
