//! TfIdfVectorizer over integers: how often each n-gram of a pool occurs in each row.

use crate::base::{Affine, DType, Tensor, TensorType};
use crate::definition::{DefBuilder, ExprId, Index, Lowering};
use crate::error::{Error, Result};
use crate::ops::emit::{Arith, Emit, Val, require};
use crate::ops::{Ctx, Lower, Operator};
use crate::scalar::{Fold, Op, Scalar};

const F: DType = DType::F32;

/// The rows.
pub const ROWS: &[Operator] = &[Operator {
    domain: "",
    name: "TfIdfVectorizer",
    versions: &[9],
    infer,
    lower: Lower::Define(lower),
    note: "strings are numbers of words",
}];

/// The n-grams of one length.
struct Grams {
    length: usize,
    /// `[count, length]`.
    items: Vec<i64>,
    /// The number of the first among all n-grams.
    first: usize,
}

impl Grams {
    fn count(&self) -> usize {
        self.items.len() / self.length
    }
}

fn ints<'a>(ctx: &Ctx<'a>, name: &str) -> Result<&'a [i64]> {
    let values = ctx.attrs().get_ints(name)?;
    values.ok_or_else(|| Error::model("is missing").at(format!("attribute {name}")))
}

fn size(ctx: &Ctx, name: &str, least: i64) -> Result<usize> {
    let value = ctx.attrs().int(name, least)?;
    require((least..1 << 20).contains(&value), || format!("attribute {name} is {value}"))?;
    Ok(value as usize)
}

/// The n-grams of the lengths asked for, and the column of every n-gram.
fn pool(ctx: &Ctx) -> Result<(Vec<Grams>, Vec<usize>)> {
    require(ctx.attrs().get_strs("pool_strings")?.is_none_or(<[String]>::is_empty), || {
        "strings are not supported".into()
    })?;
    let (items, starts) = (ints(ctx, "pool_int64s")?, ints(ctx, "ngram_counts")?);
    let columns: Option<Vec<usize>> = ints(ctx, "ngram_indexes")?
        .iter()
        .map(|&c| usize::try_from(c).ok().filter(|&c| c < 1 << 24))
        .collect();
    let columns = columns.ok_or_else(|| Error::model("attribute ngram_indexes holds invalid columns"))?;
    let (least, most) = (size(ctx, "min_gram_length", 1)?, size(ctx, "max_gram_length", 1)?);
    let (mut grams, mut first) = (Vec::new(), 0);
    for (i, &start) in starts.iter().enumerate() {
        let length = i + 1;
        let end = starts.get(i + 1).map_or(items.len() as i64, |&e| e);
        let part =
            usize::try_from(start).ok().zip(usize::try_from(end).ok()).and_then(|(s, e)| items.get(s..e));
        let part = part.filter(|p| p.len().is_multiple_of(length));
        let part = part.ok_or_else(|| Error::model("attribute ngram_counts does not fit pool_int64s"))?;
        if (least..=most).contains(&length) && !part.is_empty() {
            grams.push(Grams { length, items: part.to_vec(), first });
        }
        first += part.len() / length;
    }
    require(first == columns.len(), || format!("{} columns are given for {first} n-grams", columns.len()))?;
    Ok((grams, columns))
}

fn infer(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let x = ctx.ty(0)?;
    require((1..=2).contains(&x.rank()) && x.dtype.is_int(), || format!("it is not defined for {x}"))?;
    let width = pool(ctx)?.1.iter().max().map_or(0, |m| m + 1);
    let mut shape = x.shape[..x.rank() - 1].to_vec();
    shape.push(width);
    Ok(vec![TensorType::new(F, shape)])
}

