//! `TensorProto` to [`Tensor`] and back: raw and typed fields, packed 4- and 2-bit types, sparse.

use super::external::Folder;
use super::limits::shape;
use super::words::{STRING, Words};
use crate::base::{DType, Tensor, TensorType};
use crate::error::{Error, Result};
use crate::graph::check_size;
use prost::Message;
use std::path::Path;
use std::sync::Arc;
use tract_onnx::pb;

/// Decodes the bytes of one `TensorProto` (a `.pb` file of ONNX test data): its name and elements.
pub fn decode_tensor(bytes: &[u8]) -> Result<(String, Tensor)> {
    let proto = pb::TensorProto::decode(bytes)
        .map_err(|e| Error::model(format!("not an ONNX tensor, or cut off: {e}")))?;
    let tensor = from_proto(&proto, &Folder::new(None))?;
    Ok((proto.name, tensor))
}

/// The same; strings are the numbers of a model's words.
pub fn decode_tensor_of(bytes: &[u8], words: &Words) -> Result<(String, Tensor)> {
    match pb::TensorProto::decode(bytes) {
        Ok(proto) if proto.data_type == STRING => Ok((proto.name.clone(), words.tensor(&proto)?)),
        _ => decode_tensor(bytes),
    }
}

/// The elements of a `TensorProto`; `folder` is where external data may be read from, if anywhere.
pub fn from_tensor_proto(proto: &pb::TensorProto, folder: Option<&Path>) -> Result<Tensor> {
    from_proto(proto, &Folder::new(folder))
}

/// A tensor as a `TensorProto` with raw data.
pub fn to_tensor_proto(name: &str, tensor: &Tensor) -> pb::TensorProto {
    pb::TensorProto {
        name: name.to_string(),
        dims: tensor.ty.shape.iter().map(|&d| d as i64).collect(),
        data_type: tensor.ty.dtype as u32 as i32,
        raw_data: pack(&tensor.data, tensor.ty.dtype.bits()),
        ..Default::default()
    }
}

/// Encodes a tensor as a `TensorProto` with raw data.
pub fn encode_tensor(name: &str, tensor: &Tensor) -> Vec<u8> {
    to_tensor_proto(name, tensor).encode_to_vec()
}

/// An element type by its ONNX number; an error for what tensors of lmc cannot hold.
pub(super) fn dtype(number: i32) -> Result<DType> {
    DType::from_onnx(i64::from(number)).ok_or_else(|| {
        let what = match number {
            0 => "undefined elements".to_string(),
            8 => "strings".to_string(),
            14 | 15 => "complex numbers".to_string(),
            n => format!("element type {n}"),
        };
        Error::model(format!("{what} are not supported")).advise("Tensors must hold numbers or booleans")
    })
}

/// Decodes a tensor.
pub(super) fn from_proto(proto: &pb::TensorProto, folder: &Folder) -> Result<Tensor> {
    let ty = TensorType::new(dtype(proto.data_type)?, shape(&proto.dims)?);
    check_size(&ty)?;
    if proto.segment.is_some() {
        return Err(Error::model("tensors in segments are not supported").advise("Store the tensor whole"));
    }
    let packed = (ty.elems() * ty.dtype.bits() as usize).div_ceil(8);
    let external = proto.data_location == Some(pb::tensor_proto::DataLocation::External as i32);
    let data: Arc<[u8]> = if external {
        unpack(&folder.load(proto, packed)?, &ty, packed)?
    } else if !proto.raw_data.is_empty() {
        unpack(&proto.raw_data, &ty, packed)?
    } else {
        typed(proto, &ty)?.into()
    };
    let ty_text = ty.to_string();
    Tensor::from_bytes(ty, data)
        .ok_or_else(|| Error::model(format!("the data do not fill a tensor {ty_text}")))
}

fn wrong_count(have: usize, need: usize, unit: &str) -> Error {
    Error::model(format!("the tensor holds {have} {unit} where its shape needs {need}"))
}

