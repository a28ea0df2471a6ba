//! Chains computed strip by strip: which graphs get them, and that the results stay the same, bit for bit.

use crate::golden::check_folder;
use crate::passes::{outputs_of, seeded};
use lmc::definition::verify;
use lmc::graph;
use lmc::group::{fuse, layouts};
use lmc::lower::lower;
use lmc::strips::{Kernels, Spend, form};
use lmc::target::resolve;

/// The stages, with strips.
fn formed(text: &str) -> String {
    preferring(Spend::fast(), text)
}

fn preferring(spend: Spend, text: &str) -> String {
    let graph = graph::parse(text, lmc::ops::find).expect("a graph");
    graph::verify(&graph).expect("a valid graph");
    let target = resolve("x86_64", "generic").expect("a known processor");
    let mut lowering = lower(&graph).expect("a graph that can be lowered");
    fuse(&mut lowering, &graph.outputs);
    let before = outputs_of(&graph, &lowering, &|id| seeded(&graph, id));
    let fixed: Vec<u32> = graph.inputs.iter().chain(&graph.outputs).copied().collect();
    let mut layouts = layouts(&lowering, &fixed);
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
