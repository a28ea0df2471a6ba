//! Fused stages before strips are formed, and what is known of the kernels that their definitions become.

use super::trail::apart;
use super::{Choose, Interface};
use crate::base::{Affine, abi};
use crate::definition::{self, Definition, Expr, Index, Lowering, ValueId};
use crate::error::Result;
use crate::group::{self, Again, Rims};
use crate::nest::{nest, small_sums};
use crate::schedule::linear::{Known, Layout, Linear};
use crate::schedule::winograd::WINDOW;
use crate::schedule::{couple_halves, in_phases, leaves_padding, lookups, word};
use crate::target::Target;
use std::collections::BTreeMap;

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
    /// The batch whose entries are computed one by one: stages and values are those of one. What the application sees
    /// are all, one after the other.
    pub entries: Option<Box<Batch>>,
}

/// A batch that is computed entry by entry.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Entries, at most.
    pub count: usize,
    /// Which of the sizes that the application sees says how many there are; `None`: always as many.
    pub symbol: Option<usize>,
    /// Bytes from one entry to the next of each input; 0: it is the same for all.
    pub inputs: Vec<usize>,
    /// The same of the outputs.
    pub outputs: Vec<usize>,
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
    let less = Grouped::of(lowered, wanted, target, Rims::Outermost(target.lanes()))?;
    let same = less.lowered.lowering == whole.lowered.lowering;
    Ok(if same { vec![less] } else { vec![less, whole] })
}

impl Grouped {
    fn of(mut lowered: Lowered, wanted: &[ValueId], target: &Target, rims: Rims) -> Result<Grouped> {
        let lowering = &mut lowered.lowering;
        group::tie(lowering);
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
    if !moves_windows(def) {
        return false;
    }
    let mut linear = linear(lowering, layouts, def);
    let constant = |operand: u32| {
        let value = def.operands.get(operand as usize)?.value;
        lowering.values[value as usize].constant.as_ref().map(|t| &t.data[..])
    };
    linear.facts.small_sums = small_sums(&linear, constant);
    in_phases_if_filtered(linear, choose).and_then(|l| choose(&l)).is_ok_and(|s| s.winograd.is_some())
}

/// Whether a definition reads windows of three points and more along an axis with another one within: of strips along it
/// too little is left to filter. Windows along the innermost axis alone are filtered in strips as well.
fn moves_windows(def: &Definition) -> bool {
    let long = |t: &(u32, i64), least: usize| def.vars.get(t.0 as usize).is_some_and(|v| v.extent >= least);
    let axis = |form: &Affine| form.terms.iter().any(|t| (t.0 as usize) < def.axes && long(t, 2));
    let window = |form: &Affine| form.terms.iter().any(|t| t.0 as usize >= def.axes && long(t, WINDOW));
    def.exprs.iter().any(|e| match e {
        Expr::Load { index, .. } => {
            let mut moving = index.iter().filter_map(Index::affine).filter(|form| axis(form));
            moving.any(window) && moving.next().is_some()
        }
        _ => false,
    })
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
    let dims = of_operands(def, &lowering.dims);
    let known = Known { dims: &dims, ..Known::default() };
    Linear::knowing(def, &at, &constants, &layouts[def.output.value as usize], &known)
}

/// What is known of each operand's dimensions.
pub(super) fn of_operands<T: Clone>(def: &Definition, known: &BTreeMap<ValueId, Vec<T>>) -> Vec<Vec<T>> {
    def.operands.iter().map(|o| known.get(&o.value).cloned().unwrap_or_default()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::affine::size_var;
    use crate::base::{DType, Tensor, TensorType};
    use crate::definition::DefBuilder;
    use crate::scalar::{Fold, Op};
    use crate::schedule::choose::choose;
    use crate::schedule::winograd::BEHIND;
    use crate::target::resolve;

    /// A convolution of 64 channels by windows of so many points, to 28x28 outputs, or to as many columns as a size says,
    /// behind which there is room for a tile.
    fn windows(kernel: [usize; 2], sized: bool) -> (Lowering, Vec<Layout>, Definition) {
        let mut low = Lowering::default();
        let ty = |shape: &[usize]| TensorType::new(DType::F32, shape);
        let room = if sized { BEHIND } else { 0 };
        let (x, y) = (ty(&[1, 64, 27 + kernel[0], 27 + kernel[1] + room]), ty(&[1, 64, 28, 28]));
        let w = ty(&[64, 64, kernel[0], kernel[1]]);
        let ones = vec![1f32; w.elems()];
        let weights = low.constant("w", Tensor::new(w.shape.clone(), &ones));
        let (data, out) = (low.temporary("x", x.clone()), low.temporary("y", y.clone()));
        let mut ends: Vec<Affine> = y.shape.iter().map(|&extent| Affine::constant(extent as i64)).collect();
        if sized {
            ends[3] = size_var(0, 28).map(Affine::var).expect("a size");
            let mut dims: Vec<Affine> = x.shape.iter().map(|&e| Affine::constant(e as i64)).collect();
            dims[3] = ends[3].offset((kernel[1] - 1 + room) as i64);
            low.dims.insert(data, dims);
        }
        let mut b = DefBuilder::ending(&ends, &y.shape);
        let (c, k, l) = (b.reduce("c", 64), b.reduce("k", kernel[0]), b.reduce("l", kernel[1]));
        let at = vec![b.var(0), c.clone(), b.var(2).plus(&k), b.var(3).plus(&l)];
        let (value, at) = (b.load(data, &x, at), vec![b.var(1), c, k, l]);
        let weight = b.load(weights, &w, at);
        let product = b.op(Op::Mul, &[value, weight]);
        let sum = b.fold(Fold::Sum, product);
        let def = b.finish("windows", out, &y, sum);
        let last = |ty: &TensorType| Layout::permuted(&ty.shape, &[0, 2, 3, 1]);
        (low, vec![Layout::dense(&w.shape), last(&x), last(&y)], def)
    }

    #[test]
    fn windows_over_rows_are_filtered_as_a_whole() {
        let target = resolve("x86_64", "x86-64-v3").expect("a known processor");
        let fixed = [([3, 3], true), ([5, 5], true), ([7, 1], true), ([1, 5], false), ([1, 1], false)];
        let sized = [([3, 3], true), ([1, 3], false)];
        let cases = fixed.map(|c| (c, false)).into_iter().chain(sized.map(|c| (c, true)));
        for ((kernel, whole), sized) in cases {
            let (low, layouts, def) = windows(kernel, sized);
            let choose = |linear: &Linear| Ok(choose(linear, &target));
            assert_eq!(filtered(&low, &layouts, &def, &choose), whole, "{kernel:?}, sized {sized}");
        }
    }
}
