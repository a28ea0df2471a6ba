//! Tests of what ONNX's own cases don't have: meanings of old opsets, and models that are wrong.

use super::{NodeBuilder, Operator, Pending, find, row_center};
use crate::base::{DType, Tensor};
use crate::error::Result;
use crate::graph::{Attr, Attrs, Graph};

/// The outputs of one node on constants, which is folded; other domains stand before the name.
pub(super) fn fold(
    op: &str,
    opset: i64,
    attrs: &[(&str, Attr)],
    inputs: &[Tensor],
    outputs: usize,
) -> Result<Vec<Tensor>> {
    let inputs: Vec<_> = inputs.iter().cloned().map(Some).collect();
    fold_given(op, opset, attrs, &inputs, outputs)
}

/// The same of inputs of which some are omitted.
pub(super) fn fold_given(
    op: &str,
    opset: i64,
    attrs: &[(&str, Attr)],
    inputs: &[Option<Tensor>],
    outputs: usize,
) -> Result<Vec<Tensor>> {
    let (domain, name) = op.rsplit_once('.').unwrap_or(("", op));
    fold_row(find(domain, name).expect("a row"), opset, attrs, inputs, outputs)
}

/// The same of a row.
fn fold_row(
    op: &'static Operator,
    opset: i64,
    attrs: &[(&str, Attr)],
    inputs: &[Option<Tensor>],
    outputs: usize,
) -> Result<Vec<Tensor>> {
    let mut graph = Graph::default();
    let mut builder = NodeBuilder::new(&mut graph, "n", opset);
    let given = inputs.iter().map(|t| t.clone().map(|t| builder.constant(t))).collect();
    let pending = Pending {
        op,
        opset,
        name: "n".into(),
        attrs: Attrs(attrs.iter().map(|(n, a)| (n.to_string(), a.clone())).collect()),
        inputs: given,
        outputs: (0..outputs).map(|i| Some(format!("y{i}"))).collect(),
    };
    let made = builder.add(pending)?;
    let constant = |v: Option<u32>| graph.value(v.expect("wanted")).constant.clone().expect("folded");
    Ok(made.into_iter().map(constant).collect())
}

/// The first output of one node on constants, which is of f32.
pub(super) fn floats(op: &str, opset: i64, attrs: &[(&str, Attr)], inputs: &[Tensor]) -> Vec<f32> {
    let result = fold(op, opset, attrs, inputs, 1).unwrap_or_else(|e| panic!("{op}: {e}"));
    result[0].to_vec::<f32>().expect("f32")
}

fn row(values: &[f32]) -> Tensor {
    Tensor::new([values.len()], values)
}

#[test]
fn the_documented_operator_computes() {
    let x = Tensor::new([2, 3], &[0f32, 1.0, 2.0, 5.0, 5.0, 8.0]);
    let y = fold_row(&row_center::ROWS[0], 1, &[], &[Some(x)], 1).expect("a result");
    assert_eq!(y[0].to_vec::<f32>().expect("f32"), [-1.0, 0.0, 1.0, -1.0, -1.0, 2.0]);
}

#[test]
fn before_opset_7_attributes_say_where_the_second_input_lies() {
    let a = Tensor::new([2, 3], &[0f32, 1.0, 2.0, 3.0, 4.0, 5.0]);
    let on = ("broadcast", Attr::Int(1));
    let along_rows =
        floats("Add", 6, &[on.clone(), ("axis", Attr::Int(0))], &[a.clone(), row(&[10.0, 20.0])]);
    assert_eq!(along_rows, [10.0, 11.0, 12.0, 23.0, 24.0, 25.0]);
    let suffix = floats("Mul", 1, std::slice::from_ref(&on), &[a.clone(), row(&[1.0, 2.0, 3.0])]);
    assert_eq!(suffix, [0.0, 2.0, 6.0, 3.0, 8.0, 15.0]);
    assert!(fold("Add", 6, &[on, ("axis", Attr::Int(1))], &[a.clone(), row(&[1.0, 2.0])], 1).is_err());
    let x = Tensor::new([1, 2, 2], &[-1f32, -2.0, -3.0, 4.0]);
    assert_eq!(floats("PRelu", 6, &[], &[x, row(&[10.0, 100.0])]), [-10.0, -20.0, -300.0, 4.0]);
}

