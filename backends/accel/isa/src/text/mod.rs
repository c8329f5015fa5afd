//! Programs as text: one instruction a line, and directives for everything else. Printing a parsed text that was printed gives it back.

mod lex;
mod parse;
mod print;

pub use parse::parse;
