//! CumSum and CumProd: one pass along an axis.

use super::emit::{Emit, require};
use super::routine::{Code, joined};
use super::{Ctx, DefineFn, Lower, Operator};
use crate::base::{Affine, TensorType};
use crate::definition::Lowering;
use crate::error::{Error, Result};
use crate::scalar::Fold;
use crate::tile::{Access, Bin, Value};

const fn row(name: &'static str, versions: &'static [i64], lower: DefineFn) -> Operator {
    Operator {
        domain: "",
        name,
        versions,
        infer,
        lower: Lower::Define(lower),
        note: "the axis must be constant",
    }
}

/// The rows.
pub const ROWS: &[Operator] = &[
    row("CumSum", &[11, 14], |ctx, low| lower(ctx, low, Fold::Sum, Bin::Add)),
    row("CumProd", &[26], |ctx, low| lower(ctx, low, Fold::Prod, Bin::Mul)),
];

fn infer(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let x = ctx.ty(0)?;
    let number = !x.dtype.is_small_float() && (x.dtype.is_float() || x.dtype.is_int());
    require(number, || format!("it is not defined for {}", x.dtype))?;
    axis(ctx)?;
    Ok(vec![x.clone()])
}

fn axis(ctx: &Ctx) -> Result<usize> {
    let given = ctx.constant_ints(1)?.and_then(|a| a.first().copied());
    ctx.axis(given.ok_or_else(|| Error::model("the axis is missing"))?, ctx.shape(0)?.len())
}

fn lower(ctx: &Ctx, low: &mut Lowering, fold: Fold, op: Bin) -> Result<()> {
    let axis = axis(ctx)?;
    let (exclusive, reverse) = (ctx.attrs().flag("exclusive", false)?, ctx.attrs().flag("reverse", false)?);
    let mut e = Emit::new(ctx, low);
    let (x, out) = (e.input(0)?, e.result()?);
    let extent = x.shape()[axis];
    let outer: usize = x.shape()[..axis].iter().product();
    let inner: usize = x.shape()[axis + 1..].iter().product();
    // Of a single row the length is in no address: it may be known only at run time.
    let apart = if outer == 1 { 0 } else { extent * inner };
    let mut code = Code::new(&ctx.node.name);
    let (from, to) = (code.param("x", &x, Access::Read), code.param("y", &out, Access::ReadWrite));
    let lane = code.lane(from);
    // Vectors need rows of a length that is known; the last of no rows is not there to begin with.
    let moves = ctx.moves(0, if reverse { axis } else { axis + 1 });
    if inner > 1 && !exclusive && !moves {
        rows(&mut code, (from, to), [outer, extent, inner], reverse, op);
        code.finish(e.low);
        return Ok(());
    }
    let dims = |shape: &[usize]| joined(shape, ctx.graph.sample != 0);
    code.points(&dims(&x.shape()[..axis]), |code, o, _| {
        code.points(&dims(&x.shape()[axis + 1..]), |code, i, _| {
            let first = o.scaled(apart as i64).plus(&i);
            let neutral = fold.identity(lane.dtype().unwrap_or(x.dtype()));
            let acc = code.let_(lane, Value::Const(neutral.bits));
            code.repeat("t", extent, |code, t| {
                let along: Affine = if reverse { t.scaled(-1).offset(extent as i64 - 1) } else { t };
                let at = first.plus_scaled(&along, inner as i64);
                if exclusive {
                    code.store(to, at.clone(), acc);
                }
                let element = code.load(from, at.clone());
                code.set(acc, Value::Bin(op, acc, element));
                if !exclusive {
                    code.store(to, at, acc);
                }
            });
        });
    });
    code.finish(e.low);
    Ok(())
}

/// The sums of whole rows: each is the row before it in the result and the row of the input.
fn rows(code: &mut Code, (from, to): (u32, u32), [outer, extent, inner]: [usize; 3], reverse: bool, op: Bin) {
    let (first, step) = if reverse { (extent as i64 - 1, -1) } else { (0, 1) };
    let row = |o: &Affine, t: &Affine| o.plus(&t.scaled(step).offset(first)).scaled(inner as i64);
    code.repeat("outer", if extent == 0 { 0 } else { outer }, |code, o| {
        let o = o.scaled(if outer == 1 { 0 } else { extent as i64 });
        let start = row(&o, &Affine::constant(0));
        code.run(from, inner, |code, i, lanes| {
            let element = code.load_run(from, start.plus(&i), lanes);
            code.store(to, start.plus(&i), element);
        });
        code.repeat("t", extent.saturating_sub(1), |code, t| {
            let (before, here) = (row(&o, &t), row(&o, &t.offset(1)));
            code.run(from, inner, |code, i, lanes| {
                let sum = code.load_run(to, before.plus(&i), lanes);
                let element = code.load_run(from, here.plus(&i), lanes);
                let sum = code.bin(op, sum, element);
                code.store(to, here.plus(&i), sum);
            });
        });
    });
}
