//! Numbers of groups of few channels are repeated for each channel, once.
//!
//! A normalization by groups computes each element with the mean and the scale of its group:
//! ```text
//! y[p, g, c] = (x[p, g, c] - mean[g]) * scale[g]          g < 8, c < 3
//! ```
//! Lanes filled with the channels of one group are mostly empty. After: `t[g, c] = mean[g]`, and likewise the scale, by
//! which groups and channels are one axis everywhere, of 24 neighbours.

use super::rewrite::replace_loads;
use super::turn::{Copied, WORTH, steps};
use crate::base::{Affine, Tensor, TensorType, row_major_strides};
use crate::definition::{DefBuilder, Definition, Expr, Index, LoweredValue, ValueId};
use crate::schedule::linear::Layout;
use std::iter::repeat_n;

/// The axes that are to be one: groups, and the channels of each, which are fewer than lanes.
struct Groups {
    groups: u32,
    channels: u32,
}

impl Groups {
    fn of(def: &Definition, layouts: &[Layout], lanes: usize) -> Option<Groups> {
        if def.fold.is_some() || def.has_sizes() {
            return None;
        }
        let extent = |v: u32| def.vars[v as usize].extent;
        let stored = |v: u32| steps(&def.store, &layouts[def.output.value as usize], v);
        let axes = || (0..def.axes as u32).filter(|&v| extent(v) > 1);
        let channels = axes().find(|&v| stored(v) == 1 && extent(v) < lanes)?;
        let groups = axes().find(|&v| stored(v) == extent(channels) as i64)?;
        let around: usize = axes().filter(|&v| v != groups && v != channels).map(extent).product();
        (around >= WORTH).then_some(Groups { groups, channels })
    }

    /// Elements from one group to the next, and from one channel to the next.
    fn steps(&self, index: &[Affine], layout: &Layout) -> (i64, i64) {
        (steps(index, layout, self.groups), steps(index, layout, self.channels))
    }
}

/// One operand whose elements are those of groups, repeated, and the definition that reads it; `None` where there is
/// none, or something else parts groups and channels.
pub(super) fn merged(
    values: &[LoweredValue],
    def: &Definition,
    layouts: &[Layout],
    lanes: usize,
) -> Option<Copied> {
    let axes = Groups::of(def, layouts, lanes)?;
    let extent = |v: u32| def.vars[v as usize].extent;
    let [groups, channels] = [axes.groups, axes.channels].map(extent);
    let mut found: Option<(ValueId, &TensorType, Vec<Affine>)> = None;
    for expr in &def.exprs {
        let Expr::Load { operand, index, fill } = expr else { continue };
        let operand = &def.operands[*operand as usize];
        let index: Vec<Affine> = index.iter().map(|i| i.affine().cloned()).collect::<Option<_>>()?;
        match axes.steps(&index, &layouts[operand.value as usize]) {
            (0, 0) => {}
            (group, 1) if group == channels as i64 => {}
            (_, 0) if fill.is_none() => {
                let alone = |form: &Affine| form.terms.iter().all(|t| t.0 == axes.groups || extent(t.0) == 1);
                index.iter().all(alone).then_some(())?;
                found.get_or_insert((operand.value, &operand.ty, index));
            }
            _ => return None,
        }
    }
    let (value, from, index) = found?;
    let ty = TensorType::new(from.dtype, [groups, channels]);
    let to = values.len() as ValueId;
    let name = format!("{}_repeated", values[value as usize].name);
    let place = |v: u32| if v == axes.groups { Affine::var(0) } else { Affine::constant(0) };
    let at: Vec<Affine> = index.iter().map(|form| form.map_vars(place)).collect();
    let wanted: Vec<Index> = index.into_iter().map(Index::Affine).collect();
    let reader = replace_loads(def, &mut |b, operand, index, _| {
        let same = def.operands[operand as usize].value == value && *index == wanted[..];
        same.then(|| b.load(to, &ty, vec![Affine::var(axes.groups), Affine::var(axes.channels)]))
    })?;
    let constant = values[value as usize].constant.as_ref();
    let copy = match constant {
        Some(_) => Vec::new(),
        None => {
            let mut b = DefBuilder::new(&ty.shape);
            let element = b.load(value, from, at.clone());
            vec![b.finish(&name, to, &ty, element)]
        }
    };
    let constant = match constant {
        Some(constant) if layouts[value as usize] == Layout::dense(&from.shape) => {
            Some(repeated(constant, &at, &ty)?)
        }
        Some(_) => return None,
        None => None,
    };
    Some((copy, reader, LoweredValue { name, ty, constant }))
}

