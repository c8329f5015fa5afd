//! The C header of a compiled model: constants, prototypes, and how to use them. Valid C99 and C++.

use crate::interface::{Interface, TensorSpec};
use sdc_ir::DType;
use std::fmt::{self, Write};

/// The text of `NAME.h`. The interface must be valid ([`Interface::validate`]).
pub fn text(interface: &Interface) -> String {
    let mut out = String::new();
    write(&mut out, interface).expect("writing to a string does not fail");
    out
}

fn write(out: &mut String, i: &Interface) -> fmt::Result {
    let name = &i.name;
    write_introduction(out, i)?;
    writeln!(out, "#ifndef SDC_MODEL_{name}_H\n#define SDC_MODEL_{name}_H\n")?;
    writeln!(out, "#include <stddef.h>\n#include <stdint.h>\n")?;
    writeln!(out, "#ifdef __cplusplus\nextern \"C\" {{\n#endif\n")?;
    out.push_str(PARALLEL_FOR);
    write_memory(out, i)?;
    write_tensors(out, name, "INPUT", &i.inputs)?;
    write_tensors(out, name, "OUTPUT", &i.outputs)?;
    write_functions(out, i)?;
    writeln!(out, "#ifdef __cplusplus\n}}\n#endif\n\n#endif")
}

/// The type is shared by all models of a program, so each header declares it unless another has.
const PARALLEL_FOR: &str = "\
/* How a model asks for parallel work: `call` must run task(frame, 0) to task(frame, count - 1), each once, in any order and
   on any threads, and return when all are done. Results do not depend on order or threads. A model may be given NULL
   instead of a pointer to this struct; it then works on the calling thread alone. Keep your own data (a thread pool) in a
   struct that begins with this one. */
#ifndef SDC_PARALLEL_FOR
#define SDC_PARALLEL_FOR
struct sdc_parallel_for {
    void (*call)(const struct sdc_parallel_for *self, size_t count, void (*task)(void *frame, size_t index), void *frame);
};
#endif

";

fn write_introduction(out: &mut String, i: &Interface) -> fmt::Result {
    let name = &i.name;
    writeln!(
        out,
        "/* {name}.h: interface of a model compiled by sdc {}. Generated.",
        env!("CARGO_PKG_VERSION")
    )?;
    writeln!(out)?;
    let features = if i.features.is_empty() {
        "none beyond the base".to_owned()
    } else {
        comment(&i.features.join(" "))
    };
    writeln!(
        out,
        "   Compiled for {}; CPU features needed: {features}.",
        comment(&i.cpu)
    )?;
    writeln!(out)?;
    writeln!(out, "   Use, once per program:")?;
    if i.weights_embedded {
        writeln!(out, "     const void *weights = {name}_weights;")?;
    } else {
        writeln!(
            out,
            "     const void *weights = the file {name}.weights, mapped or read into memory as it is;"
        )?;
    }
    writeln!(
        out,
        "     void *prepared = {name}_PREPARED_SIZE bytes, aligned to {name}_PREPARED_ALIGN;"
    )?;
    writeln!(
        out,
        "     if ({name}_prepare(weights, prepared) != 0) the weights or the CPU do not fit;"
    )?;
    writeln!(out, "   and for each run:")?;
    writeln!(out, "     const void *inputs[{name}_INPUT_COUNT];")?;
    writeln!(out, "     void *outputs[{name}_OUTPUT_COUNT];")?;
    for (kind, list, tensors) in [("INPUT", "inputs", &i.inputs), ("OUTPUT", "outputs", &i.outputs)] {
        for tensor in tensors.iter().take(4) {
            let c = &tensor.c_name;
            writeln!(
                out,
                "     {list}[{name}_{kind}_INDEX_{c}] = your {} array;",
                c_type(tensor.dtype)
            )?;
        }
        if tensors.len() > 4 {
            writeln!(out, "     ... and the other {list};")?;
        }
    }
    writeln!(
        out,
        "     {name}_run(inputs, outputs, arena, weights, prepared, NULL);"
    )?;
    writeln!(out)?;
    writeln!(
        out,
        "   There is no hidden state: several threads may run the model at once on the same weights and prepared"
    )?;
    writeln!(
        out,
        "   memory, each with an arena ({name}_ARENA_SIZE bytes of scratch) and outputs of its own. */"
    )
}

fn write_memory(out: &mut String, i: &Interface) -> fmt::Result {
    let name = &i.name;
    writeln!(
        out,
        "/* Memory the caller provides, in bytes; where a size is 0 the pointer may be NULL. The contents of the arena"
    )?;
    writeln!(out, "   mean nothing before and after a run. */")?;
    let sizes = [
        ("ARENA", i.arena_size, i.arena_align),
        ("WEIGHTS", i.weights_size, i.weights_align),
        ("PREPARED", i.prepared_size, i.prepared_align),
    ];
    for (what, size, align) in sizes {
        writeln!(out, "#define {name}_{what}_SIZE ((size_t){size})")?;
        writeln!(out, "#define {name}_{what}_ALIGN ((size_t){align})")?;
    }
    writeln!(out)
}

