//! The example of `docs/sd-format.md` is right in both forms.

use super::*;

#[test]
fn example() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/sd-format.md");
    let page = std::fs::read_to_string(path).unwrap();
    let block = |name: &str| {
        let (_, rest) = page.split_once(&format!("```{name}\n")).unwrap();
        rest.split("```").next().unwrap().to_owned()
    };
    assert_eq!(block("sd"), text::print(&golden()).unwrap());
    let words = block("hex");
    let bytes = words
        .split_whitespace()
        .map(|b| u8::from_str_radix(b, 16).unwrap());
    assert_eq!(bytes.collect::<Vec<_>>(), pack(&golden()).unwrap());
    let (weights, _) = rebuild(&golden()).unwrap();
    let weights: Vec<_> = weights
        .elements::<i8>()
        .unwrap()
        .iter()
        .map(i8::to_string)
        .collect();
    assert_eq!(block("weights"), weights.join(" ") + "\n");
}
