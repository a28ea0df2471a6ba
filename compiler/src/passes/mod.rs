//! Graph passes: from the decoded model to a typed graph, then rewrites of it.
//!
//! A pass is a file with one public function on the graph that says whether it changed anything.
//! [`PASSES`] is the order; the runner verifies the graph after each. Goldens:
//! `tests/golden/passes`, a folder per pass.

mod channels;
mod cheaper;
mod drop_channels;
mod drop_copies;
mod drop_dead;
mod drop_weights;
mod early_point;
mod edit;
mod fold_affine;
mod four_bits;
mod infer;
mod integer;
mod late_broadcast;
mod merge_branches;
mod merge_concats;
mod merge_equal;
mod merge_groups;
mod merge_pad;
mod merge_rows;
mod merge_transposes;
mod pull_strides;
mod split_groups;
mod trim_windows;
mod unfold;
mod window;
mod write_boxes;

pub use drop_dead::{data_decide_outputs, wanted};
pub use infer::{Given, Inferred, infer, infer_sample, is_supported};
pub use unfold::unfold;
pub use window::{Window, diagonal};

use crate::error::Result;
use crate::graph::{Attr, Graph, verify};
use crate::target::Target;

/// A rewrite of the graph.
pub struct Pass {
    /// Name, for `--dump-after` and tests.
    pub name: &'static str,
    /// Rewrites one graph (not its bodies); says whether it changed anything.
    pub run: fn(&mut Graph, &mut Around) -> Result<bool>,
}

/// What passes know beside the graph, and what they tell.
#[derive(Clone)]
pub struct Around<'a> {
    /// What is compiled for.
    pub target: &'a Target,
    /// Whether convolutions may be filtered, which takes memory.
    pub filters: bool,
    /// What the user should know.
    pub notes: Vec<String>,
}

impl<'a> Around<'a> {
    /// For a target, where speed is preferred, with nothing noted.
    pub fn new(target: &'a Target) -> Self {
        Around { target, filters: true, notes: Vec::new() }
    }
}

/// All passes, in order.
pub const PASSES: &[Pass] = &[
    Pass { name: "drop-dead", run: |g, _| drop_dead::drop_dead(g) },
    Pass { name: "write-boxes", run: |g, _| write_boxes::write_boxes(g) },
    Pass { name: "late-broadcast", run: |g, _| late_broadcast::late_broadcast(g) },
    Pass { name: "drop-copies", run: |g, _| drop_copies::drop_copies(g) },
    Pass { name: "merge-equal", run: |g, _| merge_equal::merge_equal(g) },
    Pass { name: "merge-transposes", run: |g, _| merge_transposes::merge_transposes(g) },
    Pass { name: "cheaper", run: |g, _| cheaper::cheaper(g) },
    Pass { name: "merge-pad", run: |g, _| merge_pad::merge_pad(g) },
    Pass { name: "fold-affine", run: |g, _| fold_affine::fold_affine(g) },
    Pass { name: "merge-branches", run: |g, _| merge_branches::merge_branches(g) },
    Pass { name: "merge-rows", run: |g, around| Ok(around.filters && merge_rows::merge_rows(g)?) },
    Pass { name: "pull-strides", run: |g, _| pull_strides::pull_strides(g) },
    Pass { name: "early-point", run: |g, _| early_point::early_point(g) },
    Pass { name: "drop-weights", run: |g, around| drop_weights::drop_weights(g, &mut around.notes) },
    Pass { name: "drop-channels", run: |g, around| drop_channels::drop_channels(g, &mut around.notes) },
    Pass { name: "integer", run: integer::integer },
    Pass {
        name: "four-bits",
        run: |g, around| four_bits::four_bits(g, around.filters && around.target.sums_bytes()),
    },
    Pass { name: "trim-windows", run: |g, _| trim_windows::trim_windows(g) },
    Pass {
        name: "drop-integer-channels",
        run: |g, around| drop_channels::drop_channels(g, &mut around.notes),
    },
    Pass { name: "merge-concats", run: |g, _| merge_concats::merge_concats(g) },
    Pass { name: "split-groups", run: |g, around| Ok(around.filters && split_groups::split_groups(g)?) },
    Pass { name: "merge-groups", run: |g, around| merge_groups::merge_groups(g, around.target) },
    Pass { name: "clean-up", run: |g, _| drop_dead::drop_dead(g) },
];

/// Runs one pass on a graph and its bodies, innermost first.
pub fn run_pass(pass: &Pass, graph: &mut Graph, around: &mut Around) -> Result<bool> {
    let mut changed = false;
    let bodies = graph.nodes.iter_mut().flat_map(|n| n.attrs.0.values_mut());
    for attr in bodies {
        if let Attr::Graph(body) = attr {
            changed |= run_pass(pass, body, around)?;
        }
    }
    Ok((pass.run)(graph, around)? || changed)
}

/// Runs all passes and gives their notes; `after` sees the graph after each, and whether the pass
/// changed it.
pub fn run_passes(
    graph: &mut Graph,
    mut around: Around,
    after: &mut dyn FnMut(&str, &Graph, bool),
) -> Result<Vec<String>> {
    for pass in PASSES {
        let changed = run_pass(pass, graph, &mut around).map_err(|e| e.at(format!("pass {}", pass.name)))?;
        if changed {
            verify(graph).map_err(|e| e.at(format!("pass {}", pass.name)))?;
        }
        after(pass.name, graph, changed);
    }
    Ok(around.notes)
}
