//! Graph passes: from the decoded model to a typed graph, then rewrites of it.
//!
//! A pass is a file with one public function on the graph that says whether it changed anything.
//! [`PASSES`] is the order; the runner verifies the graph after each. Goldens:
//! `tests/golden/passes`, a folder per pass.

mod cheaper;
mod drop_copies;
mod drop_dead;
mod edit;
mod fold_affine;
mod infer;
mod merge_equal;
mod merge_pad;
mod merge_transposes;

pub use infer::{Inferred, infer, is_supported};

use crate::error::Result;
use crate::graph::{Attr, Graph, verify};

/// A rewrite of the graph.
pub struct Pass {
    /// Name, for `--dump-after` and tests.
    pub name: &'static str,
    /// Rewrites one graph (not its bodies); says whether it changed anything.
    pub run: fn(&mut Graph) -> Result<bool>,
}

/// All passes, in order.
pub const PASSES: &[Pass] = &[
    Pass { name: "drop-dead", run: drop_dead::drop_dead },
    Pass { name: "drop-copies", run: drop_copies::drop_copies },
    Pass { name: "merge-equal", run: merge_equal::merge_equal },
    Pass { name: "merge-transposes", run: merge_transposes::merge_transposes },
    Pass { name: "cheaper", run: cheaper::cheaper },
    Pass { name: "merge-pad", run: merge_pad::merge_pad },
    Pass { name: "fold-affine", run: fold_affine::fold_affine },
    Pass { name: "clean-up", run: drop_dead::drop_dead },
];

/// Runs one pass on a graph and its bodies, innermost first.
pub fn run_pass(pass: &Pass, graph: &mut Graph) -> Result<bool> {
    let mut changed = false;
    let bodies = graph.nodes.iter_mut().flat_map(|n| n.attrs.0.values_mut());
    for attr in bodies {
        if let Attr::Graph(body) = attr {
            changed |= run_pass(pass, body)?;
        }
    }
    Ok((pass.run)(graph)? || changed)
}

/// Runs all passes; `after` sees the graph after each, and whether the pass changed it.
pub fn run_passes(graph: &mut Graph, after: &mut dyn FnMut(&str, &Graph, bool)) -> Result<()> {
    for pass in PASSES {
        let changed = run_pass(pass, graph).map_err(|e| e.at(format!("pass {}", pass.name)))?;
        if changed {
            verify(graph).map_err(|e| e.at(format!("pass {}", pass.name)))?;
        }
        after(pass.name, graph, changed);
    }
    Ok(())
}
