//! Weights that are kept quantized: what the naive loops give, without a copy in floats.

use crate::sizes::{agree, decode, floats, naive};
use crate::support::onnx::{int, ints, model, node, text, with};
use lmc::base::{DType, Tensor, TensorType};
use lmc::build::{Build, Silent};
use lmc::run::compare::{Tolerance, compare};
use lmc::run::executor::Executor;
use lmc::schedule::Prefer;
use lmc::target::resolve;
use tract_onnx::pb;

/// Elements of a quantized type.
fn quantized(dtype: DType, shape: &[usize]) -> Tensor {
    let ty = TensorType::new(dtype, shape);
    let (first, count) = match dtype {
        DType::I4 => (-8, 16),
        DType::U4 => (0, 16),
        DType::I8 => (-128, 256),
        _ => (0, 256),
    };
    let data: Vec<u8> = (0..ty.elems() as i64).map(|i| ((i * 37 + i / 7) % count + first) as u8).collect();
    Tensor::from_bytes(ty, data).expect("a byte each")
}

fn scales(shape: &[usize]) -> Tensor {
    let values: Vec<f32> =
        (0..shape.iter().product()).map(|i: usize| 0.01 + (i % 13) as f32 / 900.0).collect();
    Tensor::new(shape, &values)
}

fn opset(mut proto: pb::ModelProto, version: i64) -> pb::ModelProto {
    proto.ir_version = 10;
    proto.opset_import[0].version = version;
    let microsoft = pb::OperatorSetIdProto { domain: "com.microsoft".to_string(), version: 1 };
    proto.opset_import.push(microsoft);
    proto
}

/// `x` times weights `[k, n]` of a DequantizeLinear: by blocks of `block` rows, or by column.
fn dequantized(m: usize, k: usize, n: usize, dtype: DType, block: Option<usize>) -> pb::ModelProto {
    let mut dequantize = node("DequantizeLinear", &["w", "scale", "zero"], "f");
    let (axis, of) = match block {
        Some(size) => (0, vec![k.div_ceil(size), n]),
        None => (1, vec![n]),
    };
    dequantize.attribute = vec![int("axis", axis), int("block_size", block.unwrap_or(0) as i64)];
    let nodes = vec![dequantize, node("MatMul", &["x", "f"], "y")];
    let constants =
        [("w", quantized(dtype, &[k, n])), ("scale", scales(&of)), ("zero", quantized(dtype, &of))];
    opset(model(nodes, &[m as i64, k as i64], &[m as i64, n as i64], &constants), 21)
}

/// A MatMulNBits with packed zero points.
fn bits(m: usize, k: usize, n: usize, bits: usize, block: usize) -> pb::ModelProto {
    let blocks = k.div_ceil(block);
    let mut product = node("MatMulNBits", &["x", "w", "scale", "zero"], "y");
    product.domain = "com.microsoft".to_string();
    let attributes = [("K", k), ("N", n), ("bits", bits), ("block_size", block)];
    product.attribute = attributes.map(|(name, value)| int(name, value as i64)).to_vec();
    let w = quantized(DType::U8, &[n, blocks, block * bits / 8]);
    let zero = quantized(DType::U8, &[n * blocks.div_ceil(8 / bits)]);
    let constants = [("w", w), ("scale", scales(&[n * blocks])), ("zero", zero)];
    opset(model(vec![product], &[m as i64, k as i64], &[m as i64, n as i64], &constants), 21)
}

/// With vectors of 128 bits, at AVX2, on this machine's processor and on aarch64: the naive loops' result, at most so many
/// bytes of constants, and no float copy in the arena where bytes are preferred.
fn check(proto: &pb::ModelProto, (m, k): (usize, usize), most: usize, what: &str) {
    check_within(proto, (m, k), [5 * m * k, most], what);
}

