//! Sizes known only at run time: one object for all sizes gives, at each, what the naive loops of the
//! model bound to that size give.

use crate::support::onnx::{int, ints, model, node, value, with};
use lmc::base::{Tensor, abi};
use lmc::build::{Build, Built, Silent};
use lmc::definition::{Env, interpret};
use lmc::import::{self, Bindings, Model};
use lmc::lower::lower;
use lmc::passes::infer;
use lmc::run::compare::{Tolerance, compare};
use lmc::run::executor::Executor;
use lmc::run::load::Loaded;
use lmc::target::{Target, resolve};
use prost::Message;
use tract_onnx::pb;

pub fn decode(proto: &pb::ModelProto) -> Model {
    import::decode(&proto.encode_to_vec(), None).expect("a model")
}

pub fn floats(shape: &[usize], seed: u64) -> Tensor {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % 2000) as f32 / 1000.0 - 1.0
    };
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| next()).collect();
    Tensor::new(shape, &values)
}

/// What the naive loops of the model for just these inputs give.
pub fn naive(model: &Model, inputs: &[Tensor]) -> Vec<Tensor> {
    try_naive(model, inputs).unwrap_or_else(|e| panic!("{e}"))
}

/// The same; an error where the model is not defined for them.
pub fn try_naive(model: &Model, inputs: &[Tensor]) -> lmc::error::Result<Vec<Tensor>> {
    let types: Vec<_> = inputs.iter().map(|t| t.ty.clone()).collect();
    let (graph, _) = infer(model, &types).into_result()?;
    let lowering = lower(&graph)?;
    let mut env = Env::new(&lowering);
    graph.inputs.iter().zip(inputs).for_each(|(&v, t)| env.set(v, t));
    interpret(&lowering, &mut env)?;
    Ok(graph.outputs.iter().map(|&v| env.get(v, &graph.value(v).ty).expect("written")).collect())
}

pub fn bounded(bounds: &[(&str, usize)]) -> Bindings {
    let bounds = bounds.iter().map(|(name, bound)| (name.to_string(), *bound)).collect();
    Bindings { bounds, ..Bindings::default() }
}

pub fn built(model: &Model, bounds: &[(&str, usize)], target: &Target) -> Built {
    built_as(model, &bounded(bounds), target)
}

pub fn built_as(model: &Model, bindings: &Bindings, target: &Target) -> Built {
    let build = Build::new("m.onnx").bindings(bindings.clone());
    build.build_model(model, target.clone(), "m", &Silent).unwrap_or_else(|e| panic!("{e}"))
}

pub fn agree(got: &[Tensor], want: &[Tensor], what: &str) {
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let found = compare(got, want, Tolerance { rtol: 1e-5, atol: 1e-5 });
        assert!(found.is_within(), "{what}, output {i}: {found:?}");
    }
}

/// Every case by the interpreter of kernels, on this machine's levels, and a few on aarch64.
pub fn check(proto: &pb::ModelProto, bounds: &[(&str, usize)], cases: &[Vec<Tensor>]) {
    check_as(proto, &bounded(bounds), cases);
}

/// The same with dimensions that are sums or multiples.
pub fn check_as(proto: &pb::ModelProto, bindings: &Bindings, cases: &[Vec<Tensor>]) {
    let model = decode(proto);
    let wanted: Vec<Vec<Tensor>> = cases.iter().map(|c| naive(&model, c)).collect();
    let targets = [("x86_64", "generic"), ("native", "native"), ("aarch64", "generic")];
    for (arch, cpu) in targets {
        let target = resolve(arch, cpu).expect("known");
        let built = built_as(&model, bindings, &target);
        let mut executor =
            Executor::new(&built.program, &built.object.bytes, &target, None).expect("it runs");
        let some = if arch == "aarch64" { 3 } else { usize::MAX };
        for (case, want) in cases.iter().zip(&wanted).take(some) {
            let what = format!("{arch} {cpu}, {}", case[0].ty);
            agree(&executor.run(case).unwrap_or_else(|e| panic!("{what}: {e}")), want, &what);
        }
    }
    let target = resolve("x86_64", "generic").expect("known");
    let program = built_as(&model, bindings, &target).program;
    for (case, want) in cases.iter().zip(&wanted) {
        let mut symbols = vec![0; program.symbols.len()];
        let mut inputs = Vec::new();
        for (tensor, interface) in case.iter().zip(&program.inputs) {
            for (axis, symbol) in interface.symbolic.iter().enumerate() {
                if let Some(symbol) = symbol {
                    symbols[*symbol as usize] = tensor.ty.shape[axis] as i64;
                }
            }
            let mut bytes = tensor.data.to_vec();
            bytes.resize(interface.ty.bytes(), 0xff);
            inputs.push(bytes);
        }
        let outputs = lmc::plan::interpret(&program, &inputs, &mut symbols).expect("a valid program");
        let outputs = outputs.unwrap_or_else(|code| panic!("error {code}"));
        let tensors = outputs.into_iter().zip(&program.outputs);
        let got: Vec<Tensor> = tensors.map(|(b, i)| i.actual(b, &symbols).expect("bytes")).collect();
        agree(&got, want, &format!("interpreter, {}", case[0].ty));
    }
}

