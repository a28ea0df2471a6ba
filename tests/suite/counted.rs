//! Loops as converters write them: a condition on counters ends them, weights pass from iteration to
//! iteration, and the input is read row by row; or data end them, with or without a bound.

use crate::lengths::{body, lengths};
use crate::sizes::{agree, built, check, decode, floats, naive};
use crate::support::onnx::{int, model, node, with};
use lmc::base::{DType, Tensor, TensorType};
use lmc::definition::Stage;
use lmc::passes::infer;
use lmc::run::executor::Executor;
use lmc::target::resolve;
use tract_onnx::pb;

/// `s = tanh(s w + x[i])` for all rows; what is seen of each step is `y`. `rows`: whether the rows are
/// counted by the carried counter, or by the number of the iteration.
fn recurrence(counter: bool, rows: usize, length: i64) -> pb::ModelProto {
    let mut repeated = node("Loop", &["endless", "", "zero", "s0", "w"], "last_n");
    repeated.output.extend(["last".into(), "last_w".into(), "y".into()]);
    let number = with(node("Cast", &[if counter { "n" } else { "i" }], "at"), [int("to", 6)]);
    let nodes = vec![
        number,
        node("Gather", &["x", "at"], "row"),
        node("MatMul", &["s", "w_in"], "product"),
        node("Add", &["product", "row"], "sum"),
        node("Tanh", &["sum"], "next"),
        node("Identity", &["next"], "seen"),
        node("Add", &["n", "one"], "next_n"),
        node("Less", &["next_n", "count"], "below"),
        node("Less", &["i", "endless"], "open"),
        node("And", &["below", "open"], "on"),
        node("Identity", &["w_in"], "w_out"),
    ];
    let io: (&[(&str, i32)], &[(&str, i32)]) = (
        &[("i", 7), ("go", 9), ("n", 7), ("s", 1), ("w_in", 1)],
        &[("on", 9), ("next_n", 7), ("next", 1), ("w_out", 1), ("seen", 1)],
    );
    body(&mut repeated, nodes, io);
    let nodes = vec![node("Shape", &["x"], "shape"), node("Gather", &["shape", "zero"], "count"), repeated];
    let scalar = |n: i64| Tensor::scalar(n);
    let constants = [
        ("endless", scalar(i64::MAX)),
        ("zero", scalar(0)),
        ("one", scalar(1)),
        ("s0", floats(&[1, 3], 4)),
        ("w", floats(&[3, 3], 5)),
    ];
    model(nodes, &[length, 1, 3], &[if length < 0 { -1 } else { rows as i64 }, 1, 3], &constants)
}

fn expected(x: &Tensor) -> Tensor {
    let (x, mut s) = (x.to_vec::<f32>().expect("f32"), floats(&[1, 3], 4).to_vec::<f32>().expect("f32"));
    let w = floats(&[3, 3], 5).to_vec::<f32>().expect("f32");
    let mut all: Vec<f32> = Vec::new();
    for row in x.chunks(3) {
        let next = |j: usize| (s[0] * w[j] + s[1] * w[3 + j] + s[2] * w[6 + j] + row[j]).tanh();
        s = (0..3).map(next).collect();
        all.extend(&s);
    }
    Tensor::new([x.len() / 3, 1, 3], &all)
}

#[test]
fn a_condition_on_a_counter_says_how_long_the_loop_is() {
    for counter in [true, false] {
        let proto = recurrence(counter, 90, 90);
        let x = floats(&[90, 1, 3], 7);
        let types = [x.ty.clone()];
        let (graph, _) = infer(&decode(&proto), &types).into_result().expect("types");
        let lowering = lmc::lower::lower(&graph).expect("a lowering");
        let repeat = lowering.stages.iter().find_map(|s| match s {
            Stage::Repeat(repeat) => Some(repeat),
            _ => None,
        });
        let repeat = repeat.expect("a loop");
        // Rows are parts of the input, and the weights are no state.
        assert_eq!((repeat.count, repeat.slices.len()), (90, 2));
        assert!(repeat.carries.len() <= 2);
        for (arch, cpu) in [("native", "native"), ("aarch64", "generic")] {
            let target = resolve(arch, cpu).expect("known");
            let built = built(&decode(&proto), &[], &target);
            let mut executor =
                Executor::new(&built.program, &built.object.bytes, &target, None).expect("an object");
            let got = executor.run(std::slice::from_ref(&x)).expect("a result");
            agree(&got, &[expected(&x)], arch);
        }
    }
}

