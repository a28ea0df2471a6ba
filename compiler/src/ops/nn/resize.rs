//! Resize and Upsample: one axis at a time, with positions and weights as constant tables.
//!
//! Coordinates follow ONNX's reference: with the fractional output length (`scale * input length`) where
//! the scale is given.

use super::resample::{Axis, Coordinates, Filter, Nearest};
use super::resize_moving::{Moving, Taps};
use super::resize_region;
use super::sample::rounded;
use crate::base::{Affine, DType, Tensor, TensorType};
use crate::definition::{DefBuilder, ExprId, Index, Lowering};
use crate::error::{Error, Result};
use crate::graph::{Graph, Node, ValueId};
use crate::ops::emit::{Arith, Emit, Val, compute_type, numbers, require};
use crate::ops::{Ctx, Lower, Operator};
use crate::scalar::{Fold, Op};
use std::cmp::Reverse;

/// The rows.
pub const ROWS: &[Operator] = &[
    Operator {
        domain: "",
        name: "Resize",
        versions: &[10, 11, 13, 18, 19],
        infer,
        lower: Lower::Define(lower),
        note: "scales must be constant, or follow from the shapes; sizes, too, or have bounds; with scales, the roi too",
    },
    Operator {
        domain: "",
        name: "Upsample",
        versions: &[1, 7, 9],
        infer,
        lower: Lower::Define(lower),
        note: "scales must be constant, or follow from the shapes",
    },
];

/// What is resized: for each axis its extents, factor and region.
struct Request {
    axes: Vec<AxisRequest>,
}

struct AxisRequest {
    output: usize,
    scale: f64,
    /// Whether the factor is the output's length by the input's.
    stretched: bool,
    roi: (f64, f64),
}

/// The constant numbers of input `i`; `None` where it is omitted or empty.
fn constant_numbers(ctx: &Ctx, i: usize) -> Result<Option<Vec<f64>>> {
    if !ctx.has(i) || ctx.ty(i)?.elems() == 0 {
        return Ok(None);
    }
    Ok(Some(numbers(ctx.constant(i)?)?))
}

fn request(ctx: &Ctx) -> Result<Request> {
    let shape = ctx.shape(0)?;
    let (scales, sizes, roi) = match (ctx.node.op.name, ctx.version()) {
        ("Upsample", 1) => {
            require(shape.len() == 4, || "the input must have four dimensions".into())?;
            let [height, width] = ["height_scale", "width_scale"].map(|name| ctx.attrs().float(name, 1.0));
            (Some(vec![1.0, 1.0, f64::from(height?), f64::from(width?)]), None, None)
        }
        ("Upsample", ..=8) => {
            let scales = ctx.attrs().get_floats("scales")?;
            (scales.map(|s| s.iter().map(|&v| f64::from(v)).collect()), None, None)
        }
        ("Upsample", _) | (_, 10) => (constant_numbers(ctx, 1)?, None, None),
        _ => (constant_numbers(ctx, 2)?, constant_numbers(ctx, 3)?, roi(ctx)?),
    };
    let axes = resize_region::axes(ctx)?;
    let mut request: Vec<AxisRequest> = shape
        .iter()
        .map(|&d| AxisRequest { output: d, scale: 1.0, stretched: false, roi: (0.0, 1.0) })
        .collect();
    let fits = |list: &[f64], n| {
        require(list.len() == n, || format!("{} numbers are given for {} axes", list.len(), axes.len()))
    };
    if let Some(roi) = &roi {
        fits(roi, 2 * axes.len())?;
        for (i, &a) in axes.iter().enumerate() {
            request[a].roi = (roi[i], roi[i + axes.len()]);
        }
    }
    let positive = |v: f64| require(v > 0.0 && v < 2e9, || format!("it cannot be resized by or to {v}"));
    match (sizes, scales) {
        (Some(sizes), _) => {
            fits(&sizes, axes.len())?;
            sizes.iter().try_for_each(|&s| positive(s))?;
            by_sizes(ctx, shape, &axes, &sizes, &mut request)?;
        }
        (None, Some(_)) if resize_region::moves(ctx, coordinates(ctx)?) => {
            return Err(Error::model("data give the region, and with scales its size as well")
                .advise("Give the size that regions are resized to (input sizes) in place of scales"));
        }
        (None, Some(scales)) => {
            fits(&scales, axes.len())?;
            scales.iter().try_for_each(|&s| positive(s))?;
            by_scales(ctx, shape, &axes, &scales, &mut request)?;
        }
        (None, None) => return Err(Error::model("neither scales nor sizes are given")),
    }
    Ok(Request { axes: request })
}

