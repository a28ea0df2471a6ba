//! What a chain makes may lie over what its strips have read.
//!
//! Each strip writes some rows of the result, and reads some of an operand that nothing reads later. Where memory
//! holds both row by row, the result may begin so far before the operand that every strip writes over rows that no
//! later one reads. This is the model; `crate::plan` follows the kernels.

use super::chain::{Chain, Read};
use super::rates::Rates;
use crate::base::TensorType;
use crate::definition::ValueId;
use crate::schedule::linear::Layout;

/// How many bytes what a chain makes must begin before an operand of it; `None` where one of both is not walked over
/// row by row.
pub fn below(chain: &Chain, rates: &Rates, layouts: &[Layout], value: ValueId) -> Option<usize> {
    let last = chain.links.len() - 1;
    let output = &chain.links[last];
    let write = pitch(layouts, output.def.output.value, &output.def.output.ty, output.dim)?;
    let mut reads: Vec<(usize, &Read, i64)> = Vec::new();
    for (i, link) in chain.links.iter().enumerate() {
        for (o, operand) in link.def.operands.iter().enumerate().filter(|(_, o)| o.value == value) {
            let read = link.reads.iter().find(|r| r.operand == o)?;
            reads.push((i, read, pitch(layouts, value, &operand.ty, read.dim)?));
        }
    }
    let wanted = |strip: i64| {
        let rows = reads.iter().map(|(i, read, pitch)| {
            // One kernel reads and writes if the last definition reads the operand itself.
            let from = rates.made(chain, *i, strip + i64::from(*i < last)).0;
            (read.step * from + read.low).max(0) * pitch
        });
        rows.min()
    };
    let ends = (rates.first..rates.end).filter_map(|strip| {
        let (from, to) = rates.made(chain, last, strip);
        let end = (output.step * (to - 1) + output.high + 1) * write;
        (to > from).then(|| Some(end - wanted(strip)?)).flatten()
    });
    ends.max().map(|below| below.max(0) as usize)
}

/// Bytes from row to row, where rows lie one after the other.
fn pitch(layouts: &[Layout], value: ValueId, ty: &TensorType, dim: usize) -> Option<i64> {
    let strides = &layouts[value as usize].strides;
    let within = |d: usize| d == dim || ty.shape[d] < 2 || strides[d].abs() < strides[dim];
    (0..strides.len()).all(within).then(|| strides[dim] * ty.dtype.size() as i64)
}