/// The same with a bound of the arena.
fn check_within(proto: &pb::ModelProto, (m, k): (usize, usize), [arena, most]: [usize; 2], what: &str) {
    let model = decode(proto);
    let x = floats(&[m, k], 7);
    let want = naive(&model, std::slice::from_ref(&x));
    let targets =
        [("x86_64", "generic"), ("x86_64", "x86-64-v3"), ("native", "native"), ("aarch64", "generic")];
    for ((arch, cpu), prefer) in targets.iter().flat_map(|t| [Prefer::Speed, Prefer::Size].map(|p| (*t, p))) {
        let target = resolve(arch, cpu).expect("known");
        let built = Build::new("m.onnx").prefer(prefer).build_model(&model, target.clone(), "m", &Silent);
        let built = built.unwrap_or_else(|e| panic!("{what}: {e}"));
        let executor = Executor::new(&built.program, &built.object.bytes, &target, None);
        let got = executor.and_then(|mut e| e.run(std::slice::from_ref(&x)));
        agree(&got.unwrap_or_else(|e| panic!("{what}: {e}")), &want, &format!("{what}, {arch} {cpu}"));
        let constants: usize = built.program.constants.iter().map(|c| c.bytes.len()).sum();
        // A copy with a rim of `x` at most.
        let small = prefer == Prefer::Speed || built.program.arena_bytes <= arena;
        assert!(small, "{what}, {cpu}: {} bytes", built.program.arena_bytes);
        assert!(constants <= most, "{what}, {cpu}: {constants} bytes of constants");
    }
}

/// Weights of `k` by `n` take their bits, scales and zero points theirs, and a little for alignment.
fn bytes(k: usize, n: usize, bits: usize, groups: usize) -> usize {
    k * n * bits / 8 + 5 * groups + 512
}

/// What MatMulNBits gives of four bits at `accuracy_level` 4: what is multiplied is quantized by blocks, to
/// `round(x * 127 / peak)`, as ONNX Runtime's CPU kernels do (MLAS, `SQNBIT_CompInt8`).
fn of_bytes(x: &[f32], (m, k, n): (usize, usize, usize), block: usize, packed_zeros: bool) -> Vec<f64> {
    let blocks = k.div_ceil(block);
    let bytes = |shape: &[usize]| quantized(DType::U8, shape).data.to_vec();
    let (w, z) = (bytes(&[n, blocks, block / 2]), bytes(&[n * blocks.div_ceil(2)]));
    let s = scales(&[n * blocks]).to_vec::<f32>().expect("floats");
    let half = |bytes: &[u8], i: usize| f64::from(bytes[i / 2] >> (4 * (i % 2)) & 15);
    let mut y = vec![0.0; m * n];
    for (row, column, b) in (0..m * n * blocks).map(|i| (i / blocks / n, i / blocks % n, i % blocks)) {
        let places = b * block..k.min((b + 1) * block);
        let peak = places.clone().map(|p| x[row * k + p].abs()).fold(0.0, f32::max);
        let zero = if packed_zeros { half(&z[column * blocks.div_ceil(2)..], b) } else { 8.0 };
        let inverse = if peak == 0.0 { 0.0 } else { 127.0 / peak };
        let q = |p: usize| f64::from((x[row * k + p] * inverse).round_ties_even());
        let weight = |p: usize| half(&w, column * blocks * block + p) - zero;
        let sum: f64 = places.map(|p| q(p) * weight(p)).sum();
        y[row * n + column] += sum * f64::from(peak / 127.0) * f64::from(s[column * blocks + b]);
    }
    y
}