/// Counts of the n-grams of one length in each row, `[rows, grams]`.
fn count(e: &mut Emit, x: &Val, grams: &Grams, skips: usize) -> Val {
    let items = e.constant("items", Tensor::new([grams.count(), grams.length], &grams.items));
    let (rows, columns) = (x.shape()[0], x.shape()[1]);
    // A single item skips nothing.
    let skips = if grams.length == 1 { 1 } else { skips + 1 };
    e.map("count", F, [rows, grams.count()], |b| {
        let (skip, place) = (b.reduce("skip", skips), b.reduce("place", columns));
        let mut holds: Option<ExprId> = None;
        for i in 0..grams.length {
            let at = place.plus_scaled(&skip, i as i64).offset(i as i64);
            let index = vec![b.var(0), at.clone()];
            let item = b.load_padded(x.id, &x.ty, index, Scalar::from_i64(x.dtype(), 0));
            let item = b.cast(DType::I64, item);
            let wanted = b.elem(&items, &[b.var(1), Affine::constant(i as i64)], DType::I64);
            let mut same = b.op(Op::Eq, &[item, wanted]);
            if i + 1 == grams.length {
                let (at, end) = (b.index(at), b.constant(Scalar::from_i64(DType::I64, columns as i64)));
                let inside = b.op(Op::Lt, &[at, end]);
                same = b.op(Op::And, &[same, inside]);
            }
            holds = Some(holds.map_or(same, |h| b.op(Op::And, &[h, same])));
        }
        let (one, zero) = (b.number(F, 1.0), b.number(F, 0.0));
        let body = holds.map_or(zero, |h| b.op(Op::Select, &[h, one, zero]));
        b.fold(Fold::Sum, body)
    })
}

fn lower(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let (grams, columns) = pool(ctx)?;
    let mode = ctx.attrs().str("mode", "TF")?;
    require(["TF", "IDF", "TFIDF"].contains(&mode), || format!("mode '{mode}' is not known"))?;
    let mut weights = vec![1f64; columns.len()];
    if let Some(given) = ctx.attrs().get_floats("weights")?.filter(|_| mode != "TF") {
        require(given.len() == weights.len(), || format!("{} weights are given", given.len()))?;
        weights = given.iter().map(|&w| f64::from(w)).collect();
    }
    let skips = size(ctx, "max_skip_count", 0)?;
    let mut e = Emit::new(ctx, low);
    let (x, out) = (e.input(0)?, e.result()?);
    let width = out.shape()[out.rank() - 1];
    let rows = out.ty.elems() / width.max(1);
    let x = e.reshape(&x, [rows, x.ty.elems() / rows.max(1)]);
    let mut terms = Vec::new();
    for grams in &grams {
        let counts = count(&mut e, &x, grams, skips);
        // For each column its n-gram of this length, and that one's weight: zero where there is none.
        let (mut source, mut weight) = (vec![0i64; width], vec![0f64; width]);
        for g in 0..grams.count() {
            let column = columns[grams.first + g];
            (source[column], weight[column]) = (g as i64, weights[grams.first + g]);
        }
        terms.push((
            counts,
            e.constant("source", Tensor::new([width], &source)),
            e.table("weight", F, &[width], &weight),
        ));
    }
    let flat = e.temp("rows", F, [rows, width]);
    e.define("", &flat, |b| {
        terms.iter().fold(b.number(F, 0.0), |sum, term| add(b, sum, term, mode == "IDF"))
    });
    e.alias(&flat, &out);
    Ok(())
}

/// The sum and the weighted count of the column's n-gram of one length.
fn add(
    b: &mut DefBuilder,
    sum: ExprId,
    (counts, source, weight): &(Val, Val, Val),
    truncate: bool,
) -> ExprId {
    let column = b.var(1);
    let place = b.elem(source, std::slice::from_ref(&column), DType::I64);
    let mut count = b.elem_at(counts, vec![Index::Affine(b.var(0)), Index::Dynamic(place)], F);
    if truncate {
        let one = b.number(F, 1.0);
        count = b.op(Op::Min, &[count, one]);
    }
    let weight = b.elem(weight, &[column], F);
    let term = b.times(count, weight);
    b.plus(sum, term)
}
