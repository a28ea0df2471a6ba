//! Products of bytes by weights of four bits in blocks.

use super::*;
use crate::schedule::blocked::{Product, Words};

/// `y[r, n] = sum(b, p) (q[r, b, p] * w[n, b, p] * t[r, b] + c[r, b] (* z[n, b])) * s[n, b] + bias[n]`, with `q` one
/// byte or the sum of three.
fn product(
    (rows, split): (usize, bool),
    columns: usize,
    (blocks, length): (usize, usize),
    zeros: Option<DType>,
) -> Linear {
    let inner = blocks * length;
    let of = |dtype, shape: &[usize]| TensorType::new(dtype, shape);
    let (q, w) = (of(DType::I8, &[rows, inner]), of(DType::U4, &[columns, inner]));
    let (of_rows, of_columns) = (f32s(&[rows, blocks]), f32s(&[columns, blocks]));
    let (bias, y) = (f32s(&[columns]), f32s(&[rows, columns]));
    let mut b = DefBuilder::new(&y.shape);
    let (block, place) = (b.reduce("block", blocks), b.reduce("place", length));
    let at = block.scaled(length as i64).plus(&place);
    let (row, column) = (b.var(0), b.var(1));
    let bytes: &[(u32, f64)] = if split { &[(0, 65536.0), (8, 256.0), (9, 1.0)] } else { &[(0, 1.0)] };
    let mut number = None;
    for &(value, by) in bytes.iter().rev() {
        let byte = b.load(value, &q, vec![row.clone(), at.clone()]);
        let (byte, by) = (b.cast(DType::F32, byte), b.number(DType::F32, by));
        let byte = if value == bytes[bytes.len() - 1].0 { byte } else { b.op(Op::Mul, &[byte, by]) };
        number = Some(number.map_or(byte, |number| b.op(Op::Add, &[byte, number])));
    }
    let w = b.load(1, &w, vec![column.clone(), at]);
    let [t, c] = [2, 3].map(|v| b.load(v, &of_rows, vec![row.clone(), block.clone()]));
    let s = b.load(4, &of_columns, vec![column.clone(), block.clone()]);
    let bias = b.load(5, &bias, vec![column.clone()]);
    let w = b.cast(DType::F32, w);
    let product = b.op(Op::Mul, &[number.expect("a byte"), w]);
    let product = b.op(Op::Mul, &[product, t]);
    let share = match zeros {
        Some(dtype) => {
            let zero = b.load(6, &of(dtype, &[columns, blocks]), vec![column, block]);
            let zero = b.cast(DType::F32, zero);
            b.op(Op::Mul, &[c, zero])
        }
        None => c,
    };
    let sum = b.op(Op::Add, &[product, share]);
    let scaled = b.op(Op::Mul, &[sum, s]);
    let sum = b.fold(Fold::Sum, scaled);
    let sum = b.op(Op::Add, &[sum, bias]);
    let def = b.finish("product", 7, &y, sum);
    let layouts: Vec<Layout> = def.operands.iter().map(|o| Layout::dense(&o.ty.shape)).collect();
    let constant: Vec<bool> = def.operands.iter().map(|o| [1, 4, 6].contains(&o.value)).collect();
    Linear::new(&def, &layouts, &constant, &Layout::dense(&y.shape))
}

#[test]
fn integers_of_blocks_are_scaled_once() {
    let sizes = [(1, 40, (3, 32)), (5, 23, (2, 16)), (7, 16, (1, 64)), (2, 70, (2, 128)), (1, 5, (3, 24))];
    for ((rows, columns, blocks), split) in sizes.into_iter().flat_map(|s| [(s, false), (s, true)]) {
        for zeros in [None, Some(DType::U4), Some(DType::F32)] {
            let linear = product((rows, split), columns, blocks, zeros);
            let constant: Vec<bool> = linear.buffers.iter().map(|b| b.constant).collect();
            let expected = run(&linear, &Schedule::naive(&linear), &vec![false; constant.len()]);
            let found = Product::of(&linear).expect("a product by blocks");
            assert_eq!((found.blocks(&linear), found.zeros.is_some()), (blocks.0, zeros.is_some()));
            for (triple, cpu) in TARGETS.into_iter().filter(|t| t.1 != "x86-64") {
                let target = crate::target::resolve(triple, cpu).expect("the target is known");
                let chosen = choose(&linear, &target);
                assert!(chosen.blocked.is_some(), "{cpu}");
                for words in Words::NAMES {
                    let schedule = Schedule { blocked: Some(words.0), ..chosen.clone() };
                    verify(&schedule, &linear).expect("a valid schedule");
                    // The numbers are small integers: their sums are exact in any order, but for those of 24 bits.
                    let got = run(&linear, &schedule, &constant);
                    let same = if split { nearly(&got, &expected) } else { got == expected };
                    assert!(same, "{}", schedule.display(&linear));
                }
            }
        }
    }
}
