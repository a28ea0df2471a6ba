//! What operators with data-dependent sizes are made of: routines that write at most so many elements
//! and say how many they were. See `crate::sizes` for what becomes of the sizes.

use super::emit::{Emit, Val, require};
use super::routine::{Code, Place};
use super::{Ctx, Operator};
use crate::base::{Affine, DType, TensorType};
use crate::definition::Lowering;
use crate::error::{Error, Result};
use crate::tile::{Access, Bin, Cmp, Convert, Lane, Reg, Value};

/// The rows. The attribute `key` says which size a result has (see [`crate::graph::Graph::chosen`]).
///
/// - `Kept(flags)`: the places of those that are true, ascending; `times` as many as those of the key.
/// - `Distinct(rows)`: of the distinct rows the place of the first, ascending by value or (attribute
///   `sorted` 0) by place; for each row which of them it is; how often each is there.
pub const ROWS: &[Operator] =
    &[Operator::internal("Kept", infer_kept, kept), Operator::internal("Distinct", infer_distinct, distinct)];

/// Which size a result has.
pub(super) fn key<'a>(ctx: &Ctx<'a>) -> Result<&'a str> {
    Ok(ctx.attrs().get_str("key")?.unwrap_or(""))
}

fn list(extent: usize) -> TensorType {
    TensorType::new(DType::I64, [extent])
}

/// The size of the first dimension of a result, as a value to write.
pub(super) fn size(e: &mut Emit, ctx: &Ctx, of: &Val) -> Val {
    let extent = of.shape().first().copied().unwrap_or(0);
    let id = e.low.size(format!("{}/size{}", ctx.node.name, e.low.values.len()), extent, extent);
    Val { id, ty: TensorType::new(DType::I64, []) }
}

