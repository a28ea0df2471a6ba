//! Chains computed strip by strip: which graphs get them, and that the results stay the same, bit for bit.

use crate::golden::{check_folder, tests_folder};
use crate::passes::{outputs_of, seeded};
use crate::sizes::{decode, floats, naive};
use crate::support::onnx::{int, model, node};
use lmc::base::Tensor;
use lmc::build::{Build, Silent};
use lmc::definition::verify;
use lmc::graph;
use lmc::group::{Again, fuse, layouts, twice};
use lmc::lower::lower;
use lmc::run::executor::Executor;
use lmc::schedule::Prefer;
use lmc::strips::{Kernels, Spend, form};
use lmc::target::resolve;
use tract_onnx::pb;

/// The stages, with strips.
fn formed(text: &str) -> String {
    preferring(Spend::fast(), text)
}

fn preferring(spend: Spend, text: &str) -> String {
    made(spend, text, None)
}

/// `again`: what may be computed twice.
fn made(spend: Spend, text: &str, again: Option<Again>) -> String {
    let graph = graph::parse(text, lmc::ops::find).expect("a graph");
    graph::verify(&graph).expect("a valid graph");
    let target = resolve("x86_64", "generic").expect("a known processor");
    let mut lowering = lower(&graph).expect("a graph that can be lowered");
    fuse(&mut lowering, &graph.outputs);
    let before = outputs_of(&graph, &lowering, &|id| seeded(&graph, id));
    let fixed: Vec<u32> = graph.inputs.iter().chain(&graph.outputs).copied().collect();
    let mut layouts = layouts(&lowering, &fixed);
    if let Some(again) = again {
        twice(&mut lowering, &mut layouts, &graph.outputs, again);
        verify(&lowering).expect("a valid lowering with definitions that are computed twice");
    }
    let kernels = Kernels { whole: &|_, _, _| false, below: &|_, _, _, _| None, follow: true };
    form(&mut lowering, &mut layouts, &graph.outputs, (&target, spend), &kernels);
    verify(&lowering).expect("a valid lowering with strips");
    assert_eq!(before, outputs_of(&graph, &lowering, &|id| seeded(&graph, id)), "{lowering}");
    lowering.to_string()
}

#[test]
fn chains_computed_strip_by_strip() {
    check_folder("strips", formed);
}

#[test]
fn what_is_quantized_by_its_range_computed_twice() {
    let again = |share: f64| Some(Again { bytes: 1, share });
    check_folder("twice", |text| made(Spend::small(), text, again(f64::INFINITY)));
    let text = std::fs::read_to_string(tests_folder().join("golden/twice/perceptron.txt")).expect("a golden");
    let graph = text.split("----").next().expect("a graph");
    let [none, cheap, all] = [None, again(0.3), again(0.9)].map(|again| made(Spend::small(), graph, again));
    assert!(cheap == none && all != none, "{cheap}");
}

/// A perceptron of bytes whose layer in between is quantized by its own range.
fn dynamic(rows: usize) -> pb::ModelProto {
    const WIDE: [usize; 3] = [32, 512, 16];
    let quantized = |from: &str, to: [&str; 3]| {
        let mut made = node("DynamicQuantizeLinear", &[from], to[0]);
        made.output = to.iter().map(ToString::to_string).collect();
        made
    };
    let nodes = vec![
        quantized("x", ["q0", "s0", "z0"]),
        node("MatMulInteger", &["q0", "w0", "z0"], "a"),
        node("Cast", &["a"], "f"),
        node("Mul", &["f", "s0"], "g"),
        node("Add", &["g", "b"], "h"),
        node("LeakyRelu", &["h"], "r"),
        quantized("r", ["q1", "s1", "z1"]),
        node("MatMulInteger", &["q1", "w1", "z1"], "c"),
        node("Cast", &["c"], "d"),
        node("Mul", &["d", "s1"], "y"),
    ];
    let nodes = nodes.into_iter().map(|mut n| {
        n.attribute.extend((n.op_type == "Cast").then(|| int("to", 1)));
        n
    });
    let bytes = |rows: usize, columns: usize| {
        let bytes: Vec<i8> = (0..rows * columns).map(|i| (i * 37 % 251) as i8).collect();
        Tensor::new([rows, columns], &bytes)
    };
    let constants =
        [("w0", bytes(WIDE[0], WIDE[1])), ("w1", bytes(WIDE[1], WIDE[2])), ("b", floats(&[WIDE[1]], 3))];
    let shape = |width: usize| [rows as i64, width as i64];
    model(nodes.collect(), &shape(WIDE[0]), &shape(WIDE[2]), &constants)
}