/// Lengths that follow from the scales, and from the region where that is what is resized.
fn by_scales(
    ctx: &Ctx,
    shape: &[usize],
    axes: &[usize],
    scales: &[f64],
    request: &mut [AxisRequest],
) -> Result<()> {
    let cropped = coordinates(ctx)? == Coordinates::CropAndResize;
    for (&a, &scale) in axes.iter().zip(scales) {
        let part = if cropped { request[a].roi.1 - request[a].roi.0 } else { 1.0 };
        request[a].scale = scale;
        // In f32, as all runtimes: 30 elements at 0.76666665 are 23, which the exact product falls short of.
        let length = shape[a] as f32 * part as f32 * scale as f32;
        request[a].output = length.floor().max(0.0) as usize;
    }
    Ok(())
}

fn roi(ctx: &Ctx) -> Result<Option<Vec<f64>>> {
    match coordinates(ctx)? {
        Coordinates::CropAndResize if !resize_region::moves(ctx, Coordinates::CropAndResize) => {
            constant_numbers(ctx, 1)
        }
        _ => Ok(None),
    }
}

fn by_sizes(
    ctx: &Ctx,
    shape: &[usize],
    axes: &[usize],
    sizes: &[f64],
    out: &mut [AxisRequest],
) -> Result<()> {
    let scales = axes.iter().zip(sizes).map(|(&a, &size)| size / shape[a].max(1) as f64);
    let kept = match ctx.attrs().str("keep_aspect_ratio_policy", "stretch")? {
        "stretch" => None,
        "not_larger" => Some(scales.clone().fold(f64::INFINITY, f64::min)),
        "not_smaller" => Some(scales.clone().fold(0.0, f64::max)),
        other => return Err(Error::model(format!("keep_aspect_ratio_policy '{other}' is not known"))),
    };
    for ((&a, &size), scale) in axes.iter().zip(sizes).zip(scales) {
        out[a].scale = kept.unwrap_or(scale);
        out[a].stretched = kept.is_none();
        out[a].output = match kept {
            Some(scale) => (scale * shape[a] as f64 + 0.5) as usize,
            None => size as usize,
        };
    }
    Ok(())
}

fn coordinates(ctx: &Ctx) -> Result<Coordinates> {
    if ctx.node.op.name == "Upsample" || ctx.version() == 10 {
        return Ok(Coordinates::Asymmetric);
    }
    let name = ctx.attrs().str("coordinate_transformation_mode", "half_pixel")?;
    Coordinates::from_name(name)
        .ok_or_else(|| Error::model(format!("coordinate_transformation_mode '{name}' is not known")))
}

fn filter(ctx: &Ctx) -> Result<Filter> {
    let antialias = ctx.attrs().flag("antialias", false)?;
    let exclude_outside = ctx.attrs().flag("exclude_outside", false)?;
    match ctx.attrs().str("mode", "nearest")? {
        "nearest" if ctx.node.op.name == "Upsample" || ctx.version() == 10 => {
            Ok(Filter::Nearest(Nearest::Simple))
        }
        "nearest" => {
            let name = ctx.attrs().str("nearest_mode", "round_prefer_floor")?;
            let nearest = Nearest::from_name(name);
            nearest
                .map(Filter::Nearest)
                .ok_or_else(|| Error::model(format!("nearest_mode '{name}' is not known")))
        }
        "linear" | "bilinear" => Ok(Filter::Linear { antialias, exclude_outside }),
        "cubic" => {
            let a = f64::from(ctx.attrs().float("cubic_coeff_a", -0.75)?);
            Ok(Filter::Cubic { a, antialias, exclude_outside })
        }
        other => Err(Error::model(format!("mode '{other}' is not known"))),
    }
}

fn infer(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let shape: Vec<usize> = request(ctx)?.axes.iter().map(|a| a.output).collect();
    filter(ctx)?;
    Ok(vec![TensorType::new(ctx.dtype(0)?, shape)])
}

