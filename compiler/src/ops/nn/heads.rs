//! Views of a tensor as batch, head, position and element, whatever the order in memory.

use crate::base::{Affine, DType};
use crate::definition::{DefBuilder, ExprId, Index};
use crate::error::Result;
use crate::ops::emit::{Arith, Emit, Val, require};

/// How heads lie in a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Layout {
    /// `[batch, head, position, element]`.
    HeadFirst,
    /// `[batch, position, hidden]`; head `h` begins at `first + h * size` of the hidden elements.
    Packed {
        /// Where head 0 begins.
        first: usize,
    },
    /// `[batch, position, head, part, element]`, of which one part is seen.
    Parts {
        /// Which part.
        part: usize,
    },
    /// `[2, batch, head, position, element]`, of which one half is seen.
    Half {
        /// Which half.
        half: usize,
    },
}

/// A tensor seen as heads.
#[derive(Clone, Debug)]
pub struct Heads {
    /// The tensor.
    pub val: Val,
    /// Its layout.
    pub layout: Layout,
    /// Number of heads.
    pub heads: usize,
    /// Number of positions.
    pub length: usize,
    /// Elements of one head.
    pub size: usize,
}

impl Heads {
    /// A tensor of rank 4 (heads first), or of rank 3, whose last dimension holds `heads` heads.
    pub fn of(val: &Val, heads: usize) -> Result<Heads> {
        let s = val.shape();
        match s.len() {
            4 => Ok(Heads {
                layout: Layout::HeadFirst,
                heads: s[1],
                length: s[2],
                size: s[3],
                val: val.clone(),
            }),
            3 => {
                require(heads > 0 && s[2].is_multiple_of(heads), || {
                    format!("{} does not hold {heads} heads", val.ty)
                })?;
                Heads::packed(val, 0, heads, s[2] / heads)
            }
            _ => Err(crate::error::Error::model(format!("{} does not hold heads", val.ty))),
        }
    }

    /// `heads` heads of `size` elements, the first at `first` of the last dimension.
    pub fn packed(val: &Val, first: usize, heads: usize, size: usize) -> Result<Heads> {
        let s = val.shape();
        require(s.len() == 3 && first + heads * size <= s[2], || {
            format!("{} does not hold {heads} heads", val.ty)
        })?;
        Ok(Heads { layout: Layout::Packed { first }, heads, length: s[1], size, val: val.clone() })
    }

    /// The index of an element of the view.
    pub fn index(&self, batch: &Affine, head: &Affine, position: &Affine, element: &Affine) -> Vec<Affine> {
        let [b, h, s, d] = [batch, head, position, element].map(Clone::clone);
        match self.layout {
            Layout::HeadFirst => vec![b, h, s, d],
            Layout::Packed { first } => vec![b, s, h.scaled(self.size as i64).plus(&d).offset(first as i64)],
            Layout::Parts { part } => vec![b, s, h, Affine::constant(part as i64), d],
            Layout::Half { half } => vec![Affine::constant(half as i64), b, h, s, d],
        }
    }

    /// The element at four axes.
    pub fn elem(&self, b: &mut DefBuilder, at: [&Affine; 4], to: DType) -> ExprId {
        let [batch, head, position, element] = at;
        let index = self.index(batch, head, position, element);
        b.elem(&self.val, &index, to)
    }

    /// The element at a position that is computed.
    pub fn elem_at(&self, b: &mut DefBuilder, at: [&Affine; 3], position: ExprId, to: DType) -> ExprId {
        let [batch, head, element] = at;
        // A marker variable that occurs nowhere else finds the position's dimension.
        let marker = Affine::var(u32::MAX);
        let index = self.index(batch, head, &marker, element).into_iter();
        let index = index.map(|i| if i == marker { Index::Dynamic(position) } else { Index::Affine(i) });
        b.elem_at(&self.val, index.collect(), to)
    }

    /// The axes' point as `(batch, head, position, element)` of a definition over four axes.
    pub fn define(
        &self,
        e: &mut Emit,
        what: &str,
        batch: usize,
        body: impl FnOnce(&mut DefBuilder) -> ExprId,
    ) {
        let axes: Vec<Affine> = (0..4).map(Affine::var).collect();
        let store = self.index(&axes[0], &axes[1], &axes[2], &axes[3]);
        e.define_at(what, &self.val, &[batch, self.heads, self.length, self.size], store, body);
    }
}

