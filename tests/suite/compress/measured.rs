//! Models whose data decide sizes: what is observed, and compared, is as large as each sample makes it.

use super::{decode, fixed, floats};
use crate::support::onnx::{int, model, node, with};
use lmc::base::Tensor;
use lmc::build::Silent;
use lmc::compress::observe::{Observed, Sample};
use lmc::compress::onnx::Onnx;
use lmc::compress::quantize::{Method, quantize};

/// Two products of those rows of `x` whose first element is positive.
fn net() -> Onnx {
    let tensor = |shape: &[usize], seed| Tensor::new(shape, &floats(shape.iter().product(), seed));
    let nodes = vec![
        node("Gather", &["x", "first"], "f"),
        node("Greater", &["f", "zero"], "c"),
        with(node("Compress", &["x", "c"], "k"), [int("axis", 0)]),
        node("MatMul", &["k", "w"], "m"),
        node("Relu", &["m"], "r"),
        node("MatMul", &["r", "v"], "y"),
    ];
    let nodes = nodes.into_iter().map(|n| if n.op_type == "Gather" { with(n, [int("axis", 1)]) } else { n });
    let constants = [
        ("first", Tensor::new([], &[0i64])),
        ("zero", Tensor::new([], &[0.0f32])),
        ("w", tensor(&[4, 8], 1)),
        ("v", tensor(&[8, 3], 2)),
    ];
    decode(&model(nodes.collect(), &[8, 4], &[-1, 3], &constants))
}

/// Rows, and those that the model keeps.
fn sample(seed: u32) -> (Sample, Vec<f32>) {
    let rows = floats(32, seed);
    let kept = rows.chunks(4).filter(|row| row[0] > 0.0).flatten().copied().collect();
    (vec![Tensor::new([8, 4], &rows)], kept)
}

#[test]
fn values_are_as_large_as_the_sample_makes_them() {
    let mut observed = Observed::new(&net(), &["k", "m", "y"].map(String::from)).expect("a model");
    let mut sizes = Vec::new();
    for seed in [3, 4, 5, 6] {
        let (sample, kept) = sample(seed);
        let values = observed.run(&sample).expect("values");
        assert_eq!(values["k"].to_vec::<f32>(), Some(kept.clone()));
        let rows = kept.len() / 4;
        assert_eq!(
            (values["m"].ty.shape.to_vec(), values["y"].ty.shape.to_vec()),
            (vec![rows, 8], vec![rows, 3])
        );
        sizes.push(rows);
    }
    sizes.dedup();
    assert!(sizes.len() > 1, "all samples keep {sizes:?} rows");
}

#[test]
fn products_of_what_data_choose_are_quantized() {
    let samples: Vec<Sample> = (3..9).map(|seed| sample(seed).0).collect();
    let made = quantize(&net(), &samples, &fixed(Method::MinMax), &Silent).expect("a quantized model");
    assert!(made.onnx.nodes.iter().any(|n| n.op() == "QuantizeLinear"));
    assert!(made.report.worst() > Some(0.99), "{:?}", made.report.cosine);
}
