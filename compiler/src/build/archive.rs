//! A static library of one object, with the table of symbols that linkers ask for.
//!
//! Cargo links libraries, not objects. GNU's form serves ELF and COFF, BSD's Mach-O.

use super::Built;
use target_lexicon::BinaryFormat;

const MAGIC: &[u8] = b"!<arch>\n";

/// A member's header; names, times and owners say nothing, so that the bytes depend on the object.
fn header(name: &str, size: usize) -> Vec<u8> {
    format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`\n", 0, 0, 0, "644").into_bytes()
}

/// Adds a member, padded to an even length.
fn member(out: &mut Vec<u8>, name: &str, data: &[u8]) {
    out.extend(header(name, data.len()));
    out.extend_from_slice(data);
    if data.len() % 2 == 1 {
        out.push(b'\n');
    }
}

/// The library.
pub fn archive(built: &Built) -> Vec<u8> {
    let symbol = format!("{}_model", built.program.name);
    let macho = built.target.triple.binary_format == BinaryFormat::Macho;
    library(&symbol, &built.object.bytes, macho)
}

fn library(symbol: &str, object: &[u8], macho: bool) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    if macho {
        let mut names = format!("_{symbol}\0").into_bytes();
        names.resize(names.len().next_multiple_of(8), 0);
        let size = 4 + 8 + 4 + names.len();
        let at = MAGIC.len() + 60 + size.next_multiple_of(2);
        let words = [8u32, 0, at as u32, names.len() as u32];
        let mut table: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        table.extend(names);
        member(&mut out, "__.SYMDEF", &table);
        member(&mut out, "model.o", object);
    } else {
        let mut names = symbol.as_bytes().to_vec();
        names.push(0);
        let size = 8 + names.len();
        let at = MAGIC.len() + 60 + size.next_multiple_of(2);
        let mut table = 1u32.to_be_bytes().to_vec();
        table.extend((at as u32).to_be_bytes());
        table.extend(names);
        member(&mut out, "/", &table);
        member(&mut out, "model.o/", object);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table points at the header of the object's member.
    #[test]
    fn the_table_of_symbols_points_at_the_object() {
        for (name, macho) in [("m_model", false), ("odd", false), ("m_model", true)] {
            let bytes = library(name, b"OBJECT!", macho);
            let at = match macho {
                false => u32::from_be_bytes(bytes[72..76].try_into().unwrap()),
                true => u32::from_le_bytes(bytes[76..80].try_into().unwrap()),
            } as usize;
            assert_eq!(&bytes[at..at + 7], b"model.o");
            assert_eq!(&bytes[at + 60..at + 67], b"OBJECT!");
        }
    }
}
