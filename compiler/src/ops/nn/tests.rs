//! Operators without cases among ONNX's own tests, on small data against plain loops.

mod learners;
mod transposed;

use crate::base::{DType, Tensor, TensorType};
use crate::definition::{Env, LoweredValue, Lowering, interpret};
use crate::graph::{Attr, Attrs, Graph, Node};
use crate::ops::{Ctx, Lower, find};

/// Infers, lowers and interprets one node; `None` inputs are omitted, the others are known constants.
pub(super) fn run(
    domain: &str,
    name: &str,
    attrs: &[(&str, Attr)],
    inputs: &[Option<Tensor>],
    outputs: usize,
) -> Vec<Tensor> {
    run_computed(domain, name, attrs, inputs, &[], outputs)
}

/// The same, where the inputs `computed` are known only at run time.
pub(super) fn run_computed(
    domain: &str,
    name: &str,
    attrs: &[(&str, Attr)],
    inputs: &[Option<Tensor>],
    computed: &[usize],
    outputs: usize,
) -> Vec<Tensor> {
    let op = find(domain, name).expect("a row");
    let mut graph = Graph::default();
    let mut given = Vec::new();
    for (i, input) in inputs.iter().enumerate() {
        given.push(input.as_ref().map(|t| match computed.contains(&i) {
            true => graph.add_value(format!("x{i}"), t.ty.clone()),
            false => graph.add_constant(format!("x{i}"), t.clone()),
        }));
    }
    let mut node = Node {
        op,
        opset: 100,
        name: "node".into(),
        attrs: Attrs(attrs.iter().map(|(n, a)| (n.to_string(), a.clone())).collect()),
        inputs: given,
        outputs: Vec::new(),
    };
    let types = (op.infer)(&Ctx { graph: &graph, node: &node }).expect("types");
    for (i, ty) in types.into_iter().take(outputs).enumerate() {
        node.outputs.push(Some(graph.add_value(format!("y{i}"), ty)));
    }
    let values = graph.values.iter().map(|v| LoweredValue {
        name: v.name.clone(),
        ty: v.ty.clone(),
        constant: v.constant.clone(),
    });
    let mut low = Lowering { values: values.collect(), ..Lowering::default() };
    let Lower::Define(define) = op.lower else { panic!("{name} is defined by others") };
    define(&Ctx { graph: &graph, node: &node }, &mut low).expect("definitions");
    let mut env = Env::new(&low);
    for &i in computed {
        if let (Some(v), Some(tensor)) = (node.inputs[i], &inputs[i]) {
            env.set(v, tensor);
        }
    }
    interpret(&low, &mut env).expect("a result");
    let output = |v: &Option<u32>| {
        let v = v.expect("an output");
        env.get(v, &graph.value(v).ty).expect("elements")
    };
    node.outputs.iter().map(output).collect()
}

/// Small numbers that differ.
fn data(shape: &[usize], seed: usize) -> Tensor {
    let n: usize = shape.iter().product();
    let values: Vec<f32> = (0..n).map(|i| (((i + seed) * 7919 % 31) as f32 - 15.0) / 8.0).collect();
    Tensor::new(shape, &values)
}

fn floats(t: &Tensor) -> Vec<f32> {
    t.to_vec::<f32>().expect("f32")
}

fn close(got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len());
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!((g - w).abs() <= 1e-5 + 1e-5 * w.abs(), "element {i}: {g} instead of {w}");
    }
}

/// Attention by plain loops over `[heads, positions, size]`; `seen(query, key)`.
fn attention(
    [q, k, v]: [&[f32]; 3],
    [heads, kv, queries, keys, size]: [usize; 5],
    bias: impl Fn(usize, usize) -> f32,
) -> Vec<f32> {
    let mut out = vec![0.0; heads * queries * size];
    for h in 0..heads {
        let g = h / (heads / kv);
        for i in 0..queries {
            let score = |j: usize| -> f32 {
                let dot: f32 =
                    (0..size).map(|d| q[(h * queries + i) * size + d] * k[(g * keys + j) * size + d]).sum();
                dot / (size as f32).sqrt() + bias(i, j)
            };
            let scores: Vec<f32> = (0..keys).map(score).collect();
            let most = scores.iter().copied().fold(f32::MIN, f32::max);
            let weights: Vec<f32> = scores.iter().map(|s| (s - most).exp()).collect();
            let sum: f32 = weights.iter().sum();
            for d in 0..size {
                let value: f32 = (0..keys).map(|j| weights[j] * v[(g * keys + j) * size + d]).sum();
                out[(h * queries + i) * size + d] = if sum > 0.0 { value / sum } else { 0.0 };
            }
        }
    }
    out
}

