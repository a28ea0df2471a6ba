//! Sizes computed from data: as long as what they meet, or up to a bound.

use crate::sizes::{agree, bounded, built, decode, floats, naive};
use crate::support::onnx::{int, model, node, text, value, with};
use lmc::base::Tensor;
use lmc::build::{Build, Silent};
use lmc::run::executor::Executor;
use lmc::target::{Target, resolve};
use tract_onnx::pb::{ModelProto, NodeProto};

fn targets() -> [Target; 2] {
    [("native", "native"), ("aarch64", "generic")].map(|(arch, cpu)| resolve(arch, cpu).expect("known"))
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// `y[b, i] = x[b, i]` where `i < lengths[b]`, else 0: masks are made as speech models make them, `arange` of the
/// largest length, and that many columns of ones.
fn masked(columns: i64) -> ModelProto {
    let largest = with(node("ReduceMax", &["lengths"], "largest"), [int("keepdims", 0)]);
    let shape = with(node("Concat", &["rows", "wide"], "shape"), [int("axis", 0)]);
    let nodes = vec![
        largest,
        node("Range", &["zero", "largest", "one"], "places"),
        node("Unsqueeze", &["lengths", "last"], "ends"),
        node("Less", &["places", "ends"], "mask"),
        node("Unsqueeze", &["largest", "first"], "wide"),
        shape,
        node("Expand", &["unit", "shape"], "ones"),
        node("Where", &["mask", "x", "none"], "kept"),
        node("Mul", &["kept", "ones"], "y"),
    ];
    let constants = [
        ("zero", Tensor::scalar(0i64)),
        ("one", Tensor::scalar(1i64)),
        ("first", Tensor::new([1], &[0i64])),
        ("last", Tensor::new([1], &[1i64])),
        ("rows", Tensor::new([1], &[2i64])),
        ("unit", Tensor::scalar(1f32)),
        ("none", Tensor::scalar(0f32)),
    ];
    let mut proto = model(nodes, &[2, columns], &[2, columns], &constants);
    proto.graph.as_mut().expect("a graph").input.push(value("lengths", 7, &[2]));
    proto
}

fn check_mask(proto: &ModelProto, bounds: &[(&str, usize)], sizes: &[usize]) {
    for target in targets() {
        let built = built(&decode(proto), bounds, &target);
        let mut executor =
            Executor::new(&built.program, &built.object.bytes, &target, None).expect("it runs");
        for &n in sizes {
            let x = floats(&[2, n], n as u64);
            let mut run = |lengths: [usize; 2]| {
                executor.run(&[x.clone(), Tensor::new([2], &lengths.map(|l| l as i64))])
            };
            for lengths in [[n, n.div_ceil(2)], [0, n]] {
                let kept = |(i, v): (usize, f32)| if i % n < lengths[i / n] { v } else { 0.0 };
                let want: Vec<f32> = numbers(&x).into_iter().enumerate().map(kept).collect();
                let got = run(lengths).expect("results");
                agree(&got, &[Tensor::new([2, n], &want)], &format!("{lengths:?}"));
            }
            // What is compared with `x` would be shorter or longer than it.
            for wrong in [[n + 1, n], [n - 1, n.saturating_sub(2)]] {
                assert!(run(wrong).is_err(), "{wrong:?} of {n}");
            }
        }
    }
}

#[test]
fn a_mask_is_as_long_as_what_it_meets() {
    check_mask(&masked(12), &[], &[12]);
}

#[test]
fn a_mask_is_as_long_as_what_it_meets_at_any_size() {
    check_mask(&masked(-1), &[("length", 20)], &[20, 2, 7, 1, 19]);
}

/// `y[i] = 2 i` for as many `i` as `x` has in sum.
fn counting() -> ModelProto {
    let cast = |from: &str, to: &str, dtype: i64| -> NodeProto {
        with(node("Cast", &[from], to), [int("to", dtype)])
    };
    let sum = with(node("ReduceSum", &["x"], "sum"), [int("keepdims", 0)]);
    let nodes = vec![
        sum,
        cast("sum", "frames", 7),
        node("Range", &["zero", "frames", "one"], "places"),
        cast("places", "numbers", 1),
        node("Mul", &["numbers", "two"], "y"),
    ];
    let constants =
        [("zero", Tensor::scalar(0i64)), ("one", Tensor::scalar(1i64)), ("two", Tensor::scalar(2f32))];
    model(nodes, &[3], &[-1], &constants)
}

#[test]
fn as_many_as_data_say_up_to_a_bound() {
    for target in targets() {
        let built = built(&decode(&counting()), &[("frames", 9)], &target);
        let mut executor =
            Executor::new(&built.program, &built.object.bytes, &target, None).expect("it runs");
        let mut run = |n: f32| executor.run(&[Tensor::new([3], &[n, 1.0, -1.0])]);
        for n in [9, 1, 5, 0, 2] {
            let want: Vec<f32> = (0..n).map(|i| 2.0 * i as f32).collect();
            agree(&run(n as f32).expect("results"), &[Tensor::new([want.len()], &want)], &n.to_string());
        }
        assert!(run(10.0).is_err());
        assert!(run(-1.0).is_err());
    }
}

/// The number may be an input itself.
#[test]
fn as_many_as_an_input_says() {
    let mut proto = counting();
    let graph = proto.graph.as_mut().expect("a graph");
    graph.node.drain(..2);
    graph.input = vec![value("frames", 7, &[])];
    for target in targets() {
        let built = built(&decode(&proto), &[("frames", 9)], &target);
        let mut executor =
            Executor::new(&built.program, &built.object.bytes, &target, None).expect("it runs");
        for n in [9i64, 1, 0, 4] {
            let want: Vec<f32> = (0..n).map(|i| 2.0 * i as f32).collect();
            let got = executor.run(&[Tensor::scalar(n)]).expect("results");
            agree(&got, &[Tensor::new([want.len()], &want)], &n.to_string());
        }
        assert!(executor.run(&[Tensor::scalar(10i64)]).is_err());
    }
}

/// A loop gives a row for each iteration, of which data say how many there are.
#[test]
fn iterations_as_many_as_data_say() {
    let step = vec![
        node("Mul", &["s", "half"], "scaled"),
        node("Add", &["scaled", "x"], "next"),
        node("Identity", &["next"], "seen"),
        node("Identity", &["go"], "on"),
    ];
    let mut repeated = node("Loop", &["count", "", "x"], "last");
    repeated.output.push("y".into());
    let io: (&[(&str, i32)], &[(&str, i32)]) =
        (&[("i", 7), ("go", 9), ("s", 1)], &[("on", 9), ("next", 1), ("seen", 1)]);
    crate::lengths::body(&mut repeated, step, io);
    let mut proto = model(vec![repeated], &[1, 3], &[-1, 1, 3], &[("half", Tensor::scalar(0.5f32))]);
    proto.graph.as_mut().expect("a graph").input.push(value("count", 7, &[]));
    let x = floats(&[1, 3], 3);
    for target in targets() {
        let built = built(&decode(&proto), &[("count", 6)], &target);
        let mut executor =
            Executor::new(&built.program, &built.object.bytes, &target, None).expect("it runs");
        for n in [6i64, 0, 1, 4] {
            let (mut want, mut state) = (Vec::<f32>::new(), numbers(&x));
            for _ in 0..n {
                state.iter_mut().zip(numbers(&x)).for_each(|(s, x)| *s = 0.5 * *s + x);
                want.extend(&state);
            }
            let got = executor.run(&[x.clone(), Tensor::scalar(n)]).expect("results");
            agree(&got, &[Tensor::new([n as usize, 1, 3], &want)], &n.to_string());
        }
        assert!(executor.run(&[x.clone(), Tensor::scalar(7i64)]).is_err());
    }
    let target = resolve("native", "generic").expect("a host");
    let refused = Build::new("m.onnx").build_model(&decode(&proto), target, "m", &Silent);
    let refused = refused.err().expect("an error").to_string();
    assert!(refused.contains("(Loop)") && refused.contains("--dim 'count<=N'"), "{refused}");
}

/// `x` resized to as many rows and columns as data say, as segmentation models bring masks to the size of their images;
/// with `size` as a constant, what the naive loops have to give.
fn resized(mode: &str, coordinates: &str, size: Option<[f32; 2]>) -> ModelProto {
    let nodes = vec![
        with(node("Cast", &["size"], "whole"), [int("to", 7)]),
        node("Gather", &["whole", "first"], "rows"),
        node("Gather", &["whole", "second"], "columns"),
        with(node("Concat", &["planes", "rows", "columns"], "shape"), [int("axis", 0)]),
        with(
            node("Resize", &["x", "", "", "shape"], "large"),
            [text("mode", mode), text("coordinate_transformation_mode", coordinates)],
        ),
        node("Relu", &["large"], "y"),
    ];
    let mut constants = vec![
        ("first", Tensor::new([1], &[0i64])),
        ("second", Tensor::new([1], &[1i64])),
        ("planes", Tensor::new([2], &[1i64, 2])),
    ];
    constants.extend(size.map(|size| ("size", Tensor::new([2], &size))));
    let mut proto = model(nodes, &[1, 2, 5, 4], &[1, 2, -1, -2], &constants);
    if size.is_none() {
        proto.graph.as_mut().expect("a graph").input.push(value("size", 1, &[2]));
    }
    proto
}

#[test]
fn resized_as_far_as_data_say() {
    let modes = [
        ("linear", "half_pixel"),
        ("linear", "align_corners"),
        ("nearest", "asymmetric"),
        ("cubic", "pytorch_half_pixel"),
    ];
    for (mode, coordinates) in modes {
        for target in targets() {
            let decoded = decode(&resized(mode, coordinates, None));
            let built = built(&decoded, &[("rows", 12), ("columns", 20)], &target);
            let mut executor =
                Executor::new(&built.program, &built.object.bytes, &target, None).expect("it runs");
            let x = floats(&[1, 2, 5, 4], 3);
            for size in [[12f32, 20.0], [1.0, 1.0], [5.0, 4.0], [3.0, 17.0], [11.0, 2.0]] {
                let fixed = decode(&resized(mode, coordinates, Some(size)));
                let want = naive(&fixed, std::slice::from_ref(&x));
                let got = executor.run(&[x.clone(), Tensor::new([2], &size)]).expect("results");
                agree(&got, &want, &format!("{mode} {coordinates} {size:?}"));
            }
            assert!(executor.run(&[x.clone(), Tensor::new([2], &[13f32, 20.0])]).is_err());
        }
    }
    let target = resolve("native", "generic").expect("a host");
    let unbounded = decode(&resized("linear", "half_pixel", None));
    let refused = Build::new("m.onnx").build_model(&unbounded, target, "m", &Silent);
    let refused = refused.err().expect("an error").to_string();
    assert!(refused.contains("(Resize)") && refused.contains("--dim 'columns<=N'"), "{refused}");
}

#[test]
fn what_has_no_bound_is_named() {
    let refused = |bounds: &[(&str, usize)]| {
        let build = Build::new("m.onnx").bindings(bounded(bounds));
        let target = resolve("native", "generic").expect("a host");
        build.build_model(&decode(&counting()), target, "m", &Silent).err().expect("an error").to_string()
    };
    let without = refused(&[]);
    assert!(without.contains("(Range)") && without.contains("--dim 'frames<=N'"), "{without}");
    let unknown = refused(&[("frame", 9)]);
    assert!(unknown.contains("no input has a free dimension named 'frame'"), "{unknown}");
}

#[test]
fn a_bound_that_is_no_multiple_is_refused_with_one_that_is() {
    let nodes = vec![node("Reshape", &["x", "shape"], "y")];
    let proto = model(nodes, &[-1], &[-1, 4], &[("shape", Tensor::new([2], &[-1i64, 4]))]);
    let build = |bound: usize| {
        let target = resolve("native", "generic").expect("a host");
        Build::new("m.onnx").bindings(bounded(&[("length", bound)])).build_model(
            &decode(&proto),
            target,
            "m",
            &Silent,
        )
    };
    let refused = build(30).err().expect("an error").to_string();
    assert!(refused.contains("--dim 'length<=28'"), "{refused}");
    assert!(build(28).is_ok());
}
