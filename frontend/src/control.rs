//! Loops with a number of trips known at compile time, unrolled, and If with a condition known at run time only.

use crate::ctx::{Emit, NodeCtx};
use crate::error::{Code, Fault};
use crate::nodes::{Importer, Slot, Stop};
use crate::ops::join;
use crate::proto::{GraphProto, NodeProto};
use sdc_ir::graph::op::Where;
use sdc_ir::graph::{BinaryOp, Origin, Value};
use sdc_ir::{DType, Tensor};
use std::collections::BTreeMap;

fn bad(text: impl Into<String>) -> Fault {
    Fault::new(Code::BadOperands, text)
}

/// The body of a node.
fn body_of(node: &NodeProto, name: &str) -> Result<GraphProto, Fault> {
    let attr = node.attribute.iter().find(|a| a.name.as_deref() == Some(name));
    let graph = attr.and_then(|a| a.g.as_deref());
    let missing = || Fault::new(Code::BadAttribute, format!("attribute `{name}` is missing"));
    graph.cloned().ok_or_else(missing)
}

impl<'a> Importer<'a> {
    /// Lowers a body with its inputs bound, in a scope of its own. The scope of its initialisers is the caller's.
    fn trip(
        &mut self,
        body: &GraphProto,
        origin: &Origin,
        trip: usize,
        inputs: &[Value],
    ) -> Result<Vec<Value>, Stop> {
        if body.input.len() != inputs.len() {
            let text = format!(
                "the body takes {} values, the node gives {}",
                body.input.len(),
                inputs.len()
            );
            return Err(bad(text).into());
        }
        let named = Origin {
            name: format!("{}[{trip}]", origin.name),
            ..origin.clone()
        };
        self.enter(&named)?;
        self.scopes.push(BTreeMap::new());
        for (port, &value) in body.input.iter().zip(inputs) {
            self.define(
                port.name.as_deref().unwrap_or(""),
                Slot::Value(value),
                Some(origin),
            );
        }
        let results = self.body_results(body);
        self.scopes.pop();
        self.path.pop();
        results
    }

