//! Activations between quantized values: tables of bytes that hold what the naive loops give.

use crate::sizes::{decode, floats, naive};
use crate::support::onnx::{float, ints, model, node};
use lmc::base::Tensor;
use lmc::build::{Build, Silent};
use lmc::run::executor::Executor;
use lmc::target::resolve;
use tract_onnx::pb;

/// The nodes from `a` to `b`, as exporters write them.
fn activation(name: &str) -> Vec<pb::NodeProto> {
    let with = |op: &str, from: &str, to: &str, attributes: &[(&str, f32)]| {
        let mut made = node(op, &[from], to);
        made.attribute = attributes.iter().map(|&(name, value)| float(name, value)).collect();
        made
    };
    match name {
        "silu" => vec![node("Sigmoid", &["a"], "s"), node("Mul", &["a", "s"], "b")],
        // As quantizers leave it.
        "silu between bytes" => vec![
            node("Sigmoid", &["a"], "s"),
            node("QuantizeLinear", &["s", "share", "least"], "q"),
            node("DequantizeLinear", &["q", "share", "least"], "r"),
            node("Mul", &["a", "r"], "b"),
        ],
        "hard swish" => {
            let share = with("HardSigmoid", "a", "s", &[("alpha", 1.0 / 6.0), ("beta", 0.5)]);
            let twice = with("Elu", "t", "b", &[("alpha", 0.7)]);
            vec![share, node("Mul", &["a", "s"], "t"), twice]
        }
        "gelu" => vec![
            node("Mul", &["a", "root"], "r"),
            node("Erf", &["r"], "e"),
            node("Add", &["e", "one"], "f"),
            node("Mul", &["a", "f"], "g"),
            node("Mul", &["g", "half"], "b"),
        ],
        "mish" => {
            vec![node("Softplus", &["a"], "p"), node("Tanh", &["p"], "t"), node("Mul", &["a", "t"], "b")]
        }
        other => vec![node(other, &["a"], "b")],
    }
}

/// `x` quantized, a convolution to `channels` where there are some, the activation between quantized values, and a
/// pool.
fn net(name: &str, channels: Option<usize>, zero: Tensor) -> pb::ModelProto {
    let mut nodes = vec![
        node("QuantizeLinear", &["x", "step", "zero"], "q0"),
        node("DequantizeLinear", &["q0", "step", "zero"], "x0"),
    ];
    let (c, out) = (CHANNELS, channels.unwrap_or(CHANNELS));
    nodes.push(node("DequantizeLinear", &["w", "fine"], "w0"));
    nodes.push(match channels {
        Some(_) => node("Conv", &["x0", "w0"], "x1"),
        None => node("Neg", &["x0"], "x1"),
    });
    nodes.extend([
        node("QuantizeLinear", &["x1", "step", "zero"], "q1"),
        node("DequantizeLinear", &["q1", "step", "zero"], "a"),
    ]);
    nodes.extend(activation(name));
    nodes.extend([
        node("QuantizeLinear", &["b", "step", "zero"], "q2"),
        node("DequantizeLinear", &["q2", "step", "zero"], "x2"),
    ]);
    // What reads bytes more than once leaves them in memory.
    let mut pool = node("MaxPool", &["x2"], "y");
    pool.attribute = vec![ints("kernel_shape", &[2, 2])];
    nodes.push(pool);
    let weights: Vec<i8> = (0..out * c).map(|i| (i * 37 % 251) as i8).collect();
    let number = |v: f32| Tensor::new([], &[v]);
    let constants = [
        // Powers of two: sums of products are exact.
        ("step", number(1.0 / 32.0)),
        ("zero", zero),
        ("fine", number(1.0 / 256.0)),
        ("w", Tensor::new([out, c, 1, 1], &weights)),
        ("share", number(1.0 / 256.0)),
        ("least", Tensor::new([], &[0u8])),
        ("root", number(0.5f32.sqrt())),
        ("one", number(1.0)),
        ("half", number(0.5)),
    ];
    let shape = |c: usize, less: i64| [1, c as i64, HIGH as i64 - less, WIDE as i64 - less];
    model(nodes, &shape(c, 0), &shape(out, 1), &constants)
}

const CHANNELS: usize = 12;
const HIGH: usize = 7;
const WIDE: usize = 9;

#[test]
fn activations_between_bytes_are_tables() {
    let targets = [
        ("x86_64", "generic"),
        ("x86_64", "x86-64-v3"),
        ("native", "native"),
        ("aarch64", "generic"),
        ("aarch64", "neoverse-n1"),
    ];
    for (i, name) in ["silu", "silu between bytes", "hard swish", "gelu", "mish", "Tanh", "Sigmoid"]
        .into_iter()
        .enumerate()
    {
        for channels in [None, Some(8 + 9 * (i % 3)), Some(40)] {
            let zero = if i % 2 == 0 { Tensor::new([], &[100u8]) } else { Tensor::new([], &[-20i8]) };
            let decoded = decode(&net(name, channels, zero));
            let x = floats(&[1, CHANNELS, HIGH, WIDE], 7);
            let want = naive(&decoded, std::slice::from_ref(&x));
            for (arch, cpu) in targets {
                let target = resolve(arch, cpu).expect("known");
                let built = Build::new("m.onnx").build_model(&decoded, target.clone(), "m", &Silent);
                let built = built.unwrap_or_else(|e| panic!("{name}: {e}"));
                let looks_up = built.program.kernels.iter().filter(|k| k.to_string().contains("lookup"));
                assert_eq!(looks_up.count(), 1, "{name}, {channels:?}, {cpu}: {}", built.program);
                let executor = Executor::new(&built.program, &built.object.bytes, &target, None);
                let got = executor.and_then(|mut e| e.run(std::slice::from_ref(&x)));
                assert_eq!(
                    got.unwrap_or_else(|e| panic!("{name}: {e}")),
                    want,
                    "{name}, {channels:?}, {cpu}"
                );
            }
        }
    }
}