/// Where the model allows bytes, weights of four bits multiply bytes, whatever the rows: with zero points of columns
/// and without, with a last block behind the end, and a block of zeros.
#[test]
fn at_level_four_bytes_are_multiplied() {
    let sizes = [(1, 96, 40, 32), (5, 64, 50, 16), (9, 100, 17, 64), (3, 128, 33, 128)];
    for ((m, k, n, block), zeros) in sizes.into_iter().flat_map(|s| [(s, true), (s, false)]) {
        let mut proto = bits(m, k, n, 4, block);
        let graph = proto.graph.as_mut().expect("a graph");
        graph.node[0].attribute.push(int("accuracy_level", 4));
        if !zeros {
            graph.node[0].input.truncate(3);
        }
        let model = decode(&proto);
        let mut x = floats(&[m, k], 7).to_vec::<f32>().expect("floats");
        x[..block].fill(0.0);
        let want = of_bytes(&x, (m, k, n), block, zeros);
        let most = want.iter().fold(0.0, |a: f64, b| a.max(b.abs()));
        let x = Tensor::new([m, k], &x);
        for (arch, cpu) in [("x86_64", "generic"), ("x86_64", "x86-64-v3"), ("native", "native")]
            .into_iter()
            .chain(["cortex-a53", "neoverse-n1"].map(|cpu| ("aarch64", cpu)))
        {
            let target = resolve(arch, cpu).expect("known");
            let built =
                Build::new("m.onnx").build_model(&model, target.clone(), "m", &Silent).expect("built");
            let executor = Executor::new(&built.program, &built.object.bytes, &target, None);
            let got = executor.and_then(|mut e| e.run(std::slice::from_ref(&x))).expect("a run");
            for (is, should) in got[0].to_vec::<f32>().expect("floats").iter().zip(&want) {
                let off = (f64::from(*is) - should).abs();
                assert!(off <= 1e-5 * most, "{m} x {k} x {n} by {block}, {cpu}: {is} in place of {should}");
            }
            let constants: usize = built.program.constants.iter().map(|c| c.bytes.len()).sum();
            let groups = n.next_multiple_of(16) * k.div_ceil(block);
            let most = bytes(k.next_multiple_of(block), n.next_multiple_of(16), 4, groups);
            assert!(constants <= most, "{cpu}: {constants} bytes of constants, not {most}");
        }
    }
}

/// What is no number stays none, split into bytes or quantized.
#[test]
fn bytes_of_no_number_are_none() {
    for (stray, level) in [f32::NAN, f32::INFINITY].into_iter().flat_map(|s| [(s, 0), (s, 4)]) {
        let mut proto = bits(1, 64, 20, 4, 32);
        proto.graph.as_mut().expect("a graph").node[0].attribute.push(int("accuracy_level", level));
        let mut x = floats(&[1, 64], 7).to_vec::<f32>().expect("floats");
        x[40] = stray;
        let x = Tensor::new([1, 64], &x);
        for (arch, cpu) in [("native", "native"), ("x86_64", "x86-64-v3"), ("aarch64", "cortex-a53")] {
            let target = resolve(arch, cpu).expect("known");
            let built = Build::new("m.onnx").build_model(&decode(&proto), target.clone(), "m", &Silent);
            let built = built.expect("built");
            let executor = Executor::new(&built.program, &built.object.bytes, &target, None);
            let got = executor.and_then(|mut e| e.run(std::slice::from_ref(&x))).expect("a run");
            let finite = got[0].to_vec::<f32>().expect("floats").iter().filter(|y| y.is_finite()).count();
            assert_eq!(finite, 0, "{stray} at level {level}, {cpu}");
        }
    }
}

#[test]
fn dequantized_weights_stay_quantized() {
    for (m, k, n) in [(1, 128, 64), (6, 96, 80)] {
        for (dtype, bits) in [(DType::I4, 4), (DType::U4, 4), (DType::I8, 8), (DType::U8, 8)] {
            let columns = dequantized(m, k, n, dtype, None);
            check(&columns, (m, k), bytes(k, n, bits, n), &format!("{dtype} by column"));
            let blocks = dequantized(m, k, n, dtype, Some(32));
            check(&blocks, (m, k), bytes(k, n, bits, n * k / 32), &format!("{dtype} by blocks"));
        }
    }
}

