//! Which format each layer gets: the least loss for the bytes.

use sdc_ir::DType;
use sdc_ir::sd::{Format, Geometry, Index, Packing, faults_of_format, sizes};

/// What the user asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wish {
    /// Four bytes per weight and bias, divided by all stored bytes.
    Ratio(f64),
    /// Stored bits per weight and bias, everything counted.
    Bits(f64),
    /// Share of rows kept, over all layers that can be pruned.
    Density(f64),
    /// Predicted error of the outputs: squared, relative to their variance.
    Budget(f64),
    /// Bytes of the whole weights file.
    Size(usize),
}

/// The wish in words: `ratio 7`.
impl std::fmt::Display for Wish {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Wish::Ratio(x) => write!(f, "ratio {x}"),
            Wish::Bits(x) => write!(f, "bits {x}"),
            Wish::Density(x) => write!(f, "density {x}"),
            Wish::Budget(x) => write!(f, "budget {x}"),
            Wish::Size(x) => write!(f, "size {x}"),
        }
    }
}

/// A form a layer could take.
#[derive(Clone, Debug, PartialEq)]
pub enum Candidate {
    /// Left as `f32`.
    Float,
    /// Eight bits, a scale per filter.
    Int8,
    /// SmartDeal in a format.
    Sd(Format),
}

impl Candidate {
    /// For messages: `int8`, `S3 r3 {1,2,4}`.
    pub fn describe(&self) -> String {
        match self {
            Candidate::Float => "float".to_owned(),
            Candidate::Int8 => "int8".to_owned(),
            Candidate::Sd(f) => {
                let digits: Vec<String> = f.alphabet.iter().map(ToString::to_string).collect();
                format!("S{} r{} {{{}}}", f.s, f.r, digits.join(","))
            }
        }
    }
}

/// Shapes of the codebook: `(S, r, alphabet)`, with about 1.6 to 4.4 bits a weight. Magnitudes follow what suits bell-shaped weights.
const LADDER: &[(usize, usize, &[u8])] = &[
    (8, 8, &[1]),
    (6, 8, &[1]),
    (5, 5, &[4, 9]),
    (5, 8, &[1]),
    (5, 6, &[1, 2]),
    (4, 4, &[3, 6, 10]),
    (4, 8, &[1]),
    (3, 3, &[3, 6, 10, 16]),
    (4, 4, &[2, 4, 6, 9, 12]),
    (4, 6, &[1, 2]),
    (3, 3, &[2, 4, 6, 9, 12]),
    (3, 3, &[1, 2, 3, 4, 6, 8, 10]),
    (3, 5, &[1, 2]),
    (3, 8, &[1]),
];

/// The formats worth trying for a tensor, bases shared by the whole layer.
pub fn formats(geometry: &Geometry, index: Index, scale: DType) -> Vec<Format> {
    LADDER
        .iter()
        .map(|&(s, r, alphabet)| Format {
            s,
            r,
            slice_rows: (64 * s).min(geometry.rows(s)).max(1),
            alphabet: alphabet.to_vec(),
            packing: Packing::Row,
            basis_bits: 8,
            basis_filters: geometry.filters().max(1),
            scale,
            index,
        })
        .filter(|f| faults_of_format(geometry, f).is_empty())
        .collect()
}

/// Filters that a vector of the widest kernels holds.
const LANES: usize = 16;

/// Bytes of weights that stay as they are: in the file they lie as kernels read them, the filters of each group padded to whole
/// vectors of the widest, or as they are where each filter has an input channel of its own.
pub fn float_bytes(geometry: &Geometry, groups: usize) -> usize {
    let filters = geometry.filters() / groups.max(1);
    let columns = if filters == 1 && groups > 1 {
        1
    } else {
        filters.next_multiple_of(LANES)
    };
    columns * groups * geometry.vector_len() * 4
}

/// Stored bytes of a candidate when all rows are kept, for a layer of so many groups of filters.
pub fn bytes(geometry: &Geometry, candidate: &Candidate, scale: DType, groups: usize) -> usize {
    match candidate {
        Candidate::Float => float_bytes(geometry, groups),
        Candidate::Int8 => {
            let empty = sdc_ir::sd::Int8 {
                geometry: geometry.clone(),
                values: vec![0; geometry.shape.iter().product()],
                scale,
                scales: vec![1.0; geometry.filters()],
            };
            sdc_ir::sd::Stored::Int8(empty).packed_len()
        }
        Candidate::Sd(f) => sizes(geometry, f, geometry.filters() * geometry.rows(f.s)).total,
    }
}

/// A candidate with its price.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The form.
    pub candidate: Candidate,
    /// Stored bytes, alignment included.
    pub bytes: usize,
    /// Predicted error it adds at the outputs.
    pub loss: f64,
}

