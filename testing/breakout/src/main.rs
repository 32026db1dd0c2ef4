//! The probe program, and the stand-ins it is tried against.

use std::{env, io, path::Path, process::ExitCode};

use breakout::{Found, line, probes, stand_in};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done: io::Result<()> = match words[..] {
        ["serve", log] => stand_in::serve(Path::new(log)),
        ["host", log] => stand_in::host(Path::new(log)),
        ["neighbour"] => stand_in::neighbour(),
        // Without names, every probe.
        ["try", word, ref names @ ..] => {
            for probe in probes::all().iter().filter(|probe| names.is_empty() || names.contains(&probe.name)) {
                let found = std::panic::catch_unwind(|| (probe.run)(&format!("{word}-{}", probe.name)))
                    .unwrap_or_else(|_| Found::skipped("the probe itself failed"));
                println!("{}", line(probe.name, &found));
            }
            Ok(())
        }
        _ => Err(io::Error::other("usage: serve LOG | host LOG | neighbour | try WORD [PROBE...]")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