/// Where the rotation angle of a position is found.
#[derive(Clone, Debug)]
pub enum Positions {
    /// The tables are `[batch, position, angle]`.
    InTables,
    /// Rows of the tables `[row, angle]`, given for each position: `[batch, position]`.
    Given(Val),
    /// Rows that follow each other, from one number for all, or one per batch.
    From(Val),
    /// Rows of several streams, `[stream, batch, position]`; the second says which one each angle takes.
    Streams(Val, Val),
}

/// Rotary embedding: pairs of elements are rotated by an angle that depends on the position.
pub struct Rotary {
    /// Cosines.
    pub cos: Val,
    /// Sines.
    pub sin: Val,
    /// Rows of the tables.
    pub positions: Positions,
    /// Whether neighbours are pairs; element `i` and `i + half` otherwise.
    pub interleaved: bool,
    /// How many elements of a head are rotated.
    pub size: usize,
}

impl Rotary {
    /// Checks that the tables fit heads.
    pub fn check(&self, heads: &Heads) -> Result<()> {
        let half = self.size / 2;
        let fits = |t: &Val| t.shape().last() == Some(&half) && t.rank() == self.table_rank();
        require(
            self.size <= heads.size && self.size.is_multiple_of(2) && fits(&self.cos) && fits(&self.sin),
            || {
                format!(
                    "tables {} and {} do not fit rotations of {} elements",
                    self.cos.ty, self.sin.ty, self.size
                )
            },
        )
    }

    fn table_rank(&self) -> usize {
        if matches!(self.positions, Positions::InTables) { 3 } else { 2 }
    }

    /// An element of a table of cosines or sines: that of a pair of a head, `at` which batch, position and pair.
    fn angle(&self, b: &mut DefBuilder, table: &Val, at: [&Affine; 3], float: DType) -> ExprId {
        let [batch, position, pair] = at;
        let row = match &self.positions {
            Positions::InTables => return b.elem(table, &at.map(Affine::clone), float),
            Positions::Given(rows) => {
                let batch = if rows.shape()[0] == 1 { Affine::constant(0) } else { batch.clone() };
                b.elem(rows, &[batch, position.clone()], DType::I64)
            }
            Positions::Streams(rows, of_angle) => {
                let stream = b.elem(of_angle, std::slice::from_ref(pair), DType::I64);
                let place = [batch, position].map(|i| Index::Affine(i.clone()));
                let index = std::iter::once(Index::Dynamic(stream)).chain(place).collect();
                b.elem_at(rows, index, DType::I64)
            }
            Positions::From(first) => {
                let at = if first.ty.elems() == 1 { Affine::constant(0) } else { batch.clone() };
                let mut index = vec![Affine::constant(0); first.rank()];
                if let Some(i) = index.first_mut() {
                    *i = at;
                }
                let first = b.elem(first, &index, DType::I64);
                let position = b.index(position.clone());
                b.plus(first, position)
            }
        };
        b.elem_at(table, vec![Index::Dynamic(row), Index::Affine(pair.clone())], float)
    }

    /// Defines the rotated heads of `x` in `out`, which has the same extents.
    pub fn define(&self, e: &mut Emit, x: &Heads, out: &Heads, batch: usize, float: DType) -> Result<()> {
        self.check(x)?;
        let half = self.size / 2;
        let axes: Vec<Affine> = (0..4).map(Affine::var).collect();
        let element = |second: usize| match self.interleaved {
            true => axes[3].scaled(2).offset(second as i64),
            false => axes[3].offset((second * half) as i64),
        };
        for second in [0, 1] {
            let store = out.index(&axes[0], &axes[1], &axes[2], &element(second));
            e.define_at("rotated", &out.val, &[batch, x.heads, x.length, half], store, |b| {
                let at = |i| x.index(&axes[0], &axes[1], &axes[2], &element(i));
                let (x1, x2) = (b.elem(&x.val, &at(0), float), b.elem(&x.val, &at(1), float));
                let [cos, sin] = [&self.cos, &self.sin]
                    .map(|table| self.angle(b, table, [&axes[0], &axes[2], &axes[3]], float));
                let (first, other) = if second == 0 { (x1, x2) } else { (x2, x1) };
                let (first, other) = (b.times(cos, first), b.times(sin, other));
                if second == 0 { b.minus(first, other) } else { b.plus(first, other) }
            });
        }
        if self.size < x.size {
            let rest = axes[3].offset(self.size as i64);
            let store = out.index(&axes[0], &axes[1], &axes[2], &rest);
            e.define_at("kept", &out.val, &[batch, x.heads, x.length, x.size - self.size], store, |b| {
                x.elem(b, [&axes[0], &axes[1], &axes[2], &rest], float)
            });
        }
        Ok(())
    }
}