/// Where many rows read them, some columns at a time become floats, once for all rows.
#[test]
fn weights_of_many_rows_are_restored_by_columns() {
    let (m, k, n) = (64, 256, 384);
    let proto = bits(m, k, n, 4, 32);
    check(&proto, (m, k), bytes(k, n, 4, n * k / 32), "many rows");
    for (arch, cpu) in [("x86_64", "x86-64-v4"), ("x86_64", "x86-64-v3"), ("aarch64", "cortex-a53")] {
        let target = resolve(arch, cpu).expect("known");
        let built = Build::new("m.onnx").build_model(&decode(&proto), target, "m", &Silent).expect("built");
        let bytes = built.program.arena_bytes;
        assert!((4 * k..k * n).contains(&bytes), "{cpu}: {bytes} bytes");
    }
}

#[test]
fn products_with_few_bits_stay_quantized() {
    for (m, k, n) in [(1, 128, 64), (5, 64, 48)] {
        for bits in [2, 4, 8] {
            let proto = self::bits(m, k, n, bits, 32);
            check(&proto, (m, k), bytes(k, n, bits.max(4), n * k / 32), &format!("{bits} bits, {m} rows"));
        }
    }
    // The last block reaches over the end of the rows; its loop then is not over pairs.
    check(&bits(3, 72, 32, 4, 16), (3, 72), 32 * 80 + 5 * 32 * 5 + 512, "a short block");
}

/// A quantizer of QONNX, with its scale and number of bits.
fn quantizer(of: &str, scale: &str, bits: &str, to: &str) -> pb::NodeProto {
    let mut quant = node("Quant", &[of, scale, "zero", bits], to);
    quant.domain = "qonnx.custom_op.general".to_string();
    quant.attribute = vec![int("signed", 1), int("narrow", 0), text("rounding_mode", "ROUND")];
    quant
}

fn qonnx(
    nodes: Vec<pb::NodeProto>,
    x: [usize; 2],
    y: [usize; 2],
    constants: &[(&str, Tensor)],
) -> pb::ModelProto {
    let [x, y] = [x, y].map(|shape| shape.map(|d| d as i64));
    let mut proto = opset(model(nodes, &x, &y, constants), 13);
    let domain = pb::OperatorSetIdProto { domain: "qonnx.custom_op.general".to_string(), version: 1 };
    proto.opset_import.push(domain);
    proto
}

/// Grids of QONNX are those of QuantizeLinear, cut to their bits; products between them sum bytes.
#[test]
fn quantizers_of_few_bits_are_integers() {
    let steps = [0.5f32, 0.25];
    let constants = [
        ("rows", Tensor::new([2, 1], &steps)),
        ("zero", Tensor::scalar(0f32)),
        ("three", Tensor::scalar(3f32)),
    ];
    let rounded = qonnx(vec![quantizer("x", "rows", "three", "y")], [2, 6], [2, 6], &constants);
    let x = [-3.0f32, -0.26, 0.25, 0.3, 0.76, 9.0];
    let given = Tensor::new([2, 6], &[x, x].concat());
    let want: Vec<f32> = steps
        .iter()
        .flat_map(|s| x.iter().map(move |x| (x / s).round_ties_even().clamp(-4.0, 3.0) * s))
        .collect();
    let found = naive(&decode(&rounded), std::slice::from_ref(&given));
    assert_eq!(found[0].to_vec::<f32>().expect("floats"), want);

    let (m, k, n) = (4, 64, 32);
    let constants = [
        ("w", floats(&[k, n], 3)),
        ("coarse", Tensor::scalar(0.125f32)),
        ("fine", Tensor::scalar(0.03125f32)),
        ("zero", Tensor::scalar(0f32)),
        ("four", Tensor::scalar(4f32)),
        ("eight", Tensor::scalar(8f32)),
    ];
    let nodes = vec![
        quantizer("x", "fine", "eight", "qx"),
        quantizer("w", "coarse", "four", "qw"),
        node("MatMul", &["qx", "qw"], "y"),
    ];
    // At AVX2 a vector of columns has what its sums begin with, and where the chains' kinds and words are.
    let lists = 4 * n * (1 + (3 + k / 4).div_ceil(8));
    let most = bytes(k, n, 8, 1) + lists;
    check(&qonnx(nodes, [m, k], [m, n], &constants), (m, k), most, "quantizers of QONNX");
}

