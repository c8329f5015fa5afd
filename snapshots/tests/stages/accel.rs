//! Programs of the accelerator as text: two networks and a layer of each kind, with weights made up here. The simulator gives the interpreter's
//! bits, text and container are read back as the same program, and of data only places and sizes are shown.

use fastrand::Rng;
use sdc_accel::compile;
use sdc_accel_isa::{Config, Program, text};
use sdc_accel_sim::{Mode, Options, Simulator};
use sdc_ir::graph::op::{
    Concat, CoordinateMode, Lookup, MaxPool, NearestMode, Pad, PadMode, QLinearAdd, QLinearAveragePool,
    QLinearConv, QLinearMul, QuantizeLinear, Rebuild, Reshape, Resize, ResizeMode, Slice,
};
use sdc_ir::graph::{Graph, Op, Origin, TensorType, Value};
use sdc_ir::sd::{Axis, Decomposed, Format, Geometry, Index, Packing};
use sdc_ir::tensor::Element;
use sdc_ir::{DType, Tensor};

type Net = fn(&mut Builder) -> Value;

/// Names of the programs, shapes of their inputs, and what makes the networks.
pub const NETS: &[(&str, [usize; 3], Net)] = &[
    ("lenet", [1, 28, 28], lenet),
    ("resnet8", [3, 32, 32], resnet8),
    ("conv", [20, 10, 10], |b| b.conv(b.x, 24, Conv::kernel(3))),
    ("conv_compressed", [20, 10, 10], |b| {
        b.conv(
            b.x,
            24,
            Conv {
                compressed: true,
                ..Conv::kernel(3)
            },
        )
    }),
    ("conv_depthwise", [20, 10, 10], |b| {
        b.conv(
            b.x,
            20,
            Conv {
                group: 20,
                ..Conv::kernel(3)
            },
        )
    }),
    ("conv_dilated", [20, 10, 10], |b| {
        b.conv(
            b.x,
            24,
            Conv {
                dilation: 2,
                ..Conv::kernel(3)
            },
        )
    }),
    ("conv_grouped", [20, 10, 10], |b| {
        b.conv(
            b.x,
            24,
            Conv {
                group: 4,
                ..Conv::kernel(3)
            },
        )
    }),
    ("conv_large", [3, 24, 24], |b| {
        b.conv(
            b.x,
            8,
            Conv {
                stride: 2,
                ..Conv::kernel(11)
            },
        )
    }),
    ("conv_transposed", [20, 6, 6], transposed),
    ("dense", [300, 1, 1], |b| b.conv(b.x, 100, Conv::kernel(1))),
    ("add", [20, 10, 10], |b| {
        let (p, q) = (b.conv(b.x, 16, Conv::kernel(1)), b.conv(b.x, 16, Conv::kernel(3)));
        b.add(p, q)
    }),
    ("mul_of_channels", [20, 10, 10], |b| {
        let y = b.conv(b.x, 16, Conv::kernel(1));
        let mean = b.average(y);
        let gate = b.conv(mean, 16, Conv::kernel(1));
        b.mul(y, gate)
    }),
    ("lookup", [20, 10, 10], |b| {
        let y = b.conv(b.x, 16, Conv::kernel(1));
        let all = (0..256).map(|_| b.rng.u8(..)).collect();
        let table = b.constant(vec![256], all);
        b.push(Lookup {}, &[y, table])
    }),
    ("maxpool", [20, 10, 10], |b| b.max(b.x, 3, 2)),
    ("avgpool", [20, 10, 10], |b| b.average(b.x)),
    ("concat", [20, 10, 10], |b| {
        let (p, q) = (b.conv(b.x, 16, Conv::kernel(1)), b.conv(b.x, 8, Conv::kernel(3)));
        let joined = b.push(Concat { axis: 1 }, &[p, q]);
        b.conv(joined, 8, Conv::kernel(1))
    }),
    ("views", [20, 10, 10], views),
    ("resize", [20, 5, 5], |b| {
        let op = Resize {
            sizes: vec![1, 20, 10, 10],
            scales: vec![1.0, 1.0, 2.0, 2.0],
            mode: ResizeMode::Nearest,
            coordinates: CoordinateMode::Asymmetric,
            nearest: NearestMode::Floor,
            cubic_coeff_a: -0.75,
            exclude_outside: false,
        };
        let large = b.push(op, &[b.x]);
        b.conv(large, 8, Conv::kernel(3))
    }),
    ("host_step", [4, 6, 6], |b| {
        let scale = b.constant(vec![], vec![0.05f32]);
        let zero = b.constant(vec![], vec![3i8]);
        let real =
            b.g.add_input("real", TensorType::new(DType::F32, vec![1, 4, 6, 6]));
        let y = b.push(QuantizeLinear {}, &[real, scale, zero]);
        let (p, q) = (b.conv(b.x, 8, Conv::kernel(3)), b.conv(y, 8, Conv::kernel(3)));
        b.add(p, q)
    }),
];