#[test]
fn what_became_an_input_was_an_attribute() {
    let x = row(&[-2.0, 0.5, 3.0]);
    let limits = [("min", Attr::Float(-1.0)), ("max", Attr::Float(1.0))];
    assert_eq!(floats("Clip", 6, &limits, std::slice::from_ref(&x)), [-1.0, 0.5, 1.0]);
    assert_eq!(floats("ReduceSum", 11, &[("axes", Attr::Ints(vec![0]))], std::slice::from_ref(&x)), [1.5]);
    let pads = [("pads", Attr::Ints(vec![1, 0])), ("value", Attr::Float(7.0))];
    assert_eq!(floats("Pad", 2, &pads, std::slice::from_ref(&x)), [7.0, -2.0, 0.5, 3.0]);
    let range = [("starts", Attr::Ints(vec![1])), ("ends", Attr::Ints(vec![100]))];
    assert_eq!(floats("Slice", 1, &range, std::slice::from_ref(&x)), [0.5, 3.0]);
    let split = fold("Split", 2, &[("split", Attr::Ints(vec![1, 2]))], std::slice::from_ref(&x), 2).unwrap();
    assert_eq!(split[1].to_vec::<f32>().unwrap(), [0.5, 3.0]);
    let top = fold("TopK", 1, &[("k", Attr::Int(2))], std::slice::from_ref(&x), 2).unwrap();
    assert_eq!((top[0].to_vec::<f32>().unwrap(), top[1].to_i64s().unwrap()), (vec![3.0, 0.5], vec![2, 1]));
    let shaped =
        fold("Reshape", 1, &[("shape", Attr::Ints(vec![3, -1]))], std::slice::from_ref(&x), 1).unwrap();
    assert_eq!(shaped[0].ty.shape, [3, 1]);
    let cast = fold("Cast", 1, &[("to", Attr::Str("INT32".into()))], &[x], 1).unwrap();
    assert_eq!((cast[0].ty.dtype, cast[0].to_i64s().unwrap()), (DType::I32, vec![-2, 0, 3]));
}

#[test]
fn what_later_versions_left_out() {
    let x = Tensor::new([2, 2, 1], &[1f32, 2.0, 3.0, 6.0]);
    let point = |values: [f32; 2]| Tensor::new([2, 1], &values);
    let statistics = [point([2.0, 1.0]), point([0.5, 0.0]), point([1.0, 2.0]), point([4.0, 1.0])];
    let inputs = [std::slice::from_ref(&x), &statistics].concat();
    let attrs = [("spatial", Attr::Int(0)), ("epsilon", Attr::Float(0.0))];
    assert_eq!(floats("BatchNormalization", 7, &attrs, &inputs), [0.5, 0.0, 2.5, 4.0]);
    assert!(fold("BatchNormalization", 9, &attrs, &inputs, 1).is_err());
    let x = Tensor::new([1, 1, 1, 2], &[1f32, 2.0]);
    let scales = [("height_scale", Attr::Float(2.0)), ("width_scale", Attr::Float(1.5))];
    assert_eq!(floats("Upsample", 1, &scales, &[x]), [1.0, 1.0, 2.0, 1.0, 1.0, 2.0]);
}

/// A meaning that a later version changed: operator, opset, attributes, inputs, result. Where ONNX Runtime has the
/// version, the results are its own; otherwise they are computed from the text.
type Row = (&'static str, i64, Vec<(&'static str, Attr)>, Vec<Tensor>, Vec<f32>);

fn check(rows: Vec<Row>) {
    for (op, opset, attrs, inputs, want) in rows {
        let got = floats(op, opset, &attrs, &inputs);
        let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-3 * b.abs().max(1e-2);
        assert!(got.len() == want.len() && got.iter().zip(&want).all(near), "{op} of opset {opset}: {got:?}");
    }
}

fn plane(values: &[f32], h: usize, w: usize) -> Tensor {
    Tensor::new([1, 1, h, w], values)
}

