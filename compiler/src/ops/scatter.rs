//! Scatter, ScatterElements, ScatterND, TensorScatter: a copy, of which elements at computed places
//! are then replaced or joined with updates, in their order.

use super::emit::{Emit, Val, require};
use super::routine::{Code, Place, joined};
use super::{Ctx, DefineFn, InferFn, Operator};
use crate::base::{Affine, DType, TensorType, row_major_strides};
use crate::definition::Lowering;
use crate::error::{Error, Result};
use crate::tile::{Access, Bin, Lane, Reg};

const fn row(name: &'static str, versions: &'static [i64], infer: InferFn, lower: DefineFn) -> Operator {
    Operator::define("", name, versions, infer, lower)
}

/// The rows.
pub const ROWS: &[Operator] = &[
    row("Scatter", &[9, 11], infer_elements, lower_elements),
    row("ScatterElements", &[11, 13, 16, 18], infer_elements, lower_elements),
    row("ScatterND", &[11, 13, 16, 18], infer_nd, lower_nd),
    row("TensorScatter", &[24], infer_cache, lower_cache),
];

/// How an update joins the element that is there; `None` replaces it.
fn reduction(ctx: &Ctx) -> Result<Option<Bin>> {
    let dtype = ctx.dtype(0)?;
    let unsigned = matches!(dtype, DType::U32 | DType::U64);
    let join = match ctx.attrs().str("reduction", "none")? {
        "none" => return Ok(None),
        "add" => Bin::Add,
        "mul" => Bin::Mul,
        "max" if dtype.is_float() => Bin::MaxNan,
        "max" if unsigned => Bin::MaxU,
        "max" => Bin::Max,
        "min" if dtype.is_float() => Bin::MinNan,
        "min" if unsigned => Bin::MinU,
        "min" => Bin::Min,
        other => return Err(Error::model(format!("reduction '{other}' is not known"))),
    };
    let number = !dtype.is_small_float() && (dtype.is_float() || dtype.is_int() && dtype.bits() >= 8);
    require(number, || format!("a reduction of {dtype} is not defined"))?;
    Ok(Some(join))
}

/// The parameters of a scatter and what it does at each update.
struct Scatter {
    code: Code,
    indices: u32,
    updates: u32,
    out: u32,
    join: Option<Bin>,
}

impl Scatter {
    fn new(ctx: &Ctx, e: &mut Emit, join: Option<Bin>) -> Result<(Self, Val)> {
        let (data, indices, updates, out) = (e.input(0)?, e.input(1)?, e.input(2)?, e.result()?);
        let mut code = Code::new(&ctx.node.name);
        let from = code.param("data", &data, Access::Read);
        let indices = code.param("indices", &indices, Access::Read);
        let updates = code.param("updates", &updates, Access::Read);
        let to = code.param("out", &out, Access::ReadWrite);
        code.copy(ctx, 0, [from, to])?;
        Ok((Scatter { code, indices, updates, out: to, join }, out))
    }

    fn update(code: &mut Code, join: Option<Bin>, from: (u32, Affine), to: (u32, Place)) {
        Scatter::update_run(code, join, from, to, 1);
    }

    /// The same for so many elements in a row.
    fn update_run(code: &mut Code, join: Option<Bin>, from: (u32, Affine), to: (u32, Place), lanes: u8) {
        let mut element: Reg = code.load_run(from.0, from.1, lanes);
        if let Some(join) = join {
            let there = code.load_run(to.0, to.1.clone(), lanes);
            element = code.bin(join, there, element);
        }
        code.store(to.0, to.1, element);
    }
}

fn infer_elements(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let (data, indices, updates) = (ctx.ty(0)?, ctx.ty(1)?, ctx.ty(2)?);
    let axis = elements_axis(ctx)?;
    reduction(ctx)?;
    require(matches!(indices.dtype, DType::I32 | DType::I64), || format!("indices are {indices}"))?;
    let fits = indices.shape == updates.shape
        && indices.rank() == data.rank()
        && updates.dtype == data.dtype
        && (0..data.rank()).all(|i| i == axis || indices.shape[i] <= data.shape[i])
        && (data.elems() > 0 || indices.elems() == 0);
    require(fits, || format!("indices {indices} and updates {updates} do not fit data {data}"))?;
    Ok(vec![data.clone()])
}

fn elements_axis(ctx: &Ctx) -> Result<usize> {
    ctx.axis(ctx.attrs().int("axis", 0)?, ctx.shape(0)?.len())
}

fn lower_elements(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let axis = elements_axis(ctx)?;
    let mut e = Emit::new(ctx, low);
    let (mut s, out) = Scatter::new(ctx, &mut e, reduction(ctx)?)?;
    let strides = row_major_strides(out.shape());
    let extent = out.shape()[axis];
    let (indices, updates, to, join) = (s.indices, s.updates, s.out, s.join);
    s.code.points(ctx.shape(1)?, |code, flat, index| {
        let raw = code.load(indices, flat.clone());
        let at = code.checked_index(raw, extent);
        let stride = code.number(Lane::I64, strides[axis] as f64);
        let moved = code.bin(Bin::Mul, at, stride);
        let limit = (extent - 1) * strides[axis] as usize;
        let rest = (0..index.len()).filter(|&d| d != axis);
        let form = rest.fold(Affine::constant(0), |f, d| f.plus_scaled(&index[d], strides[d]));
        let place = Place { index: form, dynamic: Some((moved, limit)) };
        Scatter::update(code, join, (updates, flat), (to, place));
    });
    s.code.finish(e.low);
    Ok(())
}

