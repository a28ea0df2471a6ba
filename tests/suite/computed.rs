//! What is constant for each size, but differs between sizes: masks, positions divided by a length, padding.

use crate::lengths::lengths;
use crate::sizes::{agree, bounded, built, built_as, check, check_as, decode, floats};
use crate::support::onnx::{int, ints, model, node, text, with};
use lmc::base::{Tensor, abi};
use lmc::build::{Build, Silent};
use lmc::import::{Bindings, Sum};
use lmc::run::executor::Executor;
use lmc::run::load::Loaded;
use lmc::target::resolve;

/// The size of a dimension as an integer `n` and a float `f`.
fn length_of(dim: i64) -> (Vec<tract_onnx::pb::NodeProto>, Vec<(&'static str, Tensor)>) {
    let float = with(node("Cast", &["n"], "f"), [int("to", 1)]);
    let nodes = vec![node("Shape", &["x"], "shape"), node("Gather", &["shape", "dim"], "n"), float];
    (nodes, vec![("dim", Tensor::scalar(dim)), ("zero", Tensor::scalar(0i64)), ("one", Tensor::scalar(1i64))])
}

/// `x[b, i] + i / n`: no table holds the quotients.
#[test]
fn positions_are_divided_by_the_length() {
    let (mut nodes, constants) = length_of(1);
    let places = with(node("Cast", &["range"], "places"), [int("to", 1)]);
    nodes.extend([
        node("Range", &["zero", "n", "one"], "range"),
        places,
        node("Div", &["places", "f"], "parts"),
        node("Add", &["x", "parts"], "y"),
    ]);
    let cases = lengths(&[20, 1, 2, 7, 19], |n| vec![2, n]);
    check(&model(nodes, &[2, -1], &[2, -1], &constants), &[("length", 20)], &cases);
}

/// Distances from the last row to each, clamped: integers in a table as large as the size.
#[test]
fn distances_from_the_end() {
    let (mut nodes, constants) = length_of(0);
    let distances = with(node("Cast", &["near"], "distances"), [int("to", 1)]);
    nodes.extend([
        node("Range", &["zero", "n", "one"], "range"),
        node("Sub", &["n", "range"], "far"),
        node("Min", &["far", "most"], "near"),
        distances,
        node("Unsqueeze", &["distances", "last"], "column"),
        node("Mul", &["x", "column"], "y"),
    ]);
    let more = [("most", Tensor::scalar(6i64)), ("last", Tensor::new([1], &[1i64]))];
    let constants = [constants, more.to_vec()].concat();
    let cases = lengths(&[20, 1, 2, 7, 19], |n| vec![n, 3]);
    check(&model(nodes, &[-1, 3], &[-1, 3], &constants), &[("length", 20)], &cases);
}

/// Attention to what is not farther than half of the length.
#[test]
fn a_mask_depends_on_the_length() {
    let (mut nodes, constants) = length_of(0);
    nodes.extend([
        node("Div", &["n", "two"], "half"),
        node("Range", &["zero", "n", "one"], "range"),
        node("Unsqueeze", &["range", "last"], "column"),
        node("Sub", &["column", "range"], "distance"),
        node("Abs", &["distance"], "far"),
        node("LessOrEqual", &["far", "half"], "near"),
        node("Where", &["near", "x", "none"], "scores"),
        node("Softmax", &["scores"], "y"),
    ]);
    let more = [
        ("two", Tensor::scalar(2i64)),
        ("last", Tensor::new([1], &[1i64])),
        ("none", Tensor::scalar(-1e9f32)),
    ];
    let constants = [constants, more.to_vec()].concat();
    let cases = lengths(&[20, 2, 3, 7, 19], |n| vec![n, n]);
    check(&model(nodes, &[-1, -1], &[-1, -1], &constants), &[("length", 20)], &cases);
}

/// A table of positions as long as the input: stretched, as it is, or shrunk.
#[test]
fn a_table_is_resized_to_the_input() {
    for mode in ["linear", "cubic"] {
        let resize = with(node("Resize", &["table", "", "", "shape"], "positions"), [text("mode", mode)]);
        let nodes = vec![node("Shape", &["x"], "shape"), resize, node("Add", &["x", "positions"], "y")];
        let proto = model(nodes, &[1, 2, -2, -1], &[1, 2, -2, -1], &[("table", floats(&[1, 2, 4, 4], 3))]);
        let cases: Vec<Vec<Tensor>> = [(9, 12), (4, 4), (4, 7), (9, 4), (2, 3), (1, 1)]
            .map(|(h, w)| vec![floats(&[1, 2, h, w], 5)])
            .to_vec();
        check(&proto, &[("batch", 9), ("length", 12)], &cases);
    }
}

/// Attention to neighbours alone: short inputs are neighbours throughout.
#[test]
fn a_mask_that_is_all_true_for_small_sizes() {
    let (mut nodes, constants) = length_of(1);
    let float = with(node("Cast", &["both"], "y"), [int("to", 1)]);
    nodes.extend([
        node("Range", &["zero", "n", "one"], "columns"),
        node("Unsqueeze", &["columns", "last"], "rows"),
        node("Sub", &["columns", "rows"], "apart"),
        node("Abs", &["apart"], "distance"),
        node("LessOrEqual", &["distance", "most"], "near"),
        node("Greater", &["x", "least"], "flags"),
        node("Expand", &["flags", "square"], "wide"),
        node("And", &["wide", "near"], "both"),
        float,
    ]);
    let square = with(node("Concat", &["size", "size"], "square"), [int("axis", 0)]);
    nodes.splice(3..3, [node("Unsqueeze", &["n", "first"], "size"), square]);
    let more = [
        ("first", Tensor::new([1], &[0i64])),
        ("last", Tensor::new([1], &[1i64])),
        ("most", Tensor::scalar(6i64)),
        ("least", Tensor::scalar(0f32)),
    ];
    let constants = [constants, more.to_vec()].concat();
    let cases = lengths(&[20, 1, 2, 7, 19], |n| vec![1, n]);
    check(&model(nodes, &[1, -1], &[-1, -1], &constants), &[("length", 20)], &cases);
}

/// A window wider than most inputs: what lies behind the actual length is padding.
#[test]
fn wide_windows_reach_over_the_end() {
    let conv = with(node("Conv", &["r", "w"], "y"), [ints("pads", &[8, 8]), int("group", 2)]);
    let constants = [("w", floats(&[64, 32, 16], 3))];
    let cases = lengths(&[24, 1, 9, 20], |n| vec![1, 64, n]);
    let nodes = vec![node("Relu", &["x"], "r"), conv];
    check(&model(nodes, &[1, 64, -1], &[1, 64, -1], &constants), &[("length", 24)], &cases);
}

/// Padded to a length that is fixed.
#[test]
fn padding_to_a_fixed_length() {
    let (mut nodes, constants) = length_of(1);
    let joined = with(node("Concat", &["start", "missing", "none"], "pads"), [int("axis", 0)]);
    nodes.extend([
        node("Sub", &["whole", "n"], "rest"),
        node("Unsqueeze", &["rest", "zeros"], "missing"),
        joined,
        node("Exp", &["x"], "e"),
        node("Pad", &["e", "pads"], "padded"),
        node("Relu", &["padded"], "y"),
    ]);
    let list = |values: &[i64]| Tensor::new([values.len()], values);
    let more = [
        ("whole", Tensor::scalar(32i64)),
        ("start", list(&[0, 0, 0, 0])),
        ("none", list(&[0])),
        ("zeros", list(&[0])),
    ];
    let constants = [constants, more.to_vec()].concat();
    let cases = lengths(&[24, 1, 9, 20], |n| vec![1, n, 5]);
    check(&model(nodes, &[1, -1, 5], &[1, 32, 5], &constants), &[("length", 24)], &cases);
}

/// Two dimensions, each with a smallest size of its own.
#[test]
fn two_dimensions_that_may_be_too_small() {
    let pool = with(node("MaxPool", &["x"], "p"), [ints("kernel_shape", &[3, 5]), ints("strides", &[2, 2])]);
    let nodes = vec![pool, node("Relu", &["p"], "y")];
    let sizes = [(12, 14), (3, 5), (4, 13), (11, 6)];
    let cases: Vec<Vec<Tensor>> = sizes.iter().map(|&(h, w)| vec![floats(&[1, 2, h, w], 5)]).collect();
    let proto = model(nodes, &[1, 2, -2, -1], &[1, 2, -2, -1], &[]);
    check(&proto, &[("batch", 12), ("length", 14)], &cases);
}

/// A number that equals a constant for one size is another one all the same.
#[test]
fn constants_that_are_equal_by_chance() {
    let (mut nodes, constants) = length_of(1);
    nodes.extend([node("Div", &["x", "f"], "part"), node("Mul", &["part", "five"], "y")]);
    let constants = [constants, vec![("five", Tensor::scalar(5f32))]].concat();
    let cases = lengths(&[9, 5, 1, 4], |n| vec![2, n]);
    check(&model(nodes, &[2, -1], &[2, -1], &constants), &[("length", 9)], &cases);
}

/// Sums along and across free dimensions that are not the first.
#[test]
fn running_sums_in_the_middle() {
    let cases: Vec<Vec<Tensor>> =
        [(3, 9), (1, 1), (2, 5), (3, 8)].iter().map(|&(b, n)| vec![floats(&[b, n, 2], 5)]).collect();
    for (axis, reverse, exclusive) in [(1, 0, 0), (1, 1, 1), (0, 1, 0), (2, 0, 1)] {
        let sum =
            with(node("CumSum", &["x", "axis"], "y"), [int("reverse", reverse), int("exclusive", exclusive)]);
        let proto = model(vec![sum], &[-2, -1, 2], &[-2, -1, 2], &[("axis", Tensor::scalar(axis as i64))]);
        check(&proto, &[("batch", 3), ("length", 9)], &cases);
    }
}

/// Points of a grid as fine as the input, and sampling there.
#[test]
fn grids_as_fine_as_the_input() {
    let size = |values: &[i64]| Tensor::new([values.len()], values);
    for (aligned, padding) in [(0, "zeros"), (1, "border"), (0, "reflection")] {
        let grid = with(node("AffineGrid", &["theta", "shape"], "grid"), [int("align_corners", aligned)]);
        let sample = with(
            node("GridSample", &["x", "grid"], "y"),
            [int("align_corners", aligned), text("padding_mode", padding)],
        );
        let nodes = vec![node("Shape", &["x"], "shape"), grid, sample];
        let theta = Tensor::new([1, 2, 3], &[0.9f32, 0.1, 0.05, -0.1, 1.1, 0.2]);
        let sizes = [(9, 12), (1, 1), (4, 7), (8, 3)];
        let cases: Vec<Vec<Tensor>> = sizes.iter().map(|&(h, w)| vec![floats(&[1, 2, h, w], 5)]).collect();
        let mut proto =
            model(nodes, &[1, 2, -2, -1], &[1, 2, -2, -1], &[("theta", theta), ("none", size(&[0]))]);
        proto.opset_import[0].version = 20;
        check(&proto, &[("batch", 9), ("length", 12)], &cases);
    }
}

/// A loop over half of the size: once in the smallest.
#[test]
fn a_loop_that_may_run_once() {
    let gru = with(node("GRU", &["p", "w", "r"], "y"), [int("hidden_size", 3)]);
    let pool = with(node("MaxPool", &["t"], "m"), [ints("kernel_shape", &[2]), ints("strides", &[2])]);
    let permuted =
        |from: &str, to: &str, perm: &[i64]| with(node("Transpose", &[from], to), [ints("perm", perm)]);
    let nodes = vec![permuted("x", "t", &[1, 2, 0]), pool, permuted("m", "p", &[2, 0, 1]), gru];
    let constants = [("w", floats(&[1, 9, 4], 1)), ("r", floats(&[1, 9, 3], 2))];
    let proto = model(nodes, &[-1, 1, 4], &[-1, 1, 1, 3], &constants);
    check(&proto, &[("length", 9)], &lengths(&[9, 2, 3, 8], |n| vec![n, 1, 4]));
}

/// Rows turned around by two: all but two, then two. There must be three.
#[test]
fn parts_behind_all_but_some() {
    let joined = with(node("Concat", &["tail", "head"], "j"), [int("axis", 0)]);
    let back = with(node("Concat", &["most", "rest"], "y"), [int("axis", 0)]);
    let nodes = vec![
        node("Slice", &["x", "two", "end"], "tail"),
        node("Slice", &["x", "zero", "two"], "head"),
        joined,
        node("Exp", &["j"], "e"),
        node("Slice", &["e", "zero", "before"], "most"),
        node("Slice", &["e", "before", "end"], "rest"),
        back,
    ];
    let one = |n: i64| Tensor::new([1], &[n]);
    let constants = [("two", one(2)), ("end", one(i64::MAX)), ("zero", one(0)), ("before", one(-2))];
    let cases = lengths(&[9, 3, 4, 8], |n| vec![n, 3]);
    check(&model(nodes, &[-1, 3], &[-1, 3], &constants), &[("length", 9)], &cases);
}

/// Halved twice and doubled again beside what it was: for multiples of four alone.
fn halved() -> tract_onnx::pb::ModelProto {
    let pool = |from: &str, to: &str| {
        with(node("MaxPool", &[from], to), [ints("kernel_shape", &[2]), ints("strides", &[2])])
    };
    let resize = |from: &str, to: &str| node("Resize", &[from, "", "scales"], to);
    let joined = with(node("Concat", &["x", "again"], "j"), [int("axis", 1)]);
    let conv = with(node("Conv", &["j", "w"], "y"), [ints("pads", &[1, 1])]);
    let nodes = vec![pool("x", "a"), pool("a", "b"), resize("b", "c"), resize("c", "again"), joined, conv];
    let constants = [("scales", Tensor::new([3], &[1f32, 1., 2.])), ("w", floats(&[4, 6, 3], 9))];
    model(nodes, &[1, 3, -1], &[1, 4, -1], &constants)
}

#[test]
fn multiples_of_a_number() {
    let sum = Sum::parse("4*k").expect("a multiple");
    let bindings = Bindings { sums: [("length".to_string(), sum)].into(), ..bounded(&[("k", 10)]) };
    let cases = lengths(&[40, 4, 8, 36], |n| vec![1, 3, n]);
    check_as(&halved(), &bindings, &cases);
    let target = resolve("native", "generic").expect("a host");
    let built = built_as(&decode(&halved()), &bindings, &target);
    let names: Vec<_> = built.program.symbols.iter().map(|s| s.name.as_deref()).collect();
    assert_eq!(names, [Some("length")]);
    let loaded = Loaded::load(&built.object.bytes, "m").expect("it loads");
    let input = vec![0u8; 3 * 40 * 4];
    let status = |n: i64| loaded.run(&[&input], &mut [n], &mut Vec::new()).expect("it runs");
    assert_eq!([40, 4, 12].map(status), [abi::OK; 3]);
    assert_eq!([0, 2, 6, 39, 44, -4].map(status), [abi::ERR_SYMBOL; 6]);
}

/// Resized to its own size after windows that small sizes are too small for: those alone are refused.
#[test]
fn resizing_where_small_sizes_have_no_meaning() {
    let pool = |from: &str, to: &str| {
        with(node("MaxPool", &[from], to), [ints("kernel_shape", &[2]), ints("strides", &[2])])
    };
    let resize = with(node("Resize", &["b", "", "", "shape"], "c"), [text("mode", "linear")]);
    let nodes = vec![
        pool("x", "a"),
        pool("a", "b"),
        node("Shape", &["x"], "shape"),
        resize,
        node("Relu", &["c"], "y"),
    ];
    let cases = lengths(&[40, 4, 7, 39], |n| vec![1, 3, n]);
    check(&model(nodes, &[1, 3, -1], &[1, 3, -1], &[]), &[("length", 40)], &cases);
}

/// `y[i] = x[i]` for as many `i` as there are positive elements, else 0: of what data choose only the number is
/// wanted, and it is compared with what has a fixed size.
#[test]
fn how_many_are_chosen_is_all_that_counts() {
    let weight = with(node("Cast", &["below"], "weight"), [int("to", 1)]);
    let nodes = vec![
        node("Greater", &["x", "least"], "flags"),
        node("NonZero", &["flags"], "places"),
        node("Shape", &["places"], "shape"),
        node("Gather", &["shape", "one"], "n"),
        node("Less", &["range", "n"], "below"),
        weight,
        node("Mul", &["x", "weight"], "y"),
    ];
    let range: Vec<i64> = (0..5).collect();
    let constants =
        [("least", Tensor::scalar(0f32)), ("one", Tensor::scalar(1i64)), ("range", Tensor::new([5], &range))];
    let model = decode(&model(nodes, &[5], &[5], &constants));
    for (arch, cpu) in [("native", "native"), ("aarch64", "generic")] {
        let target = resolve(arch, cpu).expect("known");
        let built = built(&model, &[], &target);
        let mut executor =
            Executor::new(&built.program, &built.object.bytes, &target, None).expect("it runs");
        for positive in 0..=5 {
            let x: Vec<f32> = (0..5).map(|i| if i < 5 - positive { -1.5 } else { 2.5 }).collect();
            let want: Vec<f32> = (0..5).map(|i| if i < positive { x[i] } else { 0.0 }).collect();
            let got = executor.run(&[Tensor::new([5], &x)]).expect("a result");
            agree(&got, &[Tensor::new([5], &want)], arch);
        }
    }
}

/// A computation that other numbers of elements change is refused; it is not done as for one of them.
#[test]
fn what_no_lowering_fits_is_refused() {
    let chosen = with(node("Concat", &["distinct", "last"], "all"), [int("axis", 0)]);
    let nodes = vec![
        node("Unique", &["x"], "distinct"),
        chosen,
        node("Shape", &["distinct"], "shape"),
        node("Min", &["range", "shape"], "places"),
        node("Gather", &["all", "places"], "y"),
    ];
    let range: Vec<i64> = (0..4).collect();
    let constants = [("last", Tensor::new([1], &[9f32])), ("range", Tensor::new([4], &range))];
    let model = decode(&model(nodes, &[4], &[4], &constants));
    let target = resolve("x86_64", "generic").expect("known");
    let error = Build::new("m.onnx").build_model(&model, target, "m", &Silent).err().expect("an error");
    assert!(error.to_string().contains("another computation is needed"), "{error}");
}

/// `x[1:3, p:p + 2]` with `p = x[0, 0]`, from the front or from the end: exporters join computed ends from parts.
#[test]
fn a_slice_begins_where_data_say() {
    let place = with(node("Cast", &["corner"], "place"), [int("to", 7)]);
    let list = |inputs: &[&str], output: &str| with(node("Concat", inputs, output), [int("axis", 0)]);
    let nodes = vec![
        node("Slice", &["x", "from", "to"], "corner2"),
        node("Reshape", &["corner2", "one"], "corner"),
        place,
        node("Add", &["place", "two"], "end"),
        list(&["one", "place"], "starts"),
        list(&["three", "end"], "ends"),
        node("Slice", &["x", "starts", "ends"], "y"),
    ];
    let list = |values: &[i64]| Tensor::new([values.len()], values);
    let constants = [
        ("from", list(&[0, 0])),
        ("to", list(&[1, 1])),
        ("one", list(&[1])),
        ("two", list(&[2])),
        ("three", list(&[3])),
    ];
    let model = decode(&model(nodes, &[3, 5], &[2, 2], &constants));
    for (arch, cpu) in [("native", "native"), ("aarch64", "generic")] {
        let target = resolve(arch, cpu).expect("known");
        let built = built(&model, &[], &target);
        let mut executor =
            Executor::new(&built.program, &built.object.bytes, &target, None).expect("it runs");
        for (place, at) in [(0f32, Some(0)), (3.0, Some(3)), (-2.0, Some(3)), (4.0, None), (-1.0, None)] {
            let mut x: Vec<f32> = (0..15).map(|i| i as f32).collect();
            x[0] = place;
            let got = executor.run(&[Tensor::new([3, 5], &x)]);
            let Some(at) = at else {
                assert!(got.is_err(), "two elements from {place}");
                continue;
            };
            let want = [5 + at, 6 + at, 10 + at, 11 + at].map(|i| x[i]);
            agree(&got.expect("a result"), &[Tensor::new([2, 2], &want)], arch);
        }
    }
}

/// `range(p, p + 5, 2)` and `range(p, p - 3, -1)` with `p = x[0]`: three numbers each.
#[test]
fn a_range_begins_where_data_say() {
    let cast = |from: &str, to: &str, dtype| with(node("Cast", &[from], to), [int("to", dtype)]);
    let nodes = vec![
        node("Squeeze", &["x"], "scalar"),
        cast("scalar", "place", 7),
        node("Add", &["place", "five"], "end"),
        node("Sub", &["place", "three"], "before"),
        node("Range", &["place", "end", "two"], "up"),
        node("Range", &["place", "before", "back"], "down"),
        node("Add", &["up", "down"], "sums"),
        node("Mul", &["sums", "up"], "products"),
        cast("products", "y", 1),
    ];
    let number = |value: i64| Tensor::scalar(value);
    let constants = [("five", number(5)), ("three", number(3)), ("two", number(2)), ("back", number(-1))];
    let model = decode(&model(nodes, &[1], &[3], &constants));
    for (arch, cpu) in [("native", "native"), ("aarch64", "generic")] {
        let target = resolve(arch, cpu).expect("known");
        let built = built(&model, &[], &target);
        let mut executor =
            Executor::new(&built.program, &built.object.bytes, &target, None).expect("it runs");
        for p in [0f32, 3.0, -7.0] {
            let got = executor.run(&[Tensor::new([1], &[p])]).expect("a result");
            let want = [0f32, 1.0, 2.0].map(|i| (2.0 * p + i) * (p + 2.0 * i));
            agree(&got, &[Tensor::new([3], &want)], arch);
        }
    }
}

/// Numbers that are drawn without a seed: fewer are the first of more, in each dimension.
#[test]
fn noise_of_any_length() {
    let noise = with(node("RandomNormalLike", &["x"], "noise"), [int("dtype", 1)]);
    let nodes = vec![noise, node("Mul", &["noise", "x"], "part"), node("Add", &["part", "x"], "y")];
    let shape = [2, 3, -1];
    check(
        &model(nodes, &shape, &shape, &[]),
        &[("length", 20)],
        &lengths(&[20, 3, 1, 11], |n| vec![2, 3, n]),
    );
}