    pub fn ctx<'c>(&'c mut self, node: &'c NodeProto, origin: &Origin) -> NodeCtx<'c, 'a> {
        let opset = self.opset;
        NodeCtx::new(
            &mut self.builder,
            node,
            origin.clone(),
            opset,
            Vec::new(),
            Vec::new(),
        )
    }

    /// The results of a body of a node, whose inputs are these values.
    pub fn body(
        &mut self,
        node: &NodeProto,
        name: &str,
        origin: &Origin,
        inputs: &[Value],
    ) -> Result<Vec<Value>, Stop> {
        let mut body = body_of(node, name)?;
        self.with_weights(&mut body, |s, body| s.trip(body, origin, 0, inputs))
    }

    /// Runs `f` in a scope that holds the initialisers of a body.
    fn with_weights<T>(&mut self, body: &mut GraphProto, f: impl FnOnce(&mut Self, &GraphProto) -> T) -> T {
        self.scopes.push(BTreeMap::new());
        self.initializers(body);
        let result = f(self, body);
        self.scopes.pop();
        result
    }

    /// Loop: trips until the count is reached or the condition, computed at compile time, ends it. A condition known at run time
    /// only makes the remaining trips change nothing.
    pub fn unrolled_loop(
        &mut self,
        node: &NodeProto,
        origin: &Origin,
        inputs: &[Option<Value>],
    ) -> Result<Vec<Value>, Stop> {
        let mut body = body_of(node, "body")?;
        let known = |s: &Self, i: usize| {
            let value = inputs.get(i).copied().flatten()?;
            Some(s.builder.graph.constant(value).map(|t| t.to_f64_vec()))
        };
        let limit = match known(self, 0) {
            None => None,
            Some(Some(count)) if count.len() == 1 => Some(count[0].max(0.0)),
            Some(_) => {
                let text = "the trip count (operand 0) must be known at compile time: it bounds the loop";
                let count = inputs.first().copied().flatten();
                let fault = Fault::new(Code::DataDependent, text);
                return Err(count.map_or(fault.clone(), |v| fault.of(v)).into());
            }
        };
        let first = inputs.get(1).copied().flatten();
        let states: Vec<Value> = inputs
            .iter()
            .skip(2)
            .copied()
            .collect::<Option<_>>()
            .ok_or_else(|| bad("a state is missing"))?;
        let scans = body.output.len().checked_sub(1 + states.len());
        let scans = scans.ok_or_else(|| bad("the body has too few outputs"))?;
        let node_of = node;
        self.with_weights(&mut body, |s, body| {
            let mut states = states;
            let mut collected = vec![Vec::new(); scans];
            let mut going = match first {
                Some(value) => value,
                None => s.ctx(node_of, origin).scalar(DType::Bool, 1.0)?,
            };
            let mut trip = 0;
            loop {
                let condition = s.builder.graph.constant(going).map(|t| t.to_f64_vec() != [0.0]);
                if condition == Some(false) || limit.is_some_and(|n| trip as f64 >= n) {
                    break;
                }
                if condition.is_none() && (limit.is_none() || scans > 0) {
                    let text = "whether the loop goes on depends on the model's inputs, and nothing bounds its trips";
                    return Err(Fault::new(Code::DataDependent, text)
                        .of(going)
                        .help("give the Loop a constant trip count, and no scan outputs")
                        .into());
                }
                let most = s.builder.limits.max_trips;
                if trip == most {
                    let text = format!("more than {most} trips; loops are unrolled");
                    let fault = Fault::new(Code::TooManyNodes, text);
                    return Err(fault.help("--limit trips=N allows more").into());
                }
                let count = s.ctx(node_of, origin).constant(Tensor::scalar(trip as i64))?;
                let given: Vec<Value> = [count, going].into_iter().chain(states.iter().copied()).collect();
                let results = s.trip(body, origin, trip, &given)?;
                let mut c = s.ctx(node_of, origin);
                for (state, &new) in states.iter_mut().zip(&results[1..]) {
                    *state = match condition {
                        Some(_) => new,
                        None if c.ty(*state) == c.ty(new) => {
                            let going = c.reshape(going, Vec::new())?;
                            c.emit(Where {}, &[going, new, *state])?
                        }
                        None => {
                            let text = "a state changes its shape while the number of trips depends on the model's inputs";
                            return Err(Fault::new(Code::DataDependent, text).of(going).into());
                        }
                    };
                }
                for (list, &value) in collected.iter_mut().zip(&results[1 + states.len()..]) {
                    list.push(c.lifted(value, 0)?);
                }
                going = match condition {
                    Some(_) => results[0],
                    None => c.binary(BinaryOp::And, going, results[0])?,
                };
                trip += 1;
            }
            let mut c = s.ctx(node_of, origin);
            for list in collected {
                if list.is_empty() {
                    return Err(Fault::new(Code::Form, "a scan output of no trips is not supported").into());
                }
                states.push(join(&mut c, &list, 0)?);
            }
            Ok(states)
        })
    }

    /// Scan: a trip per element of the scanned dimension.
    pub fn unrolled_scan(
        &mut self,
        node: &NodeProto,
        origin: &Origin,
        inputs: &[Option<Value>],
    ) -> Result<Vec<Value>, Stop> {
        let mut body = body_of(node, "body")?;
        let batched = self.opset < 9;
        if batched && inputs.first().is_some_and(Option::is_some) {
            return Err(Fault::new(Code::Form, "sequence lengths are not supported").into());
        }
        let inputs = inputs.iter().skip(usize::from(batched)).copied();
        let inputs: Vec<Value> = inputs
            .collect::<Option<_>>()
            .ok_or_else(|| bad("an operand is missing"))?;
        let c = self.ctx(node, origin);
        let scanned = c
            .opt_int("num_scan_inputs")?
            .and_then(|n| usize::try_from(n).ok());
        let scanned = scanned.filter(|&n| n > 0 && n <= inputs.len());
        let scanned = scanned.ok_or_else(|| c.bad_attr("num_scan_inputs", "does not fit the operands"))?;
        let states = inputs.len() - scanned;
        let scans = body.output.len().checked_sub(states);
        let scans = scans.ok_or_else(|| bad("the body has too few outputs"))?;
        let list = |name, count: usize| -> Result<Vec<i64>, Fault> {
            let given = c.ints(name)?.unwrap_or_else(|| vec![0; count]);
            match given.len() == count {
                true => Ok(given),
                false => Err(c.bad_attr(name, format!("needs {count} entries"))),
            }
        };
        let directions = if batched {
            (list("directions", scanned)?, vec![0; scans])
        } else {
            (
                list("scan_input_directions", scanned)?,
                list("scan_output_directions", scans)?,
            )
        };
        let axes = if batched {
            (vec![0; scanned], vec![0; scans])
        } else {
            (
                list("scan_input_axes", scanned)?,
                list("scan_output_axes", scans)?,
            )
        };
        let scan = Scan {
            states,
            directions,
            axes,
        };
        if !batched {
            return self.with_weights(&mut body, |s, body| s.scan(node, origin, body, &scan, &inputs));
        }
        // Version 8: the first dimension of everything is the batch.
        let batch = inputs
            .first()
            .and_then(|&x| self.builder.graph.ty(x).sizes().first().copied());
        let batch = batch
            .filter(|&n| n > 0)
            .ok_or_else(|| bad("an operand has no batch dimension"))?;
        self.with_weights(&mut body, |s, body| {
            let mut all: Vec<Vec<Value>> = Vec::new();
            for b in 0..batch {
                let mut c = s.ctx(node, origin);
                let each = inputs
                    .iter()
                    .map(|&x| c.element(x, 0, b))
                    .collect::<Result<Vec<_>, _>>()?;
                let results = s.scan(node, origin, body, &scan, &each)?;
                let mut c = s.ctx(node, origin);
                let lifted = results.into_iter().map(|y| c.lifted(y, 0));
                all.push(lifted.collect::<Result<_, _>>()?);
            }
            let mut c = s.ctx(node, origin);
            let joined = (0..all[0].len()).map(|k| {
                let parts: Vec<Value> = all.iter().map(|each| each[k]).collect();
                join(&mut c, &parts, 0)
            });
            Ok(joined.collect::<Result<_, _>>()?)
        })
    }

    fn scan(
        &mut self,
        node: &NodeProto,
        origin: &Origin,
        body: &GraphProto,
        scan: &Scan,
        inputs: &[Value],
    ) -> Result<Vec<Value>, Stop> {
        let (states, sequences) = inputs.split_at(scan.states);
        let mut states = states.to_vec();
        let c = self.ctx(node, origin);
        let mut axes = Vec::new();
        for (&x, &axis) in sequences.iter().zip(&scan.axes.0) {
            axes.push(c.axis(axis, c.rank(x))?);
        }
        let steps = c.shape(sequences[0])[axes[0]];
        if sequences
            .iter()
            .zip(&axes)
            .any(|(&x, &axis)| c.shape(x)[axis] != steps)
        {
            return Err(bad("the scanned operands differ in length").into());
        }
        let most = self.builder.limits.max_trips;
        if steps == 0 || steps > most {
            let text = format!("{steps} trips; scans of 1 to {most} are unrolled");
            return Err(Fault::new(Code::TooManyNodes, text).into());
        }
        let mut collected = vec![Vec::new(); scan.axes.1.len()];
        for trip in 0..steps {
            let mut c = self.ctx(node, origin);
            let mut given = states.clone();
            for ((&x, &axis), &backwards) in sequences.iter().zip(&axes).zip(&scan.directions.0) {
                let at = if backwards == 0 { trip } else { steps - 1 - trip };
                given.push(c.element(x, axis, at)?);
            }
            let results = self.trip(body, origin, trip, &given)?;
            let mut c = self.ctx(node, origin);
            let (new, outputs) = results.split_at(scan.states);
            states = new.to_vec();
            for ((list, &y), &axis) in collected.iter_mut().zip(outputs).zip(&scan.axes.1) {
                let axis = c.axis(axis, c.rank(y) + 1)?;
                list.push(c.lifted(y, axis)?);
            }
        }
        let mut c = self.ctx(node, origin);
        for ((mut list, &axis), &backwards) in collected.into_iter().zip(&scan.axes.1).zip(&scan.directions.1)
        {
            if backwards != 0 {
                list.reverse();
            }
            let axis = c.axis(axis, c.rank(list[0]))?;
            states.push(join(&mut c, &list, axis)?);
        }
        Ok(states)
    }

    /// If whose condition is computed: both branches, and of their results those that the condition takes.
    pub fn both_branches(
        &mut self,
        node: &NodeProto,
        origin: &Origin,
        condition: Value,
    ) -> Result<Vec<Value>, Stop> {
        let before = self.errors.len();
        let (yes, no) = (self.branch(node, origin, true), self.branch(node, origin, false));
        // What a branch that is not taken does wrong is no fault of the model.
        if let Some(error) = self.errors.split_off(before).into_iter().next() {
            let text = format!(
                "only one branch is taken, as the condition decides, and one cannot be compiled: {error}"
            );
            return Err(Fault::new(Code::DataDependent, text).of(condition).into());
        }
        let (yes, no) = (yes?, no?);
        let mut c = self.ctx(node, origin);
        if yes.len() != no.len() {
            return Err(bad("the branches differ in their number of results").into());
        }
        let condition = c.reshape(condition, Vec::new())?;
        let mut results = Vec::new();
        for (k, (yes, no)) in yes.into_iter().zip(no).enumerate() {
            let (a, b) = (c.ty(yes), c.ty(no));
            if a != b {
                let text = format!(
                    "result {k} is {a} or {b}, as the condition decides, which depends on the model's inputs"
                );
                return Err(Fault::new(Code::DataDependent, text).of(condition).into());
            }
            results.push(c.emit(Where {}, &[condition, yes, no])?);
        }
        Ok(results)
    }
}

/// What a Scan's attributes say; of each pair the first is of the inputs, the second of the outputs.
struct Scan {
    states: usize,
    directions: (Vec<i64>, Vec<i64>),
    axes: (Vec<i64>, Vec<i64>),
}

impl NodeCtx<'_, '_> {
    /// Element `at` along a dimension, without that dimension.
    fn element(&mut self, x: Value, axis: usize, at: usize) -> Result<Value, Fault> {
        if axis >= self.rank(x) || at >= self.shape(x)[axis] {
            return Err(bad("an operand is shorter than the others"));
        }
        let part = self.narrow(x, axis, at, at + 1)?;
        let mut shape = self.shape(part);
        shape.remove(axis);
        self.reshape(part, shape)
    }

    /// The value with a new dimension of size 1.
    fn lifted(&mut self, x: Value, axis: usize) -> Result<Value, Fault> {
        let mut shape = self.shape(x);
        shape.insert(axis, 1);
        self.reshape(x, shape)
    }
}
