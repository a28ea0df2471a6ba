//! Scaled dot-product attention over views of heads: scores, softmax, weighted sum of values.
//! Every operator that computes attention comes here.

use super::heads::Heads;
use crate::base::{Affine, DType};
use crate::definition::{DefBuilder, ExprId};
use crate::error::Result;
use crate::ops::emit::{Arith, Emit, Val, require};
use crate::scalar::{Fold, Op, Scalar};

/// Which position of the keys query 0 is at.
#[derive(Clone, Debug)]
pub enum Offset {
    /// The same for all.
    Fixed(i64),
    /// A number per batch plus a constant.
    PerBatch(Val, i64),
}

/// Which keys a query sees.
#[derive(Clone, Debug)]
pub struct Visible {
    /// Only keys up to the query's own position.
    pub causal: bool,
    /// Where the queries begin among the keys.
    pub offset: Offset,
    /// At most so many keys before the query's position.
    pub left: Option<i64>,
    /// At most so many keys after it.
    pub right: Option<i64>,
    /// How many keys are there, per batch.
    pub lengths: Option<Val>,
    /// What a score becomes where its key is not seen: replaced by minus infinity (`None`), or
    /// lowered by a number.
    pub lowered: Option<f64>,
    /// Keys that are not padding: not 0, `[batch, keys]`, `[batch, queries, keys]` or broadcast to
    /// `[batch, heads, queries, keys]`.
    pub mask: Option<Val>,
}

impl Visible {
    /// Everything is seen.
    pub fn all() -> Visible {
        Visible {
            causal: false,
            offset: Offset::Fixed(0),
            left: None,
            right: None,
            lengths: None,
            lowered: None,
            mask: None,
        }
    }

    /// The same with numbers of 64 bits as numbers of 32, which vectors of scores are compared with.
    fn narrowed(&self, e: &mut Emit) -> Visible {
        let mut narrow = self.clone();
        let mut places = |val: &mut Val| {
            let from = val.clone();
            *val = e.map("places", PLACES, from.shape().to_vec(), |b| {
                let place = b.broadcast(&from, DType::I64);
                let [least, most] =
                    [-FARTHEST, FARTHEST].map(|n| b.constant(Scalar::from_i64(DType::I64, n)));
                let place = b.op(Op::Max, &[place, least]);
                let place = b.op(Op::Min, &[place, most]);
                b.cast(PLACES, place)
            });
        };
        if let Offset::PerBatch(first, _) = &mut narrow.offset {
            places(first);
        }
        if let Some(lengths) = narrow.lengths.as_mut().filter(|l| l.dtype() != PLACES) {
            places(lengths);
        }
        if let Some(mask) = narrow.mask.as_mut().filter(|m| m.dtype().bits() > 32) {
            let from = mask.clone();
            *mask = e.map("seen", DType::Bool, from.shape().to_vec(), |b| {
                let (value, zero) = (b.broadcast(&from, from.dtype()), b.number(from.dtype(), 0.0));
                b.op(Op::Ne, &[value, zero])
            });
        }
        narrow
    }
}

/// What positions are counted in.
const PLACES: DType = DType::I32;

/// No key is so far from another: sums of such numbers fit.
const FARTHEST: i64 = 1 << 29;

/// Attention of some queries to keys and values.
pub struct Attention {
    /// `[batch, heads, queries, size]`.
    pub q: Heads,
    /// `[batch, kv heads, keys, size]`.
    pub k: Heads,
    /// `[batch, kv heads, keys, value size]`.
    pub v: Heads,
    /// Batch.
    pub batch: usize,
    /// Factor of the scores.
    pub scale: f64,
    /// Scores are limited to `softcap * tanh(score / softcap)`.
    pub softcap: Option<f64>,
    /// Which keys are seen.
    pub visible: Visible,
    /// Added to the scores; broadcast to `[batch, heads, queries, keys]`, shorter keys are padded with
    /// minus infinity.
    pub bias: Option<Val>,
    /// A score of its own for each head, `[heads]`, that takes part in the softmax but has no value.
    pub sink: Option<Val>,
    /// The type of the arithmetic.
    pub float: DType,
}

