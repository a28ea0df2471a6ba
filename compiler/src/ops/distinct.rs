//! Distinct rows of a matrix: their numbers are sorted by what the rows hold, so that equal ones stand side by side.

use super::emit::{Emit, Val, require};
use super::routine::{Code, Place};
use super::sized::{at, key, list, size};
use super::{Ctx, Operator};
use crate::base::{Affine, DType, TensorType};
use crate::definition::Lowering;
use crate::error::Result;
use crate::tile::{Access, Bin, Cmp, Convert, Lane, Reg, Value};

/// The rows. `Distinct(rows)`: of the distinct rows the place of the first, ascending by value or (attribute
/// `sorted` 0) by place; for each row which of them it is; how often each is there. The attribute `key` says
/// which size that has (see [`crate::graph::Graph::chosen`]).
pub const ROWS: &[Operator] = &[Operator::internal("Distinct", infer, lower)];

fn infer(ctx: &Ctx) -> Result<Vec<TensorType>> {
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
    count: usize,
    columns: usize,
    unsigned: bool,
}

impl Rows {
    /// The key of the element that lies so far from the first.
    fn key(&self, code: &mut Code, place: Reg) -> Reg {
        let last = (self.count * self.columns).saturating_sub(1);
        let x = code.load(self.param, Place { index: Affine::constant(0), dynamic: Some((place, last)) });
        ordered(code, x, code.lane(self.param), self.unsigned)
    }

    /// Whether row `i` comes before row `j`, and whether they are equal.
    fn compare(&self, code: &mut Code, [i, j]: [Reg; 2]) -> [Reg; 2] {
        let wide = |code: &mut Code, mask| match code.lane(self.param) {
            Lane::I64 | Lane::F64 => mask,
            _ => code.let_(Lane::M64, Value::Convert(Convert::Int, mask)),
        };
        if self.columns == 1 {
            let (a, b) = (self.key(code, i), self.key(code, j));
            let (less, equal) = (code.cmp(Cmp::Lt, a, b), code.cmp(Cmp::Eq, a, b));
            return [wide(code, less), wide(code, equal)];
        }
        let columns = code.number(Lane::I64, self.columns as f64);
        let (i, j) = (code.bin(Bin::Mul, i, columns), code.bin(Bin::Mul, j, columns));
        let (c, one) = (code.number(Lane::I64, 0.0), code.number(Lane::I64, 1.0));
        let less = code.cmp(Cmp::Lt, c, c);
        code.forever(|code| {
            let end = code.cmp(Cmp::Le, columns, c);
            code.break_if(end);
            let [a, b] = [i, j].map(|row| {
                let place = code.bin(Bin::Add, row, c);
                self.key(code, place)
            });
            let here = code.cmp(Cmp::Lt, a, b);
            let here = wide(code, here);
            code.set(less, Value::Copy(here));
            let differ = code.cmp(Cmp::Ne, a, b);
            let differ = wide(code, differ);
            code.break_if(differ);
            code.set(c, Value::Bin(Bin::Add, c, one));
        });
        [less, code.cmp(Cmp::Eq, c, columns)]
    }
}

/// The numbers of rows while they are sorted: two lists of all in one value.
struct Numbers<'a> {
    param: u32,
    both: &'a Val,
}

impl Numbers<'_> {
    fn load(&self, code: &mut Code, place: Reg) -> Reg {
        code.load(self.param, at(self.both, place))
    }

    /// Sorts them; where the list of the sorted ones begins.
    fn sort(&self, code: &mut Code, rows: &Rows) -> Reg {
        code.repeat("i", rows.count, |code, i| {
            let number = code.index(Lane::I64, &i);
            code.store(self.param, i, number);
        });
        let [from, width] = [0.0, 1.0].map(|v| code.number(Lane::I64, v));
        let all = code.number(Lane::I64, rows.count as f64);
        code.forever(|code| {
            let done = code.cmp(Cmp::Le, all, width);
            code.break_if(done);
            let to = code.bin(Bin::Sub, all, from);
            let start = code.number(Lane::I64, 0.0);
            code.forever(|code| {
                let done = code.cmp(Cmp::Le, all, start);
                code.break_if(done);
                let middle = code.bin(Bin::Add, start, width);
                let middle = code.bin(Bin::Min, middle, all);
                let end = code.bin(Bin::Add, middle, width);
                let end = code.bin(Bin::Min, end, all);
                let ends = [start, middle, end].map(|place| code.bin(Bin::Add, from, place));
                let to = code.bin(Bin::Add, to, start);
                self.merge(code, rows, ends, to);
                code.set(start, Value::Copy(end));
            });
            code.set(from, Value::Copy(to));
            code.set(width, Value::Bin(Bin::Add, width, width));
        });
        from
    }

    /// Writes two sorted runs as one: what comes first of both, then what is left of either.
    fn merge(&self, code: &mut Code, rows: &Rows, [start, middle, end]: [Reg; 3], to: Reg) {
        let [i, j, to] = [start, middle, to].map(|place| code.let_(Lane::I64, Value::Copy(place)));
        let [zero, one] = [0.0, 1.0].map(|v| code.number(Lane::I64, v));
        let step = |code: &mut Code, place: Reg, by: Reg| code.set(place, Value::Bin(Bin::Add, place, by));
        code.forever(|code| {
            for (place, end) in [(i, middle), (j, end)] {
                let done = code.cmp(Cmp::Le, end, place);
                code.break_if(done);
            }
            let (a, b) = (self.load(code, i), self.load(code, j));
            let [second, _] = rows.compare(code, [b, a]);
            let number = code.select(second, b, a);
            code.store(self.param, at(self.both, to), number);
            let second = code.select(second, one, zero);
            let first = code.bin(Bin::Sub, one, second);
            step(code, i, first);
            step(code, j, second);
            step(code, to, one);
        });
        for (place, end) in [(i, middle), (j, end)] {
            code.forever(|code| {
                let done = code.cmp(Cmp::Le, end, place);
                code.break_if(done);
                let number = self.load(code, place);
                code.store(self.param, at(self.both, to), number);
                step(code, place, one);
                step(code, to, one);
            });
        }
    }
}

