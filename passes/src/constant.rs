//! Reading constants: single values and per-channel vectors.

use sdc_ir::{DType, Tensor};

/// Larger constants are not looked at: real ones that are uniform are small, and a rule asks at every node.
const MAX_UNIFORM_BYTES: usize = 1 << 16;

/// The value of all elements if they are the same (and there are any, and not too many).
pub fn uniform(t: &Tensor) -> Option<f64> {
    if t.bytes().len() > MAX_UNIFORM_BYTES {
        return None;
    }
    let size = t.dtype().size();
    let first = t.bytes().get(..size)?;
    if !t.bytes().chunks_exact(size).all(|e| e == first) {
        return None;
    }
    let one = Tensor::new(t.dtype(), vec![1], t.bytes().slice(..size)).ok()?;
    one.to_f64_vec().first().copied()
}

/// An `f32` tensor that, broadcast to `shape`, varies along dimension `axis` only: its `shape[axis]` values.
/// `None` if it is of another type, varies otherwise, or would enlarge `shape`.
pub fn along_axis(t: &Tensor, shape: &[usize], axis: usize) -> Option<Vec<f64>> {
    if t.dtype() != DType::F32 || t.shape().len() > shape.len() {
        return None;
    }
    let lead = shape.len() - t.shape().len();
    for (i, &d) in t.shape().iter().enumerate() {
        if d != 1 && (i + lead != axis || d != shape[axis]) {
            return None;
        }
    }
    let values = t.to_f64_vec();
    match values.as_slice() {
        [one] => Some(vec![*one; shape[axis]]),
        _ => Some(values),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uniform_values() {
        let t = |v: Vec<f32>| Tensor::from_elements(vec![v.len()], v).unwrap();
        assert_eq!(uniform(&t(vec![2.0, 2.0])), Some(2.0));
        assert_eq!(uniform(&t(vec![2.0, 3.0])), None);
        assert_eq!(uniform(&t(vec![])), None);
    }

    #[test]
    fn vectors_along_an_axis() {
        let t = |shape: &[usize]| {
            let n = shape.iter().product::<usize>();
            Tensor::from_elements(shape.to_vec(), (0..n).map(|i| i as f32).collect()).unwrap()
        };
        let shape = [2, 3, 4, 4];
        assert_eq!(along_axis(&t(&[3, 1, 1]), &shape, 1), Some(vec![0.0, 1.0, 2.0]));
        assert_eq!(along_axis(&t(&[]), &shape, 1), Some(vec![0.0; 3]));
        assert_eq!(along_axis(&t(&[1, 1, 1, 1]), &shape, 1), Some(vec![0.0; 3]));
        assert_eq!(along_axis(&t(&[4]), &shape, 1), None);
        assert_eq!(along_axis(&t(&[3, 1, 1, 1]), &shape, 1), None);
        assert_eq!(along_axis(&t(&[1, 1, 3, 1, 1]), &shape, 1), None);
    }
}