/// The axes of a score: batch, head, query, key.
type Place<'a> = [&'a Affine; 4];

/// Which stage of the scores is wanted besides the result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stage {
    /// The scaled product.
    Product,
    /// After the soft cap.
    Capped,
    /// After masks and bias.
    Masked,
    /// After the softmax.
    Weights,
}

impl Attention {
    /// Checks that heads and sizes fit.
    pub fn check(&self) -> Result<()> {
        let (q, k, v) = (&self.q, &self.k, &self.v);
        let fits = k.heads > 0
            && q.heads.is_multiple_of(k.heads)
            && k.heads == v.heads
            && q.size == k.size
            && k.length == v.length;
        require(fits, || {
            format!("queries {}, keys {} and values {} do not fit", q.val.ty, k.val.ty, v.val.ty)
        })
    }

    fn shape(&self) -> [usize; 4] {
        [self.batch, self.q.heads, self.q.length, self.k.length]
    }

    /// Defines scores up to a stage before the softmax, `[batch, heads, queries, keys]`.
    fn scores(&self, e: &mut Emit, out: &Val, stage: Stage) {
        let groups = self.q.heads / self.k.heads;
        let axis = |i: u32| Affine::var(i);
        // A query head is its key head and its place in the group.
        let grouped = groups > 1;
        let mut extents = vec![self.batch, self.k.heads];
        let mut head = axis(1);
        if grouped {
            extents.push(groups);
            head = axis(1).scaled(groups as i64).plus(&axis(2));
        }
        let (q, k) = (axis(extents.len() as u32), axis(extents.len() as u32 + 1));
        extents.extend([self.q.length, self.k.length]);
        let store = vec![axis(0), head.clone(), q.clone(), k.clone()];
        let visible = self.visible.narrowed(e);
        e.define_at("scores", out, &extents, store, |b| {
            let d = b.reduce("d", self.q.size);
            let (x, y) = (
                self.q.elem(b, [&axis(0), &head, &q, &d], self.float),
                self.k.elem(b, [&axis(0), &axis(1), &k, &d], self.float),
            );
            let product = b.times(x, y);
            let acc = b.fold(Fold::Sum, product);
            let mut score = b.times_number(acc, self.scale);
            if stage == Stage::Product {
                return score;
            }
            if let Some(cap) = self.softcap {
                let ratio = b.times_number(score, 1.0 / cap);
                let tanh = b.op(Op::Tanh, &[ratio]);
                score = b.times_number(tanh, cap);
            }
            if stage == Stage::Capped {
                return score;
            }
            let place = [&axis(0), &head, &q, &k];
            let score = self.biased(b, score, place);
            self.masked(b, score, place, &visible)
        });
    }

    fn biased(&self, b: &mut DefBuilder, score: ExprId, place: Place) -> ExprId {
        let Some(bias) = &self.bias else { return score };
        let index = broadcast_index(bias, place, self.k.length);
        if bias.dtype() == DType::Bool {
            let seen = b.load_padded(bias.id, &bias.ty, index, Scalar::from_i64(DType::Bool, 0));
            let none = b.constant(Scalar::lowest(self.float));
            return b.op(Op::Select, &[seen, score, none]);
        }
        let fill = if bias.dtype().is_float() {
            Scalar::lowest(bias.dtype())
        } else {
            Scalar::from_i64(bias.dtype(), 0)
        };
        let value = b.load_padded(bias.id, &bias.ty, index, fill);
        let value = b.cast(self.float, value);
        b.plus(score, value)
    }

