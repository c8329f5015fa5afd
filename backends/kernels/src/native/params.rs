//! The parameter records of the kernels, exactly as they lie in memory: i64 fields in declaration order.
//!
//! Strides count elements. A f32 parameter travels as its bits in the low half of its field.

/// Declares a record together with the list of its field names, so that the two cannot drift apart.
macro_rules! params {
    ($(#[$doc:meta])* $record:ident { $($field:ident),* $(,)? }) => {
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the fields are described together above the record")]
        pub struct $record { $(pub $field: i64),* }

        impl $record {
            /// Field names in memory order.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($field)),*];
        }
    };
}

params! {
    /// Parameters of `conv2d_f32`.
    ///
    /// `in_h in_w in_c`: extent of the input view; positions outside it read as zero. `out_w out_c`: extent of an
    /// output row. `kh kw sh sw dh dw pt pl`: window, strides, dilations, padding above and left.
    /// `xs_h xs_w xs_c x_row0`: input strides, and the input row operand `x` points at. `ys_h ys_w y_row0`,
    /// `rs_h rs_w r_row0`: the same for output and residual, whose channel stride is one. `nr lanes`: weight packing.
    /// `act act_a act_b`: see [`super::epilogue`].
    Conv2dParams {
        in_h, in_w, in_c, out_w, out_c, kh, kw, sh, sw, dh, dw, pt, pl, xs_h, xs_w, xs_c, x_row0, ys_h, ys_w, y_row0,
        rs_h, rs_w, r_row0, nr, lanes, has_bias, has_residual, act, act_a, act_b,
    }
}

params! {
    /// Parameters of `gemm_f32`: `c[m][n] = act(bias[n] + residual[m][n] + sum over k of a[m][k] * b[k][n])`.
    ///
    /// `as_m as_k`: strides of `a`. `cs_m`, `rs_m`: row strides of `c` and the residual, whose column stride is one.
    GemmParams { m, n, k, as_m, as_k, cs_m, rs_m, nr, lanes, has_bias, has_residual, act, act_a, act_b }
}

params! {
    /// Parameters of `winograd_f32`; names as in [`Conv2dParams`], every channel stride is one.
    ///
    /// `row_lo row_hi`: rows outside these are not written. `tile`: outputs of a tile in each direction, 2 or 4. `tiles`: tiles that
    /// the scratch buffer has room for.
    WinogradParams {
        in_h, in_w, in_c, out_w, out_c, pt, pl, xs_h, xs_w, x_row0, ys_h, ys_w, y_row0, rs_h, rs_w, r_row0, row_lo, row_hi,
        tile, tiles, nr, lanes, has_bias, has_residual, act, act_a, act_b,
    }
}

params! {
    /// Parameters of `sd_rebuild_f32`.
    ///
    /// `len`: packed bytes. `at_*`: where the sections begin in them. `half`: scales are f16. `s r rows vector slice_rows`: entries of a row,
    /// codes of a row, rows and entries of a filter, rows of a slice. `magnitudes alphabet_lo alphabet_hi`: the alphabet, a byte each.
    /// `nibbles row_bits basis_bits basis_filters index_filters`: the format (`index_filters` = 0 without an index).
    /// `filter0 row0 filters`: first filter, rows stored before it, columns. `n1 n2 d0 d1 d2`: from a position of the vector to a row of the
    /// matrix. `fs ks`: distances of columns and of rows if `ks` is not 0. `nr lanes`: weight packing.
    SdRebuildParams {
        len, at_index, at_codes, at_bases, at_shifts, at_scales, half, s, r, rows, vector, slice_rows, magnitudes,
        alphabet_lo, alphabet_hi, nibbles, row_bits, basis_bits, basis_filters, index_filters, filter0, row0, filters,
        n1, n2, d0, d1, d2, fs, ks, nr, lanes,
    }
}

params! {
    /// Parameters of `sparse2d_f32`; names as in [`Conv2dParams`].
    ///
    /// `band copied`: output rows computed from one copy of the input, and its rows. `phases width`: a row of the copy has the columns
    /// `phase, phase + sw, ...`, `width` of them for each of the phases. `most`: entries of a block at most.
    Sparse2dParams {
        in_h, in_w, in_c, out_w, out_c, sh, sw, pt, pl, xs_h, xs_w, xs_c, x_row0, ys_h, ys_w, y_row0, rs_h, rs_w, r_row0,
        band, copied, phases, width, most, has_bias, has_residual, act, act_a, act_b,
    }
}

params! {
    /// Parameters of `sparse2d_i8`; names as in [`Conv2dI8Params`] and [`Sparse2dParams`].
    ///
    /// `units jump bytes`: units of a pixel, channels from one to the next, and bytes of one that count. `jh jw jc`: from one byte of a unit
    /// to the next: rows, columns and channels.
    Sparse2dI8Params {
        in_h, in_w, in_c, out_w, out_c, sh, sw, pt, pl, xs_h, xs_w, x_row0, ys_h, ys_w, y_row0, band, copied, phases,
        width, most, units, jump, bytes, jh, jw, jc, x_signed, x_zero, y_signed, y_zero, y_min, y_max, y_shift,
    }
}

params! {
    /// Parameters of `depthwise2d_f32`; names as in [`Conv2dParams`], every channel stride is one.
    Depthwise2dParams {
        in_h, in_w, channels, out_w, kh, kw, sh, sw, dh, dw, pt, pl, xs_h, xs_w, x_row0, ys_h, ys_w, y_row0,
        rs_h, rs_w, r_row0, has_bias, has_residual, act, act_a, act_b,
    }
}

params! {
    /// Parameters of `conv2d_i8`; names as in [`Conv2dParams`], every channel stride is one.
    ///
    /// `planes`: planes of weights. `x_signed y_signed`: i8 instead of u8. `x_zero y_zero`: zero points. `y_min y_max`: bounds.
    /// `y_shift`: 0 for real scales, else the shift of integer ones.
    Conv2dI8Params {
        in_h, in_w, in_c, out_w, out_c, kh, kw, sh, sw, dh, dw, pt, pl, xs_h, xs_w, x_row0, ys_h, ys_w, y_row0,
        planes, x_signed, x_zero, y_signed, y_zero, y_min, y_max, y_shift,
    }
}

params! {
    /// Parameters of `depthwise2d_i8`; names as in [`Conv2dI8Params`].
    Depthwise2dI8Params {
        in_h, in_w, channels, out_w, kh, kw, sh, sw, dh, dw, pt, pl, xs_h, xs_w, x_row0, ys_h, ys_w, y_row0,
        x_signed, x_zero, y_signed, y_zero, y_min, y_max, y_shift,
    }
}

params! {
    /// Parameters of `add_i8`.
    ///
    /// `columns`: elements of a row. `as_r bs_r ys_r`: from a row to the next. `*_signed *_zero`: i8 instead of u8, and zero points.
    /// `*_scale`: the bits of f32 or, with a `y_shift`, integers. `y_min y_max`: bounds.
    AddI8Params {
        columns, as_r, bs_r, ys_r, has_b, a_signed, a_zero, a_scale, b_signed, b_zero, b_scale, y_signed, y_zero, y_min,
        y_max, y_shift, y_scale,
    }
}

params! {
    /// Parameters of `mul_i8`; names as in [`AddI8Params`].
    MulI8Params {
        columns, as_r, bs_r, ys_r, a_signed, a_zero, b_signed, b_zero, scale, y_signed, y_zero, y_min, y_max, y_shift,
    }
}

params! {
    /// Parameters of `map_f32`.
    ///
    /// `columns`: elements of a row. `as_r bs_r cs_r ys_r`: from a row to the next. `steps`: steps of the program. `step_*`: each of
    /// them, its operator in the bits from 48 on, its sources from 40 and from 32 on, below these the bits of a constant.
    MapParams {
        columns, as_r, bs_r, cs_r, ys_r, has_b, has_c, steps, step_0, step_1, step_2, step_3, step_4, step_5, step_6,
        step_7, step_8, step_9, step_10, step_11, step_12, step_13, step_14, step_15,
    }
}

params! {
    /// Parameters of `softmax_f32`.
    ///
    /// `size`: elements of a row. `xs_r ys_r`: from a row to the next. `log`: the logarithm of the result.
    SoftmaxParams { size, xs_r, ys_r, log }
}

params! {
    /// Parameters of `layer_norm_f32`; names as in [`SoftmaxParams`]. `epsilon`: added to the variance.
    LayerNormParams { size, xs_r, ys_r, epsilon }
}

params! {
    /// Parameters of `max_pool2d_i8`; names as in [`Depthwise2dI8Params`].
    MaxPool2dI8Params {
        in_h, in_w, channels, out_w, kh, kw, sh, sw, dh, dw, pt, pl, xs_h, xs_w, x_row0, ys_h, ys_w, y_row0, x_signed,
    }
}

params! {
    /// Parameters of `pool2d_f32`; names as in [`Depthwise2dParams`].
    ///
    /// `mean`: the mean instead of the largest element. `ct cl cb cr`: padding that a mean counts, above, left, below and right.
    Pool2dParams {
        in_h, in_w, channels, out_w, kh, kw, sh, sw, dh, dw, pt, pl, xs_h, xs_w, x_row0, ys_h, ys_w, y_row0, mean, ct, cl,
        cb, cr,
    }
}

params! {
    /// Parameters of `quantize_f32`; strides as in [`Conv2dParams`], those of rows counted from the operands.
    QuantizeF32Params { columns, channels, xs_h, xs_w, xs_c, ys_h, ys_w, y_signed, y_zero, y_scale }
}