/// One element per byte (or wider), from the packed form of files.
fn unpack(raw: &[u8], ty: &TensorType, packed: usize) -> Result<Arc<[u8]>> {
    if raw.len() != packed {
        return Err(wrong_count(raw.len(), packed, "bytes"));
    }
    Ok(match ty.dtype.bits() {
        bits @ (2 | 4) => split(raw, bits, ty).into(),
        _ if ty.dtype == DType::Bool => raw.iter().map(|&b| u8::from(b != 0)).collect(),
        _ => raw.into(),
    })
}

fn split(raw: &[u8], bits: u32, ty: &TensorType) -> Vec<u8> {
    let per_byte = 8 / bits as usize;
    let signed = ty.dtype.is_signed_int();
    let element = |i: usize| {
        let field = raw[i / per_byte] >> (bits as usize * (i % per_byte)) << (8 - bits);
        if signed { ((field as i8) >> (8 - bits)) as u8 } else { field >> (8 - bits) }
    };
    (0..ty.elems()).map(element).collect()
}

/// The reverse of [`split`]; other widths stay as they are.
fn pack(data: &[u8], bits: u32) -> Vec<u8> {
    if bits >= 8 {
        return data.to_vec();
    }
    let mask = (1u8 << bits) - 1;
    let join = |chunk: &[u8]| {
        chunk.iter().enumerate().fold(0u8, |byte, (i, &e)| byte | (e & mask) << (bits as usize * i))
    };
    data.chunks(8 / bits as usize).map(join).collect()
}

/// The elements from the field that the element type prescribes.
fn typed(proto: &pb::TensorProto, ty: &TensorType) -> Result<Vec<u8>> {
    let need = ty.elems();
    fn gather<T>(need: usize, field: &[T], put: impl Fn(&T, &mut Vec<u8>)) -> Result<Vec<u8>> {
        if field.len() != need {
            return Err(wrong_count(field.len(), need, "elements"));
        }
        let mut out = Vec::with_capacity(need);
        field.iter().for_each(|v| put(v, &mut out));
        Ok(out)
    }
    let ints = &proto.int32_data;
    match ty.dtype {
        DType::F32 => gather(need, &proto.float_data, |v, o| o.extend(v.to_le_bytes())),
        DType::F64 => gather(need, &proto.double_data, |v, o| o.extend(v.to_le_bytes())),
        DType::I64 => gather(need, &proto.int64_data, |v, o| o.extend(v.to_le_bytes())),
        DType::U64 => gather(need, &proto.uint64_data, |v, o| o.extend(v.to_le_bytes())),
        DType::U32 => gather(need, &proto.uint64_data, |v, o| o.extend((*v as u32).to_le_bytes())),
        DType::I32 => gather(need, ints, |v, o| o.extend(v.to_le_bytes())),
        DType::Bool => gather(need, ints, |v, o| o.push(u8::from(*v != 0))),
        _ if ty.dtype.bits() < 8 => {
            let packed = (need * ty.dtype.bits() as usize).div_ceil(8);
            let bytes = gather(packed, ints, |v, o| o.push(*v as u8))?;
            Ok(split(&bytes, ty.dtype.bits(), ty))
        }
        _ if ty.dtype.size() == 2 => gather(need, ints, |v, o| o.extend((*v as u16).to_le_bytes())),
        _ => gather(need, ints, |v, o| o.push(*v as u8)),
    }
}