#[test]
fn a_counted_loop_over_a_length_known_only_at_run_time() {
    check(&recurrence(true, 0, -1), &[("length", 9)], &lengths(&[9, 1, 4, 8], |n| vec![n, 1, 3]));
}

/// Part of the rows, and the number of the iteration is used otherwise too.
#[test]
fn rows_from_the_middle_and_the_number_itself() {
    let mut repeated = node("Loop", &["trips", "", "two", "s0"], "last_n");
    repeated.output.extend(["last".into(), "y".into()]);
    let number = with(node("Cast", &["i"], "float"), [int("to", 1)]);
    let nodes = vec![
        node("Gather", &["x", "n"], "row"),
        number,
        node("Mul", &["float", "row"], "product"),
        node("Add", &["product", "s"], "next"),
        node("Identity", &["next"], "seen"),
        node("Add", &["one", "n"], "next_n"),
        node("Identity", &["go"], "on"),
    ];
    let io: (&[(&str, i32)], &[(&str, i32)]) =
        (&[("i", 7), ("go", 9), ("n", 7), ("s", 1)], &[("on", 9), ("next_n", 7), ("next", 1), ("seen", 1)]);
    body(&mut repeated, nodes, io);
    let constants = [
        ("trips", Tensor::scalar(80i64)),
        ("two", Tensor::scalar(2i64)),
        ("one", Tensor::scalar(1i64)),
        ("s0", floats(&[1, 3], 4)),
    ];
    let proto = model(vec![repeated], &[84, 1, 3], &[80, 1, 3], &constants);
    let x = floats(&[84, 1, 3], 7);
    let (values, mut s) = (x.to_vec::<f32>().expect("f32"), constants[3].1.to_vec::<f32>().expect("f32"));
    let mut all: Vec<f32> = Vec::new();
    for i in 0..80 {
        (0..3).for_each(|j| s[j] += i as f32 * values[(i + 2) * 3 + j]);
        all.extend(&s);
    }
    let target = resolve("native", "generic").expect("a host");
    let built = built(&decode(&proto), &[], &target);
    let mut executor = Executor::new(&built.program, &built.object.bytes, &target, None).expect("an object");
    let got = executor.run(&[x]).expect("a result");
    let (got, want) = (got[0].to_vec::<f32>().expect("f32"), all);
    assert!(got.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-3), "{got:?} instead of {want:?}");
}

/// `while not (max |s| <= 0.1 or n >= 20): s = 0.7 s`, and the same as an If of what is unfinished.
#[test]
fn data_end_a_loop_that_a_counter_bounds() {
    for branches in [false, true] {
        let mut repeated = node("Loop", &["endless", "", "zero", "s0"], "last_n");
        repeated.output.push("last".into());
        let mut nodes = vec![
            node("Mul", &["s", "part"], "next"),
            node("Add", &["n", "one"], "next_n"),
            node("Abs", &["next"], "size"),
            node("ReduceMax", &["size"], "largest"),
        ];
        nodes[3].attribute.push(int("keepdims", 0));
        if branches {
            let mut decides = node("If", &["open"], "on");
            for (name, inner) in [
                ("then_branch", node("Less", &["next_n", "most"], "below")),
                ("else_branch", node("Identity", &["never"], "ended")),
            ] {
                let output = inner.output[0].clone();
                body(&mut decides, vec![inner], (&[], &[(&output, 9)]));
                decides.attribute.last_mut().expect("a branch").name = name.into();
            }
            nodes.extend([node("Greater", &["largest", "least"], "open"), decides]);
        } else {
            nodes.extend([
                node("LessOrEqual", &["largest", "least"], "ended"),
                node("GreaterOrEqual", &["next_n", "most"], "late"),
                node("Or", &["ended", "late"], "done"),
                node("Not", &["done"], "on"),
            ]);
        }
        let io: (&[(&str, i32)], &[(&str, i32)]) =
            (&[("i", 7), ("go", 9), ("n", 7), ("s", 1)], &[("on", 9), ("next_n", 7), ("next", 1)]);
        body(&mut repeated, nodes, io);
        let nodes = vec![node("Identity", &["x"], "s0"), repeated, node("Identity", &["last"], "y")];
        let constants = [
            ("endless", Tensor::scalar(i64::MAX)),
            ("zero", Tensor::scalar(0i64)),
            ("one", Tensor::scalar(1i64)),
            ("most", Tensor::scalar(20i64)),
            ("part", Tensor::scalar(0.7f32)),
            ("least", Tensor::scalar(0.1f32)),
            ("never", Tensor { ty: TensorType::new(DType::Bool, []), data: [0].into() }),
        ];
        let proto = model(nodes, &[1, 3], &[1, 3], &constants);
        for (arch, cpu) in [("native", "native"), ("aarch64", "generic")] {
            let target = resolve(arch, cpu).expect("known");
            let built = built(&decode(&proto), &[], &target);
            let mut executor =
                Executor::new(&built.program, &built.object.bytes, &target, None).expect("an object");
            // Three iterations; the counter's twenty.
            for (first, steps) in [(0.25f32, 3), (1e6, 20)] {
                let x = Tensor::new([1, 3], &[first, 0.0, -first / 2.0]);
                let got = executor.run(std::slice::from_ref(&x)).expect("a result");
                let part = (0..steps).fold(first, |s, _| s * 0.7);
                agree(&got, &[Tensor::new([1, 3], &[part, 0.0, -part / 2.0])], arch);
            }
        }
    }
}