fn lower(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (x, out) = (e.input(0)?, e.result()?);
    if out.ty.elems() == 0 {
        e.define("", &out, |b| b.number(out.dtype(), 0.0));
        return Ok(());
    }
    let (request, filter, coordinates) = (request(ctx)?, filter(ctx)?, coordinates(ctx)?);
    if resize_region::moves(ctx, coordinates) {
        let sizes: Vec<_> =
            request.axes.iter().map(|r| (r.output, (!r.stretched).then_some(r.scale))).collect();
        return resize_region::lower(&mut e, &x, &sizes, filter, &out);
    }
    let moving = moving(ctx, &request, filter, coordinates)?;
    if moving.iter().any(Option::is_some) {
        return lower_moving(&mut e, &x, &request, &moving, &out);
    }
    let mut axes: Vec<(usize, Axis)> = Vec::new();
    for (d, r) in request.axes.iter().enumerate() {
        let cropped = coordinates == Coordinates::CropAndResize && r.roi != (0.0, 1.0);
        if r.scale != 1.0 || r.output != x.shape()[d] || cropped {
            require(x.shape()[d] > 0, || "an empty tensor cannot be resized".into())?;
            axes.push((d, Axis::new(x.shape()[d], r.output, r.scale, r.roi, coordinates, filter)));
        }
    }
    let fill = f64::from(ctx.attrs().float("extrapolation_value", 0.0)?);
    if axes.iter().all(|(_, a)| a.is_gather()) {
        gather(&mut e, &x, &axes, fill, &out);
        return Ok(());
    }
    // The axis that shrinks most goes first: the others have less to do.
    axes.sort_by(|a, b| a.1.growth().total_cmp(&b.1.growth()));
    let grows = axes.iter().all(|(_, a)| a.growth() >= 1.0);
    if grows && ctx.node.outputs[0].is_some_and(|v| leaves(ctx.graph, v)) {
        // Neighbours along the innermost axis of an output lie side by side, and take elements from computed places:
        // that fills no vectors, so that the axes around it grow afterwards.
        axes.sort_by_key(|a| Reverse(a.0));
    }
    let float = compute_type(if x.dtype().is_float() { x.dtype() } else { DType::F32 });
    let mut current = x;
    for (i, (d, axis)) in axes.iter().enumerate() {
        let mut shape = current.ty.shape.clone();
        shape[*d] = axis.outputs();
        let last = i + 1 == axes.len();
        let next = if last { out.clone() } else { e.temp("axis", float, shape) };
        interpolate(&mut e, &current, *d, axis, float, fill, &next);
        current = next;
    }
    Ok(())
}

/// Operators that make an element of each one.
const ELEMENTWISE: [&str; 7] =
    ["Cast", "Clip", "DequantizeLinear", "QuantizeLinear", "Relu", "Sigmoid", "Tanh"];

/// Operators that make an element of all along an axis.
const POSITIONS: [&str; 2] = ["ArgMax", "ArgMin"];

/// Whether a value, or what is made of each of its elements or of all along another axis than the innermost one, is
/// an output of the model.
fn leaves(graph: &Graph, value: ValueId) -> bool {
    let rank = graph.value(value).ty.rank() as i64;
    let passes = |node: &Node| {
        let across = || node.attrs.int("axis", 0).is_ok_and(|axis| axis.rem_euclid(rank) + 1 < rank);
        let keeps = ELEMENTWISE.contains(&node.op.name) || POSITIONS.contains(&node.op.name) && across();
        let reads = node.inputs.first() == Some(&Some(value)) && keeps;
        reads && node.outputs.iter().flatten().any(|&out| leaves(graph, out))
    };
    graph.outputs.contains(&value) || graph.nodes.iter().any(passes)
}