/// Grouped heads, a causal mask and earlier keys: the present keys are the earlier and the new.
#[test]
fn attention_with_past_and_groups() {
    let (q, k, v) = (data(&[1, 4, 2, 3], 1), data(&[1, 2, 2, 3], 2), data(&[1, 2, 2, 3], 3));
    let (past_k, past_v) = (data(&[1, 2, 3, 3], 4), data(&[1, 2, 3, 3], 5));
    let inputs = [&q, &k, &v].map(|t| Some(t.clone()));
    let inputs = [inputs.as_slice(), &[None, Some(past_k.clone()), Some(past_v.clone())]].concat();
    let got = run("", "Attention", &[("is_causal", Attr::Int(1))], &inputs, 3);
    let join = |past: &Tensor, new: &Tensor| -> Vec<f32> {
        let (past, new) = (floats(past), floats(new));
        (0..2).flat_map(|h| [&past[h * 9..h * 9 + 9], &new[h * 6..h * 6 + 6]].concat()).collect()
    };
    let (all_k, all_v) = (join(&past_k, &k), join(&past_v, &v));
    close(&floats(&got[1]), &all_k);
    let causal = |i: usize, j: usize| if j <= i + 3 { 0.0 } else { f32::NEG_INFINITY };
    close(&floats(&got[0]), &attention([&floats(&q), &all_k, &all_v], [4, 2, 2, 5, 3], causal));
}

/// A query that sees no key gives zeros, and lengths hide keys.
#[test]
fn attention_of_masked_queries() {
    let (q, k, v) = (data(&[1, 1, 2, 4], 1), data(&[1, 1, 3, 4], 2), data(&[1, 1, 3, 4], 3));
    let mask = Tensor { ty: TensorType::new(DType::Bool, [2, 3]), data: vec![0u8, 0, 0, 1, 0, 1].into() };
    let lengths = Tensor::new([1], &[2i64]);
    let given = [&q, &k, &v, &mask].map(|t| Some(t.clone()));
    let inputs = [given.as_slice(), &[None, None, Some(lengths)]].concat();
    let got = floats(&run("", "Attention", &[], &inputs, 1)[0]);
    assert_eq!(got[..4], [0.0; 4]);
    close(&got[4..], &floats(&v)[..4]);
}

/// One step of generation: the new key goes behind those in the cache, and all are seen.
#[test]
fn grouped_query_attention_with_a_cache() {
    let (q, k, v) = (data(&[1, 1, 8], 1), data(&[1, 1, 4], 2), data(&[1, 1, 4], 3));
    let (past_k, past_v) = (data(&[1, 1, 5, 4], 4), data(&[1, 1, 5, 4], 5));
    let (last, total) = (Tensor::new([1], &[3i32]), Tensor::new([1], &[4i32]));
    let inputs = [q.clone(), k.clone(), v.clone(), past_k.clone(), past_v.clone(), last, total].map(Some);
    let attrs = [("num_heads", Attr::Int(2)), ("kv_num_heads", Attr::Int(1))];
    let got = run("com.microsoft", "GroupQueryAttention", &attrs, &inputs, 3);
    let join = |past: &Tensor, new: &Tensor| [&floats(past)[..12], &floats(new)].concat();
    let (all_k, all_v) = (join(&past_k, &k), join(&past_v, &v));
    close(&floats(&got[1])[..16], &all_k);
    let want = attention([&floats(&q), &all_k, &all_v], [2, 1, 1, 4, 4], |_, _| 0.0);
    close(&floats(&got[0]), &want);
}

/// Packed heads, a bias per projection and a mask of padding.
#[test]
fn multi_head_attention_with_bias_and_padding() {
    let (q, k, v) = (data(&[1, 1, 2], 1), data(&[1, 3, 2], 2), data(&[1, 3, 2], 3));
    let bias = data(&[6], 4);
    let mask = Tensor::new([1, 3], &[1i32, 1, 0]);
    let inputs = [q.clone(), k.clone(), v.clone(), bias.clone(), mask].map(Some);
    let got = run("com.microsoft", "MultiHeadAttention", &[("num_heads", Attr::Int(1))], &inputs, 1);
    let bias = floats(&bias);
    let add = |t: &Tensor, first: usize| -> Vec<f32> {
        floats(t).iter().enumerate().map(|(i, x)| x + bias[first + i % 2]).collect()
    };
    let hide = |_: usize, j: usize| if j == 2 { -10000.0 } else { 0.0 };
    close(&floats(&got[0]), &attention([&add(&q, 0), &add(&k, 2), &add(&v, 4)], [1, 1, 1, 3, 2], hide));
}

