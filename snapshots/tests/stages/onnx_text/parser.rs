//! From tokens to protobuf messages, by recursive descent.

use super::data::{self, Number};
use super::lexer::{Token, tokens};
use sdc_frontend::proto::*;

type Result<T> = std::result::Result<T, String>;

pub struct Parser {
    tokens: Vec<(Token, usize)>,
    at: usize,
}

impl Parser {
    pub fn new(text: &str) -> Result<Self> {
        Ok(Self {
            tokens: tokens(text)?,
            at: 0,
        })
    }

    pub fn model(&mut self) -> Result<ModelProto> {
        let mut model = ModelProto {
            ir_version: Some(8),
            ..ModelProto::default()
        };
        if self.eat("<") {
            self.list(">", |p| {
                let key = p.word("a key of the model")?;
                p.expect(":")?;
                match key.as_str() {
                    "ir_version" => model.ir_version = Some(p.int()?),
                    "producer_name" => model.producer_name = Some(p.text()?),
                    "opset_import" => {
                        p.expect("[")?;
                        model.opset_import = p.list("]", |p| {
                            let domain = Some(p.text()?);
                            p.expect(":")?;
                            Ok(OperatorSetIdProto {
                                domain,
                                version: Some(p.int()?),
                            })
                        })?;
                    }
                    _ => return Err(format!("`{key}` is not a key of the model")),
                }
                Ok(())
            })
            .map_err(|e| self.located(e))?;
        }
        let name = self.word("the graph's name");
        model.graph = Some(
            name.and_then(|name| self.graph(name))
                .map_err(|e| self.located(e))?,
        );
        match self.peek() {
            Token::End => Ok(model),
            other => Err(self.located(format!("{other:?} after the end of the graph"))),
        }
    }

    fn graph(&mut self, name: String) -> Result<GraphProto> {
        let mut graph = GraphProto {
            name: Some(name),
            ..GraphProto::default()
        };
        self.expect("(")?;
        graph.input = self.list(")", Self::value_info)?;
        self.expect("=>")?;
        self.expect("(")?;
        graph.output = self.list(")", Self::value_info)?;
        if self.eat("<") {
            graph.initializer = self.list(">", |p| {
                let (elem_type, shape) = p.tensor_type()?;
                let dims = static_dims(shape)?;
                let name = p.word("an initialiser's name")?;
                p.expect("=")?;
                let mut tensor = p.tensor_data(&name, elem_type, dims)?;
                tensor.name = Some(name);
                Ok(tensor)
            })?;
        }
        self.expect("{")?;
        while !self.eat("}") {
            graph.node.push(self.node()?);
        }
        Ok(graph)
    }