/// One of two experts whose weights have four bits and a scale per row; the result is ONNX Runtime's.
#[test]
fn experts_with_few_bits() {
    let mut experts = node("QMoE", &["x", "router", "w1", "s1", "", "w2", "s2"], "y");
    experts.domain = "com.microsoft".to_string();
    experts.attribute = vec![int("k", 1), int("expert_weight_bits", 4), text("activation_type", "silu")];
    let step = |count: u8, by: u8| (0..count).map(|i| i * by).collect::<Vec<u8>>();
    let constants = [
        ("router", Tensor::new([1, 2], &[0.5f32, 1.5])),
        ("w1", Tensor::new([2, 2, 8], &step(32, 7))),
        ("s1", Tensor::new([2, 2], &[0.1f32, 0.2, 0.05, 0.1])),
        ("w2", Tensor::new([2, 16, 1], &step(32, 5))),
        ("s2", Tensor::new([2, 16], &[0.5f32; 32])),
    ];
    let proto = opset(model(vec![experts], &[1, 16], &[1, 16], &constants), 21);
    let x: Vec<f32> = (0..16).map(|i| if i % 2 == 0 { 1.0 } else { -0.5 }).collect();
    let y = naive(&decode(&proto), &[Tensor::new([1, 16], &x)]);
    let want = [1.275_025, 0.730_267, 0.185_509, -0.359_249, 0.704_748, 0.159_99, -0.384_768, 0.679_229];
    let y = y[0].to_vec::<f32>().expect("floats");
    assert!(y.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-5), "{y:?}");
    check_within(&proto, (1, 16), [512, 1024], "experts");
}

/// The rows at the largest element of each row of `x`, of a table that is dequantized by blocks of columns.
fn looked_up(m: usize, rows: usize, columns: usize, dtype: DType, block: usize) -> pb::ModelProto {
    let mut dequantize = node("DequantizeLinear", &["w", "scale", "zero"], "f");
    dequantize.attribute = vec![int("axis", 1), int("block_size", block as i64)];
    let mut place = node("ArgMax", &["x"], "at");
    place.attribute = vec![int("axis", 1), int("keepdims", 0)];
    let nodes = vec![dequantize, place, node("Gather", &["f", "at"], "y")];
    let of = [rows, columns.div_ceil(block)];
    let constants =
        [("w", quantized(dtype, &[rows, columns])), ("scale", scales(&of)), ("zero", quantized(dtype, &of))];
    opset(model(nodes, &[m as i64, rows as i64], &[m as i64, columns as i64], &constants), 21)
}

/// Two entries of four bits lie in a byte, by blocks or within a single one; those of rows of odd length do not.
#[test]
fn tables_of_four_bits_lie_in_pairs() {
    for dtype in [DType::I4, DType::U4] {
        for (columns, block, paired) in [(64, 16, true), (48, 48, true), (63, 63, false)] {
            let rows = 40;
            let blocks = rows * columns / block;
            let entries = if paired { rows * columns / 2 } else { rows * columns };
            let most = entries + (4 + 1) * blocks + 64;
            check(
                &looked_up(3, rows, columns, dtype, block),
                (3, rows),
                most,
                &format!("{dtype} {columns} by {block}"),
            );
        }
    }
}