/// A computed place: `at` lies in the parameter.
fn at(of: &Val, at: Reg) -> Place {
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

fn infer_distinct(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let x = ctx.ty(0)?;
    let number = !x.dtype.is_small_float() && x.dtype.bits() >= 8 && x.rank() == 2;
    require(number, || format!("it is not defined for {x}"))?;
    let found = ctx.graph.chosen(x.shape[0], key(ctx)?);
    Ok(vec![list(found), list(x.shape[0]), list(found)])
}

/// A key with the order of the element's values: floats as integers of their width, zeros alike.
fn ordered(code: &mut Code, x: Reg, lane: Lane, unsigned: bool) -> Reg {
    let (int, bits) = match lane {
        Lane::F32 => (Lane::I32, 31.0),
        Lane::F64 => (Lane::I64, 63.0),
        _ if unsigned => {
            let lowest = if lane == Lane::I64 { i64::MIN as f64 } else { f64::from(i32::MIN) };
            let lowest = code.number(lane, lowest);
            return code.bin(Bin::Xor, x, lowest);
        }
        _ => return x,
    };
    let zero = code.number(lane, 0.0);
    let x = code.bin(Bin::Add, x, zero);
    let raw = code.let_(int, Value::Convert(Convert::Bits, x));
    let width = code.number(int, bits);
    let sign = code.bin(Bin::ShrS, raw, width);
    let rest = code.let_(int, Value::Const(if int == Lane::I32 { 0x7fff_ffff } else { i64::MAX as u64 }));
    let flip = code.bin(Bin::And, sign, rest);
    code.bin(Bin::Xor, raw, flip)
}

/// The rows of a matrix, compared.
struct Rows {
    param: u32,
    columns: usize,
    lane: Lane,
    unsigned: bool,
}

impl Rows {
    /// -1, 0 or 1 as row `i` comes before, equals or comes after row `j`.
    fn compare(&self, code: &mut Code, i: &Affine, j: &Affine) -> Reg {
        let order = code.number(Lane::I32, 0.0);
        code.repeat("c", self.columns, |code, c| {
            let key = |code: &mut Code, row: &Affine| {
                let x = code.load(self.param, row.scaled(self.columns as i64).plus(&c));
                ordered(code, x, self.lane, self.unsigned)
            };
            let (a, b) = (key(code, i), key(code, j));
            let (less, more) = (code.cmp(Cmp::Lt, a, b), code.cmp(Cmp::Gt, a, b));
            let wide = self.lane == Lane::I64 || self.lane == Lane::F64;
            let narrow = |code: &mut Code, mask| match wide {
                true => code.let_(Lane::M32, Value::Convert(Convert::Int, mask)),
                false => mask,
            };
            let (less, more) = (narrow(code, less), narrow(code, more));
            let (minus, one, zero) =
                (code.number(Lane::I32, -1.0), code.number(Lane::I32, 1.0), code.number(Lane::I32, 0.0));
            let here = code.select(more, one, zero);
            let here = code.select(less, minus, here);
            let open = code.cmp(Cmp::Eq, order, zero);
            code.set(order, Value::Select(open, here, order));
        });
        order
    }
}

/// The parameters of `Distinct`, of which most hold an element of each row.
struct Distinct<'a> {
    rows: Rows,
    /// How many rows there are.
    all: usize,
    /// The results: the first rows, which one each row is, how often each is there.
    outs: &'a [Val],
    results: [u32; 3],
    /// For each row the first that equals it.
    first: u32,
    /// For each row that is a first, how many others come before it.
    place: (u32, &'a Val),
}

/// Compares all rows with all: rows that are distinct are expected to be few.
fn distinct(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let sorted = ctx.attrs().flag("sorted", true)?;
    let mut e = Emit::new(ctx, low);
    let x = e.input(0)?;
    let all = x.shape()[0];
    let types = infer_distinct(ctx)?;
    let outs: Vec<Val> = (0..3)
        .zip(types)
        .map(|(i, ty)| e.output(i).unwrap_or_else(|| e.temp("unwanted", ty.dtype, ty.shape)))
        .collect();
    let count = size(&mut e, ctx, &outs[0]);
    let firsts = e.temp("first", DType::I64, [all]);
    let places = e.temp("place", DType::I64, [all]);
    let mut code = Code::new(&ctx.node.name);
    let param = code.param("x", &x, Access::Read);
    let unsigned = matches!(x.dtype(), DType::U32 | DType::U64);
    let rows = Rows { param, columns: x.shape()[1], lane: code.lane(param), unsigned };
    let results = [("firsts", 0), ("inverse", 1), ("counts", 2)]
        .map(|(name, i)| code.param(name, &outs[i], Access::ReadWrite));
    let first = code.param("first", &firsts, Access::ReadWrite);
    let place = (code.param("place", &places, Access::ReadWrite), &places);
    let n = code.param("count", &count, Access::Write);
    let d = Distinct { rows, all, outs: &outs, results, first, place };
    d.find_firsts(&mut code);
    let found = d.order(&mut code, sorted);
    d.tally(&mut code);
    code.store(n, Affine::constant(0), found);
    code.finish(e.low);
    Ok(())
}

impl Distinct<'_> {
    fn find_firsts(&self, code: &mut Code) {
        code.repeat("i", self.all, |code, i| {
            let own = code.index(Lane::I64, &i);
            let found = code.index(Lane::I64, &i);
            code.repeat_to("j", &i, |code, j| {
                let order = self.rows.compare(code, &j, &i);
                let zero = code.number(Lane::I32, 0.0);
                let equal = code.cmp(Cmp::Eq, order, zero);
                let open = code.cmp(Cmp::Eq, found, own);
                code.when(equal, |code| {
                    let place = code.index(Lane::I64, &j);
                    code.set(found, Value::Select(open, place, found));
                });
            });
            code.store(self.first, i, found);
        });
    }

    fn is_first(&self, code: &mut Code, i: &Affine) -> Reg {
        let (a, b) = (code.load(self.first, i.clone()), code.index(Lane::I64, i));
        code.cmp(Cmp::Eq, a, b)
    }

    /// Puts the first rows in their places, and sets their counts to 0; how many they are.
    fn order(&self, code: &mut Code, sorted: bool) -> Reg {
        let [first_of, _, counts] = self.results;
        let (found, one) = (code.number(Lane::I64, 0.0), code.number(Lane::I64, 1.0));
        code.repeat("i", self.all, |code, i| {
            let own = self.is_first(code, &i);
            code.when(own, |code| {
                let before = code.number(Lane::I64, 0.0);
                code.repeat("j", self.all, |code, j| {
                    let other = self.is_first(code, &j);
                    code.when(other, |code| {
                        let (a, b) = match sorted {
                            true => (self.rows.compare(code, &j, &i), code.number(Lane::I32, 0.0)),
                            false => (code.index(Lane::I32, &j), code.index(Lane::I32, &i)),
                        };
                        let less = code.cmp(Cmp::Lt, a, b);
                        code.when(less, |code| code.set(before, Value::Bin(Bin::Add, before, one)));
                    });
                });
                code.store(self.place.0, i.clone(), before);
                let number = code.index(Lane::I64, &i);
                code.store(first_of, at(&self.outs[0], before), number);
                let none = code.number(Lane::I64, 0.0);
                code.store(counts, at(&self.outs[2], before), none);
                code.set(found, Value::Bin(Bin::Add, found, one));
            });
        });
        found
    }

    /// Says of each row which of the first ones it is, and counts them.
    fn tally(&self, code: &mut Code) {
        let [_, inverse, counts] = self.results;
        let (place, places) = self.place;
        let one = code.number(Lane::I64, 1.0);
        code.repeat("i", self.all, |code, i| {
            let row = code.load(self.first, i.clone());
            let which = code.load(place, at(places, row));
            code.store(inverse, i, which);
            let times = code.load(counts, at(&self.outs[2], which));
            let more = code.bin(Bin::Add, times, one);
            code.store(counts, at(&self.outs[2], which), more);
        });
    }
}
