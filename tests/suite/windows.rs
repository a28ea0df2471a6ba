//! Windows over images of any height and width: convolutions of bytes, whose padding is a zero point, and averages,
//! which count what lies inside.

use crate::sizes::{built, check, decode, floats};
use crate::support::onnx::{int, ints, model, node, text, with};
use lmc::base::{DType, Tensor, TensorType};
use lmc::target::resolve;
use tract_onnx::pb;

const CHANNELS: usize = 8;

/// The numbers as elements of eight bits.
fn bytes(dtype: DType, shape: &[usize], seed: usize) -> Tensor {
    let data: Vec<u8> =
        (0..shape.iter().product()).map(|i: usize| ((i * 37 + seed * 11) % 251) as u8).collect();
    Tensor { ty: TensorType::new(dtype, shape), data: data.into() }
}

fn byte(dtype: DType, value: u8) -> Tensor {
    Tensor { ty: TensorType::new(dtype, []), data: [value].into() }
}

/// What the nodes make of `q`, bytes whose zero point is 77, for several heights and widths; then `y` of it.
fn check_of_bytes(conv: pb::NodeProto, weights: (DType, Tensor), last: pb::NodeProto) {
    let nodes = vec![node("QuantizeLinear", &["x", "step", "zero"], "q"), conv, last];
    let constants = [
        ("step", Tensor::scalar(0.01f32)),
        ("zero", byte(DType::U8, 77)),
        ("w", weights.1),
        ("w_step", Tensor::scalar(0.01f32)),
        ("w_zero", byte(weights.0, if weights.0 == DType::U8 { 131 } else { 0 })),
        ("y_step", Tensor::scalar(0.2f32)),
        ("y_zero", byte(DType::U8, 100)),
    ];
    check_sizes(&model(nodes, &[1, CHANNELS as i64, -2, -1], &[1, CHANNELS as i64, -2, -1], &constants));
}

fn check_sizes(proto: &pb::ModelProto) {
    let sizes = [[6, 20], [3, 7], [6, 3], [4, 13]];
    let cases: Vec<Vec<Tensor>> = sizes.iter().map(|s| vec![floats(&[1, CHANNELS, s[0], s[1]], 5)]).collect();
    check(proto, &[("batch", 6), ("length", 20)], &cases);
}

#[test]
fn bytes_around_which_lies_their_zero_point() {
    let same = |stride| vec![ints("pads", &[1; 4]), ints("strides", &[stride; 2])];
    let far = vec![ints("pads", &[2; 4]), ints("dilations", &[2; 2])];
    let cases = [
        (DType::I8, 1, same(1)),
        (DType::I8, 1, same(2)),
        (DType::I8, 2, same(1)),
        (DType::I8, CHANNELS, same(1)),
        (DType::U8, 1, same(1)),
        (DType::I8, 1, far),
    ];
    for (dtype, groups, attributes) in cases {
        let inputs = ["q", "step", "zero", "w", "w_step", "w_zero", "y_step", "y_zero"];
        let mut conv = node("QLinearConv", &inputs, "c");
        conv.attribute = attributes;
        conv.attribute.push(int("group", groups as i64));
        let weights = (dtype, bytes(dtype, &[CHANNELS, CHANNELS / groups, 3, 3], groups));
        check_of_bytes(conv, weights, node("DequantizeLinear", &["c", "y_step", "y_zero"], "y"));
    }
}

#[test]
fn exact_sums_of_bytes_around_which_lies_their_zero_point() {
    let conv = with(node("ConvInteger", &["q", "w", "zero"], "c"), [ints("pads", &[1, 0, 1, 2])]);
    let weights = (DType::I8, bytes(DType::I8, &[CHANNELS, CHANNELS, 3, 3], 3));
    check_of_bytes(conv, weights, with(node("Cast", &["c"], "y"), [int("to", 1)]));
}