    fn masked(&self, b: &mut DefBuilder, score: ExprId, place: Place, v: &Visible) -> ExprId {
        let mut seen: Vec<ExprId> = Vec::new();
        let [batch, _, q, k] = place;
        let index = |b: &mut DefBuilder, form: &Affine| {
            let index = b.index(form.clone());
            b.cast(PLACES, index)
        };
        let key = index(b, k);
        if v.causal || v.left.is_some() || v.right.is_some() {
            // The query's own position among the keys.
            let position = match &v.offset {
                Offset::Fixed(first) => index(b, &q.offset(*first)),
                Offset::PerBatch(first, plus) => {
                    let first = b.elem(first, std::slice::from_ref(batch), PLACES);
                    let q = index(b, &q.offset(*plus));
                    b.plus(first, q)
                }
            };
            let number = |b: &mut DefBuilder, n: i64| {
                b.constant(Scalar::from_i64(PLACES, n.clamp(-FARTHEST, FARTHEST)))
            };
            if v.causal {
                seen.push(b.op(Op::Le, &[key, position]));
            }
            if let Some(left) = v.left {
                let left = number(b, left);
                let first = b.minus(position, left);
                seen.push(b.op(Op::Ge, &[key, first]));
            }
            if let Some(right) = v.right {
                let right = number(b, right);
                let last = b.plus(position, right);
                seen.push(b.op(Op::Le, &[key, last]));
            }
        }
        if let Some(lengths) = &v.lengths {
            let length = b.elem(lengths, std::slice::from_ref(batch), PLACES);
            seen.push(b.op(Op::Lt, &[key, length]));
        }
        if let Some(mask) = &v.mask {
            let index = match mask.rank() {
                2 => vec![batch.clone(), k.clone()],
                3 => vec![batch.clone(), q.clone(), k.clone()],
                _ => broadcast_index(mask, place, self.k.length),
            };
            let value = b.elem(mask, &index, PLACES);
            let zero = b.number(PLACES, 0.0);
            seen.push(b.op(Op::Ne, &[value, zero]));
        }
        let Some(all) = seen.into_iter().reduce(|a, c| b.op(Op::And, &[a, c])) else { return score };
        let hidden = match v.lowered {
            Some(by) => b.plus_number(score, by),
            None => b.constant(Scalar::lowest(self.float)),
        };
        b.op(Op::Select, &[all, score, hidden])
    }

    /// Defines the attention's result in `out`, and the scores of a stage where wanted.
    pub fn define(&self, e: &mut Emit, out: &Heads, wanted: Option<(&Val, Stage)>) -> Result<()> {
        self.check()?;
        let (float, shape) = (self.float, self.shape());
        if let Some((scores, stage)) = wanted.filter(|w| w.1 != Stage::Weights) {
            self.scores(e, scores, stage);
        }
        let scores = e.temp("scores", float, shape);
        self.scores(e, &scores, Stage::Masked);
        // A query that sees no key has scores of minus infinity: its maximum is taken as zero.
        let max = e.reduce(
            "max",
            &shape,
            &[3],
            Fold::Max,
            |b, i| b.elem(&scores, i, float),
            |b, acc| {
                if let Some(sink) = self.sink(b) {
                    return b.op(Op::Max, &[acc, sink]);
                }
                let (none, zero) = (b.constant(Scalar::lowest(float)), b.number(float, 0.0));
                let empty = b.op(Op::Eq, &[acc, none]);
                b.op(Op::Select, &[empty, zero, acc])
            },
        );
        let exp = e.map("exp", float, shape, |b| {
            let (score, max) = (b.broadcast(&scores, float), b.broadcast(&max, float));
            let difference = b.minus(score, max);
            b.op(Op::Exp, &[difference])
        });
        let sum = e.reduce(
            "sum",
            &shape,
            &[3],
            Fold::Sum,
            |b, i| b.elem(&exp, i, float),
            |b, acc| {
                let Some(sink) = self.sink(b) else { return acc };
                let max = b.broadcast(&max, float);
                let difference = b.minus(sink, max);
                let more = b.op(Op::Exp, &[difference]);
                b.plus(acc, more)
            },
        );
        let normalized = |b: &mut DefBuilder, value: ExprId, sum: ExprId| {
            let zero = b.number(float, 0.0);
            let empty = b.op(Op::Eq, &[sum, zero]);
            let quotient = b.over(value, sum);
            b.op(Op::Select, &[empty, zero, quotient])
        };
        if let Some((weights, Stage::Weights)) = wanted {
            e.define("weights", weights, |b| {
                let (exp, sum) = (b.broadcast(&exp, float), b.broadcast(&sum, float));
                normalized(b, exp, sum)
            });
        }
        self.sum_values(e, &exp, &sum, out, normalized);
        Ok(())
    }

