//! The stages of a build with what an observer is told of each: how far it is, its text, and the time it took.

use super::Observer;
use super::timing::Clock;
use crate::base::TensorType;
use crate::error::Result;
use crate::graph::Graph;
use crate::import::Model;
use crate::passes::{self, Around, Given};

/// Shows the stages of planning, and measures them.
pub(super) fn show<'a>(
    observer: &'a dyn Observer,
    clock: &'a Clock,
) -> impl Fn(&str, &dyn Fn() -> Option<String>) + 'a {
    move |stage, text| {
        clock.end(if stage == "schedule" { "nest" } else { stage });
        if let Some(text) = observer.wants(stage).then(text).flatten() {
            observer.dump(stage, &text);
        }
    }
}

/// Types the model; gives notes too.
pub(super) fn typed_graph(
    model: &Model,
    types: &[TensorType],
    sample: u32,
    given: &Given,
    observer: &dyn Observer,
    clock: &Clock,
) -> Result<(Graph, Vec<String>)> {
    observer.progress("typing", 0, 1);
    let typed = passes::infer_sample(model, types, sample, given).into_result()?;
    clock.end("types");
    dump("graph", &typed.0, observer);
    Ok(typed)
}

/// Runs the passes; gives notes.
pub(super) fn rewrite(
    graph: &mut Graph,
    around: Around,
    observer: &dyn Observer,
    clock: &Clock,
) -> Result<Vec<String>> {
    let mut done = 0;
    let notes = passes::run_passes(graph, around, &mut |pass, graph, _| {
        done += 1;
        observer.progress("rewriting", done, passes::PASSES.len());
        dump(pass, graph, observer);
    })?;
    clock.end("passes");
    Ok(notes)
}

fn dump(stage: &str, graph: &Graph, observer: &dyn Observer) {
    if observer.wants(stage) {
        observer.dump(stage, &graph.to_string());
    }
}