/// The parameters of `Distinct`, of which most hold an element of each row.
struct Distinct<'a> {
    rows: Rows,
    numbers: Numbers<'a>,
    /// The results: the first rows, which one each row is, how often each is there.
    outs: &'a [Val],
    results: [u32; 3],
    /// For each row the first that equals it.
    first: (u32, &'a Val),
    /// For each row that is a first, how many others come before it.
    place: (u32, &'a Val),
}

fn lower(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let sorted = ctx.attrs().flag("sorted", true)?;
    let mut e = Emit::new(ctx, low);
    let x = e.input(0)?;
    let all = x.shape()[0];
    let types = infer(ctx)?;
    let outs: Vec<Val> = (0..3)
        .zip(types)
        .map(|(i, ty)| e.output(i).unwrap_or_else(|| e.temp("unwanted", ty.dtype, ty.shape)))
        .collect();
    let count = size(&mut e, ctx, &outs[0]);
    let both = e.temp("numbers", DType::I64, [2, all]);
    let [firsts, places] = ["first", "place"].map(|name| e.temp(name, DType::I64, [all]));
    let mut code = Code::new(&ctx.node.name);
    let param = code.param("x", &x, Access::Read);
    let unsigned = matches!(x.dtype(), DType::U32 | DType::U64);
    let rows = Rows { param, count: all, columns: x.shape()[1], unsigned };
    let results = [("firsts", 0), ("inverse", 1), ("counts", 2)]
        .map(|(name, i)| code.param(name, &outs[i], Access::ReadWrite));
    let numbers = Numbers { param: code.param("numbers", &both, Access::ReadWrite), both: &both };
    let [first, place] = [("first", &firsts), ("place", &places)]
        .map(|(name, val)| (code.param(name, val, Access::ReadWrite), val));
    let n = code.param("count", &count, Access::Write);
    let d = Distinct { rows, numbers, outs: &outs, results, first, place };
    let order = d.numbers.sort(&mut code, &d.rows);
    d.find_firsts(&mut code, order);
    let found = code.number(Lane::I64, 0.0);
    code.repeat("i", all, |code, i| {
        let row = code.index(Lane::I64, &i);
        let row = if sorted { d.numbered(code, order, row) } else { row };
        d.tally(code, row, found);
    });
    code.store(n, Affine::constant(0), found);
    code.finish(e.low);
    Ok(())
}

impl Distinct<'_> {
    /// The row that comes at a place of the sorted list.
    fn numbered(&self, code: &mut Code, order: Reg, place: Reg) -> Reg {
        let place = code.bin(Bin::Add, order, place);
        self.numbers.load(code, place)
    }

    /// Finds the first of those that equal each row: equal ones are sorted by their numbers.
    fn find_firsts(&self, code: &mut Code, order: Reg) {
        let zero = code.number(Lane::I64, 0.0);
        let first = self.numbered(code, order, zero);
        code.repeat("i", self.rows.count, |code, i| {
            let place = code.index(Lane::I64, &i);
            let row = self.numbered(code, order, place);
            let [_, equal] = self.rows.compare(code, [first, row]);
            code.set(first, Value::Select(equal, first, row));
            code.store(self.first.0, at(self.first.1, row), first);
        });
    }

    /// Says of a row which of the distinct ones it is, the next one if it is their first, and counts it.
    fn tally(&self, code: &mut Code, row: Reg, found: Reg) {
        let [first_of, inverse, counts] = self.results;
        let one = code.number(Lane::I64, 1.0);
        let first = code.load(self.first.0, at(self.first.1, row));
        let new = code.cmp(Cmp::Eq, first, row);
        code.when(new, |code| {
            code.store(self.place.0, at(self.place.1, row), found);
            code.store(first_of, at(&self.outs[0], found), row);
            let none = code.number(Lane::I64, 0.0);
            code.store(counts, at(&self.outs[2], found), none);
            code.set(found, Value::Bin(Bin::Add, found, one));
        });
        let which = code.load(self.place.0, at(self.place.1, first));
        code.store(inverse, at(&self.outs[1], row), which);
        let times = code.load(counts, at(&self.outs[2], which));
        let more = code.bin(Bin::Add, times, one);
        code.store(counts, at(&self.outs[2], which), more);
    }
}