/// The axes that are resized, where the lengths of one of them differ between the samples of a model with
/// sizes known only at run time; none otherwise. Whole factors of nearest elements need no tables.
fn moving(
    ctx: &Ctx,
    request: &Request,
    filter: Filter,
    coordinates: Coordinates,
) -> Result<Vec<Option<Moving>>> {
    let (Some(x), Some(out)) = (ctx.node.inputs[0], ctx.node.outputs[0]) else { return Ok(Vec::new()) };
    let (shape, mut needed, mut moving) = (ctx.shape(0)?, false, Vec::new());
    for (d, r) in request.axes.iter().enumerate() {
        let [from, to] = [x, out].map(|v| ctx.graph.lengths(v, d));
        let scale = (!r.stretched).then_some(r.scale);
        let moves = from.is_some() || to.is_some();
        let count = from.as_ref().or(to.as_ref()).map_or(1, Vec::len);
        let from = from.unwrap_or_else(|| vec![shape[d]; count]);
        let to = to.unwrap_or_else(|| vec![r.output; count]);
        let resized = from != to || scale.is_some_and(|s| s != 1.0);
        let axis = Moving { input: shape[d], output: r.output, scale, coordinates, filter };
        if resized && (shape[d] == 0 || !axis.is_supported()) {
            return Ok(Vec::new());
        }
        let repeats = |f: usize, t: usize| Axis::new(f, t, r.scale, r.roi, coordinates, filter).repeats();
        let factor = || {
            repeats(from[0], to[0]).filter(|_| from.iter().zip(&to).all(|(f, t)| f * to[0] == t * from[0]))
        };
        // Nothing is repeated any number of times.
        let alike = || from.iter().zip(&to).all(|(&f, &t)| f == 0 || repeats(f, t) == factor());
        needed |= moves && resized && !(scale.is_some() && factor().is_some() && alike());
        moving.push(resized.then_some(axis));
    }
    Ok(if needed { moving } else { Vec::new() })
}

/// Resizes the axes that move, one after the other.
fn lower_moving(
    e: &mut Emit,
    x: &Val,
    request: &Request,
    moving: &[Option<Moving>],
    out: &Val,
) -> Result<()> {
    let float = compute_type(if x.dtype().is_float() { x.dtype() } else { DType::F32 });
    let axes: Vec<(usize, Taps)> =
        moving.iter().enumerate().filter_map(|(d, m)| Some((d, m.as_ref()?.taps(e, float)))).collect();
    if axes.iter().all(|(_, taps)| taps.is_gather()) {
        e.define("", out, |b| {
            let mut index: Vec<Index> = b.axes().into_iter().map(Index::Affine).collect();
            for (d, taps) in &axes {
                index[*d] = taps.place(b, 0, *d);
            }
            b.load_at(x.id, &x.ty, index, None)
        });
        return Ok(());
    }
    let mut current = x.clone();
    for (i, (d, taps)) in axes.iter().enumerate() {
        let mut shape = current.ty.shape.clone();
        shape[*d] = request.axes[*d].output;
        let last = i + 1 == axes.len();
        let next = if last { out.clone() } else { e.temp("axis", float, shape) };
        e.define("", &next, |b| {
            let sum = taps.weighted(b, &current, *d, float);
            rounded(b, sum, next.dtype())
        });
        current = next;
    }
    Ok(())
}

/// An expression for the inputs of the window at the output variable of dimension `d`: from the first one on, or
/// tables of each of the first ones, which are known to lie inside.
enum Start {
    Affine(Affine),
    Tables(Vec<Val>),
}

impl Start {
    fn new(e: &mut Emit, d: usize, axis: &Axis) -> Start {
        if let Some((stride, first)) = axis.affine_start() {
            return Start::Affine(Affine::var(d as u32).scaled(stride).offset(first));
        }
        let table = |tap: usize| {
            let places: Vec<i64> = axis.starts.iter().map(|&s| (s + tap) as i64).collect();
            e.constant("start", Tensor::new([places.len()], &places))
        };
        Start::Tables((0..if axis.taps <= UNROLLED { axis.taps } else { 1 }).map(table).collect())
    }

    fn index(&self, b: &mut DefBuilder, d: usize, tap: &Affine) -> Index {
        let tables = match self {
            Start::Affine(form) => return Index::Affine(form.plus(tap)),
            Start::Tables(tables) => tables,
        };
        let known = tap.is_constant().then_some(tap.base).and_then(|tap| tables.get(tap as usize));
        let Some(table) = known.or(tables.first()) else { return Index::Affine(tap.clone()) };
        let place = b.elem(table, &[b.var(d)], DType::I64);
        if known.is_some() {
            return Index::Dynamic(place);
        }
        let tap = b.index(tap.clone());
        Index::Dynamic(b.plus(place, tap))
    }
}

/// Replaces what lies outside the region of the input by the fill.
fn outside(b: &mut DefBuilder, mask: Option<&Val>, d: usize, fill: f64, value: ExprId) -> ExprId {
    let Some(mask) = mask else { return value };
    let outside = b.elem(mask, &[b.var(d)], DType::Bool);
    let fill = b.number(b.dtype(value), fill);
    b.op(Op::Select, &[outside, fill, value])
}

