//! TopK: the next best element, as often as asked for.
//!
//! Each pass looks for the best element that comes after the one found before, in the order of
//! values and, among equal ones, of positions. That needs no memory beside the outputs.

use super::emit::{Emit, require};
use super::routine::Code;
use super::{Ctx, Lower, Operator};
use crate::base::{Affine, DType, TensorType};
use crate::definition::Lowering;
use crate::error::{Error, Result};
use crate::tile::{Access, Bin, Cmp, Lane, Reg, Value};

/// The rows.
pub const ROWS: &[Operator] = &[Operator {
    domain: "",
    name: "TopK",
    versions: &[1, 10, 11, 24],
    infer,
    lower: Lower::Define(lower),
    note: "k must be constant",
}];

/// Axis and number of elements.
fn parts(ctx: &Ctx) -> Result<(usize, usize)> {
    let x = ctx.ty(0)?;
    let axis = ctx.axis(ctx.attrs().int("axis", -1)?, x.rank())?;
    let k = match ctx.version() {
        1 => ctx.attrs().get_int("k")?.copied(),
        _ => ctx.constant_ints(1)?.and_then(|k| k.first().copied()),
    };
    let k = k.and_then(|k| usize::try_from(k).ok()).filter(|&k| k <= x.shape[axis]);
    let k = k.ok_or_else(|| Error::model(format!("k does not fit the extent {}", x.shape[axis])))?;
    Ok((axis, k))
}

fn infer(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let (axis, k) = parts(ctx)?;
    let x = ctx.ty(0)?;
    let number = !x.dtype.is_small_float() && x.dtype.bits() >= 8;
    require(number, || format!("it is not defined for {}", x.dtype))?;
    let mut shape = x.shape.clone();
    shape[axis] = k;
    Ok(vec![TensorType::new(x.dtype, shape.clone()), TensorType::new(DType::I64, shape)])
}

/// The parameters, and how elements are compared.
struct Search {
    x: u32,
    /// Lane of elements and of positions, equally wide.
    lanes: (Lane, Lane),
    extent: usize,
    stride: i64,
    largest: bool,
    unsigned: bool,
}

impl Search {
    /// Whether `a` comes before `b`.
    fn before(&self, code: &mut Code, a: Reg, b: Reg) -> Reg {
        match (self.largest, self.unsigned) {
            (true, false) => code.cmp(Cmp::Gt, a, b),
            (false, false) => code.cmp(Cmp::Lt, a, b),
            (true, true) => code.cmp(Cmp::LtU, b, a),
            (false, true) => code.cmp(Cmp::LtU, a, b),
        }
    }

    /// Finds the best element of the row that comes after `last` (everything does before the first
    /// pass, when its position is -1) and makes it `last`.
    fn pass(&self, code: &mut Code, row: &Affine, last: (Reg, Reg)) {
        let (value, place) = self.lanes;
        let (best, best_at) = (code.number(value, 0.0), code.number(place, -1.0));
        let zero = code.number(place, 0.0);
        let first = code.cmp(Cmp::Lt, last.1, zero);
        code.repeat("i", self.extent, |code, i| {
            let x = code.load(self.x, row.plus_scaled(&i, self.stride));
            let at = code.index(place, &i);
            let worse = self.before(code, last.0, x);
            let (equal, later) = (code.cmp(Cmp::Eq, x, last.0), code.cmp(Cmp::Gt, at, last.1));
            let later = code.bin(Bin::And, equal, later);
            let after = code.bin(Bin::Or, worse, later);
            let open = code.bin(Bin::Or, after, first);
            let none = code.cmp(Cmp::Lt, best_at, zero);
            let better = self.before(code, x, best);
            let better = code.bin(Bin::Or, better, none);
            let take = code.bin(Bin::And, open, better);
            code.set(best, Value::Select(take, x, best));
            code.set(best_at, Value::Select(take, at, best_at));
        });
        code.set(last.0, Value::Copy(best));
        code.set(last.1, Value::Copy(best_at));
    }
}

fn lower(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let (axis, k) = parts(ctx)?;
    let mut e = Emit::new(ctx, low);
    let (x, values) = (e.input(0)?, e.result()?);
    let indices = match e.output(1) {
        Some(indices) => indices,
        None => e.temp("indices", DType::I64, values.shape().to_vec()),
    };
    let (extent, outer): (usize, usize) = (x.shape()[axis], x.shape()[..axis].iter().product());
    let inner: usize = x.shape()[axis + 1..].iter().product();
    let mut code = Code::new(&ctx.node.name);
    let from = code.param("x", &x, Access::Read);
    let to = code.param("values", &values, Access::Write);
    let at = code.param("indices", &indices, Access::Write);
    let value = code.lane(from);
    let place = if matches!(value, Lane::F64 | Lane::I64) { Lane::I64 } else { Lane::I32 };
    let search = Search {
        x: from,
        lanes: (value, place),
        extent,
        stride: inner as i64,
        largest: ctx.attrs().flag("largest", true)?,
        unsigned: matches!(x.dtype(), DType::U32 | DType::U64),
    };
    code.repeat("outer", outer, |code, o| {
        code.repeat("inner", inner, |code, i| {
            let last = (code.number(value, 0.0), code.number(place, -1.0));
            let row = o.scaled((extent * inner) as i64).plus(&i);
            let result = o.scaled((k * inner) as i64).plus(&i);
            code.repeat("k", k, |code, pass| {
                search.pass(code, &row, last);
                let here = result.plus_scaled(&pass, inner as i64);
                let position = code.widen(last.1);
                code.store(to, here.clone(), last.0);
                code.store(at, here, position);
            });
        });
    });
    code.finish(e.low);
    Ok(())
}