/// Rows `round(100 * x)` of a table of `v` rows, as floats, times the table's columns: as a copy with rows and columns
/// exchanged, or by its own name.
fn picked(dtype: DType, (v, k): (usize, usize), copied: bool) -> pb::ModelProto {
    let table = if dtype == DType::I8 { quantized(dtype, &[v, k]) } else { floats(&[v, k], 5) };
    let size = dtype.size();
    let exchanged: Vec<u8> =
        (0..v * k).flat_map(|i| table.data[(i % v * k + i / v) * size..][..size].to_vec()).collect();
    let exchanged = Tensor::from_bytes(TensorType::new(dtype, [k, v]), exchanged).expect("as many");
    let mut nodes = vec![
        node("Mul", &["x", "hundred"], "far"),
        node("Round", &["far"], "whole"),
        node("Reshape", &["whole", "flat"], "list"),
        with(node("Cast", &["list"], "rows"), [int("to", 7)]),
    ];
    let mut dequantized = |from: &str, to: &str, axis: i64| match dtype {
        DType::I8 => nodes.push(with(node("DequantizeLinear", &[from, "scale"], to), [int("axis", axis)])),
        _ => nodes.push(node("Identity", &[from], to)),
    };
    dequantized("table", "embedding", 0);
    if copied {
        dequantized("exchanged", "weights", 1);
    }
    nodes.push(node("Gather", &["embedding", "rows"], "e"));
    nodes.push(match copied {
        true => node("MatMul", &["e", "weights"], "y"),
        false => with(node("Gemm", &["e", "embedding"], "y"), [int("transB", 1)]),
    });
    let constants = [
        ("hundred", Tensor::scalar(100f32)),
        ("flat", Tensor::new([1], &[-1i64])),
        ("table", table),
        ("exchanged", exchanged),
        ("scale", scales(&[v])),
    ];
    model(nodes, &[M as i64, 1], &[M as i64, v as i64], &constants)
}

/// Rows that are picked.
const M: usize = 3;

/// The same where bytes are multiplied, word by word.
fn picked_words(v: usize, k: usize) -> pb::ModelProto {
    let mut proto = picked(DType::I8, (v, k), true);
    let graph = proto.graph.as_mut().expect("a graph");
    graph.node.retain(|n| n.op_type != "MatMul" && n.output[0] != "weights");
    let mut quantize = node("DynamicQuantizeLinear", &["e"], "bytes");
    quantize.output.extend(["step", "zero"].map(String::from));
    graph.node.extend([
        quantize,
        node("MatMulInteger", &["bytes", "exchanged", "zero"], "sum"),
        with(node("Cast", &["sum"], "sum_float"), [int("to", 1)]),
        node("Mul", &["step", "scale"], "steps"),
        node("Mul", &["sum_float", "steps"], "y"),
    ]);
    proto
}

/// So is one whose words are multiplied, where these lie together: with VNNI, and dot products.
#[test]
fn tables_of_words_lie_once() {
    let (v, k) = (331, 96);
    let model = decode(&picked_words(v, k));
    let x = floats(&[M, 1], 7);
    let want = naive(&model, std::slice::from_ref(&x));
    for (arch, cpu, once) in [
        ("x86_64", "x86-64-v3", false),
        ("native", "native", false),
        ("aarch64", "cortex-a53", false),
        ("aarch64", "neoverse-n1", true),
    ] {
        let target = resolve(arch, cpu).expect("known");
        let built = Build::new("m.onnx").build_model(&model, target.clone(), "m", &Silent).expect("built");
        let constants: usize = built.program.constants.iter().map(|c| c.bytes.len()).sum();
        let most = v.next_multiple_of(128) * k + 4 * v + 1024;
        assert!(!once || constants <= most, "{cpu}: {constants} bytes of constants, not {most}");
        let executor = Executor::new(&built.program, &built.object.bytes, &target, None);
        let got = executor.and_then(|mut e| e.run(std::slice::from_ref(&x))).expect("a run");
        agree(&got, &want, cpu);
    }
}

