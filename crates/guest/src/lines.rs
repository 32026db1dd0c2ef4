//! Cuts a stream of bytes into lines of bounded length, whatever the stream says.

/// Longest line kept, in bytes; the rest of a longer one is dropped.
pub const LIMIT: usize = 8192;

/// What is left over between two pieces of a stream.
#[derive(Debug, Default)]
pub struct Lines {
    partial: Vec<u8>,
    dropped: usize,
}

impl Lines {
    /// Takes the next piece; every line that is complete with it goes to `each`, without its line feed.
    pub fn feed(&mut self, mut piece: &[u8], mut each: impl FnMut(String)) {
        while let Some(end) = piece.iter().position(|byte| *byte == b'\n') {
            self.push(&piece[..end]);
            each(self.take());
            piece = &piece[end + 1..];
        }
        self.push(piece);
    }

    /// The last line, if it did not end with a line feed.
    pub fn rest(&mut self) -> Option<String> {
        (!self.partial.is_empty()).then(|| self.take())
    }

    fn push(&mut self, bytes: &[u8]) {
        let room = LIMIT - self.partial.len();
        let kept = bytes.len().min(room);
        self.partial.extend_from_slice(&bytes[..kept]);
        self.dropped += bytes.len() - kept;
    }

    fn take(&mut self) -> String {
        let mut line = String::from_utf8_lossy(&self.partial).into_owned();
        if self.dropped > 0 {
            line.push_str(&format!(" … ({} bytes more)", self.dropped));
        }
        self.partial.clear();
        self.dropped = 0;
        line
    }
}

/// A line as the host's journal shows it: without escape sequences and control characters, which it would otherwise
/// hide as binary data.
pub fn plain(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut chars = line.trim_end_matches('\r').chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            // ECMA-48: CSI is ESC [, then parameters, then one final character from @ to ~.
            '\u{1b}' if chars.peek() == Some(&'[') => {
                chars.next();
                for c in chars.by_ref() {
                    if ('@'..='~').contains(&c) {
                        break;
                    }
                }
            }
            '\t' => text.push('\t'),
            '\u{feff}' => {}
            c if c.is_control() => text.push('?'),
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(pieces: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        for piece in pieces {
            lines.feed(piece, |line| found.push(line));
        }
        found.extend(lines.rest());
        found
    }

    #[test]
    fn lines_are_put_together_from_pieces_and_are_valid_text() {
        assert_eq!(cut(&[b"a", b"b\n\nc\nd", b"e"]), ["ab", "", "c", "de"]);
        assert_eq!(cut(&[b"\xff\xc3", b"\xa4\n"]), ["\u{fffd}ä"]);
        assert!(cut(&[]).is_empty());
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let huge = vec![b'x'; 3 * LIMIT];
        let lines = cut(&[&huge, &huge, b"\nnext\n"]);
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("xxx") && lines[0].ends_with(&format!(" … ({} bytes more)", 5 * LIMIT)));
        assert_eq!(lines[1], "next");
    }

    #[test]
    fn colours_and_control_characters_do_not_reach_the_journal() {
        assert_eq!(plain("\u{feff}\u{1b}[31;1mred\u{1b}[0m\tx\u{7}\r"), "red\tx?");
        assert_eq!(plain("cut \u{1b}[31"), "cut ");
    }
}
