//! Parsing graphs.

use super::lexer::{Kind, Place, Token};
use super::parser::{Names, Parser, Result};
use super::weights::Section;
use super::{Level, TextError};
use crate::entity::EntityId;
use crate::graph::attr::AttrMap;
use crate::graph::{Attr, Graph, Op, Origin, TensorType, Value, Weights};

/// Parses a graph; the data of its weights come from `store`. Values, nodes and weights are renumbered in order of
/// definition. The graph is well formed as text; whether it means anything is for [`crate::graph::verify`] to say.
///
/// # Errors
/// [`TextError::Parse`] lists the faults of the text, [`TextError::MissingWeights`] what `store` lacks.
pub fn parse_graph(text: &str, store: &Weights) -> std::result::Result<Graph, TextError> {
    Ok(parse(text, store, Level::Graph, |_, _| Ok(()))?.0)
}

/// A text of a graph, of what `beside` parses after the graph's block, and of the weights.
pub(super) fn parse<'a, T>(
    text: &'a str,
    store: &Weights,
    level: Level,
    beside: impl FnOnce(&mut Parser<'a>, &Names<Value>) -> Result<T>,
) -> std::result::Result<(Graph, T), TextError> {
    let mut p = Parser::new(text);
    let mut raw = Raw::default();
    let all = || {
        p.header_of(level)?;
        let names = raw.block(&mut p)?;
        let other = beside(&mut p, &names)?;
        let section = Section::parse(&mut p)?;
        p.expect_end()?;
        Ok((other, section))
    };
    let (other, section) = match all() {
        Ok(parsed) => parsed,
        Err(error) => return Err(p.fail(error).into()),
    };
    let mut graph = raw.build(&mut p, &section);
    p.finish()?;
    graph.weights = section.resolve(store)?;
    Ok((graph, other))
}

/// A graph as parsed: attributes cannot be resolved before the weights section, which comes last.
#[derive(Default)]
struct Raw<'a> {
    name: String,
    items: Vec<Item<'a>>,
    outputs: Vec<(String, Value)>,
}

enum Item<'a> {
    Input(String, TensorType),
    Node(Box<RawNode<'a>>),
}

struct RawNode<'a> {
    op: &'a str,
    place: Place,
    inputs: Vec<Value>,
    attrs: AttrMap,
    /// The weight attributes among `attrs`, by name.
    weights: WeightAttrs<'a>,
    types: Vec<TensorType>,
    origins: Vec<Origin>,
}

impl<'a> Raw<'a> {
    /// The `graph` block; returns the names of its values.
    fn block(&mut self, p: &mut Parser<'a>) -> Result<Names<Value>> {
        p.expect_word("graph")?;
        self.name = p.string()?;
        p.expect("{")?;
        let mut names = Names::new();
        let mut count = 0;
        p.statements(|p| self.statement(p, &mut names, &mut count))?;
        Ok(names)
    }

    fn statement(&mut self, p: &mut Parser<'a>, names: &mut Names<Value>, count: &mut usize) -> Result<()> {
        if p.eat_word("output") {
            let name = p.string()?;
            p.expect("=")?;
            let value = p.id(Kind::Value, "a value such as `%0`")?;
            self.outputs.push((name, names.get(p, value)));
            return Ok(());
        }
        if p.peek().kind != Kind::Value && !p.at_punct("=") {
            return Err(p.expected("a value such as `%0`, `output` or `}`"));
        }
        let place = p.place();
        let results = p.list("=", |p| p.id(Kind::Value, "a value such as `%0`"))?;
        let item = if p.eat_word("input") {
            let name = p.string()?;
            p.expect(":")?;
            let ty = p.tensor_type()?;
            if results.len() != 1 {
                return Err(p.error_at(place, "an input is one value"));
            }
            Item::Input(name, ty)
        } else {
            Item::Node(Box::new(self::node(p, names, results.len())?))
        };
        self.items.push(item);
        for result in results {
            names.define(p, result, Value::new(*count));
            *count += 1;
        }
        Ok(())
    }

    fn build(self, p: &mut Parser<'a>, section: &Section) -> Graph {
        let mut graph = Graph::new(self.name);
        for item in self.items {
            match item {
                Item::Input(name, ty) => {
                    graph.add_input(name, ty);
                }
                Item::Node(mut node) => {
                    for (name, weight) in node.weights {
                        let weight = Attr::Weight(section.get(p, weight));
                        node.attrs.insert(name, weight);
                    }
                    match Op::from_parts(node.op, node.attrs) {
                        Ok(op) => {
                            graph.push_node(op, node.inputs, node.types, node.origins);
                        }
                        Err(error) => p.note(node.place, error.to_string()),
                    }
                }
            }
        }
        for (name, value) in self.outputs {
            graph.add_output(name, value);
        }
        graph
    }
}

fn node<'a>(p: &mut Parser<'a>, names: &Names<Value>, results: usize) -> Result<RawNode<'a>> {
    let op = p.word("an operator or `input`")?;
    let mut inputs = Vec::new();
    if p.eat("(") {
        inputs = p.list(")", |p| {
            let value = p.id(Kind::Value, "a value such as `%0`")?;
            Ok(names.get(p, value))
        })?;
    }
    let (attrs, weights) = attrs(p)?;
    let mut types = Vec::new();
    let place = p.place();
    if p.eat(":") {
        types.push(p.tensor_type()?);
        while p.eat(",") {
            types.push(p.tensor_type()?);
        }
    }
    if types.len() != results {
        return Err(p.error_at(
            place,
            format!("{results} results need as many types, found {}", types.len()),
        ));
    }
    Ok(RawNode {
        op: op.text,
        place: op.place,
        inputs,
        attrs,
        weights,
        types,
        origins: p.origins()?,
    })
}

/// Weight attributes by name, each with its number in the text.
type WeightAttrs<'a> = Vec<(String, (u32, Token<'a>))>;

/// `{name=value, ..}`, or nothing.
fn attrs<'a>(p: &mut Parser<'a>) -> Result<(AttrMap, WeightAttrs<'a>)> {
    let mut attrs = AttrMap::new();
    let mut weights = Vec::new();
    if p.eat("{") {
        p.list("}", |p| {
            let token = p.word("an attribute's name")?;
            let name = token.text.to_owned();
            p.expect("=")?;
            let value = if p.peek().kind == Kind::Weight {
                let weight = p.id(Kind::Weight, "a weight")?;
                weights.push((name.clone(), weight));
                Attr::Weight(crate::graph::Weight::new(0))
            } else {
                attr(p)?
            };
            if attrs.insert(name, value).is_some() {
                p.note(token.place, format!("attribute `{}` is given twice", token.text));
            }
            Ok(())
        })?;
    }
    Ok((attrs, weights))
}

fn attr(p: &mut Parser<'_>) -> Result<Attr> {
    if p.eat("[") {
        // The first item says which kind of list it is.
        return if p.at_float() {
            Ok(Attr::Floats(p.list("]", |p| p.float())?))
        } else {
            Ok(Attr::Ints(p.list("]", |p| p.signed("an integer"))?))
        };
    }
    if p.at_float() {
        return Ok(Attr::Float(p.float()?));
    }
    if p.peek().kind == Kind::Number || p.at_punct("-") {
        return Ok(Attr::Int(p.signed("an integer")?));
    }
    let word = p
        .word("an integer, a float, a word, a weight or a list")?
        .text
        .to_owned();
    if p.eat("(") {
        return Ok(Attr::Call(word, p.list(")", |p| p.float())?));
    }
    Ok(Attr::Word(word))
}
