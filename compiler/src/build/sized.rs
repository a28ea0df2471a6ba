//! Models with sizes known only at run time: lowered at several samples, merged.

use super::timing::Clock;
use super::{Observer, Silent, typed_graph};
use crate::definition::ValueId;
use crate::error::Result;
use crate::import::{Bindings, Model};
use crate::lower::{fold, lower_plain};
use crate::plan::{Lowered, own_outputs};
use crate::sizes::{Sample, merge, samples};
use crate::target::Target;

/// The model lowered for all sizes up to the bounds of the bindings, and notes.
pub fn lowered(
    model: &Model,
    bindings: &Bindings,
    target: &Target,
    observer: &dyn Observer,
    clock: &Clock,
) -> Result<(Lowered, Vec<String>)> {
    let all = samples(&bindings.bounds);
    let (mut made, mut notes) = (Vec::new(), Vec::new());
    for (number, sizes) in all.iter().enumerate() {
        observer.progress("sizing", number, all.len());
        let (types, assumed) = bindings.at(sizes).resolve(&model.body)?;
        let shown: &dyn Observer = if number == 0 { observer } else { &Silent };
        let (graph, more) = typed_graph(model, &types, number as u32 + 1, target, shown, clock)?;
        let mut lowering = lower_plain(&graph)?;
        let outputs = own_outputs(&graph, &mut lowering);
        for (name, &bound) in &bindings.bounds {
            let value = lowering.size(format!("size.{name}"), bound, sizes[name]);
            if let Some(size) = lowering.sizes.iter_mut().find(|s| s.value == value) {
                size.name = Some(name.clone());
            }
        }
        if number == 0 {
            notes = assumed.into_iter().chain(more).collect();
        }
        made.push(Sample { graph, lowering, outputs });
    }
    let mut lowered = merge(&made)?;
    let mut kept: Vec<ValueId> = lowered.outputs.iter().map(|o| o.0).collect();
    kept.extend(lowered.lowering.sizes.iter().map(|s| s.value));
    fold(&mut lowered.lowering, &kept);
    Ok((lowered, notes))
}
