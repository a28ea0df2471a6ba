//! Whether a run of definitions can be computed strip by strip, and what each then needs of the others.
//!
//! One axis of the last definition is cut into strips. Each definition before it is cut along the axis
//! that the next one's rows walk: rows `step * row + low ..= step * row + high` of it are read for a row.

use crate::base::Affine;
use crate::definition::{Definition, Expr, Index, Lowering, Operand, Var};
use crate::scalar::Scalar;
use crate::schedule::linear::Layout;
use std::borrow::Cow;

/// Elements that fill a vector: bytes are computed with in 32 bits.
const VECTOR: usize = 16;

/// A definition, and what the rim around its output holds, if there is one.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    pub def: &'a Definition,
    pub frame: Option<Scalar>,
}

/// What a definition reads of an operand that moves with its rows.
#[derive(Clone, Debug)]
pub struct Read {
    /// Index into the definition's operands.
    pub operand: usize,
    /// The definition of the chain that makes it; `None`: it is whole before.
    pub from: Option<usize>,
    /// The dimension that the rows walk.
    pub dim: usize,
    /// Its rows per row of the definition.
    pub step: i64,
    /// The first and the last row that row 0 reads.
    pub low: i64,
    pub high: i64,
    /// Rows of a rim before the operand's row 0.
    pub rim: i64,
    /// Rows that nothing reads behind the last, where the operand is bytes: words reach into them.
    pub more: i64,
    /// What is read outside, where something is.
    pub fill: Option<Scalar>,
}

/// A definition of a chain.
#[derive(Clone, Debug)]
pub struct Link<'a> {
    /// The definition.
    pub def: Cow<'a, Definition>,
    /// The axis that is cut.
    pub row: u32,
    /// The dimension of the output that it walks, how far per row, and where row 0 begins and ends.
    pub dim: usize,
    pub step: i64,
    pub low: i64,
    pub high: i64,
    /// What the rim around the output holds, if there is one.
    pub frame: Option<Scalar>,
    /// Points of a row beside those of the axis that is innermost in memory, which fills vectors.
    pub pixels: i64,
    /// Operands that move with the rows; all others are read whole.
    pub reads: Vec<Read>,
}

impl Link<'_> {
    /// Rows in all.
    pub fn rows(&self) -> i64 {
        self.def.vars[self.row as usize].extent as i64
    }

    /// Rows of an operand.
    pub fn room(&self, read: &Read) -> i64 {
        self.def.operands[read.operand].ty.shape[read.dim] as i64
    }

    /// The rows at which no read from outside the chain reaches over an edge.
    pub fn inside(&self) -> (i64, i64) {
        let outside = self.reads.iter().filter(|r| r.from.is_none());
        outside.fold((0, self.rows()), |(lo, hi), r| {
            let first = -(r.low.div_euclid(r.step));
            let last = (self.room(r) - 1 - r.high).div_euclid(r.step);
            (lo.max(first), hi.min(last + 1))
        })
    }
}

/// Definitions in order; each but the last is read by later ones of the chain alone.
#[derive(Clone, Debug)]
pub struct Chain<'a> {
    pub links: Vec<Link<'a>>,
}