/// An embedding that is the last product's weights as well is there once, and a row outside of it is an error.
#[test]
fn tables_that_are_weights_as_well_lie_once() {
    for (dtype, copied) in [(DType::F32, true), (DType::F32, false), (DType::I8, true)] {
        let (v, k) = (331, 96);
        let proto = picked(dtype, (v, k), copied);
        // Tiles of 128 columns at most, of which the last is as wide as the others.
        let most = v.next_multiple_of(128) * k * dtype.size() + 4 * v + 1024;
        let what = format!("{dtype}, {}", if copied { "exchanged" } else { "by its name" });
        check_within(&proto, (M, 1), [usize::MAX, most], &what);
        for (arch, cpu) in [("native", "native"), ("aarch64", "cortex-a53")] {
            let target = resolve(arch, cpu).expect("known");
            let built = Build::new("m.onnx").build_model(&decode(&proto), target.clone(), "m", &Silent);
            let built = built.expect("built");
            for (row, valid) in [(330.0, true), (331.0, false), (-331.0, true), (-332.0, false)] {
                let x = Tensor::new([M, 1], &[0.1, row / 100.0, -0.2f32]);
                let executor = Executor::new(&built.program, &built.object.bytes, &target, None);
                let got = executor.and_then(|mut e| e.run(std::slice::from_ref(&x)));
                assert_eq!(got.is_ok(), valid, "{what}, row {row}, {cpu}");
            }
        }
    }
}

/// A convolution to 80 channels of maps of 48: of half of the rows and columns, a quarter, an eighth.
fn head(kernel: usize) -> pb::ModelProto {
    let window = |op: &str, from: &str, to: &str, size: usize, step: usize, pads: usize| {
        let [size, step, pads] = [size, step, pads].map(|n| n as i64);
        let lists = [("kernel_shape", &[size; 2][..]), ("strides", &[step; 2]), ("pads", &[pads; 4])];
        with(node(op, &[from], to), lists.map(|(name, values)| ints(name, values)))
    };
    let halves = [("x", "half"), ("half", "quarter"), ("quarter", "eighth")];
    let mut nodes = halves.map(|(from, to)| window("MaxPool", from, to, 2, 2, 0)).to_vec();
    for from in ["half", "quarter", "eighth"] {
        let mut conv = window("Conv", from, &format!("{from}_conv"), kernel, 1, kernel / 2);
        conv.input.push("w".to_string());
        nodes.extend([conv, node("Flatten", &[&format!("{from}_conv")], &format!("{from}_flat"))]);
    }
    nodes.push(with(node("Concat", &["half_flat", "quarter_flat", "eighth_flat"], "y"), [int("axis", 1)]));
    let points = 24 * 24 + 12 * 12 + 6 * 6;
    model(nodes, &[1, 48, 48, 48], &[1, 80 * points], &[("w", floats(&[80, 48, kernel, kernel], 3))])
}

/// Maps of several sizes, which would like tiles of several widths, read one copy of the weights.
#[test]
fn weights_of_maps_of_several_sizes_lie_once() {
    // Filtered in tiles of four outputs, 9 points are 36.
    for (kernel, times) in [(1, 1), (3, 4)] {
        let model = decode(&head(kernel));
        let x = floats(&[1, 48, 48, 48], 7);
        let want = naive(&model, std::slice::from_ref(&x));
        let most = 48 * 96 * kernel * kernel * times * size_of::<f32>() + 1024;
        let targets = [("x86_64", "generic"), ("x86_64", "x86-64-v3"), ("native", "native")];
        for (arch, cpu) in
            targets.into_iter().chain(["cortex-a53", "neoverse-n1"].map(|cpu| ("aarch64", cpu)))
        {
            let target = resolve(arch, cpu).expect("known");
            let built =
                Build::new("m.onnx").build_model(&model, target.clone(), "m", &Silent).expect("built");
            let constants: usize = built.program.constants.iter().map(|c| c.bytes.len()).sum();
            assert!(constants <= most, "{kernel}, {cpu}: {constants} bytes of constants, not {most}");
            let executor = Executor::new(&built.program, &built.object.bytes, &target, None);
            let got = executor.and_then(|mut e| e.run(std::slice::from_ref(&x))).expect("a run");
            // Filtered sums of 432 products round more.
            let found = compare(&got[0], &want[0], Tolerance { rtol: 1e-5, atol: 1e-4 });
            assert!(found.is_within(), "{kernel}, {cpu}: {found:?}");
        }
    }
}