/// TensorFlow's padding: how much of it lies before the data hangs on what a stride leaves of the size.
#[test]
fn padding_that_both_sides_share() {
    let ways = [
        (3, 2, "SAME_UPPER"),
        (5, 2, "SAME_UPPER"),
        (4, 2, "SAME_LOWER"),
        (3, 3, "SAME_UPPER"),
        (7, 4, "SAME_LOWER"),
    ];
    for (kernel, stride, way) in ways {
        let attributes = || [text("auto_pad", way), ints("strides", &[stride; 2])];
        let shape = [CHANNELS, CHANNELS, kernel, kernel];
        let conv = with(node("Conv", &["x", "w"], "y"), attributes());
        let dims = [1, CHANNELS as i64, -2, -1];
        check_sizes(&model(vec![conv], &dims, &dims, &[("w", floats(&shape, 3))]));
        let conv = with(node("ConvInteger", &["q", "w", "zero"], "c"), attributes());
        let weights = (DType::I8, bytes(DType::I8, &shape, kernel));
        check_of_bytes(conv, weights, with(node("Cast", &["c"], "y"), [int("to", 1)]));
    }
}

/// A zero point that data decide frames what moves as well.
#[test]
fn bytes_around_which_lies_a_computed_zero_point() {
    let nodes = vec![
        pb::NodeProto {
            output: ["q", "s", "z"].map(String::from).to_vec(),
            ..node("DynamicQuantizeLinear", &["x"], "q")
        },
        with(
            node("ConvInteger", &["q", "w", "z"], "c"),
            [text("auto_pad", "SAME_UPPER"), ints("strides", &[2; 2])],
        ),
        with(node("Cast", &["c"], "y"), [int("to", 1)]),
    ];
    let dims = [1, CHANNELS as i64, -2, -1];
    let weights = bytes(DType::I8, &[CHANNELS, CHANNELS, 3, 3], 3);
    check_sizes(&model(nodes, &dims, &dims, &[("w", weights)]));
}

/// Whether an element is repeated, since it is the only one, hangs on the size.
#[test]
fn few_points_are_enlarged_like_many() {
    let nodes = vec![
        node("Conv", &["x", "w"], "c"),
        with(
            node("Resize", &["c", "", "scales"], "y"),
            [text("mode", "linear"), text("coordinate_transformation_mode", "align_corners")],
        ),
    ];
    let dims = [1, CHANNELS as i64, -2, -1];
    let constants =
        [("w", floats(&[CHANNELS, CHANNELS, 3, 3], 3)), ("scales", Tensor::new([4], &[1f32, 1.0, 2.0, 2.0]))];
    check_sizes(&model(nodes, &dims, &dims, &constants));
}

/// Passes quantize before elements are picked: what they have made is resized by its sizes, too.
#[test]
fn bytes_are_resized_where_floats_were() {
    let nearest = [
        text("mode", "nearest"),
        text("coordinate_transformation_mode", "asymmetric"),
        text("nearest_mode", "floor"),
    ];
    let nodes = vec![
        with(node("MaxPool", &["x"], "p"), [ints("kernel_shape", &[3; 2])]),
        node("Shape", &["p"], "sizes"),
        with(node("Resize", &["x", "", "", "sizes"], "r"), nearest),
        with(node("Concat", &["r", "p"], "c"), [int("axis", 1)]),
        node("QuantizeLinear", &["c", "step", "zero"], "q"),
        node("DequantizeLinear", &["q", "step", "zero"], "y"),
    ];
    let channels = CHANNELS as i64;
    let constants = [("step", Tensor::scalar(0.01f32)), ("zero", byte(DType::U8, 77))];
    check_sizes(&model(nodes, &[1, channels, -2, -1], &[1, 2 * channels, -2, -1], &constants));
}

/// What lies beyond an image is one of its points, also where it has fewer than lie beyond.
#[test]
fn points_of_the_image_beyond_its_sides() {
    for (mode, sides) in
        [("reflect", [1, 1]), ("reflect", [3, 2]), ("edge", [2, 3]), ("wrap", [0, 2]), ("wrap", [3, 1])]
    {
        let pad = with(node("Pad", &["x", "sides"], "y"), [text("mode", mode)]);
        let dims = [1, CHANNELS as i64, -2, -1];
        let sides = [0, 0, sides[0], sides[1], 0, 0, sides[1], sides[0]].map(i64::from);
        let mut proto = model(vec![pad], &dims, &dims, &[("sides", Tensor::new([8], &sides))]);
        proto.opset_import[0].version = 19;
        let sizes = [[6, 20], [1, 1], [2, 3], [5, 2], [3, 19]];
        let cases: Vec<Vec<Tensor>> =
            sizes.iter().map(|s| vec![floats(&[1, CHANNELS, s[0], s[1]], 5)]).collect();
        check(&proto, &[("batch", 6), ("length", 20)], &cases);
    }
}

