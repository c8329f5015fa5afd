//! Operators that only move, select or repeat elements work on integers as on what these stand for.

use super::operand::{Activation, Grid};
use crate::local::{Outcome, Site};
use crate::pass::merge_origins;
use sdc_ir::graph::op::Pad;
use sdc_ir::graph::{Op, Value};

/// QuantizeLinear of a DequantizeLinear on the same grid gives the integers back.
pub fn same_grid(site: &mut Site<'_>) -> Outcome {
    if !matches!(site.op, Op::QuantizeLinear(_)) {
        return Outcome::NoMatch;
    }
    let grid = Grid::of(site.graph, site.ty.dtype, site.inputs[1], site.inputs[2]);
    let (Ok(to), Ok(from)) = (grid, Activation::read(site.graph, site.inputs[0])) else {
        return Outcome::NoMatch;
    };
    if from.grid == to && to.dtype.size() <= 2 {
        Outcome::value(from.value)
    } else {
        Outcome::NoMatch
    }
}

/// QuantizeLinear of a movement of dequantised values becomes the movement of integers. Rounding is monotone, so that
/// the same holds for the maximum of a window.
pub fn movement(site: &mut Site<'_>) -> Outcome {
    let Some(data) = site
        .producer(0)
        .filter(|_| matches!(site.op, Op::QuantizeLinear(_)))
    else {
        return Outcome::NoMatch;
    };
    let moves = matches!(
        data.op,
        Op::Reshape(_) | Op::Transpose(_) | Op::Slice(_) | Op::Concat(_) | Op::Pad(_) | Op::MaxPool(_)
    );
    if !moves {
        return Outcome::NoMatch;
    }
    let (op, inputs) = (data.op.clone(), data.inputs.clone());
    let origins = merge_origins(&data.origins, site.origins);
    let grid = match Grid::of(site.graph, site.ty.dtype, site.inputs[1], site.inputs[2]) {
        Ok(grid) => grid,
        Err(reason) => return Outcome::Declined(reason),
    };
    let read: Result<Vec<Activation>, String> =
        inputs.iter().map(|&v| Activation::read(site.graph, v)).collect();
    let read = match read {
        Ok(read) => read,
        Err(reason) => return Outcome::Declined(reason),
    };
    let op = match op {
        Op::Pad(pad) => Op::from(Pad {
            value: grid.quantise(pad.value) as f32,
            ..pad
        }),
        op => op,
    };
    // Operands on another grid are brought to this one first; the movement itself stays exact.
    let mut integers: Vec<Value> = Vec::new();
    for (operand, &value) in read.iter().zip(&inputs) {
        let quantised = if operand.grid == grid {
            Ok(operand.value)
        } else {
            site.graph.add1(
                site.op.clone(),
                &[value, site.inputs[1], site.inputs[2]],
                origins.clone(),
            )
        };
        match quantised {
            Ok(value) => integers.push(value),
            Err(error) => return Outcome::Declined(error.to_string()),
        }
    }
    Outcome::node(op, &integers, origins)
}

/// What no other rule took, said to the user.
pub fn float_sandwich(site: &mut Site<'_>) -> Outcome {
    let Some(data) = site
        .producer(0)
        .filter(|_| matches!(site.op, Op::QuantizeLinear(_)))
    else {
        return Outcome::NoMatch;
    };
    let name = data.op.name();
    Outcome::Declined(match data.op {
        Op::DequantizeLinear(_) => "it moves to another grid, through floating point".to_owned(),
        _ => format!("{name} has no integer operator: it computes in floating point between integers"),
    })
}
