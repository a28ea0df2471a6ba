//! Operators whose result has a size that depends on the data: NonZero, Compress, Unique,
//! NonMaxSuppression. They are evaluated where that data is constant, and expanded into the routines of
//! [`super::sized`] otherwise. Where there is nothing to choose from, the results are empty constants.

use super::emit::{numbers, require};
use super::{Ctx, ExpandFn, InferFn, NodeBuilder, Operator};
use crate::base::{DType, Tensor, TensorType, row_major_strides};
use crate::error::{Error, Result};
use crate::graph::{Attr, Attrs, ValueId};
use crate::scalar::Scalar;
use std::cmp::Ordering;

const fn row(name: &'static str, versions: &'static [i64], infer: InferFn, expand: ExpandFn) -> Operator {
    Operator::expand("", name, versions, infer, expand)
}

/// The rows.
pub const ROWS: &[Operator] = &[
    row("NonZero", &[9, 13], infer_non_zero, expand_non_zero),
    row("Unique", &[11, 28], infer_unique, expand_unique),
    row("Compress", &[9, 11, 28], infer_compress, expand_compress),
    row("NonMaxSuppression", &[10, 11], infer_suppress, expand_suppress),
];

/// Whether all inputs are constants.
fn is_constant(ctx: &Ctx) -> bool {
    (0..ctx.node.inputs.len()).filter_map(|i| ctx.optional(i)).all(|v| v.constant.is_some())
}

/// The attribute that says which size a routine's result has: one per tensor it depends on.
fn keyed(key: String) -> Attrs {
    Attrs::default().with("key", Attr::Str(key))
}

fn key(kind: &str, name: &str) -> String {
    format!("{kind} {name}")
}

/// The places of the flags that are true.
fn kept_places(b: &mut NodeBuilder, flags: ValueId, (key, times): (String, usize)) -> Result<ValueId> {
    let attrs = keyed(key);
    let attrs = if times == 1 { attrs } else { attrs.with("times", Attr::Int(times as i64)) };
    Ok(b.node_in("lmc", "Kept", &[Some(flags)], attrs, 1)?[0])
}

fn infer_non_zero(ctx: &Ctx) -> Result<Vec<TensorType>> {
    if is_constant(ctx) {
        return types(vec![non_zero(ctx)?]);
    }
    let x = ctx.input(0)?;
    require(x.ty.rank() > 0, || "a scalar has no places".to_string())?;
    let (key, times) = ctx.graph.kept_key(x);
    let found = ctx.graph.kept(x.ty.elems(), (&key, times));
    Ok(vec![TensorType::new(DType::I64, [x.ty.rank(), found])])
}

/// The places in row-major order, divided into coordinates.
fn expand_non_zero(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    if is_constant(ctx) {
        return constants(b, vec![non_zero(ctx)?]);
    }
    let value = ctx.input(0)?;
    if value.ty.elems() == 0 {
        return nothing(ctx, b, infer_non_zero);
    }
    let x = ctx.node.inputs[0].ok_or_else(|| Error::model("input 0 is missing"))?;
    let whole = b.constant(Tensor::new([1], &[-1i64]));
    let flat = b.binary("Reshape", x, whole)?;
    let flags = b.cast(flat, DType::Bool)?;
    let places = kept_places(b, flags, ctx.graph.kept_key(value))?;
    let strides = row_major_strides(&value.ty.shape);
    let axes = b.constant(Tensor::new([1], &[0i64]));
    let mut rows = Vec::new();
    for (&stride, &extent) in strides.iter().zip(&value.ty.shape) {
        let (stride, extent) =
            (b.constant(Tensor::scalar(stride)), b.constant(Tensor::scalar(extent as i64)));
        let row = b.binary("Div", places, stride)?;
        let row = b.binary("Mod", row, extent)?;
        rows.push(b.binary("Unsqueeze", row, axes)?);
    }
    Ok(vec![b.one("Concat", &rows, Attrs::default().with("axis", Attr::Int(0)))?])
}

