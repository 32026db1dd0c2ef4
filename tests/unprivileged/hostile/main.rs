//! Whatever reads bytes that may be hostile is given such bytes: a kept corpus first, then what mutation makes of it, for
//! `FUZZ_SECONDS` a parser. None may panic, hang or take more than its limit, and what one accepts holds what it promises.
//!
//! An input that fails is written to a file whose name is printed; a copy of it in `corpus/PARSER` keeps it for ever.
//! `FUZZ_SEED` repeats a run; without `FUZZ_SECONDS` it is always the same.
#![allow(clippy::unwrap_used, missing_docs)]

mod forge_bodies;
mod mutation;
mod parsers;

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::Path,
    time::{Duration, Instant},
};

use mutation::mutated;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

/// Time for each parser unless `FUZZ_SECONDS` names another.
const SECONDS: u64 = 3;
/// Inputs that were accepted and are mutated further.
const KEPT: usize = 512;

fn number(key: &str) -> Option<u64> {
    std::env::var(key).ok()?.parse().ok()
}

/// Gives `accepts` the corpus of `parser` and mutations of it, until the time is over. It returns whether the input was
/// accepted.
fn fuzz(parser: &str, mut accepts: impl FnMut(&[u8]) -> bool) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/unprivileged/hostile/corpus").join(parser);
    let mut corpus: Vec<Vec<u8>> =
        fs::read_dir(&folder).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect();
    corpus.sort();
    // What a change is judged by does not change by itself.
    let seconds = number("FUZZ_SECONDS");
    let seed = number("FUZZ_SEED").unwrap_or_else(|| if seconds.is_some() { rand::random() } else { 1 });
    let mut checked = |input: &[u8]| {
        catch_unwind(AssertUnwindSafe(|| accepts(input))).unwrap_or_else(|panic| {
            let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{parser}-{seed}"));
            fs::write(&kept, input).unwrap();
            eprintln!(
                "{parser}: seed {seed}: {}\nkeep it: cp {} {}/",
                input.escape_ascii(),
                kept.display(),
                folder.display()
            );
            resume_unwind(panic)
        })
    };
    let mut rng = StdRng::seed_from_u64(seed);
    let mut accepted = corpus.iter().filter(|input| checked(input)).count() as u64;
    assert!(accepted > 0, "{parser}: nothing in its corpus is accepted, so nothing else will be");
    let time = Duration::from_secs(seconds.unwrap_or(SECONDS));
    let (begun, first, mut tried) = (Instant::now(), corpus.len(), 0_u64);
    while begun.elapsed() < time {
        let input = mutated(corpus.choose(&mut rng).unwrap(), corpus.choose(&mut rng).unwrap(), &mut rng);
        tried += 1;
        if checked(&input) {
            accepted += 1;
            // What is accepted leads deeper than what is refused at the door.
            if corpus.len() < first + KEPT {
                corpus.push(input);
            } else {
                let at = rng.random_range(first..corpus.len());
                corpus[at] = input;
            }
        }
    }
    println!("{parser}: {tried} inputs in {} s, {accepted} accepted", time.as_secs());
}