/// A graph that grows, its input, and where its weights come from.
pub struct Builder {
    g: Graph,
    rng: Rng,
    x: Value,
}

/// A convolution's shape; results have as many rows and columns as the input over the stride.
#[derive(Clone, Copy)]
struct Conv {
    kernel: usize,
    stride: usize,
    dilation: usize,
    group: usize,
    padded: bool,
    compressed: bool,
}

impl Conv {
    fn kernel(kernel: usize) -> Self {
        Self {
            kernel,
            stride: 1,
            dilation: 1,
            group: 1,
            padded: true,
            compressed: false,
        }
    }
}

/// Zero point of every tensor.
const ZERO: i64 = 3;

impl Builder {
    fn origins(&self) -> Vec<Origin> {
        let index = self.g.nodes().len() as u32;
        vec![Origin {
            name: format!("n{index}"),
            op: "Node".to_owned(),
            index,
        }]
    }

    fn push(&mut self, op: impl Into<Op>, inputs: &[Value]) -> Value {
        let origins = self.origins();
        self.g.add1(op, inputs, origins).expect("operands fit")
    }

    fn constant<T: Element>(&mut self, shape: Vec<usize>, all: Vec<T>) -> Value {
        let tensor = Tensor::from_elements(shape, all).expect("as many elements as the shape says");
        self.g.add_constant(tensor, self.origins())
    }

    fn conv(&mut self, x: Value, m: usize, conv: Conv) -> Value {
        let xs = self.g.ty(x).sizes().to_vec();
        let k = conv.kernel;
        let shape = vec![m, xs[1] / conv.group, k, k];
        let n: usize = shape[1..].iter().product();
        let w = if conv.compressed {
            let packed = sdc_ir::sd::pack(&decomposed(&mut self.rng, &shape)).expect("it is well-formed");
            let packed = self.constant(vec![packed.len()], packed);
            self.push(Rebuild { shape, to: DType::I8 }, &[packed])
        } else {
            let all = (0..m * n).map(|_| self.rng.i8(..)).collect::<Vec<i8>>();
            self.constant(shape, all)
        };
        let all = (0..m).map(|_| self.rng.i32(-20000..20000)).collect();
        let bias = self.constant(vec![m], all);
        let all = (0..m).map(|_| self.rng.i32(1 << 29..=i32::MAX)).collect();
        let multiplier = self.constant(vec![m], all);
        // As many zeros as keep the size, the odd one behind.
        let around = |size: usize| {
            let reach = (k - 1) * conv.dilation + 1;
            let out = size.div_ceil(conv.stride);
            let all = ((out - 1) * conv.stride + reach).saturating_sub(size);
            if conv.padded {
                (all / 2, all - all / 2)
            } else {
                (0, 0)
            }
        };
        let (rows, columns) = (around(xs[2]), around(xs[3]));
        let op = QLinearConv {
            strides: vec![conv.stride; 2],
            pads: vec![rows.0, columns.0, rows.1, columns.1],
            dilations: vec![conv.dilation; 2],
            group: conv.group,
            x_zero: ZERO,
            y_zero: ZERO,
            min: ZERO,
            max: 127,
            to: DType::I8,
            shift: 37 + (n as f64).sqrt().log2().round() as usize,
        };
        self.push(op, &[x, w, bias, multiplier])
    }

    fn add(&mut self, a: Value, b: Value) -> Value {
        let op = QLinearAdd {
            zeros: vec![ZERO; 2],
            multipliers: vec![3 << 28, 5 << 27],
            shift: 30,
            y_zero: ZERO,
            min: -128,
            max: 127,
            to: DType::I8,
        };
        self.push(op, &[a, b])
    }