#[test]
fn versions_that_normalize_in_another_way() {
    let (int, float) = (|v: i64| Attr::Int(v), |v: f32| Attr::Float(v));
    let x = Tensor::new([1, 2, 2], &[0f32, 1.0, 1.0, 0.0]);
    let spread = |a: f32, b: f32| {
        let sum = 2.0 * (a.exp() + b.exp());
        [a.exp() / sum, b.exp() / sum, b.exp() / sum, a.exp() / sum]
    };
    let image = Tensor::new([1, 2, 1, 2], &[1f32, 3.0, 2.0, 6.0]);
    let (two, ten) = (Tensor::new([2], &[1f32, 2.0]), Tensor::new([2], &[0f32, 10.0]));
    check(vec![
        // Before opset 13 all dimensions from the axis on are one, and the axis is 1.
        ("Softmax", 11, vec![], vec![x.clone()], spread(0.0, 1.0).into()),
        ("Hardmax", 1, vec![], vec![x.clone()], vec![0.0, 1.0, 0.0, 0.0]),
        ("Hardmax", 13, vec![], vec![x.clone()], vec![0.0, 1.0, 1.0, 0.0]),
        ("Selu", 1, vec![], vec![row(&[1.0])], vec![1.0507]),
        ("ThresholdedRelu", 1, vec![("alpha", float(2.0))], vec![row(&[1.5, 2.5])], vec![0.0, 2.5]),
        ("MeanVarianceNormalization", 1, vec![], vec![image.clone()], vec![-1.0, 1.0, -1.0, 1.0]),
        (
            "MeanVarianceNormalization",
            8,
            vec![("across_channels", int(1)), ("normalize_variance", int(0))],
            vec![image.clone()],
            vec![-2.0, 0.0, -1.0, 3.0],
        ),
        (
            "GroupNormalization",
            18,
            vec![("num_groups", int(2))],
            vec![image, two, ten],
            vec![-1.0, 1.0, 8.0, 12.0],
        ),
    ]);
}

#[test]
fn versions_whose_windows_differ() {
    let (int, float) = (|v: i64| Attr::Int(v), |v: f32| Attr::Float(v));
    let square = plane(&[3.0, 4.0, 0.0, 12.0], 2, 2);
    let counting = plane(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], 1, 6);
    let scales = |v: f32| Tensor::new([4], &[1.0, 1.0, 1.0, v]);
    let none = Tensor::new([0], &Vec::<f32>::new());
    let (kernel, pads) = (Attr::Ints(vec![1, 2]), Attr::Ints(vec![0, 1, 0, 0]));
    check(vec![
        ("GlobalLpPool", 1, vec![("p", float(2.0))], vec![square.clone()], vec![13.0]),
        ("GlobalLpPool", 2, vec![("p", int(1))], vec![square.clone()], vec![19.0]),
        (
            "LpPool",
            1,
            vec![("p", float(2.0)), ("kernel_shape", kernel.clone())],
            vec![square],
            vec![5.0, 12.0],
        ),
        // Padding never counted before it could.
        (
            "AveragePool",
            1,
            vec![("kernel_shape", kernel), ("pads", pads)],
            vec![plane(&[3.0, 5.0], 1, 2)],
            vec![3.0, 4.0],
        ),
        // Opset 10 knows no modes: upwards the element before, downwards the one after.
        ("Resize", 10, vec![], vec![counting.clone(), scales(0.4)], vec![0.0, 3.0]),
        (
            "Upsample",
            7,
            vec![("scales", Attr::Floats(vec![1.0, 1.0, 1.0, 1.5]))],
            vec![plane(&[1.0, 2.0], 1, 2)],
            vec![1.0, 1.0, 2.0],
        ),
        // 3.5 / 0.7 is 5 in f32: between two elements, where the first is taken.
        ("Resize", 13, vec![], vec![counting, none, scales(0.7)], vec![0.0, 2.0, 3.0, 4.0]),
    ]);
}

#[test]
fn versions_that_took_other_inputs() {
    let x = Tensor::new([1, 2, 2], &[0f32, 1.0, 1.0, 0.0]);
    let (two, ten) = (Tensor::new([2], &[1f32, 2.0]), Tensor::new([2], &[0f32, 10.0]));
    let (a, b) = (Tensor::new([1, 2], &[1f32, 2.0]), Tensor::new([2, 2], &[1f32, 0.0, 1.0, 1.0]));
    let (from, to) = (Tensor::new([1], &[-2i64]), Tensor::new([1], &[9i64]));
    check(vec![
        ("Concat", 1, vec![], vec![x.clone(), x], vec![0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0]),
        (
            "Gemm",
            6,
            vec![("broadcast", Attr::Int(1)), ("transB", Attr::Int(1))],
            vec![a, b, ten],
            vec![1.0, 13.0],
        ),
        ("Split", 1, vec![], vec![row(&[1.0, 2.0, 3.0]), row(&[3.0])], vec![1.0, 2.0, 3.0]),
        ("Tile", 1, vec![], vec![two, row(&[2.0]), row(&[0.0])], vec![1.0, 2.0, 1.0, 2.0]),
        ("DynamicSlice", 1, vec![], vec![row(&[1.0, 2.0, 3.0]), from, to], vec![2.0, 3.0]),
    ]);
}