    /// The sink of the head that is the definition's second axis.
    fn sink(&self, b: &mut DefBuilder) -> Option<ExprId> {
        let head = b.var(1);
        self.sink.as_ref().map(|sink| b.elem(sink, &[head], self.float))
    }

    fn sum_values(
        &self,
        e: &mut Emit,
        exp: &Val,
        sum: &Val,
        out: &Heads,
        normalized: impl FnOnce(&mut DefBuilder, ExprId, ExprId) -> ExprId,
    ) {
        let float = self.float;
        let groups = self.q.heads / self.k.heads;
        let axis = |i: u32| Affine::var(i);
        let mut extents = vec![self.batch, self.k.heads];
        let mut head = axis(1);
        if groups > 1 {
            extents.push(groups);
            head = axis(1).scaled(groups as i64).plus(&axis(2));
        }
        let (q, d) = (axis(extents.len() as u32), axis(extents.len() as u32 + 1));
        extents.extend([self.q.length, self.v.size]);
        let store = out.index(&axis(0), &head, &q, &d);
        e.define_at("", &out.val, &extents, store, |b| {
            let k = b.reduce("k", self.k.length);
            let weight = b.elem(exp, &[axis(0), head.clone(), q.clone(), k.clone()], float);
            let value = self.v.elem(b, [&axis(0), &axis(1), &k, &d], float);
            let product = b.times(weight, value);
            let acc = b.fold(Fold::Sum, product);
            let sum = b.elem(sum, &[axis(0), head, q, Affine::constant(0)], float);
            normalized(b, acc, sum)
        });
    }
}

/// The index of a tensor that is broadcast to a score's place. A last dimension shorter than the keys
/// is not broadcast: it is padded.
fn broadcast_index(value: &Val, place: Place, keys: usize) -> Vec<Affine> {
    let rank = value.rank();
    let place = &place[4 - rank.min(4)..];
    let last = rank.saturating_sub(1);
    let index = value.shape().iter().zip(place).enumerate();
    index
        .map(
            |(i, (&d, form))| {
                if d == 1 && (i != last || keys != 1) { Affine::constant(0) } else { (*form).clone() }
            },
        )
        .collect()
}

/// Checks that a tensor is broadcast to the scores.
pub fn check_scores(value: &Val, shape: [usize; 4]) -> Result<()> {
    let rank = value.rank();
    let fits = rank <= 4
        && (0..rank).all(|i| {
            let (have, want) = (value.shape()[i], shape[4 - rank + i]);
            have == want || have == 1 || (i + 1 == rank && 0 < have && have < want)
        });
    require(fits, || format!("a mask or bias of type {} does not fit scores {shape:?}", value.ty))
}

/// Joins earlier and new keys (or values) along their positions in `out`.
pub fn joined(e: &mut Emit, past: &Heads, new: &Heads, out: &Heads, batch: usize) -> Result<()> {
    let fits = past.heads == new.heads && past.size == new.size && past.length + new.length == out.length;
    let fits = fits && past.val.shape().first() == Some(&batch);
    require(fits, || format!("earlier keys or values {} do not fit {}", past.val.ty, new.val.ty))?;
    let axes: Vec<Affine> = (0..4).map(Affine::var).collect();
    for (part, first) in [(past, 0), (new, past.length)] {
        let position = axes[2].offset(first as i64);
        let store = out.index(&axes[0], &axes[1], &position, &axes[3]);
        e.define_at("present", &out.val, &[batch, part.heads, part.length, part.size], store, |b| {
            part.elem(b, [&axes[0], &axes[1], &axes[2], &axes[3]], out.val.dtype())
        });
    }
    Ok(())
}