/// Self-attention, then a mean: sizes as axes, as a product's depth, in a softmax and in a divisor.
fn attention() -> pb::ModelProto {
    let transposed = with(node("Transpose", &["k"], "t"), [ints("perm", &[0, 2, 1])]);
    let mean = with(node("ReduceMean", &["a"], "y"), [ints("axes", &[1])]);
    let nodes = vec![
        node("MatMul", &["x", "wq"], "q"),
        node("MatMul", &["x", "wk"], "k"),
        transposed,
        node("MatMul", &["q", "t"], "s"),
        node("Softmax", &["s"], "p"),
        node("MatMul", &["p", "x"], "a"),
        mean,
    ];
    let constants = [("wq", floats(&[24, 16], 1)), ("wk", floats(&[24, 16], 2))];
    let mut proto = model(nodes, &[-2, -1, 24], &[-2, 1, 24], &constants);
    if let Some(graph) = &mut proto.graph {
        graph.output.push(value("p", 1, &[-2, -1, -1]));
    }
    proto
}

#[test]
fn attention_over_any_length() {
    let sizes = [(2, 7), (1, 1), (3, 20), (3, 16), (1, 19), (2, 2), (3, 5)];
    let cases: Vec<Vec<Tensor>> = sizes.iter().map(|&(b, s)| vec![floats(&[b, s, 24], 7)]).collect();
    check(&attention(), &[("batch", 3), ("length", 20)], &cases);
}

