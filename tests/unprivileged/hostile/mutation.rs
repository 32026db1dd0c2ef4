//! What becomes of an input: bytes and pieces of it change, words that parsers look out for come in.

use rand::{Rng, rngs::StdRng, seq::IndexedRandom};

/// Longest input made.
const MOST: usize = 1 << 18;
/// What has broken parsers before.
const WORDS: [&[u8]; 40] = [
    b"\0",
    b"\n",
    b"\r\n",
    b"\"",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"null",
    b"true",
    b"-1",
    b"0",
    b"1e999",
    b"18446744073709551615",
    b"18446744073709551616",
    b"-9223372036854775808",
    b"..",
    b"/",
    b"../../etc/passwd",
    b"\xff",
    b"\xc3",
    b"\xef\xbb\xbf",
    b"\x1b[",
    b"\x1b[31",
    b"=",
    b"#",
    b"'",
    b"\"\"\"",
    b"[[",
    b"%s",
    b"${x}",
    b"\xe2\x80\xae",
    b"9999-12-31T23:59:60Z",
    b"0.0.0.0/0",
    b"10.0.0.0/33",
];

/// `input` with some of it changed, or spliced with `other`.
pub fn mutated(input: &[u8], other: &[u8], rng: &mut StdRng) -> Vec<u8> {
    let mut made = input.to_vec();
    for _ in 0..1 << rng.random_range(0..5) {
        let at = rng.random_range(0..=made.len());
        let end = rng.random_range(at..=made.len()).min(at + 64);
        match rng.random_range(0..12) {
            0 if at < made.len() => made[at] ^= 1 << rng.random_range(0..8),
            1 if at < made.len() => made[at] = rng.random(),
            2 => made.insert(at, rng.random()),
            3 => drop(made.drain(at..end)),
            4 => made.truncate(at),
            5 => {
                let piece = made[at..end].to_vec();
                let to = rng.random_range(0..=made.len());
                made.splice(to..to, piece);
            }
            6 if !other.is_empty() => {
                let from = rng.random_range(0..other.len());
                made.truncate(at);
                made.extend_from_slice(&other[from..]);
            }
            7 => {
                // One piece so often that limits count.
                let piece = made[at..end].to_vec();
                let times = 1_usize << rng.random_range(0..12);
                made.splice(at..at, piece.repeat(times.min(MOST / (piece.len() + 1))));
            }
            8 => {
                // Another number in the place of one.
                if let Some(digit) = made.iter().skip(at).position(u8::is_ascii_digit) {
                    made[at + digit] = rng.random_range(b'0'..=b'9');
                }
            }
            _ => {
                let word = *WORDS.choose(rng).unwrap();
                let replaced = if rng.random() { at..at } else { at..end };
                made.splice(replaced, word.iter().copied());
            }
        }
        made.truncate(MOST);
    }
    made
}