    fn mul(&mut self, a: Value, b: Value) -> Value {
        let op = QLinearMul {
            zeros: vec![ZERO; 2],
            multiplier: 3 << 28,
            shift: 36,
            y_zero: ZERO,
            min: -128,
            max: 127,
            to: DType::I8,
        };
        self.push(op, &[a, b])
    }

    fn max(&mut self, x: Value, kernel: usize, stride: usize) -> Value {
        let op = MaxPool {
            kernel: vec![kernel; 2],
            strides: vec![stride; 2],
            pads: vec![0; 4],
            dilations: vec![1; 2],
        };
        self.push(op, &[x])
    }

    /// The average of each channel.
    fn average(&mut self, x: Value) -> Value {
        let kernel = self.g.ty(x).sizes()[2..].to_vec();
        let op = QLinearAveragePool {
            strides: vec![1; 2],
            kernel,
            pads: vec![0; 4],
            counted: vec![0; 4],
            dilations: vec![1; 2],
            x_zero: ZERO,
            multiplier: 1 << 30,
            shift: 30,
            y_zero: ZERO,
            to: DType::I8,
        };
        self.push(op, &[x])
    }

    fn reshape(&mut self, x: Value, shape: Vec<usize>) -> Value {
        self.push(Reshape { shape }, &[x])
    }
}

fn lenet(b: &mut Builder) -> Value {
    let valid = Conv {
        padded: false,
        ..Conv::kernel(5)
    };
    let mut y = b.x;
    for m in [20, 50] {
        y = b.conv(y, m, valid);
        y = b.max(y, 2, 2);
    }
    y = b.reshape(y, vec![1, 800, 1, 1]);
    y = b.conv(y, 500, Conv::kernel(1));
    b.conv(y, 10, Conv::kernel(1))
}

fn resnet8(b: &mut Builder) -> Value {
    let mut y = b.conv(b.x, 16, Conv::kernel(3));
    for (m, stride) in [(16, 1), (32, 2), (64, 2)] {
        let first = b.conv(
            y,
            m,
            Conv {
                stride,
                ..Conv::kernel(3)
            },
        );
        let second = b.conv(first, m, Conv::kernel(3));
        let shortcut = if stride == 1 {
            y
        } else {
            b.conv(
                y,
                m,
                Conv {
                    stride,
                    ..Conv::kernel(1)
                },
            )
        };
        y = b.add(second, shortcut);
    }
    y = b.average(y);
    b.conv(y, 10, Conv::kernel(1))
}

/// A transposed convolution as `passes/integer` writes it: zero points between the elements, then a convolution of stride 1.
fn transposed(b: &mut Builder) -> Value {
    let apart = b.reshape(b.x, vec![1, 20, 6, 1, 6, 1]);
    let pad = Pad {
        mode: PadMode::Constant,
        before: vec![0; 6],
        after: vec![0, 0, 0, 1, 0, 1],
        value: ZERO as f32,
    };
    let padded = b.push(pad, &[apart]);
    let together = b.reshape(padded, vec![1, 20, 12, 12]);
    b.conv(together, 16, Conv::kernel(4))
}

/// A strided, channel-padded shortcut, as ResNet-20 has it.
fn views(b: &mut Builder) -> Value {
    let y = b.conv(
        b.x,
        32,
        Conv {
            stride: 2,
            ..Conv::kernel(3)
        },
    );
    let slice = Slice {
        starts: vec![0; 4],
        sizes: vec![1, 20, 5, 5],
        steps: vec![1, 1, 2, 2],
    };
    let strided = b.push(slice, &[b.x]);
    let pad = Pad {
        mode: PadMode::Constant,
        before: vec![0, 6, 0, 0],
        after: vec![0, 6, 0, 0],
        value: ZERO as f32,
    };
    let shortcut = b.push(pad, &[strided]);
    b.add(y, shortcut)
}