fn types(tensors: Vec<Tensor>) -> Result<Vec<TensorType>> {
    Ok(tensors.into_iter().map(|t| t.ty).collect())
}

fn constants(b: &mut NodeBuilder, tensors: Vec<Tensor>) -> Result<Vec<ValueId>> {
    Ok(tensors.into_iter().map(|t| b.constant(t)).collect())
}

fn scalars(tensor: &Tensor) -> Vec<Scalar> {
    let dtype = tensor.ty.dtype;
    tensor.data.chunks_exact(dtype.size()).map(|bytes| Scalar::from_le(dtype, bytes)).collect()
}

/// The results where there is nothing to choose from.
fn nothing(ctx: &Ctx, b: &mut NodeBuilder, infer: InferFn) -> Result<Vec<ValueId>> {
    let empty = |ty| Tensor { ty, data: Vec::new().into() };
    constants(b, infer(ctx)?.into_iter().map(empty).collect())
}

/// The index of each element that is not zero, one column each.
fn non_zero(ctx: &Ctx) -> Result<Tensor> {
    let x = ctx.constant(0)?;
    let found = scalars(x).into_iter().enumerate().filter(|(_, s)| s.to_f64() != 0.0);
    let places: Vec<usize> = found.map(|(i, _)| i).collect();
    let strides = row_major_strides(&x.ty.shape);
    let coordinate = |d: usize| {
        let (stride, extent) = (strides[d] as usize, x.ty.shape[d]);
        places.iter().map(move |&p| ((p / stride) % extent) as i64)
    };
    let all: Vec<i64> = (0..x.ty.rank()).flat_map(coordinate).collect();
    Ok(Tensor::new([x.ty.rank(), places.len()], &all))
}

/// The places kept along the axis.
fn kept(ctx: &Ctx) -> Result<(Option<usize>, Vec<i64>)> {
    let x = ctx.ty(0)?;
    let axis = ctx.attrs().get_int("axis")?.map(|&a| ctx.axis(a, x.rank())).transpose()?;
    let extent = axis.map_or(x.elems(), |a| x.shape[a]);
    let flags = ctx.constant_ints(1)?.unwrap_or_default();
    require(flags.len() <= extent, || format!("{} conditions for {extent} elements", flags.len()))?;
    let places = flags.iter().enumerate().filter(|(_, f)| **f != 0).map(|(i, _)| i as i64);
    Ok((axis, places.collect()))
}

fn infer_compress(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let x = ctx.ty(0)?;
    let (axis, found) = match ctx.input(1)?.constant {
        Some(_) => kept(ctx).map(|(axis, places)| (axis, places.len()))?,
        None => {
            let flags = ctx.input(1)?;
            let axis = ctx.attrs().get_int("axis")?.map(|&a| ctx.axis(a, x.rank())).transpose()?;
            let extent = axis.map_or(x.elems(), |a| x.shape[a]);
            let all = flags.ty.elems();
            require(all <= extent, || format!("{all} conditions for {extent} elements"))?;
            let (key, times) = ctx.graph.kept_key(flags);
            (axis, ctx.graph.kept(all, (&key, times)))
        }
    };
    let shape = match axis {
        None => vec![found],
        Some(axis) => x.shape.iter().enumerate().map(|(i, &d)| if i == axis { found } else { d }).collect(),
    };
    Ok(vec![TensorType::new(x.dtype, shape)])
}

fn expand_compress(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    let missing = || Error::model("an input is missing");
    let mut x = ctx.node.inputs[0].ok_or_else(missing)?;
    let condition = ctx.input(1)?;
    if condition.ty.elems() == 0 {
        return nothing(ctx, b, infer_compress);
    }
    let (axis, places) = match condition.constant {
        Some(_) => {
            let (axis, places) = kept(ctx)?;
            (axis, b.constant(Tensor::new([places.len()], &places)))
        }
        None => {
            let axis = ctx.attrs().get_int("axis")?.map(|&a| ctx.axis(a, ctx.ty(0)?.rank())).transpose()?;
            let flags = ctx.node.inputs[1].ok_or_else(missing)?;
            (axis, kept_places(b, flags, ctx.graph.kept_key(condition))?)
        }
    };
    if axis.is_none() {
        let shape = b.constant(Tensor::new([1], &[-1i64]));
        x = b.binary("Reshape", x, shape)?;
    }
    let attrs = Attrs::default().with("axis", Attr::Int(axis.unwrap_or(0) as i64));
    Ok(vec![b.one("Gather", &[x, places], attrs)?])
}

