//! Lines cut into words and strings.

/// A word or a string of a line, with its column from 1.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Token {
    pub column: usize,
    pub text: String,
    pub quoted: bool,
}

/// Column and message of a fault.
pub(super) type LexError = (usize, String);

/// The tokens of a line, up to a comment.
pub(super) fn tokens(line: &str) -> Result<Vec<Token>, LexError> {
    let mut rest = line;
    let mut found = Vec::new();
    loop {
        rest = rest.trim_start();
        // Columns count characters, as editors do.
        let column = line[..line.len() - rest.len()].chars().count() + 1;
        if rest.is_empty() || rest.starts_with("//") {
            return Ok(found);
        }
        let (text, quoted, after) = match rest.strip_prefix('"') {
            Some(inside) => {
                let (text, after) = string(inside).map_err(|message| (column, message))?;
                (text, true, after)
            }
            None => {
                let end = rest
                    .find(|c: char| c.is_whitespace() || c == '"')
                    .unwrap_or(rest.len());
                (rest[..end].to_owned(), false, &rest[end..])
            }
        };
        found.push(Token { column, text, quoted });
        rest = after;
    }
}

/// A string's contents, and what follows its closing quote.
fn string(inside: &str) -> Result<(String, &str), String> {
    let mut text = String::new();
    let mut chars = inside.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((text, &inside[at + 1..])),
            '\\' => match chars.next() {
                Some((_, c @ ('"' | '\\'))) => text.push(c),
                Some((u, 'u')) => {
                    let digits = inside[u + 1..].strip_prefix('{').and_then(|r| r.split_once('}'));
                    let code = digits.and_then(|(d, _)| u32::from_str_radix(d, 16).ok());
                    let (Some(c), Some((d, _))) = (code.and_then(char::from_u32), digits) else {
                        return Err("expected `\\u{...}` with a character's number".to_owned());
                    };
                    text.push(c);
                    chars.nth(d.len() + 1);
                }
                _ => return Err("expected `\\\"`, `\\\\` or `\\u{...}`".to_owned()),
            },
            c => text.push(c),
        }
    }
    Err("expected a closing `\"` on the same line".to_owned())
}
