//! Einsum: operands are multiplied in order, each product a batched matrix product over the labels that nobody needs any more.

use crate::ctx::{Emit, Lowered, NodeCtx};
use crate::error::{Code, Fault};
use sdc_ir::graph::Value;
use sdc_ir::graph::op::{Activation, MatMul, Reduce, ReduceKind};
use std::collections::{BTreeMap, BTreeSet};

fn bad(text: impl Into<String>) -> Fault {
    Fault::new(Code::BadAttribute, text)
}

/// Dimensions are named by letters, those of an ellipsis by control characters, counted from the last.
type Label = char;

/// A value whose dimensions have distinct labels.
struct Term {
    value: Value,
    labels: Vec<Label>,
}

/// Labels of one operand as the equation spells them; `spread` is the rank of the ellipsis.
fn labels(text: &str, spread: usize) -> Result<Vec<Label>, Fault> {
    let mut all = Vec::new();
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("...") {
            let hidden = (0..spread).rev().map(|k| char::from_u32(1 + k as u32));
            all.extend(
                hidden
                    .collect::<Option<Vec<_>>>()
                    .ok_or_else(|| bad("too many dimensions"))?,
            );
            rest = after;
            continue;
        }
        if !letter.is_ascii_alphabetic() {
            return Err(bad(format!("attribute `equation` has the character `{letter}`")));
        }
        all.push(letter);
        rest = &rest[1..];
    }
    Ok(all)
}

pub(super) fn einsum(c: &mut NodeCtx) -> Lowered {
    let equation: String = c.string("equation", "")?.split_whitespace().collect();
    let operands = c.all_inputs()?;
    let (left, right) = match equation.split_once("->") {
        Some((left, right)) => (left, Some(right)),
        None => (equation.as_str(), None),
    };
    let texts: Vec<&str> = left.split(',').collect();
    if texts.len() != operands.len() {
        return Err(bad(format!(
            "the equation has {} terms for {} operands",
            texts.len(),
            operands.len()
        )));
    }
    let mut terms = Vec::new();
    let mut widest = 0;
    for (&text, &value) in texts.iter().zip(&operands) {
        let named = text.replace("...", "").len();
        let rank = c.rank(value);
        let spread = rank
            .checked_sub(named)
            .filter(|&n| n == 0 || text.contains("..."));
        let spread = spread.filter(|&n| n < 32);
        let spread = spread.ok_or_else(|| {
            bad(format!(
                "the term `{text}` does not fit an operand of rank {rank}"
            ))
        })?;
        widest = widest.max(spread);
        terms.push(Term {
            value,
            labels: labels(text, spread)?,
        });
    }
    let output = match right {
        Some(text) => labels(text, widest)?,
        None => implied(&terms, widest)?,
    };
    let sizes = sizes(c, &terms)?;
    if output.iter().collect::<BTreeSet<_>>().len() != output.len()
        || output.iter().any(|l| !sizes.contains_key(l))
    {
        return Err(bad("the result's labels must be distinct labels of the operands"));
    }
    let terms = terms
        .into_iter()
        .map(|t| distinct(c, t, &sizes))
        .collect::<Result<Vec<_>, _>>()?;
    let needed = |later: &[Term]| -> BTreeSet<Label> {
        let later = later.iter().flat_map(|t| t.labels.iter().copied());
        output.iter().copied().chain(later).collect()
    };
    let mut rest = terms.as_slice();
    let mut sum = None;
    while let Some((term, later)) = rest.split_first() {
        sum = Some(match sum {
            None => Term {
                value: term.value,
                labels: term.labels.clone(),
            },
            Some(sum) => multiply(c, sum, term, &needed(later))?,
        });
        rest = later;
    }
    let sum = sum.ok_or_else(|| bad("there is no operand"))?;
    let sum = keep(c, sum, &needed(&[]))?;
    // What is left are the result's labels, but for dimensions of size 1 that were dropped.
    let order: Vec<Label> = output
        .iter()
        .copied()
        .filter(|l| sum.labels.contains(l))
        .collect();
    let y = arranged(c, &sum, &order)?;
    c.reshape(y, output.iter().map(|l| sizes[l]).collect())
}

/// Without an arrow: the ellipsis, then the labels that occur once, in alphabetical order.
fn implied(terms: &[Term], widest: usize) -> Result<Vec<Label>, Fault> {
    let mut counts = BTreeMap::new();
    for label in terms.iter().flat_map(|t| &t.labels) {
        *counts.entry(*label).or_insert(0usize) += 1;
    }
    let mut output = labels("...", widest)?;
    output.extend(
        counts
            .iter()
            .filter(|(l, n)| l.is_ascii_alphabetic() && **n == 1)
            .map(|(l, _)| *l),
    );
    Ok(output)
}

/// The size of every label; dimensions of size 1 broadcast.
fn sizes(c: &NodeCtx, terms: &[Term]) -> Result<BTreeMap<Label, usize>, Fault> {
    let mut sizes = BTreeMap::new();
    for term in terms {
        for (&label, size) in term.labels.iter().zip(c.shape(term.value)) {
            let known = sizes.entry(label).or_insert(size);
            if *known == 1 {
                *known = size;
            }
            if size != *known && size != 1 {
                return Err(Fault::new(
                    Code::BadOperands,
                    format!("`{label}` is both {known} and {size}"),
                ));
            }
        }
    }
    Ok(sizes)
}