/// Halves are rotated by the angle of their position; what lies past the rotated part stays.
#[test]
fn rotary_embedding_of_a_part() {
    let x = data(&[1, 2, 6], 1);
    let (cos, sin) = (data(&[3, 2], 2), data(&[3, 2], 3));
    let ids = Tensor::new([1, 2], &[2i64, 0]);
    let attrs = [("num_heads", Attr::Int(1)), ("rotary_embedding_dim", Attr::Int(4))];
    let got =
        floats(&run("", "RotaryEmbedding", &attrs, &[&x, &cos, &sin, &ids].map(|t| Some(t.clone())), 1)[0]);
    let (x, cos, sin) = (floats(&x), floats(&cos), floats(&sin));
    let mut want = x.clone();
    for (s, row) in [(0, 2), (1, 0)] {
        for p in 0..2 {
            let (a, b, c, d) = (x[s * 6 + p], x[s * 6 + p + 2], cos[row * 2 + p], sin[row * 2 + p]);
            want[s * 6 + p] = c * a - d * b;
            want[s * 6 + p + 2] = d * a + c * b;
        }
    }
    close(&got, &want);
}

/// Four-bit weights in blocks, with packed zero points; few rows and many take two ways.
#[test]
fn product_with_four_bit_weights() {
    for rows in [1, 6] {
        check_four_bits(rows);
    }
}

fn check_four_bits(rows: usize) {
    let (k, n, block) = (32, 2, 16);
    let bytes: Vec<u8> = (0..n * k / 2).map(|i| (i * 37 % 251) as u8).collect();
    let w = Tensor::new([n, k / block, block / 2], &bytes);
    let (x, scales) = (data(&[rows, k], 1), data(&[n * k / block], 2));
    let zeros = Tensor::new([n], &[0x5au8, 0xc3]);
    let attrs =
        [("K", Attr::Int(32)), ("N", Attr::Int(2)), ("bits", Attr::Int(4)), ("block_size", Attr::Int(16))];
    let inputs = [x.clone(), w, scales.clone(), zeros].map(Some);
    let got = floats(&run("com.microsoft", "MatMulNBits", &attrs, &inputs, 1)[0]);
    let (x, scales) = (floats(&x), floats(&scales));
    let nibble = |byte: u8, i: usize| f32::from(if i.is_multiple_of(2) { byte & 15 } else { byte >> 4 });
    let weight = |row: usize, i: usize| {
        let zero = nibble([0x5a, 0xc3][row], i / block);
        (nibble(bytes[(row * k + i) / 2], i) - zero) * scales[row * 2 + i / block]
    };
    let at = |m: usize, row: usize| -> f32 { (0..k).map(|i| x[m * k + i] * weight(row, i)).sum() };
    let want: Vec<f32> = (0..rows * n).map(|i| at(i / n, i % n)).collect();
    for (i, (g, w)) in got.iter().zip(&want).enumerate() {
        assert!((g - w).abs() <= 1e-4 + 1e-4 * w.abs(), "element {i}: {g} instead of {w}");
    }
}

fn rows_of_four_normalized(values: &[f32], gamma: &[f32], beta: &[f32]) -> Vec<f32> {
    let row = |row: &[f32]| -> Vec<f32> {
        let mean = row.iter().sum::<f32>() / 4.0;
        let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / 4.0;
        let scale = (variance + 1e-5).sqrt();
        (0..4).map(|i| (row[i] - mean) / scale * gamma[i] + beta[i]).collect()
    };
    values.chunks(4).flat_map(row).collect()
}