/// A sparse tensor made dense; its name is the name of its values.
pub(super) fn from_sparse(proto: &pb::SparseTensorProto, folder: &Folder) -> Result<(String, Tensor)> {
    let missing = || Error::model("a sparse tensor lacks its values or indices");
    let values_proto = proto.values.as_ref().ok_or_else(missing)?;
    let values = from_proto(values_proto, folder)?;
    let indices = from_proto(proto.indices.as_ref().ok_or_else(missing)?, folder)?;
    let ty = TensorType::new(values.ty.dtype, shape(&proto.dims)?);
    let bytes = check_size(&ty)?;
    let index = indices.to_vec::<i64>().ok_or_else(|| Error::model("sparse indices must be int64"))?;
    let count = values.ty.elems();
    let linear: Vec<i64> = if indices.ty.shape == [count, ty.rank()] {
        let strides = crate::base::row_major_strides(&ty.shape);
        let inside = index
            .chunks(ty.rank().max(1))
            .all(|point| point.iter().zip(&ty.shape).all(|(&i, &d)| usize::try_from(i).is_ok_and(|i| i < d)));
        if !inside {
            return Err(Error::model("a sparse index lies outside its tensor"));
        }
        index.chunks(ty.rank().max(1)).map(|p| p.iter().zip(&strides).map(|(i, s)| i * s).sum()).collect()
    } else {
        index
    };
    if linear.len() != count {
        return Err(Error::model("a sparse tensor has unequal numbers of values and indices"));
    }
    let size = ty.dtype.size();
    let mut data = vec![0u8; bytes];
    for (i, at) in linear.into_iter().enumerate() {
        let at = usize::try_from(at).ok().filter(|&a| a < ty.elems());
        let at = at.ok_or_else(|| Error::model("a sparse index lies outside its tensor"))?;
        data[at * size..][..size].copy_from_slice(&values.data[i * size..][..size]);
    }
    let tensor = Tensor::from_bytes(ty, data).ok_or_else(|| Error::bug("sparse tensor of a wrong size"))?;
    Ok((values_proto.name.clone(), tensor))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proto(dtype: DType, dims: &[i64]) -> pb::TensorProto {
        pb::TensorProto { dims: dims.to_vec(), data_type: dtype as i32, ..Default::default() }
    }

    /// Nibbles are stored low first; signed ones are extended.
    #[test]
    fn int4_is_unpacked() {
        let p = pb::TensorProto { raw_data: vec![0xf1, 0x08], ..proto(DType::I4, &[3]) };
        let t = from_proto(&p, &Folder::new(None)).unwrap();
        assert_eq!(t.to_i64s().unwrap(), [1, -1, -8]);
        let (_, again) = decode_tensor(&encode_tensor("x", &t)).unwrap();
        assert_eq!(again, t);
    }

    /// Typed fields and raw data must agree with the shape.
    #[test]
    fn counts_are_checked() {
        let p = pb::TensorProto { float_data: vec![1.0; 3], ..proto(DType::F32, &[2]) };
        assert!(from_proto(&p, &Folder::new(None)).is_err());
        assert!(from_proto(&proto(DType::F32, &[1 << 40]), &Folder::new(None)).is_err());
        assert!(from_proto(&proto(DType::F32, &[-1]), &Folder::new(None)).is_err());
        assert_eq!(from_proto(&proto(DType::F32, &[0]), &Folder::new(None)).unwrap().ty.elems(), 0);
    }

    /// Sparse tensors with linear and with coordinate indices are the same dense one.
    #[test]
    fn sparse_becomes_dense() {
        let values = pb::TensorProto { float_data: vec![5.0, 7.0], ..proto(DType::F32, &[2]) };
        let linear = pb::TensorProto { int64_data: vec![1, 3], ..proto(DType::I64, &[2]) };
        let pairs = pb::TensorProto { int64_data: vec![0, 1, 1, 1], ..proto(DType::I64, &[2, 2]) };
        for indices in [linear, pairs] {
            let sparse = pb::SparseTensorProto {
                values: Some(values.clone()),
                indices: Some(indices),
                dims: vec![2, 2],
            };
            let (_, t) = from_sparse(&sparse, &Folder::new(None)).unwrap();
            assert_eq!(t.to_vec::<f32>().unwrap(), [0.0, 5.0, 0.0, 7.0]);
        }
    }
}