/// Attention of eight heads over one another's values, in floats or in bytes.
fn heads(bytes: bool) -> pb::ModelProto {
    let mut nodes = Vec::new();
    let named = |name: &str| if bytes { format!("{name}.bytes") } else { format!("{name}.float") };
    // A value between QuantizeLinear and DequantizeLinear.
    let stored = |nodes: &mut Vec<pb::NodeProto>, from: &str, to: &str| match bytes {
        true => {
            let scale = format!("{to}.scale");
            nodes.push(node("QuantizeLinear", &[from, &scale, "zero"], &named(to)));
            nodes.push(node("DequantizeLinear", &[&named(to), &scale, "zero"], to));
        }
        false => nodes.push(node("Identity", &[from], to)),
    };
    stored(&mut nodes, "x", "given");
    for (name, order) in [("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])] {
        let [weights, product, whole, apart] =
            ["weights", "product", "whole", "apart"].map(|n| format!("{name}.{n}"));
        nodes.push(node("DequantizeLinear", &[&format!("w{name}"), "small", "none"], &weights));
        nodes.push(node("MatMul", &["given", &weights], &product));
        stored(&mut nodes, &product, &whole);
        nodes.push(node("Reshape", &[&whole, "split"], &apart));
        let turned = with(node("Transpose", &[&apart], name), [ints("perm", &order)]);
        nodes.push(turned);
    }
    let mixed = [("q", "k", "scores"), ("parts", "v", "mixed")];
    for (a, b, to) in mixed {
        nodes.push(node("MatMul", &[a, b], &format!("{to}.product")));
        stored(&mut nodes, &format!("{to}.product"), to);
        if to == "scores" {
            nodes.push(node("Softmax", &["scores"], "shares"));
            stored(&mut nodes, "shares", "parts");
        }
    }
    let turned = with(node("Transpose", &["mixed"], "rows"), [ints("perm", &[0, 2, 1, 3])]);
    nodes.extend([turned, node("Reshape", &["rows", "joined"], "y")]);
    let weights = |seed: usize| {
        let all: Vec<i8> = (0..64 * 256).map(|i| ((i * 7 + seed * i / 5) % 31) as i8 - 15).collect();
        Tensor::new([64, 256], &all)
    };
    let mut constants = vec![
        ("wq", weights(1)),
        ("wk", weights(2)),
        ("wv", weights(3)),
        ("split", Tensor::new([4], &[1i64, -1, 8, 32])),
        ("joined", Tensor::new([3], &[1i64, -1, 256])),
        ("zero", Tensor::scalar(117u8)),
        ("small", Tensor::scalar(0.01f32)),
        ("none", Tensor::scalar(0i8)),
    ];
    // No quotient of two is a simple one: sums in floats and in integers would part where it is half a step.
    let scales = [("given", 0.0101), ("q.whole", 0.0147), ("k.whole", 0.0153), ("v.whole", 0.0151)];
    let more = [("scores", 0.0231), ("parts", 0.0013), ("mixed", 0.0037)];
    let names: Vec<(String, f32)> =
        scales.iter().chain(&more).map(|&(name, scale)| (format!("{name}.scale"), scale)).collect();
    constants.extend(names.iter().map(|(name, scale)| (name.as_str(), Tensor::scalar(*scale))));
    model(nodes, &[1, -1, 64], &[1, -1, 256], &constants)
}

/// Scores of some heads at a time, whatever the length: the arena has no room for all.
#[test]
fn heads_are_computed_a_few_at_a_time() {
    let (bound, scores) = (96, size_of::<f32>() * 8 * 96 * 96);
    for (bytes, size) in [(false, 4), (true, 1)] {
        // Queries, keys and values, and half of the scores.
        let most = 3 * 96 * 256 * size + scores / 2;
        let cases: Vec<Vec<Tensor>> = [96, 33, 1].iter().map(|&n| vec![floats(&[1, n, 64], 5)]).collect();
        check(&heads(bytes), &[("length", bound)], &cases);
        for (arch, cpu) in [("x86_64", "icelake-server"), ("aarch64", "neoverse-n1")] {
            let target = resolve(arch, cpu).expect("known");
            let arena = built(&decode(&heads(bytes)), &[("length", bound)], &target).program.arena_bytes;
            assert!(arena < most, "{arch}, bytes {bytes}: {arena} bytes");
        }
    }
}

/// Windows over the free dimension: its end moves, what lies behind it is padding.
#[test]
fn convolutions_over_any_length() {
    let conv = with(node("Conv", &["x", "w", "b"], "c"), [ints("pads", &[2, 2]), ints("strides", &[2])]);
    let pool = with(node("MaxPool", &["r"], "y"), [ints("kernel_shape", &[3]), ints("pads", &[1, 1])]);
    let nodes = vec![conv, node("Relu", &["c"], "r"), pool];
    let constants = [("w", floats(&[8, 3, 5], 3)), ("b", floats(&[8], 4))];
    let cases: Vec<Vec<Tensor>> =
        [30, 7, 1, 2, 16, 29].iter().map(|&n| vec![floats(&[1, 3, n], 5)]).collect();
    check(&model(nodes, &[1, 3, -1], &[1, 8, -1], &constants), &[("length", 30)], &cases);
}

/// Parts that follow one another, shapes computed from shapes, the last element, all reversed.
#[test]
fn movement_of_any_length() {
    let joined = with(
        node("Concat", &["first", "x", "first"], "j"),
        [pb::AttributeProto {
            name: "axis".into(),
            i: 1,
            r#type: pb::attribute_proto::AttributeType::Int as i32,
            ..Default::default()
        }],
    );
    let nodes = vec![
        node("Slice", &["x", "zero", "one", "one"], "first"),
        joined,
        node("Slice", &["j", "last", "before", "back", "back"], "backwards"),
        node("Shape", &["backwards"], "shape"),
        node("ConstantOfShape", &["shape"], "zeros"),
        node("Add", &["backwards", "zeros"], "sum"),
        node("Reshape", &["sum", "flat"], "rows"),
        node("MatMul", &["rows", "w"], "y"),
    ];
    let list = |v: i64| Tensor::new([1], &[v]);
    let constants = [
        ("zero", list(0)),
        ("one", list(1)),
        ("last", list(-1)),
        ("before", list(i64::MIN)),
        ("back", list(-1)),
        ("flat", Tensor::new([2], &[-1i64, 6])),
        ("w", floats(&[6, 5], 9)),
    ];
    // The axis of the reversal is named by the same list as its step: the last.
    let cases: Vec<Vec<Tensor>> =
        [(2, 9), (1, 1), (2, 5)].iter().map(|&(b, n)| vec![floats(&[b, n, 6], 5)]).collect();
    check(&model(nodes, &[-2, -1, 6], &[-1, 5], &constants), &[("batch", 2), ("length", 9)], &cases);
}

/// What the application passes and gets is copied in vectors, nothing is divided; rows are longer and shorter than these.
#[test]
fn rows_of_free_length_are_copied_whole() {
    let bytes = with(node("Cast", &["size"], "b"), [int("to", 2)]);
    let wide = with(node("Cast", &["size"], "i"), [int("to", 7)]);
    let half = with(node("Cast", &["size"], "h"), [int("to", 10)]);
    let sum = [node("ReduceSum", &["x", "axes"], "sum"), node("Abs", &["sum"], "size")];
    let nodes = [vec![node("Neg", &["x"], "y")], sum.into(), vec![bytes, wide, half]].concat();
    let mut proto = model(nodes, &[-2, 3, -1, 2], &[-2, 3, -1, 2], &[("axes", Tensor::new([1], &[3i64]))]);
    let outputs = [("b", 2), ("i", 7), ("h", 10)].map(|(name, kind)| value(name, kind, &[-2, 3, -1, 1]));
    proto.graph.as_mut().expect("a graph").output.extend(outputs);
    let bounds = [("batch", 3), ("length", 40)];
    let cases: Vec<Vec<Tensor>> =
        [(2, 37), (1, 1), (3, 16), (2, 15), (3, 40)].map(|(b, n)| vec![floats(&[b, 3, n, 2], 6)]).into();
    check(&proto, &bounds, &cases);
    let program = built(&decode(&proto), &bounds, &resolve("x86_64", "generic").expect("known")).program;
    let copies: Vec<String> =
        program.kernels.iter().filter(|k| k.name.ends_with("pack")).map(|k| k.to_string()).collect();
    assert_eq!(copies.len(), 5);
    for copy in copies {
        assert!(!copy.contains("rem_s") && !copy.contains("div_s"), "{copy}");
    }
}

/// A number that is another constant at the bound only: the fewer of five and all.
#[test]
fn a_number_equals_a_constant_at_the_bound() {
    let mut nodes = vec![
        node("Gather", &["x", "five"], "column"),
        node("Squeeze", &["column", "one"], "all"),
        node("Shape", &["all"], "extent"),
        node("Min", &["extent", "limit"], "k"),
        node("TopK", &["all", "k"], "y"),
    ];
    nodes[0].attribute.push(int("axis", 1));
    let constants = [
        ("five", Tensor::new([1], &[5i64])),
        ("limit", Tensor::new([1], &[5i64])),
        ("one", Tensor::new([1], &[1i64])),
    ];
    let cases: Vec<Vec<Tensor>> = [9, 5, 3, 1].iter().map(|&n| vec![floats(&[n, 8], n as u64)]).collect();
    check(&model(nodes, &[-1, 8], &[-1], &constants), &[("length", 9)], &cases);
}

/// A detector's end: boxes chosen by their scores, and what belongs to them.
#[test]
fn boxes_are_suppressed_and_gathered() {
    let nodes = vec![
        node("Sigmoid", &["x"], "scores"),
        node("NonMaxSuppression", &["boxes", "scores", "most", "overlap", "least"], "found"),
        node("Gather", &["found", "column"], "column_2"),
        node("Squeeze", &["column_2", "one"], "which"),
        node("Squeeze", &["boxes", "zero"], "all"),
        node("Gather", &["all", "which"], "y"),
    ];
    let boxes: Vec<f32> = (0..40)
        .flat_map(|i| {
            let (y, x) = ((i / 8) as f32 * 0.3, (i % 8) as f32 * 0.3);
            [y, x, y + 0.5 + 0.02 * i as f32, x + 0.6]
        })
        .collect();
    let constants = [
        ("boxes", Tensor::new([1, 40, 4], &boxes)),
        ("most", Tensor::new([1], &[6i64])),
        ("overlap", Tensor::new([1], &[0.3f32])),
        ("least", Tensor::new([1], &[0.6f32])),
        ("column", Tensor::new([1], &[2i64])),
        ("one", Tensor::new([1], &[1i64])),
        ("zero", Tensor::new([1], &[0i64])),
    ];
    let mut gathered = nodes;
    gathered[2].attribute.push(pb::AttributeProto {
        name: "axis".into(),
        i: 1,
        r#type: pb::attribute_proto::AttributeType::Int as i32,
        ..Default::default()
    });
    let proto = model(gathered, &[1, 3, 40], &[-1, 4], &constants);
    let found = decode(&proto);
    let target = resolve("native", "native").expect("a host");
    for target in [target, resolve("aarch64", "generic").expect("known")] {
        let built = built(&found, &[], &target);
        let mut executor =
            Executor::new(&built.program, &built.object.bytes, &target, None).expect("it runs");
        for seed in 1..4 {
            let scores = floats(&[1, 3, 40], seed);
            // With constant scores everything is computed at compile time, by another implementation.
            let mut constant = found.clone();
            constant.body.inputs.clear();
            constant.body.constants.push(("x".to_string(), scores.clone()));
            let want = naive(&constant, &[]);
            assert!(want[0].ty.shape[0] > 3);
            agree(&executor.run(&[scores]).expect("results"), &want, &format!("seed {seed}"));
        }
    }
}

#[test]
fn sizes_out_of_bounds_are_refused() {
    let target = resolve("native", "generic").expect("a host");
    let built = built(&decode(&attention()), &[("batch", 3), ("length", 20)], &target);
    let loaded = Loaded::load(&built.object.bytes, "m").expect("it loads");
    let input = vec![0u8; 3 * 20 * 24 * 4];
    let status = |symbols: [i64; 2]| {
        let mut symbols = symbols;
        loaded.run(&[&input], &mut symbols, &mut Vec::new()).expect("it runs")
    };
    assert_eq!(status([3, 20]), abi::OK);
    for wrong in [[0, 5], [4, 5], [1, 21], [1, 0], [-1, 3], [1, i64::MAX], [i64::MIN, 1]] {
        assert_eq!(status(wrong), abi::ERR_SYMBOL, "{wrong:?}");
    }
}

/// A loop whose number of iterations is the size.
#[test]
fn determinants_of_any_size() {
    let cases: Vec<Vec<Tensor>> = [6, 1, 2, 5].iter().map(|&n| vec![floats(&[n, n], 5)]).collect();
    check(&model(vec![node("Det", &["x"], "y")], &[-1, -1], &[], &[]), &[("length", 6)], &cases);
}

/// Padding up to a multiple: how much is computed from the size.
#[test]
fn a_size_is_padded_to_a_multiple() {
    let number = |values: &[i64]| Tensor::new([values.len()], values);
    let joined = with(node("Concat", &["none", "missing"], "pads"), [int("axis", 0)]);
    let conv = with(node("Conv", &["padded", "w"], "y"), [ints("strides", &[3])]);
    let nodes = vec![
        node("Shape", &["x"], "shape"),
        node("Gather", &["shape", "last"], "size"),
        node("Neg", &["size"], "negative"),
        node("Mod", &["negative", "step"], "missing"),
        joined,
        node("Pad", &["x", "pads"], "padded"),
        conv,
    ];
    let constants = [
        ("last", number(&[2])),
        ("step", number(&[12])),
        ("none", number(&[0; 5])),
        ("w", floats(&[4, 3, 3], 9)),
    ];
    let cases: Vec<Vec<Tensor>> =
        [40, 36, 37, 1, 12, 13, 25].iter().map(|&n| vec![floats(&[1, 3, n], 5)]).collect();
    check(&model(nodes, &[1, 3, -1], &[1, 4, -1], &constants), &[("length", 40)], &cases);
}

/// What follows one another has sizes of its own: more of them than two numbers would show.
#[test]
fn many_sizes_are_joined() {
    let pool = |kernel: i64, to: &str| {
        let mut pool =
            with(node("MaxPool", &["x"], to), [ints("kernel_shape", &[kernel]), ints("strides", &[kernel])]);
        pool.attribute.push(int("ceil_mode", 1));
        pool
    };
    let joined = with(node("Concat", &["x", "two", "three", "five", "two"], "j"), [int("axis", 2)]);
    let nodes = vec![pool(2, "two"), pool(3, "three"), pool(5, "five"), joined, node("Relu", &["j"], "y")];
    let cases: Vec<Vec<Tensor>> =
        [33, 32, 31, 5, 7, 9, 17].iter().map(|&n| vec![floats(&[1, 3, n], 5)]).collect();
    check(&model(nodes, &[1, 3, -1], &[1, 3, -1], &[]), &[("length", 33)], &cases);
}

/// Resized to a length that is computed from the size, and by a factor, in every mode.
#[test]
fn resizing_to_any_length() {
    let text = |name: &str, value: &str| pb::AttributeProto {
        name: name.into(),
        s: value.as_bytes().to_vec(),
        r#type: pb::attribute_proto::AttributeType::String as i32,
        ..Default::default()
    };
    let pool = with(
        node("MaxPool", &["x"], "small"),
        [ints("kernel_shape", &[3]), ints("strides", &[2]), ints("pads", &[1, 1])],
    );
    let modes = [
        ("linear", "half_pixel", "floor"),
        ("linear", "align_corners", "floor"),
        ("linear", "pytorch_half_pixel", "floor"),
        ("cubic", "half_pixel", "floor"),
        ("cubic", "half_pixel_symmetric", "floor"),
        ("nearest", "asymmetric", "floor"),
        ("nearest", "half_pixel", "round_prefer_floor"),
        ("nearest", "half_pixel", "round_prefer_ceil"),
        ("nearest", "align_corners", "ceil"),
    ];
    for (mode, coordinates, nearest) in modes {
        let resize = |inputs: &[&str], to: &str| {
            with(
                node("Resize", inputs, to),
                [
                    text("mode", mode),
                    text("coordinate_transformation_mode", coordinates),
                    text("nearest_mode", nearest),
                ],
            )
        };
        let nodes = vec![
            pool.clone(),
            node("Shape", &["x"], "shape"),
            resize(&["small", "", "", "shape"], "large"),
            resize(&["large", "", "half"], "larger"),
            resize(&["larger", "", "", "shape"], "again"),
            node("Add", &["again", "x"], "y"),
        ];
        let constants = [("half", Tensor::new([3], &[1f32, 1., 1.5]))];
        let cases: Vec<Vec<Tensor>> =
            [23, 22, 21, 3, 2, 8, 17].iter().map(|&n| vec![floats(&[1, 2, n], 5)]).collect();
        check(&model(nodes, &[1, 2, -1], &[1, 2, -1], &constants), &[("length", 23)], &cases);
    }
}

/// Means of planes that are long at their bound are means of rows, whatever the sizes.
#[test]
fn long_sums_of_planes_of_any_height() {
    let normal = with(node("InstanceNormalization", &["x", "s", "b"], "y"), []);
    let constants = [("s", floats(&[3], 1)), ("b", floats(&[3], 2))];
    let proto = model(vec![normal], &[-2, 3, -1, 140], &[-2, 3, -1, 140], &constants);
    let bounds = [("batch", 2), ("length", 150)];
    let target = resolve("x86_64", "generic").expect("known");
    let program = built(&decode(&proto), &bounds, &target).program;
    assert_eq!(program.kernels.iter().filter(|k| k.name.contains("sums")).count(), 2);
    let cases: Vec<Vec<Tensor>> =
        [(1, 150), (2, 7), (2, 131), (1, 1)].map(|(b, h)| vec![floats(&[b, 3, h, 140], 5)]).to_vec();
    check(&proto, &bounds, &cases);
}