/// The sum of input, skip and bias is normalized, and given out.
#[test]
fn skip_layer_normalization() {
    let (x, skip) = (data(&[1, 2, 4], 1), data(&[1, 2, 4], 2));
    let (gamma, beta, bias) = (data(&[4], 3), data(&[4], 4), data(&[4], 5));
    let inputs = [&x, &skip, &gamma, &beta, &bias].map(|t| Some(t.clone()));
    let got = run("com.microsoft", "SkipLayerNormalization", &[], &inputs, 4);
    let [x, skip, gamma, beta, bias] = [&x, &skip, &gamma, &beta, &bias].map(floats);
    let sum: Vec<f32> = (0..8).map(|i| x[i] + skip[i] + bias[i % 4]).collect();
    close(&floats(&got[3]), &sum);
    close(&floats(&got[0]), &rows_of_four_normalized(&sum, &gamma, &beta));
}

/// Both directions, with lengths: the reverse one begins at the end of each sequence.
#[test]
fn bidirectional_rnn_with_lengths() {
    let (x, w, r) = (data(&[3, 2, 1], 1), data(&[2, 1, 1], 2), data(&[2, 1, 1], 3));
    let lengths = Tensor::new([2], &[3i32, 2]);
    let attrs = [("direction", Attr::Str("bidirectional".into())), ("hidden_size", Attr::Int(1))];
    let given = [&x, &w, &r].map(|t| Some(t.clone()));
    let inputs = [given.as_slice(), &[None, Some(lengths)]].concat();
    let got = run("", "RNN", &attrs, &inputs, 2);
    let [x, w, r] = [&x, &w, &r].map(floats);
    let (mut all, mut last) = (vec![0f32; 12], vec![0f32; 4]);
    for d in 0..2 {
        for (n, length) in [(0, 3), (1, 2)] {
            let mut h = 0f32;
            for step in 0..length {
                let t = if d == 0 { step } else { length - 1 - step };
                h = (x[t * 2 + n] * w[d] + h * r[d]).tanh();
                all[(t * 2 + d) * 2 + n] = h;
            }
            last[d * 2 + n] = h;
        }
    }
    close(&floats(&got[0]), &all);
    close(&floats(&got[1]), &last);
}

/// Zero points of constant and of varying tensors are taken off exactly.
#[test]
fn dynamic_quantization_of_a_product() {
    let x = data(&[2, 4], 1);
    let w = Tensor::new([4, 3], &[1u8, 200, 3, 40, 5, 60, 7, 80, 250, 10, 11, 12]);
    let (scale, zero) = (Tensor::new([1], &[0.5f32]), Tensor::new([1], &[100u8]));
    let inputs = [x.clone(), w.clone(), scale, zero].map(Some);
    let got = floats(&run("com.microsoft", "DynamicQuantizeMatMul", &[], &inputs, 1)[0]);
    let (x, w) = (floats(&x), w.to_vec::<u8>().expect("u8"));
    let (least, most) = x.iter().fold((0f32, 0f32), |(l, m), &v| (l.min(v), m.max(v)));
    let step = (most - least) / 255.0;
    let offset = (-least / step).round_ties_even();
    let q: Vec<f32> =
        x.iter().map(|v| ((v / step).round_ties_even() + offset).clamp(0.0, 255.0) - offset).collect();
    let at = |i: usize, j: usize| -> f32 {
        (0..4).map(|k| q[i * 4 + k] * (f32::from(w[k * 3 + j]) - 100.0)).sum::<f32>() * (step * 0.5)
    };
    close(&got, &(0..6).map(|i| at(i / 3, i % 3)).collect::<Vec<_>>());
}

/// The mean of quantized elements, with padding that counts as the zero point.
#[test]
fn average_pool_of_quantized_elements() {
    let x = Tensor::new([1, 1, 1, 4], &[10u8, 20, 30, 41]);
    let scale = Tensor::new([], &[1f32]);
    let zero = |z: u8| Tensor::new([], &[z]);
    let attrs = [
        ("kernel_shape", Attr::Ints(vec![1, 2])),
        ("strides", Attr::Ints(vec![1, 2])),
        ("pads", Attr::Ints(vec![0, 1, 0, 1])),
    ];
    let inputs = [x, scale.clone(), zero(10), scale, zero(0)].map(Some);
    let got = run("com.microsoft", "QLinearAveragePool", &attrs, &inputs, 1);
    assert_eq!(got[0].to_vec::<u8>(), Some(vec![0, 15, 31]));
}

