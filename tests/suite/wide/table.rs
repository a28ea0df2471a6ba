//! Bytes that are looked up in a table.

use super::{check, disassembly, targets};
use crate::machine::lookups;
use lmc::target::Feature;
use lmc::tile::parse;

/// On the way to memory four vectors' bytes are looked up at once, elsewhere those of each.
#[test]
fn tables_of_bytes() {
    for target in targets() {
        let lanes = target.lanes();
        for index in ["u8", "i8"] {
            for entry in ["u8", "i8"] {
                for (rows, lanes) in
                    [(1, lanes), (4, lanes), (7, lanes), (3, lanes - 1), (2, lanes / 2), (2, 1)]
                {
                    check(&lookups(index, entry, rows, lanes), &target);
                }
            }
        }
        let text = disassembly(&lookups("i8", "u8", 4, lanes), &target);
        // Four vectors together; the last one's entries are stored as integers, too.
        let (permutes, shuffles) = (text.matches("vpermi2b").count(), text.matches("vpshufb").count());
        match target.has(Feature::Avx512Vbmi) {
            true => assert_eq!((permutes, shuffles), (4, 0), "{text}"),
            false => assert_eq!((permutes, shuffles), (0, 32), "{text}"),
        }
        if !target.has(Feature::Avx512) {
            assert_eq!(text.matches("vpblendvb").count(), 6, "{text}");
        }
    }
}

/// So are bytes that were loaded, whatever their sign.
#[test]
fn loaded_bytes_are_looked_up_together() {
    for target in targets() {
        let lanes = target.lanes();
        for index in ["u8", "i8"] {
            let mut text =
                format!("kernel bytes {{ read x: {index}[{0}] read t: i8[256] write y: i8[{0}]\n", 4 * lanes);
            for row in 0..4 {
                let (byte, entry, at) = (2 * row, 2 * row + 1, row * lanes);
                text += &format!(
                    "%{byte}: i32x{lanes} = load x[{at}]\n%{entry}: i32x{lanes} = lookup t[0], %{byte}\n"
                );
                text += &format!("store y[{at}] = %{entry}\n");
            }
            let kernel = parse(&(text + "}")).unwrap_or_else(|e| panic!("{e}"));
            check(&kernel, &target);
            let text = disassembly(&kernel, &target);
            match target.has(Feature::Avx512Vbmi) {
                true => assert_eq!(text.matches("vpermi2b").count(), 2, "{text}"),
                false => assert_eq!(text.matches("vpshufb").count(), 16, "{text}"),
            }
        }
    }
}

/// Vectors whose indices are there before the first lookup share it, up to four; another table is looked up by itself.
#[test]
fn neighbours_share_lookups() {
    for target in targets() {
        for lanes in [target.lanes(), 3] {
            for (entry, rows) in [("u8", 2), ("i8", 4), ("i8", 5)] {
                let ty = format!("i32x{lanes}");
                let mut text = format!(
                    "kernel near {{ read x: i32[{}] read t: {entry}[256] read s: u8[256] write z: i32[{}]\n",
                    rows * lanes,
                    (rows + 1) * lanes
                );
                let at = |row: usize| row * lanes;
                for row in 0..rows {
                    text += &format!("%{row}: {ty} = load x[{}]\n", at(row));
                }
                for row in 0..rows {
                    text += &format!("%{}: {ty} = lookup t[0], %{row}\n", rows + row);
                }
                text += &format!("%{}: {ty} = lookup s[0], %0\n", 2 * rows);
                for row in 0..=rows {
                    text += &format!("store z[{}] = %{}\n", at(row), rows + row);
                }
                let kernel = parse(&(text + "}")).unwrap_or_else(|e| panic!("{e}"));
                check(&kernel, &target);
                let text = disassembly(&kernel, &target);
                let tables = if rows > 4 { 3 } else { 2 };
                match target.has(Feature::Avx512Vbmi) {
                    true => assert_eq!(text.matches("vpermi2b").count(), 2 * tables, "{text}"),
                    false => assert_eq!(text.matches("vpshufb").count(), 16 * tables, "{text}"),
                }
            }
        }
    }
}

/// What is no byte is looked up by its lowest one, and entries are numbers like any others.
#[test]
fn tables_of_any_numbers() {
    for target in targets() {
        for lanes in 1..=target.lanes() {
            let ty = format!("i32x{lanes}").replace("x1 ", " ");
            let ty = if lanes == 1 { "i32".to_string() } else { ty };
            let text = format!(
                "kernel any {{ read x: i32[32] read t: i8[300] write y: i8[64] write z: i32[32]\n\
                 %0: {ty} = load x[0]\n%1: {ty} = lookup t[44], %0\n%2: {ty} = lookup t[3], %1\n\
                 %3: {ty} = add %1, %2\nstore y[0] = %2\nstore y[17] stride 2 = %1\nstore z[0] = %3\n}}"
            );
            check(&parse(&text).unwrap_or_else(|e| panic!("{e}")), &target);
        }
    }
}
