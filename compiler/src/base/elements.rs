//! Elements of constants in text forms: `[1.0, -2.5]`, `all 0.5`, `random 7`, `hash 0x...`.

use super::lex::Cursor;
use super::{DType, Tensor, TensorType};
use crate::error::Result;

/// Longer constants are printed as a hash, unless the full text is asked for.
const SHORT: usize = 16;

fn bits(tensor: &Tensor, i: usize) -> u64 {
    let size = tensor.ty.dtype.size();
    let mut bytes = [0; 8];
    bytes[..size].copy_from_slice(&tensor.data[i * size..][..size]);
    u64::from_le_bytes(bytes)
}

/// One element, from its bits.
pub fn element(dtype: DType, bits: u64) -> String {
    match dtype {
        DType::F32 if !f32::from_bits(bits as u32).is_nan() => format!("{:?}", f32::from_bits(bits as u32)),
        DType::F64 if !f64::from_bits(bits).is_nan() => format!("{:?}", f64::from_bits(bits)),
        _ if dtype.is_float() => format!("{bits:#x}"),
        _ if dtype.is_signed_int() => {
            let unused = 64 - 8 * dtype.size() as u32;
            ((bits << unused) as i64 >> unused).to_string()
        }
        _ => bits.to_string(),
    }
}

/// FNV-1a, to tell long constants and texts apart.
pub fn hash(data: &[u8]) -> u64 {
    data.iter().fold(0xcbf2_9ce4_8422_2325, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

/// The elements of a constant; those of a long one only in the full text.
pub fn print(tensor: &Tensor, full: bool) -> String {
    let count = tensor.ty.elems();
    let size = tensor.ty.dtype.size();
    let first = tensor.data.get(..size);
    if count > 1 && tensor.data.chunks_exact(size).all(|e| Some(e) == first) {
        return format!("all {}", element(tensor.ty.dtype, bits(tensor, 0)));
    }
    if count > SHORT && !full {
        return format!("hash {:#018x}", hash(&tensor.data));
    }
    let list: Vec<String> = (0..count).map(|i| element(tensor.ty.dtype, bits(tensor, i))).collect();
    format!("[{}]", list.join(", "))
}

/// Reads one element as bits, zero-extended.
pub fn read_element(cursor: &mut Cursor, dtype: DType) -> Result<u64> {
    let text = cursor.number()?;
    let wrong = || cursor.error(format!("'{text}' is no {dtype}"));
    if let Some(hex) = text.strip_prefix("0x") {
        return u64::from_str_radix(hex, 16).map_err(|_| wrong());
    }
    let low = u64::MAX >> (64 - 8 * dtype.size());
    match dtype {
        DType::F32 => text.parse::<f32>().map(|v| u64::from(v.to_bits())).map_err(|_| wrong()),
        DType::F64 => text.parse::<f64>().map(f64::to_bits).map_err(|_| wrong()),
        _ if dtype.is_float() => Err(wrong()),
        DType::U64 => text.parse::<u64>().map_err(|_| wrong()),
        _ => text.parse::<i64>().map(|v| v as u64 & low).map_err(|_| wrong()),
    }
}

/// Numbers for test constants: floats in -1..1 in steps of 1/64, integers of all bits.
fn random(ty: &TensorType, seed: u64) -> Vec<u64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 11
    };
    let one = |_| match ty.dtype {
        DType::F32 => u64::from((((next() % 128) as f32 - 64.0) / 64.0).to_bits()),
        DType::F64 => (((next() % 128) as f64 - 64.0) / 64.0).to_bits(),
        DType::Bool => next() & 1,
        // Few bits fill a byte by their sign, or by zeros.
        dtype if dtype.bits() < 8 => {
            let unused = 8 - dtype.bits();
            let high = (next() as u8) << unused;
            u64::from(if dtype.is_signed_int() { (high as i8 >> unused) as u8 } else { high >> unused })
        }
        _ => next(),
    };
    (0..ty.elems()).map(one).collect()
}

/// Reads the elements of a constant of the given type, whose size the caller has found sensible.
pub fn read(cursor: &mut Cursor, ty: &TensorType) -> Result<Tensor> {
    let elements = if cursor.eat("all") {
        vec![read_element(cursor, ty.dtype)?; ty.elems()]
    } else if cursor.eat("random") {
        random(ty, cursor.int()?)
    } else if cursor.eat("hash") {
        return Err(cursor.error("the constant was printed as a hash; print the full text"));
    } else {
        let mut elements = Vec::new();
        cursor.expect("[")?;
        while !cursor.eat("]") {
            elements.push(read_element(cursor, ty.dtype)?);
            if !cursor.is("]") {
                cursor.expect(",")?;
            }
        }
        elements
    };
    let size = ty.dtype.size();
    let data: Vec<u8> = elements.iter().flat_map(|e| e.to_le_bytes()[..size].to_vec()).collect();
    Tensor::from_bytes(ty.clone(), data)
        .ok_or_else(|| cursor.error(format!("{} elements where {ty} has {}", elements.len(), ty.elems())))
}