/// Compares elements by value.
fn order(a: &Scalar, b: &Scalar) -> Ordering {
    if a.dtype.is_float() {
        return a.to_f64().total_cmp(&b.to_f64());
    }
    if a.dtype == DType::U64 { a.bits.cmp(&b.bits) } else { a.to_i64().cmp(&b.to_i64()) }
}

fn order_slices(a: &[Scalar], b: &[Scalar]) -> Ordering {
    a.iter().zip(b).map(|(a, b)| order(a, b)).find(|o| *o != Ordering::Equal).unwrap_or(Ordering::Equal)
}

/// Unique elements or slices, the first place of each, which one each element is, and the counts.
fn unique(ctx: &Ctx) -> Result<Vec<Tensor>> {
    let x = ctx.constant(0)?;
    let (dtype, shape) = (x.ty.dtype, &x.ty.shape);
    let axis = ctx.attrs().get_int("axis")?.map(|&a| ctx.axis(a, shape.len())).transpose()?;
    let extent = axis.map_or(x.ty.elems(), |a| shape[a]);
    let inner: usize = axis.map_or(1, |a| shape[a + 1..].iter().product());
    let outer = axis.map_or(1, |a| shape[..a].iter().product());
    let all = scalars(x);
    let slice = |i: usize| -> Vec<Scalar> {
        let at = |o: usize| (o * extent + i) * inner;
        (0..outer).flat_map(|o| all[at(o)..at(o) + inner].to_vec()).collect()
    };
    let slices: Vec<Vec<Scalar>> = (0..extent).map(slice).collect();
    let mut sorted: Vec<usize> = (0..extent).collect();
    sorted.sort_by(|&a, &b| order_slices(&slices[a], &slices[b]).then(a.cmp(&b)));
    // Representatives, each the first of its equals; and which of them each slice is.
    let (mut firsts, mut groups): (Vec<usize>, Vec<usize>) = (Vec::new(), vec![0; extent]);
    for &i in &sorted {
        let new = firsts.last().is_none_or(|&f| order_slices(&slices[f], &slices[i]) != Ordering::Equal);
        if new {
            firsts.push(i);
        }
        groups[i] = firsts.len() - 1;
    }
    // The place of each group in the output.
    let mut places: Vec<usize> = (0..firsts.len()).collect();
    if !ctx.attrs().flag("sorted", true)? {
        places.sort_unstable_by_key(|&g| firsts[g]);
        firsts.sort_unstable();
    }
    let mut place_of = vec![0i64; places.len()];
    places.iter().enumerate().for_each(|(place, &group)| place_of[group] = place as i64);
    let inverse: Vec<i64> = groups.iter().map(|&g| place_of[g]).collect();
    let mut counts = vec![0i64; firsts.len()];
    inverse.iter().for_each(|&i| counts[i as usize] += 1);
    let mut data = Vec::new();
    for o in 0..outer {
        for &f in &firsts {
            let elements = &slices[f][o * inner..(o + 1) * inner];
            elements.iter().for_each(|e| data.extend_from_slice(&e.bits.to_le_bytes()[..dtype.size()]));
        }
    }
    let mut result = shape.clone();
    match axis {
        Some(axis) => result[axis] = firsts.len(),
        None => result = vec![firsts.len()],
    }
    let values = Tensor { ty: TensorType::new(dtype, result), data: data.into() };
    let places: Vec<i64> = firsts.iter().map(|&f| f as i64).collect();
    let list = |v: &[i64]| Tensor::new([v.len()], v);
    Ok(vec![values, list(&places), list(&inverse), list(&counts)])
}