/// The number of dimensions of the data that an index names.
fn named(ctx: &Ctx) -> Result<usize> {
    let (data, indices, updates) = (ctx.ty(0)?, ctx.ty(1)?, ctx.ty(2)?);
    let named = *indices.shape.last().ok_or_else(|| Error::model("the indices are a scalar"))?;
    let fits = named <= data.rank()
        && updates.dtype == data.dtype
        && indices.dtype == DType::I64
        && updates.shape == [&indices.shape[..indices.rank() - 1], &data.shape[named..]].concat()
        && (data.elems() > 0 || updates.elems() == 0);
    require(fits, || format!("indices {indices} and updates {updates} do not fit data {data}"))?;
    Ok(named)
}

fn infer_nd(ctx: &Ctx) -> Result<Vec<TensorType>> {
    named(ctx)?;
    reduction(ctx)?;
    Ok(vec![ctx.ty(0)?.clone()])
}

fn lower_nd(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let named = named(ctx)?;
    let mut e = Emit::new(ctx, low);
    let (mut s, out) = Scatter::new(ctx, &mut e, reduction(ctx)?)?;
    let strides = row_major_strides(out.shape());
    let rest = &out.shape()[named..];
    let inner: usize = rest.iter().product();
    let tuples = &ctx.shape(2)?[..ctx.shape(1)?.len() - 1];
    let (indices, updates, to, join) = (s.indices, s.updates, s.out, s.join);
    s.code.points(&joined(tuples, ctx.moves(1, 0)), |code, u, _| {
        let mut total: Option<(Reg, usize)> = None;
        for (k, &stride) in strides.iter().enumerate().take(named) {
            let raw = code.load(indices, u.scaled(named as i64).offset(k as i64));
            let at = code.checked_index(raw, out.shape()[k]);
            let factor = code.number(Lane::I64, stride as f64);
            let moved = code.bin(Bin::Mul, at, factor);
            let limit = (out.shape()[k] - 1) * stride as usize;
            total = Some(match total {
                Some((sum, most)) => (code.bin(Bin::Add, sum, moved), most + limit),
                None => (moved, limit),
            });
        }
        code.all(updates, rest, ctx.moves(0, named), |code, i, lanes| {
            let place = Place { index: i.clone(), dynamic: total };
            let from = (updates, u.scaled(inner as i64).plus(&i));
            Scatter::update_run(code, join, from, (to, place), lanes);
        });
    });
    s.code.finish(e.low);
    Ok(())
}

fn infer_cache(ctx: &Ctx) -> Result<Vec<TensorType>> {
    cache_axis(ctx)?;
    Ok(vec![ctx.ty(0)?.clone()])
}

/// The axis of time, with the types checked.
fn cache_axis(ctx: &Ctx) -> Result<usize> {
    let (past, update) = (ctx.ty(0)?, ctx.ty(1)?);
    let axis = ctx.axis(ctx.attrs().int("axis", -2)?, past.rank())?;
    let fits = axis > 0
        && update.dtype == past.dtype
        && update.rank() == past.rank()
        && (0..past.rank()).all(|d| d == axis || update.shape[d] == past.shape[d])
        && update.shape[axis] <= past.shape[axis];
    require(fits, || format!("the update {update} does not fit the cache {past} along axis {axis}"))?;
    if let Some(start) = ctx.optional(2) {
        let fits = start.ty.dtype == DType::I64 && start.ty.shape == [past.shape[0]];
        require(fits, || format!("write_indices are {}, not one i64 per batch", start.ty))?;
    }
    Ok(axis)
}

/// Each batch's update is written from its own place along the axis: `linear` must have room,
/// `circular` wraps around.
fn lower_cache(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let axis = cache_axis(ctx)?;
    let circular = match ctx.attrs().str("mode", "linear")? {
        "linear" => false,
        "circular" => true,
        other => return Err(Error::model(format!("mode '{other}' is not known"))),
    };
    let mut e = Emit::new(ctx, low);
    let (past, update, start, out) = (e.input(0)?, e.input(1)?, e.optional(2), e.result()?);
    let mut code = Code::new(&ctx.node.name);
    let from = code.param("past", &past, Access::Read);
    let new = code.param("update", &update, Access::Read);
    let start = start.map(|s| code.param("start", &s, Access::Read));
    let to = code.param("out", &out, Access::ReadWrite);
    code.copy(ctx, 0, [from, to])?;
    let strides = row_major_strides(out.shape());
    let extent = out.shape()[axis];
    code.points(update.shape(), |code, flat, index| {
        let mut at = code.index(Lane::I64, &index[axis]);
        if let Some(start) = start {
            let first = code.load(start, index[0].clone());
            at = code.bin(Bin::Add, at, first);
        }
        if circular {
            let end = code.number(Lane::I64, extent as f64);
            at = code.bin(Bin::RemS, at, end);
        }
        let at = code.checked_index(at, extent);
        let stride = code.number(Lane::I64, strides[axis] as f64);
        let moved = code.bin(Bin::Mul, at, stride);
        let rest = (0..index.len()).filter(|&d| d != axis);
        let form = rest.fold(Affine::constant(0), |f, d| f.plus_scaled(&index[d], strides[d]));
        let place = Place { index: form, dynamic: Some((moved, (extent - 1) * strides[axis] as usize)) };
        Scatter::update(code, None, (new, flat), (to, place));
    });
    code.finish(e.low);
    Ok(())
}