fn mask(e: &mut Emit, axis: &Axis) -> Option<Val> {
    let any = axis.outside.iter().any(|&o| o);
    any.then(|| {
        let bytes: Vec<u8> = axis.outside.iter().map(|&o| u8::from(o)).collect();
        let ty = TensorType::new(DType::Bool, [bytes.len()]);
        e.constant("outside", Tensor { ty, data: bytes.into() })
    })
}

/// Copies one element to each output. Whole multiples are stored by blocks at affine indices.
fn gather(e: &mut Emit, x: &Val, axes: &[(usize, Axis)], fill: f64, out: &Val) {
    let masks: Vec<(usize, Option<Val>)> = axes.iter().map(|(d, a)| (*d, mask(e, a))).collect();
    let repeats: Vec<Option<usize>> =
        (0..x.rank()).map(|d| axes.iter().find(|a| a.0 == d).and_then(|(_, a)| a.repeats())).collect();
    if axes.iter().all(|(d, _)| repeats[*d].is_some()) && masks.iter().all(|m| m.1.is_none()) {
        return repeat(e, x, &repeats, out);
    }
    let starts: Vec<(usize, Start)> = axes.iter().map(|(d, a)| (*d, Start::new(e, *d, a))).collect();
    e.define("", out, |b| {
        let mut index: Vec<Index> = b.axes().into_iter().map(Index::Affine).collect();
        for (d, start) in &starts {
            index[*d] = start.index(b, *d, &Affine::constant(0));
        }
        let value = b.load_at(x.id, &x.ty, index, None);
        masks.iter().fold(value, |value, (d, mask)| outside(b, mask.as_ref(), *d, fill, value))
    });
}

/// Every element repeated: output `factor * q + r` takes input `q`.
fn repeat(e: &mut Emit, x: &Val, factors: &[Option<usize>], out: &Val) {
    let (mut extents, mut load, mut store) = (Vec::new(), Vec::new(), Vec::new());
    for (d, factor) in factors.iter().enumerate() {
        let q = Affine::var(extents.len() as u32);
        extents.push(x.shape()[d]);
        let mut at = q.clone();
        if let Some(factor) = factor {
            at = q.scaled(*factor as i64).plus(&Affine::var(extents.len() as u32));
            extents.push(*factor);
        }
        load.push(q);
        store.push(at);
    }
    e.define_at("", out, &extents, store, |b| b.load(x.id, &x.ty, load));
}

/// The most taps that are written as one expression; more are a fold.
const UNROLLED: usize = 4;

/// The weighted sum of neighbours along dimension `d`.
fn interpolate(e: &mut Emit, x: &Val, d: usize, axis: &Axis, float: DType, fill: f64, out: &Val) {
    let start = Start::new(e, d, axis);
    let mask = mask(e, axis);
    let taps = axis.taps;
    let unrolled = taps <= UNROLLED;
    let tables: Vec<Val> = if unrolled {
        (0..taps)
            .map(|t| {
                let column: Vec<f64> = axis.weights.iter().skip(t).step_by(taps).copied().collect();
                e.table("weight", float, &[axis.outputs()], &column)
            })
            .collect()
    } else {
        vec![e.table("weight", float, &[axis.outputs(), taps], &axis.weights)]
    };
    e.define("", out, |b| {
        let term = |b: &mut DefBuilder, tap: Affine, at_weight: Vec<Affine>, table: &Val| {
            let mut index: Vec<Index> = b.axes().into_iter().map(Index::Affine).collect();
            index[d] = start.index(b, d, &tap);
            let elem = b.elem_at(x, index, float);
            let weight = b.elem(table, &at_weight, float);
            b.times(elem, weight)
        };
        let o = b.var(d);
        let sum = if unrolled {
            let terms: Vec<ExprId> = tables
                .iter()
                .enumerate()
                .map(|(t, table)| term(b, Affine::constant(t as i64), vec![o.clone()], table))
                .collect();
            terms.into_iter().reduce(|sum, t| b.plus(sum, t)).unwrap_or_else(|| b.number(float, 0.0))
        } else {
            let t = b.reduce("t", taps);
            let product = term(b, t.clone(), vec![o, t], &tables[0]);
            b.fold(Fold::Sum, product)
        };
        let value = outside(b, mask.as_ref(), d, fill, sum);
        rounded(b, value, out.dtype())
    });
}
