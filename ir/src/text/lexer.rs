//! Tokens of the text forms, produced on demand.

/// What a token is. Its text is part of the token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// `[A-Za-z_][A-Za-z0-9_]*`
    Word,
    /// Starts with a digit: `12`, `0x1f`, `1.5e-3`, and digests. Unsigned; the sign is a token of its own.
    Number,
    /// A string with its quotes, escapes not yet checked.
    Str,
    /// `%12`
    Value,
    /// `$12`
    Buffer,
    /// `@w12`
    Weight,
    /// One character, or `..`.
    Punct,
    /// Anything else; its text is what to complain about.
    Bad,
    /// The end of the text.
    End,
}

/// A place in the text. The column is computed only when an error needs it, since lines may be long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    /// Byte offset.
    pub offset: usize,
    /// Line, from 1.
    pub line: usize,
    /// Byte offset of the line's start.
    pub line_start: usize,
}

/// A token and its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Token<'a> {
    /// Class.
    pub kind: Kind,
    /// Source text.
    pub text: &'a str,
    /// Where it starts.
    pub place: Place,
}

/// Splits a text into tokens. Copying the lexer saves its position.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    place: Place,
}

impl<'a> Lexer<'a> {
    /// A lexer at the start.
    pub fn new(text: &'a str) -> Self {
        Self {
            text,
            place: Place {
                offset: 0,
                line: 1,
                line_start: 0,
            },
        }
    }

    /// The next token; [`Kind::End`] forever after the last.
    pub fn next(&mut self) -> Token<'a> {
        self.skip_blank();
        let place = self.place;
        let rest = &self.text[place.offset..];
        let (kind, len) = scan(rest);
        self.place.offset += len;
        Token {
            kind,
            text: &rest[..len],
            place,
        }
    }

    fn skip_blank(&mut self) {
        let bytes = self.text.as_bytes();
        while let Some(&b) = bytes.get(self.place.offset) {
            match b {
                b'\n' => {
                    self.place.offset += 1;
                    self.place.line += 1;
                    self.place.line_start = self.place.offset;
                }
                b' ' | b'\t' | b'\r' => self.place.offset += 1,
                b'/' if bytes.get(self.place.offset + 1) == Some(&b'/') => {
                    let rest = &bytes[self.place.offset..];
                    self.place.offset += rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len());
                }
                _ => break,
            }
        }
    }

    /// The column of a place, in characters from 1.
    pub fn column(&self, place: Place) -> usize {
        self.text[place.line_start..place.offset].chars().count() + 1
    }
}

/// Kind and length in bytes of the token at the start of `rest`.
fn scan(rest: &str) -> (Kind, usize) {
    let bytes = rest.as_bytes();
    let Some(&first) = bytes.first() else {
        return (Kind::End, 0);
    };
    match first {
        b'"' => string(rest),
        b'%' => id(bytes, 1, Kind::Value),
        b'$' => id(bytes, 1, Kind::Buffer),
        b'@' if bytes.get(1) == Some(&b'w') => id(bytes, 2, Kind::Weight),
        b'0'..=b'9' => (Kind::Number, number(bytes)),
        b if b.is_ascii_alphabetic() || b == b'_' => (Kind::Word, run(bytes, 0)),
        b'.' if bytes.get(1) == Some(&b'.') => (Kind::Punct, 2),
        b if b.is_ascii_punctuation() => (Kind::Punct, 1),
        _ => (Kind::Bad, rest.chars().next().map_or(0, char::len_utf8)),
    }
}

/// End of the run of word characters that starts at `from`.
fn run(bytes: &[u8], from: usize) -> usize {
    let rest = &bytes[from..];
    let len = rest.iter().position(|&b| !b.is_ascii_alphanumeric() && b != b'_');
    from + len.unwrap_or(rest.len())
}

fn id(bytes: &[u8], prefix: usize, kind: Kind) -> (Kind, usize) {
    let end = run(bytes, prefix);
    let digits = &bytes[prefix..end];
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return (Kind::Bad, end);
    }
    (kind, end)
}

fn number(bytes: &[u8]) -> usize {
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let mut end = run(bytes, 0);
    // `0..24` is a range, not a number with a point.
    if bytes.get(end) == Some(&b'.') && digit(end + 1) {
        end = run(bytes, end + 1);
    }
    let decimal = bytes[..end - 1].iter().all(|b| b.is_ascii_digit() || *b == b'.');
    let exponent = matches!(bytes[end - 1], b'e' | b'E');
    if decimal && exponent && matches!(bytes.get(end), Some(b'+' | b'-')) && digit(end + 1) {
        end = run(bytes, end + 1);
    }
    end
}

/// A string ends at an unescaped quote on its own line.
fn string(rest: &str) -> (Kind, usize) {
    let bytes = rest.as_bytes();
    let mut at = 1;
    while let Some(&b) = bytes.get(at) {
        match b {
            b'"' => return (Kind::Str, at + 1),
            b'\n' => break,
            b'\\' if bytes.get(at + 1).is_some_and(|&next| next != b'\n') => at += 2,
            _ => at += 1,
        }
    }
    // All breaks are at ASCII bytes or the end; stepping over an escape may land inside a character.
    let mut end = at.min(bytes.len());
    while !rest.is_char_boundary(end) {
        end += 1;
    }
    (Kind::Bad, end)
}
