//! How a run is cut into tasks that may be computed at the same time.

use std::fmt;

/// A cut into tasks. It depends on the layer alone, never on the number of threads, and every element is computed in the
/// same way whatever the cut, so results are the same bits for any number of threads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tasks {
    /// One task.
    One,
    /// A task for so many rounds of the outermost loop: images, or entries of a batch.
    Each {
        /// Rounds of a task; the last may have fewer.
        rounds: usize,
        /// Parts of the output channels that a round computes one after the other, each from weights that stay close by.
        channels: usize,
    },
    /// At most so many: the outermost of a nest of loops in equal pieces of whole vectors.
    AtMost(usize),
    /// Pieces of so many units of a kernel's range: rows of elements, blocks of packed weights.
    Every(usize),
    /// Rectangles of rows and channels.
    Grid(Grid),
}

/// A cut of rows and channels of one image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Grid {
    /// Rows of all parts but the last, which may have fewer. Of Winograd's filtering, rows of tiles.
    pub rows: usize,
    /// Parts along rows.
    pub row_parts: usize,
    /// Equal parts along output channels.
    pub channel_parts: usize,
    /// Which tasks follow one another: the row parts of a channel part, which read the same weights, or the channel parts of
    /// a row part, which read the same input.
    pub rows_inside: bool,
}

impl Tasks {
    /// Rows of `rows` in `row_parts` parts.
    pub const fn by_rows(rows: usize, row_parts: usize) -> Self {
        Tasks::Grid(Grid {
            rows,
            row_parts,
            channel_parts: 1,
            rows_inside: false,
        })
    }
}

impl fmt::Display for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tasks::One => f.write_str("one"),
            Tasks::Each { rounds, channels } => write!(f, "each {rounds} channels {channels}"),
            Tasks::AtMost(n) => write!(f, "at_most {n}"),
            Tasks::Every(n) => write!(f, "every {n}"),
            Tasks::Grid(g) => {
                write!(
                    f,
                    "grid {} by {} channels {}",
                    g.row_parts, g.rows, g.channel_parts
                )?;
                if g.rows_inside {
                    f.write_str(" rows_inside")
                } else {
                    Ok(())
                }
            }
        }
    }
}