/// `while max |s| > 0.1: s = 0.7 s`, at most as often as `x[0, 1]` says where that is the trip count: nothing
/// but data ends it, maybe before the first iteration.
#[test]
fn data_alone_end_a_loop() {
    for counted in [false, true] {
        let trips = if counted { "trips" } else { "" };
        let mut repeated = node("Loop", &[trips, "open", "x"], "y");
        let largest = |of: &str, to: &str| {
            let largest = with(node("ReduceMax", &[of], to), [int("keepdims", 0)]);
            vec![node("Abs", &[if of == "size0" { "x" } else { "next" }], of), largest]
        };
        let mut nodes = vec![node("Mul", &["s", "part"], "next")];
        nodes.extend(largest("size", "largest"));
        nodes.push(node("Greater", &["largest", "least"], "on"));
        body(&mut repeated, nodes, (&[("i", 7), ("go", 9), ("s", 1)], &[("on", 9), ("next", 1)]));
        let mut nodes = largest("size0", "largest0");
        let whole = with(node("Cast", &["second"], "trips"), [int("to", 7)]);
        nodes.extend([node("Gather", &["row", "one"], "second"), whole]);
        nodes.insert(0, node("Squeeze", &["x", "first"], "row"));
        nodes.extend([node("Greater", &["largest0", "least"], "open"), repeated]);
        let constants = [
            ("one", Tensor::scalar(1i64)),
            ("first", Tensor::new([1], &[0i64])),
            ("part", Tensor::scalar(0.7f32)),
            ("least", Tensor::scalar(0.1f32)),
        ];
        let proto = model(nodes, &[1, 3], &[1, 3], &constants);
        let cases = [([0.01f32, 0.0, 0.05], 0), ([0.25, 0.0, -0.5], 5), ([1e6, 4.0, 0.0], 46)];
        for ([a, trips, c], steps) in cases {
            let steps = if counted { steps.min(trips as usize) } else { steps };
            let x = Tensor::new([1, 3], &[a, trips, c]);
            let want = [a, trips, c].map(|v| (0..steps).fold(v, |v, _| v * 0.7));
            let want = [Tensor::new([1, 3], &want)];
            agree(&naive(&decode(&proto), std::slice::from_ref(&x)), &want, "naive");
            for (arch, cpu) in [("native", "native"), ("aarch64", "generic")] {
                let target = resolve(arch, cpu).expect("known");
                let built = built(&decode(&proto), &[], &target);
                let mut executor =
                    Executor::new(&built.program, &built.object.bytes, &target, None).expect("an object");
                agree(&executor.run(std::slice::from_ref(&x)).expect("a result"), &want, arch);
            }
        }
    }
}
