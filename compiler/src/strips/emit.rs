//! The stages of a chain that is computed strip by strip.

use super::chain::{Chain, Link, Read, move_load};
use super::rates::{Rates, Rows};
use crate::base::{Affine, TensorType};
use crate::definition::{DefBuilder, Definition, Expr, Index, Lowering, Stage, Strips, ValueId, View};
use crate::scalar::Scalar;
use crate::schedule::linear::Layout;
use std::ops::Range;

/// Emits chains into a lowering; `layouts` grow with its values.
pub struct Emit<'a> {
    pub lowering: &'a mut Lowering,
    pub layouts: &'a mut Vec<Layout>,
}

/// Strips under construction.
struct Open {
    /// The first strip, and whether there are strips before its last.
    strip: i64,
    follows: bool,
    views: Vec<View>,
    body: Vec<Stage>,
    /// Where each definition's rows are.
    windows: Vec<ValueId>,
}

impl Emit<'_> {
    /// The stages of a chain.
    pub fn chain(&mut self, chain: &Chain, rates: &Rates) -> Vec<Stage> {
        let last = chain.links.len() - 1;
        let mut stages = Vec::new();
        let mut lasting: Vec<Option<ValueId>> = vec![None; last];
        for (i, slot) in lasting.iter_mut().enumerate() {
            if rates.rows[i].persists() {
                let window = self.window(&chain.links[i], &rates.rows[i]);
                let (link, rows) = (&chain.links[i], &rates.rows[i]);
                let fill = rows.fill.unwrap_or_else(|| zero(link));
                stages.extend(self.before(link, rows, rates, (window, fill)));
                *slot = Some(window);
            }
        }
        let (begin, after) = rates.steady;
        let before = (rates.first..begin).map(|t| (t, 1));
        let behind = (after..rates.end).map(|t| (t, 1));
        for (strip, count) in before.chain([(begin, (after - begin) as usize)]).chain(behind) {
            let mut windows: Vec<ValueId> = Vec::new();
            for (i, slot) in lasting.iter().enumerate() {
                windows.push(match slot {
                    Some(window) => *window,
                    None => self.window(&chain.links[i], &rates.rows[i]),
                });
            }
            windows.push(chain.links[last].def.output.value);
            let mut open = Open {
                strip,
                follows: strip > rates.first || count > 1,
                views: Vec::new(),
                body: Vec::new(),
                windows,
            };
            for i in 0..chain.links.len() {
                self.link(&mut open, chain, rates, i);
            }
            stages.push(Stage::Strips(Strips { count, views: open.views, body: open.body }));
        }
        stages
    }

    /// What a window holds before the first strip: rows outside of the tensor; all of it, where the first
    /// strip moves rows on like any other.
    fn before(
        &mut self,
        link: &Link,
        rows: &Rows,
        rates: &Rates,
        (window, fill): (ValueId, Scalar),
    ) -> Option<Stage> {
        let outside = -(rows.rate * rates.first + rows.back);
        if link.frame.is_some() || rates.steady.0 == rates.first || outside >= rows.window() {
            return Some(Stage::Define(self.constant(window, fill)));
        }
        if outside <= 0 {
            return None;
        }
        let part = self.part(window, link.dim, outside);
        let view = View { whole: window, part, dim: link.dim, start: 0, step: 0 };
        let body = vec![Stage::Define(self.constant(part, fill))];
        Some(Stage::Strips(Strips { count: 1, views: vec![view], body }))
    }

    /// One definition in one strip.
    fn link(&mut self, open: &mut Open, chain: &Chain, rates: &Rates, i: usize) {
        let (link, rows) = (&chain.links[i], &rates.rows[i]);
        let last = i + 1 == chain.links.len();
        if !last && rows.kept() > 0 && open.follows {
            self.shift(open, link, rows, i);
        }
        let (from, to) = rates.made(chain, i, open.strip);
        let inside = link.inside();
        let (begin, end) = (from.max(inside.0).min(to), to.min(inside.1).max(from));
        for row in from..begin {
            self.rows(open, chain, rates, i, (row, 1));
        }
        if end > begin {
            self.rows(open, chain, rates, i, (begin, end - begin));
        }
        for row in end.max(begin)..to {
            self.rows(open, chain, rates, i, (row, 1));
        }
        let wanted = rows.rate * (open.strip + 1) + rows.lead;
        let beyond = (link.rows().max(rows.rate * open.strip + rows.lead), wanted);
        if let (false, Some(fill), true) = (last, rows.fill, beyond.1 > beyond.0) {
            let at = rows.kept() + beyond.0 - (rows.rate * open.strip + rows.lead);
            let part = self.view(open, open.windows[i], link.dim, (at, 0), beyond.1 - beyond.0);
            let fill = self.constant(part, fill);
            open.body.push(Stage::Define(fill));
        }
    }

    /// Moves the rows that are kept to the front of their window, in pieces as long as what they move by, which do not
    /// overlap.
    fn shift(&mut self, open: &mut Open, link: &Link, rows: &Rows, i: usize) {
        let (kept, by, window) = (rows.kept(), rows.rate, open.windows[i]);
        let pieces = if kept > by { kept / by } else { 0 };
        if pieces > 0 {
            let mut inner = Vec::new();
            let mut piece = |emit: &mut Self, start: i64| {
                let part = emit.part(window, link.dim, by);
                let (start, step) = (start as usize, by as usize);
                inner.push(View { whole: window, part, dim: link.dim, start, step });
                part
            };
            let (from, to) = (piece(self, by), piece(self, 0));
            let body = vec![Stage::Define(self.copy(from, to))];
            open.body.push(Stage::Strips(Strips { count: pieces as usize, views: inner, body }));
        }
        let (done, rest) = (pieces * by, kept - pieces * by);
        if rest > 0 {
            let from = self.view(open, window, link.dim, (done + by, 0), rest);
            let to = self.view(open, window, link.dim, (done, 0), rest);
            let copy = self.copy(from, to);
            open.body.push(Stage::Define(copy));
        }
    }

    /// Rows of a definition, from the first strip's row `at.0` on.
    fn rows(&mut self, open: &mut Open, chain: &Chain, rates: &Rates, i: usize, at: (i64, i64)) {
        let (link, own) = (&chain.links[i], &rates.rows[i]);
        let (row, count) = at;
        let unit = if count % own.unit == 0 { own.unit } else { 1 };
        let calls = count / unit;
        let mut def = link.def.clone().into_owned();
        def.vars[link.row as usize].extent = unit as usize;
        let mut inner = Vec::new();
        for read in &link.reads {
            let (value, start, step) = match read.from {
                Some(from) => {
                    let first = rates.begin(from, open.strip);
                    (open.windows[from], read.step * row + read.low - first, 0)
                }
                None => {
                    let first = read.step * row + read.low;
                    let value = link.def.operands[read.operand].value;
                    let reach = first + read.step * (count - 1) + read.high - read.low;
                    match read.fill.filter(|_| first < 0 || reach >= link.room(read)) {
                        Some(fill) => {
                            let rows = (first, reach + 1 + read.more);
                            (self.edge(open, (&link.def, read), rows, fill), 0, 0)
                        }
                        None => (value, first, read.step * own.rate),
                    }
                }
            };
            let length = |rows: i64| read.step * (rows - 1) + read.high - read.low + 1 + read.more;
            let part = self.view(open, value, read.dim, (start, step), length(count));
            let part = self.unit(&mut inner, part, read.dim, (read.step * unit, calls), length(unit));
            move_load(&mut def, read, -read.low - read.rim);
            def.operands[read.operand].value = part;
            def.operands[read.operand].ty = self.lowering.values[part as usize].ty.clone();
        }
        let (start, step) = match i + 1 == chain.links.len() {
            true => (link.step * row + link.low, link.step * own.rate),
            false => (row - rates.begin(i, open.strip), 0),
        };
        let length = |rows: i64| link.step * (rows - 1) + link.high - link.low + 1;
        let part = self.view(open, open.windows[i], link.dim, (start, step), length(count));
        let part = self.unit(&mut inner, part, link.dim, (link.step * unit, calls), length(unit));
        def.store[link.dim].base -= link.low;
        def.output.value = part;
        def.output.ty = self.lowering.values[part as usize].ty.clone();
        open.body.push(match calls {
            1 => Stage::Define(def),
            _ => {
                Stage::Strips(Strips { count: calls as usize, views: inner, body: vec![Stage::Define(def)] })
            }
        });
    }

    /// A copy of rows that reach over an edge, so that a kernel reads them like any others: of what is read in
    /// the other dimensions, since neighbours may be parts of a concatenation that are not there yet.
    fn edge(
        &mut self,
        open: &mut Open,
        (def, read): (&Definition, &Read),
        (first, end): (i64, i64),
        fill: Scalar,
    ) -> ValueId {
        let (whole, dim) = (def.operands[read.operand].value, read.dim);
        let mut ty = self.lowering.values[whole as usize].ty.clone();
        let room = ty.shape[dim] as i64;
        ty.shape[dim] = (end - first) as usize;
        let layout = Layout::permuted(&ty.shape, &self.layouts[whole as usize].order());
        let rows = self.add(whole, ty, layout);
        open.body.push(Stage::Define(self.constant(rows, fill)));
        let (low, high) = (first.max(0), end.min(room));
        if high > low {
            let from = self.view(open, whole, dim, (low, 0), high - low);
            let to = self.view(open, rows, dim, (low - first, 0), high - low);
            let mut copied = covered(def, read);
            copied[dim] = 0..high - low;
            open.body.push(Stage::Define(self.copy_of(from, to, &copied)));
        }
        rows
    }

    /// What a call of several sees of a part.
    fn unit(
        &mut self,
        inner: &mut Vec<View>,
        whole: ValueId,
        dim: usize,
        (step, calls): (i64, i64),
        length: i64,
    ) -> ValueId {
        if calls == 1 {
            return whole;
        }
        let part = self.part(whole, dim, length);
        inner.push(View { whole, part, dim, start: 0, step: step as usize });
        part
    }

    /// A part of a value that moves with the strips; the value itself where it is all of it.
    fn view(
        &mut self,
        open: &mut Open,
        whole: ValueId,
        dim: usize,
        (start, step): (i64, i64),
        length: i64,
    ) -> ValueId {
        let room = self.lowering.values[whole as usize].ty.shape[dim];
        if start == 0 && step == 0 && length as usize == room {
            return whole;
        }
        let part = self.part(whole, dim, length);
        open.views.push(View { whole, part, dim, start: start as usize, step: step as usize });
        part
    }

    /// A value that is so many rows of another, in its layout.
    pub fn part(&mut self, whole: ValueId, dim: usize, length: i64) -> ValueId {
        let mut ty = self.lowering.values[whole as usize].ty.clone();
        ty.shape[dim] = length as usize;
        let layout = Layout { offset: 0, strides: self.layouts[whole as usize].strides.clone() };
        self.add(whole, ty, layout)
    }

    /// A value for the rows of a definition's output that are there at once: in its order of memory, but
    /// rows outermost, so that some rows are one piece.
    fn window(&mut self, link: &Link, rows: &Rows) -> ValueId {
        let output = &link.def.output;
        let mut ty = output.ty.clone();
        ty.shape[link.dim] = rows.window() as usize;
        let mut order = self.layouts[output.value as usize].order();
        order.sort_by_key(|&d| d != link.dim);
        let layout = Layout::permuted(&ty.shape, &order);
        self.add(output.value, ty, layout)
    }

    fn add(&mut self, of: ValueId, ty: TensorType, layout: Layout) -> ValueId {
        let number = self.lowering.values.len();
        let root = self.lowering.values[of as usize].name.split(".strip").next().unwrap_or_default();
        let name = format!("{root}.strip{number}");
        self.layouts.push(layout);
        // What is cut has no size known only at run time.
        let dim = |(dim, &n): (&Affine, &usize)| match dim.has_size() {
            true => dim.clone(),
            false => Affine::constant(n as i64),
        };
        let sizes = self.lowering.dims.get(&of);
        let sizes: Option<Vec<Affine>> = sizes.map(|dims| dims.iter().zip(&ty.shape).map(dim).collect());
        let added = self.lowering.temporary(name, ty);
        self.lowering.dims.extend(sizes.map(|sizes| (added, sizes)));
        added
    }

    fn copy(&self, from: ValueId, to: ValueId) -> Definition {
        let shape = &self.lowering.values[to as usize].ty.shape;
        self.copy_of(from, to, &shape.iter().map(|&n| 0..n as i64).collect::<Vec<_>>())
    }

    /// A copy of what lies within these indices.
    fn copy_of(&self, from: ValueId, to: ValueId, within: &[Range<i64>]) -> Definition {
        let ty = &self.lowering.values[to as usize].ty;
        let extents: Vec<usize> = within.iter().map(|r| (r.end - r.start) as usize).collect();
        let mut b = DefBuilder::new(&extents);
        let at: Vec<Affine> = b.axes().into_iter().zip(within).map(|(v, r)| v.offset(r.start)).collect();
        let element = b.load(from, ty, at.clone());
        b.finish_at("keep_rows", to, ty, at, element)
    }

    fn constant(&self, to: ValueId, fill: Scalar) -> Definition {
        let ty = &self.lowering.values[to as usize].ty;
        let mut b = DefBuilder::new(&ty.shape);
        let element = b.constant(fill);
        b.finish("edge_rows", to, ty, element)
    }
}

/// What a definition reads of an operand in each dimension; all of it where that follows from data.
fn covered(def: &Definition, read: &Read) -> Vec<Range<i64>> {
    let shape = &def.operands[read.operand].ty.shape;
    let mut covered: Vec<Option<Range<i64>>> = vec![None; shape.len()];
    for expr in &def.exprs {
        let Expr::Load { operand, index, .. } = expr else { continue };
        if *operand as usize != read.operand {
            continue;
        }
        for ((known, at), &extent) in covered.iter_mut().zip(index).zip(shape) {
            let (low, high) = match at {
                Index::Affine(form) if !form.has_size() => form.range(|v| def.vars[v as usize].extent),
                _ => (0, extent as i64 - 1),
            };
            let (low, end) = (low.clamp(0, extent as i64), (high + 1).clamp(0, extent as i64));
            let known = known.get_or_insert(low..end);
            *known = known.start.min(low)..known.end.max(end);
        }
    }
    covered.into_iter().zip(shape).map(|(known, &n)| known.unwrap_or(0..n as i64)).collect()
}

fn zero(link: &Link) -> Scalar {
    Scalar::from_f64(link.def.output.ty.dtype, 0.0)
}
