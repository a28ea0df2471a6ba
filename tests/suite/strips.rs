//! Chains computed strip by strip: which graphs get them, and that the results stay the same, bit for bit.

use crate::golden::check_folder;
use crate::passes::{outputs_of, seeded};
use lmc::definition::verify;
use lmc::graph;
use lmc::group::{fuse, layouts};
use lmc::lower::lower;
use lmc::schedule::Prefer;
use lmc::strips::{Kernels, form};
use lmc::target::resolve;

/// The stages, with strips.
fn formed(text: &str) -> String {
    let graph = graph::parse(text, lmc::ops::find).expect("a graph");
    graph::verify(&graph).expect("a valid graph");
    let target = resolve("x86_64", "generic").expect("a known processor");
    let mut lowering = lower(&graph).expect("a graph that can be lowered");
    fuse(&mut lowering, &graph.outputs);
    let before = outputs_of(&graph, &lowering, &|id| seeded(&graph, id));
    let fixed: Vec<u32> = graph.inputs.iter().chain(&graph.outputs).copied().collect();
    let mut layouts = layouts(&lowering, &fixed);
    let kernels = Kernels { whole: &|_, _, _| false, below: &|_, _, _, _| None };
    form(&mut lowering, &mut layouts, &graph.outputs, (&target, Prefer::Speed), &kernels);
    verify(&lowering).expect("a valid lowering with strips");
    assert_eq!(before, outputs_of(&graph, &lowering, &|id| seeded(&graph, id)), "{lowering}");
    lowering.to_string()
}

#[test]
fn chains_computed_strip_by_strip() {
    check_folder("strips", formed);
}
