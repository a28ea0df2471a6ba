//! Fusion and layouts: what small graphs become, and that the results stay the same.

use crate::golden::check_folder;
use crate::passes::{outputs_of, seeded};
use lmc::definition::{Lowering, verify};
use lmc::graph::{self, Graph};
use lmc::group::{fuse, layouts};
use lmc::lower::lower;
use lmc::schedule::linear::Layout;
use std::fmt::Write;

/// The fused stages, and the layouts that are not row-major.
fn fused(text: &str) -> String {
    let graph = graph::parse(text, lmc::ops::find).expect("a graph");
    graph::verify(&graph).expect("a valid graph");
    let mut lowering = lower(&graph).expect("a graph that can be lowered");
    let before = run(&graph, &lowering);
    fuse(&mut lowering, &graph.outputs);
    verify(&lowering).expect("a valid lowering after fusion");
    for (a, b) in before.iter().flatten().zip(run(&graph, &lowering).iter().flatten()) {
        assert!((a - b).abs() <= 1e-5 * (1.0 + a.abs()), "{a} before, {b} after\n{lowering}");
    }
    let fixed: Vec<u32> = graph.inputs.iter().chain(&graph.outputs).copied().collect();
    let mut text = lowering.to_string();
    for (v, layout) in layouts(&lowering, &fixed).iter().enumerate() {
        let shape = &lowering.values[v].ty.shape;
        let used = lowering.stages.iter().any(|s| s.reads().contains(&(v as u32)));
        if used && *layout != Layout::dense(shape) {
            let mut order: Vec<usize> = (0..shape.len()).collect();
            order.sort_by_key(|&d| -layout.strides[d]);
            let order: Vec<String> = order.iter().map(usize::to_string).collect();
            writeln!(text, "layout v{v} {}", order.join(", ")).expect("writing to a string");
        }
    }
    text
}

fn run(graph: &Graph, lowering: &Lowering) -> Vec<Vec<f64>> {
    outputs_of(graph, lowering, &|id| seeded(graph, id))
}

#[test]
fn fusion_and_layouts() {
    check_folder("group", fused);
}
