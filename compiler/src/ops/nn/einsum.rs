//! Einsum: one definition that sums the product of all operands; more than two operands are
//! multiplied one after the other, each product summed over what nothing later needs.

use crate::base::{Affine, TensorType};
use crate::definition::{DefBuilder, ExprId, Lowering};
use crate::error::{Error, Result};
use crate::ops::emit::{Arith, Emit, Val, compute_type, require};
use crate::ops::{Ctx, Lower, Operator};
use crate::scalar::Fold;
use std::collections::BTreeMap;

/// The rows.
pub const ROWS: &[Operator] =
    &[Operator { domain: "", name: "Einsum", versions: &[12], infer, lower: Lower::Define(lower), note: "" }];

/// The index letters of each operand and of the result. Dimensions under an ellipsis are digits,
/// counted from the last, and may be broadcast.
struct Equation {
    operands: Vec<Vec<char>>,
    result: Vec<char>,
    extents: BTreeMap<char, usize>,
}

fn letters(term: &str, rank: Option<usize>, most: usize) -> Result<Vec<char>> {
    let bad = || Error::model(format!("the term '{term}' of the equation is not valid"));
    let (before, after, dots) = match term.split_once("...") {
        Some((before, after)) => (before, after, true),
        None => (term, "", false),
    };
    let named = before.chars().count() + after.chars().count();
    let covered = match (dots, rank) {
        (false, Some(rank)) if rank != named => return Err(bad()),
        (false, _) => 0,
        (true, Some(rank)) => rank.checked_sub(named).filter(|&n| n <= 10).ok_or_else(bad)?,
        (true, None) => most,
    };
    let digits = (0..covered).rev().map(|i| char::from(b'0' + i as u8));
    let all: Vec<char> = before.chars().chain(digits).chain(after.chars()).collect();
    let valid = before.chars().chain(after.chars()).all(|c| c.is_ascii_alphabetic());
    if valid { Ok(all) } else { Err(bad()) }
}

fn equation(ctx: &Ctx) -> Result<Equation> {
    let text: String = ctx.attrs().str("equation", "")?.chars().filter(|c| !c.is_whitespace()).collect();
    let (left, right) = match text.split_once("->") {
        Some((left, right)) => (left, Some(right)),
        None => (text.as_str(), None),
    };
    let terms: Vec<&str> = left.split(',').collect();
    require(terms.len() == ctx.node.inputs.len(), || {
        format!("the equation '{text}' does not fit {} inputs", ctx.node.inputs.len())
    })?;
    let mut operands = Vec::new();
    let mut extents: BTreeMap<char, usize> = BTreeMap::new();
    for (i, term) in terms.iter().enumerate() {
        let shape = ctx.shape(i)?;
        let names = letters(term, Some(shape.len()), 0)?;
        for (&c, &d) in names.iter().zip(shape) {
            let known = extents.entry(c).or_insert(d);
            require(*known == d || *known == 1 || d == 1, || {
                format!("index {c} has extents {known} and {d}")
            })?;
            *known = if *known == 1 { d } else { *known };
        }
        operands.push(names);
    }
    let covered = extents.keys().filter(|c| c.is_ascii_digit()).count();
    let result = match right {
        Some(right) => letters(right, None, covered)?,
        None => {
            let once = |c: &char| operands.iter().flatten().filter(|o| *o == c).count() == 1;
            let digits = extents.keys().filter(|c| c.is_ascii_digit()).rev();
            let named = extents.keys().filter(|c| c.is_ascii_alphabetic() && once(c));
            digits.chain(named).copied().collect()
        }
    };
    let known = result.iter().enumerate().all(|(i, c)| extents.contains_key(c) && !result[..i].contains(c));
    require(known, || format!("the result of the equation '{text}' is not valid"))?;
    Ok(Equation { operands, result, extents })
}

fn infer(ctx: &Ctx) -> Result<Vec<TensorType>> {
    let eq = equation(ctx)?;
    let dtype = ctx.dtype(0)?;
    for i in 1..eq.operands.len() {
        require(ctx.dtype(i)? == dtype, || "the inputs differ in element type".into())?;
    }
    Ok(vec![TensorType::new(dtype, eq.result.iter().map(|c| eq.extents[c]).collect::<Vec<_>>())])
}

fn lower(ctx: &Ctx, low: &mut Lowering) -> Result<()> {
    let eq = equation(ctx)?;
    let mut e = Emit::new(ctx, low);
    let out = e.result()?;
    let float = compute_type(out.dtype());
    let mut left: Vec<(Val, Vec<char>)> = vec![(e.input(0)?, eq.operands[0].clone())];
    for i in 1..eq.operands.len() {
        left.push((e.input(i)?, eq.operands[i].clone()));
        if i + 1 < eq.operands.len() {
            let later: Vec<char> = eq.operands[i + 1..].iter().flatten().chain(&eq.result).copied().collect();
            let mut kept: Vec<char> = Vec::new();
            for &c in left.iter().flat_map(|(_, names)| names) {
                if later.contains(&c) && !kept.contains(&c) {
                    kept.push(c);
                }
            }
            let shape: Vec<usize> = kept.iter().map(|c| eq.extents[c]).collect();
            let product = e.temp("product", float, shape);
            define(&mut e, &eq, &left, &kept, &product);
            left = vec![(product, kept)];
        }
    }
    define(&mut e, &eq, &left, &eq.result, &out);
    Ok(())
}

/// Defines the sum of the product of operands, with axes `kept`.
fn define(e: &mut Emit, eq: &Equation, operands: &[(Val, Vec<char>)], kept: &[char], out: &Val) {
    let float = compute_type(out.dtype());
    e.define("", out, |b| {
        let mut forms: BTreeMap<char, Affine> =
            kept.iter().enumerate().map(|(i, &c)| (c, b.var(i))).collect();
        for &c in operands.iter().flat_map(|(_, names)| names) {
            forms.entry(c).or_insert_with(|| b.reduce(&c.to_string(), eq.extents[&c]));
        }
        let summed = forms.len() > kept.len();
        let load = |b: &mut DefBuilder, (x, names): &(Val, Vec<char>)| -> ExprId {
            let index: Vec<Affine> = names
                .iter()
                .zip(x.shape())
                .map(|(c, &d)| if d == 1 { Affine::constant(0) } else { forms[c].clone() })
                .collect();
            b.elem(x, &index, float)
        };
        let mut body = load(b, &operands[0]);
        for operand in &operands[1..] {
            let factor = load(b, operand);
            body = b.times(body, factor);
        }
        if summed { b.fold(Fold::Sum, body) } else { body }
    });
}
