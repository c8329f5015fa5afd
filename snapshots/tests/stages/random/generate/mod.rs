//! Random networks: small, of odd shapes, with values used more than once and several outputs.
//!
//! Numbers stay so small, and roundings and comparisons of computed numbers are avoided, so that every network has one right result.

mod elementwise;
mod linear;
mod movement;
mod quantised;

use super::net::{Known, Net};
use fastrand::Rng;
use sdc_frontend::proto::*;

pub const F32: i32 = data_type::FLOAT;
pub const F16: i32 = data_type::FLOAT16;
pub const I64: i32 = data_type::INT64;
pub const I32: i32 = data_type::INT32;
pub const U8: i32 = data_type::UINT8;
pub const I8: i32 = data_type::INT8;
pub const BOOL: i32 = data_type::BOOL;

/// Most elements of a value.
const MOST: usize = 6000;

pub struct Maker<'a> {
    pub random: &'a mut Rng,
    pub net: Net,
    values: Vec<String>,
    count: usize,
}

/// A network of three to fifteen steps.
pub fn network(random: &mut Rng) -> Net {
    let mut maker = Maker {
        random,
        net: Net::default(),
        values: Vec::new(),
        count: 0,
    };
    for _ in 0..maker.random.usize(1..4) {
        maker.input();
    }
    let steps = maker.random.usize(3..16);
    let mut tries = 0;
    while maker.net.nodes.len() < steps && tries < 300 {
        tries += 1;
        maker.step();
    }
    maker.outputs();
    let mut net = maker.net;
    net.prune();
    net
}

impl Maker<'_> {
    fn input(&mut self) {
        let rank = self.one(&[1, 2, 3, 3, 4, 4, 4, 4, 5, 0]);
        let mut shape: Vec<usize> = (0..rank).map(|_| self.random.usize(1..9)).collect();
        if rank >= 4 {
            shape[0] = self.one(&[1, 1, 1, 2]);
            shape[1] = self.one(&[1, 3, 4, 5, 8, 12, 16, 17]);
            for size in &mut shape[2..] {
                *size = self.random.usize(3..if rank == 4 { 14 } else { 6 });
            }
        }
        let (dtype, bound) = self.one(&[
            (F32, 1.0),
            (F32, 1.0),
            (F32, 1.0),
            (F32, 1.0),
            (F32, 1.0),
            (F16, 1.0),
            (I64, 3.0),
            (I32, 3.0),
            (U8, 3.0),
            (I8, 3.0),
        ]);
        let name = format!("x{}", self.net.inputs.len());
        self.net.inputs.push(name.clone());
        self.add(name, Known::new(dtype, &shape, bound, true));
    }

    fn step(&mut self) {
        match self.random.u32(0..100) {
            0..22 => self.unary(),
            22..42 => self.binary(),
            42..64 => self.linear(),
            64..88 => self.movement(),
            88..94 => self.quantised(),
            _ => self.cast(),
        };
    }

    /// What nothing reads, and sometimes more.
    fn outputs(&mut self) {
        let read = |net: &Net, name: &String| net.nodes.iter().any(|n| n.input.contains(name));
        for node in &self.net.nodes {
            for output in &node.output {
                if !read(&self.net, output) || self.random.u32(0..12) == 0 {
                    self.net.outputs.push(output.clone());
                }
            }
        }
        while self.net.outputs.len() > 4 {
            let at = self.random.usize(0..self.net.outputs.len());
            self.net.outputs.remove(at);
        }
    }

    pub fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.random.usize(0..of.len())].clone()
    }

    pub fn chance(&mut self, percent: u32) -> bool {
        self.random.u32(0..100) < percent
    }

    fn add(&mut self, name: String, known: Known) {
        self.net.known.insert(name.clone(), known);
        self.values.push(name);
    }

    pub fn known(&self, name: &str) -> Known {
        self.net.known[name].clone()
    }

    fn fresh(&mut self) -> String {
        self.count += 1;
        format!("v{}", self.count)
    }

    /// A value, rather a late one, that satisfies the predicate.
    pub fn pick(&mut self, fits: impl Fn(&Known) -> bool) -> Option<String> {
        let fitting: Vec<String> = self
            .values
            .iter()
            .filter(|v| fits(&self.net.known[*v]))
            .cloned()
            .collect();
        if fitting.is_empty() {
            return None;
        }
        let n = fitting.len();
        let at = self.random.usize(0..n).max(self.random.usize(0..n));
        Some(fitting[at].clone())
    }

    pub fn float(&mut self, fits: impl Fn(&Known) -> bool) -> Option<String> {
        let dtype = if self.chance(12) { F16 } else { F32 };
        self.pick(|k| k.dtype == dtype && fits(k))
    }

    /// A node with one result of this type.
    pub fn node(
        &mut self,
        op: &str,
        inputs: &[&str],
        attributes: Vec<AttributeProto>,
        known: Known,
    ) -> Option<String> {
        let names = self.nodes(op, inputs, attributes, vec![known]);
        names.map(|n| n[0].clone())
    }

    pub fn nodes(
        &mut self,
        op: &str,
        inputs: &[&str],
        attributes: Vec<AttributeProto>,
        known: Vec<Known>,
    ) -> Option<Vec<String>> {
        if known.iter().any(|k| k.elements() > MOST || k.bound > 1e4) {
            return None;
        }
        let names: Vec<String> = known.iter().map(|_| self.fresh()).collect();
        self.net.nodes.push(NodeProto {
            name: Some(format!("{op}_{}", names[0])),
            op_type: Some(op.to_owned()),
            input: inputs.iter().map(|i| (*i).to_owned()).collect(),
            output: names.clone(),
            attribute: attributes,
            ..Default::default()
        });
        for (name, known) in names.iter().zip(known) {
            self.add(name.clone(), known);
        }
        Some(names)
    }

    fn constant(&mut self, dtype: i32, shape: &[usize], raw: Vec<u8>) -> String {
        let name = format!("c{}", self.net.constants.len());
        self.net.constants.push(TensorProto {
            name: Some(name.clone()),
            data_type: Some(dtype),
            dims: shape.iter().map(|&d| d as i64).collect(),
            raw_data: Some(raw.into()),
            ..Default::default()
        });
        self.net
            .known
            .insert(name.clone(), Known::new(dtype, shape, f64::INFINITY, true));
        name
    }

    /// Numbers between `lo` and `hi`, in f32 or f16.
    pub fn floats(&mut self, dtype: i32, shape: &[usize], lo: f32, hi: f32) -> String {
        let n = shape.iter().product::<usize>();
        let values: Vec<f32> = (0..n).map(|_| lo + self.random.f32() * (hi - lo)).collect();
        let raw = match dtype {
            F16 => values
                .iter()
                .flat_map(|&v| half::f16::from_f32(v).to_le_bytes())
                .collect(),
            _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        };
        self.constant(dtype, shape, raw)
    }

    pub fn list(&mut self, values: &[i64]) -> String {
        let raw = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(I64, &[values.len()], raw)
    }

    /// Whole numbers of a type.
    pub fn integers(&mut self, dtype: i32, shape: &[usize], lo: i64, hi: i64) -> String {
        let n = shape.iter().product::<usize>();
        let size = match dtype {
            I64 => 8,
            I32 => 4,
            _ => 1,
        };
        let raw = (0..n)
            .flat_map(|_| self.random.i64(lo..hi).to_le_bytes()[..size].to_vec())
            .collect();
        self.constant(dtype, shape, raw)
    }
}