impl<'a> Chain<'a> {
    /// The chain along an axis of the last definition; `None` where some access does not move with it.
    pub fn of(parts: &[Part<'a>], axis: u32, layouts: &[Layout]) -> Option<Chain<'a>> {
        let mut rows: Vec<Option<u32>> = vec![None; parts.len()];
        *rows.last_mut()? = Some(axis);
        let mut links = Vec::new();
        for (i, part) in parts.iter().enumerate().rev() {
            let link = link(parts, i, rows[i]?, layouts)?;
            let plain = link.step == 1 && link.low == link.high;
            let whole = link.low == 0 && link.rows() == part.def.output.ty.shape[link.dim] as i64;
            if i + 1 < parts.len() && !(plain && (whole || part.frame.is_some())) {
                return None;
            }
            for read in &link.reads {
                let Some(from) = read.from else { continue };
                let row = stored_axis(parts[from].def, read.dim)?;
                if rows[from].replace(row).is_some_and(|known| known != row) {
                    return None;
                }
            }
            links.push(link);
        }
        links.reverse();
        Some(Chain { links })
    }

    /// Whether rows depend on the same rows alone: any of them may be computed together, and some of them twice.
    pub fn by_rows(&self) -> bool {
        let Some(rows) = self.links.last().map(Link::rows) else { return false };
        self.links.iter().all(|link| {
            let plain = link.reads.iter().all(|r| match r.from {
                Some(_) => (r.step, r.low, r.high) == (1, 0, 0),
                None => r.fill.is_none(),
            });
            link.rows() == rows && link.frame.is_none() && plain && link.reads.iter().all(|r| r.more == 0)
        })
    }

    /// The same, with definitions of its own.
    pub fn owned(self) -> Chain<'static> {
        let own = |l: Link| Link { def: Cow::Owned(l.def.into_owned()), ..l };
        Chain { links: self.links.into_iter().map(own).collect() }
    }

    /// Whether rows of what lies outside are apart in memory, or one number each: an axis that fills vectors must not be
    /// cut. Nor must factors that are packed.
    pub fn apart(&self, lowering: &Lowering, layouts: &[Layout]) -> bool {
        let far = |o: &Operand, dim: usize, step: i64| {
            let stride = layouts[o.value as usize].strides[dim].abs();
            (step * stride) as usize >= VECTOR
        };
        let single = |o: &Operand, dim: usize| o.ty.elems() == o.ty.shape[dim];
        let packed = |l: &Link, o: &Operand| {
            l.def.fold.is_some() && lowering.values[o.value as usize].constant.is_some()
        };
        let reads = self.links.iter().all(|l| {
            let mut outside = l.reads.iter().filter(|r| r.from.is_none());
            outside.all(|r| {
                let operand = &l.def.operands[r.operand];
                (single(operand, r.dim) || far(operand, r.dim, r.step)) && !packed(l, operand)
            })
        });
        reads && self.links.last().is_some_and(|l| far(&l.def.output, l.dim, l.step))
    }

    /// Reads of a definition's output within the chain, with the reader.
    pub fn readers(&self, link: usize) -> impl Iterator<Item = (usize, &Read)> {
        let of = move |r: &&Read| r.from == Some(link);
        self.links.iter().enumerate().flat_map(move |(c, l)| l.reads.iter().filter(of).map(move |r| (c, r)))
    }

    /// What readers see outside of a definition's output: `Err` where they differ.
    pub fn fill(&self, link: usize) -> Result<Option<Scalar>, ()> {
        if let Some(frame) = self.links[link].frame {
            return Ok(Some(frame));
        }
        let mut fills = self.readers(link).filter_map(|(_, r)| r.fill);
        let first = fills.next();
        if fills.all(|f| Some(f) == first) { Ok(first) } else { Err(()) }
    }
}

/// The axis that a definition stores along a dimension, point by point.
fn stored_axis(def: &Definition, dim: usize) -> Option<u32> {
    match def.store.get(dim)?.terms.as_slice() {
        [(v, 1)] => Some(*v),
        _ => None,
    }
}

fn link<'a>(parts: &[Part<'a>], i: usize, row: u32, layouts: &[Layout]) -> Option<Link<'a>> {
    let Part { def, frame } = parts[i];
    let Var { extent, ref size, .. } = def.vars[row as usize];
    if size.is_some() || extent < 2 {
        return None;
    }
    let (dim, step, low, high) = walked(def, def.store.iter().map(Some), row)??;
    let mut reads: Vec<Read> = Vec::new();
    let mut still: Vec<usize> = Vec::new();
    for expr in &def.exprs {
        let (operand, index, fill) = match expr {
            Expr::Index(form) if form.coefficient(row) != 0 => return None,
            Expr::Load { operand, index, fill } => (*operand as usize, index, *fill),
            _ => continue,
        };
        let forms = index.iter().map(Index::affine);
        let from = parts[..i].iter().position(|p| p.def.output.value == def.operands[operand].value);
        match walked(def, forms, row)? {
            Some((dim, step, low, high)) => {
                let ty = &def.operands[operand].ty;
                let room = ty.shape[dim] as i64;
                let end = step * (extent as i64 - 1) + high + 1;
                let fill = fill.filter(|_| low < 0 || end > room);
                let more = if ty.dtype.size() == 1 { (room - end).clamp(0, 1) } else { 0 };
                let read = Read { operand, from, dim, step, low, high, rim: 0, more, fill };
                let read = match from.map(|from| parts[from]) {
                    Some(Part { def, frame: Some(frame) }) => within(read, def, frame, end)?,
                    _ => read,
                };
                join(&mut reads, read)?;
            }
            None => still.push(operand),
        }
    }
    let made = |o: &usize| parts.iter().any(|p| p.def.output.value == def.operands[*o].value);
    let clear = still.iter().all(|o| !made(o) && reads.iter().all(|r| r.operand != *o));
    let pixels = pixels(def, row, &layouts[def.output.value as usize]);
    clear.then_some(Link { def: Cow::Borrowed(def), row, dim, step, low, high, frame, pixels, reads })
}

