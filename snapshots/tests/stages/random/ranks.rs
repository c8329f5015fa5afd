//! Every operator at every rank from 0 to 6: it compiles rightly or is refused with a reason, and never ends in a panic.
#![allow(clippy::print_stdout, reason = "tests say which networks they tried")]

use super::net::{Known, Net, ints};
use super::{Verdict, verdict};
use sdc_frontend::proto::{AttributeProto, NodeProto, TensorProto, data_type};

const MOST: usize = 6;

/// Operands after the first.
#[derive(Clone, Copy, Debug)]
enum Others {
    /// So many times the first once more.
    Again(usize),
    /// A list of a number per dimension, after so many operands that are left out.
    Numbers(i64, usize),
    /// A single number.
    Number,
}

const OTHERS: [Others; 9] = [
    Others::Again(0),
    Others::Again(1),
    Others::Again(2),
    Others::Again(4),
    Others::Numbers(1, 0),
    Others::Numbers(2, 0),
    // The sizes of Resize.
    Others::Numbers(3, 2),
    Others::Numbers(0, 0),
    Others::Number,
];

/// All operators with a lowering.
pub fn walk() -> Result<(), String> {
    let mut faults = Vec::new();
    let (mut right, mut refused) = (0, 0);
    for (domain, name) in sdc_frontend::operators() {
        for rank in 0..=MOST {
            for others in OTHERS {
                let net = network(domain, name, rank, others);
                // Which operands an operator takes is not looked at here, so a malformed node is as good as a refused one.
                match verdict(&net, 1) {
                    Verdict::Right => right += 1,
                    Verdict::Refused(_) => refused += 1,
                    Verdict::Wrong(text) if text.starts_with(super::IMPORTER) => refused += 1,
                    Verdict::Wrong(text) => {
                        faults.push(format!("{domain} {name}, rank {rank}, {others:?}: {text}"))
                    }
                }
            }
        }
    }
    println!("operators at ranks 0 to {MOST}: {right} right, {refused} refused");
    match faults.is_empty() {
        true => Ok(()),
        false => Err(faults.join("\n")),
    }
}

fn network(domain: &str, name: &str, rank: usize, others: Others) -> Net {
    let mut net = Net::default();
    let shape: Vec<usize> = [2, 3, 4, 5, 3, 2][..rank].to_vec();
    net.inputs.push("x".to_owned());
    net.known
        .insert("x".to_owned(), Known::new(data_type::FLOAT, &shape, 1.0, true));
    net.known
        .insert("y".to_owned(), Known::new(data_type::FLOAT, &[], 1.0, false));
    let mut input = vec!["x".to_owned()];
    let mut constant = |dims: Vec<i64>, value: i64| {
        let count = dims.iter().product::<i64>() as usize;
        net.constants.push(TensorProto {
            name: Some("c".to_owned()),
            data_type: Some(data_type::INT64),
            dims,
            raw_data: Some(value.to_le_bytes().repeat(count).into()),
            ..Default::default()
        });
    };
    match others {
        Others::Again(times) => input.extend(std::iter::repeat_n("x".to_owned(), times)),
        Others::Numbers(value, absent) => {
            constant(vec![rank as i64], value);
            input.extend(std::iter::repeat_n(String::new(), absent));
            input.push("c".to_owned());
        }
        Others::Number => {
            constant(vec![], 1);
            input.push("c".to_owned());
        }
    }
    let spatial = rank.saturating_sub(2);
    let attribute: Vec<AttributeProto> = match name {
        "MaxPool" | "AveragePool" | "LpPool" => vec![ints("kernel_shape", &vec![2; spatial])],
        _ => Vec::new(),
    };
    net.nodes.push(NodeProto {
        name: Some("node".to_owned()),
        op_type: Some(name.to_owned()),
        domain: Some(domain.to_owned()),
        input,
        output: vec!["y".to_owned()],
        attribute,
        ..Default::default()
    });
    net.outputs.push("y".to_owned());
    net
}