fn infer_unique(ctx: &Ctx) -> Result<Vec<TensorType>> {
    if is_constant(ctx) {
        return types(unique(ctx)?);
    }
    let x = ctx.input(0)?;
    let axis = ctx.attrs().get_int("axis")?.map(|&a| ctx.axis(a, x.ty.rank())).transpose()?;
    let extent = axis.map_or(x.ty.elems(), |a| x.ty.shape[a]);
    let found = ctx.graph.chosen(extent, &key(&format!("distinct {axis:?}"), &ctx.graph.called(&x.name)));
    let mut shape = x.ty.shape.clone();
    match axis {
        Some(axis) => shape[axis] = found,
        None => shape = vec![found],
    }
    let list = |n: usize| TensorType::new(DType::I64, [n]);
    Ok(vec![TensorType::new(x.ty.dtype, shape), list(found), list(extent), list(found)])
}

/// The slices as rows of a matrix; the distinct ones are gathered.
fn expand_unique(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    if is_constant(ctx) {
        return constants(b, unique(ctx)?);
    }
    let value = ctx.input(0)?;
    let rank = value.ty.rank();
    let mut x = ctx.node.inputs[0].ok_or_else(|| Error::model("input 0 is missing"))?;
    let axis = ctx.attrs().get_int("axis")?.map(|&a| ctx.axis(a, rank)).transpose()?;
    if axis.map_or(value.ty.elems(), |a| value.ty.shape[a]) == 0 {
        return nothing(ctx, b, infer_unique);
    }
    let rows = match axis {
        None => {
            let whole = b.constant(Tensor::new([1], &[-1i64]));
            x = b.binary("Reshape", x, whole)?;
            let column = b.constant(Tensor::new([2], &[-1i64, 1]));
            b.binary("Reshape", x, column)?
        }
        Some(axis) => {
            let order: Vec<i64> =
                std::iter::once(axis).chain((0..rank).filter(|&d| d != axis)).map(|d| d as i64).collect();
            let moved = b.one("Transpose", &[x], Attrs::default().with("perm", Attr::Ints(order)))?;
            let shape = [value.ty.shape[axis] as i64, -1];
            let shape = b.constant(Tensor::new([2], &shape));
            b.binary("Reshape", moved, shape)?
        }
    };
    let sorted = i64::from(ctx.attrs().flag("sorted", true)?);
    let key = key(&format!("distinct {axis:?}"), &ctx.graph.called(&value.name));
    let attrs = keyed(key).with("sorted", Attr::Int(sorted));
    let parts = b.node_in("lmc", "Distinct", &[Some(rows)], attrs, 3)?;
    let attrs = Attrs::default().with("axis", Attr::Int(axis.unwrap_or(0) as i64));
    let values = b.one("Gather", &[x, parts[0]], attrs)?;
    Ok([vec![values], parts].concat())
}

/// A box as `[low y, low x, high y, high x]`.
fn corners(raw: &[f64], centered: bool) -> [f64; 4] {
    if centered {
        let [x, y, w, h] = [raw[0], raw[1], raw[2], raw[3]];
        return [y - h / 2.0, x - w / 2.0, y + h / 2.0, x + w / 2.0];
    }
    [raw[0].min(raw[2]), raw[1].min(raw[3]), raw[0].max(raw[2]), raw[1].max(raw[3])]
}

/// Intersection over union.
fn overlap(a: &[f64; 4], b: &[f64; 4]) -> f64 {
    let area = |b: &[f64; 4]| (b[2] - b[0]) * (b[3] - b[1]);
    let height = (a[2].min(b[2]) - a[0].max(b[0])).max(0.0);
    let width = (a[3].min(b[3]) - a[1].max(b[1])).max(0.0);
    let common = height * width;
    let union = area(a) + area(b) - common;
    if union > 0.0 { common / union } else { 0.0 }
}