/// The elements of a constant at the places of groups, each as often as there are channels.
fn repeated(constant: &Tensor, at: &[Affine], ty: &TensorType) -> Option<Tensor> {
    let (strides, size) = (row_major_strides(&constant.ty.shape), ty.dtype.size());
    let element = |group: usize| {
        let place: i64 = at.iter().zip(&strides).map(|(form, s)| form.eval(|_| group as i64) * s).sum();
        constant.data.get(place as usize * size..)?.get(..size)
    };
    let all = (0..ty.shape[0]).flat_map(|group| repeat_n(element(group), ty.shape[1]));
    Tensor::from_bytes(ty.clone(), all.collect::<Option<Vec<&[u8]>>>()?.concat())
}

#[cfg(test)]
mod tests {
    use super::super::turn::materialize;
    use super::*;
    use crate::definition::{Lowering, verify};
    use crate::group::tests::{computed, result};
    use crate::scalar::Op;

    /// `y[p, 3 g + c] = x[p, 3 g + c] * x[0, g] + offset[g]` of 16 points and 4 groups, as two axes.
    fn by_groups() -> Lowering {
        let numbers = |n: usize| (0..n).map(|i| (i * 7 % 11) as f32 - 5.0).collect::<Vec<f32>>();
        let x = Tensor::new([16, 12], &numbers(192));
        let (mut low, from) = computed(&x);
        let y = x.ty.clone();
        let to = low.temporary("y", y.clone());
        let offsets = Tensor::new([4], &numbers(4));
        let offset = low.constant("offset", offsets.clone());
        let mut b = DefBuilder::new(&[16, 4, 3]);
        let channel = b.var(1).scaled(3).plus(&b.var(2));
        let store = vec![b.var(0), channel.clone()];
        let element = b.load(from, &x.ty, store.clone());
        let group = b.var(1);
        let scale = b.load(from, &x.ty, vec![Affine::constant(0), group.clone()]);
        let more = b.load(offset, &offsets.ty, vec![group]);
        let scaled = b.op(Op::Mul, &[element, scale]);
        let sum = b.op(Op::Add, &[scaled, more]);
        low.define(b.finish_at("y", to, &y, store, sum));
        low
    }

    #[test]
    fn numbers_of_groups_are_repeated_for_their_channels() {
        let mut low = by_groups();
        let before = result(&low);
        let mut layouts: Vec<Layout> = low.values.iter().map(|v| Layout::dense(&v.ty.shape)).collect();
        for made in [1, 2, 2] {
            materialize(&mut low, &mut layouts, &|values, def, layouts| merged(values, def, layouts, 16));
            assert_eq!(low.values.len(), 4 + made);
        }
        verify(&low).unwrap();
        assert_eq!(low.stages.len(), 3, "the constant is no stage");
        assert!(low.values[4..].iter().all(|v| v.ty.shape == [4, 3]));
        assert_eq!(before, result(&low));
        let mut full = by_groups();
        materialize(&mut full, &mut layouts, &|values, def, layouts| merged(values, def, layouts, 3));
        assert_eq!(full.values.len(), 4, "channels that fill the lanes");
    }
}