/// Softmax of quantized scores; the result has a fixed scale.
#[test]
fn softmax_of_quantized_scores() {
    let x = Tensor::new([1, 3], &[10i8, 12, 20]);
    let (x_scale, y_scale) = (Tensor::scalar(0.5f32), Tensor::scalar(1.0f32 / 256.0));
    let inputs = [x, x_scale, Tensor::scalar(4i8), y_scale, Tensor::scalar(-128i8)].map(Some);
    let got = run("com.microsoft", "QLinearSoftmax", &[], &inputs, 1);
    let exp = [3f32, 4.0, 8.0].map(|v| (v - 8.0).exp());
    let sum: f32 = exp.iter().sum();
    let want = exp.map(|v| ((v / sum * 256.0).round_ties_even() - 128.0).clamp(-128.0, 127.0) as i8);
    assert_eq!(got[0].to_vec::<i8>(), Some(want.to_vec()));
}

/// One projection gives queries, keys and values; earlier keys and values come in one tensor, and
/// each query sees what is before it.
#[test]
fn projected_attention_with_a_past() {
    let (x, w, bias) = (data(&[1, 2, 3], 1), data(&[3, 6], 2), data(&[6], 3));
    let past = data(&[2, 1, 1, 2, 2], 4);
    let inputs = [Some(x.clone()), Some(w.clone()), Some(bias.clone()), None, Some(past.clone())];
    let attrs = [("num_heads", Attr::Int(1)), ("unidirectional", Attr::Int(1))];
    let got = run("com.microsoft", "Attention", &attrs, &inputs, 2);
    let [x, w, bias, past] = [&x, &w, &bias, &past].map(floats);
    let projected = |s: usize, c: usize| bias[c] + (0..3).map(|i| x[s * 3 + i] * w[i * 6 + c]).sum::<f32>();
    let part = |first: usize| -> Vec<f32> { (0..4).map(|i| projected(i / 2, first + i % 2)).collect() };
    let (q, k, v) = (part(0), [&past[..4], &part(2)].concat(), [&past[4..], &part(4)].concat());
    close(&floats(&got[1]), &[k.clone(), v.clone()].concat());
    let causal = |i: usize, j: usize| if j <= i + 2 { 0.0 } else { -10000.0 };
    close(&floats(&got[0]), &attention([&q, &k, &v], [1, 1, 2, 4, 2], causal));
}

/// A product with a transposed constant, both zero points, a bias in units of the product, and
/// a quantized result.
#[test]
fn quantized_gemm() {
    let a = Tensor::new([2, 3], &[10u8, 200, 30, 40, 5, 60]);
    let b = Tensor::new([2, 3], &[100u8, 20, 255, 0, 128, 7]);
    let c = Tensor::new([2], &[1000i32, -2000]);
    let scale = |v: f32| Some(Tensor::scalar(v));
    let zero = |v: u8| Some(Tensor::scalar(v));
    let inputs = [
        Some(a.clone()),
        scale(0.02),
        zero(12),
        Some(b.clone()),
        scale(0.03),
        zero(120),
        Some(c),
        scale(0.1),
        zero(100),
    ];
    let got = run("com.microsoft", "QGemm", &[("transB", Attr::Int(1))], &inputs, 1);
    let (a, b) = (a.to_vec::<u8>().expect("u8"), b.to_vec::<u8>().expect("u8"));
    let at = |m: usize, n: usize| -> u8 {
        let sum: i32 = (0..3).map(|k| (i32::from(a[m * 3 + k]) - 12) * (i32::from(b[n * 3 + k]) - 120)).sum();
        let value = (sum + [1000, -2000][n]) as f32 * (0.02f32 * 0.03 / 0.1);
        (value.round_ties_even() + 100.0).clamp(0.0, 255.0) as u8
    };
    assert_eq!(got[0].to_vec::<u8>(), Some((0..4).map(|i| at(i / 2, i % 2)).collect::<Vec<u8>>()));
}