/// Takes diagonals where a label repeats, and drops dimensions of size 1 that broadcast.
fn distinct(c: &mut NodeCtx, term: Term, sizes: &BTreeMap<Label, usize>) -> Result<Term, Fault> {
    let Term {
        mut value,
        mut labels,
    } = term;
    for i in (0..labels.len()).rev() {
        let mut shape = c.shape(value);
        if shape[i] == 1 && sizes[&labels[i]] != 1 {
            shape.remove(i);
            value = c.reshape(value, shape)?;
            labels.remove(i);
        }
    }
    while let Some((i, j)) = repeated(&labels) {
        // Both last, as one dimension of which every (n + 1)-th element is on the diagonal.
        let n = c.shape(value)[i];
        let mut perm: Vec<usize> = (0..labels.len()).filter(|&d| d != i && d != j).collect();
        let mut kept: Vec<Label> = perm.iter().map(|&d| labels[d]).collect();
        kept.push(labels[i]);
        let outer: Vec<usize> = perm.iter().map(|&d| c.shape(value)[d]).collect();
        perm.extend([i, j]);
        value = c.transpose(value, perm)?;
        // `[.., n * n]`, short of its last row but one element, as rows of n + 1 whose first is wanted.
        value = c.reshape(value, [&outer[..], &[n * n]].concat())?;
        if n > 1 {
            let axis = outer.len();
            let last = c.narrow(value, axis, n * n - 1, n * n)?;
            let most = c.narrow(value, axis, 0, n * n - 1)?;
            let most = c.reshape(most, [&outer[..], &[n - 1, n + 1]].concat())?;
            let most = c.narrow(most, axis + 1, 0, 1)?;
            let most = c.reshape(most, [&outer[..], &[n - 1]].concat())?;
            value = super::join(c, &[most, last], axis)?;
        }
        labels = kept;
    }
    Ok(Term { value, labels })
}

fn repeated(labels: &[Label]) -> Option<(usize, usize)> {
    let mut pairs = (0..labels.len()).flat_map(|j| (0..j).map(move |i| (i, j)));
    pairs.find(|&(i, j)| labels[i] == labels[j])
}

/// The sum over the labels that nobody needs.
fn keep(c: &mut NodeCtx, term: Term, needed: &BTreeSet<Label>) -> Result<Term, Fault> {
    let axes: Vec<usize> = (0..term.labels.len())
        .filter(|&d| !needed.contains(&term.labels[d]))
        .collect();
    if axes.is_empty() {
        return Ok(term);
    }
    let op = Reduce {
        kind: ReduceKind::Sum,
        axes,
        keepdims: false,
    };
    let value = c.emit(op, &[term.value])?;
    let labels = term.labels.into_iter().filter(|l| needed.contains(l)).collect();
    Ok(Term { value, labels })
}

/// The value with its dimensions in the order of these labels.
fn arranged(c: &mut NodeCtx, term: &Term, order: &[Label]) -> Lowered {
    let place = |l: &Label| term.labels.iter().position(|k| k == l);
    let perm = order.iter().map(place).collect::<Option<Vec<usize>>>();
    c.transpose(term.value, perm.ok_or_else(|| bad("a label was lost"))?)
}

/// The product of two terms, summed over the labels that are not needed.
fn multiply(c: &mut NodeCtx, a: Term, b: &Term, needed: &BTreeSet<Label>) -> Result<Term, Fault> {
    // What only one of them has, and nobody needs, is summed first.
    let theirs = |other: &Term| {
        other
            .labels
            .iter()
            .copied()
            .chain(needed.iter().copied())
            .collect::<BTreeSet<_>>()
    };
    let copy = Term {
        value: b.value,
        labels: b.labels.clone(),
    };
    let (needed_a, needed_b) = (theirs(b), theirs(&a));
    let (a, b) = (keep(c, a, &needed_a)?, keep(c, copy, &needed_b)?);
    let shared = |l: &&Label| b.labels.contains(*l);
    let batch: Vec<Label> = a
        .labels
        .iter()
        .filter(shared)
        .filter(|l| needed.contains(*l))
        .copied()
        .collect();
    let summed: Vec<Label> = a
        .labels
        .iter()
        .filter(shared)
        .filter(|l| !needed.contains(*l))
        .copied()
        .collect();
    let own = |t: &Term, other: &Term| -> Vec<Label> {
        t.labels
            .iter()
            .filter(|l| !other.labels.contains(l))
            .copied()
            .collect()
    };
    let (rows, columns) = (own(&a, &b), own(&b, &a));
    let left = arranged(c, &a, &[&batch[..], &rows, &summed].concat())?;
    let right = arranged(c, &b, &[&batch[..], &summed, &columns].concat())?;
    let (ls, rs) = (c.shape(left), c.shape(right));
    let size = |dims: &[usize]| dims.iter().product::<usize>();
    let (nb, nr, ns) = (batch.len(), rows.len(), summed.len());
    let left = c.reshape(
        left,
        vec![size(&ls[..nb]), size(&ls[nb..nb + nr]), size(&ls[nb + nr..])],
    )?;
    let right = c.reshape(
        right,
        vec![size(&rs[..nb]), size(&rs[nb..nb + ns]), size(&rs[nb + ns..])],
    )?;
    let op = MatMul {
        bias: false,
        residual: false,
        act: Activation::None,
    };
    let y = c.emit(op, &[left, right])?;
    let shape = [&ls[..nb + nr], &rs[nb + ns..]].concat();
    Ok(Term {
        value: c.reshape(y, shape)?,
        labels: [batch, rows, columns].concat(),
    })
}
