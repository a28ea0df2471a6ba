//! Weights: what several layers share, and what is rounded against samples.

use super::{NONE, agreement, decode, fixed, floats, known};
use crate::support::onnx::{model, node};
use lmc::base::{DType, Tensor};
use lmc::build::Silent;
use lmc::compress::observe::Sample;
use lmc::compress::onnx::Onnx;
use lmc::compress::quantize::{Data, Method, dynamic, quantize, weights_only};

/// Constants of integers of 8 bits with as many elements as a matrix.
fn matrices(onnx: &Onnx) -> usize {
    let tensors = onnx.initializers.iter().filter_map(|i| onnx.constant(&i.proto.name));
    tensors.filter(|t| t.ty.dtype == DType::I8 && t.ty.elems() >= 256).count()
}

/// The steps of a recurrence that was unrolled: the same weights and bias, on data of other ranges.
#[test]
fn layers_with_the_same_weights_share_them() {
    let step = |from: &str, to: &str| node("Gemm", &[from, "w", "b"], to);
    let nodes = vec![
        step("x", "a"),
        node("Tanh", &["a"], "s"),
        step("s", "c"),
        node("Tanh", &["c"], "t"),
        step("t", "y"),
    ];
    let constants = [("w", Tensor::new([16, 16], &floats(256, 1))), ("b", Tensor::new([16], &floats(16, 2)))];
    let onnx = decode(&model(nodes, &[4, 16], &[4, 16], &constants));
    let samples: Vec<Sample> = (0..2).map(|i| vec![Tensor::new([4, 16], &floats(64, 5 + i))]).collect();
    let made = quantize(&onnx, &samples, &fixed(Method::MinMax), &Silent).expect("quantized").onnx;
    assert_eq!(matrices(&made), 1);
    assert!(agreement(&onnx, &made, &samples) > 0.999);
    let made = dynamic(&onnx, &known(&onnx), &NONE).expect("quantized").onnx;
    assert_eq!(matrices(&made), 1);
    assert!(agreement(&onnx, &made, &samples) > 0.999);
}

/// Neighbours that are nearly equal: what one weight is rounded by, the next makes up for.
#[test]
fn stored_weights_are_rounded_against_samples() {
    let nodes = vec![node("MatMul", &["x", "w"], "y")];
    let weights: Vec<f32> = (0..32 * 16).map(|i| ((i * 31 + 7) % 97) as f32 / 97.0 - 0.4).collect();
    let onnx = decode(&model(nodes, &[64, 32], &[64, 16], &[("w", Tensor::new([32, 16], &weights))]));
    let sample = |seed| {
        let (base, noise) = (floats(64 * 8, seed), floats(64 * 32, seed + 50));
        let data: Vec<f32> = noise.iter().enumerate().map(|(i, n)| base[i / 4] + n / 16.0).collect();
        vec![Tensor::new([64, 32], &data)]
    };
    let (samples, unseen): (Vec<Sample>, Vec<Sample>) = ((0..4).map(sample).collect(), vec![sample(9)]);
    let data = Data { samples: &samples, observer: &Silent };
    let off = |made: &Onnx| 1.0 - agreement(&onnx, made, &unseen);
    let made = |dtype, data| weights_only(&onnx, dtype, &known(&onnx), data).expect("stored").onnx;
    for dtype in [DType::I8, DType::I4] {
        let (nearest, fitted) = (off(&made(dtype, &NONE)), off(&made(dtype, &data)));
        assert!(fitted < nearest * 0.7, "{dtype}: {fitted} of {nearest}");
    }
    let made = |data| dynamic(&onnx, &known(&onnx), data).expect("quantized").onnx;
    let (nearest, fitted) = (off(&made(&NONE)), off(&made(&data)));
    assert!(fitted < nearest, "dynamic: {fitted} of {nearest}");
}