/// For each layer the offer chosen so that the bytes do not exceed `limit`: the least sum of losses that a common price per byte finds,
/// then improved greedily with what is left. `None` if even the smallest offers do not fit.
pub fn within_bytes(offers: &[Vec<Offer>], limit: usize) -> Option<Vec<usize>> {
    let bytes = |chosen: &[usize]| -> usize { chosen.iter().zip(offers).map(|(&c, o)| o[c].bytes).sum() };
    let mut low = at_price(offers, f64::INFINITY);
    if bytes(&low) > limit {
        return None;
    }
    let (mut cheap, mut dear) = (-60f64, 60f64);
    for _ in 0..100 {
        let middle = 0.5 * (cheap + dear);
        let chosen = at_price(offers, middle.exp2());
        if bytes(&chosen) <= limit {
            low = chosen;
            dear = middle;
        } else {
            cheap = middle;
        }
    }
    // What the hull skips: single layers that still improve within the remainder, best gain first.
    loop {
        let used = bytes(&low);
        let mut best: Option<(f64, usize, usize)> = None;
        for (l, own) in offers.iter().enumerate() {
            let present = &own[low[l]];
            for (c, offer) in own.iter().enumerate() {
                let gain = present.loss - offer.loss;
                if used - present.bytes + offer.bytes <= limit
                    && gain > 0.0
                    && best.is_none_or(|b| gain > b.0)
                {
                    best = Some((gain, l, c));
                }
            }
        }
        let Some((_, l, c)) = best else { return Some(low) };
        low[l] = c;
    }
}

/// The fewest bytes whose predicted losses stay below `budget` in sum; the least loss there is if none does.
pub fn within_loss(offers: &[Vec<Offer>], budget: f64) -> Vec<usize> {
    let loss = |chosen: &[usize]| -> f64 { chosen.iter().zip(offers).map(|(&c, o)| o[c].loss).sum() };
    let mut found = at_price(offers, 0.0);
    let (mut cheap, mut dear) = (-60f64, 60f64);
    for _ in 0..100 {
        let middle = 0.5 * (cheap + dear);
        let chosen = at_price(offers, middle.exp2());
        if loss(&chosen) <= budget {
            found = chosen;
            cheap = middle;
        } else {
            dear = middle;
        }
    }
    found
}

/// Sums of bytes and predicted losses along all common prices per byte, by bytes: what could be had.
pub fn pareto(offers: &[Vec<Offer>]) -> Vec<(usize, f64)> {
    let mut points: Vec<(usize, f64)> = (-120..=120)
        .map(|step| {
            let chosen = at_price(offers, (f64::from(step) / 2.0).exp2());
            let all = chosen.iter().zip(offers).map(|(&c, own)| &own[c]);
            all.fold((0, 0.0), |sum, o| (sum.0 + o.bytes, sum.1 + o.loss))
        })
        .collect();
    points.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    points.dedup_by_key(|p| p.0);
    points
}

/// The offer of least `loss + price * bytes` per layer; the smallest of equals.
fn at_price(offers: &[Vec<Offer>], price: f64) -> Vec<usize> {
    let cost = |o: &Offer| {
        if price.is_infinite() {
            o.bytes as f64
        } else {
            o.loss + price * o.bytes as f64
        }
    };
    offers
        .iter()
        .map(|own| {
            let order = |a: &&(usize, &Offer), b: &&(usize, &Offer)| {
                cost(a.1).total_cmp(&cost(b.1)).then(a.1.bytes.cmp(&b.1.bytes))
            };
            let all: Vec<(usize, &Offer)> = own.iter().enumerate().collect();
            all.iter().min_by(order).map_or(0, |best| best.0)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(bytes: usize, loss: f64) -> Offer {
        Offer {
            candidate: Candidate::Int8,
            bytes,
            loss,
        }
    }

    #[test]
    fn spends_where_it_helps_most() {
        let offers = vec![
            vec![offer(10, 8.0), offer(20, 1.0), offer(40, 0.1)],
            vec![offer(10, 0.4), offer(20, 0.2), offer(40, 0.1)],
        ];
        assert_eq!(within_bytes(&offers, 19), None);
        assert_eq!(within_bytes(&offers, 20), Some(vec![0, 0]));
        assert_eq!(within_bytes(&offers, 30), Some(vec![1, 0]));
        assert_eq!(within_bytes(&offers, 1000), Some(vec![2, 2]));
        assert_eq!(within_loss(&offers, 1.5), vec![1, 0]);
        assert_eq!(within_loss(&offers, 0.0), vec![2, 2]);
        let points = pareto(&offers);
        assert_eq!(points.first().map(|p| p.0), Some(20));
        assert_eq!(points.last().map(|p| p.0), Some(80));
        assert!(points.is_sorted_by(|a, b| a.0 < b.0 && a.1 > b.1));
    }
}