/// Averages count what lies within the image, and of what rounding up adds nothing.
#[test]
fn averages_of_what_lies_inside() {
    let kernel = || ints("kernel_shape", &[3; 2]);
    let cases = [
        vec![kernel(), ints("pads", &[1; 4])],
        vec![kernel(), ints("pads", &[1; 4]), ints("strides", &[2; 2])],
        vec![kernel(), ints("strides", &[2; 2]), int("ceil_mode", 1)],
        vec![kernel(), ints("pads", &[1; 4]), int("count_include_pad", 1)],
        vec![kernel(), text("auto_pad", "SAME_UPPER")],
    ];
    for attributes in cases {
        let mut pool = node("AveragePool", &["x"], "y");
        pool.attribute = attributes;
        let mut proto = model(vec![pool], &[1, CHANNELS as i64, -2, -1], &[1, CHANNELS as i64, -2, -1], &[]);
        proto.opset_import[0].version = 19;
        check_sizes(&proto);
    }
}

/// Windows that begin at a place which the size decides: the data are padded to their stride.
#[test]
fn windows_placed_by_the_size() {
    let pool = with(
        node("AveragePool", &["x"], "y"),
        [ints("kernel_shape", &[3; 2]), ints("strides", &[2; 2]), text("auto_pad", "SAME_UPPER")],
    );
    let proto = model(vec![pool], &[1, CHANNELS as i64, -2, -1], &[1, CHANNELS as i64, -2, -1], &[]);
    let cases: Vec<Vec<Tensor>> =
        [[6, 20], [4, 8], [2, 6]].iter().map(|s| vec![floats(&[1, CHANNELS, s[0], s[1]], 5)]).collect();
    check(&proto, &[("batch", 6), ("length", 20)], &cases);
}

/// Whether an image of a fixed size is larger than what it is made of hangs on sizes: what is behind it stays there.
#[test]
fn points_of_images_of_a_fixed_size() {
    let nodes = vec![
        with(node("Resize", &["x", "", "", "sizes"], "r"), [text("mode", "linear")]),
        node("Conv", &["r", "w"], "y"),
    ];
    let channels = CHANNELS as i64;
    let weights = floats(&[2, CHANNELS, 1, 1], 3);
    let constants = [("sizes", Tensor::new([4], &[1, channels, 5, 9])), ("w", weights)];
    check_sizes(&model(nodes, &[1, channels, -2, -1], &[1, 2, 5, 9], &constants));
}

/// Maxima of bytes are taken before they become floats: what passes have made is of any size, too.
#[test]
fn averages_of_maxima_of_bytes() {
    let windows =
        |stride: i64| [ints("kernel_shape", &[3; 2]), ints("pads", &[1; 4]), ints("strides", &[stride; 2])];
    let maxima = with(node("MaxPool", &["d"], "m"), windows(1));
    let averages = with(node("AveragePool", &["m"], "a"), windows(2));
    let nodes = vec![
        node("QuantizeLinear", &["x", "step", "zero"], "q"),
        node("DequantizeLinear", &["q", "step", "zero"], "d"),
        maxima,
        averages,
        node("QuantizeLinear", &["a", "y_step", "zero"], "r"),
        node("DequantizeLinear", &["r", "y_step", "zero"], "y"),
    ];
    let constants = [
        ("step", Tensor::scalar(0.01f32)),
        ("zero", byte(DType::U8, 77)),
        ("y_step", Tensor::scalar(0.013f32)),
    ];
    check_sizes(&model(nodes, &[1, CHANNELS as i64, -2, -1], &[1, CHANNELS as i64, -2, -1], &constants));
}

