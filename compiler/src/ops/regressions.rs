//! Faults that random graphs found, each as its smallest graph; the results are those of ONNX's
//! reference implementation or of ONNX Runtime.

use super::older::{floats, fold};
use crate::base::{DType, Tensor, TensorType};
use crate::graph::Attr;

fn text(text: &str) -> Attr {
    Attr::Str(text.into())
}

#[test]
fn cubic_samples_reach_over_the_border_only_from_outside() {
    let x = Tensor::new([1, 1, 2, 2], &[1f32, -2.0, 4.0, 8.0]);
    let grid = Tensor::new([1, 1, 3, 2], &[-0.75f32, -0.75, -2.0, 0.0, 0.5, 1.5]);
    let attrs = [("mode", text("cubic")), ("padding_mode", text("border"))];
    let y = floats("GridSample", 20, &attrs, &[x, grid]);
    let want = [1.077_865_6, 2.5, 8.0];
    assert!(y.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-5), "{y:?}");
}

/// Just outside of the border the cubic still has neighbours inside, as in ONNX Runtime and PyTorch.
#[test]
fn cubic_samples_outside_of_the_border() {
    let x = Tensor::new([1, 1, 1, 4], &[1f32, -2.0, 4.0, 8.0]);
    let grid = Tensor::new([1, 1, 1, 2], &[-1.25f32, 0.0]);
    let attrs = [("mode", text("cubic")), ("padding_mode", text("border"))];
    assert_eq!(floats("GridSample", 20, &attrs, &[x, grid]), [1.0]);
}

#[test]
fn the_largest_element_of_a_row_may_be_negative() {
    let x = Tensor::new([3, 2], &[-1f32, -4.0, 2.0, -8.0, 0.0, -1.0]);
    let y = floats("ai.onnx.ml.Normalizer", 1, &[("norm", text("MAX"))], &[x]);
    assert_eq!(y, [1.0, 4.0, 1.0, -4.0, 0.0, -1.0]);
}

#[test]
fn local_responses_of_any_exponent() {
    let x = Tensor::new([1, 3, 1, 1], &[1f32, 2.0, -3.0]);
    let cases =
        [(0.75, [0.260_847_4, 0.262_398_6, -0.414_500_65]), (0.6, [0.341_278_7, 0.393_890_2, -0.615_806_7])];
    for (beta, want) in cases {
        let attrs = [("size", Attr::Int(3)), ("alpha", Attr::Float(3.0)), ("beta", Attr::Float(beta))];
        let y = floats("LRN", 13, &attrs, std::slice::from_ref(&x));
        assert!(y.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-6), "{beta}: {y:?}");
    }
}

#[test]
fn roots_of_integers_are_refused() {
    let x = Tensor { ty: TensorType::new(DType::I32, [1, 1, 2]), data: [4, 0, 0, 0, 9, 0, 0, 0].into() };
    assert!(fold("GlobalLpPool", 22, &[], &[x], 1).is_err());
}

#[test]
fn a_vector_of_integers_with_a_zero_point() {
    let (a, b) = (Tensor::new([2], &[3u8, 5]), Tensor::new([2, 3], &[1u8, 2, 3, 4, 5, 6]));
    let result = fold("MatMulInteger", 10, &[], &[a, b, Tensor::new([1], &[2u8])], 1).expect("a product");
    assert_eq!(result[0].to_i64s().expect("integers"), [13, 17, 21]);
}

#[test]
fn what_runs_over_no_steps_leaves_its_state() {
    let one = |v: f32| Tensor::new([1, 1, 1], &[v]);
    let (x, weights, bias) =
        (Tensor::new([0, 1, 1], &Vec::<f32>::new()), one(1.0), Tensor::new([1, 2], &[0f32; 2]));
    let inputs = [x, weights.clone(), weights, bias, Tensor::new([1], &[0i32]), one(0.5)];
    let result = fold("RNN", 14, &[("hidden_size", Attr::Int(1))], &inputs, 2).expect("a state");
    assert_eq!(result[1].to_vec::<f32>().expect("f32"), [0.5]);
}

#[test]
fn a_picture_resized_to_nothing() {
    let (x, none) = (Tensor::new([1, 1, 2, 2], &[1f32; 4]), Tensor::new([0], &Vec::<f32>::new()));
    let scales = Tensor::new([4], &[1f32, 1.0, 1e-3, 1.0]);
    let result = fold("Resize", 13, &[], &[x, none, scales], 1).expect("an empty picture");
    assert_eq!(result[0].ty.shape, [1, 1, 0, 2]);
}

