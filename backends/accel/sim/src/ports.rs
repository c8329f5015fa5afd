//! Tensors of the caller and of host steps, in DRAM and back.

use bytes::Bytes;
use sdc_accel_isa::{Grid, Port};
use sdc_ir::{DType, Tensor};

/// Why a tensor does not fit a port: what the port is, and what was given.
pub(crate) type Misfit = String;

/// The bytes of a port's integers for a tensor: of the port's own type, or of `f32` where it has a grid.
pub(crate) fn to_port(port: &Port, tensor: &Tensor) -> Result<Tensor, Misfit> {
    let fits = tensor.shape() == port.shape;
    match port.grid {
        _ if fits && tensor.dtype() == port.dtype => Ok(tensor.clone()),
        Some(grid) if fits && tensor.dtype() == DType::F32 => {
            let real = tensor.elements::<f32>().map_err(|e| e.to_string())?;
            quantise(port, &real, grid)
        }
        _ => Err(format!(
            "`{}` is {}{:?}, but {}{:?} was given",
            port.name,
            if port.grid.is_some() {
                DType::F32
            } else {
                port.dtype
            },
            port.shape,
            tensor.dtype(),
            tensor.shape()
        )),
    }
}

/// `sat(rhe(f32(x) / scale) + zero)`, NaN giving 0 (`docs/integer.md`, section 1).
fn quantise(port: &Port, real: &[f32], grid: Grid) -> Result<Tensor, Misfit> {
    let (low, high) = match port.dtype {
        DType::U8 => (0.0, 255.0),
        DType::I8 => (-128.0, 127.0),
        other => return Err(format!("`{}` has a grid, but elements of {other}", port.name)),
    };
    let byte = |x: &f32| {
        let x = (x / grid.scale).round_ties_even() + grid.zero as f32;
        // A NaN becomes 0 by the cast; two casts, since a negative number is the byte of its `i8`.
        x.clamp(low, high) as i32 as u8
    };
    let bytes: Vec<u8> = real.iter().map(byte).collect();
    Tensor::new(port.dtype, port.shape.clone(), Bytes::from(bytes)).map_err(|e| e.to_string())
}

/// A port's tensor for the caller: real numbers where it has a grid.
pub(crate) fn from_port(port: &Port, stored: Tensor) -> Result<Tensor, Misfit> {
    let Some(grid) = port.grid else { return Ok(stored) };
    let integers = stored
        .to_i64_vec()
        .ok_or_else(|| format!("`{}` has a grid, but no integers", port.name))?;
    let real = integers
        .iter()
        .map(|&q| (q as i32).wrapping_sub(grid.zero) as f32 * grid.scale);
    Tensor::from_elements(port.shape.clone(), real.collect()).map_err(|e| e.to_string())
}

/// A tensor out of DRAM.
pub(crate) fn read(dram: &[u8], at: u32, dtype: DType, shape: &[usize]) -> Option<Tensor> {
    let bytes = sdc_ir::tensor::element_count(shape)?.checked_mul(dtype.size())?;
    let at = at as usize;
    let bytes = dram.get(at..at.checked_add(bytes)?)?;
    Tensor::new(dtype, shape.to_vec(), Bytes::copy_from_slice(bytes)).ok()
}

/// A tensor into DRAM; false if it does not fit.
pub(crate) fn write(dram: &mut [u8], at: u32, tensor: &Tensor) -> bool {
    let at = at as usize;
    let place = dram.get_mut(at..at.saturating_add(tensor.bytes().len()));
    place.map(|p| p.copy_from_slice(tensor.bytes())).is_some()
}