fn write_tensors(out: &mut String, name: &str, kind: &str, tensors: &[TensorSpec]) -> fmt::Result {
    writeln!(out, "#define {name}_{kind}_COUNT {}\n", tensors.len())?;
    for (index, tensor) in tensors.iter().enumerate() {
        let c = &tensor.c_name;
        let shape = tensor.shape.iter().map(usize::to_string).collect::<Vec<_>>();
        let (rank, joined) = (shape.len(), shape.join("x"));
        writeln!(
            out,
            "/* {} {index}: {}, {} {}; dense, last dimension fastest. */",
            kind.to_lowercase(),
            comment(&format!("{:?}", tensor.name)),
            tensor.dtype,
            if rank == 0 { "scalar" } else { &joined },
        )?;
        // The attribute comes before the tensor's name, so that no two tensors' macros can collide.
        writeln!(out, "#define {name}_{kind}_INDEX_{c} {index}")?;
        writeln!(out, "#define {name}_{kind}_TYPE_{c} {}", c_type(tensor.dtype))?;
        writeln!(
            out,
            "#define {name}_{kind}_ELEMENTS_{c} ((size_t){})",
            tensor.elements().unwrap_or(0)
        )?;
        writeln!(
            out,
            "#define {name}_{kind}_BYTES_{c} ((size_t){})",
            tensor.bytes().unwrap_or(0)
        )?;
        writeln!(out, "#define {name}_{kind}_RANK_{c} {rank}")?;
        if rank == 0 {
            writeln!(
                out,
                "#define {name}_{kind}_SHAPE_{c} {{ 1 }} /* a scalar: the 1 only makes this an initialiser */\n"
            )?;
        } else {
            writeln!(
                out,
                "#define {name}_{kind}_SHAPE_{c} {{ {} }}\n",
                shape.join(", ")
            )?;
        }
    }
    Ok(())
}

fn write_functions(out: &mut String, i: &Interface) -> fmt::Result {
    let name = &i.name;
    if i.weights_embedded {
        writeln!(out, "/* The weights, for `weights` below. */")?;
        writeln!(out, "extern const unsigned char {name}_weights[];\n")?;
    }
    writeln!(
        out,
        "\
/* Checks the weights and the CPU, and fills `prepared`. Call it once; afterwards `prepared` is only read.
   Returns 0 when all is well, 1 when `weights` is not this model's weights image (its header is compared; the contents
   are trusted), 2 when the CPU lacks a feature the code needs. Do not run the model unless it returned 0. */
int {name}_prepare(const void *weights, void *prepared);

/* Runs the model once. `inputs` and `outputs` are in the order of the INDEX constants; each array is aligned for its element
   type, outputs overlap nothing. `parallel_for` may be NULL. Returns 0. */
int {name}_run(const void *const *inputs, void *const *outputs, void *arena, const void *weights, const void *prepared,
    const struct sdc_parallel_for *parallel_for);

/* The same numbers as the constants, for programs that load the library at run time. */
size_t {name}_arena_size(void);
size_t {name}_weights_size(void);
size_t {name}_prepared_size(void);
"
    )
}

/// Text that may stand in a C comment, from a name that may hold anything.
fn comment(text: &str) -> String {
    let ascii: String = text
        .chars()
        .flat_map(|c| {
            if c.is_ascii_graphic() || c == ' ' {
                Ok(c)
            } else {
                Err(c)
            }
            .map_or_else(|c| c.escape_default().collect::<Vec<_>>(), |c| vec![c])
        })
        .take(200)
        .collect();
    // Neither the end of the comment, nor what looks like another's start, nor a trigraph.
    ascii
        .replace("*/", "* /")
        .replace("/*", "/ *")
        .replace("??", "? ?")
}

fn c_type(dtype: DType) -> &'static str {
    match dtype {
        DType::F64 => "double",
        DType::F32 => "float",
        DType::F16 | DType::BF16 | DType::U16 => "uint16_t",
        DType::I64 => "int64_t",
        DType::I32 => "int32_t",
        DType::I16 => "int16_t",
        DType::I8 => "int8_t",
        DType::U64 => "uint64_t",
        DType::U32 => "uint32_t",
        DType::U8 | DType::Bool => "uint8_t",
    }
}

#[cfg(test)]
mod tests {
    use super::comment;

    #[test]
    fn comments_cannot_be_escaped() {
        for name in ["a*/b", "/*", "*/*/", "/*/", "??/\n", "é\u{202e}", "**//", "*//*"] {
            let text = comment(name);
            assert!(text.is_ascii() && !text.contains('\n'), "{text}");
            assert!(
                !text.contains("*/") && !text.contains("/*") && !text.contains("??/"),
                "{text}"
            );
        }
    }
}