/// Compressed weights in the published form, a third of the rows dropped.
fn decomposed(rng: &mut Rng, shape: &[usize]) -> Decomposed {
    let geometry = Geometry::conv(shape, Axis::X);
    let (s, r) = (3, 3);
    let format = Format {
        s,
        r,
        slice_rows: geometry.rows(s),
        alphabet: vec![1, 2, 4, 8, 16, 32, 64],
        packing: Packing::Nibble,
        basis_bits: 8,
        basis_filters: 1,
        scale: DType::F32,
        index: Index::Rows(8),
    };
    let (filters, rows) = (geometry.filters(), geometry.rows(s));
    let kept: Vec<bool> = (0..geometry.index_groups(&format) * rows)
        .map(|_| rng.u8(0..3) > 0)
        .collect();
    let shared = format.index_filters();
    let mut codes = Vec::new();
    for (f, q) in (0..filters).flat_map(|f| (0..rows).map(move |q| (f, q))) {
        let live = kept[f / shared * rows + q];
        codes.extend((0..r).map(|_| if live { rng.i8(-7..=7) } else { 0 }));
    }
    let bases = geometry.basis_groups(&format) * geometry.slices(&format);
    Decomposed {
        codes,
        kept,
        bases: (0..bases * r * s).map(|_| rng.i8(..)).collect(),
        shifts: vec![6; bases],
        scales: vec![1.0; filters],
        geometry,
        format,
    }
}

/// The program of a network as text, once it was found to be right.
pub fn text(shape: [usize; 3], net: Net) -> Result<String, String> {
    let mut g = Graph::new("net");
    let dims = [1].into_iter().chain(shape).collect::<Vec<usize>>();
    let x = g.add_input("x", TensorType::new(DType::I8, dims));
    let rng = Rng::with_seed(13);
    let mut builder = Builder { g, rng, x };
    let y = net(&mut builder);
    let Builder { mut g, mut rng, .. } = builder;
    g.add_output("y", y);

    let config = Config::default();
    let compiled = compile(&g, &config).map_err(|all| all[0].to_string())?;
    let again = compile(&g, &config).map_err(|all| all[0].to_string())?;
    let program = compiled.program;
    let listing = program.to_string();
    let container = program.to_container().map_err(|f| f.to_string())?;
    let read = [
        again.program,
        text::parse(&listing).map_err(|f| f.to_string())?,
        Program::from_container(&container).map_err(|f| f.to_string())?,
    ];
    if read.iter().any(|p| *p != program) {
        return Err("compiled again, or read back, the program is another".to_owned());
    }
    let inputs: Vec<Tensor> = g.inputs.iter().map(|p| input(g.ty(p.value), &mut rng)).collect();
    let want = sdc_interp::run_graph(&g, &inputs).map_err(|e| e.to_string())?;
    let simulator = Simulator::new(program, config).map_err(|f| f.to_string())?;
    for mode in [Mode::Func, Mode::Cycle, Mode::Shuffle(5)] {
        let options = Options {
            mode,
            ..Options::default()
        };
        let outcome = simulator.run(&inputs, &options).map_err(|e| e.to_string())?;
        if outcome.outputs != want {
            return Err(format!("{mode:?} gives other outputs than the interpreter"));
        }
    }
    Ok(shown(&listing))
}

fn input(ty: &TensorType, rng: &mut Rng) -> Tensor {
    let n = ty.elements().expect("shapes are known");
    let shape = ty.sizes().to_vec();
    let tensor = match ty.dtype {
        DType::F32 => Tensor::from_elements(shape, (0..n).map(|_| rng.f32() * 8.0 - 4.0).collect()),
        _ => Tensor::from_elements(shape, (0..n).map(|_| rng.i8(..)).collect::<Vec<i8>>()),
    };
    tensor.expect("as many elements as the shape says")
}

/// The text without the bytes of data: neighbouring lines become one.
fn shown(listing: &str) -> String {
    let mut out = String::new();
    let mut data: Option<(&str, usize)> = None;
    for line in listing.lines() {
        let mut words = line.split(' ');
        if let (Some(".data"), Some(at), Some(bytes)) = (words.next(), words.next(), words.next()) {
            let more = bytes.len() / 2;
            data = Some(data.map_or((at, more), |(first, n)| (first, n + more)));
            continue;
        }
        if let Some((at, n)) = data.take() {
            out.push_str(&format!("// {n} bytes of data from {at} on\n"));
        }
        if line.starts_with(".weights") {
            out.push_str("// weights of the host's step\n");
            continue;
        }
        out.push_str(line);
        out.push('\n');
    }
    out
}
