//! Constant tensors: element type, shape, and little-endian elements in row-major order.

use super::DType;
use std::sync::Arc;

/// Element type and shape of a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// Element type.
    pub dtype: DType,
    /// Extent of each dimension; empty for a scalar.
    pub shape: Vec<usize>,
}

impl TensorType {
    /// A type from its parts.
    pub fn new(dtype: DType, shape: impl Into<Vec<usize>>) -> Self {
        TensorType { dtype, shape: shape.into() }
    }

    /// Number of elements.
    pub fn elems(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes of a dense tensor of this type.
    pub fn bytes(&self) -> usize {
        self.elems() * self.dtype.size()
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }
}

impl std::fmt::Display for TensorType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}[", self.dtype)?;
        for (i, d) in self.shape.iter().enumerate() {
            write!(f, "{}{d}", if i > 0 { "," } else { "" })?;
        }
        f.write_str("]")
    }
}

/// Strides, in elements, of a dense row-major tensor.
pub fn row_major_strides(shape: &[usize]) -> Vec<i64> {
    let mut strides = vec![1i64; shape.len()];
    for i in (0..shape.len().saturating_sub(1)).rev() {
        strides[i] = strides[i + 1] * shape[i + 1].max(1) as i64;
    }
    strides
}

/// A constant.
#[derive(Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Element type and shape.
    pub ty: TensorType,
    /// `ty.bytes()` bytes, little-endian, row-major; cheap to clone.
    pub data: Arc<[u8]>,
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tensor({})", self.ty)
    }
}

/// A Rust type that is an element type of tensors.
pub trait Element: Copy {
    /// The element type.
    const DTYPE: DType;
    /// Reads one element from exactly its bytes.
    fn from_le(bytes: &[u8]) -> Self;
    /// Writes the element into exactly its bytes.
    fn write_le(self, bytes: &mut [u8]);
    /// Reads elements that lie one behind the other.
    fn list(bytes: &[u8]) -> Vec<Self>;
}

macro_rules! element {
    ($($t:ty => $d:ident),*) => {$(
        impl Element for $t {
            const DTYPE: DType = DType::$d;
            #[inline]
            fn from_le(bytes: &[u8]) -> Self {
                // As an array: a slice of any length is copied by a call.
                <$t>::from_le_bytes(*<&[u8; size_of::<$t>()]>::try_from(bytes).expect("the bytes of an element"))
            }
            #[inline]
            fn write_le(self, bytes: &mut [u8]) {
                // As an array: a slice of any length is copied by a call.
                match <&mut [u8; size_of::<$t>()]>::try_from(&mut *bytes) {
                    Ok(array) => *array = self.to_le_bytes(),
                    Err(_) => bytes.copy_from_slice(&self.to_le_bytes()),
                }
            }
            fn list(bytes: &[u8]) -> Vec<$t> {
                let (elements, _) = bytes.as_chunks::<{ size_of::<$t>() }>();
                elements.iter().map(|bytes| <$t>::from_le_bytes(*bytes)).collect()
            }
        }
    )*};
}
element!(f32 => F32, f64 => F64, i8 => I8, i16 => I16, i32 => I32, i64 => I64, u8 => U8, u16 => U16, u32 => U32, u64 => U64);

impl Tensor {
    /// A tensor from raw little-endian bytes; `None` when their number does not fit the type.
    pub fn from_bytes(ty: TensorType, data: impl Into<Arc<[u8]>>) -> Option<Self> {
        let data = data.into();
        (data.len() == ty.bytes()).then_some(Tensor { ty, data })
    }

    /// A tensor from elements. The number of elements must fit the shape.
    pub fn new<T: Element>(shape: impl Into<Vec<usize>>, elems: &[T]) -> Self {
        let ty = TensorType::new(T::DTYPE, shape);
        assert_eq!(ty.elems(), elems.len(), "elements fit the shape");
        let mut data = vec![0; ty.bytes()];
        data.chunks_exact_mut(size_of::<T>()).zip(elems).for_each(|(bytes, e)| e.write_le(bytes));
        Tensor { ty, data: data.into() }
    }

    /// A scalar (rank 0).
    pub fn scalar<T: Element>(elem: T) -> Self {
        Tensor::new([], &[elem])
    }

    /// The elements, when `T` is the element type; `None` otherwise.
    pub fn to_vec<T: Element>(&self) -> Option<Vec<T>> {
        (self.ty.dtype == T::DTYPE).then(|| T::list(&self.data))
    }

    /// The bytes of the one number that all elements are.
    pub fn repeated(&self) -> Option<&[u8]> {
        let first = self.data.get(..self.ty.dtype.size())?;
        self.data.chunks_exact(first.len()).all(|e| e == first).then_some(first)
    }

    /// The elements of an integer or boolean tensor as `i64` (`u64` values wrap); `None` for floats.
    pub fn to_i64s(&self) -> Option<Vec<i64>> {
        fn wide<T: Element>(t: &Tensor, f: impl Fn(T) -> i64) -> Vec<i64> {
            t.data.chunks_exact(size_of::<T>()).map(|b| f(T::from_le(b))).collect()
        }
        Some(match self.ty.dtype {
            DType::I8 | DType::I4 | DType::I2 => wide::<i8>(self, i64::from),
            DType::U8 | DType::Bool | DType::U4 | DType::U2 => wide::<u8>(self, i64::from),
            DType::I16 => wide::<i16>(self, i64::from),
            DType::U16 => wide::<u16>(self, i64::from),
            DType::I32 => wide::<i32>(self, i64::from),
            DType::U32 => wide::<u32>(self, i64::from),
            DType::I64 => wide::<i64>(self, |v| v),
            DType::U64 => wide::<u64>(self, |v| v as i64),
            _ => return None,
        })
    }

    /// The elements at some places along an axis, in their order.
    pub fn picked(&self, axis: usize, places: &[usize]) -> Self {
        let shape = &self.ty.shape;
        let inner = shape[axis + 1..].iter().product::<usize>() * self.ty.dtype.size();
        let outer: usize = shape[..axis].iter().product();
        let mut data = Vec::with_capacity(outer * places.len() * inner);
        for o in 0..outer {
            for &place in places {
                data.extend_from_slice(&self.data[(o * shape[axis] + place) * inner..][..inner]);
            }
        }
        let mut ty = self.ty.clone();
        ty.shape[axis] = places.len();
        Tensor { ty, data: data.into() }
    }

    /// The same elements under another shape; `None` when the number of elements differs.
    pub fn reshaped(&self, shape: impl Into<Vec<usize>>) -> Option<Self> {
        Tensor::from_bytes(TensorType::new(self.ty.dtype, shape), self.data.clone())
    }
}
