//! Sequences of tensors, for operators that make and read them: lists of values, of a length known at compile time. No value of the
//! graph is a sequence.

use crate::ctx::{Emit, NodeCtx};
use crate::error::{Code, Fault};
use crate::nodes::{Importer, Slot, Stop};
use crate::ops::join;
use crate::proto::NodeProto;
use sdc_ir::Tensor;
use sdc_ir::graph::{Origin, Value};

fn bad(text: impl Into<String>) -> Fault {
    Fault::new(Code::BadOperands, text)
}

impl Importer<'_> {
    /// What the result of an operator on sequences stands for.
    pub fn sequence(&mut self, node: &NodeProto, origin: &Origin) -> Result<Slot, Stop> {
        let op = origin.op.as_str();
        let first = node.input.first().map_or("", String::as_str);
        // Operators that make sequences of tensors have none among their operands.
        let makes = matches!(op, "SequenceConstruct" | "SplitToSequence" | "SequenceEmpty");
        let list = match makes {
            true => Vec::new(),
            false => match self.elements(first)? {
                Some(list) => list,
                None => return Err(Stop::Skip),
            },
        };
        let mut inputs = Vec::new();
        for (i, name) in node.input.iter().enumerate() {
            if name.is_empty() || (i == 0 && !makes) {
                inputs.push(None);
                continue;
            }
            inputs.push(Some(self.lookup(name)?.ok_or(Stop::Skip)?));
        }
        let mut c = NodeCtx::new(
            &mut self.builder,
            node,
            origin.clone(),
            self.opset,
            inputs,
            Vec::new(),
        );
        let slot = applied(&mut c, op, list)?;
        let unknown = c.unknown_attributes();
        for name in &unknown {
            let text = format!("attribute `{name}` is not supported");
            self.fail(Fault::new(Code::Attribute, text), Some(origin.clone()));
        }
        if unknown.is_empty() {
            Ok(slot)
        } else {
            Err(Stop::Skip)
        }
    }

    /// The values of a sequence; `Ok(None)` if it failed before.
    fn elements(&self, name: &str) -> Result<Option<Vec<Value>>, Fault> {
        match self.scopes.iter().rev().find_map(|scope| scope.get(name)) {
            Some(Slot::Sequence(list)) => Ok(Some(list.clone())),
            Some(Slot::Poisoned) => Ok(None),
            None if self.stopped => Ok(None),
            None => Err(Fault::new(
                Code::UndefinedValue,
                format!("value `{name}` is not defined"),
            )),
            Some(_) => Err(bad(format!("`{name}` is a tensor, not a sequence"))),
        }
    }
}

fn applied(c: &mut NodeCtx, op: &str, mut list: Vec<Value>) -> Result<Slot, Fault> {
    match op {
        "SequenceConstruct" => Ok(Slot::Sequence(c.all_inputs()?)),
        "SequenceEmpty" => {
            c.ignore(&["dtype"]);
            Ok(Slot::Sequence(Vec::new()))
        }
        "SplitToSequence" => split(c).map(Slot::Sequence),
        "SequenceAt" => {
            let at = position(c, 1, list.len(), list.len())?;
            let element = at.and_then(|at| list.get(at).copied());
            element
                .map(Slot::Value)
                .ok_or_else(|| bad("the position is missing"))
        }
        "SequenceInsert" => {
            let element = c.input(1)?;
            let at = position(c, 2, list.len(), list.len() + 1)?.unwrap_or(list.len());
            list.insert(at, element);
            Ok(Slot::Sequence(list))
        }
        "SequenceErase" => {
            let at = position(c, 1, list.len(), list.len())?;
            let at = at
                .or(list.len().checked_sub(1))
                .ok_or_else(|| bad("the sequence is empty"))?;
            list.remove(at);
            Ok(Slot::Sequence(list))
        }
        "SequenceLength" => {
            let length = Tensor::from_elements(Vec::new(), vec![list.len() as i64]);
            c.constant(length.map_err(|e| bad(e.to_string()))?)
                .map(Slot::Value)
        }
        _ => concat(c, &list).map(Slot::Value),
    }
}

/// A position among `end` places of a sequence of this length, counted from the end if negative; `None` if the operand is left out.
fn position(c: &NodeCtx, i: usize, length: usize, end: usize) -> Result<Option<usize>, Fault> {
    if c.opt_input(i).is_none() {
        return Ok(None);
    }
    let given = c.const_scalar(i, "position")?;
    let at = if given < 0.0 { given + length as f64 } else { given };
    if at < 0.0 || at >= end as f64 {
        return Err(bad(format!("position {given} of a sequence of {length} tensors")));
    }
    Ok(Some(at as usize))
}

/// SplitToSequence: pieces of a size or of given sizes; by default of size 1, without the dimension unless `keepdims`.
fn split(c: &mut NodeCtx) -> Result<Vec<Value>, Fault> {
    let x = c.input(0)?;
    let axis = c.axis(c.int("axis", 0)?, c.rank(x))?;
    let extent = c.shape(x)[axis];
    let keep = c.flag("keepdims", true)?;
    let sizes = match c.opt_input(1) {
        None => vec![1; extent],
        Some(split) if c.rank(split) == 0 => {
            let size = c.const_scalar(1, "split")?;
            if size < 1.0 {
                return Err(bad(format!("pieces of {size} elements")));
            }
            let size = size as usize;
            (0..extent.div_ceil(size))
                .map(|i| size.min(extent - i * size))
                .collect()
        }
        Some(_) => {
            let given = c.const_i64s(1, "split")?;
            c.sizes("split", &given)?
        }
    };
    if sizes.iter().try_fold(0usize, |sum, &n| sum.checked_add(n)) != Some(extent) {
        return Err(bad(format!(
            "the pieces do not add up to the {extent} elements of the dimension"
        )));
    }
    let squeeze = !keep && c.opt_input(1).is_none();
    let (mut pieces, mut from) = (Vec::new(), 0);
    for size in sizes {
        let mut piece = c.narrow(x, axis, from, from + size)?;
        if squeeze {
            let mut shape = c.shape(piece);
            shape.remove(axis);
            piece = c.reshape(piece, shape)?;
        }
        pieces.push(piece);
        from += size;
    }
    Ok(pieces)
}

/// ConcatFromSequence.
fn concat(c: &mut NodeCtx, list: &[Value]) -> Result<Value, Fault> {
    let &first = list.first().ok_or_else(|| bad("the sequence is empty"))?;
    let axis = c
        .opt_int("axis")?
        .ok_or_else(|| c.bad_attr("axis", "is missing"))?;
    let new = c.flag("new_axis", false)?;
    let axis = c.axis(axis, c.rank(first) + usize::from(new))?;
    let mut parts = list.to_vec();
    if new {
        for part in &mut parts {
            let mut shape = c.shape(*part);
            if axis > shape.len() {
                return Err(bad("the tensors of the sequence differ in rank"));
            }
            shape.insert(axis, 1);
            *part = c.reshape(*part, shape)?;
        }
    }
    join(c, &parts, axis)
}
