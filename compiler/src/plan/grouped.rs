//! Fused stages before strips are formed, and what is known of the kernels that their definitions become.

use super::trail::apart;
use super::{Choose, Interface};
use crate::base::abi;
use crate::definition::{self, Definition, Lowering, ValueId};
use crate::error::Result;
use crate::group::{self, Again, Rims};
use crate::nest::nest;
use crate::schedule::linear::{Layout, Linear};
use crate::schedule::{couple_halves, in_phases, leaves_padding, lookups, word};
use crate::target::Target;

/// A model as stages, with its interface.
#[derive(Clone)]
pub struct Lowered {
    /// Values and stages.
    pub lowering: Lowering,
    /// The inputs: values, and what the application sees.
    pub inputs: Vec<(ValueId, Interface)>,
    /// The outputs likewise, each written by some stage.
    pub outputs: Vec<(ValueId, Interface)>,
    /// The sizes that the application sees, by number.
    pub visible: Vec<usize>,
    /// Which of these counts entries of a batch that are computed one by one: stages and values are those of one. What
    /// the application sees are all, one after the other.
    pub entries: Option<usize>,
}

/// Fused stages, with the layouts of their values.
pub(super) struct Grouped {
    pub lowered: Lowered,
    pub layouts: Vec<Layout>,
}

/// The fused stages: with less padding in memory first, where the target is no slower for that.
pub(super) fn grouped(lowered: Lowered, wanted: &[ValueId], target: &Target) -> Result<Vec<Grouped>> {
    if !leaves_padding(target) {
        return Ok(vec![Grouped::of(lowered, wanted, target, Rims::Whole)?]);
    }
    let whole = Grouped::of(lowered.clone(), wanted, target, Rims::Whole)?;
    let less = Grouped::of(lowered, wanted, target, Rims::Outermost)?;
    let same = less.lowered.lowering == whole.lowered.lowering;
    Ok(if same { vec![less] } else { vec![less, whole] })
}

impl Grouped {
    fn of(mut lowered: Lowered, wanted: &[ValueId], target: &Target, rims: Rims) -> Result<Grouped> {
        let lowering = &mut lowered.lowering;
        group::fuse_within(lowering, wanted, rims);
        group::tabulate(lowering, &lookups(target));
        let inputs: Vec<ValueId> = lowered.inputs.iter().map(|i| i.0).collect();
        group::copy_incoming(lowering, &inputs);
        let fixed = [&inputs, wanted].concat();
        if couple_halves(target) {
            group::order_channels(lowering, &fixed);
        }
        let mut layouts = group::layouts(lowering, &fixed);
        group::merge_channels(lowering, &mut layouts, target.lanes());
        group::copy_factors(lowering, &mut layouts, word(target));
        definition::verify(lowering).map_err(|e| e.at("after group"))?;
        Ok(Grouped { lowered, layouts })
    }

    /// The stages in which what is there as a whole until its range is known is computed twice; `None` where nothing
    /// is.
    pub fn twice(&self, wanted: &[ValueId], again: Again) -> Result<Option<Grouped>> {
        let (mut lowered, mut layouts) = (self.lowered.clone(), self.layouts.clone());
        if !group::twice(&mut lowered.lowering, &mut layouts, wanted, again) {
            return Ok(None);
        }
        definition::verify(&lowered.lowering).map_err(|e| e.at("computed twice"))?;
        Ok(Some(Grouped { lowered, layouts }))
    }
}

/// Whether a definition is done by minimal filtering, which works on rows of tiles itself.
pub(super) fn filtered(lowering: &Lowering, layouts: &[Layout], def: &Definition, choose: &Choose) -> bool {
    let windows = def.vars[def.axes..].iter().filter(|v| v.extent == 3).count();
    if windows < 2 || def.has_sizes() {
        return false;
    }
    let linear = in_phases_if_filtered(linear(lowering, layouts, def), choose);
    linear.and_then(|l| choose(&l)).is_ok_and(|s| s.winograd.is_some())
}

/// A definition in the phases of its window, where these are filtered; otherwise as it is.
pub(super) fn in_phases_if_filtered(linear: Linear, choose: &Choose) -> Result<Linear> {
    match in_phases(&linear) {
        Some(phases) if choose(&phases)?.winograd.is_some() => Ok(phases),
        _ => Ok(linear),
    }
}

/// How far the output of a definition must begin before an operand that nothing reads later.
pub(super) fn below(
    lowering: &Lowering,
    layouts: &[Layout],
    (def, operand): (&Definition, usize),
    (target, choose): (&Target, &Choose),
) -> Option<usize> {
    if def.has_sizes() {
        return None;
    }
    let linear = linear(lowering, layouts, def);
    let linear = in_phases_if_filtered(linear, choose).ok()?;
    let nested = nest(&linear, &choose(&linear).ok()?, target.fma, abi::ERR_INDEX).ok()?;
    Some(apart(&nested.kernel, operand, def.operands.len()))
}

fn linear(lowering: &Lowering, layouts: &[Layout], def: &Definition) -> Linear {
    let at: Vec<Layout> = def.operands.iter().map(|o| layouts[o.value as usize].clone()).collect();
    let constant = |v: ValueId| lowering.values[v as usize].constant.is_some();
    let constants: Vec<bool> = def.operands.iter().map(|o| constant(o.value)).collect();
    Linear::new(def, &at, &constants, &layouts[def.output.value as usize])
}
