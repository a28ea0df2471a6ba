//! NumPy's `.npy`: a header in Python syntax, then the elements.

use crate::base::{DType, Tensor, TensorType};
use crate::error::{Error, Result};
use crate::graph::check_size;
use crate::import::Words;

const MAGIC: &[u8] = b"\x93NUMPY";

/// Element types and their NumPy codes, without the byte order.
const CODES: &[(DType, &str)] = &[
    (DType::F32, "f4"),
    (DType::F64, "f8"),
    (DType::F16, "f2"),
    (DType::I8, "i1"),
    (DType::I16, "i2"),
    (DType::I32, "i4"),
    (DType::I64, "i8"),
    (DType::U8, "u1"),
    (DType::U16, "u2"),
    (DType::U32, "u4"),
    (DType::U64, "u8"),
    (DType::Bool, "b1"),
];

/// The text after `'KEY':` in the header.
fn field<'a>(header: &'a str, key: &str) -> Result<&'a str> {
    let missing = || Error::model(format!("the .npy header has no {key}"));
    let at = header.find(&format!("'{key}'")).ok_or_else(missing)?;
    let rest = &header[at + key.len() + 2..];
    Ok(rest.split_once(':').ok_or_else(missing)?.1.trim_start())
}

fn header(bytes: &[u8]) -> Result<(&str, &[u8])> {
    let cut = || Error::model("the .npy file is cut off");
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| Error::model("this is no .npy file"))?;
    let version = *rest.first().ok_or_else(cut)?;
    let wide = if version >= 2 { 4 } else { 2 };
    let length = rest.get(2..2 + wide).ok_or_else(cut)?;
    let length = length.iter().rev().fold(0usize, |n, &b| n << 8 | usize::from(b));
    let end = (2 + wide).checked_add(length).ok_or_else(cut)?;
    let text = rest.get(2 + wide..end).ok_or_else(cut)?;
    let text = std::str::from_utf8(text).map_err(|_| Error::model("the .npy header is no text"))?;
    Ok((text, &rest[end..]))
}

/// The shape that a header states.
fn extents(header: &str) -> Result<Vec<usize>> {
    let shape = field(header, "shape")?;
    let shape = shape.strip_prefix('(').and_then(|s| s.split_once(')')).map(|s| s.0);
    let shape = shape.ok_or_else(|| Error::model("the .npy header has no shape"))?;
    let dims = shape.split(',').map(str::trim).filter(|d| !d.is_empty());
    let dims: std::result::Result<Vec<usize>, _> = dims.map(|d| d.trim_end_matches('L').parse()).collect();
    dims.map_err(|_| Error::model(format!("the shape ({shape}) cannot be read")))
}