fn pixels(def: &Definition, row: u32, layout: &Layout) -> i64 {
    let stride =
        |v: u32| def.store.iter().zip(&layout.strides).map(|(f, s)| f.coefficient(v) * s).sum::<i64>();
    let axes = (0..def.axes as u32).filter(|&v| v != row && def.vars[v as usize].extent > 1);
    let inner = axes.clone().min_by_key(|&v| stride(v).abs());
    let beside = axes.filter(|&v| Some(v) != inner);
    beside.map(|v| def.vars[v as usize].extent as i64).product()
}

/// A read of a padded tensor as one of the rows that its definition makes; what is read outside of these
/// is the frame. `end`: one past the last row read.
fn within(read: Read, made: &Definition, frame: Scalar, end: i64) -> Option<Read> {
    if read.fill.is_some() {
        return None;
    }
    let rim = made.store.get(read.dim)?.base;
    let rows = made.vars[stored_axis(made, read.dim)? as usize].extent as i64;
    let fill = (read.low < rim || end > rim + rows).then_some(frame);
    Some(Read { low: read.low - rim, high: read.high - rim, rim, fill, ..read })
}

/// A further read of an operand: both must walk it alike.
fn join(reads: &mut Vec<Read>, read: Read) -> Option<()> {
    match reads.iter_mut().find(|r| r.operand == read.operand) {
        None => reads.push(read),
        Some(known) => {
            let fills = known.fill.is_none() || read.fill.is_none() || known.fill == read.fill;
            if (known.dim, known.step) != (read.dim, read.step) || !fills {
                return None;
            }
            (known.low, known.high) = (known.low.min(read.low), known.high.max(read.high));
            known.more = known.more.min(read.more);
            known.fill = known.fill.or(read.fill);
        }
    }
    Some(())
}

/// The one dimension that a row walks, forwards: how far per row, and the range at row 0. `Some(None)`:
/// none; `None`: several, or backwards, or from where a size says.
#[allow(clippy::type_complexity)]
fn walked<'a>(
    def: &Definition,
    forms: impl Iterator<Item = Option<&'a Affine>>,
    row: u32,
) -> Option<Option<(usize, i64, i64, i64)>> {
    let mut found = None;
    for (dim, form) in forms.enumerate() {
        let Some(form) = form else { continue };
        let step = form.coefficient(row);
        if step == 0 {
            continue;
        }
        let mut rest = form.clone();
        rest.add_term(row, -step);
        let (low, high) = rest.range(|v| def.vars[v as usize].extent);
        if step < 0 || form.has_size() || found.replace((dim, step, low, high)).is_some() {
            return None;
        }
    }
    Some(found)
}

/// Moves what is read of an operand by so many rows.
pub fn move_load(def: &mut Definition, read: &Read, by: i64) {
    for expr in &mut def.exprs {
        let Expr::Load { operand, index, .. } = expr else { continue };
        if *operand as usize != read.operand {
            continue;
        }
        if let Index::Affine(form) = &mut index[read.dim] {
            form.base += by;
        }
    }
}
