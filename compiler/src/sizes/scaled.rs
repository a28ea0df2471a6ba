//! Computed places in kernels written by hand: sums of indices, each times the distance of neighbours along a dimension.
//! Such distances are numbers of the kernel, which stay those of the first sample: at the bounds, where elements lie.

use super::places::Operand;
use super::unlike;
use crate::error::Result;
use crate::tile::visit::each_addr;
use crate::tile::{Bin, Kernel, Reg, Value, assignments, mentioned};
use std::collections::HashSet;

/// The parameter, the register and the largest number of each place.
fn computed(kernel: &Kernel) -> Vec<(u32, Reg, usize)> {
    let mut all = Vec::new();
    each_addr(&mut kernel.body.clone(), &mut |addr| {
        all.extend(addr.dynamic.map(|(reg, limit)| (addr.param, reg, limit)));
    });
    all
}

/// What indices are multiplied by of which a register is the sum; nothing where it is computed in another way.
fn factors(reg: Reg, values: &[Vec<&Value>]) -> Option<Vec<Reg>> {
    match values[reg as usize][..] {
        [Value::Bin(Bin::Add, a, b)] => Some([factors(*a, values)?, factors(*b, values)?].concat()),
        [Value::Bin(Bin::Mul, _, factor)] => Some(vec![*factor]),
        _ => None,
    }
}

/// The number that a register always is.
fn number(reg: Reg, values: &[Vec<&Value>]) -> Option<i64> {
    match values[reg as usize][..] {
        [Value::Const(bits)] => Some(*bits as i64),
        _ => None,
    }
}

/// Whether nothing but one value is computed from a register.
fn is_read_once(kernel: &Kernel, reg: Reg) -> bool {
    let mut count = 0;
    kernel.body.iter().for_each(|stmt| mentioned(stmt, &mut |r| count += usize::from(r == reg)));
    count == 2
}

/// The registers of a kernel that are distances in operands in which these differ between samples.
pub(super) fn distances(kernels: &[&Kernel], operands: &[Operand]) -> Result<HashSet<Reg>> {
    let unknown = || unlike("it computes places in a dimension that is not the first of its tensor");
    let values: Vec<_> = kernels.iter().map(|kernel| assignments(kernel)).collect();
    let places: Vec<_> = kernels.iter().map(|kernel| computed(kernel)).collect();
    let mut found = HashSet::new();
    for (i, &(param, reg, _)) in places[0].iter().enumerate() {
        let operand = &operands[param as usize];
        if operand.is_dense() {
            continue;
        }
        let limit = |k: usize| places[k].get(i).filter(|p| (p.0, p.1) == (param, reg)).map(|p| p.2);
        let mut left: Vec<usize> =
            (0..kernels.len()).map(limit).collect::<Option<_>>().ok_or_else(unknown)?;
        let mut dims = HashSet::new();
        for factor in factors(reg, &values[0]).ok_or_else(unknown)? {
            let numbers: Option<Vec<i64>> = values.iter().map(|values| number(factor, values)).collect();
            let (dim, ends) = numbers.and_then(|n| operand.along(&n, &dims)).ok_or_else(unknown)?;
            if !is_read_once(kernels[0], factor) {
                return Err(unknown());
            }
            for (left, end) in left.iter_mut().zip(ends) {
                *left = left.checked_sub(end).ok_or_else(unknown)?;
            }
            dims.insert(dim);
            found.insert(factor);
        }
        // Each index stays within the dimension that its factor is a distance of.
        if left.iter().any(|&left| left > 0) {
            return Err(unknown());
        }
    }
    Ok(found)
}
