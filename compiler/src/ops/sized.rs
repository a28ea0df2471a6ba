//! What operators with data-dependent sizes are made of: routines that write at most so many elements
//! and say how many they were. See `crate::sizes` for what becomes of the sizes.

use super::emit::{Emit, Val, require};
use super::routine::{Code, Place};
use super::{Ctx, Operator};
use crate::base::{Affine, DType, TensorType};
use crate::definition::Lowering;
use crate::error::{Error, Result};
use crate::tile::{Access, Bin, Cmp, Lane, Reg, Value};

/// The rows. The attribute `key` says which size a result has (see [`crate::graph::Graph::chosen`]).
///
/// `Kept(flags)`: the places of those that are true, ascending; `times` as many as those of the key.
pub const ROWS: &[Operator] = &[Operator::internal("Kept", infer_kept, kept)];

/// Which size a result has.
pub(super) fn key<'a>(ctx: &Ctx<'a>) -> Result<&'a str> {
    Ok(ctx.attrs().get_str("key")?.unwrap_or(""))
}

pub(super) fn list(extent: usize) -> TensorType {
    TensorType::new(DType::I64, [extent])
}

/// The size of the first dimension of a result, as a value to write.
pub(super) fn size(e: &mut Emit, ctx: &Ctx, of: &Val) -> Val {
    let extent = of.shape().first().copied().unwrap_or(0);
    let id = e.low.size(format!("{}/size{}", ctx.node.name, e.low.values.len()), extent, extent);
    Val { id, ty: TensorType::new(DType::I64, []) }
}

/// A computed place: `at` lies in the parameter.
pub(super) fn at(of: &Val, at: Reg) -> Place {
    Place { index: Affine::constant(0), dynamic: Some((at, of.ty.elems().saturating_sub(1))) }
}

fn infer_kept(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let flags = ctx.ty(0)?;
    require(flags.dtype == DType::Bool && flags.rank() == 1, || format!("the condition is {flags}"))?;
    let times = ctx.attrs().int("times", 1)?;
    let times = usize::try_from(times).ok().filter(|&t| t > 0);
    let times = times.ok_or_else(|| Error::bug("flags that are others no times"))?;
    Ok(vec![list(ctx.graph.kept(flags.elems(), (key(ctx)?, times)))])
}

fn kept(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let mut e = Emit::new(ctx, low);
    let (flags, out) = (e.input(0)?, e.result()?);
    let count = size(&mut e, ctx, &out);
    let mut code = Code::new(&ctx.node.name);
    let from = code.param("flags", &flags, Access::Read);
    let (to, n) = (code.param("places", &out, Access::Write), code.param("count", &count, Access::Write));
    let (found, one) = (code.number(Lane::I64, 0.0), code.number(Lane::I64, 1.0));
    code.repeat("i", flags.ty.elems(), |code, i| {
        let flag = code.load(from, i.clone());
        let zero = code.number(code.lane(from), 0.0);
        let set = code.cmp(Cmp::Ne, flag, zero);
        code.when(set, |code| {
            let place = code.index(Lane::I64, &i);
            code.store(to, at(&out, found), place);
            code.set(found, Value::Bin(Bin::Add, found, one));
        });
    });
    code.store(n, Affine::constant(0), found);
    code.finish(e.low);
    Ok(())
}