/// Converters write `23.0f32 / 30.0` as the scale, whose exact product with 30 is just under 23.
#[test]
fn lengths_of_what_is_resized_are_products_of_floats() {
    for (length, scale, want) in [(30, 0.766_666_65_f32, 23), (17, 1.823_529_4, 31), (31, 0.645_161_3, 20)] {
        let x = Tensor::new([1, 1, 1, length], &vec![1f32; length]);
        let none = Tensor::new([0], &Vec::<f32>::new());
        let scales = Tensor::new([4], &[1f32, 1.0, 1.0, scale]);
        let result = fold("Resize", 13, &[], &[x, none, scales], 1).expect("a picture");
        assert_eq!(result[0].ty.shape, [1, 1, 1, want]);
    }
}

#[test]
fn zero_points_must_fit() {
    let (a, b) = (Tensor::new([2, 1], &[1u8; 2]), Tensor::new([1, 3], &[1u8; 3]));
    let zeros = |a_zero: Tensor| fold("MatMulInteger", 10, &[], &[a.clone(), b.clone(), a_zero], 1);
    assert!(zeros(Tensor::new([2, 1], &[1u8, 2])).is_ok());
    assert!(zeros(Tensor::new([1, 2], &[1u8, 2])).is_err());
    assert!(zeros(Tensor::new([3], &[1u8, 2, 3])).is_err());
}

#[test]
fn scales_are_numbers() {
    let x = Tensor::new([2], &[1f32, 2.0]);
    let scaled = |scale: f32| fold("QuantizeLinear", 13, &[], &[x.clone(), Tensor::scalar(scale)], 1);
    assert!(scaled(0.5).is_ok());
    for scale in [f32::INFINITY, f32::NAN] {
        let error = scaled(scale).expect_err("no number").to_string();
        assert!(error.contains("the scale of input 1") && error.contains("-10000"), "{error}");
    }
}

#[test]
fn averages_of_truth_values_are_refused() {
    let x = Tensor { ty: TensorType::new(DType::Bool, [1, 1, 2]), data: [1, 0].into() };
    assert!(fold("GlobalAveragePool", 1, &[], &[x], 1).is_err());
}

#[test]
fn regions_between_points_are_floats() {
    let x = Tensor::new([1, 1, 2, 2], &[1f32; 4]);
    let (rois, batch) = (Tensor::new([1, 4], &[0i64, 0, 1, 1]), Tensor::new([1], &[0i64]));
    assert!(fold("RoiAlign", 16, &[], &[x, rois, batch], 1).is_err());
}

/// Without probabilities the second column is the decision, which is positive for the first class.
#[test]
fn two_classes_of_support_vectors() {
    let floats = |values: &[f32]| Attr::Floats(values.to_vec());
    let attrs = [
        ("classlabels_ints", Attr::Ints(vec![5, 7])),
        ("coefficients", floats(&[1.0, 0.5, -1.5])),
        ("kernel_params", floats(&[0.5, 0.0, 3.0])),
        ("rho", floats(&[0.25])),
        ("support_vectors", floats(&[1.0, 0.0, 0.0, 1.0, 0.5, 0.5])),
        ("vectors_per_class", Attr::Ints(vec![2, 1])),
    ];
    let x = Tensor::new([3, 2], &[1f32, 2.0, 3.0, -1.0, -2.0, 0.5]);
    let run = |transform: &str| {
        let attrs = [&attrs[..], &[("post_transform", text(transform))]].concat();
        let result =
            fold("ai.onnx.ml.SVMClassifier", 1, &attrs, std::slice::from_ref(&x), 2).expect("scores");
        (result[0].to_i64s().expect("labels"), result[1].to_vec::<f32>().expect("scores"))
    };
    let (labels, scores) = run("NONE");
    assert_eq!((labels, scores), (vec![7, 5, 7], vec![0.0, 0.0, -1.25, 1.25, 0.375, -0.375]));
    let scores = run("LOGISTIC").1;
    let want = [0.5, 0.5, 0.222_700_12, 0.777_299_9, 0.592_666_6, 0.407_333_37];
    assert!(scores.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-6), "{scores:?}");
    assert_eq!(run("SOFTMAX").1[2..4], [-0.25, 1.25]);
}
