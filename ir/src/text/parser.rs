//! What both parsers share: a cursor over tokens with error gathering, and the common parts of the grammar.
//!
//! A syntax error abandons the statement it occurs in ([`Parser::statements`]) and parsing goes on at the next one. A
//! reference to something undefined is only noted, and not even that after a syntax error, whose echo it may be.

use super::lexer::{Kind, Lexer, Place, Token};
use super::quote::unquote;
use super::{Level, ParseError, ParseErrors, VERSION};
use crate::entity::EntityId;
use crate::graph::{Dim, Layout, Origin, Shape, TensorType};
use crate::tensor::is_addressable;
use crate::{DType, Digest};
use std::collections::BTreeMap;
use std::str::FromStr;

/// Errors gathered before giving up.
const MAX_ERRORS: usize = 30;
/// Characters of an unexpected token that a message repeats.
const MAX_FOUND: usize = 40;

pub(super) type Result<T> = std::result::Result<T, ParseError>;

/// A recursive-descent parser's state.
pub(super) struct Parser<'a> {
    lexer: Lexer<'a>,
    /// The next token.
    token: Token<'a>,
    errors: Vec<ParseError>,
    /// A statement was abandoned, so its definitions are unknown.
    abandoned: bool,
}

impl<'a> Parser<'a> {
    pub fn new(text: &'a str) -> Self {
        let mut lexer = Lexer::new(text);
        let token = lexer.next();
        Self {
            lexer,
            token,
            errors: Vec::new(),
            abandoned: false,
        }
    }

    // Errors

    pub fn error_at(&self, place: Place, message: impl Into<String>) -> ParseError {
        ParseError {
            line: place.line,
            column: self.lexer.column(place),
            message: message.into(),
        }
    }

    /// Notes an error that does not stop the statement, unless there are too many.
    pub fn note(&mut self, place: Place, message: impl Into<String>) {
        if self.errors.len() < MAX_ERRORS {
            let error = self.error_at(place, message);
            self.errors.push(error);
        }
    }

    /// Notes a name that is not defined.
    pub fn note_undefined(&mut self, place: Place, name: &str) {
        if !self.abandoned {
            self.note(place, format!("`{name}` is not defined here"));
        }
    }

    pub fn expected(&self, what: &str) -> ParseError {
        let found = match self.token.kind {
            Kind::End => "the end of the text".to_owned(),
            _ if self.token.text.chars().count() > MAX_FOUND => {
                let start: String = self.token.text.chars().take(MAX_FOUND).collect();
                format!("`{start}...`")
            }
            _ => format!("`{}`", self.token.text),
        };
        self.error_at(self.token.place, format!("expected {what}, found {found}"))
    }

    /// All errors, in the text's order, or `Ok` if there are none.
    pub fn finish(mut self) -> std::result::Result<(), ParseErrors> {
        self.errors.sort_by_key(|e| (e.line, e.column));
        if self.errors.is_empty() {
            Ok(())
        } else {
            Err(ParseErrors(self.errors))
        }
    }

    /// All errors, when the last one ended the parse.
    pub fn fail(mut self, error: ParseError) -> ParseErrors {
        self.errors.push(error);
        self.errors.sort_by_key(|e| (e.line, e.column));
        ParseErrors(self.errors)
    }

    // Tokens

    pub fn place(&self) -> Place {
        self.token.place
    }