    fn value_info(&mut self) -> Result<ValueInfoProto> {
        let (elem_type, shape) = self.tensor_type()?;
        let tensor = TypeTensor {
            elem_type: Some(elem_type),
            shape,
        };
        Ok(ValueInfoProto {
            name: Some(self.word("a value's name")?),
            r#type: Some(TypeProto {
                value: Some(TypeValue::Tensor(tensor)),
                denotation: None,
            }),
            ..ValueInfoProto::default()
        })
    }

    /// `float[1,N,?]`; `float` is a scalar, `float[]` has no known rank.
    fn tensor_type(&mut self) -> Result<(i32, Option<TensorShapeProto>)> {
        let name = self.word("an element type")?;
        let elem_type = (1..=28).find(|&t| data_type::name(t).eq_ignore_ascii_case(&name));
        let elem_type = elem_type.ok_or_else(|| format!("`{name}` is not an element type"))?;
        if !self.eat("[") {
            return Ok((elem_type, Some(TensorShapeProto::default())));
        }
        let dim = self.list("]", |p| {
            let value = match p.next() {
                Token::Int(n) => Some(DimensionValue::DimValue(n)),
                Token::Word(name) => Some(DimensionValue::DimParam(name)),
                Token::Mark("?") => None,
                other => return Err(format!("{other:?} is not a dimension")),
            };
            Ok(Dimension {
                value,
                denotation: None,
            })
        })?;
        Ok((elem_type, (!dim.is_empty()).then_some(TensorShapeProto { dim })))
    }

    /// `{1, 2, 3}`, `random` or `random(0.5, 1.5)`.
    fn tensor_data(&mut self, name: &str, elem_type: i32, dims: Vec<i64>) -> Result<TensorProto> {
        if self.eat("{") {
            let elements = self.list("}", Self::number)?;
            return data::literal(elem_type, dims, &elements);
        }
        match self.word("`{` or `random`")?.as_str() {
            "random" if elem_type == data_type::FLOAT => {
                let range = if self.eat("(") {
                    self.list(")", Self::number)?
                } else {
                    Vec::new()
                };
                match range.as_slice() {
                    [] => data::made_up(name, dims, -0.5, 0.5),
                    [Number::Float(low), Number::Float(high)] => data::made_up(name, dims, *low, *high),
                    _ => Err("random takes two floats or nothing".to_owned()),
                }
            }
            "random" => Err("random makes floats only".to_owned()),
            other => Err(format!("`{other}` is not tensor data")),
        }
    }

    /// `[name] y, z = domain.Op <attributes> (a, b)`; the name is optional, `""` is an absent operand.
    fn node(&mut self) -> Result<NodeProto> {
        let mut node = NodeProto::default();
        if self.eat("[") {
            node.name = Some(self.word_or_text()?);
            self.expect("]")?;
        }
        loop {
            node.output.push(self.word_or_text()?);
            if !self.eat(",") {
                break;
            }
        }
        self.expect("=")?;
        let operator = self.word("an operator")?;
        let (domain, operator) = operator.rsplit_once('.').unwrap_or(("", &operator));
        node.op_type = Some(operator.to_owned());
        node.domain = (!domain.is_empty()).then(|| domain.to_owned());
        if self.eat("<") {
            node.attribute = self.list(">", Self::attribute)?;
        }
        self.expect("(")?;
        node.input = self.list(")", Self::word_or_text)?;
        Ok(node)
    }

    fn attribute(&mut self) -> Result<AttributeProto> {
        let mut attribute = AttributeProto {
            name: Some(self.word("an attribute")?),
            ..Default::default()
        };
        self.expect("=")?;
        let kind = match self.next() {
            Token::Int(i) => {
                attribute.i = Some(i);
                attribute_type::INT
            }
            Token::Float(f) => {
                attribute.f = Some(f);
                attribute_type::FLOAT
            }
            Token::Text(s) => {
                attribute.s = Some(s.into());
                attribute_type::STRING
            }
            Token::Mark("[") => {
                for number in self.list("]", Self::number)? {
                    match number {
                        Number::Int(i) => attribute.ints.push(i),
                        Number::Float(f) => attribute.floats.push(f),
                    }
                }
                match (attribute.ints.is_empty(), attribute.floats.is_empty()) {
                    (_, true) => attribute_type::INTS,
                    (true, false) => attribute_type::FLOATS,
                    (false, false) => return Err("integers and floats in one list".to_owned()),
                }
            }
            Token::Word(name) if *self.peek() == Token::Mark("(") => {
                attribute.g = Some(Box::new(self.graph(name)?));
                attribute_type::GRAPH
            }
            Token::Word(_) => {
                self.at -= 1;
                let (elem_type, shape) = self.tensor_type()?;
                let tensor = self.tensor_data("", elem_type, static_dims(shape)?)?;
                attribute.t = Some(Box::new(tensor));
                attribute_type::TENSOR
            }
            other => return Err(format!("{other:?} is not a value of an attribute")),
        };
        attribute.r#type = Some(kind);
        Ok(attribute)
    }

    fn number(&mut self) -> Result<Number> {
        match self.next() {
            Token::Int(i) => Ok(Number::Int(i)),
            Token::Float(f) => Ok(Number::Float(f)),
            other => Err(format!("{other:?} is not a number")),
        }
    }

    fn int(&mut self) -> Result<i64> {
        match self.next() {
            Token::Int(i) => Ok(i),
            other => Err(format!("{other:?} is not an integer")),
        }
    }

    fn text(&mut self) -> Result<String> {
        match self.next() {
            Token::Text(text) => Ok(text),
            other => Err(format!("{other:?} is not a string")),
        }
    }

    fn word(&mut self, what: &str) -> Result<String> {
        match self.next() {
            Token::Word(word) => Ok(word),
            other => Err(format!("expected {what}, found {other:?}")),
        }
    }

    /// A name; in quotes if it is empty or has other characters than a word.
    fn word_or_text(&mut self) -> Result<String> {
        match self.next() {
            Token::Word(name) | Token::Text(name) => Ok(name),
            other => Err(format!("expected a name, found {other:?}")),
        }
    }

    /// Items separated by commas, up to and with the closing mark.
    fn list<T>(
        &mut self,
        close: &'static str,
        mut item: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut items = Vec::new();
        while !self.eat(close) {
            if !items.is_empty() {
                self.expect(",")?;
            }
            items.push(item(self)?);
        }
        Ok(items)
    }

    fn expect(&mut self, mark: &'static str) -> Result<()> {
        match self.next() {
            Token::Mark(m) if m == mark => Ok(()),
            other => Err(format!("expected `{mark}`, found {other:?}")),
        }
    }

    fn eat(&mut self, mark: &'static str) -> bool {
        let found = *self.peek() == Token::Mark(mark);
        self.at += usize::from(found);
        found
    }

    fn peek(&self) -> &Token {
        &self.tokens[self.at].0
    }

    /// The next token; `End` for ever after the last one.
    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += usize::from(token != Token::End);
        token
    }

    /// The message with the line of the token read last.
    fn located(&self, message: String) -> String {
        format!("line {}: {message}", self.tokens[self.at.saturating_sub(1)].1)
    }
}

fn static_dims(shape: Option<TensorShapeProto>) -> Result<Vec<i64>> {
    let shape = shape.ok_or("a tensor with data needs a shape")?;
    let dims = shape.dim.into_iter().map(|d| match d.value {
        Some(DimensionValue::DimValue(n)) => Ok(n),
        _ => Err("a tensor with data needs a static shape".to_owned()),
    });
    dims.collect()
}
