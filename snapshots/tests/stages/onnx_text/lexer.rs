//! Tokens of textual ONNX.

use std::iter::Peekable;
use std::str::Chars;

#[derive(Clone, PartialEq, Debug)]
pub enum Token {
    /// A name; dots belong to it, as in `com.microsoft.Gelu` or `conv1.weight`.
    Word(String),
    Int(i64),
    Float(f32),
    Text(String),
    /// `=>` is one token, everything else one character.
    Mark(&'static str),
    End,
}

/// The tokens with their lines (from 1), `End` last. Comments run from `#` to the end of the line.
pub fn tokens(text: &str) -> Result<Vec<(Token, usize)>, String> {
    let mut all = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let mut chars = text.chars().peekable();
        while let Some(&c) = chars.peek() {
            let token = match c {
                '#' => break,
                _ if c.is_whitespace() => {
                    chars.next();
                    continue;
                }
                '"' => quoted(&mut chars),
                _ if c.is_ascii_alphabetic() || c == '_' => Ok(Token::Word(take(&mut chars, |c| {
                    c.is_ascii_alphanumeric() || "_.".contains(c)
                }))),
                _ if c.is_ascii_digit() || c == '-' => number(&take(&mut chars, |c| {
                    c.is_ascii_alphanumeric() || "+-.".contains(c)
                })),
                _ => mark(&mut chars),
            };
            all.push((token.map_err(|e| format!("line {line}: {e}"))?, line));
        }
    }
    all.push((Token::End, text.lines().count()));
    Ok(all)
}

fn take(chars: &mut Peekable<Chars<'_>>, wanted: impl Fn(char) -> bool) -> String {
    let mut word = String::new();
    while let Some(c) = chars.next_if(|&c| wanted(c)) {
        word.push(c);
    }
    word
}

fn quoted(chars: &mut Peekable<Chars<'_>>) -> Result<Token, String> {
    chars.next();
    let text = take(chars, |c| c != '"');
    match chars.next() {
        Some(_) => Ok(Token::Text(text)),
        None => Err("the string does not end".to_owned()),
    }
}

fn number(digits: &str) -> Result<Token, String> {
    let wrong = || format!("`{digits}` is not a number");
    if digits.contains(['.', 'e']) {
        return digits.parse().map(Token::Float).map_err(|_| wrong());
    }
    digits.parse().map(Token::Int).map_err(|_| wrong())
}

fn mark(chars: &mut Peekable<Chars<'_>>) -> Result<Token, String> {
    const MARKS: [&str; 12] = ["<", ">", "(", ")", "[", "]", "{", "}", ",", ":", "?", "="];
    let c = chars.next().unwrap_or(' ');
    if c == '=' && chars.next_if_eq(&'>').is_some() {
        return Ok(Token::Mark("=>"));
    }
    let known = MARKS.into_iter().find(|m| m.starts_with(c));
    known
        .map(Token::Mark)
        .ok_or_else(|| format!("`{c}` means nothing here"))
}
