//! Weights: what several layers share, and what is rounded against samples.

use super::{NONE, agreement, decode, fixed, floats, known};
use crate::support::onnx::{int, ints, model, node, with};
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

/// Of the powers of a spectrum a logarithm is taken: they are summed in float, their weights stored as integers.
#[test]
fn logarithms_are_taken_of_floats() {
    let nodes = vec![
        node("MatMul", &["x", "w1"], "waves"),
        node("Mul", &["waves", "waves"], "powers"),
        node("MatMul", &["powers", "w2"], "bands"),
        node("Max", &["bands", "floor"], "most"),
        node("Log", &["most"], "loudness"),
        node("MatMul", &["loudness", "w3"], "y"),
    ];
    let bands: Vec<f32> = floats(32 * 16, 2).iter().map(|w| w.abs()).collect();
    // Waves are a thousand times as loud in some bands as in others.
    let waves = floats(16 * 32, 1).into_iter().enumerate().map(|(i, w)| if i % 32 < 4 { w * 1e3 } else { w });
    let constants = [
        ("w1", Tensor::new([16, 32], &waves.collect::<Vec<_>>())),
        (
            "w2",
            Tensor::new(
                [32, 16],
                &bands
                    .iter()
                    .enumerate()
                    .map(|(i, &w)| if i % 16 < 8 && i < 64 { 0.0 } else { w })
                    .collect::<Vec<_>>(),
            ),
        ),
        ("floor", Tensor::scalar(1e-6f32)),
        ("w3", Tensor::new([16, 16], &floats(256, 3))),
    ];
    let onnx = decode(&model(nodes, &[4, 16], &[4, 16], &constants));
    let samples: Vec<Sample> = (0..2).map(|i| vec![Tensor::new([4, 16], &floats(64, 5 + i))]).collect();
    let static_ = quantize(&onnx, &samples, &fixed(Method::MinMax), &Silent).expect("quantized").onnx;
    let dynamic = dynamic(&onnx, &known(&onnx), &NONE).expect("quantized").onnx;
    for made in [static_, dynamic] {
        assert_eq!(matrices(&made), 3);
        let reads = |node: &&lmc::compress::onnx::Node| {
            let data = node.op().ends_with("QuantizeLinear").then(|| node.input(0)).flatten();
            data.is_some_and(|n| ["x", "powers", "waves", "bands"].contains(&n))
        };
        assert_eq!(made.nodes.iter().filter(reads).count(), 0);
        assert!(
            made.nodes.iter().any(|n| n.op().ends_with("QuantizeLinear") && n.input(0) == Some("loudness"))
        );
        assert!(agreement(&onnx, &made, &samples) > 0.9995);
    }
}

/// Ranges of data are taken for products that multiply each element often: filters of single channels and what makes
/// few numbers stay in float, unless others read the same data; where nothing gains, what comes nearest is quantized.
#[test]
fn ranges_are_taken_where_that_gains_time() {
    let filter = |from: &str, to: &str| {
        with(node("Conv", &[from, "filter"], to), [int("group", 16), ints("pads", &[1, 1, 1, 1])])
    };
    let nodes = vec![
        node("Conv", &["x", "wide"], "a"),
        filter("a", "b"),
        node("Conv", &["b", "few"], "c"),
        node("Conv", &["c", "back"], "d"),
        filter("d", "e"),
        node("Conv", &["d", "wide"], "f"),
        node("Add", &["e", "f"], "y"),
    ];
    let tensor = |shape: [usize; 4], seed| Tensor::new(shape, &floats(shape.iter().product(), seed));
    let constants = [
        ("wide", tensor([16, 16, 1, 1], 1)),
        ("filter", tensor([16, 1, 3, 3], 2)),
        ("few", tensor([8, 16, 1, 1], 3)),
        ("back", tensor([16, 8, 1, 1], 4)),
        ("many", tensor([32, 16, 1, 1], 6)),
        ("fewer", tensor([16, 32, 1, 1], 7)),
    ];
    let shape = [1, 16, 4, 4];
    let made = |nodes| {
        let onnx = decode(&model(nodes, &shape, &shape, &constants));
        let made = dynamic(&onnx, &known(&onnx), &NONE).expect("quantized").onnx;
        let samples = [vec![Tensor::new([1usize, 16, 4, 4], &floats(256, 5))]];
        assert!(agreement(&onnx, &made, &samples) > 0.999);
        let taken = made.nodes.iter().filter(|n| n.op() == "DynamicQuantizeLinear");
        let of = taken.filter_map(|n| n.input(0).map(str::to_string)).collect::<Vec<_>>();
        (of, made.nodes.iter().filter(|n| n.op() == "ConvInteger").count())
    };
    assert_eq!(made(nodes), (["x", "c", "d"].map(String::from).to_vec(), 4));
    assert_eq!(made(vec![filter("x", "y")]), (vec!["x".to_string()], 1));
    let nodes = vec![node("Conv", &["x", "many"], "a"), node("Conv", &["a", "fewer"], "y")];
    assert_eq!(made(nodes), (vec!["x".to_string()], 1));
}

/// An embedding whose exchanged copy the last product multiplies by has that one's integers, and the scales of these.
#[test]
fn tables_have_the_integers_of_weights() {
    let (v, k) = (120, 32);
    let table = floats(v * k, 3);
    let exchanged: Vec<f32> = (0..v * k).map(|i| table[i % v * k + i / v]).collect();
    let nodes = vec![
        node("Mul", &["x", "far"], "places"),
        with(node("Cast", &["places"], "rows"), [int("to", 7)]),
        node("Gather", &["table", "rows"], "e"),
        node("MatMul", &["e", "weights"], "y"),
    ];
    let constants = [
        ("far", Tensor::scalar(100f32)),
        ("table", Tensor::new([v, k], &table)),
        ("weights", Tensor::new([k, v], &exchanged)),
    ];
    let onnx = decode(&model(nodes, &[6], &[6, v as i64], &constants));
    let samples = vec![vec![Tensor::new([6], &floats(6, 5))]];
    let data = Data { samples: &samples, observer: &Silent };
    let stored = |data| weights_only(&onnx, DType::I8, &known(&onnx), data).expect("stored").onnx;
    let dynamic = |data| dynamic(&onnx, &known(&onnx), data).expect("quantized").onnx;
    for made in [stored(&NONE), stored(&data), dynamic(&NONE), dynamic(&data)] {
        assert!(agreement(&onnx, &made, &samples) > 0.999);
        let tensors = made.initializers.iter().filter_map(|i| made.constant(&i.proto.name));
        let integers: Vec<Tensor> =
            tensors.filter(|t| t.ty.dtype == DType::I8 && t.ty.shape.len() == 2).collect();
        let [rows, columns] = &integers[..] else { panic!("{} matrices of integers", integers.len()) };
        let (rows, columns) = if rows.ty.shape == [v, k] { (rows, columns) } else { (columns, rows) };
        assert!((0..v * k).all(|i| rows.data[i] == columns.data[i % k * v + i / k]));
    }
}
