//! Users' names as C identifiers.

use std::collections::{BTreeMap, BTreeSet};

/// Longest identifier made; model files may hold names of any length.
const MAX_LEN: usize = 100;

/// Keywords of C (to C23) and C++ (to C++23) and names with a meaning of their own in the headers we include.
const RESERVED: &[&str] = &[
    "NULL",
    "alignas",
    "alignof",
    "and",
    "and_eq",
    "asm",
    "auto",
    "bitand",
    "bitor",
    "bool",
    "break",
    "case",
    "catch",
    "char",
    "char16_t",
    "char32_t",
    "char8_t",
    "class",
    "co_await",
    "co_return",
    "co_yield",
    "compl",
    "concept",
    "const",
    "const_cast",
    "consteval",
    "constexpr",
    "constinit",
    "continue",
    "decltype",
    "default",
    "delete",
    "do",
    "double",
    "dynamic_cast",
    "else",
    "enum",
    "explicit",
    "export",
    "extern",
    "false",
    "float",
    "for",
    "friend",
    "goto",
    "if",
    "inline",
    "int",
    "long",
    "mutable",
    "namespace",
    "new",
    "noexcept",
    "not",
    "not_eq",
    "nullptr",
    "operator",
    "or",
    "or_eq",
    "private",
    "protected",
    "public",
    "register",
    "reinterpret_cast",
    "requires",
    "restrict",
    "return",
    "short",
    "signed",
    "sizeof",
    "static",
    "static_assert",
    "static_cast",
    "struct",
    "switch",
    "template",
    "this",
    "thread_local",
    "throw",
    "true",
    "try",
    "typedef",
    "typeid",
    "typename",
    "typeof",
    "typeof_unqual",
    "union",
    "unsigned",
    "using",
    "virtual",
    "void",
    "volatile",
    "wchar_t",
    "while",
    "xor",
    "xor_eq",
];

/// Whether `name` may serve as an identifier of a program in C and C++: letters, digits and underscores, beginning with a
/// letter (a leading underscore is the implementation's), no double or last underscore (C++; a `_` follows), not a keyword, of sensible length.
pub fn is_identifier(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !name.contains("__")
        && !name.ends_with('_')
        && name.len() <= MAX_LEN + 24
        && RESERVED.binary_search(&name).is_err()
}

/// A C identifier that resembles `name`: other characters become underscores (runs of them one), outer underscores go, a
/// leading digit gets `t_` before it, keywords `_x` behind them; an empty rest becomes `unnamed`. Not injective: see
/// [`Identifiers`].
pub fn sanitise(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if out.len() >= MAX_LEN {
            break;
        }
        if c.is_ascii_alphanumeric() {
            out.push(c);
        } else if !out.is_empty() && !out.ends_with('_') {
            out.push('_');
        }
    }
    out.truncate(out.trim_end_matches('_').len());
    if out.is_empty() {
        out.push_str("unnamed");
    }
    if out.starts_with(|c: char| c.is_ascii_digit()) {
        out.insert_str(0, "t_");
    }
    if RESERVED.binary_search(&out.as_str()).is_ok() {
        out.push_str("_x");
    }
    out
}

/// Hands out identifiers, numbering those that collide: `x`, `x_2`, `x_3`.
#[derive(Debug, Default)]
pub struct Identifiers {
    taken: BTreeSet<String>,
    /// The number to try next for a stem, so that many collisions do not cost quadratic time.
    next: BTreeMap<String, u64>,
}

impl Identifiers {
    /// The identifier for the next name.
    pub fn add(&mut self, name: &str) -> String {
        let stem = sanitise(name);
        let next = self.next.entry(stem.clone()).or_insert(1);
        loop {
            let candidate = if *next == 1 {
                stem.clone()
            } else {
                format!("{stem}_{next}")
            };
            *next += 1;
            if self.taken.insert(candidate.clone()) {
                return candidate;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_names() {
        for (name, c_name) in [
            ("input", "input"),
            ("input:0", "input_0"),
            ("/conv1/Relu_output_0", "conv1_Relu_output_0"),
            ("21", "t_21"),
            ("", "unnamed"),
            ("été", "t"),
            ("模型", "unnamed"),
            ("int", "int_x"),
            ("xor_eq", "xor_eq_x"),
            ("_Bool", "Bool"),
            ("a__b--c", "a_b_c"),
        ] {
            assert_eq!(sanitise(name), c_name, "{name}");
        }
    }

    #[test]
    fn reserved_words_are_sorted() {
        assert!(RESERVED.is_sorted());
    }

    #[test]
    fn collisions_are_numbered() {
        let mut names = Identifiers::default();
        let all: Vec<_> = ["x", "x_2", "x", "/x", "x:"]
            .iter()
            .map(|n| names.add(n))
            .collect();
        assert_eq!(all, ["x", "x_2", "x_3", "x_4", "x_5"]);
    }

    proptest! {
        #[test]
        fn always_identifiers(names in proptest::collection::vec(".{0,140}", 0..8)) {
            let mut all = Identifiers::default();
            let made: Vec<_> = names.iter().map(|n| all.add(n)).collect();
            prop_assert!(made.iter().all(|n| is_identifier(n)), "{made:?}");
            prop_assert_eq!(made.iter().collect::<BTreeSet<_>>().len(), made.len());
        }
    }
}
