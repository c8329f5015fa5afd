//! All buffers of a module in one array of bytes.

use super::TileError;
use sdc_ir::entity::EntityId;
use sdc_ir::tile::{Buffer, BufferKind, Module};
use std::collections::BTreeMap;

/// What memory holds before it is written: NaN in every float type, -1 or the maximum in integers.
const UNWRITTEN: u8 = 0xFF;

/// Where `Temp` buffers are.
pub(super) enum Temps<'a> {
    /// Each on its own.
    Separate,
    /// Ranges of one arena, at these byte offsets.
    Planned {
        offsets: &'a BTreeMap<Buffer, usize>,
        arena_size: usize,
    },
}

/// A buffer's place in memory.
pub(super) struct Place {
    /// First byte.
    pub start: usize,
    /// Number of elements; none if the buffer has no place.
    pub len: usize,
    /// Bytes of one element.
    pub size: usize,
}

/// Memory with inputs and constants filled in.
pub(super) struct Memory {
    pub places: Vec<Place>,
    pub bytes: Vec<u8>,
}

impl Memory {
    pub fn new(module: &Module, inputs: &[&[u8]], temps: &Temps<'_>) -> Result<Self, TileError> {
        check_input_count(module, inputs.len())?;
        let mut places = Vec::new();
        let mut end = match temps {
            Temps::Separate => 0,
            Temps::Planned { arena_size, .. } => *arena_size,
        };
        for (id, data) in module.buffers.iter() {
            let fail = |reason: String| TileError::Buffer {
                buffer: id,
                name: data.name.clone(),
                reason,
            };
            let size = data.dtype.size();
            let bytes = data
                .len
                .checked_mul(size)
                .ok_or_else(|| fail("its size overflows".to_owned()))?;
            let mut place = Place {
                start: end,
                len: data.len,
                size,
            };
            match (&data.kind, temps) {
                (BufferKind::Temp, Temps::Planned { offsets, arena_size }) => match offsets.get(&id) {
                    Some(&start) if start.checked_add(bytes).is_none_or(|end| end > *arena_size) => {
                        return Err(fail(format!(
                            "{bytes} bytes at offset {start} exceed the arena of {arena_size}"
                        )));
                    }
                    Some(&start) => place.start = start,
                    // A plan need not place what no function touches; whatever touches it finds nothing there.
                    None => place.len = 0,
                },
                _ => {
                    end = end
                        .checked_add(bytes)
                        .ok_or_else(|| fail("memory overflows".to_owned()))?;
                }
            }
            places.push(place);
        }
        let mut bytes = Vec::new();
        bytes
            .try_reserve_exact(end)
            .map_err(|_| TileError::OutOfMemory(end))?;
        bytes.resize(end, UNWRITTEN);
        let mut memory = Memory { places, bytes };
        memory.fill(module, inputs)?;
        Ok(memory)
    }

    fn fill(&mut self, module: &Module, inputs: &[&[u8]]) -> Result<(), TileError> {
        for (id, data) in module.buffers.iter() {
            let place = &self.places[id.index()];
            let target = &mut self.bytes[place.start..place.start + place.len * place.size];
            match data.kind {
                BufferKind::Input(position) => {
                    let source = inputs[position];
                    if source.len() != target.len() {
                        return Err(TileError::InputLength {
                            position,
                            expected: target.len(),
                            actual: source.len(),
                        });
                    }
                    target.copy_from_slice(source);
                }
                BufferKind::Const(weight) => {
                    let source = module.weights.get(weight).map_or(&[][..], |w| &w.bytes()[..]);
                    if source.len() != target.len() {
                        return Err(TileError::Buffer {
                            buffer: id,
                            name: data.name.clone(),
                            reason: format!(
                                "it needs {} bytes, weight {weight} has {}",
                                target.len(),
                                source.len()
                            ),
                        });
                    }
                    target.copy_from_slice(source);
                }
                BufferKind::Output(_) | BufferKind::Temp | BufferKind::Prepared => {}
            }
        }
        Ok(())
    }

    /// The bytes of each output, by position.
    pub fn outputs(&self, module: &Module) -> Result<Vec<Vec<u8>>, TileError> {
        let mut found = BTreeMap::new();
        for (id, data) in module.buffers.iter() {
            if let BufferKind::Output(position) = data.kind {
                let place = &self.places[id.index()];
                let bytes = self.bytes[place.start..place.start + place.len * place.size].to_vec();
                if found.insert(position, bytes).is_some() {
                    return Err(TileError::Output(position));
                }
            }
        }
        match (0..).zip(found.keys()).find(|(i, position)| i != *position) {
            Some((missing, _)) => Err(TileError::Output(missing)),
            None => Ok(found.into_values().collect()),
        }
    }
}

fn check_input_count(module: &Module, actual: usize) -> Result<(), TileError> {
    let position = |kind: &BufferKind| match kind {
        BufferKind::Input(position) => Some(position.saturating_add(1)),
        _ => None,
    };
    let expected = module
        .buffers
        .values()
        .filter_map(|b| position(&b.kind))
        .max()
        .unwrap_or(0);
    // Further inputs are those of the graph that nothing reads.
    if actual < expected {
        return Err(TileError::InputCount { expected, actual });
    }
    Ok(())
}