/// `(height - 2) * (width - 2)` elements in a row, and as many of another stride.
#[test]
fn what_windows_leave_is_flattened() {
    for stride in [1, 2] {
        let conv = with(node("Conv", &["x", "w"], "c"), [ints("strides", &[stride; 2])]);
        let again = node("Conv", &["c", "w"], "e");
        let nodes = vec![conv, again, node("Reshape", &["e", "flat"], "f"), node("Softmax", &["f"], "y")];
        let constants =
            [("w", floats(&[CHANNELS, CHANNELS, 3, 3], 3)), ("flat", Tensor::new([3], &[0i64, 0, -1]))];
        let proto = model(nodes, &[1, CHANNELS as i64, -2, -1], &[1, CHANNELS as i64, -1], &constants);
        let sizes = [[12, 20], [9, 11], [7, 20], [12, 7]];
        let cases: Vec<Vec<Tensor>> =
            sizes.iter().map(|s| vec![floats(&[1, CHANNELS, s[0], s[1]], 5)]).collect();
        check(&proto, &[("batch", 12), ("length", 20)], &cases);
    }
}

/// Windows whose padding depends on the size, beside others over the same images whose padding lies in memory, and
/// windows that reach nowhere outside.
#[test]
fn padding_that_sizes_decide_is_tested_beside_other_windows() {
    let same = [text("auto_pad", "SAME_UPPER"), ints("strides", &[2; 2])];
    let padded = [ints("pads", &[1; 4]), ints("strides", &[2; 2])];
    let constants =
        [("w", floats(&[4, 3, 7, 7], 3)), ("v", floats(&[4, 3, 3, 3], 4)), ("p", floats(&[4, 3, 1, 1], 5))];
    let first = || vec![node("Relu", &["x"], "r"), with(node("Conv", &["r", "w"], "a"), same.clone())];
    let beside = with(node("Conv", &["r", "v"], "b"), padded);
    let point = with(node("Conv", &["r", "p"], "b"), [ints("strides", &[2; 2])]);
    let cases: Vec<Vec<Tensor>> = [[9, 7], [6, 9], [1, 2], [8, 1], [5, 8]]
        .iter()
        .map(|s| vec![floats(&[1, 3, s[0], s[1]], 5)])
        .collect();
    for other in [beside, point] {
        let nodes = [first(), vec![other, node("Add", &["a", "b"], "y")]].concat();
        let proto = model(nodes, &[1, 3, -2, -1], &[1, 4, -2, -1], &constants);
        check(&proto, &[("batch", 9), ("length", 9)], &cases);
    }
}

/// Windows of several kinds over the same images, and parts of one: padding lies in memory, where nothing is tested.
#[test]
fn padding_of_floats_lies_in_memory() {
    let conv = |from: &str, weights: &str, to: &str, pads: [i64; 4], more: Vec<pb::AttributeProto>| {
        let mut conv = with(node("Conv", &[from, weights], to), [ints("pads", &pads)]);
        conv.attribute.extend(more);
        conv
    };
    let pool = [ints("kernel_shape", &[3; 2]), ints("strides", &[2; 2]), ints("pads", &[1; 4])];
    let nodes = vec![
        conv("x", "w", "a", [1; 4], vec![]),
        node("Relu", &["a"], "b"),
        conv("b", "w", "c", [0, 1, 2, 1], vec![ints("strides", &[2; 2])]),
        conv("b", "d", "e", [2; 4], vec![ints("strides", &[2; 2]), int("group", CHANNELS as i64)]),
        with(node("MaxPool", &["b"], "m"), pool),
        with(node("Concat", &["c", "e", "m"], "t"), [int("axis", 1)]),
        conv("t", "v", "f", [2; 4], vec![ints("dilations", &[2; 2])]),
        conv("f", "p", "g", [0; 4], vec![]),
        node("Add", &["g", "c"], "y"),
    ];
    let n = CHANNELS;
    // Small ones: sums in another order differ by little.
    let weights = |shape: &[usize], seed: u64| {
        let all = floats(shape, seed).to_vec::<f32>().expect("floats");
        Tensor::new(shape, &all.iter().map(|x| x / 16.0).collect::<Vec<f32>>())
    };
    let constants = [
        ("w", weights(&[n, n, 3, 3], 3)),
        ("d", weights(&[n, 1, 5, 5], 4)),
        ("v", weights(&[n, 3 * n, 3, 3], 5)),
        ("p", weights(&[n, n, 1, 1], 6)),
    ];
    let proto = model(nodes, &[1, n as i64, -2, -1], &[1, n as i64, -2, -1], &constants);
    let sizes = [[16, 20], [3, 7], [15, 3], [4, 13], [9, 19]];
    let cases: Vec<Vec<Tensor>> = sizes.iter().map(|s| vec![floats(&[1, n, s[0], s[1]], 5)]).collect();
    let bounds = [("batch", 16), ("length", 20)];
    check(&proto, &bounds, &cases);
    let program = built(&decode(&proto), &bounds, &resolve("x86_64", "generic").expect("known")).program;
    for kernel in program.kernels.iter().filter(|k| !k.name.contains("pack") && !k.name.contains("sizes")) {
        assert!(!kernel.to_string().contains("lt_u"), "{kernel}");
    }
}