/// Strings of at most as many letters of 32 bits as their code says, `U3`: the numbers of a model's words.
fn decode_words(code: &str, shape: Vec<usize>, data: &[u8], words: &Words) -> Result<Tensor> {
    let letters = code.strip_prefix('U').and_then(|n| n.parse::<usize>().ok()).filter(|&n| n > 0);
    let size = letters.and_then(|n| n.checked_mul(4)).filter(|size| data.len().is_multiple_of(*size));
    let size = size.ok_or_else(|| Error::model(format!("elements '{code}' do not fill the .npy file")))?;
    let letter = |b: &[u8]| u32::from_le_bytes(b.try_into().unwrap_or_default());
    let word = |element: &[u8]| -> String {
        let letters = element.chunks(4).map(letter).take_while(|&l| l != 0);
        letters.map(|l| char::from_u32(l).unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
    };
    words.numbered(shape, &data.chunks(size).map(word).collect::<Vec<_>>())
}

/// Decodes a `.npy` file of numbers.
pub fn decode_npy(bytes: &[u8]) -> Result<Tensor> {
    decode_npy_of(bytes, &Words::default())
}

/// Decodes a `.npy` file; strings are the numbers of a model's words.
pub fn decode_npy_of(bytes: &[u8], words: &Words) -> Result<Tensor> {
    let (header, data) = header(bytes)?;
    let descr = field(header, "descr")?;
    let code = descr.strip_prefix('\'').and_then(|d| d.split('\'').next()).unwrap_or(descr);
    if code.starts_with('>') {
        return Err(Error::model("big-endian elements are not supported")
            .advise("Convert with array.astype(array.dtype.newbyteorder('<'))"));
    }
    let plain = code.trim_start_matches(['<', '|', '=']);
    let dims = extents(header)?;
    if plain.starts_with('U') && !field(header, "fortran_order")?.starts_with("True") {
        return decode_words(plain, dims, data, words);
    }
    let dtype = CODES.iter().find(|c| c.1 == plain).map(|c| c.0);
    let dtype = dtype.ok_or_else(|| {
        let error = Error::model(format!("NumPy elements '{code}' are not supported"));
        if plain == "O" { error.advise("Strings: save array.astype(str)") } else { error }
    })?;
    let ty = TensorType::new(dtype, dims);
    check_size(&ty)?;
    let wrong =
        Error::model(format!("the .npy file has {} bytes where {ty} needs {}", data.len(), ty.bytes()));
    if data.len() != ty.bytes() {
        return Err(wrong);
    }
    let data = match field(header, "fortran_order")?.starts_with("True") {
        true => from_columns(data, &ty),
        false => data.to_vec(),
    };
    Tensor::from_bytes(ty, data).ok_or(wrong)
}

/// Column-major elements in row-major order.
fn from_columns(data: &[u8], ty: &TensorType) -> Vec<u8> {
    let size = ty.dtype.size();
    let mut out = Vec::with_capacity(data.len());
    for element in 0..ty.elems() {
        let (mut rest, mut at, mut stride) = (element, 0, ty.elems());
        for &extent in ty.shape.iter().rev() {
            stride /= extent;
            at += rest % extent * stride;
            rest /= extent;
        }
        out.extend_from_slice(&data[at * size..][..size]);
    }
    out
}

/// Encodes a `.npy` file. Types that NumPy lacks (bf16, 8-bit floats) are written as their bits;
/// those of 4 and 2 bits as bytes.
pub fn encode_npy(tensor: &Tensor) -> Result<Vec<u8>> {
    let dtype = tensor.ty.dtype;
    let code = CODES.iter().find(|c| c.0 == dtype).map(|c| c.1);
    let code = code.unwrap_or(match dtype.size() {
        2 => "u2",
        _ if dtype.is_signed_int() => "i1",
        _ => "u1",
    });
    let order = if dtype.size() == 1 { '|' } else { '<' };
    let dims: Vec<String> = tensor.ty.shape.iter().map(|d| format!("{d},")).collect();
    let mut header =
        format!("{{'descr': '{order}{code}', 'fortran_order': False, 'shape': ({}), }}", dims.join(" "));
    let unpadded = MAGIC.len() + 4 + header.len() + 1;
    header.push_str(&" ".repeat(unpadded.next_multiple_of(64) - unpadded));
    header.push('\n');
    let length = u16::try_from(header.len()).map_err(|_| Error::bug("a .npy header of more than 64 KiB"))?;
    let mut bytes = MAGIC.to_vec();
    bytes.extend([1, 0]);
    bytes.extend(length.to_le_bytes());
    bytes.extend(header.into_bytes());
    bytes.extend_from_slice(&tensor.data);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for tensor in [Tensor::new([2, 3], &[1.5f32, 2.0, 3.0, 4.0, 5.0, 6.0]), Tensor::scalar(-7i64)] {
            let bytes = encode_npy(&tensor).unwrap();
            assert_eq!(bytes.len() % 64, tensor.data.len() % 64);
            assert_eq!(decode_npy(&bytes).unwrap(), tensor);
        }
    }

    #[test]
    fn column_major_files_are_turned() {
        let mut bytes = encode_npy(&Tensor::new([2, 3], &[1i32, 4, 2, 5, 3, 6])).unwrap();
        let at = bytes.windows(5).position(|w| w == b"False").unwrap();
        bytes[at..at + 5].copy_from_slice(b"True ");
        assert_eq!(decode_npy(&bytes).unwrap().to_i64s().unwrap(), [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn damaged_files_are_errors() {
        let bytes = encode_npy(&Tensor::new([4], &[1u8, 2, 3, 4])).unwrap();
        for end in 0..bytes.len() {
            assert!(decode_npy(&bytes[..end]).is_err());
        }
    }
}
