//! What a program moves and does, counted (specification, section 7).

use serde::Serialize;

macro_rules! counters {
    ($(#[$doc:meta])* $name:ident { $($(#[$fdoc:meta])* $field:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize)]
        pub struct $name {
            $($(#[$fdoc])* pub $field: u64,)*
        }

        impl std::ops::AddAssign<&$name> for $name {
            fn add_assign(&mut self, other: &$name) {
                $(self.$field += other.$field;)*
            }
        }

        impl $name {
            /// Names and values.
            pub fn entries(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($field), self.$field)),*]
            }
        }
    };
}

counters! {
    /// Bytes that moved. DRAM counts what was asked for.
    Bytes {
        /// Read from DRAM, without the program: the sum of the next seven.
        dram_read,
        /// Weights and codes.
        stream,
        /// Bases and shifts.
        basis,
        /// Index bits.
        index,
        /// Biases and multipliers.
        params,
        /// Tables.
        table,
        /// The network's inputs.
        input,
        /// Maps between layers.
        map,
        /// Written to DRAM.
        dram_written,
        /// What granules hold beyond the bytes asked for, read.
        padding_read,
        /// Likewise written.
        padding_written,
        /// The program itself, fetched from DRAM.
        program,
        /// Input buffer, read.
        ib_read,
        /// Input buffer, written.
        ib_written,
        /// Weight buffer, read.
        wb_read,
        /// Weight buffer, written.
        wb_written,
        /// Index buffer, read.
        xb_read,
        /// Index buffer, written.
        xb_written,
        /// Parameters, read.
        pb_read,
        /// Parameters, written.
        pb_written,
        /// Sums, read.
        acc_read,
        /// Sums, written.
        acc_written,
        /// Output buffer, read.
        ob_read,
        /// Output buffer, written.
        ob_written,
        /// Line files, read: a byte a step.
        lines_read,
        /// Line files, written.
        lines_written,
    }
}

counters! {
    /// Events. Those that depend on activations are counted with time only.
    Counts {
        /// Instructions.
        instructions,
        /// Strips of convolutions.
        strips,
        /// Multiplications asked for, of borders too.
        macs,
        /// Those executed; together with the skipped ones they are those asked for.
        executed,
        /// Those skipped because their weights are not stored.
        skipped_weight,
        /// Those skipped because their activations are zero.
        skipped_activation,
        /// Digits of activations that were added, one for each filter.
        digits,
        /// Additions of rebuilding: codes times entries of a row times terms.
        rebuild_adds,
        /// Index bits tested.
        index_tests,
        /// Additions that join the sums of lines.
        tree_adds,
        /// Requantisations of convolutions.
        requantisations,
        /// Elements of the vector engine, times taps.
        ve_ops,
    }
}

counters! {
    /// Cycles of engines. `pe_busy` to `st_busy` are those of instructions that compute or move; `control` those of the others.
    Busy {
        /// Loading.
        ld_busy,
        /// Convolutions: rebuild, steps, fetch and drain together.
        pe_busy,
        /// Filling line files.
        pe_rebuild,
        /// Steps of lanes.
        pe_steps,
        /// Fetching activations.
        pe_fetch,
        /// Draining sums.
        pe_drain,
        /// Vector operations.
        ve_busy,
        /// Storing.
        st_busy,
        /// Registers, marks, nothing.
        control,
        /// The DRAM channel, of loads and stores.
        dram_busy,
    }
}
