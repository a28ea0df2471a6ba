//! Graph passes: what each makes of small graphs, and that the results stay the same.

use crate::golden::{check_folder, tests_folder};
use lmc::base::Tensor;
use lmc::definition::{Env, Lowering, interpret};
use lmc::graph::{Graph, parse, verify};
use lmc::lower::lower;
use lmc::passes::{Around, PASSES, Pass, run_pass};
use lmc::run::compare::numbers;
use lmc::scalar::Scalar;

/// Numbers of both signs in steps of an eighth, the same on every run.
pub fn seeded(graph: &Graph, id: u32) -> Tensor {
    let ty = &graph.value(id).ty;
    let element = |i: usize| {
        let value = ((i as f64 + f64::from(id)) * 37.0 % 61.0).floor() - 30.0;
        Scalar::from_f64(ty.dtype, if ty.dtype.is_float() { value / 8.0 } else { value })
    };
    let bytes = (0..ty.elems()).flat_map(|i| element(i).bits.to_le_bytes()[..ty.dtype.size()].to_vec());
    Tensor::from_bytes(ty.clone(), bytes.collect::<Vec<u8>>()).expect("a whole tensor")
}

/// The outputs of a graph on seeded inputs, as numbers.
fn outputs(graph: &Graph) -> Vec<Vec<f64>> {
    let lowering = lower(graph).expect("a graph that can be lowered");
    outputs_of(graph, &lowering, &|id| seeded(graph, id))
}

/// The outputs of a lowered graph on the given inputs, as numbers.
pub fn outputs_of(graph: &Graph, lowering: &Lowering, input: &dyn Fn(u32) -> Tensor) -> Vec<Vec<f64>> {
    let mut env = Env::new(lowering);
    graph.inputs.iter().for_each(|&id| env.set(id, &input(id)));
    interpret(lowering, &mut env).expect("a graph that runs");
    let output = |&id: &u32| numbers(&env.get(id, &graph.value(id).ty).expect("an output"));
    graph.outputs.iter().map(output).collect()
}

/// The graph that the pass makes, after comparing its results with those before.
fn rewrite(pass: &Pass, text: &str) -> String {
    let mut graph = parse(text, lmc::ops::find).expect("a graph");
    verify(&graph).expect("a valid graph");
    let before = outputs(&graph);
    let target = lmc::target::resolve("x86_64", "generic").expect("a known target");
    let mut around = Around::new(&target);
    let changed = run_pass(pass, &mut graph, &mut around).expect("a pass that succeeds");
    verify(&graph).expect("a valid graph after the pass");
    for (a, b) in before.iter().flatten().zip(outputs(&graph).iter().flatten()) {
        assert!((a - b).abs() <= 1e-5 * (1.0 + a.abs()), "{a} before, {b} after\n{graph}");
    }
    let dead = PASSES.iter().find(|p| p.name == "drop-dead").expect("the pass that drops dead nodes");
    run_pass(dead, &mut graph, &mut around).expect("a pass that succeeds");
    if changed { graph.to_string() } else { "unchanged\n".to_string() }
}

#[test]
fn passes_on_small_graphs() {
    for pass in PASSES {
        let folder = format!("passes/{}", pass.name);
        if tests_folder().join("golden").join(&folder).is_dir() {
            check_folder(&folder, |text| rewrite(pass, text));
        }
    }
}

/// Whether a convolution of 16 bits stays in float.
fn stays_in_float(arch: &str, cpu: &str, filters: bool, (size, attrs): (usize, &str)) -> bool {
    let text = format!(
        "graph g {{
  input x: f32[1,8,9,9]
  const s: f32[] = [0.001]
  const z: i16[] = [0]
  const w: i8[8,8,3,3] = random 1
  const ws: f32[] = [0.5]
  r: f32[1,8,9,9] = Relu(x)
  q: i16[1,8,9,9] = QuantizeLinear(r, s, z)
  d: f32[1,8,9,9] = DequantizeLinear(q, s, z)
  dw: f32[8,8,3,3] = DequantizeLinear(w, ws)
  a: f32[1,8,{size},{size}] = Conv(d, dw){attrs}
  output a
}}"
    );
    let mut graph = parse(&text, lmc::ops::find).expect("a graph");
    let target = lmc::target::resolve(arch, cpu).expect("a known target");
    let mut around = Around { filters, ..Around::new(&target) };
    let pass = PASSES.iter().find(|p| p.name == "integer").expect("the pass");
    run_pass(pass, &mut graph, &mut around).expect("a pass that succeeds");
    verify(&graph).expect("a valid graph after the pass");
    graph.nodes.iter().any(|n| n.op.name == "Conv")
}

#[test]
fn sixteen_bits_stay_floats_where_these_are_filtered() {
    let plain = (7, "");
    assert!(stays_in_float("aarch64", "generic", true, plain));
    assert!(!stays_in_float("aarch64", "generic", false, plain), "memory is preferred");
    assert!(!stays_in_float("aarch64", "generic", true, (4, " { strides = [2, 2] }")), "not filtered");
    assert!(!stays_in_float("x86_64", "znver4", true, plain), "integers take less");
    assert!(!stays_in_float("x86_64", "x86-64-v3", true, plain), "integers take less");
}