    pub fn peek(&self) -> Token<'a> {
        self.token
    }

    pub fn next(&mut self) -> Token<'a> {
        std::mem::replace(&mut self.token, self.lexer.next())
    }

    fn at(&self, kind: Kind, text: &str) -> bool {
        self.token.kind == kind && self.token.text == text
    }

    pub fn at_word(&self, word: &str) -> bool {
        self.at(Kind::Word, word)
    }

    pub fn at_punct(&self, punct: &str) -> bool {
        self.at(Kind::Punct, punct)
    }

    /// Consumes the word if it is next.
    pub fn eat_word(&mut self, word: &str) -> bool {
        let there = self.at_word(word);
        if there {
            self.next();
        }
        there
    }

    /// Consumes the punctuation if it is next.
    pub fn eat(&mut self, punct: &str) -> bool {
        let there = self.at_punct(punct);
        if there {
            self.next();
        }
        there
    }

    pub fn expect(&mut self, punct: &str) -> Result<()> {
        if self.eat(punct) {
            return Ok(());
        }
        Err(self.expected(&format!("`{punct}`")))
    }

    pub fn expect_word(&mut self, word: &str) -> Result<()> {
        if self.eat_word(word) {
            return Ok(());
        }
        Err(self.expected(&format!("`{word}`")))
    }

    pub fn expect_end(&mut self) -> Result<()> {
        match self.token.kind {
            Kind::End => Ok(()),
            _ => Err(self.expected("the end of the text")),
        }
    }

    fn token(&mut self, kind: Kind, what: &str) -> Result<Token<'a>> {
        if self.token.kind == kind {
            return Ok(self.next());
        }
        Err(self.expected(what))
    }

    pub fn word(&mut self, what: &str) -> Result<Token<'a>> {
        self.token(Kind::Word, what)
    }

    pub fn string(&mut self) -> Result<String> {
        let token = self.token(Kind::Str, "a string")?;
        unquote(token.text).map_err(|e| self.error_at(token.place, e))
    }

    fn word_or_string(&mut self, what: &str) -> Result<String> {
        match self.token.kind {
            Kind::Word => Ok(self.next().text.to_owned()),
            Kind::Str => self.string(),
            _ => Err(self.expected(&format!("{what} (a word or a string)"))),
        }
    }

    /// An identifier of a global entity (`%3`, `$3`, `@w3`): its number, with its token for messages.
    pub fn id(&mut self, kind: Kind, what: &str) -> Result<(u32, Token<'a>)> {
        let token = self.token(kind, what)?;
        let digits = token.text.trim_start_matches(|c: char| !c.is_ascii_digit());
        let number = digits
            .parse()
            .map_err(|_| self.error_at(token.place, format!("`{}` is too large", token.text)))?;
        Ok((number, token))
    }

    /// The number of a word such as `v12`, if the next token is one.
    pub fn peek_local(&self, prefix: &str) -> Option<u32> {
        if self.token.kind != Kind::Word {
            return None;
        }
        let digits = self.token.text.strip_prefix(prefix)?;
        digits
            .bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| digits.parse().ok())?
    }

    /// A word such as `v12`: its number, with its token for messages.
    pub fn local(&mut self, prefix: &str, what: &str) -> Result<(u32, Token<'a>)> {
        match self.peek_local(prefix) {
            Some(number) => Ok((number, self.next())),
            None => Err(self.expected(what)),
        }
    }

    // Numbers

    /// An unsigned decimal number that fits `T`.
    pub fn unsigned<T: FromStr>(&mut self, what: &str) -> Result<T> {
        let token = self.token;
        if token.kind == Kind::Number && token.text.bytes().all(|b| b.is_ascii_digit()) {
            self.next();
            return token
                .text
                .parse()
                .map_err(|_| self.error_at(token.place, format!("`{}` is too large", token.text)));
        }
        Err(self.expected(what))
    }

    /// A decimal number with an optional minus.
    pub fn signed(&mut self, what: &str) -> Result<i64> {
        let place = self.place();
        let negative = self.eat("-");
        let magnitude: u64 = self.unsigned(what)?;
        let value = if negative {
            -i128::from(magnitude)
        } else {
            i128::from(magnitude)
        };
        i64::try_from(value).map_err(|_| self.error_at(place, format!("`{value}` does not fit 64 bits")))
    }

    /// True if an optional minus and the next token make a float (as opposed to an integer).
    pub fn at_float(&self) -> bool {
        let token = if self.at_punct("-") {
            let mut ahead = self.lexer;
            ahead.next()
        } else {
            self.token
        };
        match token.kind {
            Kind::Word => matches!(token.text, "inf" | "nan"),
            Kind::Number => !token.text.starts_with("0x") && token.text.contains(['.', 'e', 'E']),
            _ => false,
        }
    }

    /// A float: with a point or an exponent, or `inf`, `nan`, any with an optional minus.
    pub fn float<F: FromStr + Copy + Into<f64>>(&mut self) -> Result<F> {
        if !self.at_float() {
            return Err(self.expected("a float such as `1.0`, `1e-5`, `inf` or `nan`"));
        }
        let place = self.place();
        let sign = if self.eat("-") { "-" } else { "" };
        let token = self.next();
        let text = format!("{sign}{}", token.text);
        let value: F = text
            .parse()
            .map_err(|_| self.error_at(place, format!("`{text}` is not a number")))?;
        if value.into().is_infinite() && token.kind == Kind::Number {
            return Err(self.error_at(place, format!("`{text}` is too large")));
        }
        Ok(value)
    }

    // Lists and statements

    /// Items separated by commas, up to and with `close`; the opening is already consumed.
    pub fn list<T>(&mut self, close: &str, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut items = Vec::new();
        if self.eat(close) {
            return Ok(items);
        }
        loop {
            items.push(item(self)?);
            if self.eat(close) {
                return Ok(items);
            }
            if !self.eat(",") {
                return Err(self.expected(&format!("`,` or `{close}`")));
            }
        }
    }

    /// Statements up to and with `}`. After an error the rest of the statement's lines is skipped, blocks included.
    pub fn statements(&mut self, mut statement: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        while !self.eat("}") {
            if self.token.kind == Kind::End {
                return Err(self.expected("`}`"));
            }
            let (lexer, token) = (self.lexer, self.token);
            if let Err(error) = statement(self) {
                self.errors.push(error);
                self.abandoned = true;
                (self.lexer, self.token) = (lexer, token);
                self.skip_statement();
            }
            if self.errors.len() >= MAX_ERRORS {
                return Err(self.error_at(self.place(), "too many errors"));
            }
        }
        Ok(())
    }

    /// Skips to the first token on a later line outside of braces opened meanwhile, or to the closing brace.
    fn skip_statement(&mut self) {
        let line = self.token.place.line;
        let mut depth = 0usize;
        while self.token.kind != Kind::End {
            if depth == 0 && (self.at_punct("}") || self.token.place.line > line) {
                return;
            }
            if self.at_punct("{") {
                depth += 1;
            } else if self.at_punct("}") {
                depth -= 1;
            }
            self.next();
        }
    }

    // Common grammar

    /// The first line: `sdir 1 graph`.
    pub fn header(&mut self) -> Result<Level> {
        self.expect_word("sdir")?;
        let place = self.place();
        let version: u32 = self.unsigned("the version of the text form")?;
        if version != VERSION {
            return Err(self.error_at(
                place,
                format!("version {version} is not supported; this is version {VERSION}"),
            ));
        }
        let level = Level::ALL
            .into_iter()
            .find(|l| self.at_word(l.name()))
            .ok_or_else(|| self.expected("`graph`, `schedule` or `tile`"))?;
        self.next();
        Ok(level)
    }

    /// The first line of a given level.
    pub fn header_of(&mut self, level: Level) -> Result<()> {
        let place = self.place();
        let found = self.header()?;
        if found == level {
            return Ok(());
        }
        Err(self.error_at(
            place,
            format!("this is a {} text, not a {} text", found.name(), level.name()),
        ))
    }

    pub fn dtype(&mut self) -> Result<DType> {
        let token = self.word("an element type")?;
        token
            .text
            .parse()
            .map_err(|e: crate::dtype::UnknownDType| self.error_at(token.place, e.to_string()))
    }

    /// `[1,3,32,32]`, of an addressable size whichever of its dimensions are zero.
    pub fn shape(&mut self) -> Result<Vec<usize>> {
        let place = self.place();
        self.expect("[")?;
        let shape: Vec<usize> = self.list("]", |p| p.unsigned("a dimension"))?;
        if !is_addressable(&shape) {
            return Err(self.error_at(place, "the shape has too many elements"));
        }
        Ok(shape)
    }

    /// A shape of a graph value: as [`Self::shape`], but dimensions may be symbols.
    fn open_shape(&mut self) -> Result<Shape> {
        let place = self.place();
        self.expect("[")?;
        let dims = self.list("]", |p| match p.token.kind {
            Kind::Word | Kind::Str => p.word_or_string("a dimension").map(Dim::Symbol),
            _ => p.unsigned("a dimension").map(Dim::Constant),
        })?;
        let sizes = dims.iter().filter_map(Dim::constant).collect::<Vec<_>>();
        if !is_addressable(&sizes) {
            return Err(self.error_at(place, "the shape has too many elements"));
        }
        Ok(dims.into_iter().collect())
    }

    /// `f32[1,16,32,32]{0,2,3,1}`
    pub fn tensor_type(&mut self) -> Result<TensorType> {
        let dtype = self.dtype()?;
        let ty = TensorType::new(dtype, self.open_shape()?);
        let place = self.place();
        if !self.eat("{") {
            return Ok(ty);
        }
        let order = self.list("}", |p| p.unsigned("a dimension's position"))?;
        if order.len() != ty.rank() {
            return Err(self.error_at(place, format!("the layout needs {} positions", ty.rank())));
        }
        match Layout::from_order(order) {
            Some(layout) => Ok(ty.with_layout(layout)),
            None => Err(self.error_at(place, "the layout is not a permutation")),
        }
    }

    /// `from "conv1" Conv #0, "relu1" Relu #1`, or nothing.
    pub fn origins(&mut self) -> Result<Vec<Origin>> {
        let mut origins = Vec::new();
        if !self.eat_word("from") {
            return Ok(origins);
        }
        loop {
            let name = self.string()?;
            let op = self.word_or_string("an operator")?;
            self.expect("#")?;
            let index = self.unsigned("a node index")?;
            origins.push(Origin { name, op, index });
            if !self.eat(",") {
                return Ok(origins);
            }
        }
    }

    /// A kernel's name: bare if it is a word.
    pub fn name(&mut self) -> Result<String> {
        self.word_or_string("a name")
    }

    /// `sha256:` and 64 hexadecimal digits.
    pub fn digest(&mut self) -> Result<Digest> {
        self.expect_word("sha256")?;
        self.expect(":")?;
        if matches!(self.token.kind, Kind::Word | Kind::Number)
            && let Ok(digest) = self.token.text.parse()
        {
            self.next();
            return Ok(digest);
        }
        Err(self.expected("64 hexadecimal digits"))
    }
}

/// The names of one kind of entity: from numbers in the text to ids, which are given out in order of definition.
pub(super) struct Names<E>(BTreeMap<u32, E>);

impl<E: EntityId> Names<E> {
    pub fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Defines a name, and notes an error if it is taken.
    pub fn define(&mut self, p: &mut Parser<'_>, (number, token): (u32, Token<'_>), id: E) {
        if self.0.insert(number, id).is_some() {
            p.note(token.place, format!("`{}` is defined twice", token.text));
        }
    }

    /// The id of a name. Notes an error if there is none, and returns an arbitrary id.
    pub fn get(&self, p: &mut Parser<'_>, (number, token): (u32, Token<'_>)) -> E {
        self.0.get(&number).copied().unwrap_or_else(|| {
            p.note_undefined(token.place, token.text);
            E::new(0)
        })
    }
}
