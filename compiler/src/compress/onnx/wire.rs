//! The fields of an encoded message, so that those not understood are written back as they were.

use crate::error::{Error, Result};

/// One field of an encoded message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'a> {
    /// Its number.
    pub number: u32,
    /// All its bytes, the tag included.
    pub whole: &'a [u8],
    /// What a length-delimited field holds; the encoded number of others.
    pub payload: &'a [u8],
}

fn cut() -> Error {
    Error::model("the protobuf message is cut off or malformed").advise("Download or export the model again")
}

/// A variable-length number and what follows it.
fn varint(bytes: &[u8]) -> Result<(u64, &[u8])> {
    let mut value = 0;
    for (i, &byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            return Ok((value, &bytes[i + 1..]));
        }
    }
    Err(cut())
}

/// The fields of a message, in the order of the file.
pub(super) fn fields(mut rest: &[u8]) -> Result<Vec<Field<'_>>> {
    let mut list = Vec::new();
    while !rest.is_empty() {
        let start = rest;
        let (tag, body) = varint(rest)?;
        let (skip, after) = match tag & 7 {
            0 => (0, body.len() - varint(body)?.1.len()),
            1 => (0, 8),
            2 => {
                let (length, data) = varint(body)?;
                (body.len() - data.len(), usize::try_from(length).map_err(|_| cut())?)
            }
            5 => (0, 4),
            _ => return Err(cut()),
        };
        let end = skip.checked_add(after).filter(|&e| e <= body.len()).ok_or_else(cut)?;
        let number = u32::try_from(tag >> 3).map_err(|_| cut())?;
        rest = &body[end..];
        list.push(Field { number, whole: &start[..start.len() - rest.len()], payload: &body[skip..end] });
    }
    Ok(list)
}

/// The fields that are not among `known`, as they were.
pub(super) fn others(bytes: &[u8], known: &[u32]) -> Result<Vec<u8>> {
    let kept = fields(bytes)?.into_iter().filter(|f| !known.contains(&f.number));
    Ok(kept.flat_map(|f| f.whole.iter().copied()).collect())
}

/// Appends a length-delimited field.
pub(super) fn put(out: &mut Vec<u8>, number: u32, payload: &[u8]) {
    prost::encoding::encode_varint(u64::from(number << 3 | 2), out);
    prost::encoding::encode_varint(payload.len() as u64, out);
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_split_and_joined() {
        let mut bytes = vec![0x08, 0x96, 0x01];
        put(&mut bytes, 300, b"text");
        bytes.extend([0x1d, 1, 2, 3, 4]);
        let found = fields(&bytes).unwrap();
        assert_eq!(found.iter().map(|f| f.number).collect::<Vec<_>>(), [1, 300, 3]);
        assert_eq!(found[1].payload, b"text");
        assert_eq!(others(&bytes, &[300]).unwrap(), [0x08, 0x96, 0x01, 0x1d, 1, 2, 3, 4]);
        assert_eq!(others(&bytes, &[]).unwrap(), bytes);
        for end in [1, 2, 4, 7, bytes.len() - 1] {
            assert!(fields(&bytes[..end]).is_err(), "{end}");
        }
    }
}