/// A transposed convolution of integers is that of the numbers above their zero points, requantized.
#[test]
fn quantized_transposed_convolution() {
    let bytes = |shape: &[usize], step: usize| -> Vec<i64> {
        (0..shape.iter().product()).map(|i: usize| (i * step % 251) as i64).collect()
    };
    let wide = [(1, 3, [2, 1], 1, 1), (1, 2, [2, 2], 1, 0), (2, 4, [3, 2], 1, 0), (1, 2, [3, 1], 2, 0)];
    let lone = [((1, 4, [2, 2], 1, 0), [1, 1]), ((2, 3, [2, 1], 1, 0), [1, 5])];
    for ((groups, kernel, strides, dilation, extra), size) in
        wide.map(|case| (case, [3, 5])).into_iter().chain(lone)
    {
        let (x, w) = ([1, 4, size[0], size[1]], [4, 3, kernel, kernel]);
        let (xs, ws) = (bytes(&x, 37), bytes(&w, 91));
        let channels = 3 * groups;
        let bias: Vec<i32> = (0..channels as i32).map(|c| 700 * c - 900).collect();
        let scales: Vec<f32> = (0..channels).map(|c| 0.02 + 0.005 * c as f32).collect();
        let per_channel = groups == 1;
        let weight_scale =
            if per_channel { Tensor::new([channels], &scales) } else { Tensor::scalar(0.02f32) };
        let attrs = [
            ("group", Attr::Int(groups as i64)),
            ("strides", Attr::Ints(strides.to_vec())),
            ("dilations", Attr::Ints(vec![dilation; 2])),
            ("pads", Attr::Ints(vec![1, 0, 0, 1])),
            ("output_padding", Attr::Ints(vec![extra, 0])),
        ];
        let quantized = |shape: &[usize], list: &[i64], dtype: DType| {
            let data: Vec<u8> = list.iter().map(|&v| v as u8).collect();
            Some(Tensor { ty: TensorType::new(dtype, shape), data: data.into() })
        };
        let signed: Vec<i64> = ws.iter().map(|v| v - 125).collect();
        let inputs = [
            quantized(&x, &xs, DType::U8),
            Some(Tensor::scalar(0.1f32)),
            Some(Tensor::scalar(7u8)),
            quantized(&w, &signed, DType::I8),
            Some(weight_scale),
            None,
            Some(Tensor::scalar(3f32)),
            Some(Tensor::scalar(90u8)),
            Some(Tensor::new([channels], &bias)),
        ];
        let got = run("lmc", "QLinearConvTranspose", &attrs, &inputs, 1);
        let float = |list: &[i64], zero: i64| list.iter().map(|v| (v - zero) as f32).collect::<Vec<f32>>();
        let biases: Vec<f32> = bias.iter().map(|&b| b as f32).collect();
        let plain = [
            Some(Tensor::new(x, &float(&xs, 7))),
            Some(Tensor::new(w, &float(&signed, 0))),
            Some(Tensor::new([channels], &biases)),
        ];
        let sums = run("", "ConvTranspose", &attrs, &plain, 1);
        let points = got[0].ty.elems() / channels;
        let step = |i: usize| if per_channel { scales[i / points] } else { 0.02 };
        let wanted = floats(&sums[0]).into_iter().enumerate().map(|(i, sum)| {
            let value = sum * (0.1f32 * step(i) / 3.0);
            (value.round_ties_even() + 90.0).clamp(0.0, 255.0) as u8
        });
        assert_eq!(got[0].ty.shape, sums[0].ty.shape);
        assert_eq!(got[0].to_vec::<u8>(), Some(wanted.collect::<Vec<u8>>()), "kernel {kernel}");
    }
}

/// Words, positions and segments are added, normalized, and the mask is counted.
#[test]
fn embedding_and_normalization() {
    let ids = Tensor::new([1, 2], &[2i32, 0]);
    let segments = Tensor::new([1, 2], &[0i32, 1]);
    let (words, places, kinds) = (data(&[3, 4], 1), data(&[2, 4], 2), data(&[2, 4], 3));
    let (gamma, beta) = (data(&[4], 4), data(&[4], 5));
    let mask = Tensor::new([1, 2], &[1i32, 0]);
    let inputs = [&ids, &segments, &words, &places, &kinds, &gamma, &beta, &mask].map(|t| Some(t.clone()));
    let got = run("com.microsoft", "EmbedLayerNormalization", &[("epsilon", Attr::Float(1e-5))], &inputs, 3);
    let [words, places, kinds, gamma, beta] = [&words, &places, &kinds, &gamma, &beta].map(floats);
    let sum: Vec<f32> =
        (0..8).map(|i| words[[2, 0][i / 4] * 4 + i % 4] + places[i] + kinds[i / 4 * 4 + i % 4]).collect();
    close(&floats(&got[2]), &sum);
    assert_eq!(got[1].to_vec::<i32>(), Some(vec![1]));
    close(&floats(&got[0]), &rows_of_four_normalized(&sum, &gamma, &beta));
}