/// Many channels in windows of three points, along two axes and along one: filtered, some rows or columns of tiles at a
/// time, of which those behind the image are left out.
#[test]
fn windows_over_many_channels_are_filtered() {
    const MANY: usize = 64;
    let channels = MANY as i64;
    let weights = |shape: &[usize], seed: u64| {
        let all = floats(shape, seed).to_vec::<f32>().expect("floats");
        Tensor::new(shape, &all.iter().map(|x| x / 32.0).collect::<Vec<f32>>())
    };
    for (kernel, pads) in [([3, 3], [1, 1, 1, 1]), ([1, 3], [0, 1, 0, 1]), ([3, 3], [0, 2, 0, 0])] {
        let conv = |from: &[&str], to: &str| with(node("Conv", from, to), [ints("pads", &pads)]);
        let nodes = vec![conv(&["x", "v"], "a"), node("Relu", &["a"], "b"), conv(&["b", "w"], "y")];
        let constants = [("v", 3), ("w", 4)]
            .map(|(name, seed)| (name, weights(&[MANY, MANY, kernel[0], kernel[1]], seed)));
        let proto = model(nodes, &[1, channels, -2, -1], &[1, channels, -2, -1], &constants);
        let sizes = [[40, 70], [8, 9], [40, 7], [5, 70], [23, 34]];
        let cases: Vec<Vec<Tensor>> = sizes.iter().map(|s| vec![floats(&[1, MANY, s[0], s[1]], 5)]).collect();
        let bounds = [("batch", 40), ("length", 70)];
        check(&proto, &bounds, &cases);
        let target = resolve("x86_64", "x86-64-v3").expect("known");
        let program = built(&decode(&proto), &bounds, &target).program;
        let filtered = |name: &str| program.kernels.iter().any(|k| k.name.contains(name) && has_between(k));
        assert!(kernel == [1, 3] || filtered("Conv"), "{kernel:?} {pads:?}");
    }
}

/// Images of a few points have no room for the tiles of filtered windows around them: their padding lies in memory all
/// the same.
#[test]
fn padding_of_small_images_lies_in_memory() {
    let n = 2 * CHANNELS;
    let conv = |from: &str, weights: &str, to: &str| {
        with(node("Conv", &[from, weights], to), [ints("pads", &[1; 4])])
    };
    let nodes = vec![conv("x", "w", "a"), node("Relu", &["a"], "b"), conv("b", "w", "y")];
    let shape = [1, n as i64, -2, -1];
    let proto = model(nodes, &shape, &shape, &[("w", floats(&[n, n, 3, 3], 3))]);
    let cases: Vec<Vec<Tensor>> =
        [[3, 3], [1, 2], [2, 3], [1, 1]].iter().map(|s| vec![floats(&[1, n, s[0], s[1]], 5)]).collect();
    let bounds = [("batch", 3), ("length", 3)];
    check(&proto, &bounds, &cases);
    let program = built(&decode(&proto), &bounds, &resolve("x86_64", "generic").expect("known")).program;
    for kernel in program.kernels.iter().filter(|k| k.name.contains("Conv")) {
        assert!(!kernel.to_string().contains("lt_u"), "{kernel}");
    }
}

/// Whether a kernel has memory of its own between transforms.
fn has_between(kernel: &lmc::tile::Kernel) -> bool {
    kernel.params.iter().any(|p| p.name == "between")
}