fn suppress(ctx: &Ctx) -> Result<Tensor> {
    let (boxes, scores) = (ctx.constant(0)?, ctx.constant(1)?);
    let number = |i: usize| -> Result<Option<f64>> {
        if !ctx.has(i) {
            return Ok(None);
        }
        Ok(numbers(ctx.constant(i)?)?.first().copied())
    };
    let most = number(2)?.unwrap_or(0.0).max(0.0) as usize;
    let (limit, least) = (number(3)?.unwrap_or(0.0), number(4)?);
    let centered = ctx.attrs().flag("center_point_box", false)?;
    let (b, s) = (&boxes.ty.shape, &scores.ty.shape);
    let fits = b.len() == 3 && s.len() == 3 && b[2] == 4 && b[0] == s[0] && b[1] == s[2];
    require(fits, || format!("boxes {} and scores {} do not fit", boxes.ty, scores.ty))?;
    let (places, values) = (numbers(boxes)?, numbers(scores)?);
    let mut found = Vec::new();
    for (batch, class) in (0..s[0]).flat_map(|n| (0..s[1]).map(move |c| (n, c))) {
        let score = |i: usize| values[(batch * s[1] + class) * s[2] + i];
        let corner = |i: usize| corners(&places[(batch * b[1] + i) * 4..][..4], centered);
        let mut order: Vec<usize> = (0..b[1]).filter(|&i| least.is_none_or(|l| score(i) > l)).collect();
        order.sort_by(|&i, &j| score(j).total_cmp(&score(i)).then(i.cmp(&j)));
        let mut taken: Vec<usize> = Vec::new();
        for i in order {
            if taken.len() >= most {
                break;
            }
            if taken.iter().all(|&t| overlap(&corner(i), &corner(t)) <= limit) {
                taken.push(i);
                found.extend([batch as i64, class as i64, i as i64]);
            }
        }
    }
    Ok(Tensor::new([found.len() / 3, 3], &found))
}

fn infer_suppress(ctx: &Ctx) -> Result<Vec<TensorType>> {
    if is_constant(ctx) || !ctx.has(2) {
        return types(vec![none_or(ctx)?]);
    }
    let (b, s) = (ctx.ty(0)?, ctx.ty(1)?);
    require(b.rank() == 3 && s.rank() == 3, || format!("boxes {b} and scores {s} do not fit"))?;
    let most = match ctx.input(2)?.constant {
        Some(_) => ctx.constant_ints(2)?.and_then(|m| m.first().copied()).unwrap_or(0),
        None => i64::MAX,
    };
    let most = usize::try_from(most).unwrap_or(0).min(b.shape[1]);
    let found = ctx.graph.chosen(s.shape[0] * s.shape[1] * most, &suppress_key(ctx));
    Ok(vec![TensorType::new(DType::I64, [found, 3])])
}

fn suppress_key(ctx: &Ctx) -> String {
    key("suppress", &ctx.graph.called(&ctx.node.name))
}

/// The result where all is known, or no box may be kept.
fn none_or(ctx: &Ctx) -> Result<Tensor> {
    if ctx.has(2) { suppress(ctx) } else { Ok(Tensor::new([0, 3], &Vec::<i64>::new())) }
}

fn expand_suppress(ctx: &Ctx, b: &mut NodeBuilder) -> Result<Vec<ValueId>> {
    if is_constant(ctx) || !ctx.has(2) {
        return constants(b, vec![none_or(ctx)?]);
    }
    if infer_suppress(ctx)?.iter().all(|ty| ty.elems() == 0) {
        return nothing(ctx, b, infer_suppress);
    }
    let input = |i: usize| ctx.node.inputs.get(i).copied().flatten();
    let overlap = input(3).unwrap_or_else(|| b.constant(Tensor::new([1], &[0f32])));
    let score = input(4).unwrap_or_else(|| b.constant(Tensor::new([1], &[f32::NEG_INFINITY])));
    let centered = i64::from(ctx.attrs().flag("center_point_box", false)?);
    let attrs = keyed(suppress_key(ctx)).with("center_point_box", Attr::Int(centered));
    b.node_in("lmc", "Suppress", &[input(0), input(1), input(2), Some(overlap), Some(score)], attrs, 1)
}