/// Where size is preferred, or a budget asks for it, never are all floats of that layer there.
#[test]
fn computing_twice_takes_less_memory_and_gives_the_same() {
    let decoded = decode(&dynamic(128));
    let x = floats(&[128, 32], 5);
    let want = naive(&decoded, std::slice::from_ref(&x));
    let all = 128 * 512 * size_of::<f32>();
    for (arch, cpu) in
        [("x86_64", "x86-64-v3"), ("native", "native"), ("aarch64", "cortex-a53"), ("aarch64", "neoverse-n1")]
    {
        let target = resolve(arch, cpu).expect("known");
        let build =
            |build: Build| build.build_model(&decoded, target.clone(), "m", &Silent).expect("a build");
        let fast = build(Build::new("m.onnx"));
        let small = build(Build::new("m.onnx").prefer(Prefer::Size));
        let kept = build(Build::new("m.onnx").max_ram(all));
        assert!(fast.program.arena_bytes > all, "{cpu}: {} bytes", fast.program.arena_bytes);
        for built in [small, kept] {
            assert!(built.program.arena_bytes < all, "{cpu}: {} bytes", built.program.arena_bytes);
            let executor = Executor::new(&built.program, &built.object.bytes, &target, None);
            let got = executor.and_then(|mut e| e.run(std::slice::from_ref(&x)));
            assert_eq!(got.expect("results"), want, "{cpu}");
        }
    }
}

/// Few half floats are `f32` between two products though that takes nearly twice the memory, but not where bytes are
/// preferred.
#[test]
fn few_half_floats_are_widened_for_speed() {
    let text = "graph g {
  input x: f16[1,64,1,20]
  const v0: f32[64,64,1,5] = random 1
  w: f16[64,64,1,5] = Cast(v0) { to = 10 }
  a: f16[1,64,1,20] = Conv(x, w) { pads = [0, 2, 0, 2] }
  y: f16[1,64,1,20] = Conv(a, w) { pads = [0, 2, 0, 2] }
  output y
}
";
    let between = |prefer| {
        let made = preferring(prefer, text);
        made.lines()
            .find_map(|l| l.trim().strip_prefix("v3 a: ").map(str::to_string))
            .expect("the value between")
    };
    assert_eq!(
        (between(Spend::fast()), between(Spend::small())),
        ("f32[1,64,1,20]".into(), "f16[1,64,1,20]".into())
    );
}

/// Half floats that lanes of several products share are copied as `f32` for all of them where speed is preferred: without
/// copies the products would take twice their time, so that a quarter more memory is worth it.
#[test]
fn half_floats_of_most_products_are_copied_for_speed() {
    let text = "graph g {
  input x: f16[1024,64]
  const v0: f32[64,64] = random 1
  const v1: f32[64,64] = random 2
  const v2: f32[64,64] = random 3
  r: f16[1024,64] = Relu(x)
  wq: f16[64,64] = Cast(v0) { to = 10 }
  wk: f16[64,64] = Cast(v1) { to = 10 }
  wv: f16[64,64] = Cast(v2) { to = 10 }
  q: f16[1024,64] = MatMul(r, wq)
  k: f16[1024,64] = MatMul(r, wk)
  v: f16[1024,64] = MatMul(r, wv)
  a: f16[1024,64] = Tanh(q)
  b: f16[1024,64] = Tanh(k)
  c: f16[1024,64] = Tanh(v)
  t: f16[64,1024] = Transpose(a) { perm = [1, 0] }
  s: f16[64,64] = MatMul(t, b)
  y: f16[1024,64] = MatMul(c, s)
  output y
}
";
    let copies = |spend| preferring(spend, text).contains("define wide");
    assert_eq!((copies(Spend::fast()), copies(Spend::small())), (true, false));
}
